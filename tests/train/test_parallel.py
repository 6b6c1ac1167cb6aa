"""A batch in parts, one after the other or on processes of their own, trains as the whole batch does."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from math import log, prod
from pathlib import Path

import pytest
import torch
from parallel_worker import RUNS
from running import CONFIG, FLOW, LIGHTNING, fit

from nflows_woodbury.checkpoint import read_checkpoint
from nflows_woodbury.data.photos import PhotoSource
from nflows_woodbury.train.batches import noise_seed
from nflows_woodbury.train.config import TrainingConfig

pytestmark = LIGHTNING

TORCHRUN = [
    sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
    str(Path(__file__).parents[1] / "helpers" / "parallel_worker.py"),
]  # fmt: skip


def plain(config: TrainingConfig, parts: int) -> tuple[list[float], torch.nn.Module]:
    """The twin: a loop in plain torch over whole batches, with the noise of their parts."""
    source = PhotoSource(16)
    torch.manual_seed(config.seed)
    flow = FLOW.build().to(torch.float64 if config.precision == "float64" else torch.float32)
    batches = [source.batch(step, config.batch_size, seed=config.seed).images for step in range(256 // 8)]
    torch.manual_seed(config.seed)
    flow.initialize(torch.cat(batches))
    dequantize, rest = flow._transform
    optimizer = torch.optim.Adam(flow.parameters(), config.learning_rate)
    losses = []
    for step in range(config.max_steps):
        values, logabsdets = [], []
        for part in range(parts):
            images = source.batch(step, config.batch_size, seed=config.seed, rank=part, world_size=parts).images
            torch.manual_seed(noise_seed(config.seed, step, part))
            value, logabsdet = dequantize(images)
            values.append(value), logabsdets.append(logabsdet)
        noise, logabsdet = rest(torch.cat(values))
        log_prob = flow._distribution.log_prob(noise) + logabsdet + torch.cat(logabsdets)
        loss = -log_prob.mean() / (prod(FLOW.shape) * log(2))
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * config.rate(step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, flow


@pytest.mark.parametrize("parts", [1, 4])
def test_accumulated_parts_train_as_the_whole_batch(parts: int, tmp_path: Path) -> None:
    config = replace(CONFIG, accumulate=parts, precision="float64")
    flow = fit(tmp_path, config=config).flow
    _, expected = plain(config, parts)
    for ours, theirs in zip(flow.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> dict[str, list[dict]]:
    """What each of two processes recorded, in float32 and in float64."""
    out = tmp_path_factory.mktemp("parallel")
    subprocess.run([*TORCHRUN, str(out)], check=False, timeout=300)  # judged by what it wrote
    return {name: [json.loads((out / f"{name}-{rank}.json").read_text()) for rank in (0, 1)] for name in RUNS}


@pytest.mark.parametrize("name", RUNS)
def test_both_processes_have_the_same_parameters_from_the_start_on(name: str, ranks) -> None:
    first, second = (record["parameters"] for record in ranks[name])
    assert len(first) == 21 and len(set(first)) == 21  # at the start and after each of 20 steps
    assert first == second


def test_two_processes_train_as_one_with_the_joint_batch(ranks) -> None:
    for name, last in (("float32", 1), ("float64", 20), ("reversible", 20)):
        config = replace(CONFIG, max_steps=20, precision=RUNS[name]["precision"])
        expected, _ = plain(config, 2)
        losses = [(a + b) / 2 for a, b in zip(*(record["losses"] for record in ranks[name]), strict=True)]
        assert len(losses) == 20
        for ours, theirs in zip(losses[:last], expected[:last], strict=True):
            assert abs(ours - theirs) < 1e-6


def test_processes_draw_different_noise_and_images(ranks) -> None:
    for records in ranks.values():
        images = [image for record in records for image in record["images"]]
        assert len(images) == 40 and len(set(images)) == 40  # of 20 steps in each process
        noise = torch.tensor([values for record in records for values in record["noise"]])
        assert noise.shape == (40, 20) and 0 <= noise.min() < 0.1 and 0.9 < noise.max() <= 1
        assert (torch.cdist(noise, noise) + torch.eye(40) > 0.5).all()  # of independent ones 1.8 on average


def test_the_first_process_alone_looks_at_the_layers(ranks) -> None:
    for records in ranks.values():
        assert [record["diagnosed"] for record in records] == [[0, 4, 8, 12, 16, 20], []]


def test_a_signal_to_one_process_ends_all_after_the_same_step(ranks) -> None:
    assert [record["stopped"] for record in ranks["float32"]] == [7, 7]


def test_a_lost_process_ends_the_run_and_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    ended = subprocess.run([*TORCHRUN, str(tmp_path), "lost"], capture_output=True, text=True, timeout=300)
    assert ended.returncode != 0 and "Signal 9 (SIGKILL)" in ended.stderr
    assert read_checkpoint(tmp_path)["global_step"] == 4
    module = fit(tmp_path, resume=tmp_path / "checkpoints" / "last.ckpt")
    assert module.trainer.global_step == CONFIG.max_steps
