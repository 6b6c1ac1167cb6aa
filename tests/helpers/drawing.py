"""Cases that hypothesis draws: of every transform in the registry, and of whole flows.

Drawn are sizes, ranks, settings, dtypes, memory layouts, context, how far the parameters are from their start, and the
seed of all numbers. ``HYPOTHESIS_PROFILE=nightly`` tries 500 cases of each transform (``tox -e nightly``), ``quick``
one, the default ``ci`` a few; the last two always the same. A case that breaks a law is printed as ``Case(...)``,
shrunk to a small one, and replayed without hypothesis:

    PYTHONPATH=tests/helpers:tests/transforms python -c "from test_drawn import *; test_round_trip.law(Case(...))"
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from math import prod
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from registry import CONTEXT_FEATURES, HIDDEN, LAYERS, Case, fits, move
from torch import Tensor

from nflows_woodbury import ImageFlow, image_flow
from nflows_woodbury.config import COUPLINGS, DEQUANTIZERS, MIXINGS

COMMON = {"deadline": None, "print_blob": True, "phases": set(Phase) - {Phase.explain}}  # explaining takes minutes
settings.register_profile("quick", max_examples=1, derandomize=True, **COMMON)
settings.register_profile("ci", max_examples=8, derandomize=True, **COMMON)
settings.register_profile("nightly", max_examples=500, database=None, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

SPREADS = (0.0, 0.01, 0.1, 0.3, 0.6)
FLOW_SPREADS = SPREADS[:-1]  # many layers in a row
IMAGE_SHAPES = sorted(
    (shape for shape in product((1, 2, 3, 4, 5, 8, 12), range(1, 7), range(1, 7)) if prod(shape) <= 72),
    key=lambda shape: (prod(shape), shape),
)
OTHER_SHAPES = [(1,), (2,), (7,), (2, 1), (3, 5), (4, 6), (1, 2, 2, 2), (2, 3, 1, 2), (4, 2, 2, 3)]
SHAPES = [*IMAGE_SHAPES, *OTHER_SHAPES]
BOUNDED = ("logit",)  # which takes no values far from zero
DTYPES, CONTEXTS = ("float64", "float32"), (None, "vector", "map")
BATCHES, RANKS, SEEDS = st.integers(1, 3), st.integers(1, 20), st.integers(0, 2**32 - 1)
Shape = tuple[int, ...]


def _strided(images: Tensor) -> Tensor:
    wide = images.new_zeros(*images.shape[:-1], 2 * images.shape[-1] + 1)
    wide[..., 1::2] = images
    return wide[..., 1::2]


def _cropped(images: Tensor) -> Tensor:
    wide = images.new_zeros([size + 3 for size in images.shape])
    inner = wide[(slice(2, -1),) * images.dim()]
    inner.copy_(images)
    return inner


def _reordered(images: Tensor, *order: int) -> Tensor:
    """With its axes in another order in memory."""
    back = sorted(range(len(order)), key=order.__getitem__)
    return images.permute(*order).contiguous().permute(*back)


#: name -> the same shape in another memory layout; the expanded ones take their values from one entry of an axis
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda images: images,
    "channels-last": lambda images: _reordered(images, 0, *range(2, images.dim()), 1),
    "strided": _strided,
    "cropped": _cropped,
    "transposed": lambda images: images.mT.contiguous().mT,
    "reversed": lambda images: _reordered(images, *reversed(range(images.dim()))),
    "batch-last": lambda images: _reordered(images, *range(1, images.dim()), 0),
    "expanded-batch": lambda images: images[:1].expand_as(images),
    "expanded-channels": lambda images: images[:, :1].expand_as(images),
    "expanded-rows": lambda images: images.narrow(min(2, images.dim() - 1), 0, 1).expand_as(images),
}


# --- transforms


@cache
def _fits(name: str, settings: tuple[tuple[str, Any], ...], context: str | None, shape: Shape) -> bool:
    return fits(Case(name, shape, dict(settings), context=context))


@st.composite
def cases(draw: st.DrawFn, name: str) -> Case:
    settings = {key: draw(st.sampled_from(values)) for key, values in LAYERS[name].choices.items()}
    context, images = draw(st.sampled_from(CONTEXTS)), len(LAYERS[name].shapes[0]) == 3
    shapes = SHAPES if images else LAYERS[name].shapes
    return Case(
        name=name,
        shape=draw(st.sampled_from(shapes).filter(partial(_fits, name, tuple(settings.items()), context))),
        settings=settings,
        ranks=draw(st.tuples(RANKS, RANKS)),
        context=context,
        spread=draw(st.sampled_from(SPREADS)),
        scale=draw(st.sampled_from((1.0, 0.0) if name in BOUNDED else (1.0, 0.0, 3.0))),
        batch=draw(BATCHES),
        dtype=draw(st.sampled_from(DTYPES)),
        layout=draw(st.sampled_from(tuple(LAYOUTS) if images else ("contiguous",))),
        seed=draw(SEEDS),
    )


def each_transform(law: Callable[[Case], None]) -> Callable[..., None]:
    """A law of a case as a test of every transform; ``.law`` is the law itself, to replay a case with."""

    @pytest.mark.quick
    @pytest.mark.parametrize("name", LAYERS)
    @given(data=st.data())
    def test(name: str, data: st.DataObject) -> None:
        law(data.draw(cases(name), "case"))

    test.law = law
    return test


# --- flows


FLOW_SHAPES = [
    (levels, (c, a * 2**levels, b * 2**levels))
    for levels, c, a, b in product((1, 2), (1, 2, 3), (1, 2, 3), (1, 2, 3))
    if c * a * b * 4**levels <= 192
]


@dataclass(frozen=True)
class FlowCase:
    """One drawn flow over uint8 images and a batch of them; the repr is Python that makes it again."""

    mixing: str
    coupling: str
    size: tuple[int, Shape]  # levels, and the shape of the images
    dequantize: str = "uniform"
    steps: int = 1
    bits: int = 8
    ranks: tuple[int, int] = (1, 1)
    context: bool = False
    spread: float = 0.0
    pixels: tuple[int, int] = (0, 255)  # smallest and largest
    batch: int = 1
    dtype: str = "float64"
    layout: str = "contiguous"
    seed: int = 0

    def build(self) -> ImageFlow:
        """The flow with its parameters at their random start."""
        levels, shape = self.size
        features = CONTEXT_FEATURES if self.context else None
        return image_flow(
            shape,
            levels=levels,
            steps=self.steps,
            mixing=MIXINGS[self.mixing](*self.ranks),
            coupling=partial(COUPLINGS[self.coupling], hidden_channels=HIDDEN, context_features=features),
            dequantize=DEQUANTIZERS[self.dequantize](shape, self.bits),
            context_features=features,
        )

    def draw(self, dtype: torch.dtype | None = None) -> tuple[ImageFlow, Tensor, Tensor | None]:
        """The flow in eval mode, started on such images and moved, the images in the case's layout, and the context."""
        torch.manual_seed(self.seed)
        flow = self.build()
        start, images = self._images(16), self._images(self.batch)
        context = torch.randn(16, CONTEXT_FEATURES) if self.context else None
        flow.initialize(start, context)
        to = dtype or getattr(torch, self.dtype)
        context = None if context is None else context[: self.batch].to(to)
        return move(flow, self.spread).eval().to(to), LAYOUTS[self.layout](images), context

    def _images(self, count: int) -> Tensor:
        low, high = self.pixels
        return torch.randint(low, high + 1, (count, *self.size[1]), dtype=torch.uint8)


@cache
def _flow_fits(mixing: str, coupling: str, size: tuple[int, Shape]) -> bool:
    try:
        FlowCase(mixing, coupling, size).build()
    except ValueError:
        return False
    return True


@st.composite
def flow_cases(draw: st.DrawFn, mixings: tuple[str, ...], dequantizers: tuple[str, ...]) -> FlowCase:
    mixing, coupling = draw(st.sampled_from(mixings)), draw(st.sampled_from(tuple(COUPLINGS)))
    return FlowCase(
        mixing=mixing,
        coupling=coupling,
        size=draw(st.sampled_from(FLOW_SHAPES).filter(partial(_flow_fits, mixing, coupling))),
        dequantize=draw(st.sampled_from(dequantizers)),
        steps=draw(st.integers(1, 2)),
        bits=draw(st.integers(1, 8)),
        ranks=draw(st.tuples(RANKS, RANKS)),
        context=draw(st.booleans()),
        spread=draw(st.sampled_from(FLOW_SPREADS)),
        pixels=draw(st.sampled_from(((0, 255), (0, 0), (255, 255), (0, 3), (200, 255)))),
        batch=draw(BATCHES),
        dtype=draw(st.sampled_from(DTYPES)),
        layout=draw(st.sampled_from(tuple(LAYOUTS))),
        seed=draw(SEEDS),
    )


def each_flow(law: Callable[[FlowCase], None]) -> Callable[..., None]:
    """A law of a flow as a test of flows with every mixing, and every coupling among them."""

    @pytest.mark.quick
    @pytest.mark.parametrize("mixing", MIXINGS)
    @given(data=st.data())
    def test(mixing: str, data: st.DataObject) -> None:
        law(data.draw(flow_cases((mixing,), tuple(DEQUANTIZERS)), "case"))

    test.law = law
    return test


def each_dequantizer(law: Callable[[FlowCase], None]) -> Callable[..., None]:
    """A law of a flow as a test of flows with every dequantization."""

    @pytest.mark.quick
    @pytest.mark.parametrize("dequantize", DEQUANTIZERS)
    @given(data=st.data())
    def test(dequantize: str, data: st.DataObject) -> None:
        law(data.draw(flow_cases(tuple(MIXINGS), (dequantize,)), "case"))

    test.law = law
    return test
