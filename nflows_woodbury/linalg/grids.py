"""Values on a grid of any number of axes, ``(B, c)``, ``(B, c, t)``, ``(B, c, h, w)`` or ``(B, c, d, h, w)``.

A pixel stands for a place of the grid, whatever the number of its axes; a vector is a grid of one pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nflows_woodbury.linalg import small

__all__ = ["along_channels", "channel_statistics", "columns", "num_pixels"]


def num_pixels(inputs: Tensor) -> int:
    """The pixels of one input, 1 for vectors.

    >>> import torch
    >>> num_pixels(torch.zeros(2, 3)), num_pixels(torch.zeros(2, 3, 4, 5))
    (1, 20)
    """
    return inputs.shape[2:].numel()


def columns(inputs: Tensor) -> Tensor:
    """A matrix (c, pixels) for each input, shape (B, c, pixels).

    >>> import torch
    >>> columns(torch.zeros(2, 3)).shape, columns(torch.zeros(2, 3, 4, 5)).shape
    (torch.Size([2, 3, 1]), torch.Size([2, 3, 20]))
    """
    return inputs.flatten(2) if inputs.dim() > 2 else inputs.unsqueeze(2)


def along_channels(values: Tensor, num_axes: int) -> Tensor:
    """``(..., c)`` as ``(..., c, 1, ...)``, so that it broadcasts over the pixels of a grid.

    >>> import torch
    >>> along_channels(torch.zeros(2, 3), num_axes=2).shape
    torch.Size([2, 3, 1, 1])
    """
    return values.view(*values.shape, *[1] * num_axes)


def channel_statistics(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean of each channel over batch and pixels, (c,) each, in float64.

    ValueError for inputs without a value, or with one that is not finite.

    >>> import torch
    >>> channel_statistics(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    (tensor([1., 0.], dtype=torch.float64), tensor([2., 5.], dtype=torch.float64))
    """
    if not inputs.numel():
        raise ValueError(f"inputs must hold at least one value, got shape {tuple(inputs.shape)}")
    values = small.wide(inputs.transpose(0, 1).flatten(1))
    broken = (~values.isfinite().all(1)).nonzero().flatten().tolist()
    if broken:
        raise ValueError(f"inputs must be finite to start from them, got nan or inf in channels {broken}")
    return torch.std_mean(values, 1, correction=0)
