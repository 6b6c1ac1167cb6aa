"""What the commands that draw pictures share."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nflows_woodbury.checks import check_positive_int
from nflows_woodbury.files import check_writable, is_stream

if TYPE_CHECKING:
    from torch import Tensor

    from nflows_woodbury.data.images import ImageSet
    from nflows_woodbury.flow import GridFlow

__all__ = ["announce", "check_images", "check_png", "class_names", "count_of", "draw_samples", "first_images"]


def check_png(out: str, flag: str = "out") -> None:
    """Check that a picture can be written to a file that ends in .png, before the work for it starts."""
    if Path(out).suffix.lower() != ".png" and not is_stream(out):
        raise ValueError(f"{flag} must be a .png file, got {out!r}")
    check_writable(out)


def check_images(saved: Mapping[str, Any], command: str, why: str) -> None:
    """Refuse the model of a run where it is one of fields, for a command that is about images."""
    if saved["flow"].get("first"):
        raise ValueError(f"checkpoint must be of a model of images for {command}, {why}; got one of fields")


def announce(what: str, picture: Path) -> None:
    """Print where a picture is, unless it went there itself."""
    print(f"{what} {picture}", file=sys.stderr if str(picture) == "/dev/stdout" else sys.stdout)


def class_names(saved: Mapping[str, Any]) -> Sequence[str] | None:
    """The names of a model's classes, of what its run saved, or None."""
    data: Mapping[str, Any] = saved.get("data") or {}
    return data.get("class_names")


def draw_samples(
    flow: GridFlow, saved: Mapping[str, Any], num: int, temperature: float, label: str | None, seed: int
) -> Tensor:
    """The samples that a seed stands for, uint8 or floats, on the CPU; ``label`` is a name or a number."""
    import torch

    from nflows_woodbury.data.classes import class_number
    from nflows_woodbury.evaluation.samples import sample_classes

    if label is not None and not flow.num_classes:
        raise ValueError(f"label must be left out for a model without classes, got {label!r}")
    number = None if label is None else class_number(label, class_names(saved), flow.num_classes)
    torch.manual_seed(seed)
    return sample_classes(flow, check_positive_int("num", num), label=number, temperature=temperature).cpu()


def first_images(images: ImageSet, num: int | None, default: int) -> ImageSet:
    """The first ``num`` test images, or ``default``, or as many as there are; ValueError for fewer than ``num``."""
    import numpy as np

    if num is not None and check_positive_int("num", num) > len(images):
        raise ValueError(f"num must be at most the {len(images)} test images, got {num}")
    return images.take(np.arange(count_of(num, default, len(images), "test images")))


def count_of(given: int | None, default: int, there: int, what: str) -> int:
    """``given``, or ``default``, or, said on standard error, as many as there are."""
    if given is None and there < default:
        print(f"{there} {what}, as there are no more", file=sys.stderr)
    return min(default, there) if given is None else given
