"""Laws on cases that hypothesis draws: every transform of the registry, and whole flows.

A mixing or coupling comes in by its line in ``nflows_woodbury.presets``. Sizes, ranks, settings, dtypes, memory layouts,
context, how far the parameters are from their start and the seed of all numbers are drawn.

``HYPOTHESIS_PROFILE=nightly`` tries 500 cases of each transform (``tox -e nightly``), the default ``ci`` a few, always
the same. A case that breaks a law is printed as ``Case(...)``, shrunk to a small one, and replayed without hypothesis:

    PYTHONPATH=tests python -c "from test_properties import *; test_round_trip.law(Case(...))"
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from math import prod
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nflows.transforms.base import Transform
from registry import CONTEXT_FEATURES
from torch import Tensor

from nflows_woodbury import ImageFlow, image_flow, transforms
from nflows_woodbury.lowrank import STARTS
from nflows_woodbury.presets import COUPLINGS, DEQUANTIZERS, LOW_RANK, MIXINGS
from nflows_woodbury.transforms.emerging import CORNERS
from nflows_woodbury.transforms.macow import DIRECTIONS

settings.register_profile("ci", max_examples=8, derandomize=True, deadline=None, print_blob=True)
settings.register_profile("nightly", max_examples=500, database=None, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

HIDDEN = 6
SPREADS = (0.0, 0.01, 0.1, 0.3, 1.0)  # 0 is the start; at 1 what is added is as large as a random start would be
SHAPES = sorted(
    (shape for shape in product((1, 2, 3, 4, 5, 8, 12), range(1, 7), range(1, 7)) if prod(shape) <= 72),
    key=lambda shape: (prod(shape), shape),
)
AXES = [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)]
Shape = tuple[int, int, int]


# --- what is drawn


@dataclass(frozen=True)
class Case:
    """One drawn transform and its inputs; the repr is Python that makes it again."""

    name: str
    shape: Shape
    option: Any = None
    ranks: tuple[int, int] = (1, 1)
    context: str | None = None  # None, "vector" or "map"
    spread: float = 0.0
    inputs: float = 1.0  # standard deviation
    batch: int = 1
    dtype: str = "float64"
    layout: str = "contiguous"
    seed: int = 0

    def draw(self, dtype: str | None = None) -> tuple[Transform, Tensor, Tensor | None]:
        """The transform in eval mode, its inputs and its context, in the case's dtype or another."""
        torch.manual_seed(self.seed)
        transform = move(PARTS[self.name].make(self), self.spread).eval()
        inputs = self.inputs * torch.randn(self.batch, *self.shape, dtype=torch.float64)
        size = () if self.context == "vector" else self.shape[1:]
        context = torch.randn(self.batch, CONTEXT_FEATURES, *size, dtype=torch.float64) if self.context else None
        to = getattr(torch, dtype or self.dtype)
        return transform.to(to), inputs.to(to), None if context is None else context.to(to)


class Part(NamedTuple):
    """How a case becomes a transform, and the options that cases are drawn with."""

    make: Callable[[Case], Transform]
    options: tuple[Any, ...] = (None,)


def _mixing(name: str) -> Part:
    starts = ({}, *({"init": init} for init in STARTS)) if name in LOW_RANK else ({},)
    return Part(lambda case: partial(MIXINGS[name](*case.ranks), **(case.option or {}))(case.shape), starts)


def _coupling(name: str) -> Part:
    return Part(lambda case: COUPLINGS[name](case.shape, HIDDEN, context_features=_features(case)))


def _features(case: Case) -> int | None:
    return CONTEXT_FEATURES if case.context else None


def _part(constructor: Callable[..., Transform], options: tuple[dict[str, Any], ...] = ({},), *args: Any) -> Part:
    """What has no line in the presets, or settings that its line leaves alone."""
    return Part(lambda case: constructor(case.shape, *args, **case.option), options)


def _conditional(constructor: Callable[..., Transform], options: tuple[dict[str, Any], ...] = ({},), *args: Any) -> Part:
    return Part(lambda case: constructor(case.shape, *args, context_features=_features(case), **case.option), options)


def _options(**choices: Any) -> tuple[dict[str, Any], ...]:
    return tuple(dict(zip(choices, values, strict=True)) for values in product(*choices.values()))


def _chain(case: Case) -> Transform:
    """A chain that ends where it began, with an empty one in it."""
    parts = [transforms.ActNorm(case.shape[0]), MIXINGS["conv1x1"](1, 1)(case.shape), transforms.Chain()]
    return transforms.Chain([*parts, transforms.TopPrior(case.shape, context_features=_features(case))])


def _multiscale(case: Case) -> Transform:
    c, h, w = case.shape
    prior = transforms.SplitPrior(case.shape, context_features=_features(case))
    kept = (c - c // 2, h, w)
    return transforms.Multiscale([prior, transforms.ActNorm(kept[0])], [case.shape, kept])


PARTS: dict[str, Part] = {
    **{name: _mixing(name) for name in MIXINGS},
    **{name: _coupling(name) for name in COUPLINGS},
    "low-rank": Part(
        lambda case: transforms.LowRankTransform(case.shape, rank=case.ranks[0], **case.option),
        _options(axes=AXES, init=tuple(STARTS)),
    ),
    "autoregressive": _part(
        transforms.AutoregressiveConvolution, _options(kernel_size=(1, 2, 3), corner=tuple(CORNERS))
    ),
    "emerging-window": _part(transforms.EmergingConvolution, _options(kernel_size=(1, 5))),
    "periodic-window": _part(transforms.PeriodicConvolution, _options(kernel_size=(1, 2, 4, 5))),
    "masked-conv": _conditional(
        transforms.MaskedConvCoupling,
        _options(kernel_size=((1, 1), (2, 3), (3, 5)), direction=tuple(DIRECTIONS)),
        HIDDEN,
    ),
    "macow-window": _conditional(transforms.MaCowUnit, _options(kernel_size=((1, 1), (3, 5))), HIDDEN),
    "spline-bins": _conditional(
        transforms.SplineCoupling, _options(num_bins=(2, 3, 8), tail_bound=(0.5, 3.0)), HIDDEN
    ),
    "actnorm": Part(lambda case: transforms.ActNorm(case.shape[0])),
    "squeeze": Part(lambda case: _squeeze(case), (1, 2, 3)),
    "split-prior": _conditional(transforms.SplitPrior),
    "top-prior": _conditional(transforms.TopPrior),
    "chain": Part(_chain),
    "multiscale": Part(_multiscale),
}


def _squeeze(case: Case) -> Transform:
    squeeze = transforms.Squeeze(case.option)
    squeeze(torch.zeros(1, *case.shape))  # refuses sizes that it does not divide, when called
    return squeeze


def move(module: Any, spread: float) -> Any:
    """Add noise to all parameters, of standard deviation ``spread`` over the root of the fan-in."""
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 4
            parameter += spread / fan_in**0.5 * torch.randn(parameter.shape)
    return module


@cache
def _fits(name: str, option: str, context: str | None, shape: Shape) -> bool:
    """Whether a transform takes a size; it may refuse one, such as an image smaller than its kernel."""
    try:
        PARTS[name].make(Case(name, shape, {repr(o): o for o in PARTS[name].options}[option], context=context))
    except ValueError:
        return False
    return True


@st.composite
def cases(draw: st.DrawFn, name: str) -> Case:
    option = draw(st.sampled_from(PARTS[name].options))
    context = draw(st.sampled_from((None, "vector", "map")))
    return Case(
        name=name,
        shape=draw(st.sampled_from(SHAPES).filter(partial(_fits, name, repr(option), context))),
        option=option,
        ranks=draw(st.tuples(st.integers(1, 20), st.integers(1, 20))),
        context=context,
        spread=draw(st.sampled_from(SPREADS)),
        inputs=draw(st.sampled_from((1.0, 0.0, 5.0))),
        batch=draw(st.integers(1, 3)),
        dtype=draw(st.sampled_from(("float64", "float32"))),
        layout=draw(st.sampled_from(tuple(LAYOUTS))),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def _strided(images: Tensor) -> Tensor:
    wide = images.new_zeros(*images.shape[:-1], 2 * images.shape[-1] + 1)
    wide[..., 1::2] = images
    return wide[..., 1::2]


def _cropped(images: Tensor) -> Tensor:
    b, c, h, w = images.shape
    wide = images.new_zeros(b + 1, c + 2, h + 3, w + 2)
    wide[1:, 1:-1, 2:-1, 1:-1] = images
    return wide[1:, 1:-1, 2:-1, 1:-1]


#: name -> the same shape in another memory layout; the expanded ones take their values from one entry of an axis
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda images: images,
    "channels-last": lambda images: images.contiguous(memory_format=torch.channels_last),
    "strided": _strided,
    "cropped": _cropped,
    "transposed": lambda images: images.mT.contiguous().mT,
    "reversed": lambda images: images.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    "batch-last": lambda images: images.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
    "expanded-batch": lambda images: images[:1].expand_as(images),
    "expanded-channels": lambda images: images[:, :1].expand_as(images),
    "expanded-rows": lambda images: images[:, :, :1].expand_as(images),
}


# --- what is measured


def jacobian(transform: Transform, inputs: Tensor, context: Tensor | None) -> Tensor:
    """The Jacobian of one input (1, ...) by autograd, (D, D): one pass back through a batch of D copies."""
    size = inputs.numel()
    copies = inputs.expand(size, *inputs.shape[1:]).clone().requires_grad_()
    outputs, _ = transform(copies, _repeat(context, size))
    (gradient,) = torch.autograd.grad(outputs.flatten(1), copies, torch.eye(size, dtype=inputs.dtype))
    return gradient.flatten(1)


def _repeat(context: Tensor | None, times: int) -> Tensor | None:
    return None if context is None else context.expand(times, *context.shape[1:])


def leaves(transform: Transform) -> list[Transform]:
    """The transforms that are made of no others."""
    return [m for m in transform.modules() if isinstance(m, Transform) and not _holds_transforms(m)]


def _holds_transforms(module: Transform) -> bool:
    return any(isinstance(other, Transform) for other in module.modules() if other is not module)


def roundings(transform: Transform, inputs: Tensor, context: Tensor | None) -> float:
    """How far one input (1, ...) comes back from itself if each layer's in- and output moves by one part of its largest.

    First-order error analysis of a round trip: the derivative of what comes back, by each entry at each boundary
    between layers, times the largest value there, summed. Times the unit roundoff it is what rounding every layer
    once can do.
    """
    size, seen = inputs.numel(), []

    def probe(inverse: Callable[..., tuple[Tensor, Tensor]], values: Tensor, context: Tensor | None = None) -> Any:
        outputs, logabsdet = inverse(_moved(values), context)
        return _moved(outputs), logabsdet

    def _moved(values: Tensor) -> Tensor:
        seen.append((torch.zeros_like(values, requires_grad=True), float(values.detach().abs().max())))
        return values + seen[-1][0]

    probed = copy.deepcopy(transform)
    for leaf in leaves(probed):
        leaf.inverse = partial(probe, leaf.inverse)
    with torch.no_grad():
        latents, _ = transform(inputs, context)
    back, _ = probed.inverse(latents.expand(size, *latents.shape[1:]).clone(), _repeat(context, size))
    moves = [move for move, _ in seen]
    gradients = torch.autograd.grad(back.flatten(1), moves, torch.eye(size, dtype=inputs.dtype), allow_unused=True)
    reach = [g.abs().flatten(1).sum(1) * s for g, (_, s) in zip(gradients, seen, strict=True) if g is not None]
    return float(sum(reach).max())
