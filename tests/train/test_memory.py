"""The memory of a training step that is counted without one, beside the tensors that autograd keeps."""

from __future__ import annotations

import re

import pytest
import torch

from nflows_woodbury.cli.main import main
from nflows_woodbury.config import FlowConfig
from nflows_woodbury.train.memory import Held, step_memory


def test_what_is_kept_counts_and_what_is_dropped_does_not() -> None:
    x = torch.empty(1000, device="meta", requires_grad=True)
    with Held() as held:
        y = x
        for _ in range(5):
            y = y.sin()
        assert held.now == 5 * 4000
        y.sum().backward()
    assert held.peak < 8 * 4000
    del y
    assert held.now == x.grad.nbytes


def test_views_and_what_is_written_in_place_count_once() -> None:
    with Held() as held:
        x = torch.empty(10, 100, device="meta")
        y = x.T.add_(1)[3:]
    assert held.now == held.peak == 4000 and y.shape == (97, 10)


def test_memory_grows_with_steps_and_reversible_memory_with_their_parameters_alone() -> None:
    def memory(steps: int, reversible: bool) -> int:
        config = FlowConfig((3, 16, 16), levels=1, steps=steps, hidden_channels=8)
        parameters = sum(parameter.nbytes for parameter in config.build().parameters())
        return step_memory(config, 64, reversible=reversible) - 4 * parameters

    plain, reversible = memory(8, False) - memory(4, False), memory(8, True) - memory(4, True)
    assert plain > 2**20
    assert reversible < plain / 20


def test_the_memory_of_a_preset_is_shown_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", "show", "cifar10-conv1x1"]) == 0 and "GiB" not in capsys.readouterr().out
    assert main(["presets", "show", "cifar10-conv1x1", "--memory"]) == 0
    assert re.search(r"a training step of 64 images takes 0\.\d\d GiB, 0\.\d\d GiB with", capsys.readouterr().out)
    assert main(["presets", "--memory"]) == 2 and "'show NAME', got '--memory'" in capsys.readouterr().err
