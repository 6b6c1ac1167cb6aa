"""Image sources: uint8 batches (N, c, h, w) for training, and fixed validation and test sets.

A batch is a function of (seed, step), not of a generator's history, so a resumed run sees the same images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nflows_woodbury.checks import check_natural_int, check_positive_int
from nflows_woodbury.data.classes import in_classes
from nflows_woodbury.data.fingerprints import Fingerprint, of_files, of_rows
from nflows_woodbury.data.images import FieldSet, ImageSet
from nflows_woodbury.data.splits import Indices, Split, epoch_order, held_out_count, split_rows
from nflows_woodbury.data.walking import Found

__all__ = ["ArraySource", "ImageSource"]


class ImageSource(ABC):
    """Training batches, a test set and perhaps a validation set of images of one ``shape`` (c, h, w).

    A subclass sets the attributes and defines ``_indices``, the numbers of the training images in a global batch, int64
    (batch_size,), and ``_take``, the training images with given numbers below ``train_size``. Those with a value here
    need not be set: ``class_names``, in the order of the labels; ``split``, how images were held out; ``found``, the
    files in a folder; and ``notes``, lines on what was passed over or changed in reading.

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
    shape: tuple[int, ...]
    train_size: int
    num_classes: int | None
    validation: ImageSet | None
    test: ImageSet
    class_names: tuple[str, ...] | None = None
    split: Split | None = None
    found: Found | None = None
    notes: tuple[str, ...] = ()

    def batch(self, step: int, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> ImageSet:
        """Return this rank's ``batch_size / world_size`` images of the global batch number ``step``, from 0.

        The result depends on the arguments only. The parts of all ranks, one after the other, are the batch
        that a single process gets. TypeError or ValueError for arguments that are no such numbers, for a
        ``rank`` outside ``world_size`` and for a ``batch_size`` that does not divide among the ranks.
        """
        size, ranks = check_positive_int("batch_size", batch_size), check_positive_int("world_size", world_size)
        for name, number in {"step": step, "seed": seed, "rank": rank}.items():
            check_natural_int(name, number)
        if rank >= ranks:
            raise ValueError(f"rank must be below world_size ({ranks}), got {rank}")
        if size % ranks:
            raise ValueError(f"batch_size must be a multiple of world_size ({ranks}), got {size}")
        part = size // ranks
        return self._take(self._indices(step, size, seed)[rank * part : (rank + 1) * part])

    def training(self, batch_size: int) -> Iterator[ImageSet]:
        """Return an iterator over all training images, each once and in order, ``batch_size`` at a time or fewer.

        TypeError or ValueError for a ``batch_size`` that is no positive integer.
        """
        size, total = check_positive_int("batch_size", batch_size), self.train_size
        return (self._take(np.arange(start, min(start + size, total))) for start in range(0, total, size))

    def whole(self) -> ImageSet:
        """All images of data that are a finite set, whatever their part; else the test images."""
        return self.test

    @property
    def is_fields(self) -> bool:
        """Whether the images are fields, floats of which a density is learnt."""
        return isinstance(self.test, FieldSet)

    def in_classes(self, names: Sequence[str]) -> ImageSource:
        """The same images with labels that count ``names``; images without labels stay as they are."""
        return self

    def fingerprint(self) -> Fingerprint | None:
        """What the data are, to notice when they change; None for a source that cannot tell."""
        return None

    def kept(self) -> dict[str, Any]:
        """What a run keeps of its data, plain values and a tensor: ``split``, ``class_names`` and ``fingerprint``."""
        fingerprint = self.fingerprint()
        return {
            "split": None if self.split is None else self.split.to_dict(),
            "class_names": None if self.class_names is None else list(self.class_names),
            "fingerprint": None if fingerprint is None else fingerprint.to_dict(),
        }

    @abstractmethod
    def _indices(self, step: int, batch_size: int, seed: int) -> Indices: ...

    @abstractmethod
    def _take(self, indices: Indices) -> ImageSet: ...


class ArraySource(ImageSource):
    """Images in memory or memory-mapped. Each epoch is a permutation of the training set, drawn from (seed, epoch).

    A batch at an epoch's end continues into the next permutation, so none is short and no image is left out; ``batch``
    raises ValueError for more images than there are. Without ``test``, images of ``train`` are held out by a hash of
    their names, or of their numbers where they have none: those with the ``test_images`` smallest hashes, or about a
    tenth; without ``validation``, ``validation_size`` images (default: about 5 %, at most 1000; 0 for none) of the
    rest. Both are the same in every run, and an image that is added moves no other; ``split`` is how it was done, and
    given again it is done in the same way, whatever was added or removed. Only they are copied: of the others it keeps
    the numbers. ``files`` are what the images come from, a folder and names in it. ``num_classes`` is the number of
    ``class_names``, or one more than the largest label. ValueError for sets that are empty or differ in shape, for
    labels of some only, and for sizes that do not fit.

    >>> import torch
    >>> source = ArraySource(ImageSet(torch.zeros(100, 3, 8, 8, dtype=torch.uint8)), test_images=10)
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
        split: Split | None = None,
        class_names: Sequence[str] | None = None,
        found: Found | None = None,
        notes: Sequence[str] = (),
        files: tuple[Path, Sequence[str]] | None = None,
    ) -> None:
        if test is not None and test_images is not None:
            raise ValueError(f"test_images must be None where test is given, got {test_images}")
        if validation is not None and validation_size:
            raise ValueError(f"validation_size must be below 1, as validation is given, got {validation_size}")
        if test is None:
            held_out_count(len(train), test_images)
        given = {"train": train, "test": test, "validation": validation}
        self._given = {part: images for part, images in given.items() if images is not None}
        labels = _all_labels(list(self._given.values()))
        if split is None:  # rows of data with a test set of their own are not added to
            split = Split("hash" if test is None or train.names is not None else "permutation")
        names: Sequence[object] = range(len(train)) if train.names is None else train.names
        self._train = replace(train, names=names)
        self._rows, tested, validated, self.split = split_rows(
            names, split, test_images, validation_size if validation is None else 0, has_test=test is not None
        )
        self.test = self._train.take(tested) if test is None else test
        self.validation = self._train.take(validated) if len(validated) else validation
        self.name, self.train_size = name, len(self._rows)
        self.found, self.notes, self._files = found, tuple(notes), files
        self.shape = tuple(train.images.shape[1:])
        self.class_names = None if class_names is None or labels is None else tuple(class_names)
        self.num_classes = None if labels is None else len(self.class_names or range(1 + int(labels.max())))

    def in_classes(self, names: Sequence[str]) -> ArraySource:
        """The same images with labels that count ``names``; ValueError for images of a class not among them."""
        if self.num_classes is None:
            return self
        other = copy(self)
        other._train, other.test = self._mapped(self._train, names), self._mapped(self.test, names)
        other.validation = None if self.validation is None else self._mapped(self.validation, names)
        other._given = {part: self._mapped(images, names) for part, images in self._given.items()}
        other.class_names, other.num_classes = tuple(names), len(names)
        return other

    def whole(self) -> ImageSet:
        """All images, those to train on first, in order and in memory where they come in parts."""
        sets = list(self._given.values())
        if len(sets) == 1:
            return self._train
        labels = [images.labels for images in sets if images.labels is not None]
        names = [f"{part}/{number}" for part, images in self._given.items() for number in range(len(images))]
        images, labels_ = torch.cat([images.images for images in sets]), torch.cat(labels) if labels else None
        return replace(self._train, images=images, labels=labels_, names=names)

    def class_counts(self) -> list[int]:
        """How many images each class has, of all parts; nothing without labels."""
        labels = [images.labels for images in self._given.values() if images.labels is not None]
        return torch.cat(labels).bincount(minlength=self.num_classes or 0).tolist() if labels else []

    def fingerprint(self) -> Fingerprint:
        """What the data are: of the files that the images come from, or else of the images."""
        if self._files is not None:
            return of_files(*self._files)
        return of_rows({part: images.images for part, images in self._given.items()})

    def _mapped(self, images: ImageSet, names: Sequence[str]) -> ImageSet:
        assert images.labels is not None
        return replace(images, labels=in_classes(images.labels, self.class_names, names))

    def _indices(self, step: int, batch_size: int, seed: int) -> Indices:
        count = self.train_size
        if batch_size > count:
            raise ValueError(f"batch_size must be at most the {count} training images, got {batch_size}")
        epoch, start = divmod(step * batch_size, count)
        ahead = epoch_order(count, seed, epoch + 1)[: max(0, start + batch_size - count)]
        return np.concatenate([epoch_order(count, seed, epoch)[start : start + batch_size], ahead])

    def _take(self, indices: Indices) -> ImageSet:
        return self._train.take(self._rows[indices])


def _all_labels(sets: Sequence[ImageSet]) -> torch.Tensor | None:
    """Return the labels of all sets, or None; ValueError for sets that are empty or not alike."""
    kinds = {(type(images), images.images.shape[1:], images.labels is None) for images in sets}
    if len(kinds) > 1 or not all(len(images) for images in sets):
        got = ", ".join(f"{tuple(x.images.shape)} {'un' * (x.labels is None)}labelled" for x in sets)
        raise ValueError(f"train, test (and validation) must be alike in shape and labels, got {got}")
    labels = [images.labels for images in sets if images.labels is not None]
    return torch.cat(labels) if labels else None
