"""Crops of photographs that come with scikit-image, so that a first run needs no download."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from nflows_woodbury.checks import check_positive_int
from nflows_woodbury.data.sources import BATCHES, SPLITS, ImageSet, ImageSource, Indices
from nflows_woodbury.optional import import_extra

__all__ = ["PhotoSource"]

_PHOTOS = ("astronaut", "coffee", "cat", "rocket")


class PhotoSource(ImageSource):
    """Crops, uniform over all positions, of scikit-image's four photographs: no download, no labels.

    Training crops come from the left 75 % of each photo, the 512 fixed test crops from the right 25 %.
    ValueError for a ``size`` that does not fit there, ImportError without scikit-image.

    >>> source = PhotoSource(size=16)
    >>> len(source.test), source.batch(0, 32, seed=0).images.shape
    (512, torch.Size([32, 3, 16, 16]))
    """

    def __init__(self, size: int = 32) -> None:
        data = import_extra("skimage.data")
        photos = [torch.from_numpy(getattr(data, photo)()).movedim(2, 0) for photo in _PHOTOS]
        self._left = [photo[:, :, : photo.shape[2] * 3 // 4] for photo in photos]
        right = [photo[:, :, photo.shape[2] * 3 // 4 :] for photo in photos]
        size, largest = check_positive_int("size", size), min(min(panel.shape[1:]) for panel in right)
        if size > largest:
            raise ValueError(f"size must be at most {largest} to fit each photo's right quarter, got {size}")
        self.name, self.shape, self.num_classes, self.validation = "photos", (3, size, size), None, None
        chosen = np.random.default_rng(SPLITS).choice(_starts(right, size)[-1], 512, replace=False)
        self.test = _crops(right, size, chosen)
        self.train_size = int(_starts(self._left, size)[-1])

    def _indices(self, step: int, batch_size: int, seed: int) -> Indices:
        rng = np.random.default_rng([BATCHES, seed, step])
        return rng.integers(self.train_size, size=batch_size)

    def _take(self, indices: Indices) -> ImageSet:
        return _crops(self._left, self.shape[2], indices)


def _starts(panels: Sequence[torch.Tensor], size: int) -> Indices:
    """Return the number of each panel's first crop and, last, the number of all crops."""
    return np.cumsum([0, *((x.shape[1] - size + 1) * (x.shape[2] - size + 1) for x in panels)])


def _crops(panels: Sequence[torch.Tensor], size: int, indices: Indices) -> ImageSet:
    """Return the crops of uint8 panels (c, h, w) with these numbers, which run panel by panel, row by row."""
    starts, crops = _starts(panels, size), []
    for index in indices:
        number = int(np.searchsorted(starts, index, side="right")) - 1
        row, column = divmod(int(index - starts[number]), panels[number].shape[2] - size + 1)
        crops.append(panels[number][:, row : row + size, column : column + size])
    return ImageSet(torch.stack(crops))
