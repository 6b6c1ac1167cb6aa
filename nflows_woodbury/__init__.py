"""Invertible mixing layers and image flows for nflows and normflows.

The names of ``__all__`` are found in their modules on first use, so that importing the package alone loads nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nflows_woodbury.flow import ConditionNet, FieldFlow, ImageFlow, field_flow, image_flow
    from nflows_woodbury.transforms import (
        ActNorm,
        AdditiveCoupling,
        AffineCoupling,
        AttentionNet,
        AutoregressiveConvolution,
        Butterfly,
        ButterflyTransform,
        Chain,
        CirculantDiagonal,
        ConvNet,
        ConvolutionExponential,
        EmergingConvolution,
        FInCConvolution,
        HaarSqueeze,
        InvertibleConv1x1,
        Logit,
        LowRankChain,
        LowRankLinear,
        LowRankTransform,
        MaCowUnit,
        MaskedConvCoupling,
        MEWoodburyTransform,
        Multiscale,
        Pad,
        PeriodicConvolution,
        ResidualNet,
        Reversible,
        SplineCoupling,
        SplitPrior,
        Squeeze,
        Standardize,
        TopPrior,
        UniformDequantize,
        VariationalDequantize,
        WoodburyTransform,
        as_torch_transform,
        freeze,
        initialize,
    )

__all__ = [
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "AttentionNet",
    "AutoregressiveConvolution",
    "Butterfly",
    "ButterflyTransform",
    "Chain",
    "CirculantDiagonal",
    "ConditionNet",
    "ConvNet",
    "ConvolutionExponential",
    "EmergingConvolution",
    "FInCConvolution",
    "FieldFlow",
    "HaarSqueeze",
    "ImageFlow",
    "InvertibleConv1x1",
    "Logit",
    "LowRankChain",
    "LowRankLinear",
    "LowRankTransform",
    "MEWoodburyTransform",
    "MaCowUnit",
    "MaskedConvCoupling",
    "Multiscale",
    "Pad",
    "PeriodicConvolution",
    "ResidualNet",
    "Reversible",
    "SplineCoupling",
    "SplitPrior",
    "Squeeze",
    "Standardize",
    "TopPrior",
    "UniformDequantize",
    "VariationalDequantize",
    "WoodburyTransform",
    "as_torch_transform",
    "field_flow",
    "freeze",
    "image_flow",
    "initialize",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("nflows-woodbury")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "flow" if name.endswith(("Flow", "_flow", "ConditionNet")) else "transforms"
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
