"""Laws on cases that hypothesis draws: every transform of the registry, and whole flows.

A mixing or coupling comes in by its line in ``nflows_woodbury.config``. Drawn are sizes, ranks, settings, dtypes,
memory layouts, context, how far the parameters are from their start, and the seed of all numbers.

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
from math import log, prod
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import Phase, assume, currently_in_test_context, given, settings
from hypothesis import strategies as st
from nflows.transforms.base import Transform
from registry import CONTEXT_FEATURES
from torch import Tensor

from nflows_woodbury import ImageFlow, image_flow, transforms
from nflows_woodbury.config import COUPLINGS, DEQUANTIZERS, LOW_RANK, MIXINGS
from nflows_woodbury.linalg.low_rank import STARTS
from nflows_woodbury.transforms.base import LinearTransform
from nflows_woodbury.transforms.emerging import CORNERS
from nflows_woodbury.transforms.macow import DIRECTIONS

COMMON = {"deadline": None, "print_blob": True, "phases": set(Phase) - {Phase.explain}}  # explaining takes minutes
settings.register_profile("ci", max_examples=8, derandomize=True, **COMMON)
settings.register_profile("nightly", max_examples=500, database=None, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

HIDDEN = 6
SPREADS = (0.0, 0.01, 0.1, 0.3, 0.6)  # 0 is the start; at 1 what is added is as large as a random start would be
FLOW_SPREADS = SPREADS[:-1]  # many layers in a row
SHAPES = sorted(
    (shape for shape in product((1, 2, 3, 4, 5, 8, 12), range(1, 7), range(1, 7)) if prod(shape) <= 72),
    key=lambda shape: (prod(shape), shape),
)
AXES = [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)]
PAIRS = [(first, second) for first, second in product(AXES, AXES) if first[-1] < second[0]]
Shape = tuple[int, int, int]
Options = tuple[dict[str, Any], ...]


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


def _part(constructor: Callable[..., Transform], options: Options = ({},), *args: Any) -> Part:
    """What has no line in the presets, or settings that its line leaves alone."""
    return Part(lambda case: constructor(case.shape, *args, **case.option), options)


def _conditional(constructor: Callable[..., Transform], options: Options = ({},), *args: Any) -> Part:
    """Likewise, for what takes context."""
    return Part(lambda case: constructor(case.shape, *args, context_features=_features(case), **case.option), options)


def _options(**choices: Any) -> Options:
    return tuple(dict(zip(choices, values, strict=True)) for values in product(*choices.values()))


def _chain(kind: type[transforms.Chain], case: Case) -> Transform:
    """A chain with an empty one in it."""
    parts = [transforms.ActNorm(case.shape[0]), MIXINGS["conv1x1"](1, 1)(case.shape), transforms.Chain()]
    return kind([*parts, transforms.TopPrior(case.shape, context_features=_features(case))])


def _multiscale(case: Case) -> Transform:
    c, h, w = case.shape
    prior = transforms.SplitPrior(case.shape, context_features=_features(case))
    kept = (c - c // 2, h, w)
    return transforms.Multiscale([prior, transforms.ActNorm(kept[0])], [case.shape, kept])


def _squeeze(case: Case) -> Transform:
    squeeze = transforms.Squeeze(case.option)
    squeeze(torch.zeros(1, *case.shape))  # refuses sizes that it does not divide, when called
    return squeeze


PARTS: dict[str, Part] = {
    **{name: _mixing(name) for name in MIXINGS},
    **{name: _coupling(name) for name in COUPLINGS},
    "low-rank": Part(
        lambda case: transforms.LowRankTransform(case.shape, rank=case.ranks[0], **case.option),
        _options(axes=AXES, init=tuple(STARTS)),
    ),
    "low-rank-chain": Part(
        lambda case: transforms.LowRankChain(
            transforms.LowRankTransform(case.shape, axes, rank, case.option["init"])
            for axes, rank in zip(case.option["groups"], case.ranks, strict=True)
        ),
        _options(groups=PAIRS, init=tuple(STARTS)),
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
    "spline-bins": _conditional(transforms.SplineCoupling, _options(num_bins=(2, 3, 8), tail_bound=(0.5, 3.0)), HIDDEN),
    "actnorm": Part(lambda case: transforms.ActNorm(case.shape[0])),
    "squeeze": Part(_squeeze, (1, 2, 3)),
    "split-prior": _conditional(transforms.SplitPrior),
    "top-prior": _conditional(transforms.TopPrior),
    "chain": Part(partial(_chain, transforms.Chain)),
    "reversible": Part(partial(_chain, transforms.Reversible)),
    "multiscale": Part(_multiscale),
}


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
        inputs=draw(st.sampled_from((1.0, 0.0, 3.0))),
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


def require(condition: Any) -> None:
    """Have another case drawn unless this one is what a law is about; a replayed one is an error then."""
    if currently_in_test_context():
        assume(condition)
    elif not condition:
        raise ValueError("the case is outside of what the law is about")


def jacobians(transform: Transform, inputs: Tensor, context: Tensor | None) -> Tensor:
    """The Jacobian of each input by autograd, (B, D, D): one pass back through D copies of each.

    A case is drawn again if float64 cannot tell one from singular: if its condition is above 1e6.
    """
    require(tame(transform, inputs, context))
    size = inputs[0].numel()
    copies = inputs.detach().repeat_interleave(size, 0).requires_grad_()
    outputs, _ = transform(copies, None if context is None else context.repeat_interleave(size, 0))
    rows = torch.eye(size, dtype=inputs.dtype).repeat(len(inputs), 1)
    (gradient,) = torch.autograd.grad(outputs.flatten(1), copies, rows)
    dense = gradient.reshape(len(inputs), size, size)
    require((torch.linalg.cond(dense) < 1e6).all())
    return dense


def tame(transform: Transform, inputs: Tensor, context: Tensor | None) -> bool:
    """Whether no layer makes numbers above 1e12, as random layers in a row may; a NaN that comes without is a bug.

    Judged in float64: what only float32 makes too large is a bug too.
    """
    sizes = []
    transform = copy.deepcopy(transform).double()
    for part in leaves(transform):
        part.register_forward_hook(lambda _, inputs, results: sizes.append(largest(results[0])))
    with torch.no_grad():
        transform(inputs.double(), None if context is None else context.double())
    return not (torch.stack(sizes) > 1e12).any()


def leaves(transform: Transform) -> list[Transform]:
    """The transforms that are made of no others, or that apply those they are made of at once."""
    if isinstance(transform, LinearTransform):
        return [transform]
    parts = [part for child in transform.children() for part in leaves(child)]
    return parts or [transform] * isinstance(transform, Transform)


def roundings(transform: Transform, inputs: Tensor, context: Tensor | None, direction: str) -> Tensor:
    """How far outputs and log-det of each input can move if all that passes between layers does, by a unit: (B, D + 1).

    First-order error analysis: the derivative by each entry of each layer's in- and outputs, times the largest value
    there or 1, summed. Times the unit roundoff it is what rounding each layer once can do.
    """
    rows, seen = inputs[0].numel() + 1, []

    def moved(values: Tensor) -> Tensor:
        seen.append((torch.zeros_like(values, requires_grad=True), largest(values).clamp_min(1)))
        return values + seen[-1][0]

    def probe(layer: Callable[..., tuple[Tensor, Tensor]], values: Tensor, context: Tensor | None = None) -> Any:
        outputs, logabsdet = layer(moved(values), context)
        return moved(outputs), logabsdet

    probed = copy.deepcopy(transform).double().requires_grad_(False)
    for part in leaves(probed):
        setattr(part, direction, partial(probe, getattr(part, direction)))
    copies = inputs.detach().double().repeat_interleave(rows, 0)
    context = None if context is None else context.double().repeat_interleave(rows, 0)
    outputs, logabsdet = getattr(probed, direction)(copies, context)
    require(not (torch.cat([size for _, size in seen]) > 1e12).any())
    results, each_row = torch.cat([outputs.flatten(1), logabsdet[:, None]], 1), torch.eye(rows, dtype=torch.float64)
    gradients = torch.autograd.grad(results, [move for move, _ in seen], each_row.repeat(len(inputs), 1))
    total = sum(g.abs().flatten(1).sum(1) * size for g, (_, size) in zip(gradients, seen, strict=True))
    return total.view(len(inputs), rows)


def bounds(transform: Transform, inputs: Tensor, context: Tensor | None, direction: str) -> tuple[Tensor, Tensor]:
    """What rounding in the inputs' dtype can do to the outputs of each input, and to its log-det: (B,) and (B,).

    A layer rounds more than once: sums of n terms by about the root of n (Higham and Mary, SIAM J. Sci. Comput. 2019),
    with n up to 72 here, on the way there and on the way back: 2 sqrt(72) < 17 units. A log-det is itself a sum, of D
    terms. A case whose outputs can move by more than 1e-2 is drawn again: it leaves its dtype no digits to speak of.
    """
    units = 17 * torch.finfo(inputs.dtype).eps / 2
    moves = roundings(transform, inputs, context, direction)
    assert not moves.isnan().any()
    of_outputs, of_logabsdet = units * moves[:, :-1].amax(1), units * (moves[:, -1] + moves.shape[1] - 1)
    require((of_outputs < 1e-2).all())
    return of_outputs, of_logabsdet


def agree(results: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], bound: tuple[Tensor, Tensor]) -> None:
    """Outputs and log-dets are those expected, but for rounding."""
    assert (largest(results[0] - expected[0]) <= bound[0]).all()
    assert ((results[1] - expected[1]).abs() <= bound[1]).all()


def each(inputs: Tensor, context: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    return ((inputs[i : i + 1], None if context is None else context[i : i + 1]) for i in range(len(inputs)))


def largest(values: Tensor) -> Tensor:
    """The largest absolute value of each item, (B, ...) -> (B,) in float64."""
    return values.detach().double().abs().flatten(1).amax(1)


def close(values: Tensor, expected: Tensor) -> bool:
    """Within 1e-9: relative, and absolute where what is expected is below 1."""
    return bool(((values - expected).abs() <= 1e-9 * expected.abs().clamp_min(1)).all())


# --- laws of every transform


def each_transform(law: Callable[[Case], None]) -> Callable[..., None]:
    """A law of a case as a test of every transform; ``.law`` is the law itself, to replay a case with."""

    @pytest.mark.parametrize("name", PARTS)
    @given(data=st.data())
    def test(name: str, data: st.DataObject) -> None:
        law(data.draw(cases(name), "case"))

    test.law = law
    return test


@each_transform
def test_round_trip(case: Case) -> None:
    transform, inputs, context = case.draw()
    with torch.no_grad():
        outputs, logabsdet = transform(inputs, context)
        back, _ = transform.inverse(outputs, context)
    bound, _ = bounds(transform, outputs, context, "inverse")
    assert back.dtype == outputs.dtype == logabsdet.dtype == inputs.dtype
    assert back.shape == inputs.shape and logabsdet.shape == (case.batch,)
    assert (largest(back - inputs) <= bound).all()


@each_transform
def test_logabsdet_is_that_of_the_autograd_jacobian(case: Case) -> None:
    transform, inputs, context = case.draw("float64")
    dense = jacobians(transform, inputs, context)
    assert close(transform(inputs, context)[1], torch.linalg.slogdet(dense).logabsdet)


@each_transform
def test_inverse_logabsdet_is_the_negative(case: Case) -> None:
    transform, inputs, context = case.draw("float64")
    jacobians(transform, inputs, context)  # which draws again what is close to singular
    outputs, forward = transform(inputs, context)
    _, inverse = transform.inverse(outputs, context)
    assert close(-inverse, forward)


@each_transform
def test_memory_layout_changes_nothing(case: Case) -> None:
    transform, inputs, context = case.draw()
    lay = LAYOUTS[case.layout]
    laid_context = lay(context) if case.context == "map" else context
    context = None if context is None else plain(laid_context)
    latents = transform(inputs, context)[0].detach()
    flat = latents.dim() == 2
    for direction, laid in [
        ("forward", lay(inputs)),
        ("inverse", latents.mT.contiguous().mT if flat else lay(latents)),
    ]:
        bound, call = bounds(transform, plain(laid), context, direction), getattr(transform, direction)
        agree(call(laid, laid_context), call(plain(laid), context), bound)


def plain(values: Tensor) -> Tensor:
    return values.clone(memory_format=torch.contiguous_format)


@each_transform
def test_a_batch_is_its_items_one_by_one(case: Case) -> None:
    transform, inputs, context = case.draw()
    latents = transform(inputs, context)[0].detach()
    for direction, values in [("forward", inputs), ("inverse", latents)]:
        bound, call = bounds(transform, values, context, direction), getattr(transform, direction)
        agree(one_by_one(call, values, context), call(values, context), bound)


def one_by_one(call: Callable[..., tuple[Tensor, Tensor]], values: Tensor, context: Tensor | None) -> Any:
    outputs, logabsdets = zip(*(call(*item) for item in each(values, context)), strict=True)
    return torch.cat(outputs), torch.cat(logabsdets)


@each_transform
def test_a_batch_of_none_keeps_shapes(case: Case) -> None:
    transform, inputs, context = case.draw()
    shape = transform(inputs, context)[0].shape[1:]
    inputs = LAYOUTS[case.layout](inputs[:0]).requires_grad_()
    context = None if context is None else context[:0]
    outputs, logabsdet = transform(inputs, context)
    back, inverse_logabsdet = transform.inverse(outputs, context)
    assert outputs.shape == (0, *shape) and back.shape == (0, *case.shape)
    assert logabsdet.shape == inverse_logabsdet.shape == (0,)
    assert outputs.dtype == back.dtype == logabsdet.dtype == inputs.dtype
    for values in (outputs, back):
        values.sum().backward(retain_graph=True)
    assert inputs.grad.shape == inputs.shape


@each_transform
def test_gradients_are_finite(case: Case) -> None:
    transform, inputs, context = case.draw()
    latents = transform(inputs, context)[0].detach()
    for direction, values in [("forward", inputs), ("inverse", latents)]:
        transform.zero_grad()
        values = LAYOUTS[case.layout](values) if values.dim() == 4 else values
        values = values.detach().requires_grad_()
        outputs, logabsdet = getattr(transform, direction)(values, context)
        (outputs.square().sum() + logabsdet.sum()).backward()
        for name, tensor in [*transform.named_parameters(), ("inputs", values)]:
            assert tensor.grad is not None and tensor.grad.isfinite().all(), (direction, name)


def test_every_public_transform_is_drawn() -> None:
    drawn = {type(module) for name in DEQUANTIZERS for module in [DEQUANTIZERS[name]((1, 2, 2), 8)]}
    for name, part in PARTS.items():
        shape = next(shape for shape in SHAPES if _fits(name, repr(part.options[0]), None, shape))
        drawn |= {type(module) for module in part.make(Case(name, shape, part.options[0])).modules()}
    public = [getattr(transforms, name) for name in transforms.__all__]
    assert {part for part in public if isinstance(part, type) and issubclass(part, Transform)} <= drawn


# --- laws of whole flows


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

    def draw(self, dtype: str | None = None) -> tuple[ImageFlow, Tensor, Tensor | None]:
        """The flow in eval mode, started on such images and moved, the images in the case's layout, and the context."""
        torch.manual_seed(self.seed)
        flow = self.build()
        start, images = self._images(16), self._images(self.batch)
        context = torch.randn(16, CONTEXT_FEATURES) if self.context else None
        flow.initialize(start, context)
        to = getattr(torch, dtype or self.dtype)
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
        ranks=draw(st.tuples(st.integers(1, 20), st.integers(1, 20))),
        context=draw(st.booleans()),
        spread=draw(st.sampled_from(FLOW_SPREADS)),
        pixels=draw(st.sampled_from(((0, 255), (0, 0), (255, 255), (0, 3), (200, 255)))),
        batch=draw(st.integers(1, 3)),
        dtype=draw(st.sampled_from(("float64", "float32"))),
        layout=draw(st.sampled_from(tuple(LAYOUTS))),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def each_flow(law: Callable[[FlowCase], None]) -> Callable[..., None]:
    """A law of a flow as a test of flows with every mixing, and every coupling among them."""

    @pytest.mark.parametrize("mixing", MIXINGS)
    @given(data=st.data())
    def test(mixing: str, data: st.DataObject) -> None:
        law(data.draw(flow_cases((mixing,), tuple(DEQUANTIZERS)), "case"))

    test.law = law
    return test


def each_dequantizer(law: Callable[[FlowCase], None]) -> Callable[..., None]:
    """A law of a flow as a test of flows with every dequantization."""

    @pytest.mark.parametrize("dequantize", DEQUANTIZERS)
    @given(data=st.data())
    def test(dequantize: str, data: st.DataObject) -> None:
        law(data.draw(flow_cases(tuple(MIXINGS), (dequantize,)), "case"))

    test.law = law
    return test


def quantized(images: Tensor, bits: int) -> Tensor:
    return images >> (8 - bits) << (8 - bits)


@each_dequantizer
def test_dequantized_images_stand_a_nudge(case: FlowCase) -> None:
    """By 2^-30 of a bin, in float64: what a flow's round trip may do to them must not change an image."""
    flow, images, _ = case.draw("float64")
    dequantize, nudge = flow._transform[0], 2.0 ** -(30 + case.bits)
    values, logabsdet = dequantize(images)
    assert values.abs().max() <= 0.5 and logabsdet.isfinite().all()
    for moved in (values - nudge, values, values + nudge):
        assert torch.equal(dequantize.inverse(moved)[0], quantized(images, case.bits))


@each_flow
def test_uint8_round_trip_of_flows_is_exact_in_float64(case: FlowCase) -> None:
    flow, images, context = case.draw("float64")
    with torch.no_grad():
        noise = flow.transform_to_noise(images, context)
    bound, _ = bounds(flow._transform[1], noise, context, "inverse")
    require((bound * 2**case.bits < 2**-20).all())  # of a bin: closer to its ends noise lies once in a million values
    back = flow.transform_from_noise(noise, context)
    assert back.dtype == torch.uint8 and back.shape == images.shape
    assert torch.equal(back, quantized(images, case.bits))


@each_flow
def test_round_trip_of_dequantized_images_through_flows(case: FlowCase) -> None:
    flow, images, context = case.draw()
    dequantize, multiscale = flow._transform
    with torch.no_grad():
        values, _ = dequantize(images)
        noise, logabsdet = multiscale(values, context)
        back, _ = multiscale.inverse(noise, context)
    assert values.dtype == noise.dtype == back.dtype == logabsdet.dtype == getattr(torch, case.dtype)
    bound, _ = bounds(multiscale, noise, context, "inverse")
    assert (largest(back - values) <= bound).all()


@each_flow
def test_log_prob_is_the_base_and_the_autograd_jacobian(case: FlowCase) -> None:
    flow, images, context = case.draw("float64")
    dequantize, multiscale = flow._transform
    torch.manual_seed(case.seed)
    values, of_bins = dequantize(images)
    values = values.detach()
    expected = torch.linalg.slogdet(jacobians(multiscale, values, context)).logabsdet
    noise, logabsdet = multiscale(values, context)
    assert close(logabsdet, expected) and close(-multiscale.inverse(noise, context)[1], logabsdet)
    torch.manual_seed(case.seed)
    log_prob = flow.log_prob(images, context)
    base = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1).log_prob(noise).sum(1)
    torch.testing.assert_close(log_prob, base + expected + of_bins, rtol=1e-9, atol=1e-9)
    torch.manual_seed(case.seed)
    torch.testing.assert_close(flow(images, context), -log_prob / (values[0].numel() * log(2)))


@each_flow
def test_memory_layout_of_images_changes_nothing(case: FlowCase) -> None:
    flow, images, context = case.draw()
    dequantize, multiscale = flow._transform
    drawn = []
    for layout in (images, plain(images)):
        torch.manual_seed(case.seed)
        drawn.append(dequantize(layout))
    for values, expected in zip(*drawn, strict=True):
        torch.testing.assert_close(values, expected)
    values = drawn[0][0].detach()
    bound = bounds(multiscale, plain(values), context, "forward")
    agree(multiscale(values, context), multiscale(plain(values), context), bound)
    noise = flow.transform_to_noise(images, context).detach()
    assert flow.transform_from_noise(noise.mT.contiguous().mT, context).shape == images.shape


@each_flow
def test_a_batch_of_images_is_its_items_one_by_one(case: FlowCase) -> None:
    flow, images, context = case.draw()
    dequantize, multiscale = flow._transform
    values = dequantize(images)[0].detach()
    bound = bounds(multiscale, values, context, "forward")
    agree(one_by_one(multiscale, values, context), multiscale(values, context), bound)


@each_flow
def test_no_images_keep_their_shapes(case: FlowCase) -> None:
    flow, images, context = case.draw()
    images, context = images[:0], None if context is None else context[:0]
    bits = flow(images, context)
    noise = flow.transform_to_noise(images, context)
    assert bits.shape == flow.log_prob(images, context).shape == (0,)
    assert noise.shape == (0, prod(case.size[1]))
    assert noise.dtype == bits.dtype == getattr(torch, case.dtype)
    back = flow.transform_from_noise(noise, context)
    assert back.shape == images.shape and back.dtype == torch.uint8
    bits.sum().backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in flow.parameters())


@each_flow
def test_gradients_of_flows_are_finite(case: FlowCase) -> None:
    flow, images, context = case.draw()
    dequantize, multiscale = flow._transform
    torch.manual_seed(case.seed)
    require(tame(multiscale, dequantize(images)[0], context))
    torch.manual_seed(case.seed)  # the same noise again
    bits = flow(images, context)
    assert bits.isfinite().all()
    bits.sum().backward()
    for name, parameter in flow.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


#: what once broke a law, as it was printed
BROKE = [
    (test_gradients_are_finite, Case("reversible", (1, 1, 1), spread=0.1, inputs=0.0)),
    (
        test_dequantized_images_stand_a_nudge,
        FlowCase("woodbury", "additive", (1, (2, 4, 4)), "variational", bits=1, spread=0.6, seed=1),
    ),
    (
        test_uint8_round_trip_of_flows_is_exact_in_float64,
        FlowCase(
            "woodbury", "additive", (2, (3, 4, 8)), "variational", steps=2, bits=1, ranks=(7, 17), context=True,
            spread=0.6, batch=2, layout="reversed", seed=564,
        ),
    ),
    (
        test_gradients_of_flows_are_finite,
        FlowCase(
            "emerging", "macow", (2, (2, 8, 8)), "variational", steps=2, bits=2, spread=0.3, pixels=(0, 0), batch=2,
            dtype="float32", seed=4,
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize("test, case", BROKE, ids=lambda value: getattr(value, "mixing", getattr(value, "name", "")))
def test_what_once_broke_a_law_no_longer_does(test: Any, case: Case | FlowCase) -> None:
    test.law(case)
