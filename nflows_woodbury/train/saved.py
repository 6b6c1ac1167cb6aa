"""What a run's checkpoint says of it, to go on from there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nflows_woodbury.checkpoint import SUFFIX, find_checkpoint, read_checkpoint
from nflows_woodbury.config import FlowConfig
from nflows_woodbury.train.config import TrainingConfig

__all__ = ["SavedRun", "check_free", "read_run"]


@dataclass(frozen=True)
class SavedRun:
    """What a run's checkpoint says of it."""

    checkpoint: Path
    folder: Path
    flow: FlowConfig
    training: TrainingConfig
    saved: dict[str, Any]  # as it stands in the checkpoint


def read_run(path: str | Path, out: Path | None = None) -> SavedRun:
    """The run of a folder, or of a checkpoint in the ``checkpoints`` of one.

    Args:
        path: the folder or the checkpoint.
        out: the run's folder, for a checkpoint that lies in none; else None or the same.

    Raises:
        FileNotFoundError: if there is no checkpoint.
        ValueError: if it is none of this package, holds published weights, lies in no run's folder, or ``out`` is
            another folder.
    """
    checkpoint = find_checkpoint(path)
    if checkpoint.suffix == SUFFIX:
        raise ValueError(f"{checkpoint} holds weights without the optimizer's state; name the folder of the run itself")
    saved = read_checkpoint(checkpoint)["nflows_woodbury"]
    home = checkpoint.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent.resolve()
    folder = home.parent if home.name == "checkpoints" else out
    if folder is None:
        raise ValueError(f"{checkpoint} lies in no run's folder, as checkpoints/last.ckpt; --out says where to go on")
    if home.name != "checkpoints":
        check_free(folder)
    if out is not None and out.resolve() != folder.resolve():
        raise ValueError(f"out must be the folder of the run that is resumed, {folder}, or left out, got {out}")
    try:
        flow, training = FlowConfig.from_dict(saved["flow"]), TrainingConfig.from_dict(saved["training"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{checkpoint} must be of a version whose settings this one knows; {error}") from error
    return SavedRun(checkpoint, folder, flow, training, saved)


def check_free(folder: Path) -> None:
    """Check that no run is in a folder; else FileExistsError."""
    if any(folder.glob("checkpoints/*.ckpt")):
        raise FileExistsError(f"{folder} holds a run; --resume {folder} continues it, --out takes another")
