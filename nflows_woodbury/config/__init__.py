"""Names and settings: which mixing and coupling a name stands for, and a whole model as data."""

from nflows_woodbury.config.names import (
    COUPLINGS,
    DEQUANTIZERS,
    FIRSTS,
    IDENTITY,
    LOW_RANK,
    MIXINGS,
    NETS,
    SQUEEZES,
    START_NAMES,
    compose,
    has_ranks,
    paper_ranks,
)
from nflows_woodbury.config.settings import FlowConfig, Settings

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
    "FlowConfig",
    "Settings",
    "compose",
    "has_ranks",
    "paper_ranks",
]
