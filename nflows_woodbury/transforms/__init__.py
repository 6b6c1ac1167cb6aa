"""Invertible layers, each an nflows ``Transform`` (forward: data to noise)."""

from nflows_woodbury.transforms.actnorm import ActNorm
from nflows_woodbury.transforms.chain import Chain, initialize
from nflows_woodbury.transforms.conv1x1 import InvertibleConv1x1
from nflows_woodbury.transforms.coupling import AdditiveCoupling, AffineCoupling
from nflows_woodbury.transforms.dequantize import UniformDequantize
from nflows_woodbury.transforms.multiscale import Multiscale
from nflows_woodbury.transforms.prior import SplitPrior, TopPrior
from nflows_woodbury.transforms.squeeze import Squeeze
from nflows_woodbury.transforms.woodbury import LowRankTransform, MEWoodburyTransform, WoodburyTransform

__all__ = [
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "Chain",
    "InvertibleConv1x1",
    "LowRankTransform",
    "MEWoodburyTransform",
    "Multiscale",
    "SplitPrior",
    "Squeeze",
    "TopPrior",
    "UniformDequantize",
    "WoodburyTransform",
    "initialize",
]
