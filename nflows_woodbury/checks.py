"""Argument checks shared by the package: each names the argument, the value it got and what would do.

Those of tensors import torch when they are called: settings are checked without it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches
from numbers import Integral, Real
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = [
    "check_axes",
    "check_channel_inputs",
    "check_channels",
    "check_class_numbers",
    "check_field_shape",
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
    "check_sizes",
    "check_uint8_images",
]


def check_positive_int(name: str, value: object) -> int:
    """Return ``value`` as an ``int``; TypeError for anything but an integer, ValueError below 1."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a positive integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value}")
    return int(value)


def check_odd_int(name: str, value: object) -> int:
    """Return ``value`` as an ``int``, the side of a window that has a centre; ValueError for even ones or below 1."""
    number = check_positive_int(name, value)
    if number % 2 == 0:
        raise ValueError(f"{name} must be odd, so that the window has a centre; got {value}")
    return number


def check_natural_int(name: str, value: object) -> int:
    """Return ``value`` as an ``int``; TypeError for anything but an integer, ValueError below 0."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer from 0, got {value!r}")
    if value < 0:
        raise ValueError(f"{name} must be an integer from 0, got {value}")
    return int(value)


def check_natural_number(name: str, value: object) -> float:
    """Return ``value`` as a ``float``; TypeError for anything but a real number, ValueError below 0 and for nan."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, at least 0, got {value!r}")
    number = float(value)
    if not number >= 0:
        raise ValueError(f"{name} must be at least 0, got {value}")
    return number


def check_image_shape(shape: object, name: str = "shape") -> tuple[int, int, int]:
    """Return ``shape`` as ``(channels, height, width)`` of positive integers."""
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        raise TypeError(f"{name} must be a sequence (channels, height, width), got {shape!r}")
    if len(shape) != 3:
        raise ValueError(f"{name} must be (channels, height, width), got {tuple(shape)}")
    channels, height, width = (check_positive_int(f"{name}[{i}]", size) for i, size in enumerate(shape))
    return channels, height, width


def check_field_shape(shape: object) -> tuple[int, ...]:
    """Return ``shape`` as ``(channels, *sizes)`` of positive integers, with one axis or more behind the channels."""
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        raise TypeError(f"shape must be a sequence (channels, *sizes), such as (1, 32, 32), got {shape!r}")
    if len(shape) < 2:
        raise ValueError(
            f"shape must be (channels, *sizes) with one axis or more behind the channels, got {tuple(shape)}; of one "
            "channel it is (1, height, width)"
        )
    return tuple(check_positive_int(f"shape[{i}]", size) for i, size in enumerate(shape))


def check_sizes(name: str, value: object) -> tuple[int, ...]:
    """Return ``value``, positive integers or one of them, as a tuple."""
    if isinstance(value, Integral):
        return (check_positive_int(name, value),)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{name} must be a sequence of positive integers, or one of them, got {value!r}")
    return tuple(check_positive_int(f"{name}[{i}]", size) for i, size in enumerate(value))


def check_axes(axes: object, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return ``axes``, one or several of ``shape``, as a tuple of consecutive axes in rising order from 0."""
    given = (axes,) if isinstance(axes, Integral) else axes
    if not isinstance(given, Sequence):
        raise TypeError(f"axes must be a sequence of consecutive axes, or one axis, got {axes!r}")
    from_zero = tuple(axis + len(shape) if axis in range(-len(shape), 0) else axis for axis in given)
    groups = [tuple(range(i, j)) for j in range(1, len(shape) + 1) for i in range(j)]
    if from_zero not in groups:
        raise ValueError(f"axes must be consecutive axes of shape {shape} in rising order, got {tuple(given)}")
    return from_zero


def check_one_of(name: str, value: object, choices: Collection[str]) -> str:
    """Return ``value`` if it is one of ``choices``, else raise a ValueError that lists them, or the closest of many."""
    if not isinstance(value, str) or value not in choices:
        listed = sorted(choices) if len(choices) < 20 else [*get_close_matches(str(value), choices, 5, 0), "..."]
        raise ValueError(f"{name} must be one of {', '.join(listed)}; got {value!r}")
    return value


def check_layer_dtype(inputs: torch.Tensor, dtype: torch.dtype) -> None:
    """Check that ``inputs`` have the dtype of a layer's parameters, and that it is precise enough to invert in."""
    if dtype.itemsize < 4:
        raise TypeError(
            f"the layer's parameters must be float32 or float64, got {dtype}, which cannot be inverted to a pixel; "
            "undo .half() or .bfloat16() and use torch.autocast (bf16-mixed in Lightning, --precision bf16 here)"
        )
    if inputs.dtype != dtype:
        wider = inputs.dtype if inputs.dtype.itemsize > dtype.itemsize else dtype
        raise TypeError(
            f"inputs must have the layer's dtype {dtype}, got {inputs.dtype}; convert one of them, "
            f"such as {'layer' if wider == inputs.dtype else 'inputs'}.to({wider})"
        )


def check_channels(inputs: torch.Tensor, num_channels: int) -> None:
    """Check that ``inputs`` are floating point of shape (B, num_channels, ...)."""
    check_floating(inputs)
    if inputs.dim() < 2 or inputs.shape[1] != num_channels:
        alone = inputs.dim() > 0 and inputs.shape[0] == num_channels
        raise ValueError(
            f"inputs must have shape (B, {num_channels}) or (B, {num_channels}, ...), got {tuple(inputs.shape)}; "
            + ("one image is a batch of one, inputs[None]" if alone else "the layer was built for so many channels")
        )


def check_channel_inputs(inputs: torch.Tensor, num_channels: int) -> None:
    """Check that ``inputs`` are floating point of shape (B, num_channels, h, w), any h and w."""
    check_floating(inputs)
    if inputs.dim() != 4:
        raise ValueError(
            f"inputs must have shape (B, {num_channels}, h, w), got {tuple(inputs.shape)}; vectors are images of one "
            "pixel, inputs[:, :, None, None], and one image is a batch of one, inputs[None]"
        )
    if inputs.shape[1] != num_channels:
        raise ValueError(
            f"inputs must have shape (B, {num_channels}, h, w), got {tuple(inputs.shape)}; "
            "the layer was built for that number of channels"
        )


def check_image_inputs(inputs: torch.Tensor, shape: tuple[int, ...]) -> None:
    """Check that ``inputs`` are floating point of shape (B, *shape)."""
    check_floating(inputs)
    if tuple(inputs.shape[1:]) != shape:
        expected = ", ".join(map(str, ("B", *shape)))
        raise ValueError(f"inputs must have shape ({expected}), got {tuple(inputs.shape)}")


def check_uint8_images(images: torch.Tensor, shape: tuple[int, ...] | None = None) -> None:
    """Check that ``images`` are uint8 of shape (B, c, h, w), and of ``shape`` (c, h, w) if it is given."""
    import torch

    if not isinstance(images, torch.Tensor) or images.dtype != torch.uint8:
        got = images.dtype if isinstance(images, torch.Tensor) else type(images).__name__
        raise TypeError(
            f"images must be a uint8 tensor with values 0 to 255, got {got}; values from 0 to 255 become one by "
            "images.round().to(torch.uint8), values from 0 to 1 by (images * 255).round().to(torch.uint8) (as those of "
            "data loaders whose ToTensor divided by 255); numbers that are no images go into a field_flow"
        )
    if images.dim() != 4:
        raise ValueError(f"images must have shape (B, channels, height, width), got {tuple(images.shape)}")
    if shape is not None and tuple(images.shape[1:]) != shape:
        raise ValueError(f"images must have shape ({', '.join(map(str, ('B', *shape)))}), got {tuple(images.shape)}")


def check_fields(fields: torch.Tensor, shape: tuple[int, ...]) -> None:
    """Check that ``fields`` are float32 or float64 of shape (B, *shape); their values are not looked at."""
    import torch

    if not isinstance(fields, torch.Tensor) or fields.dtype not in (torch.float32, torch.float64):
        got = fields.dtype if isinstance(fields, torch.Tensor) else type(fields).__name__
        cure = _AS_FLOATS.get(str(got), "fields.to(torch.float32) makes one of numbers")
        raise TypeError(f"fields must be a float32 or float64 tensor, got {got}; {cure}")
    if tuple(fields.shape[1:]) != shape or fields.dim() == 0:
        expected = ", ".join(map(str, ("B", *shape)))
        cure = "; one field is a batch of one, fields[None]" if tuple(fields.shape) == shape else ""
        if shape[0] == 1 and tuple(fields.shape[1:]) == shape[1:]:
            cure = "; fields[:, None] gives them their one channel"
        raise ValueError(f"fields must have shape ({expected}), got {tuple(fields.shape)}{cure}")


_AS_FLOATS = {
    "torch.uint8": "images of 8 bits have a probability, not a density: image_flow takes them as they are",
    "torch.complex64": "torch.view_as_real(fields) has the real and imaginary parts on an axis of their own",
    "torch.complex128": "torch.view_as_real(fields) has the real and imaginary parts on an axis of their own",
}


def check_class_numbers(numbers: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Return ``numbers``, integers (B,), after a look at those whose values a CPU holds: each below ``num_classes``."""
    import torch

    if not isinstance(numbers, torch.Tensor) or numbers.is_complex() or numbers.dtype == torch.bool:
        got = numbers.dtype if isinstance(numbers, torch.Tensor) else type(numbers).__name__
        raise TypeError(f"context must be class numbers, integers, or a floating point tensor, got {got}")
    if numbers.dim() != 1:
        raise ValueError(f"class numbers must have shape (B,), got {tuple(numbers.shape)}")
    if numbers.device.type == "cpu" and not torch.compiler.is_compiling() and not _is_vmapped(numbers):
        wrong = numbers[(numbers < 0) | (numbers >= num_classes)]
        if len(wrong):
            listed = ", ".join(map(str, wrong.unique().tolist()[:10]))
            raise ValueError(f"class numbers must be from 0 to {num_classes - 1}, got {listed}")
    return numbers


def _is_vmapped(tensor: torch.Tensor) -> bool:
    """Whether ``torch.vmap`` holds other values of it, too, so that nothing can depend on them."""
    import torch

    return torch._C._functorch.is_batchedtensor(tensor)


def check_floating(inputs: torch.Tensor) -> None:
    """Check that ``inputs`` are a floating point tensor."""
    import torch

    if not isinstance(inputs, torch.Tensor) or not inputs.is_floating_point():
        got = inputs.dtype if isinstance(inputs, torch.Tensor) else type(inputs).__name__
        raise TypeError(f"inputs must be a floating point tensor, got {got}; uint8 images enter through a dequantizer")
