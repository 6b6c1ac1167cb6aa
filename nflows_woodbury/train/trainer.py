"""The Lightning trainer of a run: where its checkpoints, pictures and log go, and on which devices it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.loggers import TensorBoardLogger

from nflows_woodbury.checks import check_positive_int
from nflows_woodbury.files import whole_file
from nflows_woodbury.train.callbacks import Checkpoints, Pictures, ProgressBar, StopOnSignal, Validation
from nflows_woodbury.train.config import TrainingConfig

__all__ = ["make_trainer"]


class _WholeCheckpoints(TorchCheckpointIO):
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with whole_file(path) as new:
            torch.save(checkpoint, new)


def make_trainer(
    config: TrainingConfig, out: Path, *, devices: int = 1, num_nodes: int = 1, progress: bool = True
) -> pl.Trainer:
    """A Trainer for :class:`FlowTraining`: checkpoints and log in folders of ``out``, pictures in ``out`` itself.

    Args:
        config: the run.
        out: its folder.
        devices: devices on each machine, GPUs where there are any, else CPU processes; the batch is divided among all.
        num_nodes: machines; torchrun or SLURM starts a process on each.
        progress: show a progress bar.

    >>> from pathlib import Path
    >>> from nflows_woodbury.train.config import TrainingConfig
    >>> trainer = make_trainer(TrainingConfig(max_steps=100), Path("runs/mine"), progress=False)
    >>> trainer.max_steps, [type(callback).__name__ for callback in trainer.callbacks]
    (100, ['StopOnSignal', 'Checkpoints', 'Validation', 'Pictures'])
    """
    parts = check_positive_int("devices", devices) * check_positive_int("num_nodes", num_nodes) * config.accumulate
    if config.batch_size % parts:
        raise ValueError(
            f"batch_size must be a multiple of devices x num_nodes x accumulate ({devices} x {num_nodes} x "
            f"{config.accumulate}), got {config.batch_size}"
        )
    return pl.Trainer(
        max_steps=config.max_steps,
        max_epochs=-1,
        devices=devices,
        num_nodes=num_nodes,
        precision="bf16-mixed" if config.precision == "bf16" else None,
        accumulate_grad_batches=config.accumulate,
        plugins=[_WholeCheckpoints()],
        logger=TensorBoardLogger(out, name=None, version="log"),
        callbacks=[
            StopOnSignal(),
            Checkpoints(out / "checkpoints"),  # before what takes long
            Validation(),
            Pictures(out),
            *([ProgressBar(refresh_rate=5)] if progress else []),
        ],
        enable_checkpointing=False,  # ours are callbacks
        enable_progress_bar=progress,
        enable_model_summary=False,
        log_every_n_steps=10,
        num_sanity_val_steps=0,
    )  # fmt: skip
