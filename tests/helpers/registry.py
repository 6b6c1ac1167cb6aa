"""Every transform with the settings that its laws are checked at: one list for the laws, the twins and the grid.

A mixing or coupling comes in by its line in ``nflows_woodbury.config``; only what has no name there is listed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod

import torch
from nflows.transforms.base import Transform

from nflows_woodbury import (
    ActNorm,
    Chain,
    EmergingConvolution,
    LowRankChain,
    LowRankTransform,
    MaCowUnit,
    MEWoodburyTransform,
    Multiscale,
    PeriodicConvolution,
    SplineCoupling,
    SplitPrior,
    Squeeze,
    TopPrior,
    WoodburyTransform,
)
from nflows_woodbury.config import COUPLINGS, MIXINGS
from nflows_woodbury.linalg.low_rank import STARTS
from nflows_woodbury.transforms.base import LinearTransform

CONTEXT_FEATURES = 3


@dataclass(frozen=True)
class Case:
    """One transform at one setting."""

    name: str
    make: Callable[[], Transform]
    shape: tuple[int, ...]  # of one input

    def __str__(self) -> str:
        return f"{self.name}-{'x'.join(map(str, self.shape))}"

    def build(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> Transform:
        """The transform in eval mode, moved off its start, so that every parameter acts."""
        torch.manual_seed(seed)
        transform = self.make().to(dtype).eval()
        with torch.no_grad():
            for parameter in transform.parameters():
                spread = 0.2 / max(parameter.shape[0], 1) ** 0.5 if parameter.dim() > 1 else 0.1
                parameter += spread * torch.randn(parameter.shape)  # the same values in every dtype
        return transform

    def inputs(self, dtype: torch.dtype = torch.float64, batch: int = 2, seed: int = 1) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn((batch, *self.shape), dtype=torch.float64, generator=generator).to(dtype)

    @property
    def linear(self) -> bool:
        return is_linear(self.make())


def is_linear(transform: Transform) -> bool:
    """Whether a transform is a linear layer, or a chain of such."""
    if isinstance(transform, Chain):
        return all(map(is_linear, transform))
    return isinstance(transform, LinearTransform | Squeeze)


def dense_jacobian(transform: Transform, inputs: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
    """The Jacobian of one input (1, ...) as a (D, D) matrix, by autograd."""
    size = prod(inputs.shape)
    jacobian = torch.autograd.functional.jacobian(lambda x: transform(x, context)[0], inputs)
    return jacobian.reshape(size, size)


# Odd sizes, one channel, h != w, one row, one pixel. Few pixels: the laws take dense Jacobians.
MIXING_SHAPES = [(4, 4, 4), (1, 5, 3), (7, 3, 5), (3, 1, 6), (5, 1, 1), (12, 4, 2)]
COUPLING_SHAPES = [(4, 4, 4), (2, 5, 3), (7, 3, 2)]

# What is no image: vectors, sequences (c, t) and volumes (c, t, h, w), with groups at the start, in the middle, at the
# end, and all; and for each a pattern of groups that covers the axes, as Woodbury's covers those of an image.
GROUPS = {
    (9,): [(0,)],
    (4, 6): [(0,), (1,), (0, 1)],
    (2, 3, 2, 3): [(0,), (1,), (3,), (0, 1), (1, 2), (2, 3), (1, 2, 3), (0, 1, 2, 3)],
}
PATTERNS = {(9,): [(0,)], (4, 6): [(0,), (1,)], (2, 3, 2, 3): [(0,), (1,), (2, 3)]}


def _rank_cases() -> Iterator[Case]:
    """Ranks 1, n and above n, along every axis: the paper's own settings go above n."""
    shape = (4, 3, 5)
    for rank in (1, 2, 3, 5, 8, 20):
        for axes in ((0,), (1,), (2,), (1, 2), (0, 1), (0, 1, 2)):
            yield Case(f"low-rank-{rank}-{axes}", partial(LowRankTransform, shape, axes, rank), shape)
    for init in STARTS:
        for ranks in ((1, 1), (4, 15), (9, 18)):
            yield Case(f"woodbury-{init}-{ranks}", partial(WoodburyTransform, shape, ranks, init), shape)
        for ranks in ((1, 1, 1), (4, 3, 5), (9, 16, 7)):
            yield Case(f"me-woodbury-{init}-{ranks}", partial(MEWoodburyTransform, shape, ranks, init), shape)
    yield Case("periodic-5", partial(PeriodicConvolution, (2, 5, 6), 5), (2, 5, 6))
    yield Case("emerging-5", partial(EmergingConvolution, (2, 5, 6), 5), (2, 5, 6))
    yield Case("macow-3x5", partial(MaCowUnit, (2, 4, 5), 6, (3, 5)), (2, 4, 5))
    yield Case("spline-8", partial(SplineCoupling, (4, 3, 2), 6, 8, 2.0), (4, 3, 2))
    for other, groups in GROUPS.items():
        for axes in groups:
            yield Case(f"low-rank-{axes}", partial(LowRankTransform, other, axes, 2), other)
        parts = [partial(LowRankTransform, other, axes, 3) for axes in PATTERNS[other]]
        yield Case("groups", lambda parts=parts: LowRankChain([part() for part in parts]), other)


def _named_cases() -> Iterator[Case]:
    for name, mixing in MIXINGS.items():
        for shape in MIXING_SHAPES:
            if _fits(mixing(2, 3), shape):
                yield Case(name, partial(mixing(2, 3), shape), shape)
    for name, coupling in COUPLINGS.items():
        for shape in COUPLING_SHAPES:
            if _fits(partial(coupling, hidden_channels=6), shape):
                yield Case(name, partial(coupling, shape, 6), shape)


def _fits(part: Callable[[tuple[int, int, int]], Transform], shape: tuple[int, int, int]) -> bool:
    """Whether a layer takes a size; it may refuse one, such as an image smaller than its kernel, with a ValueError."""
    try:
        part(shape)
    except ValueError:
        return False
    return True


def _structure_cases() -> Iterator[Case]:
    yield Case("actnorm", partial(ActNorm, 3), (3, 4, 5))
    yield Case("actnorm-one-channel", partial(ActNorm, 1), (1, 2, 3))
    yield Case("squeeze", Squeeze, (3, 4, 6))
    yield Case("squeeze-3", partial(Squeeze, 3), (2, 3, 6))
    yield Case("split-prior", partial(SplitPrior, (5, 3, 2)), (5, 3, 2))
    yield Case("top-prior", partial(TopPrior, (3, 4, 2)), (3, 4, 2))
    yield Case("chain-empty", Chain, (2, 3))
    yield Case("chain", lambda: Chain([Squeeze(), ActNorm(12), SplitPrior((12, 2, 2))]), (3, 4, 4))
    yield Case("multiscale", lambda: Multiscale([Squeeze(), Squeeze()], [(12, 2, 2), (24, 1, 1)]), (3, 4, 4))


CASES = [*_named_cases(), *_rank_cases(), *_structure_cases()]
