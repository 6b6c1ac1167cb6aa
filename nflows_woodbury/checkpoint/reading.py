"""Reading a training checkpoint, or published weights, back as a flow; nothing in the file is executed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from nflows_woodbury.checkpoint.weights import SUFFIX, read_weights
from nflows_woodbury.config import FlowConfig
from nflows_woodbury.flow import GridFlow

__all__ = ["find_checkpoint", "load_flow", "read_checkpoint"]


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint that ``path`` is, or the last one of a run's folder or its ``checkpoints``; or FileNotFoundError.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as run:
    ...     Path(run, "checkpoints").mkdir()
    ...     Path(run, "checkpoints", "last.ckpt").touch()
    ...     find_checkpoint(run).name
    'last.ckpt'
    """
    path = Path(path)
    for last in (path / "checkpoints" / "last.ckpt", path / "last.ckpt"):
        if last.is_file():
            return last
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is neither a checkpoint nor a run's folder with checkpoints/last.ckpt in it; "
            "nflows-woodbury train writes one"
        )
    return path


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a checkpoint, or of published weights: tensors and plain values; ValueError for any other file.

    In the example ``run_folder`` is the folder of a run.

    >>> sorted(read_checkpoint(run_folder)["nflows_woodbury"])
    ['cpu_seconds', 'data', 'flow', 'seconds', 'skipped', 'training']
    """
    path = find_checkpoint(path)
    if path.suffix == SUFFIX:
        return _published(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} must be a checkpoint of nflows-woodbury train; it is cut short, no checkpoint at all, or holds "
            "more than tensors and plain values"
        ) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("nflows_woodbury"), dict):
        raise ValueError(f"{path} must be a checkpoint of nflows-woodbury train, it has no settings of a flow")
    return checkpoint


def _published(path: Path) -> dict[str, Any]:
    """Published weights as a checkpoint without optimizer."""
    tensors, values = read_weights(path)
    fingerprint = tensors.pop("fingerprint", None)
    if fingerprint is not None:
        values["data"]["fingerprint"]["items"] = fingerprint
    return {"nflows_woodbury": values, "global_step": values.pop("global_step"), "state_dict": tensors}


def load_flow(path: str | Path, *, averaged: bool = True) -> tuple[GridFlow, dict[str, Any]]:
    """The flow of a checkpoint or run folder, on the CPU in eval mode, and the settings saved with it.

    Args:
        path: the checkpoint, or the folder of a run.
        averaged: take the exponential moving average of the weights where the run keeps one, else the last ones.

    Returns:
        The flow in the run's dtype, an :class:`ImageFlow` or a :class:`FieldFlow`, and what the run saved, which is
        ``flow`` and ``training`` settings, ``steps`` taken, the ``seconds`` and ``cpu_seconds`` that they took, and of
        its ``data`` how they were split, names of classes and a fingerprint.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no checkpoint of this package, or its weights do not fit its settings.

    In the example ``run_folder`` is the folder of a run of 12 steps on 16 x 16 images.

    >>> flow, settings = load_flow(run_folder)
    >>> flow.sample(5).shape, settings["steps"]
    (torch.Size([5, 3, 16, 16]), 12)
    """
    checkpoint = read_checkpoint(path)
    settings = {**checkpoint["nflows_woodbury"], "steps": checkpoint.get("global_step")}
    with torch.device("cpu"):  # not on another default device, such as meta
        flow = FlowConfig.from_dict(settings["flow"]).build()
    weights = _weights(checkpoint["state_dict"], "average.") if averaged else {}
    weights = weights or _weights(checkpoint["state_dict"], "flow.")
    if any(weight.dtype == torch.float64 for weight in weights.values()):
        flow.double()
    try:
        flow.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path}: the weights do not fit the settings saved with them") from error
    return flow.eval(), settings


def _weights(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): weight for name, weight in state.items() if name.startswith(prefix)}
