"""Downsampled ImageNet, as the official ``.npz`` batches or as the older folders of PNG files."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from math import isqrt
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import torch

from nflows_woodbury.data.cache import decode_once, file_states
from nflows_woodbury.data.decoding import Sides, check_same_size, check_size, sides_of
from nflows_woodbury.data.folder import read_files
from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.data.sources import ArraySource
from nflows_woodbury.data.walking import list_files

__all__ = ["is_imagenet", "load_imagenet"]

_TRAIN, _VAL = tuple(f"train_data_batch_{i}.npz" for i in range(1, 11)), "val_data.npz"
_FOLDERS = {side: (f"train_{side}x{side}", f"valid_{side}x{side}") for side in (32, 64)}
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def load_imagenet(
    path: str | Path, size: int | Sequence[int] | None = None, *, cache: str | Path | None = None
) -> ArraySource:
    """Return downsampled ImageNet; the validation images are the test set.

    The folder holds the official batches ``train_data_batch_1.npz`` to ``train_data_batch_10.npz`` and
    ``val_data.npz``, in it or in folders directly in it, as their archives unpack (the last one also in a folder
    ``val`` beside it); their labels 1 to 1000 become 0 to 999. Or it holds the older folders ``train_32x32`` and
    ``valid_32x32``, or the same with 64, of PNG files without labels; with all four ``size`` says which. 1,000
    images or more, or any with a ``cache`` folder, are decoded once into a file there, by default in the user's
    cache folder. FileNotFoundError for a missing batch or folder, ValueError for broken ones and another ``size``.

    >>> import numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:  # two images in each batch
    ...     for name in [*(f"train_data_batch_{number}" for number in range(1, 11)), "val_data"]:
    ...         np.savez(f"{folder}/{name}.npz", data=np.zeros((2, 3072), np.uint8), labels=np.array([1, 1000]))
    ...     source = load_imagenet(folder)
    >>> source.shape, source.num_classes, source.test.labels
    ((3, 32, 32), 1000, tensor([  0, 999]))
    """
    root, asked = Path(path).absolute(), check_size(size)
    if files := _batches(root):
        return _from_batches(root, files, asked, cache)
    if sides := _sides(root):
        return _from_folders(root, sides, asked, cache)
    raise FileNotFoundError(f"{path} holds neither {_TRAIN[0]} nor {' nor '.join(chain(*_FOLDERS.values()))}")


def is_imagenet(folder: Path) -> bool:
    """Return whether a folder holds any part of downsampled ImageNet, in either form."""
    return bool(_sides(folder) or _batches(folder.absolute()))


def _batches(root: Path) -> dict[str, Path]:
    """Return the ``.npz`` files there are, by name; ValueError for one in two places."""
    if not root.is_dir():
        return {}
    found: dict[str, Path] = {}
    with os.scandir(root) as entries:
        places = [root, *sorted(root / entry.name for entry in entries if entry.is_dir())]
    for file in (place / name for place in places for name in (*_TRAIN, _VAL)):
        if file.is_file() and found.setdefault(file.name, file) != file:
            raise ValueError(f"{root} must hold {file.name} once, got {found[file.name]} and {file}")
    if found and _VAL not in found:
        beside = (root.parent / name / _VAL for name in ("val", root.name.replace("train", "val")))
        found.update({file.name: file for file in beside if file.is_file()})
    return found


def _from_batches(root: Path, files: dict[str, Path], size: Sides | None, cache: str | Path | None) -> ArraySource:
    names = (*_TRAIN, _VAL)
    if missing := [name for name in names if name not in files]:
        raise FileNotFoundError(f"{root / missing[0]} is missing, one of the eleven batches of downsampled ImageNet")
    shapes = [_shape(files[name]) for name in names]
    for name, (_, side) in zip(names, shapes, strict=True):
        if side != shapes[0][1]:
            raise ValueError(f"{files[name]} must hold images as {_TRAIN[0]}, of side {shapes[0][1]}, got {side}")
    counts, side = [count for count, _ in shapes], shapes[0][1]
    check_same_size(root, size, (side, side))
    labels = torch.from_numpy(np.concatenate([_labels(files[name], n) for name, n in zip(names, counts, strict=True)]))
    made_of = file_states("", (str(files[name].resolve()) for name in names))
    streams = (_images(files[name]) for name in names)
    images = decode_once(chain.from_iterable(streams), (sum(counts), 3, side, side), made_of, cache)
    end = sum(counts[:-1])
    train, test = ImageSet(images[:end], labels[:end]), ImageSet(images[end:], labels[end:])
    paths = [str(files[name].relative_to(root.parent)) for name in names]
    return ArraySource(train, test, name=f"imagenet{side}", files=(root.parent, paths))


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # zipfile and numpy raise nearly anything on a broken archive
        raise ValueError(f"{file} cannot be read as a batch of downsampled ImageNet: {error}") from error


def _header(member: IO[bytes]) -> tuple[int, int]:
    """Read the header of ``data`` up to the first image; return the number of images and their side."""
    shape, fortran_order, dtype = _HEADERS[np.lib.format.read_magic(member)](member)
    side = isqrt(shape[1] // 3) if len(shape) == 2 else 0
    if dtype != np.uint8 or fortran_order or not side or shape[1] != 3 * side * side:
        raise ValueError(f"data must be uint8 (N, 3 s s), got {dtype} {shape}")
    return shape[0], side


def _shape(file: Path) -> tuple[int, int]:
    with _reading(file), zipfile.ZipFile(file) as archive, archive.open("data.npy") as member:
        return _header(member)


def _images(file: Path) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the images one by one, so that memory need not hold a batch, of which each may have 1.6 GB."""
    with _reading(file), zipfile.ZipFile(file) as archive, archive.open("data.npy") as member:
        count, side = _header(member)
        for _ in range(count):
            yield np.frombuffer(member.read(3 * side * side), np.uint8).reshape(3, side, side)


def _labels(file: Path, count: int) -> npt.NDArray[np.int64]:
    with _reading(file), np.load(file, allow_pickle=False) as archive:
        labels = archive["labels"]
        if labels.dtype.kind not in "iu" or labels.shape != (count,) or labels.min() < 1 or labels.max() > 1000:
            raise ValueError(f"labels must be {count} integers from 1 to 1000, got {labels.dtype} {labels.shape}")
        return labels.astype(np.int64) - 1


def _sides(root: Path) -> list[int]:
    return [side for side, folders in _FOLDERS.items() if any((root / folder).is_dir() for folder in folders)]


def _from_folders(root: Path, sides: list[int], size: Sides | None, cache: str | Path | None) -> ArraySource:
    if size is None and len(sides) > 1:
        raise ValueError(f"size must be one of {', '.join(map(str, sides))}, as {root} holds these, got None")
    side = size[0] if size is not None and size[0] in sides else sides[0]
    check_same_size(root, size, (side, side))
    parts = []
    for folder in _FOLDERS[side]:
        if not (root / folder).is_dir():
            raise FileNotFoundError(f"{root / folder} is missing, one of {' and '.join(_FOLDERS[side])}")
        parts.append([f"{folder}/{name}" for name in list_files(root / folder, (".png",))])
        if not parts[-1]:
            raise ValueError(f"{root / folder} must hold PNG files, got none")
    first = root / parts[0][0]
    if (got := sides_of([(first, first)], None)) != (side, side):
        raise ValueError(f"{first} must have {side}x{side} pixels, as its folder says, got {got[1]}x{got[0]}")
    images, end = read_files(root, parts[0] + parts[1], None, cache), len(parts[0])
    sets = (ImageSet(images[:end]), ImageSet(images[end:]))
    return ArraySource(*sets, name=f"imagenet{side}", files=(root, ()))  # too many to look at, and as downloaded
