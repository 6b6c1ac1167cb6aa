"""A block that stands where normflows' ``GlowBlock`` does, and takes its keywords."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from nflows.transforms import ReversePermutation
from nflows.transforms.base import Transform

from nflows_woodbury.checks import check_image_shape
from nflows_woodbury.normflows.adapters import NormflowsAdapter
from nflows_woodbury.transforms import ActNorm, AdditiveCoupling, AffineCoupling, Chain, WoodburyTransform

__all__ = ["WoodburyGlowBlock"]

Shape = tuple[int, int, int]


class WoodburyGlowBlock(NormflowsAdapter):
    """A block that stands where normflows' ``GlowBlock`` does, with any mixing and coupling.

    Data to noise: ActNorm, the identity until ``nflows_woodbury.initialize(model, images)``; mixing; coupling.

    The keywords of ``GlowBlock`` mean what they mean there. What this block does not have is a ValueError that names
    its replacement: another ``scale_map`` than ``"exp"``, whose logarithm is bounded here; ``use_lu``, as the mixing is
    no 1x1 convolution; the checkerboards of ``split_mode``; ``leaky``, ``init_zeros`` and ``net_actnorm`` where they
    are not the defaults.

    Args:
        shape: ``(c, h, w)`` at the block's level.
        hidden_channels: of the coupling.
        mixing: ``(c, h, w) -> Transform``, such as ``partial(WoodburyTransform, ranks=(8, 16))``, the default.
        coupling: called as ``coupling(shape, hidden_channels, context_features=...)``; None for :class:`AffineCoupling`
            or, without ``scale``, :class:`AdditiveCoupling`.
        context_features: features of the context that the coupling takes, or None to ignore context.
        scale: whether the coupling scales as well as shifts.
        scale_map: ``"exp"``.
        split_mode: ``"channel"``: the first half of the channels conditions the second, ``"channel_inv"``: the second
            half the first.
        leaky: 0, the network's slope below zero.
        init_zeros: True, the block's coupling starts as the identity.
        use_lu: None.
        net_actnorm: False, no normalisation in the network.

    Shapes: ``(B, c, h, w)`` both ways; log-dets ``(B,)``. Raises ValueError or TypeError for what the parts refuse.

    Reference: Lu and Huang, NeurIPS 2020, section 4; Kingma and Dhariwal, Glow, NeurIPS 2018, section 3.

    >>> import torch
    >>> block = WoodburyGlowBlock((12, 16, 16), hidden_channels=32, split_mode="channel_inv", scale=False)
    >>> block(torch.randn(4, 12, 16, 16))[0].shape
    torch.Size([4, 12, 16, 16])
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden_channels: int,
        *,
        mixing: Callable[[Shape], Transform] = partial(WoodburyTransform, ranks=(8, 16)),  # noqa: B008 - never changed
        coupling: Callable[..., Transform] | None = None,
        context_features: int | None = None,
        scale: bool = True,
        scale_map: str = "exp",
        split_mode: str = "channel",
        leaky: float = 0.0,
        init_zeros: bool = True,
        use_lu: bool | None = None,
        net_actnorm: bool = False,
    ) -> None:
        shape = check_image_shape(shape)
        if coupling is not None and not scale:
            raise ValueError(
                f"scale must be True with a coupling of your own, got {scale}; let the coupling do without"
            )
        for name, value, own in (
            ("scale_map", scale_map, "exp"),
            ("leaky", leaky, 0),
            ("init_zeros", init_zeros, True),
            ("use_lu", use_lu, None),
            ("net_actnorm", net_actnorm, False),
        ):
            if value != own:
                raise ValueError(f"{name} must be {own!r}, got {value!r}; {REPLACEMENTS[name]}")
        if split_mode not in SPLITS:
            raise ValueError(f"split_mode must be one of {', '.join(SPLITS)}, got {split_mode!r}; {CHECKERBOARD}")
        coupling = coupling or (AffineCoupling if scale else AdditiveCoupling)
        last = SPLITS[split_mode](coupling(shape, hidden_channels, context_features=context_features), shape[0])
        super().__init__(Chain([ActNorm(shape[0]), mixing(shape), *last]))


def _reversed(coupling: Transform, channels: int) -> list[Transform]:
    """The coupling on the channels in reverse order."""
    return [ReversePermutation(channels), coupling, ReversePermutation(channels)]


#: name of a split -> the transforms that a coupling becomes
SPLITS: dict[str, Callable[[Transform, int], list[Transform]]] = {
    "channel": lambda coupling, channels: [coupling],
    "channel_inv": _reversed,
}
CHECKERBOARD = "coupling=nflows_woodbury.MaCowUnit transforms every pixel, and a Squeeze before the block parts them"
OWN_NET = "a coupling with a network of your own goes in by coupling="

#: what stands for the keywords of GlowBlock that this block does not take
REPLACEMENTS = {
    "scale_map": "the scale is the exponential of a number within -4 and 4, so it cannot run away; leave it out",
    "leaky": OWN_NET,
    "init_zeros": "couplings start as the identity here, so that a deep model trains from its first step; leave it out",
    "use_lu": "it is for the 1x1 convolution that this mixing replaces; mixing=partial(InvertibleConv1x1, "
    'parametrization="plu") is that convolution',
    "net_actnorm": OWN_NET,
}
