"""Weights with what belongs to them in one file of safetensors, to be given to others; reading one executes nothing.

>>> f"mine{SUFFIX}"
'mine.safetensors'
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from nflows_woodbury.files import whole_file
from nflows_woodbury.optional import import_extra

__all__ = ["SUFFIX", "read_weights", "write_weights"]

SUFFIX = ".safetensors"
_VALUES = "nflows_woodbury"  # in the file's metadata, plain values as JSON


def write_weights(path: str | Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Write tensors and plain values, whole or not at all; ImportError without safetensors.

    >>> import torch
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_weights(f"{folder}/small.safetensors", {"weight": torch.ones(2)}, {"steps": 12})
    ...     read_weights(f"{folder}/small.safetensors")
    ({'weight': tensor([1., 1.])}, {'steps': 12})
    """
    save = import_extra("safetensors.torch").save
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = save(contiguous, {_VALUES: json.dumps(values, allow_nan=False)})
    with whole_file(path) as new:
        new.write_bytes(data)


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What :func:`write_weights` wrote, on the CPU; ValueError for any other file.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_weights(f"{folder}/none.safetensors", {}, {"steps": 0})
    ...     read_weights(f"{folder}/none.safetensors")
    ({}, {'steps': 0})
    """
    safetensors = import_extra("safetensors")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            values = json.loads((file.metadata() or {})[_VALUES])
            return {name: file.get_tensor(name) for name in file.keys()}, values  # noqa: SIM118 - no mapping
    except (KeyError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(
            f"{path} must hold the weights of a flow, as nflows-woodbury publish writes them; it is cut short, or of "
            "another program"
        ) from error
