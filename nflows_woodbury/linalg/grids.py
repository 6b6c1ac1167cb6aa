"""Values on a grid of any number of axes, ``(B, c)``, ``(B, c, t)``, ``(B, c, h, w)`` or ``(B, c, d, h, w)``.

A pixel stands for a place of the grid, whatever the number of its axes; a vector is a grid of one pixel.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["along_channels", "columns", "num_pixels"]


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
