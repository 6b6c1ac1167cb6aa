"""Our layers as normflows flows, each with the arguments of the transform, and a block for normflows' Glow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any

import normflows
from nflows.transforms.base import Transform

from nflows_woodbury import transforms
from nflows_woodbury.checks import check_image_shape
from nflows_woodbury.normflows.adapters import NormflowsAdapter
from nflows_woodbury.transforms import ActNorm, AffineCoupling, Chain, WoodburyTransform

__all__ = [
    "Butterfly",
    "CirculantDiagonal",
    "EmergingConv",
    "ExponentialConv",
    "FInCConv",
    "InvertibleConv1x1",
    "MEWoodbury",
    "MaCow",
    "PeriodicConv",
    "SplineCoupling",
    "Woodbury",
    "WoodburyGlowBlock",
    "register",
]

Shape = tuple[int, int, int]


class Woodbury(NormflowsAdapter):
    """:class:`~nflows_woodbury.transforms.woodbury.WoodburyTransform` as a normflows ``Flow``; the same arguments.

    >>> import torch
    >>> Woodbury((12, 8, 8), ranks=(4, 8))(torch.randn(4, 12, 8, 8))[0].shape
    torch.Size([4, 12, 8, 8])
    """

    @wraps(transforms.WoodburyTransform.__init__)  # type: ignore[misc]  # their signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(transforms.WoodburyTransform(*args, **kwargs))


class MEWoodbury(NormflowsAdapter):
    """:class:`~nflows_woodbury.transforms.woodbury.MEWoodburyTransform` as a normflows ``Flow``; the same arguments.

    >>> import torch
    >>> MEWoodbury((12, 8, 8), ranks=(4, 8, 8))(torch.randn(4, 12, 8, 8))[0].shape
    torch.Size([4, 12, 8, 8])
    """

    @wraps(transforms.MEWoodburyTransform.__init__)  # type: ignore[misc]  # their signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(transforms.MEWoodburyTransform(*args, **kwargs))


class InvertibleConv1x1(NormflowsAdapter):
    """:class:`~nflows_woodbury.transforms.conv1x1.InvertibleConv1x1` as a normflows ``Flow``; the same arguments.

    >>> import torch
    >>> InvertibleConv1x1((12, 8, 8))(torch.randn(4, 12, 8, 8))[0].shape
    torch.Size([4, 12, 8, 8])
    """

    @wraps(transforms.InvertibleConv1x1.__init__)  # type: ignore[misc]  # their signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(transforms.InvertibleConv1x1(*args, **kwargs))


class EmergingConv(NormflowsAdapter):
    """:class:`~nflows_woodbury.transforms.emerging.EmergingConvolution` as a normflows ``Flow``; the same arguments.

    >>> import torch
    >>> EmergingConv((12, 8, 8))(torch.randn(4, 12, 8, 8))[0].shape
    torch.Size([4, 12, 8, 8])
    """

    @wraps(transforms.EmergingConvolution.__init__)  # type: ignore[misc]  # their signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(transforms.EmergingConvolution(*args, **kwargs))


class PeriodicConv(NormflowsAdapter):
    """:class:`~nflows_woodbury.transforms.periodic.PeriodicConvolution` as a normflows ``Flow``; the same arguments.

    >>> import torch
    >>> PeriodicConv((12, 8, 8))(torch.randn(4, 12, 8, 8))[0].shape
    torch.Size([4, 12, 8, 8])
    """

    @wraps(transforms.PeriodicConvolution.__init__)  # type: ignore[misc]  # their signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(transforms.PeriodicConvolution(*args, **kwargs))


class CirculantDiagonal(NormflowsAdapter):
    """:class:`~nflows_woodbury.transforms.circulant.CirculantDiagonal` as a normflows ``Flow``; the same arguments.

    >>> import torch
    >>> CirculantDiagonal((12, 8, 8))(torch.randn(4, 12, 8, 8))[0].shape
    torch.Size([4, 12, 8, 8])
    """

    @wraps(transforms.CirculantDiagonal.__init__)  # type: ignore[misc]  # their signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(transforms.CirculantDiagonal(*args, **kwargs))


class Butterfly(NormflowsAdapter):
    """:class:`~nflows_woodbury.transforms.butterfly.ButterflyTransform` as a normflows ``Flow``; the same arguments.

    >>> import torch
    >>> Butterfly((12, 8, 8))(torch.randn(4, 12, 8, 8))[0].shape
    torch.Size([4, 12, 8, 8])
    """

    @wraps(transforms.ButterflyTransform.__init__)  # type: ignore[misc]  # their signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(transforms.ButterflyTransform(*args, **kwargs))


class ExponentialConv(NormflowsAdapter):
    """:class:`~nflows_woodbury.transforms.exponential.ConvolutionExponential` as a normflows ``Flow``.

    The arguments are the same.

    >>> import torch
    >>> ExponentialConv((12, 8, 8))(torch.randn(4, 12, 8, 8))[0].shape
    torch.Size([4, 12, 8, 8])
    """

    @wraps(transforms.ConvolutionExponential.__init__)  # type: ignore[misc]  # their signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(transforms.ConvolutionExponential(*args, **kwargs))


class FInCConv(NormflowsAdapter):
    """:class:`~nflows_woodbury.transforms.finc.FInCConvolution` as a normflows ``Flow``; the same arguments.

    >>> import torch
    >>> FInCConv((12, 8, 8))(torch.randn(4, 12, 8, 8))[0].shape
    torch.Size([4, 12, 8, 8])
    """

    @wraps(transforms.FInCConvolution.__init__)  # type: ignore[misc]  # their signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(transforms.FInCConvolution(*args, **kwargs))


class MaCow(NormflowsAdapter):
    """:class:`~nflows_woodbury.transforms.macow.MaCowUnit` as a normflows ``Flow``; the same arguments.

    >>> import torch
    >>> MaCow((12, 8, 8), hidden_channels=16)(torch.randn(4, 12, 8, 8))[0].shape
    torch.Size([4, 12, 8, 8])
    """

    @wraps(transforms.MaCowUnit.__init__)  # type: ignore[misc]  # their signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(transforms.MaCowUnit(*args, **kwargs))


class SplineCoupling(NormflowsAdapter):
    """:class:`~nflows_woodbury.transforms.spline.SplineCoupling` as a normflows ``Flow``; the same arguments.

    >>> import torch
    >>> SplineCoupling((12, 8, 8), hidden_channels=16)(torch.randn(4, 12, 8, 8))[0].shape
    torch.Size([4, 12, 8, 8])
    """

    @wraps(transforms.SplineCoupling.__init__)  # type: ignore[misc]  # their signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(transforms.SplineCoupling(*args, **kwargs))


class WoodburyGlowBlock(NormflowsAdapter):
    """A block that stands where normflows' ``GlowBlock`` does, with any mixing and coupling.

    Data to noise: ActNorm, the identity until ``nflows_woodbury.initialize(model, images)``; mixing; coupling.

    Args:
        shape: ``(c, h, w)`` at the block's level.
        hidden_channels: of the coupling.
        mixing: ``(c, h, w) -> Transform``, such as ``partial(WoodburyTransform, ranks=(8, 16))``, the default.
        coupling: called as ``coupling(shape, hidden_channels, context_features=...)``, such as ``AffineCoupling``.
        context_features: features of the context that the coupling takes, or None to ignore context.

    Shapes: ``(B, c, h, w)`` both ways; log-dets ``(B,)``. Raises ValueError or TypeError for what the parts refuse.

    Reference: Lu and Huang, NeurIPS 2020, section 4; Kingma and Dhariwal, Glow, NeurIPS 2018, section 3.

    >>> import torch
    >>> WoodburyGlowBlock((12, 16, 16), hidden_channels=32)(torch.randn(4, 12, 16, 16))[0].shape
    torch.Size([4, 12, 16, 16])
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden_channels: int,
        *,
        mixing: Callable[[Shape], Transform] = partial(WoodburyTransform, ranks=(8, 16)),  # noqa: B008 - never changed
        coupling: Callable[..., Transform] = AffineCoupling,
        context_features: int | None = None,
    ) -> None:
        shape = check_image_shape(shape)
        last = coupling(shape, hidden_channels, context_features=context_features)
        super().__init__(Chain([ActNorm(shape[0]), mixing(shape), last]))


def register() -> None:
    """Put our flows into ``normflows.flows`` by their names; calling it again changes nothing.

    Raises:
        ValueError: if normflows has something else by one of the names; then nothing is put there.

    >>> import normflows
    >>> register()
    >>> normflows.flows.Woodbury((12, 8, 8), ranks=(4, 8)).transform[0].rank
    4
    """
    convolutions = [InvertibleConv1x1, EmergingConv, PeriodicConv, ExponentialConv, FInCConv]
    ours = [Woodbury, MEWoodbury, CirculantDiagonal, Butterfly, *convolutions, MaCow, SplineCoupling, WoodburyGlowBlock]
    flows = {flow.__name__: flow for flow in ours}
    for name, flow in flows.items():
        if getattr(getattr(normflows.flows, name, flow), "__module__", None) != __name__:
            raise ValueError(f"normflows.flows.{name} exists already; use {__package__}.{name} under that name instead")
    for name, flow in flows.items():
        setattr(normflows.flows, name, flow)
