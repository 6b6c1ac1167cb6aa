"""Activation normalization: a scale and a shift per channel, started from data on request."""

from __future__ import annotations

from typing import Any
from warnings import warn

import torch
from torch import Tensor, nn

from nflows_woodbury.checks import check_channels, check_positive_int
from nflows_woodbury.linalg.affine import along_channels, channelwise
from nflows_woodbury.linalg.factors import DIAGONAL, Factor, Matrices
from nflows_woodbury.linalg.grids import channel_statistics
from nflows_woodbury.linalg.modes import is_plain
from nflows_woodbury.transforms.base import FactoredTransform
from nflows_woodbury.transforms.initialization import DataInitialized

__all__ = ["ActNorm"]


class ActNorm(FactoredTransform, DataInitialized):
    r"""A scale and a shift per channel, :math:`y_c = e^{s_c} (x_c + b_c)` with :math:`\log|\det J| = m \sum_c s_c`.

    ``m`` is the number of pixels. It is the identity until :meth:`initialize` is called (or
    :func:`nflows_woodbury.initialize` on the whole model): nothing happens behind your back in the first batch, in
    eval, while sampling or under autocast. Trained without a start, and without loaded values, it warns once.

    Args:
        num_channels: ``c``.
        min_std: floor on the standard deviation that :meth:`initialize` divides by, so that a constant channel starts
            with a large finite scale instead of NaN.

    Shapes:
        inputs and outputs ``(B, c)`` or ``(B, c, ...)``, such as ``(B, c, h, w)``; ``logabsdet`` ``(B,)``; parameters
        ``log_scale`` and ``bias`` ``(c,)``. State dicts of nflows' ``ActNorm`` load: its ``shift`` is ``e^s b``.

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
        self._started = False  # no buffer: forward would wait for a device to read it

    @torch.no_grad()
    def initialize(self, inputs: Tensor) -> None:
        """Set scale and shift so that ``inputs`` leave with mean 0 and standard deviation 1 in each channel.

        A second call warns: it replaces what has been learned. ValueError for inputs without a value, or with one that
        is not finite.
        """
        self.check_inputs(inputs)
        std, mean = channel_statistics(inputs)
        if self._started:
            warn("ActNorm has been started or loaded before; its scale and shift are set anew", stacklevel=2)
        self.bias.copy_(-mean)
        self.log_scale.copy_(-std.clamp_min(self.min_std).log())
        self._started = True

    @torch.no_grad()
    def initialize_inverse(self, inputs: Tensor) -> None:
        """Likewise for ``inputs`` of the inverse: ``(y - m) / d = e^-s y - b`` with ``s = log d`` and ``b = m / d``."""
        self.initialize(inputs)
        self.log_scale.neg_()
        self.bias.mul_(-(-self.log_scale).exp())

    @property
    def shift(self) -> Tensor:
        """``e^s b``, what nflows' ``ActNorm`` calls so."""
        return self.log_scale.exp() * self.bias

    def extra_repr(self) -> str:
        """Show the arguments in ``print``."""
        return f"num_channels={self.num_channels}"

    def check_inputs(self, inputs: Tensor) -> None:
        """Refuse inputs with other channels."""
        check_channels(inputs, self.num_channels)

    def factors(self) -> list[Factor]:
        """The scale, a diagonal over the channels."""
        return [Factor(DIAGONAL, (self.log_scale,))]

    def multiplicities(self, inputs: Tensor) -> list[int]:
        """The number of pixels."""
        return [inputs.shape[2:].numel()]

    def map_by(self, inputs: Tensor, *matrices: Matrices) -> Tensor:
        """``y = e^s (x + b)``: the shift first, as ``e^s x + e^s b`` cancels where the mean exceeds the deviation."""
        [(scale,)] = matrices
        outputs = channelwise(inputs, self.bias, scale)
        if self.training and not self._started and outputs.requires_grad and is_plain(outputs):
            outputs.register_hook(self._warn_once)
        return outputs

    def unmap_by(self, inputs: Tensor, *matrices: Matrices) -> Tensor:
        """``x = e^-s y - b``."""
        [(scale,)] = matrices
        return inputs * along_channels(scale, inputs) - along_channels(self.bias, inputs)

    def _warn_once(self, gradient: Tensor) -> None:
        """Called in the backward pass of a layer that has not been started."""
        by_hand = self.log_scale.any() or self.bias.any()
        if not (self._started or by_hand):
            warn(
                "ActNorm is trained without a start from data; call nflows_woodbury.initialize(model, inputs) first "
                "(or .initialize of an ImageFlow), or load a state dict",
                stacklevel=2,
            )
        self._started = True

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        log_scale, shift = (state_dict.get(prefix + name) for name in ("log_scale", "shift"))
        self._started = log_scale is not None
        if log_scale is not None and shift is not None:  # from nflows
            self._started = bool(state_dict.pop(prefix + "initialized", True))
            state_dict[prefix + "bias"] = state_dict.pop(prefix + "shift") * (-log_scale).exp()
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
