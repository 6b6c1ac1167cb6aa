"""What a training step gets: images and noise as functions of (seed, step, part), so that resuming repeats them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from nflows_woodbury.data.sources import ImageSource
from nflows_woodbury.train.config import TrainingConfig

__all__ = ["Batch", "Steps", "noise_seed"]

FLIPS = 3  # first word of their random key, after those of splits and batches

Batch = tuple[int, int, Tensor, Tensor | None]  # step, part, images, labels


class Steps(IterableDataset[Batch]):
    """Endless batches of one rank, in parts, from a step on; with ``flip``, half of the images mirrored."""

    def __init__(self, source: ImageSource, config: TrainingConfig, start: int, rank: int, world_size: int) -> None:
        self.source, self.config, self.start = source, config, start
        self.parts = range(rank * config.accumulate, (rank + 1) * config.accumulate)
        self.total = world_size * config.accumulate

    def __iter__(self) -> Iterator[Batch]:
        step, size, seed = self.start, self.config.batch_size, self.config.seed
        while True:
            for part in self.parts:
                batch = self.source.batch(step, size, seed=seed, rank=part, world_size=self.total)
                yield step, part, self._flipped(batch.images, step, part), batch.labels
            step += 1

    def _flipped(self, images: Tensor, step: int, part: int) -> Tensor:
        """Which images are mirrored depends on the seed, the step and the place in the whole batch alone."""
        if not self.config.flip:
            return images
        drawn = np.random.default_rng([FLIPS, self.config.seed, step]).random(self.config.batch_size) < 0.5
        rows = torch.from_numpy(drawn[part * len(images) : (part + 1) * len(images)])
        return torch.where(rows.view(-1, *[1] * (images.dim() - 1)), images.flip(-1), images)


def noise_seed(seed: int, step: int, part: int) -> int:
    """One 63-bit word for (seed, step, part), far apart for neighbours."""
    word = 0
    for number in (seed, step, part):
        word = (word ^ number) * 0x9E3779B97F4A7C15 % 2**64
        word ^= word >> 29
    return word % 2**63
