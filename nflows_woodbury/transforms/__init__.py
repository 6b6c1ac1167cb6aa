"""Invertible layers, each an nflows ``Transform`` (forward: data to noise)."""

from nflows_woodbury.transforms.actnorm import ActNorm
from nflows_woodbury.transforms.attention import AttentionNet
from nflows_woodbury.transforms.butterfly import Butterfly, ButterflyTransform
from nflows_woodbury.transforms.chain import Chain
from nflows_woodbury.transforms.circulant import CirculantDiagonal
from nflows_woodbury.transforms.conv1x1 import InvertibleConv1x1
from nflows_woodbury.transforms.coupling import AdditiveCoupling, AffineCoupling
from nflows_woodbury.transforms.dequantize import UniformDequantize
from nflows_woodbury.transforms.emerging import AutoregressiveConvolution, EmergingConvolution
from nflows_woodbury.transforms.exponential import ConvolutionExponential
from nflows_woodbury.transforms.finc import FInCConvolution
from nflows_woodbury.transforms.frozen import freeze
from nflows_woodbury.transforms.initialization import initialize
from nflows_woodbury.transforms.logit import Logit
from nflows_woodbury.transforms.low_rank_linear import LowRankLinear
from nflows_woodbury.transforms.macow import MaCowUnit, MaskedConvCoupling
from nflows_woodbury.transforms.multiscale import Multiscale
from nflows_woodbury.transforms.nets import ConvNet
from nflows_woodbury.transforms.pad import Pad
from nflows_woodbury.transforms.periodic import PeriodicConvolution
from nflows_woodbury.transforms.prior import SplitPrior, TopPrior
from nflows_woodbury.transforms.residual import ResidualNet
from nflows_woodbury.transforms.reversible import Reversible
from nflows_woodbury.transforms.spline import SplineCoupling
from nflows_woodbury.transforms.squeeze import HaarSqueeze, Squeeze
from nflows_woodbury.transforms.standardize import Standardize
from nflows_woodbury.transforms.torch_transform import as_torch_transform
from nflows_woodbury.transforms.variational import VariationalDequantize
from nflows_woodbury.transforms.woodbury import LowRankChain, LowRankTransform, MEWoodburyTransform, WoodburyTransform

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
    "ConvNet",
    "ConvolutionExponential",
    "EmergingConvolution",
    "FInCConvolution",
    "HaarSqueeze",
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
    "freeze",
    "initialize",
]
