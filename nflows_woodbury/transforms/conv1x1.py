"""Invertible 1x1 convolution: one matrix over the channels, the same at every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nflows_woodbury.checks import check_channel_inputs, check_image_shape, check_one_of
from nflows_woodbury.linalg import small
from nflows_woodbury.transforms.base import LinearTransform

__all__ = ["InvertibleConv1x1"]


class InvertibleConv1x1(LinearTransform):
    r"""Invertible 1x1 convolution, :math:`y_{:,ij} = W x_{:,ij}` with :math:`\log|\det J| = h w \log|\det W|`.

    It starts as a random rotation. ``"dense"`` holds ``W`` itself: the log-det is an LU factorisation, ``O(c^3)``
    per call. ``"plu"`` holds :math:`W = P L (U + \operatorname{diag}(\operatorname{sign} \odot e^{\text{log scale}}))`
    with a fixed permutation ``P``, a unit lower triangular ``L`` and a strictly upper triangular ``U``: the log-det is
    a sum, and ``W`` cannot become singular. Both ways cost ``O(c^2 h w)`` per image. The product is a
    matrix product, not ``conv2d``, which would round to TF32 on recent GPUs by default.

    Args:
        shape: ``(c, h, w)``; only ``c`` matters, any ``h`` and ``w`` are accepted when called.
        parametrization: ``"dense"`` or ``"plu"``.

    Shapes:
        inputs and outputs ``(B, c, h, w)``, ``logabsdet`` ``(B,)``.

    Raises:
        ValueError, TypeError: for a bad shape, an unknown parametrization or inputs with other channels.

    Reference: Kingma and Dhariwal, Glow, NeurIPS 2018, section 3.2.

    >>> import torch
    >>> outputs, logabsdet = InvertibleConv1x1((12, 16, 16), parametrization="plu")(torch.randn(4, 12, 8, 8))
    >>> outputs.shape, logabsdet.shape
    (torch.Size([4, 12, 8, 8]), torch.Size([4]))
    """

    def __init__(self, shape: Sequence[int], parametrization: str = "dense") -> None:
        super().__init__()
        self.num_channels = check_image_shape(shape)[0]
        check_one_of("parametrization", parametrization, PARAMETRIZATIONS)
        self.matrix: Any = PARAMETRIZATIONS[parametrization](self.num_channels)

    def check_inputs(self, inputs: Tensor) -> None:
        """Refuse inputs with other channels."""
        check_channel_inputs(inputs, self.num_channels)

    def map_forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """``W x`` at every pixel."""
        weight, logabsdet = self.matrix()
        return _mix(weight, inputs), _pixels(inputs) * logabsdet

    def map_inverse(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """``W^-1 x`` at every pixel."""
        weight, logabsdet = self.matrix.inverse()
        return _mix(weight, inputs), -_pixels(inputs) * logabsdet

    def solved_matrices(self, inputs: Tensor) -> Tensor:
        """The matrix, ``(c, c)``."""
        return self.matrix()[0]


class _Dense(nn.Module):
    """``W`` itself. ``forward`` returns ``W``, ``inverse`` its inverse, and both ``log |det W|`` in float64."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(_rotation(num_channels))

    def forward(self) -> tuple[Tensor, Tensor]:
        return self.weight, small.logabsdet(self.weight)

    def inverse(self) -> tuple[Tensor, Tensor]:
        # The inverse of W meets B h w vectors: forming it once, O(c^3), is cheaper than as many solves.
        return small.inverse(self.weight)


class _PLU(nn.Module):
    """``W = P L (U + diag)``, the c (c - 1) / 2 entries of each strict triangle as a vector; as :class:`_Dense`."""

    permutation: Tensor
    sign: Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        permutation, lower, upper = torch.linalg.lu(_rotation(num_channels))
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", diagonal.sign())
        self.log_scale = nn.Parameter(diagonal.abs().log())
        rows, columns = torch.tril_indices(num_channels, num_channels, -1)
        self.lower = nn.Parameter(lower[rows, columns])
        self.upper = nn.Parameter(upper[columns, rows])

    def forward(self) -> tuple[Tensor, Tensor]:
        permutation, lower, upper, log_scale = self._factors()
        return (permutation @ lower @ upper).to(self.lower.dtype), log_scale.sum()

    def inverse(self) -> tuple[Tensor, Tensor]:
        permutation, lower, upper, log_scale = self._factors()
        inverse = small.triangular_inverse(upper, upper=True) @ small.triangular_inverse(lower, upper=False)
        return (inverse @ permutation.mT).to(self.lower.dtype), log_scale.sum()

    def _factors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``P``, ``L``, ``U + diag`` and the log scale, in float64."""
        tensors = self.permutation, self.sign, self.log_scale, self.lower, self.upper
        permutation, sign, log_scale, below, above = map(small.wide, tensors)
        rows, columns = torch.tril_indices(len(permutation), len(permutation), -1, device=permutation.device)
        lower = torch.ones_like(log_scale).diag().index_put((rows, columns), below)
        return permutation, lower, (sign * log_scale.exp()).diag().index_put((columns, rows), above), log_scale


PARAMETRIZATIONS: dict[str, type[nn.Module]] = {"dense": _Dense, "plu": _PLU}


def _rotation(n: int) -> Tensor:
    return torch.linalg.qr(torch.randn(n, n)).Q


def _mix(weight: Tensor, inputs: Tensor) -> Tensor:
    # matmul by a weight that learns would transpose the images, and copy them
    return torch.bmm(weight.expand(inputs.shape[0], -1, -1), inputs.flatten(2)).view(inputs.shape)


def _pixels(inputs: Tensor) -> int:
    return inputs.shape[2] * inputs.shape[3]
