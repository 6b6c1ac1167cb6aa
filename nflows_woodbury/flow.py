"""An image flow: one chain of transforms from uint8 images to flat noise, inside an nflows ``Flow``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log, prod

import torch
from nflows.distributions.base import Distribution
from nflows.distributions.normal import StandardNormal
from nflows.transforms.base import Transform
from torch import Tensor, nn

from nflows_woodbury.checks import check_image_shape, check_natural_number, check_positive_int, check_uint8_images
from nflows_woodbury.transforms import ActNorm, Chain, Multiscale, Reversible, SplitPrior, Squeeze, TopPrior
from nflows_woodbury.transforms.dequantize import UniformDequantize, check_finite
from nflows_woodbury.transforms.hosts import LoadableFlow, draw
from nflows_woodbury.transforms.initialization import initialize
from nflows_woodbury.transforms.nets import OneHot, channel_halves

__all__ = ["ImageFlow", "image_flow"]

Shape = tuple[int, int, int]
Part = Callable[[Shape], Transform]


class ImageFlow(LoadableFlow):
    """An nflows ``Flow`` over uint8 images whose ``forward`` is bits per dimension.

    ``log_prob``, ``sample``, ``sample_and_log_prob`` and ``transform_to_noise`` keep nflows' signatures and meaning.
    Usually made by :func:`image_flow`.

    Args:
        transform: uint8 images ``(B, c, h, w)`` to flat noise ``(B, c h w)``.
        distribution: nflows distribution of the flat noise.
        embedding_net: maps the context that is passed in to the context that the transforms get; None passes it on,
            :class:`~nflows_woodbury.transforms.nets.OneHot` takes class numbers.
        shape: ``(c, h, w)`` of the images.

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
        super().__init__(transform, distribution, embedding_net)
        self.check_constants(on_meta=True)
        self.shape = check_image_shape(shape)

    @property
    def num_classes(self) -> int:
        """Classes whose numbers the flow takes as context; 0 for a flow without classes."""
        return self._embedding_net.num_classes if isinstance(self._embedding_net, OneHot) else 0

    def forward(self, images: Tensor, context: Tensor | None = None) -> Tensor:
        """Bits per dimension of uint8 images ``(B, c, h, w)``: ``-log_prob / (c h w log 2)``, shape ``(B,)``.

        With uniform dequantization one draw of the noise gives an unbiased estimate of an upper bound on the
        negative log-likelihood per dimension, in bits.
        """
        return -self.log_prob(images, context) / (prod(self.shape) * log(2))

    @torch.no_grad()
    def initialize(self, images: Tensor, context: Tensor | None = None) -> None:
        """Start the layers that start from data (ActNorm) on a batch of uint8 images; once, before training."""
        check_uint8_images(images, self.shape)
        initialize(self, images, context)

    def transform_to_noise(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Flat noise ``(B, c h w)`` of uint8 images; :meth:`transform_from_noise` goes back."""
        check_uint8_images(inputs, self.shape)
        noise: Tensor = super().transform_to_noise(inputs, context)
        return noise

    @torch.no_grad()
    def transform_from_noise(self, noise: Tensor, context: Tensor | None = None) -> Tensor:
        """Uint8 images ``(B, c, h, w)`` of flat noise ``(B, c h w)``; FloatingPointError where they are not finite."""
        images: Tensor
        images, logabsdet = self._transform.inverse(noise, context=self._embedding_net(context))
        check_finite(logabsdet)
        return images

    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        context: Tensor | None = None,
        batch_size: int | None = None,
        *,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw uint8 images.

        Args:
            num_samples: images to draw, for each row of the context if there is one.
            context: ``(C, ...)`` or None.
            batch_size: images per context row that are drawn at a time; None draws all at once.
            temperature: factor on the base's noise, meant for zero-mean bases; below 1 gives likelier, plainer images.

        Returns:
            ``(num_samples, c, h, w)``, or ``(C, num_samples, c, h, w)`` with context.

        Raises:
            ValueError, TypeError: for a bad count or temperature.
            FloatingPointError: for images that are not finite, with how many.
            NotImplementedError: if the base cannot sample this way (nflows' ``DiagonalNormal`` and ``MADEMoG`` without
                context); its log-density works all the same.
        """
        remaining = check_positive_int("num_samples", num_samples)
        batch_size = remaining if batch_size is None else check_positive_int("batch_size", batch_size)
        temperature = check_natural_number("temperature", temperature)
        batches = []
        while remaining > 0:
            noise, rows = self._noise(min(batch_size, remaining), context)
            batches.append(self._transform.inverse(temperature * noise, context=rows))
            remaining -= batch_size
        check_finite(torch.cat([logabsdet for _, logabsdet in batches]))
        if context is None:
            return torch.cat([images for images, _ in batches])
        return torch.cat([images.unflatten(0, (context.shape[0], -1)) for images, _ in batches], 1)

    @torch.no_grad()
    def sample_and_log_prob(self, num_samples: int, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draw uint8 images, with the log-density of the dequantized points that they are the floor of.

        Shapes as in :meth:`sample`; the log-densities without the image axes.
        """
        noise, rows = self._noise(check_positive_int("num_samples", num_samples), context)
        images, logabsdet = self._transform.inverse(noise, context=rows)
        check_finite(logabsdet)
        log_prob = self._distribution.log_prob(noise, context=rows) - logabsdet
        if context is None:
            return images, log_prob
        return images.unflatten(0, (context.shape[0], -1)), log_prob.unflatten(0, (context.shape[0], -1))

    def _log_prob(self, inputs: Tensor, context: Tensor | None) -> Tensor:
        check_uint8_images(inputs, self.shape)
        log_prob: Tensor = super()._log_prob(inputs, context)
        return log_prob

    def _noise(self, num_samples: int, context: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Noise of the base in the flow's dtype, (rows, D), and the embedded context of each row."""
        rows = self._embedding_net(context)
        noise = draw(self._distribution, num_samples, rows)
        if rows is not None:
            noise, rows = noise.flatten(0, 1), rows.repeat_interleave(num_samples, 0)
        dtypes = [parameter.dtype for parameter in self._transform.parameters()]  # torch 2.4 compiles no next()
        return noise.to(dtypes[0] if dtypes else noise.dtype), rows


def image_flow(
    shape: Sequence[int],
    *,
    levels: int,
    steps: int,
    mixing: Part | Sequence[Part],
    coupling: Part | Sequence[Part],
    base: Callable[[int], Distribution] = lambda num_features: StandardNormal((num_features,)),
    dequantize: Transform | None = None,
    context_features: int | None = None,
    embedding_net: nn.Module | None = None,
    squeeze: Callable[[], Transform] = Squeeze,
    reversible: bool = False,
) -> ImageFlow:
    """Put a multiscale image flow together from parts.

    ``dequantize -> levels x (Squeeze -> steps x (ActNorm -> mixing -> coupling) -> SplitPrior) -> base``; the last
    level ends in :class:`TopPrior` and becomes latent whole.

    Args:
        shape: ``(c, H, W)`` of the uint8 images; ``H`` and ``W`` divisible by ``2^levels``.
        levels: number of levels.
        steps: flow steps per level.
        mixing: ``(c, h, w) -> Transform``, called for each step with the shape at its level, such as
            ``partial(WoodburyTransform, ranks=(8, 16))`` or ``lambda shape: OneByOneConvolution(shape[0])``; or one
            such constructor for each level.
        coupling: likewise, such as ``partial(AffineCoupling, hidden_channels=512)``.
        base: ``num_features -> Distribution`` over the flat latents, nflows' ``StandardNormal`` by default.
        dequantize: transform from uint8 images to floats, ``UniformDequantize(8)`` by default.
        context_features: features of the (embedded) context that the learned priors take; couplings get theirs by
            ``partial(AffineCoupling, ..., context_features=...)``. None makes the priors ignore context.
        embedding_net: see :class:`ImageFlow`.
        squeeze: what a level begins with, ``() -> Transform``, :class:`Squeeze` or :class:`HaarSqueeze`.
        reversible: make each level a :class:`Reversible` chain, whose training memory does not grow with ``steps``. The
            same model, with the same state dict.

    Returns:
        An :class:`ImageFlow`; call its ``initialize`` on a batch of images before training.

    Raises:
        ValueError, TypeError: for a size that ``2^levels`` does not divide, or constructors that do not match the
            levels.

    >>> import torch
    >>> from functools import partial
    >>> from nflows_woodbury import AffineCoupling, WoodburyTransform, image_flow
    >>> flow = image_flow((3, 16, 16), levels=2, steps=1, mixing=partial(WoodburyTransform, ranks=(4, 4)),
    ...                   coupling=partial(AffineCoupling, hidden_channels=8))
    >>> images = torch.randint(256, (5, 3, 16, 16), dtype=torch.uint8)
    >>> flow.initialize(images)
    >>> flow(images).shape, flow.sample(2, temperature=0.7).dtype
    (torch.Size([5]), torch.uint8)
    """
    channels, height, width = shape = check_image_shape(shape)
    levels, steps = check_positive_int("levels", levels), check_positive_int("steps", steps)
    if not callable(base):
        raise TypeError(f"base must be a function from the number of features to a distribution, got {base!r}")
    if height % 2**levels or width % 2**levels:
        raise ValueError(
            f"shape must have height and width divisible by 2^levels = {2**levels}, got {height} x {width}; "
            "use fewer levels or crop the images"
        )
    mixings, couplings = _per_level("mixing", mixing, levels), _per_level("coupling", coupling, levels)
    parts, shapes = [], []
    for level in range(levels):
        channels, height, width = 4 * channels, height // 2, width // 2
        level_shape = channels, height, width
        chain: list[Transform] = [squeeze()]
        for _ in range(steps):
            chain.append(Chain([ActNorm(channels), mixings[level](level_shape), couplings[level](level_shape)]))
        prior = TopPrior if level == levels - 1 else SplitPrior
        chain.append(prior(level_shape, context_features=context_features))
        parts.append((Reversible if reversible else Chain)(chain))
        shapes.append(level_shape)
        channels = channel_halves(channels)[0]
    transform = Chain([dequantize if dequantize is not None else UniformDequantize(), Multiscale(parts, shapes)])
    return ImageFlow(transform, base(prod(shape)), embedding_net, shape=shape)


def _per_level(name: str, part: Part | Sequence[Part], levels: int) -> Sequence[Part]:
    if callable(part):
        return [part] * levels
    if len(part) != levels or not all(map(callable, part)):
        raise ValueError(f"{name} must be a constructor or {levels} of them, one for each level, got {part!r}")
    return part
