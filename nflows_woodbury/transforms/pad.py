"""Padding: noise around what is too small to be halved often enough, with its cost in the likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, pi, prod

import torch
from nflows.transforms.base import Transform
from torch import Tensor
from torch.nn import functional as F

from nflows_woodbury.checks import check_image_inputs, check_positive_number, check_shape, check_sizes
from nflows_woodbury.linalg.precision import sum_pixels

__all__ = ["Pad"]


class Pad(Transform):
    r"""Noise on all sides, :math:`x \mapsto (x, u)` with :math:`u \sim q = N(0, \text{scale}^2 I)` around ``x``.

    The log-det is :math:`-\log q(u)`, that of the inverse, which drops ``u``, is :math:`\log q(u)`. A flow of the
    padded fields has the density :math:`p(x, u)`, and with this log-det it gives :math:`\log p(x, u) - \log q(u)`,
    whose mean over the noise is a lower bound on the log-density of ``x`` alone:

    .. math::

        \log p(x) = \log E_{u \sim q} \frac{p(x, u)}{q(u)} \ge E_{u \sim q} \log \frac{p(x, u)}{q(u)}
        = \log p(x) - \mathrm{KL}(q(u) \,\|\, p(u \mid x))

    So padding costs the divergence, and nothing where the flow has learned that the noise is noise, whatever its size:
    ``q`` counts with its own density, and bits per dimension divide by the entries of ``x``. (Zeros in its place would
    be a density that grows without bound.) As with dequantization, each call draws other noise; the mean of several
    estimates is closer, and the logarithm of the mean of their exponentials is a tighter bound. Of a sample ``(x, u)``
    of the flow itself, the same difference has the mean :math:`\log p(x) + \mathrm{KL}(p(u \mid x) \| q(u))`, an upper
    bound.

    The padding is as even as can be, one more behind than before; noise comes from torch's global generator.

    Args:
        shape: ``(c, h, w)`` of the inputs, ``(c, t)`` or ``(c, d, h, w)``.
        sizes: what they become, ``(H, W)``, none of them smaller.
        scale: standard deviation of the noise, best that of the data; 1/4 is about that of dequantized images.

    Shapes:
        inputs ``(B, c, h, w)``, outputs ``(B, c, H, W)``, ``logabsdet`` ``(B,)``.

    Raises:
        ValueError, TypeError: for bad sizes or a bad scale, or inputs of another shape.

    Reference: Huang, Dinh and Courville, Augmented Normalizing Flows, 2020, section 3.1; Nielsen, Jaini, Hoogeboom,
    Winther and Welling, SurVAE Flows, NeurIPS 2020, where dropping is called slicing.

    >>> import torch
    >>> pad, images = Pad((1, 28, 28), (32, 32)), torch.randn(5, 1, 28, 28)
    >>> outputs, logabsdet = pad(images)
    >>> outputs.shape, torch.equal(pad.inverse(outputs)[0], images)
    (torch.Size([5, 1, 32, 32]), True)
    """

    def __init__(self, shape: Sequence[int], sizes: Sequence[int], scale: float = 0.25) -> None:
        super().__init__()
        self.shape, self.sizes = check_shape(shape), check_sizes("sizes", sizes)
        missing = [new - old for new, old in zip(self.sizes, self.shape[1:], strict=False)]
        if len(self.sizes) != len(self.shape) - 1 or any(m < 0 for m in missing):
            raise ValueError(f"sizes must be at least those of shape, {self.shape[1:]}, one for each; got {self.sizes}")
        self.scale = check_positive_number("scale", scale)
        self._sides = [side for m in reversed(missing) for side in (m // 2, m - m // 2)]  # as F.pad takes them
        self._num_noise = self.shape[0] * (prod(self.sizes) - prod(self.shape[1:]))

    def extra_repr(self) -> str:
        """Show the arguments in ``print``."""
        return f"shape={self.shape}, sizes={self.sizes}, scale={self.scale}"

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Put noise around ``x``."""
        check_image_inputs(inputs, self.shape)
        size = inputs.shape[0], self.shape[0], *self.sizes
        noise = self._around(torch.randn(size, dtype=inputs.dtype, device=inputs.device))
        return F.pad(inputs, self._sides) + self.scale * noise, -self._log_density(noise)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Drop what is around ``x``."""
        check_image_inputs(inputs, (self.shape[0], *self.sizes))
        return self._within(inputs), self._log_density(self._around(inputs) / self.scale)

    def _within(self, padded: Tensor) -> Tensor:
        return F.pad(padded, [-side for side in self._sides])

    def _around(self, padded: Tensor) -> Tensor:
        """The same with zeros in the place of ``x``."""
        return padded - F.pad(self._within(padded), self._sides)

    def _log_density(self, noise: Tensor) -> Tensor:
        """``log q`` of ``scale`` times the noise, (B,)."""
        return -sum_pixels(noise.square()) / 2 - self._num_noise * (log(self.scale) + log(2 * pi) / 2)
