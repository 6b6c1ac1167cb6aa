"""Which mixing, coupling, dequantization and squeeze a name stands for.

>>> import torch
>>> mixing = MIXINGS["woodbury"](8, 16)  # what image_flow takes, such as a layer for (12, 8, 8)
>>> mixing((12, 8, 8))(torch.randn(2, 12, 8, 8))[0].shape
torch.Size([2, 12, 8, 8])
>>> COUPLINGS["affine"]((12, 8, 8), 32, context_features=None)(torch.randn(2, 12, 8, 8))[0].shape
torch.Size([2, 12, 8, 8])
>>> COUPLINGS["affine"]((12, 8, 8), net=NETS["attention"](32, 2))(torch.randn(2, 12, 8, 8))[0].shape
torch.Size([2, 12, 8, 8])
>>> DEQUANTIZERS["uniform"]((3, 16, 16), 8)(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))[0].dtype
torch.float32
>>> FIRSTS["logit"]((1, 16, 16), (0.0, 5.0))
Logit(low=0, high=5, margin=0.001)
>>> SQUEEZES["haar"]()(torch.zeros(2, 3, 16, 16))[0].shape
torch.Size([2, 12, 8, 8])
>>> LOW_RANK[0] in MIXINGS, IDENTITY["emerging"], START_NAMES[0]
(True, 'identity', 'paper')
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import nflows_woodbury
from nflows_woodbury.checks import check_positive_int
from nflows_woodbury.config.constructors import Exported, InOrder, InTurn, Joined

if TYPE_CHECKING:
    from nflows.transforms.base import Transform

    from nflows_woodbury.flow import Part, Shape
    from nflows_woodbury.transforms.nets import Net

__all__ = [
    "COUPLINGS",
    "DEQUANTIZERS",
    "FIRSTS",
    "IDENTITY",
    "LOW_RANK",
    "MIXINGS",
    "NETS",
    "SQUEEZES",
    "START_NAMES",
    "compose",
    "has_ranks",
    "paper_ranks",
]

# Help texts show these names: a class is imported when its constructor is called, and torch with it.


#: name -> constructor from the ranks (dc, ds) of a level to a mixing for ``image_flow``. Names joined with ``+`` are
#: mixings one after the other, as in ``"emerging+woodbury"``, of which :data:`IDENTITY` says how the later ones start;
#: joined with ``,`` they take turns from step to step, as in ``"emerging,woodbury"``
MIXINGS: dict[str, Callable[[int, int], Part]] = Joined(
    {
        "woodbury": lambda dc, ds: partial(_by_axes, "WoodburyTransform", dc, [ds]),
        "me-woodbury": lambda dc, ds: partial(_by_axes, "MEWoodburyTransform", dc, [ds, ds, ds]),
        "conv1x1": lambda dc, ds: nflows_woodbury.InvertibleConv1x1,
        "conv1x1-plu": lambda dc, ds: partial(nflows_woodbury.InvertibleConv1x1, parametrization="plu"),
        "conv1x1-qr": lambda dc, ds: partial(nflows_woodbury.InvertibleConv1x1, parametrization="qr"),
        "conv1x1-exp": lambda dc, ds: partial(nflows_woodbury.InvertibleConv1x1, parametrization="exp"),
        "emerging": lambda dc, ds: nflows_woodbury.EmergingConvolution,
        "periodic": lambda dc, ds: nflows_woodbury.PeriodicConvolution,
        "circulant": lambda dc, ds: nflows_woodbury.CirculantDiagonal,
        "butterfly": lambda dc, ds: nflows_woodbury.ButterflyTransform,
        "exponential": lambda dc, ds: _after_1x1(nflows_woodbury.ConvolutionExponential),
        "finc": lambda dc, ds: _after_1x1(nflows_woodbury.FInCConvolution),
    },
    join=lambda names: partial(compose, names),
)

#: mixing -> what it calls its start as the identity, or near it
IDENTITY = {**dict.fromkeys(MIXINGS, "identity"), "woodbury": "cancelling", "me-woodbury": "cancelling-unit"}


def compose(names: str, dc: int, ds: int, start: str = "default") -> Part:
    """The mixing of a name in :data:`MIXINGS`, or of several joined with ``+`` and ``,``, for the ranks of a level.

    Of mixings joined with ``+`` the first one starts as it does alone, the others as the identity where
    :data:`IDENTITY` knows how. Those joined with ``,`` take turns: a call for each step of the level.

    Args:
        names: as in ``"emerging+woodbury"`` or ``"emerging,woodbury"``.
        dc: rank for channels.
        ds: rank for pixels, or rows and columns.
        start: ``"default"``, or the start of all low-rank factors.

    >>> mixing = compose("emerging+woodbury", 4, 8)((12, 8, 8))
    >>> [type(part).__name__ for part in mixing]
    ['EmergingConvolution', 'WoodburyTransform']
    """
    if "," in names:
        return InTurn([compose(turn, dc, ds, start) for turn in names.split(",")])
    parts: list[Callable[..., Transform]] = []
    for name in names.split("+"):
        init = start if start != "default" and name in LOW_RANK else IDENTITY.get(name) if parts else None
        mixing: Callable[..., Transform] = MIXINGS[name](dc, ds)
        parts.append(mixing if init is None else partial(mixing, init=init))
    return parts[0] if len(parts) == 1 else InOrder(tuple(parts))


def has_ranks(names: str) -> bool:
    """Whether one of the mixings joined in ``names`` has low-rank factors.

    >>> has_ranks("emerging+woodbury"), has_ranks("emerging")
    (True, False)
    """
    return any(name in LOW_RANK for name in re.split("[+,]", names))


def _by_axes(name: str, dc: int, others: list[int], shape: Shape, **settings: Any) -> Transform:
    """A low-rank mixing with the rank ``dc`` along the channels, and others as far as there are axes."""
    ranks = (dc, *others[: len(shape) - 1])
    layer: Transform = getattr(nflows_woodbury, name)(shape, ranks=ranks, **settings)
    return layer


def _after_1x1(layer: Part) -> Part:
    """As in its paper, a layer that needs another one to mix the channels."""
    return InOrder((nflows_woodbury.InvertibleConv1x1, layer))


#: name -> coupling constructor ``(shape, hidden_channels, context_features=)``
COUPLINGS: dict[str, Callable[..., Transform]] = {
    "affine": Exported("AffineCoupling"),
    "additive": Exported("AdditiveCoupling"),
    "spline": Exported("SplineCoupling"),
    "macow": Exported("MaCowUnit"),
}

#: name -> constructor from the hidden channels and the number of axes to a conditioner, ``net=`` of a coupling
NETS: dict[str, Callable[[int, int], Net]] = {
    "conv": lambda hidden, axes: partial(nflows_woodbury.ConvNet, hidden_channels=hidden, num_axes=axes),
    "residual": lambda hidden, axes: partial(nflows_woodbury.ResidualNet, hidden_channels=hidden, num_axes=axes),
    "attention": lambda hidden, axes: partial(nflows_woodbury.AttentionNet, hidden_channels=hidden, num_axes=axes),
}

#: name -> dequantization constructor ``(shape, bits)``
DEQUANTIZERS: dict[str, Callable[[Shape, int], Transform]] = {
    "uniform": lambda shape, bits: nflows_woodbury.UniformDequantize(bits),
    "variational": Exported("VariationalDequantize"),
}

#: name -> constructor ``(shape, bounds)`` of what fields meet first
FIRSTS: dict[str, Callable[[Shape, tuple[float, float] | None], Transform]] = {
    "standardize": lambda shape, bounds: nflows_woodbury.Standardize(shape[0]),
    "logit": lambda shape, bounds: nflows_woodbury.Logit(*(bounds or (0.0, 1.0))),
    "nothing": lambda shape, bounds: nflows_woodbury.Chain(),
}

#: name -> squeeze constructor
SQUEEZES: dict[str, Callable[[], Transform]] = {
    "pixels": Exported("Squeeze"),
    "haar": Exported("HaarSqueeze"),
}

#: names of :data:`nflows_woodbury.linalg.starts.STARTS`
START_NAMES = ("paper", "reflection", "cancelling", "cancelling-unit")

#: mixings whose low-rank factors take a start
LOW_RANK = ("woodbury", "me-woodbury")


def paper_ranks(levels: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The paper's ranks for a number of levels: those of channels, and those of pixels (or rows and columns).

    Channels: 8 on the first two levels, 16 below. Pixels: 8 on the last level, or on the last two of four or more
    levels, 16 above. (Lu and Huang 2020, appendix; the pattern is the same for all of its data sets.)

    >>> paper_ranks(3)
    ((8, 8, 16), (16, 16, 8))
    """
    last = 1 if check_positive_int("levels", levels) < 4 else 2
    channels = tuple(8 if level < 2 else 16 for level in range(levels))
    pixels = tuple(16 if level < levels - last else 8 for level in range(levels))
    return channels, pixels
