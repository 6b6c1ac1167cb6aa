"""A trained flow with its images, the same ones held out as in training."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nflows_woodbury.checkpoint.reading import load_flow
from nflows_woodbury.data.fingerprints import Fingerprint, describe_change
from nflows_woodbury.data.opening import open_source, plain_spec, reopen
from nflows_woodbury.data.sources import ImageSource
from nflows_woodbury.flow import GridFlow

__all__ = ["Run", "check_kind", "find_device", "open_images", "open_run"]

_log = logging.getLogger(__name__)


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
