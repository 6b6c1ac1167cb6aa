"""Checks of tensors; torch is imported when they are called, so that settings are checked without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nflows_woodbury.checks.settings import AXES

if TYPE_CHECKING:
    import torch

__all__ = [
    "check_channel_inputs",
    "check_channels",
    "check_class_numbers",
    "check_fields",
    "check_floating",
    "check_image_inputs",
    "check_layer_dtype",
    "check_uint8",
    "check_uint8_images",
]


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


def check_channels(inputs: torch.Tensor, num_channels: int | str = "c") -> None:
    """Check that ``inputs`` are floating point of shape (B, num_channels, ...); of any number of channels without."""
    check_floating(inputs)
    if inputs.dim() < 2 or num_channels not in ("c", inputs.shape[1]):
        alone = inputs.dim() > 0 and inputs.shape[0] == num_channels
        raise ValueError(
            f"inputs must have shape (B, {num_channels}) or (B, {num_channels}, ...), got {tuple(inputs.shape)}; "
            + ("one image is a batch of one, inputs[None]" if alone else "the layer was built for so many channels")
        )


def check_channel_inputs(inputs: torch.Tensor, num_channels: int, num_axes: int = 2) -> None:
    """Check that ``inputs`` are floating point of shape (B, num_channels, ...), with ``num_axes`` axes of any size."""
    check_floating(inputs)
    expected = ", ".join(["B", str(num_channels), *AXES[num_axes]])
    if inputs.dim() != 2 + num_axes:
        hint = (
            "vectors are images of one pixel, inputs[:, :, None, None], and one image is a batch of one, inputs[None]"
            if num_axes == 2
            else f"the layer was built for a shape of {1 + num_axes} numbers; one input is a batch of one, inputs[None]"
        )
        raise ValueError(f"inputs must have shape ({expected}), got {tuple(inputs.shape)}; {hint}")
    if inputs.shape[1] != num_channels:
        raise ValueError(
            f"inputs must have shape ({expected}), got {tuple(inputs.shape)}; "
            "the layer was built for that number of channels"
        )


def check_image_inputs(inputs: torch.Tensor, shape: tuple[int, ...]) -> None:
    """Check that ``inputs`` are floating point of shape (B, *shape)."""
    check_floating(inputs)
    if tuple(inputs.shape[1:]) != shape:
        expected = ", ".join(map(str, ("B", *shape)))
        raise ValueError(f"inputs must have shape ({expected}), got {tuple(inputs.shape)}")


def check_uint8_images(images: torch.Tensor, shape: tuple[int, ...] | None = None) -> None:
    """Check that ``images`` are uint8 of shape (B, c, h, w), or of (B, *shape) if that is given."""
    check_uint8(images)
    if shape is None and images.dim() != 4:
        raise ValueError(f"images must have shape (B, channels, height, width), got {tuple(images.shape)}")
    if shape is not None and tuple(images.shape[1:]) != shape:
        raise ValueError(f"images must have shape ({', '.join(map(str, ('B', *shape)))}), got {tuple(images.shape)}")


def check_uint8(images: torch.Tensor) -> None:
    """Check that ``images`` are a uint8 tensor of shape (B, c), or (B, c, ...) with up to three sizes."""
    import torch

    if not isinstance(images, torch.Tensor) or images.dtype != torch.uint8:
        got = images.dtype if isinstance(images, torch.Tensor) else type(images).__name__
        raise TypeError(
            f"images must be a uint8 tensor with values 0 to 255, got {got}; values from 0 to 255 become one by "
            "images.round().to(torch.uint8), values from 0 to 1 by (images * 255).round().to(torch.uint8) (as those of "
            "data loaders whose ToTensor divided by 255); numbers that are no images go into a field_flow"
        )
    if images.dim() not in range(2, len(AXES) + 2):
        raise ValueError(f"images must have shape (B, channels, ...) with up to three sizes, got {tuple(images.shape)}")


def check_fields(fields: torch.Tensor, shape: tuple[int, ...]) -> None:
    """Check that ``fields`` are float32 or float64 of shape (B, *shape); their values are not looked at."""
    import torch

    if not isinstance(fields, torch.Tensor) or fields.dtype not in (torch.float32, torch.float64):
        is_tensor = isinstance(fields, torch.Tensor)
        got = fields.dtype if is_tensor else type(fields).__name__
        cure = "fields.to(torch.float32)" if is_tensor else "torch.as_tensor(fields, dtype=torch.float32)"
        cure = _AS_FLOATS.get(str(got), f"{cure} makes one of numbers")
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
