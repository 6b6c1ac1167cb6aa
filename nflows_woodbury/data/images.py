"""Images, or fields, with their labels and names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from nflows_woodbury.checks import check_fields, check_uint8_images
from nflows_woodbury.data.splits import Indices

__all__ = ["FieldSet", "ImageSet"]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images, uint8 (N, c, h, w), labels, int64 (N,) from 0, and names, each or None; else TypeError or ValueError.

    Names are the images' files or their numbers in the whole of the data.

    >>> import numpy as np, torch
    >>> images = ImageSet(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 2, 1]), ("a", "b", "c"))
    >>> len(images), images.take(np.array([2, 0])).labels, images.take(np.array([2, 0])).names
    (3, tensor([1, 0]), ('c', 'a'))
    """

    images: torch.Tensor
    labels: torch.Tensor | None = None
    names: Sequence[object] | None = None

    def __post_init__(self) -> None:
        self._check_images()
        if self.labels is not None and self.labels.dtype != torch.int64:
            raise TypeError(f"labels must be int64, got {self.labels.dtype}")
        if self.labels is not None and (self.labels.shape != (len(self),) or (self.labels < 0).any()):
            raise ValueError(f"labels must be {len(self)} integers from 0, got {self.labels}")
        if self.names is not None and len(self.names) != len(self):
            raise ValueError(f"names must be {len(self)}, got {len(self.names)}")

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Indices) -> ImageSet:
        """Return a copy of the images (and labels and names) with these numbers, in this order."""
        rows = torch.from_numpy(indices)
        labels = None if self.labels is None else self.labels[rows]
        names = None if self.names is None else tuple(self.names[i] for i in indices.tolist())
        return replace(self, images=self.images[rows].contiguous(), labels=labels, names=names)

    def _check_images(self) -> None:
        check_uint8_images(self.images)


@dataclass(frozen=True, eq=False)
class FieldSet(ImageSet):
    """Fields in place of images, float32 or float64 (N, c, ...); labels and names as for :class:`ImageSet`.

    >>> import torch
    >>> len(FieldSet(torch.randn(3, 1, 8, 8)))
    3
    """

    def _check_images(self) -> None:
        check_fields(self.images, tuple(self.images.shape[1:]))
