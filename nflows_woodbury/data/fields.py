"""Fields in numpy's arrays: floats on a grid, which are no images of 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nflows_woodbury.data.images import FieldSet

__all__ = ["field_set", "is_field_array"]

Array = npt.NDArray[Any]

_LOOKED_AT = 64  # rows that tell images of 8 bits from fields
_ROWS = 4096  # that are looked through at a time
_GRIDS = {"[0, 1]": (255, 0), "[0, 255]": (1, 0), "[-1, 1]": (127.5, 127.5)}  # what makes bytes of floats


def is_field_array(array: Array) -> bool:
    """Whether an array holds floats that are no images of 8 bits in [0, 1], [0, 255] or [-1, 1].

    >>> bytes_ = np.arange(256, dtype=np.uint8)
    >>> is_field_array(np.linspace(0, 1, 1000)), is_field_array(bytes_ / 255), is_field_array(bytes_ / 127.5 - 1)
    (True, False, False)
    """
    if array.dtype.kind != "f" or not array.size or not array.ndim:
        return False
    some = np.asarray(array[:: max(1, len(array) // _LOOKED_AT)][:_LOOKED_AT], np.float64)
    if not np.isfinite(some).all():
        return True
    return not any(_are_bytes(some * scale + shift) for scale, shift in _GRIDS.values())


def _are_bytes(values: npt.NDArray[np.float64]) -> bool:
    return bool((np.abs(values - values.round()) < 2e-3).all() and values.min() > -0.5 and values.max() < 255.5)


def field_set(key: str, array: Array) -> FieldSet:
    """Fields (N, h, w), of one channel, or (N, c, ...) as float32 or float64 (N, c, ...), without a copy if they can.

    ValueError for arrays of other axes, with a value that is not finite, or whose channels seem to come last: the last
    axis has 4 or fewer entries, and the second more.

    >>> field_set("mine", np.linspace(0, 1, 640).reshape(10, 8, 8)).images.shape
    torch.Size([10, 1, 8, 8])
    """
    if array.ndim not in (3, 4, 5) or not array.size:
        raise ValueError(
            f"{key} must hold fields of shape (N, height, width), of one channel, (N, channels, height, width) or "
            f"(N, channels, depth, height, width), none of them empty, got {array.shape}"
        )
    if array.ndim > 3 and array.shape[-1] <= 4 < array.shape[1]:
        raise ValueError(
            f"{key} must have its channels on the second axis, got {array.shape}, whose last axis looks like channels; "
            "np.moveaxis(array, -1, 1) puts them there"
        )
    native = np.float64 if array.dtype.itemsize > 4 else np.float32
    fields = array.astype(native, copy=False)[:, None] if array.ndim == 3 else array.astype(native, copy=False)
    broken = sum(
        int((~np.isfinite(fields[i : i + _ROWS]).reshape(len(fields[i : i + _ROWS]), -1).all(1)).sum())
        for i in range(0, len(fields), _ROWS)
    )
    if broken:
        raise ValueError(
            f"{key} must be finite, got NaN or infinity in {broken} of {len(fields)} fields; leave those out, or fill "
            "what is missing"
        )
    return FieldSet(torch.from_numpy(fields))
