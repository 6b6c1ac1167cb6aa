"""Training an image flow with PyTorch Lightning: what one step does; the Trainer does the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import ceil, cos, pi
from pathlib import Path
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from nflows_woodbury.callbacks import Pictures, ProgressBar, StopOnSignal, Validation
from nflows_woodbury.checks import one_of, positive_int
from nflows_woodbury.data import ImageSource
from nflows_woodbury.evaluation import (
    class_context,
)
from nflows_woodbury.presets import FlowConfig

__all__ = ["FlowTraining", "TrainingConfig", "make_trainer"]

SCHEDULES = {
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: (1 + cos(pi * min(progress, 1.0))) / 2,
}


@dataclass(frozen=True)
class TrainingConfig:
    """A run as data; together with the code and the images it determines the result.

    Args:
        data: what :func:`nflows_woodbury.loading.open_source` takes.
        size: side of the images, or None for that of the data.
        max_steps: optimizer steps.
        batch_size: images per step, over all devices together.
        learning_rate: of Adam (betas 0.9 and 0.999, as in the paper), after the warm-up.
        warmup_steps: steps over which the learning rate rises linearly from 0; 0 turns it off.
        schedule: ``"cosine"`` (falls to 0 at ``max_steps``) or ``"constant"`` (as in the paper).
        clip_norm: the gradient's norm is clipped to this; 0 turns it off.
        seed: of the parameters, the batches and the noise.
        every: steps between checkpoints, sample grids and validations.
        temperature: of the sample grids.
    """

    data: str = "photos"
    size: int | None = None
    max_steps: int = 2000
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    schedule: str = "cosine"
    clip_norm: float = 0.0
    seed: int = 0
    every: int = 500
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Check each value."""
        for name in ("max_steps", "batch_size", "every"):
            positive_int(name, getattr(self, name))
        for name in ("warmup_steps", "seed", "clip_norm", "temperature"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        one_of("schedule", self.schedule, SCHEDULES)

    def rate(self, step: int) -> float:
        """The factor on the learning rate at a step."""
        return min(1.0, (step + 1) / (self.warmup_steps + 1)) * SCHEDULES[self.schedule](step / self.max_steps)


class FlowTraining(pl.LightningModule):
    """One training run of an :class:`~nflows_woodbury.ImageFlow` on an image source.

    Batches and dequantization noise are functions of (seed, step, rank), so a resumed run goes on as if it had
    never stopped. The checkpoint holds plain values and tensors only, and enough to rebuild the flow.
    """

    def __init__(self, flow_config: FlowConfig, config: TrainingConfig, source: ImageSource) -> None:
        super().__init__()
        if source.shape != flow_config.shape:
            raise ValueError(f"shape must be that of the images, {source.shape}, got {flow_config.shape}")
        self.flow_config, self.config, self.source = flow_config, config, source
        torch.manual_seed(config.seed)
        self.flow = flow_config.build()
        self._clock = 0.0

    def setup(self, stage: str) -> None:
        """Start ActNorm from 256 images, the same on every rank, before Lightning wraps the module."""
        size, seed = self.config.batch_size, self.config.seed
        batches = [self.source.batch(step, size, seed=seed) for step in range(ceil(256 / size))]
        labels = [batch.labels for batch in batches if batch.labels is not None]
        torch.manual_seed(seed)
        images = torch.cat([batch.images for batch in batches]).to(self.device)
        self.flow.initialize(images, self.context(torch.cat(labels) if labels else None))

    def train_dataloader(self) -> DataLoader[tuple[int, Tensor, Tensor | None]]:
        """Batches from the step that the run is at."""
        ranks = self.trainer.global_rank, self.trainer.world_size
        return DataLoader(_Steps(self.source, self.config, self.trainer.global_step, *ranks), batch_size=None)

    def training_step(self, batch: tuple[int, Tensor, Tensor | None], batch_index: int) -> Tensor:
        """Bits per dimension of a batch."""
        step, images, labels = batch
        torch.manual_seed(_noise_seed(self.config.seed, step, self.trainer.global_rank))
        loss: Tensor = self.flow(images, self.context(labels)).mean()
        self.log("train_bits_per_dim", loss.detach(), prog_bar=True)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the gradient's norm, before clipping, and the images per second."""
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        self.log("gradient_norm", torch.stack([gradient.norm() for gradient in gradients]).norm())
        now, before = perf_counter(), self._clock
        self._clock = now
        if before:
            self.log("images_per_second", self.config.batch_size / (now - before))

    def configure_optimizers(self) -> Any:
        """Adam with warm-up and schedule."""
        optimizer = torch.optim.Adam(self.parameters(), self.config.learning_rate)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.config.rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the settings, as plain values."""
        checkpoint["nflows_woodbury"] = {
            "flow": self.flow_config.to_dict(),
            "training": asdict(self.config),
        }

    def context(self, labels: Tensor | None) -> Tensor | None:
        """The one-hot context of a class-conditional model on the module's device, or None."""
        context = class_context(labels, self.flow_config.num_classes)
        return None if context is None else context.to(self.device)


class _Steps(IterableDataset[tuple[int, Tensor, Tensor | None]]):
    """Endless batches ``(step, images, labels)`` of one rank, from a step on."""

    def __init__(self, source: ImageSource, config: TrainingConfig, start: int, rank: int, world_size: int) -> None:
        self.source, self.config, self.start, self.rank, self.world_size = source, config, start, rank, world_size

    def __iter__(self) -> Iterator[tuple[int, Tensor, Tensor | None]]:
        step = self.start
        while True:
            batch = self.source.batch(
                step, self.config.batch_size, seed=self.config.seed, rank=self.rank, world_size=self.world_size
            )
            yield step, batch.images, batch.labels
            step += 1


def make_trainer(config: TrainingConfig, out: Path, *, devices: int = 1, progress: bool = True) -> pl.Trainer:
    """A Trainer for :class:`FlowTraining`: checkpoints and log in folders of ``out``, pictures in ``out`` itself."""
    return pl.Trainer(
        max_steps=config.max_steps,
        max_epochs=-1,
        devices=devices,
        gradient_clip_val=config.clip_norm or None,
        logger=TensorBoardLogger(out, name=None, version="log"),
        callbacks=[
            StopOnSignal(out / "checkpoints"),  # first: on a signal save before drawing
            Validation(),
            Pictures(out),
            ModelCheckpoint(
                out / "checkpoints", filename="{step}", every_n_train_steps=config.every, save_last=True, save_top_k=1,
                monitor="step", mode="max", save_on_train_epoch_end=True, enable_version_counter=False,
            ),
            *([ProgressBar(refresh_rate=5)] if progress else []),
        ],
        enable_progress_bar=progress,
        enable_model_summary=False,
        log_every_n_steps=10,
        num_sanity_val_steps=0,
    )  # fmt: skip


def _noise_seed(seed: int, step: int, rank: int) -> int:
    """One 63-bit word for (seed, step, rank), far apart for neighbours."""
    word = 0
    for part in (seed, step, rank):
        word = (word ^ part) * 0x9E3779B97F4A7C15 % 2**64
        word ^= word >> 29
    return word % 2**63
