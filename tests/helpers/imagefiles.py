"""Image files for the tests of the readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.data.sources import ImageSource

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
rng = np.random.default_rng(0)


def pixels(*shape: int) -> np.ndarray:
    return rng.integers(256, size=shape, dtype=np.uint8)


def write_image(path: Path, array: np.ndarray | None = None) -> np.ndarray:
    from PIL import Image

    array = pixels(4, 4, 3) if array is None else array
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **({"lossless": True} if path.suffix == ".webp" else {}))
    return array


def nhwc(images: ImageSet) -> np.ndarray:
    return images.images.movedim(1, -1).numpy()


def trained_on(source: ImageSource) -> ImageSet:
    """All training images of a source, with their labels and names."""
    parts = list(source.training(7))
    labels = [part.labels for part in parts if part.labels is not None]
    names = [name for part in parts for name in part.names or ()]
    return ImageSet(torch.cat([part.images for part in parts]), torch.cat(labels) if labels else None, names or None)


class Payload:
    """Unpickles by a call that writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)
