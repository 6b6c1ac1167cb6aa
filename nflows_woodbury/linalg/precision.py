"""Precision: autocast off around invertible arithmetic, sums in float32 or wider."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from nflows_woodbury.checks import check_layer_dtype

__all__ = ["at_least_float32", "full_precision", "in_layer_dtype", "is_autocast", "parameter_dtype", "sum_pixels"]


def full_precision(inputs: Tensor) -> AbstractContextManager[object]:
    """A context in which autocast is off for the device of ``inputs``: invertible arithmetic keeps its dtype.

    >>> import torch
    >>> inputs = torch.ones(2, 3)
    >>> with torch.autocast("cpu", torch.bfloat16), full_precision(inputs):
    ...     (inputs @ inputs.T).dtype
    torch.float32
    """
    device = inputs.device.type
    # Entering a context costs more than asking, except in compiled code, where torch 2.4 cannot ask.
    if not torch.compiler.is_compiling() and not is_autocast(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def parameter_dtype(module: nn.Module) -> torch.dtype | None:
    """The dtype of a module's first parameter, or None for a module without parameters; frozen ones are buffers.

    >>> parameter_dtype(nn.Linear(2, 3)), parameter_dtype(nn.ReLU())
    (torch.float32, None)
    """
    parameter: Tensor | None = next(module.parameters(), None)
    if parameter is None:  # in a replica of torch.nn.DataParallel they are plain attributes
        attributes = (value for part in module.modules() for value in vars(part).values())
        tensors = [value for value in (*attributes, *module.buffers()) if isinstance(value, Tensor)]
        parameter = next((tensor for tensor in tensors if tensor.is_floating_point()), None)
    return None if parameter is None else parameter.dtype


def in_layer_dtype(inputs: Tensor, dtype: torch.dtype | None) -> Tensor:
    """``inputs`` in the dtype of a layer's parameters, which they must have; TypeError else. None is theirs.

    Under autocast they may be of half precision, as layers of nflows return them: those are cast up. Parameters of half
    precision are refused.

    >>> import torch
    >>> with torch.autocast("cpu", torch.bfloat16):
    ...     in_layer_dtype(torch.ones(2, dtype=torch.bfloat16), torch.float32).dtype
    torch.float32
    """
    dtype = inputs.dtype if dtype is None else dtype
    if inputs.dtype.itemsize < 4 and is_autocast(inputs.device.type):
        inputs = inputs.to(dtype)
    check_layer_dtype(inputs, dtype)
    return inputs


def is_autocast(device: str) -> bool:
    """Whether autocast is on for devices of that type.

    >>> import torch
    >>> with torch.autocast("cpu", torch.bfloat16):
    ...     is_autocast("cpu"), is_autocast("meta")
    (True, False)
    """
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def sum_pixels(values: Tensor) -> Tensor:
    """Sum (B, ...) over all but the batch axis, in float32 or wider."""
    return values.flatten(1).sum(1, dtype=at_least_float32(values.dtype))


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The dtype of log-dets of inputs of that dtype.

    >>> import torch
    >>> at_least_float32(torch.uint8), at_least_float32(torch.bfloat16), at_least_float32(torch.float64)
    (torch.float32, torch.float32, torch.float64)
    """
    return dtype if dtype.is_floating_point and dtype.itemsize >= 4 else torch.float32
