"""Images decoded once: a memory-mapped ``.npy`` file that is made anew when what it was made of changes.

The file is in the ``cache`` folder that was asked for, or for sets from :data:`MIN_CACHED` images in the user's cache
folder. Its name is a digest of what it was made of. It is written under another name and then renamed, so it is whole
or not there; two processes that make it at once make the same. One that does not fit is made again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nflows_woodbury.files import whole_file

__all__ = ["MIN_CACHED", "cache_folder", "decode_once", "file_states", "map_array"]

#: sets of fewer images are decoded each time, into memory, unless a cache folder is given
MIN_CACHED = 1000

_VERSION = 2  # of the images' layout and of how they are decoded; another one leaves older files alone
_CURE = "cache or $XDG_CACHE_HOME names"
_log = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]


def cache_folder() -> Path:
    """Return the user's folder for decoded images, ``$XDG_CACHE_HOME/nflows-woodbury`` or that below ``~/.cache``.

    OSError for a user without a home and without that variable.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):
        return Path(base) / "nflows-woodbury"
    try:
        return Path.home() / ".cache" / "nflows-woodbury"
    except RuntimeError as error:
        raise OSError(f"there is no home to keep decoded images in; {_CURE} a folder for them") from error


def decode_once(
    images: Iterable[Pixels], shape: tuple[int, ...], made_of: Iterable[object], cache: str | Path | None = None
) -> torch.Tensor:
    """Return images, uint8 (c, h, w) each, as one tensor of ``shape`` (N, c, h, w), memory-mapped if they are many.

    Nothing is taken from ``images`` where the cache has them. ``made_of`` is what they depend on: values whose
    texts do not change from run to run. ValueError for images that do not fit the shape, OSError with what to do
    where the cache cannot be written.
    """
    if cache is None and shape[0] < MIN_CACHED:
        array = np.empty(shape, np.uint8)
        for number, image in enumerate(_fitting(images, shape)):
            array[number] = image
        return torch.from_numpy(array)
    path = (cache_folder() if cache is None else Path(cache)) / f"{_digest(shape, made_of)}.npy"
    if (kept := _read(path, shape)) is None:
        _log.info("decoding %s images, once, into %s", f"{shape[0]:,}", path)
        _write(path, images, shape)
        kept = _read(path, shape)
    if kept is None:
        raise OSError(f"{path} was changed while it was made; try again")
    return kept


def file_states(folder: str | Path, names: Iterable[str]) -> Iterator[tuple[str, int, int]]:
    """Yield each file's name in ``folder``, size and time of change: what decoded files are made of."""
    for name in names:
        state = os.stat(os.path.join(folder, name))
        yield name, state.st_size, state.st_mtime_ns


def map_array(path: Path) -> npt.NDArray[Any]:
    """Return the array in an ``.npy`` file, memory-mapped; writes to it stay private. ValueError for other files."""
    try:
        array = np.lib.format.open_memmap(path, mode="c")
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as an .npy array: {error}") from error
    if os.stat(path).st_size != getattr(array, "offset", 0) + array.nbytes:
        raise ValueError(f"{path} cannot be read as an .npy array: it has more bytes than its header says")
    return array


def _digest(shape: tuple[int, ...], made_of: Iterable[object]) -> str:
    digest = sha256(repr((_VERSION, shape)).encode())
    for value in made_of:
        digest.update(b"\0" + repr(value).encode(errors="surrogateescape"))
    return digest.hexdigest()


def _read(path: Path, shape: tuple[int, ...]) -> torch.Tensor | None:
    """Return the cached images, or None if there is no file of them or another one."""
    try:
        array = map_array(path)
    except (OSError, ValueError):
        return None
    fits = array.dtype == np.uint8 and array.shape == shape and array.flags.c_contiguous
    return torch.from_numpy(array) if fits else None


def _write(path: Path, images: Iterable[Pixels], shape: tuple[int, ...]) -> None:
    """Write the images one after the other, so that a full disk is an error and not a crash in mapped memory."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    pixels = _fitting(images, shape)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with whole_file(path) as new, open(new, "wb", opener=_private) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for image in pixels:
                file.write(image.tobytes())
    except OSError as error:
        size = f"{prod(shape) / 1e9:.2g} GB of decoded images"
        raise OSError(
            f"{path.parent} must be writable and have room for {size}: {error}; {_CURE} another folder"
        ) from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _fitting(images: Iterable[Pixels], shape: tuple[int, ...]) -> Iterator[Pixels]:
    count = 0
    for image in images:
        if image.shape != shape[1:] or image.dtype != np.uint8 or count == shape[0]:
            raise ValueError(f"image {count} must be one of uint8 {shape}, got {image.dtype} {image.shape}")
        count += 1
        yield image
    if count < shape[0]:
        raise ValueError(f"there must be {shape[0]} images, got {count}")
