"""Image files to pixels, one by one, with Pillow: RGB, 8 bits, resized if asked for."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nflows_woodbury.optional import import_extra

__all__ = ["decoded", "fitted", "side_of"]

Pixels = npt.NDArray[np.uint8]
Encoded = tuple[object, Path | bytes]  # a name for messages, and a file or its content


def decoded(images: Iterable[Encoded], size: int | None) -> Iterator[Pixels]:
    """Yield each image, uint8 (3, s, s): resized to ``size``, or all of the first one's side.

    ValueError, with the image's name, for one that cannot be read or is no square of that side.
    """
    side = None
    for name, encoded in images:
        image = _read(name, encoded, size)
        height, width = image.shape[1:]
        if (height, width) != (side or width, side or width):
            wanted = f"of {side}x{side} pixels like the first image" if side else "square"
            raise ValueError(
                f"{name} has {width}x{height} pixels, it must be {wanted}; give a size to resize and crop to"
            )
        side = width
        yield image


def side_of(images: Iterable[Encoded], size: int | None) -> int:
    """Return ``size``, or without one the side of the first image, which must be a square."""
    return size if size is not None else int(next(decoded(images, None)).shape[1])


def fitted(picture: Any, size: int) -> npt.NDArray[Any]:
    """Return a Pillow image as an array of ``size`` x ``size``: resized, antialiased, and cut to its centre square."""
    resampling = import_extra("PIL.Image").Resampling.LANCZOS
    return np.asarray(import_extra("PIL.ImageOps").fit(picture, (size, size), resampling))


def _read(name: object, encoded: Path | bytes, size: int | None) -> Pixels:
    pil = import_extra("PIL.Image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pil.DecompressionBombWarning)
            with pil.open(encoded if isinstance(encoded, Path) else BytesIO(encoded)) as opened:
                if opened.mode[0] in "IF":
                    raise ValueError(f"its mode {opened.mode} has more than 8 bits a channel")
                picture = opened.convert("RGB")
    except Exception as error:  # decoders raise nearly anything on a broken file
        raise ValueError(f"{name} cannot be read as an image: {error}") from error
    return (np.asarray(picture) if size is None else fitted(picture, size)).transpose(2, 0, 1)
