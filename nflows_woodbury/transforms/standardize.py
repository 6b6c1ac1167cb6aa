"""Standardization: a fixed mean and scale for each channel, taken from data."""

from __future__ import annotations

import torch
from torch import Tensor

from nflows_woodbury.checks import check_channels, check_layer_dtype, check_positive_int
from nflows_woodbury.linalg.grids import along_channels, channel_statistics
from nflows_woodbury.transforms.base import LinearTransform
from nflows_woodbury.transforms.initialization import DataInitialized

__all__ = ["Standardize"]


class Standardize(LinearTransform, DataInitialized):
    r"""Subtracts a mean and divides by a scale, one of each per channel, as the first transform of a field flow.

    .. math:: y_c = (x_c - m_c) / d_c, \qquad \log|\det J| = -k \sum_c \log d_c

    with ``k`` entries in a channel. It is the identity until :meth:`initialize` is called (or
    :func:`nflows_woodbury.initialize` on the whole model), and is not trained: what comes behind it sees numbers of
    size 1 in whatever units the data are. Mean and scale are buffers, and in the state dict. A channel that is constant
    in the data keeps its scale.

    Args:
        num_channels: ``c``.

    Shapes:
        inputs and outputs ``(B, c)`` or ``(B, c, ...)``; ``logabsdet`` ``(B,)``; ``mean`` and ``scale`` ``(c,)``.

    Raises:
        ValueError, TypeError: for a bad ``num_channels``, inputs with other channels or of another dtype.

    >>> import torch
    >>> layer, fields = Standardize(2), 273 + 15 * torch.randn(64, 2, 8, 8)
    >>> layer.initialize(fields)
    >>> outputs, logabsdet = layer(fields)
    >>> bool(outputs.mean().abs() < 1e-4), bool((outputs.std() - 1).abs() < 1e-3)
    (True, True)
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.num_channels = check_positive_int("num_channels", num_channels)
        self.register_buffer("mean", torch.zeros(num_channels))
        self.register_buffer("scale", torch.ones(num_channels))

    @torch.no_grad()
    def initialize(self, inputs: Tensor) -> None:
        """Take mean and scale from a batch; ValueError for one without a value, or with one that is not finite."""
        mean, scale = self._statistics(inputs)
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    @torch.no_grad()
    def initialize_inverse(self, inputs: Tensor) -> None:
        """Likewise for ``inputs`` of the inverse: ``(y - m) / d = d' y + m'``, ``d' = 1 / d`` and ``m' = -m / d``."""
        mean, scale = self._statistics(inputs)
        self.mean.copy_(-mean / scale)
        self.scale.copy_(1 / scale)

    def extra_repr(self) -> str:
        """Show the argument in ``print``."""
        return f"num_channels={self.num_channels}"

    def check_inputs(self, inputs: Tensor) -> None:
        """Refuse inputs with other channels, or of another dtype."""
        check_channels(inputs, self.num_channels)
        check_layer_dtype(inputs, self.mean.dtype)

    def map_forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """``y = (x - m) / d``."""
        mean, scale = (along_channels(values, inputs.dim() - 2) for values in (self.mean, self.scale))
        return (inputs - mean) / scale, -self._logabsdet(inputs)

    def map_inverse(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """``x = d y + m``."""
        mean, scale = (along_channels(values, inputs.dim() - 2) for values in (self.mean, self.scale))
        return inputs * scale + mean, self._logabsdet(inputs)

    def _logabsdet(self, inputs: Tensor) -> Tensor:
        """``k sum log d``."""
        return inputs.shape[2:].numel() * self.scale.log().sum()

    def _statistics(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and scale of each channel, in float64."""
        self.check_inputs(inputs)
        std, mean = channel_statistics(inputs)
        return mean, torch.where(std > 0, std, 1.0)
