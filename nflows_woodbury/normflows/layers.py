"""Our layers as normflows flows, each with the arguments of the transform."""

from __future__ import annotations

from functools import wraps
from typing import Any

from nflows_woodbury import transforms
from nflows_woodbury.normflows.adapters import NormflowsAdapter

__all__ = [
    "Butterfly",
    "CirculantDiagonal",
    "EmergingConv",
    "ExponentialConv",
    "FInCConv",
    "InvertibleConv1x1",
    "LowRankLinear",
    "MEWoodbury",
    "MaCow",
    "PeriodicConv",
    "SplineCoupling",
    "SplitPrior",
    "TopPrior",
    "Woodbury",
]


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


class LowRankLinear(NormflowsAdapter):
    """:class:`~nflows_woodbury.transforms.low_rank_linear.LowRankLinear` as a normflows ``Flow``; the same arguments.

    It stands where ``LULinearPermute(features)`` does.

    >>> import torch
    >>> LowRankLinear(9, rank=4)(torch.randn(5, 9))[0].shape
    torch.Size([5, 9])
    """

    @wraps(transforms.LowRankLinear.__init__)  # type: ignore[misc]  # their signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(transforms.LowRankLinear(*args, **kwargs))


class SplitPrior(NormflowsAdapter):
    """:class:`~nflows_woodbury.transforms.prior.SplitPrior` as a normflows ``Flow``; the same arguments.

    The first flow of a level of ``MultiscaleFlow`` that is not the deepest: right before ``Merge`` takes the half out.

    >>> import torch
    >>> SplitPrior((12, 8, 8))(torch.randn(4, 12, 8, 8))[0].shape
    torch.Size([4, 12, 8, 8])
    """

    @wraps(transforms.SplitPrior.__init__)  # type: ignore[misc]  # their signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(transforms.SplitPrior(*args, **kwargs))


class TopPrior(NormflowsAdapter):
    """:class:`~nflows_woodbury.transforms.prior.TopPrior` as a normflows ``Flow``; the same arguments.

    The first flow of the deepest level of ``MultiscaleFlow``.

    >>> import torch
    >>> TopPrior((12, 8, 8))(torch.randn(4, 12, 8, 8))[0].shape
    torch.Size([4, 12, 8, 8])
    """

    @wraps(transforms.TopPrior.__init__)  # type: ignore[misc]  # their signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(transforms.TopPrior(*args, **kwargs))
