"""What a training step gets: images and noise as functions of (seed, step, part), so that resuming repeats them."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor
from torch.utils.data import IterableDataset

from nflows_woodbury.data.sources import ImageSource
from nflows_woodbury.train.config import TrainingConfig

__all__ = ["Batch", "Steps", "noise_seed"]

Batch = tuple[int, int, Tensor, Tensor | None]  # step, part, images, labels


class Steps(IterableDataset[Batch]):
    """Endless batches of one rank, in parts, from a step on."""

    def __init__(self, source: ImageSource, config: TrainingConfig, start: int, rank: int, world_size: int) -> None:
        self.source, self.config, self.start = source, config, start
        self.parts = range(rank * config.accumulate, (rank + 1) * config.accumulate)
        self.total = world_size * config.accumulate

    def __iter__(self) -> Iterator[Batch]:
        step, size, seed = self.start, self.config.batch_size, self.config.seed
        while True:
            for part in self.parts:
                batch = self.source.batch(step, size, seed=seed, rank=part, world_size=self.total)
                yield step, part, batch.images, batch.labels
            step += 1


def noise_seed(seed: int, step: int, part: int) -> int:
    """One 63-bit word for (seed, step, part), far apart for neighbours."""
    word = 0
    for number in (seed, step, part):
        word = (word ^ number) * 0x9E3779B97F4A7C15 % 2**64
        word ^= word >> 29
    return word % 2**63
