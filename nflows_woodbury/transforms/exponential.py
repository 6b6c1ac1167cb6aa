"""Convolution exponential: the matrix exponential of a convolution, invertible for every kernel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nflows_woodbury.checks import check_channel_inputs, check_image_shape, check_natural_number, check_odd_int
from nflows_woodbury.linalg import exponential, small
from nflows_woodbury.linalg.modes import is_plain
from nflows_woodbury.transforms.base import LinearTransform

__all__ = ["ConvolutionExponential"]

_LARGEST = 88  # of norms, whose exponential float32 holds


class ConvolutionExponential(LinearTransform):
    r"""The exponential of a convolution ``M`` with zero padding.

    .. math::

        y = e^M x = \sum_k \frac{M^k x}{k!}, \qquad x = e^{-M} y, \qquad
        \log|\det J| = h w \operatorname{tr} K_{\text{centre}}

    The log-det is exact for any kernel: in ``M`` a pixel meets itself through the centre tap alone. The series stops at
    the first term from which on the rest is below the resolution of the layer's dtype, for the map and its first two
    derivatives, by the bound :math:`\|M\|_2 \le b = \sum_{ij} \|K_{ij}\|_2` of
    :mod:`nflows_woodbury.linalg.exponential`. A kernel whose bound exceeds ``max_norm`` is scaled down to it, which
    bounds the number of terms, and the condition of the map by ``e^(2 max_norm)``. The terms are those of ``b`` in
    eager calls on a CPU, 6 at the start in float32, and those of ``max_norm``, 19, where reading ``b`` would stall a
    device or break a graph. ``m`` terms reach every pixel within ``m (k - 1) / 2`` rows and columns. A ``b`` above 3
    makes several such maps in a row, of ``M`` over their number, whose terms add up.

    Forward and inverse cost ``O(m k^2 c^2 h w)`` per image, and training keeps ``m`` images in memory for each. It
    starts near the identity.

    Args:
        shape: ``(c, h, w)``; only ``c`` matters, any ``h`` and ``w`` are accepted when called.
        kernel_size: ``k``, odd.
        max_norm: the largest bound ``b``, above 0; at most 88, as the map could be larger than float32 otherwise.

    Shapes:
        inputs and outputs ``(B, c, h, w)``, ``logabsdet`` ``(B,)``; parameter ``weight`` ``(c, c, k, k)``.

    Raises:
        ValueError, TypeError: for a bad shape or norm, an even kernel size, or inputs with other channels.

    Reference: Hoogeboom, Garcia Satorras, Tomczak and Welling, The Convolution Exponential and Generalized Sylvester
    Flows, NeurIPS 2020. There the norm is estimated by power iteration and 6 terms are taken, 13 when not training;
    here it is bounded, and the terms follow from it. Their layer has a 1x1 convolution before it, as the mixing
    ``"exponential"`` of :data:`nflows_woodbury.config.names.MIXINGS` has, and shifts around it.

    >>> import torch
    >>> layer, images = ConvolutionExponential((12, 16, 16)), torch.randn(4, 12, 16, 16)
    >>> outputs, logabsdet = layer(images)
    >>> bool(torch.allclose(layer.inverse(outputs)[0], images, atol=1e-5)), logabsdet.shape
    (True, torch.Size([4]))
    """

    def __init__(self, shape: Sequence[int], kernel_size: int = 3, max_norm: float = 3.0) -> None:
        super().__init__()
        self.num_channels = c = check_image_shape(shape)[0]
        self.kernel_size = k = check_odd_int("kernel_size", kernel_size)
        self.max_norm = check_natural_number("max_norm", max_norm)
        if not 0 < self.max_norm <= _LARGEST:
            raise ValueError(f"max_norm must be above 0 and at most {_LARGEST}, got {max_norm}")
        self.weight = nn.Parameter(0.1 / (c * k * k) ** 0.5 * torch.randn(c, c, k, k))

    def extra_repr(self) -> str:
        """Show the arguments in ``print``."""
        return f"num_channels={self.num_channels}, kernel_size={self.kernel_size}, max_norm={self.max_norm}"

    def check_inputs(self, inputs: Tensor) -> None:
        """Refuse inputs with other channels."""
        check_channel_inputs(inputs, self.num_channels)

    def map_forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """``e^M x``."""
        kernel, series = self._series(inputs)
        return exponential.exp_convolve(inputs, kernel, *series), self._logabsdet(kernel, inputs)

    def map_inverse(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """``e^-M x``."""
        kernel, series = self._series(inputs)
        return exponential.exp_convolve(inputs, -kernel, *series), -self._logabsdet(kernel, inputs)

    def _series(self, inputs: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """The kernel within its bound, and the numbers of factors and of terms."""
        kernel, norm = exponential.bound_norm(self.weight, self.max_norm)
        readable = inputs.device.type == "cpu" and is_plain(inputs, norm)
        bound = float(norm.detach()) if readable else self.max_norm
        return kernel, exponential.factors_and_terms(bound, kernel.dtype)

    def _logabsdet(self, kernel: Tensor, inputs: Tensor) -> Tensor:
        centre = self.kernel_size // 2
        return inputs.shape[2] * inputs.shape[3] * small.wide(kernel[:, :, centre, centre]).trace()
