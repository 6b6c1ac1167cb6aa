"""Image sources: uint8 batches (N, c, h, w) for training, and fixed validation and test sets.

A batch is a function of (seed, step), not of a generator's history, so a resumed run sees the same images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from nflows_woodbury.checks import check_natural_int, check_positive_int, check_uint8_images

__all__ = [
    "ArraySource",
    "ImageSet",
    "ImageSource",
]

Indices = npt.NDArray[np.int64]

SPLITS, BATCHES = 1, 2  # first words of the random keys: splits are fixed, batches also take the run's seed


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images, uint8 (N, c, h, w), and labels, int64 (N,) from 0, or None; else TypeError or ValueError.

    >>> import numpy as np, torch
    >>> images = ImageSet(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), labels=torch.tensor([0, 2, 1]))
    >>> len(images), images.take(np.array([2, 0])).labels
    (3, tensor([1, 0]))
    """

    images: torch.Tensor
    labels: torch.Tensor | None = None

    def __post_init__(self) -> None:
        check_uint8_images(self.images)
        if self.labels is not None and self.labels.dtype != torch.int64:
            raise TypeError(f"labels must be int64, got {self.labels.dtype}")
        if self.labels is not None and (self.labels.shape != (len(self),) or (self.labels < 0).any()):
            raise ValueError(f"labels must be {len(self)} integers from 0, got {self.labels}")

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Indices) -> ImageSet:
        """Return a copy of the images (and labels) with these numbers, in this order."""
        rows = torch.from_numpy(indices)
        return ImageSet(self.images[rows].contiguous(), None if self.labels is None else self.labels[rows])


class ImageSource(ABC):
    """Training batches, a test set and perhaps a validation set of images of one ``shape`` (c, h, w).

    A subclass sets the attributes and defines ``_indices``, the numbers of the training images in a global
    batch, int64 (batch_size,), and ``_take``, the training images with given numbers below ``train_size``.

    >>> import numpy as np, torch
    >>> class Grey(ImageSource):
    ...     name, shape, train_size, num_classes, validation = "grey", (1, 8, 8), 1000, None, None
    ...     test = ImageSet(torch.zeros(10, 1, 8, 8, dtype=torch.uint8))
    ...     def _indices(self, step, batch_size, seed):
    ...         return np.random.default_rng([seed, step]).integers(self.train_size, size=batch_size)
    ...     def _take(self, indices):
    ...         return ImageSet(torch.from_numpy(indices % 256).byte().view(-1, 1, 1, 1).expand(-1, 1, 8, 8))
    >>> Grey().batch(0, 32, seed=0, rank=1, world_size=4).images.shape
    torch.Size([8, 1, 8, 8])
    """

    name: str
    shape: tuple[int, int, int]
    train_size: int
    num_classes: int | None
    validation: ImageSet | None
    test: ImageSet

    def batch(self, step: int, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> ImageSet:
        """Return this rank's ``batch_size / world_size`` images of the global batch number ``step``, from 0.

        The result depends on the arguments only. The parts of all ranks, one after the other, are the batch
        that a single process gets. TypeError or ValueError for arguments that are no such numbers, for a
        ``rank`` outside ``world_size`` and for a ``batch_size`` that does not divide among the ranks.
        """
        size, ranks = check_positive_int("batch_size", batch_size), check_positive_int("world_size", world_size)
        step, seed, rank = (
            check_natural_int("step", step),
            check_natural_int("seed", seed),
            check_natural_int("rank", rank),
        )
        if rank >= ranks:
            raise ValueError(f"rank must be below world_size ({ranks}), got {rank}")
        if size % ranks:
            raise ValueError(f"batch_size must be a multiple of world_size ({ranks}), got {size}")
        part = size // ranks
        return self._take(self._indices(step, size, seed)[rank * part : (rank + 1) * part])

    def training(self, batch_size: int) -> Iterator[ImageSet]:
        """Return an iterator over all training images, each once and in order, ``batch_size`` at a time.

        The last set may be smaller. TypeError or ValueError for a ``batch_size`` that is no positive integer.
        """
        size, total = check_positive_int("batch_size", batch_size), self.train_size
        return (self._take(np.arange(start, min(start + size, total))) for start in range(0, total, size))

    @abstractmethod
    def _indices(self, step: int, batch_size: int, seed: int) -> Indices: ...

    @abstractmethod
    def _take(self, indices: Indices) -> ImageSet: ...


class ArraySource(ImageSource):
    """Images in memory or memory-mapped. Each epoch is a permutation of the training set, drawn from (seed, epoch).

    A batch at an epoch's end continues into the next permutation, so none is short and no image is left out;
    ``batch`` raises ValueError for more images than there are. Without ``test``, ``test_images`` images (default:
    a tenth) of ``train`` are held out; without ``validation``, ``validation_size`` images (default: 5 %, at most
    1000; 0 for none) of the rest. Both are the same in every run, and only they are copied: of the others it
    keeps the numbers. ``num_classes`` is one more than the largest label. ValueError for sets that are empty or
    differ in shape, for labels of some only, and for sizes that do not fit.

    >>> import torch
    >>> source = ArraySource(ImageSet(torch.zeros(100, 3, 8, 8, dtype=torch.uint8)))
    >>> source.train_size, len(source.validation), len(source.test), source.batch(0, 32, seed=0).images.shape
    (86, 4, 10, torch.Size([32, 3, 8, 8]))
    """

    def __init__(
        self,
        train: ImageSet,
        test: ImageSet | None = None,
        *,
        name: str = "images",
        test_images: int | None = None,
        validation: ImageSet | None = None,
        validation_size: int | None = None,
    ) -> None:
        rows = np.arange(len(train))
        if test is None:
            rows, chosen = _hold_out(rows, held_out_count(len(train), test_images))
            test = train.take(chosen)
        elif test_images is not None:
            raise ValueError(f"test_images must be None where test is given, got {test_images}")
        labels = _all_labels([images for images in (train, test, validation) if images is not None])
        if validation_size is None:
            validation_size = min(1000, len(rows) // 20) if validation is None else 0
        limit = len(rows) if validation is None else 1
        if check_natural_int("validation_size", validation_size) >= limit:
            why = "the number of images in train" if validation is None else "as validation is given"
            raise ValueError(f"validation_size must be below {limit}, {why}, got {validation_size}")
        self._train, (self._rows, held_out) = train, _hold_out(rows, validation_size)
        self.name, self.test, self.train_size = name, test, len(self._rows)
        self.validation = train.take(held_out) if validation_size else validation
        channels, height, width = train.images.shape[1:]
        self.shape = (channels, height, width)
        self.num_classes = None if labels is None else 1 + int(labels.max())

    def _indices(self, step: int, batch_size: int, seed: int) -> Indices:
        count = self.train_size
        if batch_size > count:
            raise ValueError(f"batch_size must be at most the {count} training images, got {batch_size}")
        epoch, start = divmod(step * batch_size, count)
        ahead = _permutation(count, seed, epoch + 1)[: max(0, start + batch_size - count)]
        return np.concatenate([_permutation(count, seed, epoch)[start : start + batch_size], ahead])

    def _take(self, indices: Indices) -> ImageSet:
        return self._train.take(self._rows[indices])


@lru_cache(maxsize=2)  # two, because a batch may straddle epochs
def _permutation(count: int, seed: int, epoch: int) -> Indices:
    return np.random.default_rng([BATCHES, seed, epoch]).permutation(count)


def _all_labels(sets: Sequence[ImageSet]) -> torch.Tensor | None:
    """Return the labels of all sets, or None; ValueError for sets that are empty or not alike."""
    kinds = {(images.images.shape[1:], images.labels is None) for images in sets}
    if len(kinds) > 1 or not all(len(images) for images in sets):
        got = ", ".join(f"{tuple(x.images.shape)} {'un' * (x.labels is None)}labelled" for x in sets)
        raise ValueError(f"train, test (and validation) must be alike in shape and labels, got {got}")
    labels = [images.labels for images in sets if images.labels is not None]
    return torch.cat(labels) if labels else None


def _hold_out(rows: Indices, count: int) -> tuple[Indices, Indices]:
    """Return the rows that stay and ``count`` rows to hold out, in their order and the same ones in every run."""
    order = np.random.default_rng(SPLITS).permutation(len(rows))
    kept = len(rows) - count
    return rows[np.sort(order[:kept])], rows[np.sort(order[kept:])]


def held_out_count(total: int, test_images: int | None = None) -> int:
    """Return how many of ``total`` images are held out as a test set: ``test_images``, or a tenth.

    TypeError or ValueError for a ``test_images`` that is no positive integer or leaves no image to train on.
    """
    if total < 2:
        raise ValueError(f"there must be two or more images to hold a test set out of them, got {total}")
    count = max(1, total // 10) if test_images is None else check_positive_int("test_images", test_images)
    if count >= total:
        raise ValueError(f"test_images must be below {total}, the number of images, got {count}")
    return count


def check_same_size(spec: object, size: int | None, sides: tuple[int, int]) -> None:
    """Check that ``size`` is None or the side of images that are not resized, of ``sides`` (height, width)."""
    if size is not None and sides != (size, size):
        raise ValueError(f"size must be None or as in {str(spec)!r}, where it is {sides}, got {size}")


def check_no_test_images(spec: object, test_images: int | None) -> None:
    """Check that ``test_images`` is None, for data with a test set of their own."""
    if test_images is not None:
        raise ValueError(f"test_images must be None, as {str(spec)!r} has a test set of its own, got {test_images}")
