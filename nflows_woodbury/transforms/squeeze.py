"""Squeezes: trade pixels for channels."""

from __future__ import annotations

import torch
from nflows.transforms.base import Transform
from torch import Tensor

from nflows_woodbury.checks import check_floating, check_positive_int

__all__ = ["HaarSqueeze", "Squeeze"]


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
        _check_pixels(inputs, self.factor)
        # not F.pixel_unshuffle, which leaves an empty batch as it is
        blocks = inputs.unflatten(3, (-1, self.factor)).unflatten(2, (-1, self.factor))
        return blocks.permute(0, 1, 3, 5, 2, 4).flatten(1, 3), _zeros(inputs)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Channels back into pixels."""
        _check_channels(inputs, self.factor)
        blocks = inputs.unflatten(1, (-1, self.factor, self.factor))
        return blocks.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3), _zeros(inputs)


class HaarSqueeze(Transform):
    r"""A level of the Haar wavelet transform: each 2 x 2 block of pixels becomes its mean and its differences.

    .. math::

        \begin{pmatrix} y_1 \\ y_2 \\ y_3 \\ y_4 \end{pmatrix} = \frac12
        \begin{pmatrix} 1 & 1 & 1 & 1 \\ 1 & -1 & 1 & -1 \\ 1 & 1 & -1 & -1 \\ 1 & -1 & -1 & 1 \end{pmatrix}
        \begin{pmatrix} x_{00} \\ x_{01} \\ x_{10} \\ x_{11} \end{pmatrix}, \qquad \log|\det J| = 0

    The matrix is orthogonal and its own inverse. The means of all channels come first (twice the mean, so that white
    noise stays white), then their differences along the width, along the height, and along both: a split that keeps the
    first half of the channels keeps what the image looks like from afar. Both ways are 8 additions per block.

    Shapes:
        inputs ``(B, c, h, w)`` with even ``h`` and ``w``, of a floating point dtype; outputs
        ``(B, 4 c, h / 2, w / 2)``; ``logabsdet`` ``(B,)``.

    Raises:
        ValueError, TypeError: for other sizes or dtypes.

    Reference: Ardizzone, Lüth, Kruse, Rother and Köthe, Guided Image Generation with Conditional Invertible Neural
    Networks, 2019, section 3.1, whose implementation (FrEIA) keeps the four values of a channel together by default.

    >>> import torch
    >>> outputs, _ = HaarSqueeze()(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
    >>> outputs.flatten()
    tensor([ 5., -1., -2.,  0.])
    """

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Pixels into means and differences."""
        _check_pixels(inputs, 2)
        check_floating(inputs)
        blocks = inputs.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).permute(0, 3, 5, 1, 2, 4)
        return _haar(blocks).flatten(1, 3), _zeros(inputs)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Means and differences back into pixels."""
        _check_channels(inputs, 2)
        check_floating(inputs)
        blocks = _haar(inputs.unflatten(1, (2, 2, -1))).permute(0, 3, 4, 1, 5, 2)
        return blocks.flatten(4, 5).flatten(2, 3), _zeros(inputs)


def _haar(blocks: Tensor) -> Tensor:
    """Sums and differences along both axes of (B, 2, 2, ...), halved; its own inverse."""
    for axis in (1, 2):
        first, second = blocks.unbind(axis)
        blocks = torch.stack([first + second, first - second], axis)
    return blocks / 2


def _check_pixels(inputs: Tensor, factor: int) -> None:
    if not isinstance(inputs, Tensor):
        raise TypeError(f"inputs must be a tensor (B, c, h, w), got {type(inputs).__name__}")
    if inputs.dim() != 4 or inputs.shape[2] % factor or inputs.shape[3] % factor:
        raise ValueError(f"inputs must be (B, c, h, w) with h and w divisible by {factor}, got {tuple(inputs.shape)}")


def _check_channels(inputs: Tensor, factor: int) -> None:
    if inputs.dim() != 4 or inputs.shape[1] % factor**2:
        raise ValueError(f"inputs must be (B, c, h, w) with c divisible by {factor**2}, got {tuple(inputs.shape)}")


def _zeros(inputs: Tensor) -> Tensor:
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    return torch.zeros(inputs.shape[0], dtype=dtype, device=inputs.device)
