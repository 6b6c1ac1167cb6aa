"""Variational dequantization: the noise on the bins is a flow of its own, conditioned on the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log1p, prod

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn

from nflows_woodbury.checks import check_image_inputs, check_positive_int, check_shape, check_uint8_images
from nflows_woodbury.linalg.precision import sum_pixels
from nflows_woodbury.transforms.chain import Chain
from nflows_woodbury.transforms.conv1x1 import InvertibleConv1x1
from nflows_woodbury.transforms.convolutions import CONVOLUTIONS
from nflows_woodbury.transforms.coupling import AffineCoupling
from nflows_woodbury.transforms.dequantize import UniformDequantize
from nflows_woodbury.transforms.squeeze import Squeeze

__all__ = ["VariationalDequantize"]

Shape = tuple[int, ...]

MARGIN = 2.0**-20  # of a bin, at either end


class VariationalDequantize(UniformDequantize):
    r"""Variational dequantization of uint8 images to ``bits`` bits: the noise in a bin follows a learned ``q(u | x)``.

    .. math:: y = (q + u) / 2^b - 1/2, \quad u = m + (1 - 2 m)\, \Phi(v), \quad v = f(\epsilon; x), \quad
              \epsilon \sim N(0, I)

    with a conditional flow ``f`` made of this package's layers and the normal distribution function :math:`\Phi`. The
    margin :math:`m = 2^{-20}` keeps noise that ``f`` presses into a tail off the ends of its bin, where the rounding of
    a flow's round trip would flip the pixel even in float64; it costs :math:`3 \cdot 10^{-6}` bits per dimension. The
    log-det is :math:`-D\, b \log 2 - \log q(u | x)`: the flow's log-density of ``y`` plus this log-det is a lower bound
    on ``log P(q)`` in expectation over the noise, as with uniform dequantization, and

    .. math:: -\log q(u | x) = \log|\det \partial f / \partial \epsilon| + \tfrac12 (\|\epsilon\|^2 - \|v\|^2)
              + D \log(1 - 2 m).

    A volume-preserving rotation of :math:`\epsilon` leaves ``u`` uniform. The default ``f`` starts as one, so
    training starts from the uniform bound; that is why noise enters through :math:`\Phi` and not through the
    reference's logistic function.

    ``f`` squeezes, then applies ``steps`` times mixing and coupling; its context are features of the quantized image,
    scaled to [-1/2, 1/2], from two 3x3 convolutions. The inverse is the floor, its log-det takes one pass of ``f``
    backwards. There the noise is what is left of it in ``inputs``, which is precise to ``2^b`` times their rounding.
    Noise from torch's global generator and outputs in the module's dtype, as in :class:`UniformDequantize`.

    Args:
        shape: ``(c, h, w)`` of the images, even ``h`` and ``w``; also ``(c, t)`` or ``(c, d, h, w)``.
        bits: bits kept, 1 to 8.
        hidden_channels: of the couplings' nets and of the image's features.
        steps: mixing and coupling pairs in ``f``.
        mixing: ``(c, h, w) -> Transform``, called with the squeezed shape; a random rotation of channels by default.
        coupling: called as ``coupling(shape, hidden_channels, context_features=...)``; affine by default.

    Shapes:
        inputs uint8 ``(B, c, h, w)``; outputs floating ``(B, c, h, w)``; ``logabsdet`` ``(B,)``. Context is accepted
        and not used.

    Raises:
        TypeError: for images that are not uint8.
        ValueError: for a bad count, an odd height or width, or images of another shape.

    Reference: Ho, Chen, Srinivas, Duan and Abbeel, Flow++, ICML 2019, section 3.1.

    >>> import torch
    >>> images = torch.randint(256, (2, 3, 4, 4), dtype=torch.uint8)
    >>> dequantize = VariationalDequantize((3, 4, 4), hidden_channels=8)
    >>> values, logabsdet = dequantize(images)
    >>> bool((dequantize.inverse(values)[0] == images).all()), logabsdet.shape
    (True, torch.Size([2]))
    """

    def __init__(
        self,
        shape: Sequence[int],
        bits: int = 8,
        *,
        hidden_channels: int = 32,
        steps: int = 2,
        mixing: Callable[[Shape], Transform] | None = None,
        coupling: Callable[..., Transform] | None = None,
    ) -> None:
        super().__init__(bits)
        channels, *sizes = self.shape = check_shape(shape)
        if not sizes or any(size % 2 for size in sizes):
            what = "height and width" if len(sizes) == 2 else "sizes, at least one"
            raise ValueError(f"shape must have even {what}, got {self.shape}; crop or pad the images")
        squeezed = channels * 2 ** len(sizes), *(size // 2 for size in sizes)
        conv = CONVOLUTIONS[len(sizes)]
        for name, part in (("mixing", mixing), ("coupling", coupling)):
            if part is not None and not callable(part):
                raise TypeError(f"{name} must be a constructor of a transform, or None, got {part!r}")
        mixing, coupling = mixing or InvertibleConv1x1, coupling or AffineCoupling
        self.squeeze = Squeeze()
        self.features = nn.Sequential(
            conv(squeezed[0], check_positive_int("hidden_channels", hidden_channels)),
            nn.ReLU(),
            conv(hidden_channels, hidden_channels),
        )
        self.noise_flow = Chain(
            part
            for _ in range(check_positive_int("steps", steps))
            for part in (mixing(squeezed), coupling(squeezed, hidden_channels, context_features=hidden_channels))
        )

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Images to floats in [-1/2, 1/2)."""
        check_uint8_images(inputs, self.shape)
        return self._add_shaped(inputs, torch.randn(inputs.shape, dtype=self._dtype, device=inputs.device))

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Floats to uint8 images by floor; values outside [-1/2, 1/2) go to the nearest bin."""
        check_image_inputs(inputs, self.shape)
        images, logabsdet = super().inverse(inputs)
        end = torch.finfo(inputs.dtype).eps
        noise = ((inputs - self._lower(images, inputs.dtype)) * 2**self.bits - MARGIN) / (1 - 2 * MARGIN)
        normal = self.squeeze(torch.special.ndtri(noise.clamp(end, 1 - end)))[0]
        epsilon, of_flow = self.noise_flow.inverse(normal, self._features(images, inputs.dtype))
        return images, logabsdet + of_flow - _log_density_ratio(epsilon, normal) - self._log_inner

    def extra_repr(self) -> str:
        """Show the arguments in ``print``."""
        return f"shape={self.shape}, bits={self.bits}"

    def _add_shaped(self, images: Tensor, epsilon: Tensor) -> tuple[Tensor, Tensor]:
        """Shape standard normal ``epsilon`` into noise for ``images``, and put it on the bins."""
        epsilon = self.squeeze(epsilon)[0]
        normal, of_flow = self.noise_flow(epsilon, self._features(images, epsilon.dtype))
        noise = MARGIN + (1 - 2 * MARGIN) * torch.special.ndtr(self.squeeze.inverse(normal)[0])
        outputs, logabsdet = self._add(images, noise)
        return outputs, logabsdet + of_flow + _log_density_ratio(epsilon, normal) + self._log_inner

    @property
    def _log_inner(self) -> float:
        """Log-volume of the noise between the margins of all bins."""
        return prod(self.shape) * log1p(-2 * MARGIN)

    def _features(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        middle = self._lower(images, dtype) + 0.5 / 2**self.bits
        return self.features(self.squeeze(middle)[0])

    def _lower(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the lower ends of the bins."""
        return (images >> (8 - self.bits)).to(dtype) / 2**self.bits - 0.5


def _log_density_ratio(epsilon: Tensor, normal: Tensor) -> Tensor:
    """``log N(normal) - log N(epsilon)``: (B,)."""
    return sum_pixels((epsilon - normal) * (epsilon + normal)) / 2
