"""What accompanies a training run: pictures, validation, a progress bar, and an orderly stop on a signal.

The ``module`` that Lightning hands to them is a :class:`nflows_woodbury.train.module.FlowTraining`.
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

from nflows_woodbury.evaluation.likelihood import bits_per_dim
from nflows_woodbury.evaluation.pictures import image_grid, save_png
from nflows_woodbury.evaluation.samples import class_numbers, reconstructions, sample_classes

__all__ = ["Checkpoints", "Pictures", "ProgressBar", "StopOnSignal", "Validation"]


class Checkpoints(pl.Callback):
    """``last.ckpt`` in a folder, every so many steps and at the end; only ever between two optimizer steps.

    >>> from pathlib import Path
    >>> import pytorch_lightning as pl
    >>> callback = Checkpoints(Path("runs/mine/checkpoints"))
    >>> trainer = pl.Trainer(max_steps=1000, callbacks=[callback], enable_checkpointing=False, logger=False)
    >>> callback.path.parts
    ('runs', 'mine', 'checkpoints', 'last.ckpt')
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "last.ckpt"
        self._step = -1  # of the last one

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save when it is time."""
        if _is_time(trainer, module, batch_idx):
            self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Save what the last step left."""
        if self._step != trainer.global_step:
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._step = trainer.global_step


class Pictures(pl.Callback):
    """A sample grid and a reconstruction grid, every so many steps and at the end, as PNG and in the log.

    >>> from pathlib import Path
    >>> import pytorch_lightning as pl
    >>> from pytorch_lightning.loggers import TensorBoardLogger
    >>> pictures = Pictures(Path("runs/mine"), count=16)
    >>> trainer = pl.Trainer(max_steps=1000, callbacks=[pictures], logger=TensorBoardLogger("runs/mine"))
    >>> pictures in trainer.callbacks
    True
    """

    def __init__(self, folder: Path, count: int = 36) -> None:
        self.folder, self.count = folder, count

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Draw when it is time."""
        if _is_time(trainer, module, batch_idx) and trainer.global_step < trainer.max_steps:
            self._draw(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Draw at the end."""
        self._draw(trainer, module)

    @rank_zero_only
    def _draw(self, trainer: pl.Trainer, module: Any) -> None:
        batch = module.source.batch(0, min(self.count // 2, module.config.batch_size), seed=module.config.seed)
        with torch.random.fork_rng():
            torch.manual_seed(module.config.seed)
            samples = sample_classes(module.evaluated, self.count, temperature=module.config.temperature).cpu()
            context = class_numbers(module.evaluated, batch.labels)
            back = reconstructions(module.evaluated, batch.images.to(module.device), context).cpu()
        pairs = torch.stack([batch.images, back], 1).flatten(0, 1)
        for name, images in {"samples": samples, "reconstructions": pairs}.items():
            grid = image_grid(images)
            save_png(grid, self.folder / f"{name}.png", zoom=2)
            trainer.logger.experiment.add_image(name, grid, trainer.global_step)  # type: ignore[union-attr]


class Validation(pl.Callback):
    """Bits per dimension of the source's validation images, every so many steps.

    >>> import pytorch_lightning as pl
    >>> validation = Validation()
    >>> trainer = pl.Trainer(max_steps=1000, callbacks=[validation], logger=False)
    >>> validation in trainer.callbacks
    True
    """

    @rank_zero_only
    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Evaluate when it is time."""
        images = module.source.validation
        if images is not None and _is_time(trainer, module, batch_idx):
            bits = bits_per_dim(module.evaluated, images)
            module.log("validation_bits_per_dim", float(bits.mean()), prog_bar=True, rank_zero_only=True)


def _is_time(trainer: pl.Trainer, module: Any, batch_index: int) -> bool:
    return module.is_step_end(batch_index) and trainer.global_step % module.config.every == 0


class ProgressBar(TQDMProgressBar):
    """Lightning's bar with the run's figures only.

    >>> import pytorch_lightning as pl
    >>> bar = ProgressBar(refresh_rate=5)  # redrawn every 5 steps
    >>> trainer = pl.Trainer(max_steps=1000, callbacks=[bar], logger=False)
    >>> trainer.progress_bar_callback is bar
    True
    """

    def get_metrics(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Any]:
        """Leave the logger's version out."""
        return {name: value for name, value in super().get_metrics(trainer, module).items() if name != "v_num"}


class StopOnSignal(pl.Callback):
    """Ctrl-C and SIGTERM end the run after the step in hand; a second signal ends it at once.

    With several processes a signal to any of them ends all after the same step.

    >>> import signal
    >>> callback = StopOnSignal()
    >>> callback.on_train_start(trainer=None, module=None)  # as Lightning does
    >>> signal.raise_signal(signal.SIGTERM)  # noted, and Python goes on
    >>> callback.signalled
    True
    """

    def __init__(self) -> None:
        self.signalled = False
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Take the signals."""

        def note(number: int, frame: FrameType | None) -> None:
            self.signalled = True
            self._restore()

        self._before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop at a step's end, if a signal came to any process."""
        if module.is_step_end(batch_idx):
            self.signalled = trainer.strategy.reduce_boolean_decision(self.signalled, all=False)
            trainer.should_stop = trainer.should_stop or self.signalled

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Give the signals back."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
