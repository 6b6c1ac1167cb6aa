"""Emerging convolution: a whole d x d convolution from two autoregressive ones that face opposite ways."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from nflows_woodbury.checks import (
    check_channel_inputs,
    check_image_shape,
    check_odd_int,
    check_one_of,
    check_positive_int,
)
from nflows_woodbury.linalg import small, triangular_conv
from nflows_woodbury.linalg.factors import Factor, Kind, Matrices, one_by_one
from nflows_woodbury.transforms.base import FactoredTransform
from nflows_woodbury.transforms.chain import Chain
from nflows_woodbury.transforms.conv1x1 import InvertibleConv1x1

__all__ = ["AutoregressiveConvolution", "EmergingConvolution"]

#: where the other taps lie, seen from a pixel -> image axes to flip until that is up and left, and whether the order of
#: the channels is reversed too
CORNERS: dict[str, tuple[tuple[int, ...], bool]] = {
    "upper left": ((), False),
    "upper right": ((3,), False),
    "lower left": ((2,), True),
    "lower right": ((2, 3), True),
}


class AutoregressiveConvolution(FactoredTransform):
    r"""A convolution that looks into one quadrant.

    .. math:: y_{ij} = \sum_{a, b < k} K_{ab}\, x_{i - a,\, j - b}, \qquad x = 0 \text{ outside}

    ``K_00``, the tap on the pixel itself, is triangular in the channels, so in the order of pixels, then channels,
    the Jacobian is triangular:

    .. math:: \log|\det J| = h w \sum_c s_c, \qquad (K_{00})_{cc} = e^{s_c}, \qquad s = \tanh(\text{log scale})

    Its diagonal is positive and lies between 1/e and e, so it cannot vanish. Large other taps can still make the
    inverse grow along the image, and the log-det does not see them; they start small. The inverse is substitution
    along anti-diagonals, ``h + w - 1`` steps, see :mod:`nflows_woodbury.linalg.triangular_conv`. Forward and inverse
    cost ``O(k^2 c^2 h w)`` per image.

    Args:
        shape: ``(c, h, w)``; only ``c`` matters, any ``h`` and ``w`` are accepted when called.
        kernel_size: ``k``, side of the quadrant, the pixel itself included.
        corner: where the other taps lie: ``"upper left"``, ``"upper right"``, ``"lower left"`` or ``"lower right"``.
            ``K_00`` is lower triangular for the upper corners, upper triangular for the lower ones.

    Shapes:
        inputs and outputs ``(B, c, h, w)``, ``logabsdet`` ``(B,)``; parameters ``weight`` ``(c, c, k, k)``, whose last
        tap is ``K_00``, used in its strict triangle only, and ``log_scale`` ``(c,)``.

    Raises:
        ValueError, TypeError: for a bad shape, kernel size or corner, or inputs with other channels.

    Reference: Hoogeboom, van den Berg and Welling, Emerging Convolutions for Generative Normalizing Flows, ICML 2019.

    >>> import torch
    >>> layer, images = AutoregressiveConvolution((3, 8, 8), kernel_size=2), torch.randn(4, 3, 8, 8)
    >>> outputs, logabsdet = layer(images)
    >>> bool(torch.allclose(layer.inverse(outputs)[0], images, atol=1e-5)), logabsdet.shape
    (True, torch.Size([4]))
    """

    def __init__(self, shape: Sequence[int], kernel_size: int = 2, corner: str = "upper left") -> None:
        super().__init__()
        self.num_channels = c = check_image_shape(shape)[0]
        self.kernel_size = k = check_positive_int("kernel_size", kernel_size)
        self.corner = check_one_of("corner", corner, CORNERS)
        self.weight = nn.Parameter(0.1 / (c * k * k) ** 0.5 * torch.randn(c, c, k, k))
        self.log_scale = nn.Parameter(torch.zeros(c))

    def extra_repr(self) -> str:
        """Show the arguments in ``print``."""
        return f"num_channels={self.num_channels}, kernel_size={self.kernel_size}, corner={self.corner!r}"

    def check_inputs(self, inputs: Tensor) -> None:
        """Refuse inputs with other channels."""
        check_channel_inputs(inputs, self.num_channels)

    def factors(self) -> list[Factor]:
        """The kernel, whose corner tap has the determinant."""
        _, upper = CORNERS[self.corner]
        return [Factor(UPPER if upper else LOWER, (self.weight, self.log_scale))]

    def multiplicities(self, inputs: Tensor) -> list[int]:
        """The number of pixels."""
        return [inputs.shape[2] * inputs.shape[3]]

    def map_by(self, inputs: Tensor, *matrices: Matrices) -> Tensor:
        """Convolve by the kernel, turned to its corner."""
        [(kernel,)], (axes, _) = matrices, CORNERS[self.corner]
        return triangular_conv.convolve(inputs, kernel, turned=axes)

    def unmap_by(self, inputs: Tensor, *matrices: Matrices) -> Tensor:
        """Turn the corner up and left, substitute, turn back."""
        [(kernel,)], (axes, upper) = matrices, CORNERS[self.corner]
        return _turned(triangular_conv.solve(_turned(inputs, axes), kernel, upper=upper), axes)


def _turned(images: Tensor, axes: tuple[int, ...]) -> Tensor:
    return images.flip(axes) if axes else images


def _kernels(weight: Tensor, log_scale: Tensor, *, upper: bool) -> tuple[Matrices, Tensor]:
    """Kernels as a pixel up and left sees them, and their log-dets per pixel; of stacked parameters (k, ...)."""
    bounded, corner = small.wide(log_scale).tanh(), weight[..., -1, -1]
    triangle = corner.triu(1) if upper else corner.tril(-1)
    kernels = triangular_conv.triangular(weight, triangle + torch.diag_embed(bounded.exp().to(weight.dtype)))
    return (kernels,), bounded.sum(-1)


UPPER, LOWER = (Kind(kernels, kernels) for kernels in (one_by_one(partial(_kernels, upper=up)) for up in (True, False)))


class EmergingConvolution(Chain):
    r"""Emerging convolution: a 1x1 convolution, then two autoregressive convolutions that face opposite ways.

    One looks up and left, with its channels in order, the other down and right, with its channels in reverse; each
    has a quadrant of side ``(d + 1) / 2``, and together they reach exactly the ``d x d`` window of a convolution:

    .. math:: y = K_2 * (K_1 * W x), \qquad \log|\det J| = h w\, (\log|\det W| + \sum_c s_{1c} + \sum_c s_{2c})

    Forward and inverse cost ``O(d^2 c^2 h w)`` per image; the inverse takes ``2 (h + w - 1)`` sequential steps. It
    starts near its 1x1 convolution.

    Args:
        shape: ``(c, h, w)``; only ``c`` matters, any ``h`` and ``w`` are accepted when called.
        kernel_size: ``d``, odd.
        init: of the 1x1 convolution, ``"rotation"`` or ``"identity"``.

    Shapes:
        inputs and outputs ``(B, c, h, w)``, ``logabsdet`` ``(B,)``.

    Raises:
        ValueError, TypeError: for a bad shape or start, an even kernel size or inputs with other channels.

    Reference: Hoogeboom, van den Berg and Welling, Emerging Convolutions for Generative Normalizing Flows, ICML 2019.
    The published diagonal is free and can vanish; here it cannot, see :class:`AutoregressiveConvolution`.

    >>> import torch
    >>> transform, images = EmergingConvolution((12, 16, 16)), torch.randn(4, 12, 16, 16)
    >>> outputs, logabsdet = transform(images)
    >>> bool(torch.allclose(transform.inverse(outputs)[0], images, atol=1e-5)), logabsdet.shape
    (True, torch.Size([4]))
    """

    def __init__(self, shape: Sequence[int], kernel_size: int = 3, init: str = "rotation") -> None:
        side = (check_odd_int("kernel_size", kernel_size) + 1) // 2
        facing = [AutoregressiveConvolution(shape, side, corner) for corner in ("upper left", "lower right")]
        super().__init__([InvertibleConv1x1(shape, init=init), *facing])
