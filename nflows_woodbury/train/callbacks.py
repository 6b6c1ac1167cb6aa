"""What accompanies a training run: pictures, validation, a progress bar, and an orderly stop on a signal.

The ``module`` that Lightning hands to them is a :class:`nflows_woodbury.train.module.FlowTraining`.
"""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn
from torch import Tensor
from tqdm import tqdm

from nflows_woodbury.evaluation.colours import pictured
from nflows_woodbury.evaluation.likelihood import bits_per_dim
from nflows_woodbury.evaluation.pictures import image_grid, pair_grid, save_png
from nflows_woodbury.evaluation.samples import as_inputs, class_numbers, reconstructions, sample_classes
from nflows_woodbury.train.signals import handled

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
        if module.is_time(batch_idx):
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
        if module.is_time(batch_idx) and trainer.global_step < trainer.max_steps:
            self._draw(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Draw at the end."""
        self._draw(trainer, module)

    @rank_zero_only
    def _draw(self, trainer: pl.Trainer, module: Any) -> None:
        try:
            grids = self._grids(module)
        except ArithmeticError as error:  # a model that cannot be inverted yet may go on learning
            rank_zero_warn(f"step {trainer.global_step}: no pictures, as {error}")
            return
        for name, grid in grids.items():
            save_png(grid, self.folder / f"{name}.png", zoom=2, drawn=True)
            trainer.logger.experiment.add_image(name, grid, trainer.global_step)  # type: ignore[union-attr]

    def _grids(self, module: Any) -> dict[str, Tensor]:
        batch = module.source.batch(0, min(self.count // 2, module.config.batch_size), seed=module.config.seed)
        with torch.random.fork_rng():
            torch.manual_seed(module.config.seed)
            samples = sample_classes(module.evaluated, self.count, temperature=module.config.temperature).cpu()
            context = class_numbers(module.evaluated, batch.labels)
            back = reconstructions(module.evaluated, as_inputs(module.evaluated, batch.images), context).cpu()
        images, back, samples = pictured(batch.images, back, samples)
        return {"samples": image_grid(samples), "reconstructions": pair_grid(images, back)}


class Validation(pl.Callback):
    """Bits per dimension of the source's validation images, every so many steps, into the log; the last is ``value``.

    >>> import pytorch_lightning as pl
    >>> validation = Validation()
    >>> trainer = pl.Trainer(max_steps=1000, callbacks=[validation], logger=False)
    >>> validation in trainer.callbacks
    True
    """

    value: float | None = None

    @rank_zero_only
    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Evaluate when it is time."""
        images = module.source.validation
        if images is not None and module.is_time(batch_idx):
            self.value = float(bits_per_dim(module.evaluated, images).mean())
            for logger in trainer.loggers:  # at once: module.log waits for its turn, and then repeats it
                logger.log_metrics({f"validation_{module.measure}": self.value}, step=trainer.global_step)


class ProgressBar(pl.Callback):
    """Steps done of all, the rate and the time left on standard error, with the last likelihoods.

    The rate is that of this process: a resumed run's earlier steps are done, and don't count. Where nobody reads
    standard error any more, the run is stopped as by a signal.

    Args:
        stop: what stops the run.
        validation: whose value is shown.
        every: steps between two looks at the likelihoods, which wait for the device.

    >>> import pytorch_lightning as pl
    >>> bar = ProgressBar(StopOnSignal(), Validation())
    >>> trainer = pl.Trainer(max_steps=1000, callbacks=[bar], logger=False, enable_progress_bar=False)
    >>> bar in trainer.callbacks
    True
    """

    def __init__(self, stop: StopOnSignal, validation: Validation, every: int = 5) -> None:
        self.stop, self.validation, self.every = stop, validation, every
        self._bar: tqdm[Any] | None = None

    @rank_zero_only
    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Begin at the step that the run is at."""
        self._bar = tqdm(
            total=trainer.max_steps, initial=trainer.global_step, desc="training", unit="step", file=sys.stderr,
            dynamic_ncols=True, mininterval=0.5 if sys.stderr.isatty() else 2, miniters=1, smoothing=0.1,
        )  # fmt: skip

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count a step."""
        if self._bar is None or not module.is_step_end(batch_idx):
            return
        if trainer.global_step % self.every == 0 or trainer.global_step == trainer.max_steps:
            bits = trainer.progress_bar_metrics.get(f"train_{module.measure}", float("nan"))
            values = {module.measure.replace("_per_", "/").replace("_", " "): float(bits)}
            if self.validation.value is not None:
                values["validation"] = self.validation.value
            self._bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()}, refresh=False)
        try:
            self._bar.update(trainer.global_step - self._bar.n)
        except BrokenPipeError:
            self._close()
            self.stop.note(signal.SIGPIPE)

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Leave the line as it stands."""
        self._close()

    def on_exception(self, trainer: pl.Trainer, module: Any, exception: BaseException) -> None:
        """Leave the line as it stands."""
        self._close()

    def _close(self) -> None:
        bar, self._bar = self._bar, None
        if bar is not None:
            try:
                bar.close()
            except BrokenPipeError:
                bar.disable = True  # or it would try again when it is deleted


class StopOnSignal(pl.Callback):
    """Ctrl-C, TERM and HUP end the run after the step in hand; a second signal ends it at once.

    With several processes a signal to any of them ends all after the same step.

    >>> import signal
    >>> callback = StopOnSignal()
    >>> callback.on_train_start(trainer=None, module=None)  # as Lightning does
    >>> signal.raise_signal(signal.SIGTERM)  # noted, and Python goes on
    >>> callback.number == signal.SIGTERM
    True
    """

    number: int | None = None

    def __init__(self) -> None:
        self._taken = ExitStack()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Take the signals."""
        self._taken.enter_context(handled(self.note))

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """Remember the first signal, and leave a second one to what was there before."""
        self.number = number
        self._taken.close()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop at a step's end, if a signal came to any process."""
        if not module.is_step_end(batch_idx):
            return
        if trainer.strategy.reduce_boolean_decision(self.number is not None, all=False):
            self.number = signal.SIGTERM if self.number is None else self.number
            trainer.should_stop = True

    def on_fit_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Give the signals back, after the last checkpoint is written."""
        self._taken.close()

    def on_exception(self, trainer: pl.Trainer, module: Any, exception: BaseException) -> None:
        """Give the signals back."""
        self._taken.close()
