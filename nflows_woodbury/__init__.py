"""Invertible mixing layers and image flows for nflows and normflows."""

from importlib.metadata import version

from nflows_woodbury.flow import ImageFlow, image_flow
from nflows_woodbury.transforms import *  # noqa: F403
from nflows_woodbury.transforms import __all__ as _transforms

__version__ = version("nflows-woodbury")

__all__ = ["ImageFlow", "image_flow", *_transforms]
