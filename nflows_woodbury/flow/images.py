"""An image flow: one chain of transforms from uint8 images to flat noise, inside an nflows ``Flow``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from nflows.distributions.base import Distribution
from nflows.transforms.base import CompositeTransform, Transform
from torch import Tensor, nn

from nflows_woodbury.checks import check_positive_int, check_shape, check_uint8_images
from nflows_woodbury.flow.grid import GridFlow
from nflows_woodbury.transforms import Chain
from nflows_woodbury.transforms.dequantize import check_finite

__all__ = ["ImageFlow"]


class ImageFlow(GridFlow):
    """An nflows ``Flow`` over uint8 images whose ``forward`` is bits per dimension.

    ``log_prob``, ``sample``, ``sample_and_log_prob`` and ``transform_to_noise`` keep nflows' signatures and meaning.
    Usually made by :func:`image_flow`.

    Args:
        transform: uint8 images ``(B, c, h, w)`` to flat noise ``(B, c h w)``.
        distribution: nflows distribution of the flat noise.
        embedding_net: maps the context that is passed in to the context that the transforms get; None passes it on,
            :class:`~nflows_woodbury.transforms.nets.OneHot` takes class numbers.
        shape: ``(c, h, w)`` of the images; also ``(c, t)`` or ``(c, d, h, w)``.

    Raises:
        TypeError: for images that are not uint8.
        ValueError: for images of another shape.

    >>> import torch
    >>> from nflows.distributions import StandardNormal
    >>> from nflows_woodbury import ActNorm, Chain, Multiscale, Squeeze, UniformDequantize
    >>> transform = Chain([UniformDequantize(), Multiscale([Chain([Squeeze(), ActNorm(4)])], shapes=[(4, 4, 4)])])
    >>> flow = ImageFlow(transform, StandardNormal((64,)), shape=(1, 8, 8))
    >>> flow(torch.zeros(5, 1, 8, 8, dtype=torch.uint8)).shape
    torch.Size([5])
    """

    def __init__(
        self,
        transform: Transform,
        distribution: Distribution,
        embedding_net: nn.Module | None = None,
        *,
        shape: Sequence[int],
    ) -> None:
        super().__init__(transform, distribution, embedding_net, shape=check_shape(shape))

    @property
    def floating(self) -> Sequence[Transform]:
        """The transforms behind the dequantization; TypeError for a flow that is no chain which begins with it."""
        chain = self._transform
        if not isinstance(chain, Chain) or not len(chain) or isinstance(chain[0], Chain | CompositeTransform):
            raise TypeError(
                "transform must be a Chain that begins with the dequantization by itself, to know the floats behind "
                f"it, got {type(chain).__name__}; image_flow makes such a chain"
            )
        return list(chain)[1:]

    def check_data(self, inputs: Tensor) -> None:
        """Check that images are uint8 of the flow's shape."""
        check_uint8_images(inputs, self.shape)

    def check_finite(self, logabsdet: Tensor) -> None:
        """FloatingPointError with how many images are not finite, given the log-dets ``(B,)`` of their making."""
        check_finite(logabsdet)

    def forward(self, images: Tensor, context: Any = None) -> Tensor:
        """Bits per dimension of uint8 images ``(B, c, h, w)``: ``-log_prob / (c h w log 2)``, shape ``(B,)``.

        With uniform dequantization one draw of the noise gives an unbiased estimate of an upper bound on the
        negative log-likelihood per dimension, in bits.
        """
        return super().forward(images, context)

    def initialize(self, images: Tensor, context: Any = None) -> None:
        """Start the layers that start from data (ActNorm) on a batch of uint8 images; once, before training."""
        super().initialize(images, context)

    def transform_from_noise(self, noise: Tensor, context: Any = None) -> Tensor:
        """Uint8 images ``(B, c, h, w)`` of flat noise ``(B, c h w)``, which have no gradient; :meth:`decode` has one.

        Raises:
            FloatingPointError: where images are not finite.
            TypeError: for noise that asks for a gradient itself: a leaf that requires one, or any that does where no
                parameter of the flow does, as while noise is sought for a flow that is frozen.
        """
        if torch.is_grad_enabled() and noise.requires_grad and (noise.is_leaf or not self._is_trained):
            raise TypeError(
                "noise must require no gradient, as uint8 images have none; decode(noise, context) gives floats with a "
                "gradient, noise.detach() images without"
            )
        with torch.no_grad():
            images, logabsdet = self._generate(noise, self._embedding_net(context))
        self.check_made(logabsdet)
        return images

    @torch.no_grad()
    def sample_and_log_prob(
        self, num_samples: int, context: Any = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw uint8 images, with the log-density of the dequantized points that they are the floor of.

        Shapes as in :meth:`sample`; the log-densities without the image axes. Neither has a gradient, those of
        :meth:`rsample_and_log_prob` do.
        """
        noise, rows = self._noise(check_positive_int("num_samples", num_samples), context, generator)
        images, logabsdet = self._generate(noise, rows)
        self.check_made(logabsdet)
        log_prob = self._base_log_prob(noise, rows) - logabsdet
        if context is None:
            return images, log_prob
        return images.unflatten(0, (-1, num_samples)), log_prob.unflatten(0, (-1, num_samples))

    @property
    def _is_trained(self) -> bool:
        return any(parameter.requires_grad for parameter in self.parameters())
