"""A whole model as plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

from nflows_woodbury.checks import check_natural_int, check_one_of, check_positive_int, check_shape
from nflows_woodbury.config.names import (
    COUPLINGS,
    DEQUANTIZERS,
    FIRSTS,
    MIXINGS,
    NETS,
    SQUEEZES,
    START_NAMES,
    compose,
    has_ranks,
    paper_ranks,
)

if TYPE_CHECKING:
    from typing_extensions import Self

    from nflows_woodbury.flow import GridFlow, Shape

__all__ = ["FlowConfig", "Settings"]


class Settings:
    """A dataclass of plain values, to a dictionary and back.

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
        shape: ``(c, H, W)`` of the images, or ``(c, ...)`` of the fields.
        levels: levels of the multiscale architecture.
        steps: flow steps per level.
        mixing: a name in :data:`MIXINGS`, or several joined with ``+``, one after the other, or with ``,``, in turn
            from step to step.
        channel_ranks: ranks of the low-rank mixings on the channels, one for each level; None for
            :func:`paper_ranks`.
        pixel_ranks: likewise, on the pixels (Woodbury) or on rows and columns (ME-Woodbury).
        start: how the factors of the low-rank mixings begin, a name in
            :data:`nflows_woodbury.linalg.starts.STARTS` for all of them, or ``"default"`` for the layer's own.
        coupling: a name in :data:`COUPLINGS`.
        hidden_channels: hidden channels of the couplings.
        net: conditioner of the couplings, a name in :data:`NETS`; those of MaCow are its own.
        bits: bits kept of each pixel.
        dequantize: a name in :data:`DEQUANTIZERS`.
        squeeze: a name in :data:`SQUEEZES`.
        pad: fill up sizes that ``2^levels`` does not divide with noise, see
            :class:`~nflows_woodbury.transforms.pad.Pad`.
        num_classes: classes that the model is conditioned on, or 0; their numbers, int64 ``(B,)``, are its context.
        first: None for a flow over uint8 images; for one over floats what they meet first, a name in :data:`FIRSTS`.
            There ``bits`` and ``dequantize`` stay at their defaults.
        bounds: of ``"logit"``, the lower and the upper one; None for 0 and 1.

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
    net: str = "conv"
    bits: int = 8
    dequantize: str = "uniform"
    squeeze: str = "pixels"
    pad: bool = False
    num_classes: int = 0
    first: str | None = None
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Check what the parts do not check themselves."""
        object.__setattr__(self, "shape", check_shape(self.shape))
        self._check_first()
        check_one_of("mixing", self.mixing, MIXINGS)
        check_one_of("coupling", self.coupling, COUPLINGS)
        check_one_of("dequantize", self.dequantize, DEQUANTIZERS)
        check_one_of("squeeze", self.squeeze, SQUEEZES)
        if check_one_of("net", self.net, NETS) != "conv" and self.coupling == "macow":
            raise ValueError(f"net must be 'conv' for macow, whose conditioners are its own, got {self.net!r}")
        if not isinstance(self.pad, bool):
            raise TypeError(f"pad must be True or False, got {self.pad!r}")
        for name in ("levels", "steps", "hidden_channels", "bits"):
            check_positive_int(name, getattr(self, name))
        check_natural_int("num_classes", self.num_classes)
        if self.steps <= self.mixing.count(","):
            raise ValueError(f"steps must be at least the turns of {self.mixing}, got {self.steps}")
        if check_one_of("start", self.start, ("default", *START_NAMES)) != "default" and not has_ranks(self.mixing):
            raise ValueError(f"start must be 'default' for {self.mixing}, which has no factors, got {self.start!r}")
        for name in ("channel_ranks", "pixel_ranks"):
            object.__setattr__(self, name, self._ranks(name))

    @property
    def is_fields(self) -> bool:
        """Whether the model is one of fields, floats, and not of uint8 images."""
        return self.first is not None

    def _check_first(self) -> None:
        if self.is_fields:
            check_one_of("first", self.first, FIRSTS)
            for name in ("bits", "dequantize"):
                default = self.__dataclass_fields__[name].default
                if getattr(self, name) != default:
                    got = getattr(self, name)
                    raise ValueError(f"{name} must be left at {default} for fields, which have no bits, got {got}")
        if self.bounds is None:
            return
        if self.first != "logit":
            raise ValueError(
                f"bounds must be None for {self.first or 'images'}, as the logit alone has them, got {self.bounds}"
            )
        if not isinstance(self.bounds, Sequence) or len(self.bounds) != 2 or not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"bounds must be two rising numbers, got {self.bounds!r}")
        object.__setattr__(self, "bounds", (float(self.bounds[0]), float(self.bounds[1])))

    def _ranks(self, name: str) -> tuple[int, ...] | None:
        ranks = getattr(self, name)
        if ranks is None:
            return None
        if not has_ranks(self.mixing):
            raise ValueError(f"{name} must be None for {self.mixing}, which has no ranks, got {ranks}")
        if not isinstance(ranks, Sequence) or len(ranks) != self.levels:
            raise ValueError(f"{name} must be {self.levels} ranks, one for each level, got {ranks!r}")
        return tuple(check_positive_int(f"{name}[{level}]", rank) for level, rank in enumerate(ranks))

    def _conditioner(self) -> dict[str, Any]:
        if self.net == "conv":
            return {"hidden_channels": self.hidden_channels}
        return {"net": NETS[self.net](self.hidden_channels, len(self.shape) - 1)}

    def build(self, *, reversible: bool = False) -> GridFlow:
        """A new flow with these settings, its parameters drawn from torch's global generator.

        An :class:`ImageFlow`, or with ``first`` a :class:`FieldFlow`. ``reversible`` is that of
        :func:`~nflows_woodbury.flow.image_flow`; the model is the same.
        """
        from nflows_woodbury.flow import field_flow, image_flow
        from nflows_woodbury.transforms import Pad
        from nflows_woodbury.transforms.nets import OneHot

        context_features = self.num_classes or None
        channels, pixels = paper_ranks(self.levels)
        ranks = zip(self.channel_ranks or channels, self.pixel_ranks or pixels, strict=True)
        make: Callable[..., GridFlow] = (
            partial(image_flow, dequantize=DEQUANTIZERS[self.dequantize](self.shape, self.bits))
            if self.first is None
            else partial(field_flow, first=FIRSTS[self.first](self.shape, self.bounds))
        )
        return make(
            self.shape,
            levels=self.levels,
            steps=self.steps,
            mixing=[compose(self.mixing, dc, ds, self.start) for dc, ds in ranks],
            coupling=partial(COUPLINGS[self.coupling], **self._conditioner(), context_features=context_features),
            squeeze=SQUEEZES[self.squeeze],
            pad=Pad if self.pad else None,
            context_features=context_features,
            embedding_net=OneHot(self.num_classes) if self.num_classes else None,
            reversible=reversible,
        )
