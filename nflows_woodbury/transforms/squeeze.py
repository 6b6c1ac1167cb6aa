"""Squeeze: trade pixels for channels."""

from __future__ import annotations

import torch
from nflows.transforms.base import Transform
from torch import Tensor

from nflows_woodbury.checks import check_positive_int

__all__ = ["Squeeze"]


class Squeeze(Transform):
    """Moves each ``factor x factor`` block of pixels into channels; a permutation, so its log-det is 0.

    Args:
        factor: the block's side.

    Shapes:
        inputs ``(B, c, h, w)`` with ``h`` and ``w`` divisible by ``factor``; outputs
        ``(B, c factor^2, h / factor, w / factor)``; ``logabsdet`` ``(B,)``. Any dtype.

    Raises:
        ValueError, TypeError: for a bad factor or sizes that it does not divide.

    Reference: Dinh, Sohl-Dickstein and Bengio, Real NVP, ICLR 2017, section 3.6.

    >>> import torch
    >>> Squeeze()(torch.zeros(1, 3, 8, 6))[0].shape
    torch.Size([1, 12, 4, 3])
    """

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        self.factor = check_positive_int("factor", factor)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Pixels into channels."""
        if not isinstance(inputs, Tensor):
            raise TypeError(f"inputs must be a tensor (B, c, h, w), got {type(inputs).__name__}")
        if inputs.dim() != 4 or inputs.shape[2] % self.factor or inputs.shape[3] % self.factor:
            raise ValueError(
                f"inputs must be (B, c, h, w) with h and w divisible by {self.factor}, got {tuple(inputs.shape)}"
            )
        # not F.pixel_unshuffle, which leaves an empty batch as it is
        blocks = inputs.unflatten(3, (-1, self.factor)).unflatten(2, (-1, self.factor))
        return blocks.permute(0, 1, 3, 5, 2, 4).flatten(1, 3), _zeros(inputs)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Channels back into pixels."""
        if inputs.dim() != 4 or inputs.shape[1] % self.factor**2:
            raise ValueError(
                f"inputs must be (B, c, h, w) with c divisible by {self.factor**2}, got {tuple(inputs.shape)}"
            )
        blocks = inputs.unflatten(1, (-1, self.factor, self.factor))
        return blocks.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3), _zeros(inputs)


def _zeros(inputs: Tensor) -> Tensor:
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    return torch.zeros(inputs.shape[0], dtype=dtype, device=inputs.device)
