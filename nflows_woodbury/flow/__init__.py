"""Whole flows: over uint8 images and over floats, and the functions that put them together from parts."""

from nflows_woodbury.flow.assembly import Part, Shape, field_flow, image_flow
from nflows_woodbury.flow.condition_net import ConditionNet
from nflows_woodbury.flow.fields import FieldFlow
from nflows_woodbury.flow.grid import GridFlow
from nflows_woodbury.flow.images import ImageFlow

__all__ = ["ConditionNet", "FieldFlow", "GridFlow", "ImageFlow", "Part", "Shape", "field_flow", "image_flow"]
