"""A look at every layer now and then while a flow learns, kept in the folder of its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only

from nflows_woodbury.evaluation.diagnosis import diagnose
from nflows_woodbury.evaluation.history import HISTORY, Moment, read_history, write_history
from nflows_woodbury.evaluation.samples import as_inputs, class_numbers

__all__ = ["Diagnoses"]

COUNT = 16  # images that go through the layers
MOST = 100  # times in a run: each writes the file of all


class Diagnoses(pl.Callback):
    """Condition and round trip of each layer at the start, every so many steps and at the end.

    They are of the weights that learn, and of the first training images. ``diagnosis.json`` holds those of all steps
    that the run has taken, also after it was killed and goes on from its checkpoint.

    Args:
        folder: that of the run.

    >>> import pytorch_lightning as pl
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     diagnoses = Diagnoses(Path(folder))
    ...     trainer = pl.Trainer(max_steps=1000, callbacks=[diagnoses], logger=False)
    >>> diagnoses.moments
    []
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.moments: list[Moment] = []

    @rank_zero_only
    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Take up those of the steps that are done, and look if this step has none."""
        if trainer.global_step:  # or the file is of a run that never came to a checkpoint
            self.moments = [moment for moment in read_history(self.folder) if moment.step <= trainer.global_step]
        self._look(trainer, module)

    @rank_zero_only
    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look when it is time, a hundred times in all at most."""
        if module.is_time(batch_idx) and trainer.global_step - self.moments[-1].step >= trainer.max_steps // MOST:
            self._look(trainer, module)

    @rank_zero_only
    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Look at what the last step left."""
        self._look(trainer, module)

    def _look(self, trainer: pl.Trainer, module: Any) -> None:
        step = trainer.global_step
        if self.moments and self.moments[-1].step == step:
            return
        batch = module.source.batch(0, min(COUNT, module.config.batch_size), seed=module.config.seed)
        with torch.random.fork_rng():
            torch.manual_seed(module.config.seed)
            reports = diagnose(
                module.flow, as_inputs(module.flow, batch.images), class_numbers(module.flow, batch.labels)
            )
        self.moments.append(Moment(step, tuple(reports)))
        write_history(self.folder / HISTORY, self.moments)
