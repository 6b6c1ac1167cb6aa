"""Argument checks shared by the package: each names the argument, the value it got and what would do."""

from nflows_woodbury.checks.settings import (
    AXES,
    check_axes,
    check_image_shape,
    check_natural_int,
    check_natural_number,
    check_odd_int,
    check_one_of,
    check_positive_int,
    check_positive_number,
    check_shape,
    check_sizes,
)
from nflows_woodbury.checks.tensors import (
    check_channel_inputs,
    check_channels,
    check_class_numbers,
    check_fields,
    check_floating,
    check_image_inputs,
    check_layer_dtype,
    check_uint8,
    check_uint8_images,
)

__all__ = [
    "AXES",
    "check_axes",
    "check_channel_inputs",
    "check_channels",
    "check_class_numbers",
    "check_fields",
    "check_floating",
    "check_image_inputs",
    "check_image_shape",
    "check_layer_dtype",
    "check_natural_int",
    "check_natural_number",
    "check_odd_int",
    "check_one_of",
    "check_positive_int",
    "check_positive_number",
    "check_shape",
    "check_sizes",
    "check_uint8",
    "check_uint8_images",
]
