"""Small training runs, for the tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nflows_woodbury.checkpoint import read_checkpoint
from nflows_woodbury.cli.main import main
from nflows_woodbury.config import FlowConfig
from nflows_woodbury.data.photos import PhotoSource
from nflows_woodbury.train.callbacks import Pictures
from nflows_woodbury.train.config import TrainingConfig
from nflows_woodbury.train.module import FlowTraining
from nflows_woodbury.train.trainer import make_trainer

#: Lightning's own deprecations, and its advice on worker processes, which batches do without
LIGHTNING = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated"),
    pytest.mark.filterwarnings("ignore:.*resuming from a checkpoint that ended before the epoch"),
]

TINY = ["--steps", "1", "--hidden-channels", "8", "--levels", "2", "--size", "16", "--batch-size", "8", "--quiet"]
FLOW = FlowConfig(shape=(3, 16, 16), levels=2, steps=1, hidden_channels=8)
CONFIG = TrainingConfig(size=16, max_steps=12, batch_size=8, every=4, warmup_steps=2)


def run(*words: object) -> int:
    return main(list(map(str, words)))


def fit(
    out: Path,
    *callbacks,
    resume: Path | None = None,
    config: TrainingConfig = CONFIG,
    devices: int = 1,
    pictures: bool = False,
) -> FlowTraining:
    module = FlowTraining(FLOW, config, PhotoSource(16))
    trainer = make_trainer(config, out, devices=devices, progress=False)
    trainer.callbacks = [callback for callback in trainer.callbacks if pictures or not isinstance(callback, Pictures)]
    trainer.callbacks.extend(callbacks)
    trainer.fit(module, ckpt_path=resume, weights_only=True)
    return module


def state(folder: Path) -> dict:
    """What a run's last checkpoint says about where it is; times of day aside."""
    checkpoint = read_checkpoint(folder)
    return {name: checkpoint[name] for name in ("state_dict", "optimizer_states", "lr_schedulers", "global_step")}


def assert_same(one, other) -> None:
    """Bit for bit, through dicts and lists."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            assert_same(first, second)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other
