"""What accompanies a training run: pictures, validation, a progress bar, and an orderly stop on a signal.

The ``module`` that Lightning hands to them is a :class:`nflows_woodbury.training.FlowTraining`.
"""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.utilities import rank_zero_only

from nflows_woodbury.evaluation import bits_per_dim, image_grid, reconstructions, sample_classes, save_png

__all__ = ["Pictures", "ProgressBar", "StopOnSignal", "Validation"]


class Pictures(pl.Callback):
    """A sample grid and a reconstruction grid, every so many steps and at the end, as PNG and in the log."""

    def __init__(self, folder: Path, count: int = 36) -> None:
        self.folder, self.count = folder, count

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """Draw when it is time."""
        if trainer.global_step % module.config.every == 0 and trainer.global_step < trainer.max_steps:
            self._draw(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Draw at the end."""
        self._draw(trainer, module)

    @rank_zero_only
    def _draw(self, trainer: pl.Trainer, module: Any) -> None:
        batch = module.source.batch(0, min(self.count // 2, module.config.batch_size), seed=module.config.seed)
        with torch.random.fork_rng():
            torch.manual_seed(module.config.seed)
            classes, temperature = module.flow_config.num_classes, module.config.temperature
            samples = sample_classes(module.flow, self.count, classes, temperature=temperature).cpu()
            context = module.context(batch.labels)
            back = reconstructions(module.flow, batch.images.to(module.device), context).cpu()
        pairs = torch.stack([batch.images, back], 1).flatten(0, 1)
        for name, images in {"samples": samples, "reconstructions": pairs}.items():
            grid = image_grid(images)
            save_png(grid, self.folder / f"{name}.png", zoom=2)
            trainer.logger.experiment.add_image(name, grid, trainer.global_step)  # type: ignore[union-attr]


class Validation(pl.Callback):
    """Bits per dimension of the source's validation images, every so many steps."""

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """Evaluate when it is time."""
        images = module.source.validation
        if images is not None and trainer.global_step % module.config.every == 0:
            bits = bits_per_dim(module.flow, images, num_classes=module.flow_config.num_classes)
            module.log("validation_bits_per_dim", float(bits.mean()), prog_bar=True)


class ProgressBar(TQDMProgressBar):
    """Lightning's bar with the run's figures only."""

    def get_metrics(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Any]:
        """Leave the logger's version out."""
        return {name: value for name, value in super().get_metrics(trainer, module).items() if name != "v_num"}


class StopOnSignal(pl.Callback):
    """Ctrl-C and SIGTERM end the run after the step in hand, with a checkpoint; a second signal ends it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stopped = folder, False
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Take the signals."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.stopped = trainer.should_stop = True
            self._restore()

        self._before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Give the signals back; after one, save what the last step left."""
        self._restore()
        if self.stopped:
            trainer.save_checkpoint(self.folder / "last.ckpt")

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
