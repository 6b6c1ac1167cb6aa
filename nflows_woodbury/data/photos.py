"""Crops of photographs that come with scikit-image, so that a first run needs no download."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from nflows_woodbury.data.decoding import Sides, check_size
from nflows_woodbury.data.fingerprints import Fingerprint, of_rows
from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.data.sources import ImageSource
from nflows_woodbury.data.splits import BATCHES, SPLITS, Indices
from nflows_woodbury.optional import import_extra

__all__ = ["PhotoSource"]

_PHOTOS = ("astronaut", "coffee", "cat", "rocket")


class PhotoSource(ImageSource):
    """Crops, uniform over all positions, of scikit-image's four photographs: no download, no labels.

    Training crops come from the left 75 % of each photo, the 512 fixed test crops from the right 25 %.
    ``size`` is the side of a square or (height, width). ValueError for one that does not fit there, ImportError without
    scikit-image.

    >>> source = PhotoSource(size=16)
    >>> len(source.test), source.batch(0, 32, seed=0).images.shape
    (512, torch.Size([32, 3, 16, 16]))
    """

    def __init__(self, size: int | Sequence[int] = 32) -> None:
        data = import_extra("skimage.data")
        photos = [torch.from_numpy(getattr(data, photo)()).movedim(2, 0) for photo in _PHOTOS]
        self._left = [photo[:, :, : photo.shape[2] * 3 // 4] for photo in photos]
        right = [photo[:, :, photo.shape[2] * 3 // 4 :] for photo in photos]
        sides, largest = check_size(size) or (32, 32), min(min(panel.shape[1:]) for panel in right)
        if max(sides) > largest:
            raise ValueError(f"size must be at most {largest} to fit each photo's right quarter, got {size}")
        self.name, self.shape, self.num_classes, self.validation = "photos", (3, *sides), None, None
        self._sides = sides
        chosen = np.random.default_rng(SPLITS).choice(_starts(right, sides)[-1], 512, replace=False)
        self.test = _crops(right, sides, chosen)
        self.train_size = int(_starts(self._left, sides)[-1])

    def fingerprint(self) -> Fingerprint:
        """What the data are: of each photo's left part."""
        return of_rows(dict(zip(_PHOTOS, (panel[None] for panel in self._left), strict=True)))

    def _indices(self, step: int, batch_size: int, seed: int) -> Indices:
        rng = np.random.default_rng([BATCHES, seed, step])
        return rng.integers(self.train_size, size=batch_size)

    def _take(self, indices: Indices) -> ImageSet:
        return _crops(self._left, self._sides, indices)


def _starts(panels: Sequence[torch.Tensor], size: Sides) -> Indices:
    """Return the number of each panel's first crop and, last, the number of all crops."""
    return np.cumsum([0, *((x.shape[1] - size[0] + 1) * (x.shape[2] - size[1] + 1) for x in panels)])


def _crops(panels: Sequence[torch.Tensor], size: Sides, indices: Indices) -> ImageSet:
    """Return the crops of uint8 panels (c, h, w) with these numbers, which run panel by panel, row by row."""
    (height, width), starts, crops = size, _starts(panels, size), []
    for index in indices:
        number = int(np.searchsorted(starts, index, side="right")) - 1
        row, column = divmod(int(index - starts[number]), panels[number].shape[2] - width + 1)
        crops.append(panels[number][:, row : row + height, column : column + width])
    return ImageSet(torch.stack(crops))
