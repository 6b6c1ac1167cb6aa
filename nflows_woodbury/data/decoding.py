"""Image files to pixels, one by one, with Pillow: upright, RGB, 8 bits, on white, resized if asked for."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nflows_woodbury.checks import check_positive_int
from nflows_woodbury.optional import import_extra

__all__ = [
    "ASKEW",
    "DEEP",
    "MOVING",
    "TRANSPARENT",
    "check_size",
    "decoded",
    "fitted",
    "picture_sides",
    "readable",
    "remarks",
    "sides_of",
]

Pixels = npt.NDArray[np.uint8]
Encoded = tuple[object, Path | bytes | None]  # a name for messages, and a file, its content, or nothing
Sides = tuple[int, int]  # height and width

#: what is said of images that lose something
TRANSPARENT = "with transparent parts, which are put on white"
DEEP = "of 16 bits, of which the high byte is kept"
MOVING = "with several frames or pages, of which the first is taken"
ASKEW = "with broken EXIF, which are taken as they lie"

_LAYERED = ("MPO", "PSD")  # a photograph with its preview; a picture with its layers
_LARGEST_AS_IT_IS = 256 * 256  # pixels of images that are no squares and come without a size
_LISTED = 10  # of the files that cannot be read


def check_size(size: int | Sequence[int] | None) -> Sides | None:
    """Return ``size``, the side of a square or a pair (height, width), as such a pair, or None.

    >>> check_size(32), check_size((24, 32)), check_size(None)
    ((32, 32), (24, 32), None)
    """
    if size is None:
        return None
    if isinstance(size, Sequence) and not isinstance(size, str):
        if len(size) != 2:
            raise ValueError(f"size must be one side or (height, width), got {tuple(size)}")
        return check_positive_int("size[0]", size[0]), check_positive_int("size[1]", size[1])
    side = check_positive_int("size", size)
    return side, side


def check_same_size(spec: object, size: Sides | None, sides: tuple[int, ...]) -> None:
    """Check that ``size`` is None or that of images that are not resized, of ``sides`` (height, width)."""
    if size is not None and sides != size:
        got = size[0] if size[0] == size[1] else size
        raise ValueError(f"size must be None or as in {str(spec)!r}, where it is {sides}, got {got}")


def decoded(images: Iterable[Encoded], size: Sides | None, said: Counter[str] | None = None) -> Iterator[Pixels]:
    """Yield each image, uint8 (3, h, w): resized to ``size``, or all of the first one's sides.

    What images lose is counted in ``said``. ValueError for an image of other sides, and, when the others are read
    too, one with the first ten names and the number of those that cannot be read.
    """
    sides, broken, said = size, [], Counter() if said is None else said
    for name, encoded in images:
        try:
            image = _read(name, encoded, size, said)
        except _UnreadableError as error:
            broken.append(str(error))
            continue
        if broken:  # the end is an error, so all that is left to find out is what else is broken
            continue
        sides = sides or _own_size(name, image)
        if image.shape[1:] != sides:
            raise ValueError(
                f"{name} has {image.shape[2]}x{image.shape[1]} pixels, it must be of {sides[1]}x{sides[0]} pixels like "
                "the first image; give a size to resize and crop to"
            )
        yield image
    if broken:
        raise ValueError(_all_of(broken))


def readable(images: Iterable[Encoded]) -> Iterator[Pixels]:
    """Yield for each image 1 if it can be read, else 0, as uint8 (1, 1, 1)."""
    for name, encoded in images:
        try:
            _read(name, encoded, None, Counter())
        except _UnreadableError:
            yield np.zeros((1, 1, 1), np.uint8)
        else:
            yield np.ones((1, 1, 1), np.uint8)


def remarks(said: Counter[str]) -> tuple[str, ...]:
    """Return a line for each kind of loss.

    >>> remarks(Counter({TRANSPARENT: 1200}))
    ('1,200 images with transparent parts, which are put on white',)
    """
    return tuple(f"{count:,} image{'s' * (count > 1)} {what}" for what, count in said.items())


def sides_of(images: Iterable[Encoded], size: Sides | None) -> Sides:
    """Return ``size``, or without one the height and width of the first image that can be read; ValueError for none."""
    if size is not None:
        return size
    broken = []
    for name, encoded in images:
        try:
            return _own_size(name, _read(name, encoded, None, Counter()))
        except _UnreadableError as error:
            broken.append(str(error))
    raise ValueError(_all_of(broken))


def _own_size(name: object, image: Pixels) -> Sides:
    """Return the height and width of the first image, for all; ValueError for a photograph that must be resized."""
    height, width = image.shape[1:]
    if height != width and height * width > _LARGEST_AS_IT_IS:
        raise ValueError(f"{name} has {width}x{height} pixels, many for a flow; give a size to resize and crop to")
    return height, width


def picture_sides(file: Path) -> Sides | None:
    """Return the height and width of an image file as it is meant to be seen, from its header, or None without one."""
    pil = import_extra("PIL.Image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pil.open(file) as opened:
                width, height = opened.size
                lies = opened.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # on its side
    except Exception:  # as in reading; what cannot be read is named there
        return None
    return (width, height) if lies else (height, width)


def fitted(picture: Any, size: Sides) -> npt.NDArray[Any]:
    """Return a Pillow image as an array of ``size``: resized, antialiased, and cut to the centre of that shape."""
    resampling = import_extra("PIL.Image").Resampling.LANCZOS
    return np.asarray(import_extra("PIL.ImageOps").fit(picture, size[::-1], resampling))


class _UnreadableError(ValueError):
    """One image that cannot be read."""


def _all_of(broken: Sequence[str]) -> str:
    advice = f"skip_broken leaves {'it' if len(broken) == 1 else 'them'} out"
    if len(broken) == 1:
        return f"{broken[0]}; {advice}"
    more = f"; and {len(broken) - _LISTED:,} more" if len(broken) > _LISTED else ""
    return f"{len(broken):,} images cannot be read: {'; '.join(broken[:_LISTED])}{more}; {advice}"


def _read(name: object, encoded: Path | bytes | None, size: Sides | None, said: Counter[str]) -> Pixels:
    pil = import_extra("PIL.Image")
    if encoded is None:
        raise _UnreadableError(f"{name} is missing")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata and of formats that few use
            warnings.simplefilter("error", pil.DecompressionBombWarning)
            with pil.open(encoded if isinstance(encoded, Path) else BytesIO(encoded)) as opened:
                picture = _upright_rgb(opened, said)
    except pil.UnidentifiedImageError as error:
        raise _UnreadableError(f"{name} cannot be read as an image: cannot identify its format") from error
    except Exception as error:  # decoders raise nearly anything on a broken file
        raise _UnreadableError(f"{name} cannot be read as an image: {error}") from error
    return (np.asarray(picture) if size is None else fitted(picture, size)).transpose(2, 0, 1)


def _upright_rgb(opened: Any, said: Counter[str]) -> Any:
    """Return an opened image as it is meant to be seen: turned as its EXIF says, its first frame, on white, RGB."""
    lost = {
        DEEP: opened.mode[0] == "I" or any(";16" in str(tile[3]) for tile in opened.tile),
        MOVING: getattr(opened, "is_animated", False) and opened.format not in _LAYERED,
    }
    opened.load()
    try:
        picture = import_extra("PIL.ImageOps").exif_transpose(opened)
    except Exception:  # Pillow's reader of EXIF raises nearly anything; the pixels are there
        picture, lost[ASKEW] = opened, True
    if picture.mode[0] in "IF":
        picture = _high_byte(picture)
    if picture.has_transparency_data:
        picture, lost[TRANSPARENT] = _on_white(picture.convert("RGBA"))
    said.update({what: 1 for what, holds in lost.items() if holds})
    return picture.convert("RGB")


def _high_byte(picture: Any) -> Any:
    """Return a picture of 16 bits as one of 8, grey, with an alpha channel if one of its values means transparent."""
    pil, values = import_extra("PIL.Image"), np.asarray(picture)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() >= 2**16:
        raise ValueError(f"its mode {picture.mode} has more than 16 bits a channel")
    grey = pil.fromarray((values >> 8).astype(np.uint8))
    if (clear := picture.info.get("transparency")) is None:
        return grey
    return pil.merge("LA", (grey, pil.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))))


def _on_white(picture: Any) -> tuple[Any, bool]:
    """Return a picture with an alpha channel on white, and whether any of it is transparent."""
    if picture.getextrema()[3][0] == 255:
        return picture, False
    pil = import_extra("PIL.Image")
    return pil.alpha_composite(pil.new("RGBA", picture.size, "white"), picture), True
