"""The logit of data within bounds: onto the whole line, entry by entry."""

from __future__ import annotations

from math import isfinite, log, prod
from numbers import Real

import torch
from nflows.transforms.base import Transform
from torch import Tensor
from torch.nn import functional as F

from nflows_woodbury.checks import check_floating
from nflows_woodbury.linalg.modes import is_plain
from nflows_woodbury.linalg.precision import full_precision, sum_pixels

__all__ = ["Logit"]


class Logit(Transform):
    r"""The logit of values between two bounds, as the first transform of a field flow.

    .. math:: u = m + (1 - 2 m) \frac{x - a}{b - a}, \quad y = \log u - \log(1 - u), \quad
              \log|\det J| = \sum \big( \log \tfrac{1 - 2 m}{b - a} - \log u - \log(1 - u) \big)

    The margin ``m`` keeps values that lie on a bound finite. In return samples may pass a bound by the share
    ``m / (1 - 2 m)`` of the range: with the default by a thousandth of it. Data that crowd at a bound, such as empty
    pixels, are no density there, whatever the margin: leave them out, or add noise.

    nflows' ``Logit`` moves values within 1e-6 of a bound without a word, which its log-det leaves out, knows the bounds
    0 and 1 alone, and looks at every batch's values, which stalls a GPU.

    Args:
        low: ``a``, the lower bound.
        high: ``b``, the upper bound.
        margin: ``m``, at least 0 and below 1/2; 0 for data that never touch a bound.

    Shapes:
        inputs and outputs ``(B, ...)`` of any floating dtype; ``logabsdet`` ``(B,)``.

    Raises:
        ValueError, TypeError: for bounds or a margin that are none; on the CPU in plain eager calls for inputs outside
            the bounds, and on one of them with a margin of 0. Elsewhere a look would stall the device: there the
            outputs are nan or infinite.

    Reference: Papamakarios, Pavlakou and Murray, Masked autoregressive flow for density estimation, NeurIPS 2017,
    section 4.3.

    >>> import torch
    >>> logit = Logit(0, 100)
    >>> outputs, logabsdet = logit(torch.tensor([[0.0, 50.0, 100.0]]))
    >>> [round(y, 2) for y in outputs[0].tolist()], [round(x) for x in logit.inverse(outputs)[0][0].tolist()]
    ([-6.91, 0.0, 6.91], [0, 50, 100])
    """

    def __init__(self, low: float = 0.0, high: float = 1.0, margin: float = 1e-3) -> None:
        super().__init__()
        for name, value in (("low", low), ("high", high), ("margin", margin)):
            if isinstance(value, bool) or not isinstance(value, Real):
                raise TypeError(f"{name} must be a number, got {value!r}")
        if not low < high or not isfinite(high - low):
            raise ValueError(f"low must be below high, both finite, got {low} and {high}")
        if not 0 <= margin < 0.5:
            raise ValueError(f"margin must be at least 0 and below 1/2, got {margin}")
        self.low, self.high, self.margin = float(low), float(high), float(margin)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``y = log u - log(1 - u)``."""
        check_floating(inputs)
        with full_precision(inputs):
            slope = (1 - 2 * self.margin) / (self.high - self.low)
            from_low, from_high = inputs - self.low, self.high - inputs
            self._check_bounds(inputs.detach(), from_low.detach(), from_high.detach())
            # both shares by themselves: 1 - u has no digits left where u is near 1
            log_u, log_rest = (self.margin + slope * from_low).log(), (self.margin + slope * from_high).log()
            return log_u - log_rest, self._constant(inputs) - sum_pixels(log_u + log_rest)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``x = a + (b - a) (sigmoid(y) - m) / (1 - 2 m)``, from the nearer bound."""
        check_floating(inputs)
        with full_precision(inputs):
            range_ = (self.high - self.low) / (1 - 2 * self.margin)
            near = range_ * (torch.sigmoid(-inputs.abs()) - self.margin)
            outputs = torch.where(inputs < 0, self.low + near, self.high - near)
            logs = F.logsigmoid(inputs) + F.logsigmoid(-inputs)
            return outputs, sum_pixels(logs) - self._constant(inputs)

    def extra_repr(self) -> str:
        """Show the arguments in ``print``."""
        return f"low={self.low:g}, high={self.high:g}, margin={self.margin:g}"

    def _constant(self, inputs: Tensor) -> float:
        """``D log((1 - 2 m) / (b - a))``."""
        return prod(inputs.shape[1:]) * log((1 - 2 * self.margin) / (self.high - self.low))

    def _check_bounds(self, inputs: Tensor, from_low: Tensor, from_high: Tensor) -> None:
        if inputs.device.type != "cpu" or not is_plain(inputs) or not inputs.numel():
            return
        least = float(torch.minimum(from_low.amin(), from_high.amin()))
        if not (least >= 0 if self.margin else least > 0):
            bounds = f"from {self.low:g} to {self.high:g}" + (", the ends left out" if not self.margin else "")
            raise ValueError(
                f"inputs must be {bounds}, got values from {float(inputs.min()):g} to {float(inputs.max()):g}; give "
                "Logit the bounds of the data, or take Standardize for data without any"
            )
