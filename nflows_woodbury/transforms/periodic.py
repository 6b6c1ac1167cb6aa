"""Periodic convolution: a convolution on the torus, a small matrix at each spatial frequency."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from nflows_woodbury.checks import check_channel_inputs, check_image_inputs, check_image_shape, check_positive_int
from nflows_woodbury.linalg import small
from nflows_woodbury.linalg.factors import Factor, Kind, Matrices, one_by_one
from nflows_woodbury.linalg.modes import is_traced
from nflows_woodbury.linalg.starts import start_matrices
from nflows_woodbury.transforms.base import FactoredTransform, LinearTransform

__all__ = ["PeriodicConvolution"]


class PeriodicConvolution(LinearTransform):
    r"""A convolution with periodic boundary.

    .. math:: y_{ij} = \sum_{a, b < d} K_{ab}\, x_{(i + a - m) \bmod h,\; (j + b - m) \bmod w}, \qquad m = d // 2

    The discrete Fourier transform turns it into one ``c x c`` matrix at each frequency,

    .. math::

        \hat y_f = \overline{\hat K_f}\, \widehat{(S x)}_f, \qquad
        \log|\det J| = \sum_f \log|\det \hat K_f|

    with ``S`` the cyclic shift by ``m`` that centres the kernel, a permutation. Images and kernel are real, so the
    frequencies ``f`` and ``-f`` have conjugate matrices: only ``w // 2 + 1`` columns of frequencies are computed, and
    in the sum the columns 0 and, for even ``w``, ``w / 2`` count once, holding their own conjugates, the others twice.
    The inverse solves with the same matrices. Forward and inverse cost ``O(c h w log(h w) + c^2 h w)`` per image, and
    the matrices with their determinants ``O(c^2 h w log(h w) + c^3 h w)`` once per call.

    It starts as a random rotation or the identity at the centre tap, plus small random taps. As in a dense 1x1
    convolution, the log-det alone keeps it from becoming singular.

    Args:
        shape: ``(c, h, w)``; when called, any ``h`` and ``w`` that the kernel fits into are accepted.
        kernel_size: ``d``, at most ``h`` and ``w``.
        init: of the centre tap, ``"rotation"`` or ``"identity"``.

    Shapes:
        inputs and outputs ``(B, c, h, w)``, ``logabsdet`` ``(B,)``; parameter ``weight`` ``(c, c, d, d)``.

    Raises:
        ValueError, TypeError: for a bad shape, kernel size or start, a kernel larger than the image, or inputs with
            other channels.

    Reference: Hoogeboom, van den Berg and Welling, Emerging Convolutions for Generative Normalizing Flows, ICML 2019.

    >>> import torch
    >>> layer, images = PeriodicConvolution((3, 8, 7)), torch.randn(4, 3, 8, 7)
    >>> outputs, logabsdet = layer(images)
    >>> bool(torch.allclose(layer.inverse(outputs)[0], images, atol=1e-5)), logabsdet.shape
    (True, torch.Size([4]))
    """

    def __init__(self, shape: Sequence[int], kernel_size: int = 3, init: str = "rotation") -> None:
        super().__init__()
        self.shape = self.num_channels, height, width = check_image_shape(shape)
        self.kernel_size = check_positive_int("kernel_size", kernel_size)
        self._fits("shape", height, width)
        c, d = self.num_channels, self.kernel_size
        weight = 0.1 / (c * d * d) ** 0.5 * torch.randn(c, c, d, d)
        weight[:, :, d // 2, d // 2] += start_matrices(init, c)
        self.weight = nn.Parameter(weight)

    def extra_repr(self) -> str:
        """Show the arguments in ``print``."""
        return f"num_channels={self.num_channels}, kernel_size={self.kernel_size}"

    def check_inputs(self, inputs: Tensor) -> None:
        """Refuse inputs with other channels, or smaller than the kernel."""
        check_channel_inputs(inputs, self.num_channels)
        self._fits("inputs", *inputs.shape[2:])

    def _fits(self, name: str, height: int, width: int) -> None:
        if self.kernel_size > min(height, width):
            raise ValueError(
                f"{name} must be at least as high and wide as the kernel, {self.kernel_size} x {self.kernel_size}, "
                f"got {height} x {width}"
            )

    def map_forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Centre the kernel, multiply by the matrix of each frequency."""
        shift, matrices = self.kernel_size // 2, self._matrices(*inputs.shape[2:])
        columns = _spectrum(inputs.roll((shift, shift), (2, 3)))
        outputs = _image(matrices.to(columns.dtype) @ columns, inputs.shape[2:])
        return outputs, _total(small.logabsdet(matrices), inputs.shape[3])

    def map_inverse(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Solve with the matrix of each frequency, undo the shift."""
        shift, matrices = self.kernel_size // 2, self._matrices(*inputs.shape[2:])
        columns, logabsdets = small.solve(matrices, _spectrum(inputs))
        outputs = _image(columns, inputs.shape[2:]).roll((-shift, -shift), (2, 3))
        return outputs, -_total(logabsdets, inputs.shape[3])

    def solved_matrices(self, inputs: Tensor) -> Tensor:
        """The matrix of each independent frequency, ``(h, w // 2 + 1, c, c)``."""
        return self._matrices(*inputs.shape[2:])

    def factored(self) -> _AtOneSize:
        """The matrices of all frequencies of images of the layer's ``shape``, the only ones that a frozen one takes."""
        return _AtOneSize(self.shape, self._matrices(*self.shape[1:]), self.kernel_size, self.weight.dtype)

    def _matrices(self, height: int, width: int) -> Tensor:
        """The matrix of each independent frequency in complex128, (h, w // 2 + 1, c, c)."""
        kernel = small.wide(self.weight)
        return torch.fft.rfft2(kernel, s=(height, width)).conj().permute(2, 3, 0, 1)


class _AtOneSize(FactoredTransform):
    """The convolution of images of one size, whose matrices are constants, complex numbers as pairs of real ones."""

    def __init__(self, shape: tuple[int, int, int], matrices: Tensor, kernel_size: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.shape, self.kernel_size, self.dtype = shape, kernel_size, dtype
        self.register_buffer("matrices", torch.view_as_real(matrices.resolve_conj()))

    def check_inputs(self, inputs: Tensor) -> None:
        """Refuse images of another size."""
        check_image_inputs(inputs, self.shape)

    def factors(self) -> list[Factor]:
        """The matrices of the independent frequencies."""
        ways = [partial(way, width=self.shape[2], dtype=self.dtype) for way in (_map, _inverse)]
        return [Factor(Kind(*map(one_by_one, ways)), (self.get_buffer("matrices"),))]

    def multiplicities(self, inputs: Tensor) -> list[int]:
        """All frequencies are in the log-det of the factor."""
        return [1]

    def map_by(self, inputs: Tensor, *matrices: Matrices) -> Tensor:
        """Centre the kernel, multiply by the matrix of each frequency."""
        [(pairs,)], shift = matrices, self.kernel_size // 2
        columns = torch.view_as_complex(pairs) @ _spectrum(torch.roll(inputs, (shift, shift), (2, 3)))
        return _image(columns, inputs.shape[2:])

    def unmap_by(self, inputs: Tensor, *matrices: Matrices) -> Tensor:
        """Multiply by the inverse matrix of each frequency, undo the shift."""
        [(pairs,)], shift = matrices, self.kernel_size // 2
        columns = torch.view_as_complex(pairs) @ _spectrum(inputs)
        return torch.roll(_image(columns, inputs.shape[2:]), (-shift, -shift), (2, 3))


def _map(pairs: Tensor, width: int, dtype: torch.dtype) -> tuple[Matrices, Tensor]:
    return (pairs.to(dtype),), _total(small.logabsdet(torch.view_as_complex(pairs)), width)


def _inverse(pairs: Tensor, width: int, dtype: torch.dtype) -> tuple[Matrices, Tensor]:
    inverses, logabsdets = small.inverse(torch.view_as_complex(pairs))
    return (torch.view_as_real(inverses.resolve_conj()).to(dtype),), _total(logabsdets, width)


def _spectrum(images: Tensor) -> Tensor:
    """The channels of all images at each independent frequency, (h, w // 2 + 1, c, B)."""
    if _is_empty(images):
        return images.permute(2, 3, 1, 0)[:, : images.shape[3] // 2 + 1] + 0j
    return torch.fft.rfft2(images).permute(2, 3, 1, 0)


def _image(columns: Tensor, size: torch.Size) -> Tensor:
    """The inverse of :func:`_spectrum`, for images of this height and width."""
    spectra = columns.permute(3, 2, 0, 1)
    if _is_empty(spectra):
        return spectra.real[..., :1].expand(-1, -1, -1, size[1])  # with a graph, as any outputs
    return torch.fft.irfft2(spectra, s=size)


def _is_empty(batch: Tensor) -> bool:
    """Whether there is no image, which oneMKL refuses; not asked of compilers and tracers, whose batch may be any."""
    return not is_traced() and not batch.shape[0]


def _total(values: Tensor, width: int) -> Tensor:
    """The sum over all ``h w`` frequencies, from the (h, w // 2 + 1) independent ones."""
    once = values[:, [0, -1]] if width % 2 == 0 else values[:, :1]  # the others stand for their conjugates as well
    return once.sum() + 2 * values[:, 1 : (width + 1) // 2].sum()
