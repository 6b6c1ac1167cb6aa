"""Circulant-diagonal layer: a matrix over the channels as a product of circulant and diagonal ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import pi

import torch
from torch import Tensor, nn

from nflows_woodbury.checks import check_channel_inputs, check_one_of, check_positive_int, check_shape
from nflows_woodbury.linalg import circulant, small
from nflows_woodbury.linalg.grids import columns, num_pixels
from nflows_woodbury.transforms.base import LinearTransform
from nflows_woodbury.transforms.dense import DenseAlongAxes

__all__ = ["CirculantDiagonal"]

#: channels from which on the Fourier transform beats the dense product
FOURIER_CHANNELS = 256


class CirculantDiagonal(LinearTransform):
    r"""A 1x1 convolution whose matrix alternates diagonal and circulant factors.

    .. math::

        y_{:,ij} = D_1 C_1 D_2 C_2 \cdots C_{m-1} D_m\, x_{:,ij}, \qquad
        \log|\det J| = h w \Bigl(\sum_i \log|\det D_i| + \sum_i \sum_f \log|\hat c_{i,f}|\Bigr)

    with the eigenvalues :math:`\hat c_i` of ``C_i``, the Fourier transform of its first column. The inverse divides,
    the factors in reverse order. Entries of the diagonals are :math:`\pm e^s`, eigenvalues :math:`e^{a + i \varphi}`,
    in conjugate pairs: the log-det is the sum of all ``s`` and ``a``, and nothing can become singular.

    In the Fourier domain both ways cost ``O(m c log c)`` per pixel. A product with the matrix, formed once per call in
    ``O(m c^2 log c)``, costs ``c^2`` per pixel, but of faster operations: on one thread of a CPU, float32, with 16x16
    pixels, it takes 0.3 of the Fourier domain's time at 96 channels, as long at 256 and 5 times as long at 1024. The
    layer multiplies by the matrix below 256 channels. (On GPUs this was not measured.)

    Args:
        shape: ``(c, h, w)``; only ``c`` matters, any ``h`` and ``w`` are accepted when called.
        num_circulants: ``m - 1``; ``c - 1`` of them reach every matrix (Huhtanen and Peramaki, 2015).
        init: ``"rotation"``: random signs and phases, an orthogonal matrix with log-det 0; or ``"identity"``.

    Shapes:
        inputs and outputs ``(B, c, h, w)``, ``logabsdet`` ``(B,)``; parameters ``log_scale`` ``(m, c)``,
        ``log_modulus`` ``(m - 1, c // 2 + 1)``, ``phase`` ``(m - 1, (c - 1) // 2)``.

    Raises:
        ValueError, TypeError: for a bad shape, number or start, or inputs with other channels.

    Reference: Feng and Liao, CDFlow: Building Invertible Layers with Circulant and Diagonal Matrices, NeurIPS 2025.
    There the diagonals and eigenvalues themselves are the parameters, and can vanish.

    >>> import torch
    >>> layer, images = CirculantDiagonal((12, 16, 16)), torch.randn(4, 12, 16, 16)
    >>> outputs, logabsdet = layer(images)
    >>> bool(torch.allclose(layer.inverse(outputs)[0], images, atol=1e-5)), logabsdet.shape
    (True, torch.Size([4]))
    """

    diagonal_sign: Tensor
    real_sign: Tensor

    def __init__(self, shape: Sequence[int], num_circulants: int = 1, init: str = "rotation") -> None:
        super().__init__()
        shape = check_shape(shape)
        c = self.num_channels = shape[0]
        self.num_axes = len(shape) - 1
        self.num_circulants = k = check_positive_int("num_circulants", num_circulants)
        signs, phases = STARTS[check_one_of("init", init, STARTS)]
        self.register_buffer("diagonal_sign", signs(k + 1, c))
        self.register_buffer("real_sign", signs(k, 2 - c % 2))  # of the frequencies 0 and c / 2
        self.log_scale = nn.Parameter(torch.zeros(k + 1, c))
        self.log_modulus = nn.Parameter(torch.zeros(k, c // 2 + 1))
        self.phase = nn.Parameter(phases(k, (c - 1) // 2))

    def extra_repr(self) -> str:
        """Show the arguments in ``print``."""
        return f"num_channels={self.num_channels}, num_circulants={self.num_circulants}"

    def check_inputs(self, inputs: Tensor) -> None:
        """Refuse inputs with other channels."""
        check_channel_inputs(inputs, self.num_channels, self.num_axes)

    def map_forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The factors, the last one first."""
        return _apply(*self._factors(), inputs), self._logabsdet(inputs)

    def map_inverse(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Divide by the factors, the first one first."""
        return _apply(*circulant.invert(*self._factors()), inputs), -self._logabsdet(inputs)

    def factored(self) -> DenseAlongAxes | None:
        """The dense matrix that the layer multiplies by, where it does; above that, None."""
        if self.num_channels >= FOURIER_CHANNELS:
            return None
        diagonals, spectra = self._factors()
        identity = torch.eye(self.num_channels, dtype=diagonals.dtype, device=diagonals.device)
        check = partial(check_channel_inputs, num_channels=self.num_channels, num_axes=self.num_axes)
        return DenseAlongAxes(circulant.multiply(diagonals, spectra, identity), (0,), self.log_scale.dtype, check)

    def _factors(self) -> tuple[Tensor, Tensor]:
        """Diagonals and eigenvalues, in double precision."""
        parameters = self.log_modulus, self.phase, self.real_sign
        spectra = circulant.spectrum(*map(small.wide, parameters))
        return small.wide(self.diagonal_sign) * small.wide(self.log_scale).exp(), spectra

    def _logabsdet(self, inputs: Tensor) -> Tensor:
        counts = circulant.frequencies(self.num_channels).to(self.log_modulus.device)
        total = small.wide(self.log_scale).sum() + (small.wide(self.log_modulus) * counts).sum()
        return num_pixels(inputs) * total


def _apply(diagonals: Tensor, spectra: Tensor, inputs: Tensor) -> Tensor:
    """In the Fourier domain, or as a product with the matrix."""
    c, vectors = diagonals.shape[1], columns(inputs)
    if c >= FOURIER_CHANNELS:
        spectra = torch.complex(spectra.real.to(inputs.dtype), spectra.imag.to(inputs.dtype))
        return circulant.multiply(diagonals.to(inputs.dtype), spectra, vectors).view(inputs.shape)
    identity = torch.eye(c, dtype=diagonals.dtype, device=inputs.device)
    matrix = circulant.multiply(diagonals, spectra, identity).to(inputs.dtype)
    return torch.bmm(matrix.expand(inputs.shape[0], -1, -1), vectors).view(inputs.shape)


def _random_signs(*size: int) -> Tensor:
    return 2.0 * torch.randint(2, size) - 1


def _random_phases(*size: int) -> Tensor:
    return pi * (2 * torch.rand(size) - 1)


#: name -> signs and phases of a size
STARTS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "rotation": (_random_signs, _random_phases),
    "identity": (torch.ones, torch.zeros),
}
