"""Training: interrupted runs end as uninterrupted ones, and the command line does what it says."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from running import CONFIG, FLOW, LIGHTNING, assert_same, fit, run, state

from nflows_woodbury.checkpoint import read_checkpoint
from nflows_woodbury.data.photos import PhotoSource
from nflows_woodbury.train.batches import noise_seed
from nflows_woodbury.train.module import FlowTraining

pytestmark = LIGHTNING


def test_same_settings_give_the_same_run(whole: Path, tmp_path: Path) -> None:
    fit(tmp_path / "again")
    assert_same(state(tmp_path / "again"), state(whole))


def test_the_history_of_a_generator_changes_nothing(whole: Path, tmp_path: Path) -> None:
    import pytorch_lightning as pl

    class Reseed(pl.Callback):
        def on_train_batch_start(self, trainer, *_) -> None:
            for reseed in (random.seed, np.random.seed, torch.manual_seed):
                reseed(1000 + trainer.global_step)

    fit(tmp_path / "run", Reseed())
    assert_same(state(tmp_path / "run"), state(whole))


def test_the_seed_is_that_of_the_start() -> None:
    first, same, other = (FlowTraining(FLOW, replace(CONFIG, seed=s), PhotoSource(16)).state_dict() for s in (3, 3, 4))
    assert_same(first, same)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_signal_ends_the_run_with_a_checkpoint_and_resuming_ends_as_if_nothing_had_happened(
    number: signal.Signals, whole: Path, tmp_path: Path
) -> None:
    import pytorch_lightning as pl

    class Interrupt(pl.Callback):
        def on_train_batch_end(self, trainer, *_) -> None:
            if trainer.global_step == 6:
                os.kill(os.getpid(), number)

    out = tmp_path / "run"
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    fit(out, Interrupt())
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert 6 <= read_checkpoint(out)["global_step"] < 12
    assert run("train", "--resume", out, "--quiet") == 0
    assert_same(state(out), state(whole))


def test_noise_differs_by_step_and_part() -> None:
    seeds = {noise_seed(seed, step, part) for seed in range(10) for step in range(100) for part in range(8)}
    assert len(seeds) == 8000 and all(0 <= seed < 2**63 for seed in seeds)
