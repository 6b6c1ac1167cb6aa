"""Every transform as the tests see it: one registry for laws, drawn cases, twins, the assembly grid and benchmarks.

A mixing or coupling comes in by its line in ``nflows_woodbury.config``; what has no name there has a line in LAYERS.
A Case is one transform at one setting. CASES are those that every law is checked at, QUICK one of them for each layer;
drawing.py draws others. Nothing here needs pytest, so that benchmarks can read it from a checkout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from math import prod
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from nflows.transforms.base import Transform
from torch import Tensor

from nflows_woodbury import transforms
from nflows_woodbury.config import COUPLINGS, LOW_RANK, MIXINGS, NETS
from nflows_woodbury.linalg.starts import STARTS
from nflows_woodbury.transforms.base import LinearTransform
from nflows_woodbury.transforms.emerging import CORNERS
from nflows_woodbury.transforms.macow import DIRECTIONS

Shape = tuple[int, ...]
Settings = dict[str, Any]

CONTEXT_FEATURES = 3
HIDDEN = 6  # channels in the networks of couplings


@dataclass(frozen=True)
class Case:
    """One transform at one setting, and inputs for it; the repr is Python that makes it again."""

    name: str  # in LAYERS
    shape: Shape  # of one input
    settings: Settings = field(default_factory=dict)  # of the constructor
    ranks: tuple[int, ...] = (2, 3)  # where there are factors: of the channels, and of the pixels or rows and columns
    context: str | None = None  # None, "vector" or "map"
    spread: float = 0.2  # how far parameters are from their start; at 1 what is added is as large as a random start
    scale: float = 1.0  # standard deviation of the inputs
    batch: int = 2
    dtype: str = "float64"
    layout: str = "contiguous"  # of the inputs in memory, a name in drawing.LAYOUTS
    seed: int = 0

    def __str__(self) -> str:
        changed = [*self.settings.values(), *([self.ranks] if self.ranks != (2, 3) else [])]
        return "-".join([self.name, *map(_plainly, changed), _plainly(self.shape)])

    def make(self) -> Transform:
        """The transform at its start, drawn from torch's global generator."""
        return LAYERS[self.name].make(self)

    def build(self, dtype: torch.dtype | None = None, seed: int | None = None) -> Transform:
        """The transform in eval mode, moved off its start, so that every parameter acts; the same in every dtype."""
        torch.manual_seed(self.seed if seed is None else seed)
        return move(self.make(), self.spread).eval().to(dtype or getattr(torch, self.dtype))

    def inputs(self, dtype: torch.dtype | None = None, batch: int | None = None, seed: int = 1) -> Tensor:
        size = (self.batch if batch is None else batch, *self.shape)
        return (self.scale * self._randn(size, seed)).to(dtype or getattr(torch, self.dtype))

    def contexts(self, dtype: torch.dtype | None = None, batch: int | None = None, seed: int = 2) -> Tensor | None:
        if self.context is None:
            return None
        pixels = self.shape[1:] if self.context == "map" else ()
        size = (self.batch if batch is None else batch, CONTEXT_FEATURES, *pixels)
        return self._randn(size, seed).to(dtype or getattr(torch, self.dtype))

    def _randn(self, size: Shape, seed: int) -> Tensor:
        return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(self.seed + seed))

    def draw(self, dtype: torch.dtype | None = None) -> tuple[Transform, Tensor, Tensor | None]:
        """The transform, its inputs and its context."""
        return self.build(dtype), self.inputs(dtype), self.contexts(dtype)

    @property
    def features(self) -> int | None:
        """What constructors call ``context_features``."""
        return CONTEXT_FEATURES if self.context else None

    @property
    def linear(self) -> bool:
        return is_linear(self.make())


def _plainly(value: object) -> str:
    """3x5 for (3, 5), in the names of cases."""
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def is_linear(transform: Transform) -> bool:
    """Whether a transform is a linear layer, or a chain of such."""
    if isinstance(transform, transforms.Chain):
        return all(map(is_linear, transform))
    return isinstance(transform, LinearTransform | transforms.Squeeze | transforms.HaarSqueeze)


def move(module: Any, spread: float) -> Any:
    """Add noise to all parameters, of standard deviation ``spread`` over the root of the fan-in."""
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = parameter[0].numel() if parameter.dim() > 1 and parameter.numel() else 4
            parameter += spread / fan_in**0.5 * torch.randn(parameter.shape)
    return module


def dense_jacobian(transform: Transform, inputs: Tensor, context: Tensor | None = None) -> Tensor:
    """The Jacobian of one input (1, ...) as a (D, D) matrix, by autograd."""
    size = prod(inputs.shape)
    jacobian = torch.autograd.functional.jacobian(lambda x: transform(x, context)[0], inputs)
    return jacobian.reshape(size, size)


# --- the layers

# Odd sizes, one channel, h != w, one row, one pixel. Few pixels: the laws take dense Jacobians. Sizes that a layer
# refuses with a ValueError, such as an image smaller than its kernel, are left out.
SHAPES = [(4, 4, 4), (1, 5, 3), (7, 3, 5), (3, 1, 6), (5, 1, 1), (12, 4, 2)]
COUPLING_SHAPES = [(4, 4, 4), (2, 5, 3), (7, 3, 2)]
# Vectors, sequences and volumes, for all that does not say that it is for images.
OTHER_SHAPES = [(5,), (4, 3), (2, 2, 1, 3)]
AXES = [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)]
PAIRS = [(first, second) for first, second in product(AXES, AXES) if first[-1] < second[0]]


class Layer(NamedTuple):
    """How a case becomes a transform, the values of its settings, and the shapes that laws are checked at."""

    make: Callable[[Case], Transform]
    choices: Mapping[str, Sequence[Any]] = MappingProxyType({})
    shapes: Sequence[Shape] = SHAPES
    conditional: bool = False  # takes context


#: settings of mixings beside their ranks
SETTINGS: dict[str, Settings] = {
    **{name: {"init": ["default", *STARTS]} for name in LOW_RANK},
    "circulant": {"num_circulants": [1, 3], "init": ["rotation", "identity"]},
    "butterfly": {"groups": [((0,), (1, 2)), ((0,), (1,), (2,))]},
}


def _mixing(name: str) -> Layer:
    def make(case: Case) -> Transform:
        settings = {key: value for key, value in case.settings.items() if value != "default"}
        return partial(MIXINGS[name](*case.ranks), **settings)(case.shape)

    return Layer(make, SETTINGS.get(name, {}), [*SHAPES, *OTHER_SHAPES])


def _plain(constructor: Callable[..., Transform], shapes: Sequence[Shape] = SHAPES, **choices: Sequence[Any]) -> Layer:
    """What takes its shape alone."""
    return Layer(lambda case: constructor(case.shape, **case.settings), choices, shapes)


def _conditional(constructor: Callable[..., Transform], *args: Any, **choices: Sequence[Any]) -> Layer:
    """What takes context after its shape and ``args``."""

    def make(case: Case) -> Transform:
        return constructor(case.shape, *args, context_features=case.features, **case.settings)

    return Layer(make, choices, [*COUPLING_SHAPES, *OTHER_SHAPES], conditional=True)


def _with_net(name: str) -> Layer:
    """An affine coupling with another conditioner."""

    def make(case: Case) -> Transform:
        net = NETS[name](HIDDEN, len(case.shape) - 1)
        return transforms.AffineCoupling(case.shape, net=net, context_features=case.features)

    return Layer(make, {}, [(4, 4, 4), (2, 5, 3), *OTHER_SHAPES], conditional=True)


def _low_rank(case: Case) -> Transform:
    return transforms.LowRankTransform(case.shape, rank=case.ranks[0], **case.settings)


def _low_rank_linear(case: Case) -> Transform:
    return transforms.LowRankLinear(*case.shape, rank=case.ranks[0], **case.settings)


def _groups(case: Case) -> Transform:
    """A chain of an update for each group of axes."""
    groups, *start = case.settings.values()
    ranks = [*case.ranks, *case.ranks[-1:]]
    return transforms.LowRankChain(
        transforms.LowRankTransform(case.shape, axes, rank, *start) for axes, rank in zip(groups, ranks, strict=False)
    )


def _chain(kind: type[transforms.Chain], case: Case) -> Transform:
    """A chain with an empty one in it."""
    parts = [transforms.ActNorm(case.shape[0]), transforms.InvertibleConv1x1(case.shape), transforms.Chain()]
    return kind([*parts, transforms.TopPrior(case.shape, context_features=case.features)])


def _multiscale(case: Case) -> Transform:
    c, *sizes = case.shape
    prior = transforms.SplitPrior(case.shape, context_features=case.features)
    kept = (c - c // 2, *sizes)
    return transforms.Multiscale([prior, transforms.ActNorm(kept[0])], [case.shape, kept])


def _squeeze(case: Case) -> Transform:
    return _called([transforms.Squeeze(**case.settings)], case.shape)[0]


def _haar(case: Case) -> Transform:
    return _called([transforms.HaarSqueeze(**case.settings)], case.shape)[0]


def _squeezed_chain(case: Case) -> Transform:
    c, h, w = case.shape
    inner = (4 * c, h // 2, w // 2)
    return _called([transforms.Squeeze(), transforms.ActNorm(4 * c), transforms.SplitPrior(inner)], case.shape)


def _squeezed_levels(case: Case) -> Transform:
    c, h, w = case.shape
    _called([transforms.Squeeze(4)], case.shape)
    shapes = [(4 * c, h // 2, w // 2), (8 * c, h // 4, w // 4)]
    return transforms.Multiscale([transforms.Squeeze(), transforms.Squeeze()], shapes)


def _standardize(case: Case) -> Transform:
    """Started from data of other means and scales."""
    layer, channels = transforms.Standardize(case.shape[0]).double(), torch.arange(1.0, 1 + case.shape[0])
    layer.initialize((channels / 2 * (3 + case.inputs(torch.float64, batch=9).movedim(1, -1))).movedim(-1, 1))
    return layer.float()


def _called(parts: list[Transform], shape: Shape) -> Transform:
    """A chain that has refused, with a ValueError, a size that one of its parts refuses when called."""
    chain = transforms.Chain(parts)
    chain(torch.zeros(1, *shape))
    return chain


#: name -> layer. A new one without a name in ``nflows_woodbury.config`` is one line here
LAYERS: dict[str, Layer] = {
    **{name: _mixing(name) for name in MIXINGS},
    **{name: _conditional(COUPLINGS[name], HIDDEN) for name in COUPLINGS},
    **{f"affine-{name}": _with_net(name) for name in NETS if name != "conv"},
    "low-rank": Layer(_low_rank, {"axes": AXES, "init": [*STARTS]}),
    "low-rank-linear": Layer(_low_rank_linear, {"init": [*STARTS]}, [(9,), (1,)]),
    "low-rank-chain": Layer(_groups, {"groups": PAIRS, "init": [*STARTS]}, [(4, 3, 5)]),
    "autoregressive": _plain(transforms.AutoregressiveConvolution, kernel_size=[2, 1, 3], corner=[*CORNERS]),
    "emerging-window": _plain(transforms.EmergingConvolution, [(2, 5, 6)], kernel_size=[1, 5]),
    "periodic-window": _plain(transforms.PeriodicConvolution, [(2, 5, 6)], kernel_size=[1, 2, 4, 5]),
    "exponential-kernel": _plain(
        transforms.ConvolutionExponential, [(3, 2, 4)], kernel_size=[5, 1], max_norm=[3.0, 0.1]
    ),
    "butterfly-axes": _plain(transforms.Butterfly, [(4, 3, 5)], axes=AXES, init=["rotation", "identity"]),
    "finc-corners": _plain(
        transforms.FInCConvolution,
        [(5, 3, 4), (2, 3, 1)],
        kernel_size=[2, 1, 3],
        corners=[tuple(CORNERS), ("lower left",)],
    ),
    "masked-conv": _conditional(
        transforms.MaskedConvCoupling, HIDDEN, kernel_size=[(2, 3), (1, 1), (3, 5)], direction=[*DIRECTIONS]
    ),
    "macow-window": _conditional(transforms.MaCowUnit, HIDDEN, kernel_size=[(3, 5), (1, 1)]),
    "spline-bins": _conditional(transforms.SplineCoupling, HIDDEN, num_bins=[8, 2, 3], tail_bound=[3.0, 0.5]),
    "actnorm": Layer(lambda case: transforms.ActNorm(case.shape[0]), {}, [*SHAPES, *OTHER_SHAPES]),
    "standardize": Layer(_standardize),
    "logit": Layer(
        lambda case: transforms.Logit(**case.settings), {"low": [-7, -6], "high": [8, 7], "margin": [0.01, 0]}
    ),
    "squeeze": Layer(_squeeze, {"factor": [2, 1, 3]}, [(2, 6, 6), (3, 4, 6), (2, 6), (1, 2, 4, 2)]),
    "squeeze-sides": Layer(_squeeze, {"factor": [(2, 3), (3, 1)]}, [(2, 6, 3)]),
    "squeeze-haar": Layer(_haar, {"factor": [2, (2, 1), (1, 2)]}, [(3, 4, 6), (1, 2, 2), (2, 4), (1, 2, 4, 2)]),
    "split-prior": _conditional(transforms.SplitPrior),
    "top-prior": _conditional(transforms.TopPrior),
    "chain": Layer(partial(_chain, transforms.Chain), {}, [*COUPLING_SHAPES, (4, 3)], conditional=True),
    "chain-empty": Layer(lambda case: transforms.Chain(), {}, [(2, 3, 1)]),
    "chain-squeezed": Layer(_squeezed_chain, {}, [(3, 4, 4)]),
    "reversible": Layer(partial(_chain, transforms.Reversible), {}, [*COUPLING_SHAPES, (5,)], conditional=True),
    "multiscale": Layer(_multiscale, {}, [*COUPLING_SHAPES, *OTHER_SHAPES], conditional=True),
    "multiscale-squeezed": Layer(_squeezed_levels, {}, [(3, 4, 4)]),
}


# --- the cases

# What is no image: vectors, sequences (c, t) and volumes (c, t, h, w), with groups at the start, in the middle, at the
# end, and all; and for each a pattern of groups that covers the axes, as Woodbury's covers those of an image.
GROUPS = {
    (9,): [(0,)],
    (4, 6): [(0,), (1,), (0, 1)],
    (2, 3, 2, 3): [(0,), (1,), (3,), (0, 1), (1, 2), (2, 3), (1, 2, 3), (0, 1, 2, 3)],
}
PATTERNS = {(9,): ((0,),), (4, 6): ((0,), (1,)), (2, 3, 2, 3): ((0,), (1,), (2, 3))}


def fits(case: Case) -> bool:
    """Whether a layer takes a size and context; it may refuse a size with a ValueError."""
    try:
        case.make()
    except ValueError:
        return False
    return True


def cases_of(name: str) -> Iterator[Case]:
    """The first shape with every value of each setting, and the other shapes with the first values."""
    _, choices, shapes, _ = LAYERS[name]
    for i in range(max(map(len, choices.values()), default=1)):
        yield Case(name, shapes[0], {key: values[i % len(values)] for key, values in choices.items()})
    for shape in shapes[1:]:
        yield Case(name, shape, {key: values[0] for key, values in choices.items()})


def rank_cases() -> Iterator[Case]:
    """Ranks 1, n and above n, along every axis and of any shape: the paper's own settings go above n."""
    for rank, axes in product((1, 20), AXES):
        yield Case("low-rank", (4, 3, 5), {"axes": axes}, (rank,))
    for ranks in ((1, 1), (4, 15), (9, 18)):
        yield Case("woodbury", (4, 3, 5), {}, ranks)
        yield Case("me-woodbury", (4, 3, 5), {}, ranks)
    for shape, groups in GROUPS.items():
        yield from (Case("low-rank", shape, {"axes": axes}, (rank,)) for axes, rank in product(groups, (2, 40)))
        yield Case("low-rank-chain", shape, {"groups": PATTERNS[shape]}, (3, 3))


def large_cases() -> Iterator[Case]:
    """Sizes from which on a layer multiplies in another way."""
    yield Case("circulant", (257, 1, 1))
    yield Case("butterfly-axes", (1, 16, 16), {"axes": (1, 2)})


CASES = [*(case for name in LAYERS for case in cases_of(name) if fits(case)), *rank_cases(), *large_cases()]
QUICK = [next(case for case in CASES if case.name == name) for name in LAYERS]
