"""Reading a training checkpoint back as a flow; nothing in the file is executed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from nflows_woodbury.config import FlowConfig
from nflows_woodbury.flow import ImageFlow

__all__ = ["find_checkpoint", "load_flow", "read_checkpoint"]


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint file that ``path`` is, or the last one of the run folder that it is; else FileNotFoundError.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as run:
    ...     Path(run, "checkpoints").mkdir()
    ...     Path(run, "checkpoints", "last.ckpt").touch()
    ...     find_checkpoint(run).name
    'last.ckpt'
    """
    path = Path(path)
    last = path / "checkpoints" / "last.ckpt"
    if path.is_dir() and last.is_file():
        return last
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is neither a checkpoint nor a run's folder with checkpoints/last.ckpt in it; "
            "nflows-woodbury train writes one"
        )
    return path


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a checkpoint: tensors and plain values only; ValueError for any other file.

    >>> from tempfile import TemporaryDirectory
    >>> from nflows_woodbury.cli.main import main
    >>> with TemporaryDirectory() as run:  # doctest: +ELLIPSIS
    ...     _ = main([*"train --size 8 --levels 1 --steps 1 --max-steps 1 --quiet --out".split(), run])
    ...     sorted(read_checkpoint(run)["nflows_woodbury"])
    <BLANKLINE>
    1 steps in ...
    ['flow', 'seconds', 'skipped', 'training']
    """
    path = find_checkpoint(path)
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


def load_flow(path: str | Path, *, averaged: bool = True) -> tuple[ImageFlow, dict[str, Any]]:
    """The flow of a checkpoint or run folder, on the CPU in eval mode, and the settings saved with it.

    Args:
        path: the checkpoint, or the folder of a run.
        averaged: take the exponential moving average of the weights where the run keeps one, else the last ones.

    Returns:
        The flow in the run's dtype and what the run saved, which is ``flow`` and ``training`` settings, ``steps`` taken
        and the ``seconds`` that they took.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no checkpoint of this package, or its weights do not fit its settings.

    >>> from tempfile import TemporaryDirectory
    >>> from nflows_woodbury.cli.main import main
    >>> with TemporaryDirectory() as run:  # doctest: +ELLIPSIS
    ...     _ = main([*"train --size 8 --levels 1 --steps 1 --max-steps 1 --quiet --out".split(), run])
    ...     flow, settings = load_flow(run)
    <BLANKLINE>
    1 steps in ...
    >>> flow.sample(5).shape, settings["steps"]
    (torch.Size([5, 3, 8, 8]), 1)
    """
    checkpoint = read_checkpoint(path)
    settings = {**checkpoint["nflows_woodbury"], "steps": checkpoint.get("global_step")}
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
