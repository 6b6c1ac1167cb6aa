"""Our layers in normflows, and normflows' flows in nflows.

The two libraries differ in direction: an nflows ``Transform`` maps data to noise in ``forward``, a normflows ``Flow``
noise to data. The adapters swap the two methods; everything else stays what it is. Importing this module changes
nothing in normflows; :func:`register` puts the named classes into ``normflows.flows``.
"""

from nflows_woodbury.normflows.adapters import NflowsAdapter, NormflowsAdapter
from nflows_woodbury.normflows.glow import WoodburyGlowBlock
from nflows_woodbury.normflows.layers import (
    Butterfly,
    CirculantDiagonal,
    EmergingConv,
    ExponentialConv,
    FInCConv,
    InvertibleConv1x1,
    LowRankLinear,
    MaCow,
    MEWoodbury,
    PeriodicConv,
    SplineCoupling,
    SplitPrior,
    TopPrior,
    Woodbury,
)
from nflows_woodbury.normflows.registration import register

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
    "NflowsAdapter",
    "NormflowsAdapter",
    "PeriodicConv",
    "SplineCoupling",
    "SplitPrior",
    "TopPrior",
    "Woodbury",
    "WoodburyGlowBlock",
    "register",
]
