"""Neural spline coupling: monotonic rational-quadratic splines, identity outside an interval."""

from __future__ import annotations

from collections.abc import Sequence
from math import expm1, log
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nflows_woodbury.checks import check_positive_int
from nflows_woodbury.transforms.coupling import Coupling
from nflows_woodbury.transforms.nets import Net

__all__ = ["SplineCoupling"]

MIN_SIZE = 1e-3  # of a bin's width and height, as a share of the interval
MIN_SLOPE = 1e-3  # at the knots


class SplineCoupling(Coupling):
    r"""Spline coupling, :math:`y_2 = g(x_2)` with a monotonic rational-quadratic spline per entry, set by ``net(x1)``.

    In bin ``k`` between the knots :math:`(x_k, y_k)` and :math:`(x_{k+1}, y_{k+1})`, with secant slope ``s``, slopes
    :math:`\delta_k, \delta_{k+1}` at the knots, :math:`t = (x - x_k) / (x_{k+1} - x_k)` and :math:`\bar t = 1 - t`:

    .. math::

        g = y_k + (y_{k+1} - y_k) \frac{t\, (s t + \delta_k \bar t)}{q}, \quad
        q = s (t^2 + \bar t^2) + (\delta_k + \delta_{k+1})\, t \bar t, \quad
        g' = \frac{s^2}{q^2} (\delta_{k+1} t^2 + 2 s t \bar t + \delta_k \bar t^2)

    and :math:`\log|\det J| = \sum \log g'`. Outside ``[-tail_bound, tail_bound]`` it is the identity, with slope 1 at
    both ends. The net starts at zero, where bins are even and slopes 1: the layer starts as the identity. The inverse
    is a root of a quadratic equation, at the cost of the forward map: ``O(num_bins)`` per entry after the net.

    The formulas are those of the reference, rearranged into sums of positive terms, so that no square root meets a
    negative number. nflows' functions give the same values, but assert that the discriminant is not negative, which in
    float32 fails on their own outputs where splines are steep; and they pick the entries inside the interval by a mask,
    whose size depends on the data and rules out ``torch.vmap`` and whole-graph ``torch.compile``.

    Both directions are exact but for a few roundings of ``x`` and ``y``. Where the spline is flat a rounding of ``y``
    is one of ``x`` divided by :math:`g'`, which may fall to 1e-6 within a bin: what float32 cannot hold, the inverse
    cannot return. ``nflows-woodbury diagnose`` says how far the entries of a trained layer come back.

    Args:
        shape, hidden_channels, net: as in :class:`Coupling`.
        num_bins: bins of each spline, at least 2; the Woodbury paper has 4.
        tail_bound: half the interval's length. After ActNorm entries have mean 0 and standard deviation 1, so the
            default leaves the outermost 0.3 % of a Gaussian alone; a wider interval has coarser bins where the data is.
        context_features: features of the context that the conditioner takes, or None to ignore context.

    Shapes:
        inputs and outputs ``(B, c, h, w)``, any ``h`` and ``w``, or as in ``shape``; ``logabsdet`` ``(B,)``.

    Raises:
        ValueError, TypeError: for a bad shape, count or bound, or inputs with other channels.

    Reference: Durkan, Bekasov, Murray and Papamakarios, Neural Spline Flows, NeurIPS 2019, section 3.1 and appendix A.

    >>> import torch
    >>> coupling, inputs = SplineCoupling((12, 16, 16), hidden_channels=64), torch.randn(4, 12, 16, 16)
    >>> outputs, logabsdet = coupling(inputs)
    >>> bool(torch.allclose(outputs, inputs, atol=1e-5)), logabsdet.shape
    (True, torch.Size([4]))
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden_channels: int | None = None,
        num_bins: int = 4,
        tail_bound: float = 3.0,
        *,
        net: Net | None = None,
        context_features: int | None = None,
    ) -> None:
        if not 2 <= check_positive_int("num_bins", num_bins) < 1 / MIN_SIZE:
            raise ValueError(f"num_bins must be at least 2 and below {1 / MIN_SIZE:.0f}, got {num_bins}")
        if not 0 < tail_bound < float("inf"):
            raise ValueError(f"tail_bound must be positive and finite, got {tail_bound}")
        self.num_bins, self.tail_bound = num_bins, float(tail_bound)
        self.num_parameters = 3 * num_bins - 1  # widths, heights and inner slopes; the frame reads it
        super().__init__(shape, hidden_channels, net=net, context_features=context_features)

    def extra_repr(self) -> str:
        """Show the arguments in ``print``."""
        return f"num_bins={self.num_bins}, tail_bound={self.tail_bound}"

    def map_values(self, values: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """``g(x)`` in the bin that ``x`` falls in."""
        spline = _spline(parameters, self.num_bins, self.tail_bound)
        inside = values.clamp(-self.tail_bound, self.tail_bound)
        return self._keep_tails(values, *_forward(inside, spline.at(inside, spline.left)))

    def unmap_values(self, values: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The ``x`` with ``g(x) = y``, in the bin that ``y`` falls in."""
        spline = _spline(parameters, self.num_bins, self.tail_bound)
        inside = values.clamp(-self.tail_bound, self.tail_bound)
        return self._keep_tails(values, *_inverse(inside, spline.at(inside, spline.bottom)))

    def _keep_tails(self, values: Tensor, outputs: Tensor, logabsdet: Tensor) -> tuple[Tensor, Tensor]:
        outside = values.abs() > self.tail_bound
        return torch.where(outside, values, outputs), torch.where(outside, 0, logabsdet)


class _Bins(NamedTuple):
    """All bins of a spline, tensors ``(B, num_bins, ...)``; or the bin of each value, tensors ``(B, ...)``."""

    left: Tensor
    width: Tensor
    bottom: Tensor
    height: Tensor
    slope: Tensor
    next_slope: Tensor

    def at(self, values: Tensor, edges: Tensor) -> _Bins:
        """Return the bin that each of ``values`` falls in, with ``edges`` the lower ends of the bins."""
        number = (values.unsqueeze(1) >= edges[:, 1:]).sum(1, keepdim=True)
        return _Bins(*(field.gather(1, number).squeeze(1) for field in self))


def _spline(parameters: Tensor, num_bins: int, bound: float) -> _Bins:
    widths, heights, slopes = torch.split(parameters, [num_bins, num_bins, num_bins - 1], 1)
    slopes = MIN_SLOPE + F.softplus(slopes + log(expm1(1 - MIN_SLOPE)))  # 1 where the parameter is 0
    slopes = F.pad(slopes, (0,) * 2 * (slopes.dim() - 2) + (1, 1), value=1.0)
    return _Bins(*_edges(widths, bound), *_edges(heights, bound), slopes[:, :-1], slopes[:, 1:])


def _edges(raw: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Lower ends and sizes of the bins that share ``[-bound, bound]``."""
    num_bins = int(raw.shape[1])  # to torch.jit.trace a tensor, whose products are float32
    sizes = MIN_SIZE + (1 - MIN_SIZE * num_bins) * raw.softmax(1)
    ends = sizes.cumsum(1)
    return bound * (2 * (ends - sizes) - 1), 2 * bound * sizes


def _forward(values: Tensor, bins: _Bins) -> tuple[Tensor, Tensor]:
    t = ((values - bins.left) / bins.width).clamp(0, 1)
    secant = bins.height / bins.width
    share = t * (secant * t + bins.slope * (1 - t)) / _denominator(t, secant, bins)
    return bins.bottom + bins.height * share, _log_slope(t, secant, bins)


def _inverse(values: Tensor, bins: _Bins) -> tuple[Tensor, Tensor]:
    r"""Solve the quadratic equation for ``t``, with ``e`` the share of the bin's height that lies below the value.

    With :math:`p = \delta_k \bar e - \delta_{k+1} e` its discriminant is :math:`D = p^2 + 4 s^2 e \bar e > 0`, and with
    :math:`w = |p| + \sqrt D` its root in [0, 1] has the odds :math:`t / \bar t = 2 s e / w` for ``p >= 0`` and
    :math:`w / (2 s \bar e)` for ``p < 0``: nothing cancels.
    """
    e = ((values - bins.bottom) / bins.height).clamp(0, 1)
    secant = bins.height / bins.width
    p = bins.slope * (1 - e) - bins.next_slope * e
    w = p.abs() + (p.square() + 4 * secant.square() * e * (1 - e)).sqrt()
    up, down = 2 * secant * e, 2 * secant * (1 - e)
    t = torch.where(p >= 0, up / (up + w), w / (w + down))
    return bins.left + bins.width * t, -_log_slope(t, secant, bins)


def _denominator(t: Tensor, secant: Tensor, bins: _Bins) -> Tensor:
    return secant * (t.square() + (1 - t).square()) + (bins.slope + bins.next_slope) * t * (1 - t)


def _log_slope(t: Tensor, secant: Tensor, bins: _Bins) -> Tensor:
    mean = bins.next_slope * t.square() + 2 * secant * t * (1 - t) + bins.slope * (1 - t).square()
    return 2 * (secant / _denominator(t, secant, bins)).log() + mean.log()
