"""Squeezes: trade pixels for channels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod, sqrt

import torch
from nflows.transforms.base import Transform
from torch import Tensor

from nflows_woodbury.checks import AXES, check_floating, check_positive_int, check_sizes

__all__ = ["BlockSqueeze", "HaarSqueeze", "Squeeze"]


class BlockSqueeze(Transform, ABC):
    """What squeezes share: each block of pixels becomes channels of one pixel, by an orthogonal map of volume 1.

    One of your own is a subclass with two members:

    * ``gather(blocks)``: blocks ``(B, c, f, ..., a, ...)``, with the axes within a block before the axes of blocks, to
      channels ``(B, c f..., a, ...)``.
    * ``scatter(channels, factors)``: the inverse of it.

    >>> issubclass(Squeeze, BlockSqueeze), Squeeze((1, 2)).factors(2)
    (True, (1, 2))
    """

    def __init__(self, factor: int | Sequence[int] = 2) -> None:
        super().__init__()
        many = isinstance(factor, Sequence)
        self.factor = check_sizes("factor", factor) if many else check_positive_int("factor", factor)

    @abstractmethod
    def gather(self, blocks: Tensor) -> Tensor:
        """Blocks to channels."""

    @abstractmethod
    def scatter(self, channels: Tensor, factors: tuple[int, ...]) -> Tensor:
        """Channels to blocks."""

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Pixels into channels."""
        factors = self._checked(inputs)
        if any(size % factor for size, factor in zip(inputs.shape[2:], factors, strict=True)):
            names = AXES[len(factors)]
            by = str(factors[0]) if len(set(factors)) == 1 else str(factors)
            raise ValueError(
                f"inputs must be (B, c, {', '.join(names)}) with {' and '.join(names)} divisible by {by}, "
                f"got {tuple(inputs.shape)}"
            )
        blocks = inputs
        for axis, factor in reversed(list(enumerate(factors, 2))):
            blocks = blocks.unflatten(axis, (-1, factor))
        within, between = range(3, 2 * len(factors) + 2, 2), range(2, 2 * len(factors) + 2, 2)
        return self.gather(blocks.permute(0, 1, *within, *between)), _zeros(inputs)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Channels back into pixels."""
        factors = self._checked(inputs)
        if inputs.shape[1] % prod(factors):
            names = ", ".join(["B", "c", *AXES[len(factors)]])
            raise ValueError(f"inputs must be ({names}) with c divisible by {prod(factors)}, got {tuple(inputs.shape)}")
        n = len(factors)
        pairs = [axis for i in range(n) for axis in (2 + n + i, 2 + i)]
        pixels = self.scatter(inputs, factors).permute(0, 1, *pairs)
        for axis in range(2, n + 2):
            pixels = pixels.flatten(axis, axis + 1)
        return pixels, _zeros(inputs)

    def factors(self, num_axes: int) -> tuple[int, ...]:
        """The sides of a block along so many axes; ValueError where the factors are of another number of axes."""
        if isinstance(self.factor, int):
            return (self.factor,) * num_axes
        if len(self.factor) != num_axes:
            raise ValueError(f"factor must be one number, or one for each of {num_axes} axes, got {self.factor}")
        return self.factor

    def extra_repr(self) -> str:
        """Show the argument in ``print``."""
        return f"factor={self.factor}"

    def _checked(self, inputs: Tensor) -> tuple[int, ...]:
        """The sides of a block, for inputs with axes to squeeze."""
        if not isinstance(inputs, Tensor):
            raise TypeError(f"inputs must be a tensor (B, c, h, w), got {type(inputs).__name__}")
        if inputs.dim() - 2 not in range(1, len(AXES)):
            raise ValueError(f"inputs must be (B, c, t), (B, c, h, w) or (B, c, d, h, w), got {tuple(inputs.shape)}")
        return self.factors(inputs.dim() - 2)


class Squeeze(BlockSqueeze):
    """Moves each ``factor x factor`` block of pixels into channels; a permutation, so its log-det is 0.

    Args:
        factor: the block's side, or its sides, one for each axis: ``(1, 2, 2)`` keeps the first axis of a volume.

    Shapes:
        inputs ``(B, c, h, w)`` with ``h`` and ``w`` divisible by ``factor``; outputs
        ``(B, c factor^2, h / factor, w / factor)``; ``logabsdet`` ``(B,)``. Any dtype. Likewise ``(B, c, t)`` and
        ``(B, c, d, h, w)``.

    Raises:
        ValueError, TypeError: for a bad factor or sizes that it does not divide.

    Reference: Dinh, Sohl-Dickstein and Bengio, Real NVP, ICLR 2017, section 3.6.

    >>> import torch
    >>> Squeeze()(torch.zeros(1, 3, 8, 6))[0].shape
    torch.Size([1, 12, 4, 3])
    >>> Squeeze((1, 2, 2))(torch.zeros(1, 3, 5, 8, 6))[0].shape
    torch.Size([1, 12, 5, 4, 3])
    """

    def gather(self, blocks: Tensor) -> Tensor:
        """The pixels of a block beside each other, those of a channel together."""
        # not F.pixel_unshuffle, which leaves an empty batch as it is
        return blocks.flatten(1, blocks.dim() // 2)

    def scatter(self, channels: Tensor, factors: tuple[int, ...]) -> Tensor:
        """Undo it."""
        return channels.unflatten(1, (-1, *factors))


class HaarSqueeze(BlockSqueeze):
    r"""A level of the Haar wavelet transform: each 2 x 2 block of pixels becomes its mean and its differences.

    .. math::

        \begin{pmatrix} y_1 \\ y_2 \\ y_3 \\ y_4 \end{pmatrix} = \frac12
        \begin{pmatrix} 1 & 1 & 1 & 1 \\ 1 & -1 & 1 & -1 \\ 1 & 1 & -1 & -1 \\ 1 & -1 & -1 & 1 \end{pmatrix}
        \begin{pmatrix} x_{00} \\ x_{01} \\ x_{10} \\ x_{11} \end{pmatrix}, \qquad \log|\det J| = 0

    The matrix is orthogonal and its own inverse. The means of all channels come first (twice the mean, so that white
    noise stays white), then their differences along the width, along the height, and along both: a split that keeps the
    first half of the channels keeps what the image looks like from afar. Both ways are 8 additions per block. Along
    ``n`` axes it is the same with :math:`2^n` pixels, and :math:`2^{-n/2}` for a half.

    Args:
        factor: 2, or 1 or 2 for each axis: ``(1, 2, 2)`` leaves the first axis of a volume alone.

    Shapes:
        inputs ``(B, c, h, w)`` with even ``h`` and ``w``, of a floating point dtype; outputs
        ``(B, 4 c, h / 2, w / 2)``; ``logabsdet`` ``(B,)``. Likewise ``(B, c, t)`` and ``(B, c, d, h, w)``.

    Raises:
        ValueError, TypeError: for another factor, other sizes or dtypes.

    Reference: Ardizzone, Lüth, Kruse, Rother and Köthe, Guided Image Generation with Conditional Invertible Neural
    Networks, 2019, section 3.1, whose implementation (FrEIA) keeps the four values of a channel together by default.

    >>> import torch
    >>> outputs, _ = HaarSqueeze()(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
    >>> outputs.flatten()
    tensor([ 5., -1., -2.,  0.])
    """

    def __init__(self, factor: int | Sequence[int] = 2) -> None:
        super().__init__(factor)
        if self.factor != 2 and (isinstance(self.factor, int) or not {*self.factor} <= {1, 2}):
            raise ValueError(f"factor must be 2, or 1 or 2 for each axis, got {factor}")

    def gather(self, blocks: Tensor) -> Tensor:
        """The means of all channels, then their differences."""
        n = (blocks.dim() - 2) // 2
        return _haar(blocks.movedim(1, n + 1), n).flatten(1, n + 1)

    def scatter(self, channels: Tensor, factors: tuple[int, ...]) -> Tensor:
        """Undo it."""
        n = len(factors)
        return _haar(channels.unflatten(1, (*factors, -1)), n).movedim(n + 1, 1)

    def _checked(self, inputs: Tensor) -> tuple[int, ...]:
        factors = super()._checked(inputs)
        check_floating(inputs)
        return factors


def _haar(blocks: Tensor, num_axes: int) -> Tensor:
    """Sums and differences along the axes of (B, f, ..., c, ...) after the first, scaled to volume 1; undoes itself."""
    halved = [axis for axis in range(1, num_axes + 1) if blocks.shape[axis] == 2]
    for axis in halved:
        first, second = blocks.unbind(axis)
        blocks = torch.stack([first + second, first - second], axis)
    scale = 2 ** (len(halved) // 2) * (sqrt(2) if len(halved) % 2 else 1)
    return blocks / scale


def _zeros(inputs: Tensor) -> Tensor:
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    return torch.zeros(inputs.shape[0], dtype=dtype, device=inputs.device)
