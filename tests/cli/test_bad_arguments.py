"""A bad argument or file ends in one line that names it, before anything is written."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from running import LIGHTNING, TINY, run

pytestmark = LIGHTNING


BAD = [
    (["train", "--mixing", "conv"], "mixing must be one of .*woodbury.*; got 'conv'"),
    (["train", "--coupling", "x"], "coupling must be one of"),
    (["train", "--levels", "6"], r"height and width divisible by 2\^levels = 64, got 32 x 32"),
    (["train", "--size", "33"], "divisible"),
    (["train", "--size", "4000"], "size must be at most"),
    (["train", "--max-steps", "0"], "max_steps must be a positive integer, got 0"),
    (["train", "--learning-rate", "-1"], "learning_rate must be positive, got -1"),
    (["train", "--clip-norm", "-1"], "clip_norm must be at least 0, got -1"),
    (["train", "--schedule", "step"], "schedule must be one of constant, cosine; got 'step'"),
    (["train", "--bits", "9"], "bits must be between 1 and 8, got 9"),
    (["train", "--devices", "0"], "devices must be a positive integer, got 0"),
    (["train", "--data", "no/such/folder"], "'no/such/folder' is not there"),
    (["train", "--data", "{corrupt}"], "broken.png cannot be read as an image"),
    (["train", "--conditional"], "conditional needs labelled images; photos has no labels"),
    (["train", "--out", "{whole}"], "holds a run; --resume .* continues it"),
    (["train", "--resume", "no/such/run"], "no/such/run is neither a checkpoint nor a run's folder"),
    (
        ["train", "--resume", "{whole}", "--seed", "3", "--mixing", "conv1x1"],
        r"--seed 3 \(the run has 0\), --mixing conv1x1 \(the run has woodbury\) cannot change when a run is resumed",
    ),
    (["train", "--resume", "{text}"], "must be a checkpoint of nflows-woodbury train"),
    (["evaluate", "{text}"], "must be a checkpoint of nflows-woodbury train"),
    (["evaluate", "{crafted}"], "must be a checkpoint of nflows-woodbury train"),
    (["evaluate", "{other}"], "has no settings of a flow"),
    (["evaluate", "{whole}", "--samples", "0"], "samples must be a positive integer, got 0"),
    (["evaluate", "{whole}", "--limit", "0"], "limit must be a positive integer"),
    (["sample", "{whole}", "--num", "0"], "num must be a positive integer, got 0"),
    (["sample", "{whole}", "--temperature", "-1"], "temperature must be at least 0"),
    (["sample", "{whole}", "--out", "x.jpg"], "out must be a .png file, got 'x.jpg'"),
    (["sample", "{whole}", "--label", "1"], "label must be left out for a model without classes, got '1'"),
]


class _Harm:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("case", range(len(BAD)))
def test_bad_command_lines_fail_in_one_line(case: int, whole: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "pictures" / "fine.png")
    (tmp_path / "pictures" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot an image")
    (tmp_path / "text.ckpt").write_text("hello")
    torch.save({"nflows_woodbury": _Harm(tmp_path / "harm")}, tmp_path / "crafted.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    words, message = BAD[case]
    places = {"whole": whole, "corrupt": tmp_path / "pictures"}
    places |= {name: tmp_path / f"{name}.ckpt" for name in ("text", "crafted", "other")}
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert run(*[word.format(**places) for word in words]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1 and error.startswith("nflows-woodbury: error: ")
    assert sorted(tmp_path.rglob("*")) == before  # nothing written, nothing executed


def test_unknown_flags_and_commands_exit_with_usage(capsys) -> None:
    for words in (["train", "--colour", "3"], ["paint"], [], ["train", "--levels", "three"]):
        with pytest.raises(SystemExit) as caught:
            run(*words)
        assert caught.value.code == 2
        assert "usage:" in capsys.readouterr().err


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ValueError, match="mixing must be one of"):
        run("train", "--mixing", "conv", "--debug")


@pytest.mark.parametrize("module", ["pytorch_lightning", "tensorboard", "skimage.data"])
def test_train_without_its_extra_names_the_extra(module: str, monkeypatch, tmp_path: Path, capsys) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert run("train", *TINY, "--out", tmp_path / "run") == 2
    assert re.search(rf"{module} is missing: pip install nflows-woodbury\[train\]", capsys.readouterr().err)
