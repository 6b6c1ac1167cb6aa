"""Flows put together from parts: the multiscale architecture, over images or over fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from nflows.distributions.base import Distribution
from nflows.distributions.normal import StandardNormal
from nflows.transforms.base import Transform
from torch import nn

from nflows_woodbury.checks import check_positive_int, check_shape
from nflows_woodbury.flow.condition import Condition, Conditions
from nflows_woodbury.flow.fields import FieldFlow
from nflows_woodbury.flow.images import ImageFlow
from nflows_woodbury.flow.padding import Padding, factors_of, padding_for
from nflows_woodbury.transforms import ActNorm, Chain, Multiscale, Reversible, SplitPrior, Squeeze, TopPrior
from nflows_woodbury.transforms.dequantize import UniformDequantize
from nflows_woodbury.transforms.nets import channel_halves

__all__ = ["field_flow", "image_flow"]

Shape = tuple[int, ...]
Part = Callable[[Any], Transform]
Base = Callable[[int], Distribution]


def standard_normal(num_features: int) -> Distribution:
    """The base of a flow that is given no other.

    >>> standard_normal(12).sample(5).shape
    torch.Size([5, 12])
    """
    return StandardNormal((num_features,))


def image_flow(
    shape: Sequence[int],
    *,
    levels: int,
    steps: int,
    mixing: Part | Sequence[Part],
    coupling: Part | Sequence[Part],
    base: Base = standard_normal,
    dequantize: Transform | None = None,
    context_features: int | None = None,
    embedding_net: nn.Module | None = None,
    condition: Condition | None = None,
    squeeze: Callable[[], Transform] = Squeeze,
    pad: Padding | None = None,
    reversible: bool = False,
) -> ImageFlow:
    """Put a multiscale image flow together from parts.

    ``dequantize -> levels x (Squeeze -> steps x (ActNorm -> mixing -> coupling) -> SplitPrior) -> base``; the last
    level ends in :class:`TopPrior` and becomes latent whole.

    Args:
        shape: ``(c, H, W)`` of the uint8 images; ``H`` and ``W`` divisible by ``2^levels``, unless ``pad`` is given.
            Also ``(c, t)`` or ``(c, d, h, w)``.
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
        condition: makes the flow one given an image, which is then the context: a function from a level's shape to the
            network that makes ``context_features`` features of the given image for that level, such as
            ``partial(ConditionNet, in_channels=3, features=16)``; one network for all levels; or a list with a function
            or a network for each. Features are resized to the level's size; couplings and priors see them. A list of
            numbers stands for a pyramid: the context is then a list of images with so many channels, one for each
            level, the finest first. With ``embedding_net=OneHot(num_classes)`` the context is a tuple, class numbers
            and that.
        squeeze: what a level begins with, ``() -> Transform``, :class:`Squeeze` or :class:`HaarSqueeze`, or such as
            ``partial(Squeeze, factor=(1, 2, 2))`` to halve some axes only.
        pad: what sizes that the squeezes do not divide are filled up with: :class:`Pad` appends noise, or
            ``partial(Pad, scale=...)``. Then ``log_prob`` is a lower bound in the mean over that noise, bits per
            dimension still count the real pixels only, and samples are without it.
        reversible: make each level a :class:`Reversible` chain, whose training memory does not grow with ``steps``. The
            same model, with the same state dict.

    Returns:
        An :class:`ImageFlow`; call its ``initialize`` on a batch of images before training.

    Raises:
        ValueError, TypeError: for a size that ``2^levels`` does not divide, without ``pad``, or constructors that do
            not match the levels.

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
    shape = check_shape(shape)
    padding, inner = padding_for(shape, levels, squeeze, pad)
    first = dequantize if dequantize is not None else UniformDequantize()
    conditions = Conditions(condition, check_positive_int("levels", levels), context_features, embedding_net)
    multiscale = _multiscale(
        inner, levels, steps, mixing, coupling, squeeze, conditions, context_features=context_features,
        reversible=reversible,
    )  # fmt: skip
    return ImageFlow(Chain([first, *padding, multiscale]), _base(base, inner), conditions.embedding, shape=shape)


def field_flow(
    shape: Sequence[int],
    *,
    levels: int,
    steps: int,
    mixing: Part | Sequence[Part],
    coupling: Part | Sequence[Part],
    first: Transform | None = None,
    base: Base = standard_normal,
    context_features: int | None = None,
    embedding_net: nn.Module | None = None,
    condition: Condition | None = None,
    squeeze: Callable[[], Transform] = Squeeze,
    pad: Padding | None = None,
    reversible: bool = False,
) -> FieldFlow:
    """Put a multiscale flow over floats together from parts: :func:`image_flow` without a dequantization.

    ``first -> levels x (Squeeze -> steps x (ActNorm -> mixing -> coupling) -> SplitPrior) -> base``.

    Args:
        shape: ``(c, ...)`` of the fields, such as ``(1, 32, 32)``, with up to three sizes; each but ``c`` divisible by
            ``2^levels``, unless ``pad`` is given. Vectors, ``(c,)``, have no squeeze.
        levels: number of levels.
        steps: flow steps per level.
        mixing: as for :func:`image_flow`.
        coupling: as for :func:`image_flow`.
        first: what the fields meet first: :class:`Standardize`, :class:`Logit` for values within bounds, or any
            transform that keeps the shape; None for nothing.
        base: as for :func:`image_flow`.
        context_features: as for :func:`image_flow`.
        embedding_net: as for :class:`ImageFlow`.
        condition: as for :func:`image_flow`.
        squeeze: as for :func:`image_flow`.
        pad: as for :func:`image_flow`.
        reversible: as for :func:`image_flow`.

    Returns:
        A :class:`FieldFlow`; call its ``initialize`` on a batch of fields before training.

    Raises:
        ValueError, TypeError: as for :func:`image_flow`.

    >>> import torch
    >>> from functools import partial
    >>> from nflows_woodbury import AffineCoupling, Standardize, WoodburyTransform, field_flow
    >>> flow = field_flow((1, 16, 16), levels=2, steps=1, mixing=partial(WoodburyTransform, ranks=(2, 4)),
    ...                   coupling=partial(AffineCoupling, hidden_channels=8), first=Standardize(1))
    >>> fields = 300 + 20 * torch.randn(64, 1, 16, 16)
    >>> flow.initialize(fields)
    >>> flow.log_prob(fields).shape, flow.sample(2).dtype
    (torch.Size([64]), torch.float32)
    """
    shape = check_shape(shape)
    padding, inner = padding_for(shape, levels, squeeze, pad)
    if first is not None and not isinstance(first, Transform):
        raise TypeError(f"first must be a transform, such as Standardize({shape[0]}), or None, got {first!r}")
    conditions = Conditions(condition, check_positive_int("levels", levels), context_features, embedding_net)
    multiscale = _multiscale(
        inner, levels, steps, mixing, coupling, squeeze, conditions, context_features=context_features,
        reversible=reversible,
    )  # fmt: skip
    before = [*([] if first is None else [first]), *padding]
    transform = Chain([*before, multiscale]) if before else multiscale
    return FieldFlow(transform, _base(base, inner), conditions.embedding, shape=shape)


def _base(base: Base, shape: Shape) -> Distribution:
    if not callable(base):
        raise TypeError(f"base must be a function from the number of features to a distribution, got {base!r}")
    return base(prod(shape))


def _multiscale(
    shape: Shape,
    levels: int,
    steps: int,
    mixing: Part | Sequence[Part],
    coupling: Part | Sequence[Part],
    squeeze: Callable[[], Transform],
    conditions: Conditions,
    *,
    context_features: int | None,
    reversible: bool,
) -> Multiscale:
    """The levels, for any number of axes behind the channels; a level has half the size along each, or as squeezed."""
    steps, factors = check_positive_int("steps", steps), factors_of(squeeze, shape)
    mixings, couplings = _per_level("mixing", mixing, levels), _per_level("coupling", coupling, levels)
    (channels, *sizes), parts, shapes = shape, [], []
    for level in range(levels):
        channels, sizes = channels * prod(factors), [size // f for size, f in zip(sizes, factors, strict=True)]
        level_shape = channels, *sizes
        chain: list[Transform] = [squeeze()] if sizes else []
        for _ in range(steps):
            chain.append(Chain([ActNorm(channels), mixings[level](level_shape), couplings[level](level_shape)]))
        prior = TopPrior if level == levels - 1 else SplitPrior
        chain.append(prior(level_shape, context_features=context_features))
        parts.append(conditions.apply((Reversible if reversible else Chain)(chain), level, level_shape))
        shapes.append(level_shape)
        channels = channel_halves(channels)[0]
    return Multiscale(parts, shapes)


def _per_level(name: str, part: Part | Sequence[Part], levels: int) -> Sequence[Part]:
    if callable(part):
        return [part] * levels
    if len(part) != levels or not all(map(callable, part)):
        raise ValueError(f"{name} must be a constructor or {levels} of them, one for each level, got {part!r}")
    return part
