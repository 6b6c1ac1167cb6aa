"""Reading a training checkpoint back as a flow, with its images; nothing in the file is executed."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nflows_woodbury.config import FlowConfig
from nflows_woodbury.data.fingerprints import Fingerprint, describe_change
from nflows_woodbury.data.opening import open_source, plain_spec, reopen
from nflows_woodbury.data.sources import ImageSource
from nflows_woodbury.flow import GridFlow
from nflows_woodbury.weights import SUFFIX, read_weights

__all__ = [
    "Run",
    "check_kind",
    "find_checkpoint",
    "find_device",
    "load_flow",
    "open_images",
    "open_run",
    "read_checkpoint",
]

_log = logging.getLogger(__name__)


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
        ``flow`` and ``training`` settings, ``steps`` taken and the ``seconds`` that they took, and of its ``data`` how
        they were split, names of classes and a fingerprint.

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


@dataclass(frozen=True)
class Run:
    """A trained flow with its images.

    Attributes:
        flow: the model in eval mode, on a GPU if there is one.
        saved: what the run saved, as :func:`load_flow` returns it.
        source: the images of the run, or others of the same shape.
        change: how the run's images changed since its training, as in ``"3 files added"``, or None.

    >>> from nflows_woodbury.config import FlowConfig
    >>> from nflows_woodbury.data.photos import PhotoSource
    >>> config = FlowConfig((3, 8, 8), levels=1, steps=1, hidden_channels=8)
    >>> run = Run(config.build(), {"flow": config.to_dict()}, PhotoSource(8))
    >>> run.flow(run.source.test.images[:5]).shape
    torch.Size([5])
    """

    flow: GridFlow
    saved: dict[str, Any]
    source: ImageSource
    change: str | None = None

    @property
    def device(self) -> torch.device:
        """Where the flow is."""
        return next(self.flow.parameters()).device


def find_device() -> torch.device:
    """A GPU if there is one, else the CPU.

    >>> find_device().type in ("cpu", "cuda")
    True
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def open_run(path: str | Path, data: str | None = None, *, averaged: bool = True) -> Run:
    """The flow of a checkpoint or run folder, on the device that is there, with its images.

    Args:
        path: the checkpoint, or the folder of a run.
        data: what :func:`~nflows_woodbury.data.opening.open_source` takes, for other images than the run's.
        averaged: as for :func:`load_flow`.

    Raises:
        FileNotFoundError: if there is no such file, or the images are not where they were.
        ValueError: if it is no checkpoint of this package, or the images have another shape.

    In the example ``run_folder`` is the folder of a run of 12 steps on 16 x 16 images.

    >>> run = open_run(run_folder)
    >>> run.source.name, run.source.shape, run.saved["steps"]
    ('photos', (3, 16, 16), 12)
    """
    flow, saved = load_flow(path, averaged=averaged)
    source, change = open_images(saved, data)
    check_kind(saved, source)
    if source.shape != flow.shape:
        raise ValueError(f"data must have images of shape {flow.shape}, as the model, got {source.shape}")
    if change is not None:
        _log.warning("%s: not the images of the run any more: %s", data or saved["training"]["data"], change)
    return Run(flow.to(find_device()), saved, source, change)


def open_images(saved: Mapping[str, Any], data: str | None = None) -> tuple[ImageSource, str | None]:
    """The images of a run with the same ones held out, or others; and how those of the run changed since, or None.

    Args:
        saved: what :func:`load_flow` returns or a checkpoint holds.
        data: where to look. The run's images are known by their place, or by themselves if they were moved.

    >>> saved = {"flow": {"shape": (3, 8, 8)}, "training": {"data": "photos", "size": 8}}
    >>> source, change = open_images(saved)
    >>> source.name, source.shape, change
    ('photos', (3, 8, 8), None)
    """
    training, kept = saved["training"], saved.get("data")
    options: dict[str, Any] = {
        "size": training["size"],
        "test_images": training.get("test_images") or None,
        "skip_broken": training.get("skip_broken", False),
    }
    if data is None or _is_same_place(data, training["data"]):
        return reopen(training["data"], kept, **options)
    size = None if saved["flow"].get("first") else saved["flow"]["shape"][1:]  # fields are not resized
    source = open_source(data, size=size, skip_broken=options["skip_broken"])
    if kept is None:
        return source, None
    if _is_same(kept["fingerprint"], source.fingerprint()):
        return reopen(data, kept, **options)
    names = kept["class_names"]
    return (source if names is None else source.in_classes(names)), None


def check_kind(saved: Mapping[str, Any], source: ImageSource) -> None:
    """ValueError unless a model of images is given images, and one of fields fields.

    >>> from nflows_woodbury.data.photos import PhotoSource
    >>> check_kind({"flow": {"first": None}}, PhotoSource(8))
    """
    model, data = ("fields" if is_fields else "images" for is_fields in (saved["flow"].get("first"), source.is_fields))
    if model != data:
        raise ValueError(f"data must be {model}, as those that the model was trained on, got {data} in {source.name}")


def _is_same(kept: Mapping[str, Any] | None, fingerprint: Fingerprint | None) -> bool:
    """Whether images are those of a run, which then were moved."""
    if kept is None or fingerprint is None:
        return False
    return describe_change(Fingerprint.from_dict(kept), fingerprint) is None


def _is_same_place(data: str, noted: str) -> bool:
    """Whether what a user gives is what a run noted down, by name or as a path to the same file."""
    given = plain_spec(data)
    return given == noted or (Path(given).exists() and Path(noted).exists() and Path(given).samefile(noted))


def _weights(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): weight for name, weight in state.items() if name.startswith(prefix)}
