"""The Lightning trainer of a run: where its checkpoints, pictures and log go, and on which devices it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.loggers import TensorBoardLogger

from nflows_woodbury.checks import check_positive_int
from nflows_woodbury.files import whole_file
from nflows_woodbury.train.callbacks import Checkpoints, Pictures, ProgressBar, StopOnSignal, Validation
from nflows_woodbury.train.config import TrainingConfig
from nflows_woodbury.train.diagnoses import Diagnoses

__all__ = ["make_trainer"]


class _WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are there whole or not at all; OSError where the disk is full."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a file that takes the last one's place."""
        with whole_file(path) as new:
            try:
                with new.open("wb") as file:
                    torch.save(checkpoint, file)
            except (OSError, RuntimeError) as error:
                raise _refused(error, path) from error


def _refused(error: BaseException, path: str | Path) -> BaseException:
    """What the system said when torch, which hides it, could not write."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    return error if cause is None else OSError(cause.errno, cause.strerror, str(path))


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
    (100, ['StopOnSignal', 'Checkpoints', 'Validation', 'Diagnoses', 'Pictures'])
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
        plugins=[_WholeCheckpoints(), *_environment(devices * num_nodes)],
        logger=TensorBoardLogger(out, name=None, version="log"),
        callbacks=_callbacks(out, progress),
        enable_checkpointing=False,  # ours are callbacks
        enable_progress_bar=False,  # and so is the bar
        enable_model_summary=False,
        log_every_n_steps=10,
        num_sanity_val_steps=0,
    )


def _environment(processes: int) -> list[LightningEnvironment]:
    """Of a single process: its rank is 0, whatever the variables of an interactive shell on a cluster say."""
    if processes > 1:
        return []
    environment = LightningEnvironment()
    environment.set_global_rank(0)
    return [environment]


def _callbacks(out: Path, progress: bool) -> list[pl.Callback]:
    stop, validation = StopOnSignal(), Validation()
    # checkpoints come before what takes long
    callbacks = [stop, Checkpoints(out / "checkpoints"), validation, Diagnoses(out), Pictures(out)]
    return [*callbacks, *([ProgressBar(stop, validation)] if progress else [])]
