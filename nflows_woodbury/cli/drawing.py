"""What the commands that draw pictures share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nflows_woodbury.checks import check_positive_int
from nflows_woodbury.files import check_writable, is_stream

if TYPE_CHECKING:
    from torch import Tensor

    from nflows_woodbury.data.images import ImageSet
    from nflows_woodbury.flow import ImageFlow

__all__ = ["announce", "check_png", "draw_samples", "first_images"]


def check_png(out: str) -> None:
    """Check that a picture can be written to a file that ends in .png, before the work for it starts."""
    if Path(out).suffix.lower() != ".png" and not is_stream(out):
        raise ValueError(f"out must be a .png file, got {out!r}")
    check_writable(out)


def announce(what: str, picture: Path) -> None:
    """Print where a picture is, unless it went there itself."""
    print(f"{what} {picture}", file=sys.stderr if str(picture) == "/dev/stdout" else sys.stdout)


def draw_samples(flow: ImageFlow, num: int, temperature: float, label: int | None, seed: int) -> Tensor:
    """The samples that a seed stands for, uint8 ``(num, c, h, w)``, on the CPU."""
    import torch

    from nflows_woodbury.evaluation.samples import sample_classes

    torch.manual_seed(seed)
    return sample_classes(flow, check_positive_int("num", num), label=label, temperature=temperature).cpu()


def first_images(images: ImageSet, num: int) -> ImageSet:
    """The first test images; ValueError where there are fewer."""
    import numpy as np

    if check_positive_int("num", num) > len(images):
        raise ValueError(f"num must be at most the {len(images)} test images, got {num}")
    return images.take(np.arange(num))
