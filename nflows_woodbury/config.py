"""Names and settings: which mixing and coupling a name stands for, and a whole model as data.

>>> import torch
>>> mixing = MIXINGS["woodbury"](8, 16)  # what image_flow takes, such as a layer for (12, 8, 8)
>>> mixing((12, 8, 8))(torch.randn(2, 12, 8, 8))[0].shape
torch.Size([2, 12, 8, 8])
>>> COUPLINGS["affine"]((12, 8, 8), 32, context_features=None)(torch.randn(2, 12, 8, 8))[0].shape
torch.Size([2, 12, 8, 8])
>>> DEQUANTIZERS["uniform"]((3, 16, 16), 8)(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))[0].dtype
torch.float32
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

import nflows_woodbury
from nflows_woodbury.checks import check_image_shape, check_natural_int, check_one_of, check_positive_int

if TYPE_CHECKING:
    from nflows.transforms.base import Transform
    from typing_extensions import Self

    from nflows_woodbury.flow import ImageFlow, Part, Shape

__all__ = ["COUPLINGS", "DEQUANTIZERS", "MIXINGS", "FlowConfig", "Settings", "paper_ranks"]

# Help texts show these names: a class is imported when its constructor is called, and torch with it.


@dataclass(frozen=True)
class _Exported:
    """A class that the package exports, called by its name."""

    name: str

    def __call__(self, *args: Any, **kwargs: Any) -> Transform:
        """What the class makes of the arguments."""
        made: Transform = getattr(nflows_woodbury, self.name)(*args, **kwargs)
        return made


#: name -> constructor from the ranks (dc, ds) of a level to a mixing for ``image_flow``
MIXINGS: dict[str, Callable[[int, int], Part]] = {
    "woodbury": lambda dc, ds: partial(nflows_woodbury.WoodburyTransform, ranks=(dc, ds)),
    "me-woodbury": lambda dc, ds: partial(nflows_woodbury.MEWoodburyTransform, ranks=(dc, ds, ds)),
    "conv1x1": lambda dc, ds: nflows_woodbury.InvertibleConv1x1,
    "conv1x1-plu": lambda dc, ds: partial(nflows_woodbury.InvertibleConv1x1, parametrization="plu"),
    "emerging": lambda dc, ds: nflows_woodbury.EmergingConvolution,
    "periodic": lambda dc, ds: nflows_woodbury.PeriodicConvolution,
}

#: name -> coupling constructor ``(shape, hidden_channels, context_features=)``
COUPLINGS: dict[str, Callable[..., Transform]] = {
    "affine": _Exported("AffineCoupling"),
    "additive": _Exported("AdditiveCoupling"),
    "spline": _Exported("SplineCoupling"),
    "macow": _Exported("MaCowUnit"),
}

#: name -> dequantization constructor ``(shape, bits)``
DEQUANTIZERS: dict[str, Callable[[Shape, int], Transform]] = {
    "uniform": lambda shape, bits: nflows_woodbury.UniformDequantize(bits),
    "variational": _Exported("VariationalDequantize"),
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


class Settings:
    """What :class:`TrainingConfig` and :class:`nflows_woodbury.config.FlowConfig` share: plain values and back.

    >>> config = FlowConfig.from_dict({"levels": 2})
    >>> isinstance(config, Settings), config.to_dict()["levels"]
    (True, 2)
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`; ValueError names settings that this version does not know."""
        unknown = set(values) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"settings must be among {', '.join(cls.__dataclass_fields__)}; got {sorted(unknown)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint or JSON."""
        return asdict(cast(Any, self))


@dataclass(frozen=True)
class FlowConfig(Settings):
    """A model as data: what a checkpoint stores, and :meth:`build` makes a flow from.

    Args:
        shape: ``(c, H, W)`` of the images.
        levels: levels of the multiscale architecture.
        steps: flow steps per level.
        mixing: a name in :data:`MIXINGS`.
        channel_ranks: ranks of the low-rank mixings on the channels, one for each level; None for
            :func:`paper_ranks`.
        pixel_ranks: likewise, on the pixels (Woodbury) or on rows and columns (ME-Woodbury).
        start: how the factors of the low-rank mixings begin, a name in
            :data:`nflows_woodbury.linalg.starts.STARTS` for all of them, or ``"default"`` for the layer's own.
        coupling: a name in :data:`COUPLINGS`.
        hidden_channels: hidden channels of the couplings.
        bits: bits kept of each pixel.
        dequantize: a name in :data:`DEQUANTIZERS`.
        num_classes: classes that the model is conditioned on, or 0; their numbers, int64 ``(B,)``, are its context.

    >>> config = FlowConfig((3, 16, 16), levels=2, steps=1, mixing="conv1x1", hidden_channels=8)
    >>> config.build().sample(5).shape
    torch.Size([5, 3, 16, 16])
    >>> FlowConfig.from_dict(config.to_dict()) == config
    True
    """

    shape: Shape = (3, 32, 32)
    levels: int = 3
    steps: int = 4
    mixing: str = "woodbury"
    channel_ranks: tuple[int, ...] | None = None
    pixel_ranks: tuple[int, ...] | None = None
    start: str = "default"
    coupling: str = "affine"
    hidden_channels: int = 64
    bits: int = 8
    dequantize: str = "uniform"
    num_classes: int = 0

    def __post_init__(self) -> None:
        """Check what the parts do not check themselves."""
        object.__setattr__(self, "shape", check_image_shape(self.shape))
        check_one_of("mixing", self.mixing, MIXINGS)
        check_one_of("coupling", self.coupling, COUPLINGS)
        check_one_of("dequantize", self.dequantize, DEQUANTIZERS)
        for name in ("levels", "steps", "hidden_channels", "bits"):
            check_positive_int(name, getattr(self, name))
        check_natural_int("num_classes", self.num_classes)
        if check_one_of("start", self.start, ("default", *START_NAMES)) != "default" and self.mixing not in LOW_RANK:
            raise ValueError(f"start must be 'default' for {self.mixing}, which has no factors, got {self.start!r}")
        for name in ("channel_ranks", "pixel_ranks"):
            object.__setattr__(self, name, self._ranks(name))

    def _ranks(self, name: str) -> tuple[int, ...] | None:
        ranks = getattr(self, name)
        if ranks is None:
            return None
        if self.mixing not in LOW_RANK:
            raise ValueError(f"{name} must be None for {self.mixing}, which has no ranks, got {ranks}")
        if not isinstance(ranks, Sequence) or len(ranks) != self.levels:
            raise ValueError(f"{name} must be {self.levels} ranks, one for each level, got {ranks!r}")
        return tuple(check_positive_int(f"{name}[{level}]", rank) for level, rank in enumerate(ranks))

    def build(self, *, reversible: bool = False) -> ImageFlow:
        """A new flow with these settings, its parameters drawn from torch's global generator.

        ``reversible`` is that of :func:`~nflows_woodbury.flow.image_flow`; the model is the same.
        """
        from nflows_woodbury.flow import image_flow
        from nflows_woodbury.transforms.nets import OneHot

        context_features = self.num_classes or None
        channels, pixels = paper_ranks(self.levels)
        ranks = zip(self.channel_ranks or channels, self.pixel_ranks or pixels, strict=True)
        mixings: list[Any] = [MIXINGS[self.mixing](dc, ds) for dc, ds in ranks]
        if self.start != "default":
            mixings = [partial(mixing, init=self.start) for mixing in mixings]
        return image_flow(
            self.shape,
            levels=self.levels,
            steps=self.steps,
            mixing=mixings,
            coupling=partial(
                COUPLINGS[self.coupling], hidden_channels=self.hidden_channels, context_features=context_features
            ),
            dequantize=DEQUANTIZERS[self.dequantize](self.shape, self.bits),
            context_features=context_features,
            embedding_net=OneHot(self.num_classes) if self.num_classes else None,
            reversible=reversible,
        )
