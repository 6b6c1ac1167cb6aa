"""Activation normalization: a scale and a shift per channel, started from data on request."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nflows_woodbury.checks import check_channel_inputs, check_positive_int
from nflows_woodbury.transforms.base import LinearTransform
from nflows_woodbury.transforms.initialization import DataInitialized

__all__ = ["ActNorm"]


class ActNorm(LinearTransform, DataInitialized):
    r"""A scale and a shift per channel, :math:`y_c = e^{s_c} (x_c + b_c)` with :math:`\log|\det J| = h w \sum_c s_c`.

    It is the identity until :meth:`initialize` is called (or :func:`nflows_woodbury.initialize` on the whole model):
    nothing happens behind your back in the first batch, in eval, while sampling or under autocast.

    Args:
        num_channels: ``c``.
        min_std: floor on the standard deviation that :meth:`initialize` divides by, so that a constant channel starts
            with a large finite scale instead of NaN.

    Shapes:
        inputs and outputs ``(B, c, h, w)``, any ``h`` and ``w``; ``logabsdet`` ``(B,)``.

    Raises:
        ValueError, TypeError: for a bad ``num_channels`` or ``min_std``, or inputs with other channels.

    Reference: Kingma and Dhariwal, Glow, NeurIPS 2018, section 3.1.

    >>> import torch
    >>> layer, images = ActNorm(3), 5 + 2 * torch.randn(64, 3, 8, 8)
    >>> layer.initialize(images)
    >>> outputs, logabsdet = layer(images)
    >>> bool(outputs.mean().abs() < 1e-5), bool((outputs.std() - 1).abs() < 1e-3)
    (True, True)
    """

    def __init__(self, num_channels: int, min_std: float = 1e-3) -> None:
        super().__init__()
        self.num_channels = check_positive_int("num_channels", num_channels)
        if not min_std > 0:
            raise ValueError(f"min_std must be positive, got {min_std}")
        self.min_std = min_std
        self.log_scale = nn.Parameter(torch.zeros(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    @torch.no_grad()
    def initialize(self, inputs: Tensor) -> None:
        """Set scale and shift so that ``inputs`` leave with mean 0 and standard deviation 1 in each channel."""
        self.check_inputs(inputs)
        if not inputs.numel():
            raise ValueError(f"inputs must hold at least one value, got shape {tuple(inputs.shape)}")
        std, mean = torch.std_mean(inputs, dim=(0, 2, 3), correction=0)
        self.bias.copy_(-mean)
        self.log_scale.copy_(-std.clamp_min(self.min_std).log())

    @torch.no_grad()
    def initialize_inverse(self, inputs: Tensor) -> None:
        """Likewise for ``inputs`` of the inverse: ``(y - m) / d = e^-s y - b`` with ``s = log d`` and ``b = m / d``."""
        self.initialize(inputs)
        self.log_scale.neg_()
        self.bias.mul_(-(-self.log_scale).exp())

    def extra_repr(self) -> str:
        """Show the arguments in ``print``."""
        return f"num_channels={self.num_channels}"

    def check_inputs(self, inputs: Tensor) -> None:
        """Refuse inputs with other channels."""
        check_channel_inputs(inputs, self.num_channels)

    def map_forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """``y = e^s (x + b)``: the shift first, as ``e^s x + e^s b`` cancels where the mean exceeds the deviation."""
        outputs = (inputs + self.bias.view(-1, 1, 1)) * self.log_scale.exp().view(-1, 1, 1)
        return outputs, self._logabsdet(inputs)

    def map_inverse(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """``x = e^-s y - b``."""
        outputs = inputs * (-self.log_scale).exp().view(-1, 1, 1) - self.bias.view(-1, 1, 1)
        return outputs, -self._logabsdet(inputs)

    def _logabsdet(self, inputs: Tensor) -> Tensor:
        return inputs.shape[2] * inputs.shape[3] * self.log_scale.sum()
