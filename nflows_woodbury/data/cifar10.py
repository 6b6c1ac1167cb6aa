"""CIFAR-10 as its authors publish it, in archives or in folders. Nothing in a file is executed."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nflows_woodbury.data.arrays import image_set
from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.data.sources import ArraySource

__all__ = ["find_cifar10", "load_cifar10"]

Array = npt.NDArray[Any]

_NAMES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")
_LARGEST = 2**26  # bytes of a batch; the official ones have less than half
_RECONSTRUCT = np.empty(0).__reduce__()[0]
_ADMITTED = {  # what a pickled array asks for, by the names of numpy 1 (and Python 2) and of numpy 2
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


def load_cifar10(path: str | Path, *, batch_images: int | None = 10_000) -> ArraySource:
    """Return CIFAR-10 from its official python or binary batches: an archive as downloaded, or a folder.

    A folder holds the batches, the official subfolder with them, or an archive. Nothing in a python batch is
    executed, and an archive is read without unpacking it to disk. FileNotFoundError for a missing batch, ValueError
    for a broken one and for one that has not ``batch_images`` images (None: any number).

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:  # of two images each: a label and 3072 pixels
    ...     for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
    ...         _ = Path(folder, f"{name}.bin").write_bytes(2 * bytes([7, *3072 * [255]]))
    ...     source = load_cifar10(folder, batch_images=2)
    >>> source.shape, source.train_size, source.test.labels
    ((3, 32, 32), 10, tensor([7, 7]))
    """
    found = find_cifar10(Path(path))
    if found is None:
        raise FileNotFoundError(
            f"{path} holds none of {', '.join(_NAMES)}, with or without .bin, nor {' or '.join(_ARCHIVES)}"
        )
    batches = _unpacked(found) if isinstance(found, Path) else {file: _content(file) for file in found}
    *parts, test = (_batch(file, content, batch_images) for file, content in batches.items())
    labels = [part.labels for part in parts if part.labels is not None]
    train = ImageSet(torch.cat([part.images for part in parts]), torch.cat(labels))
    return ArraySource(train, test, name="cifar10", class_names=_CLASSES)


def find_cifar10(path: Path) -> Path | list[Path] | None:
    """Return the archive or the paths of the six batches, in the first format of which there is any, or None."""
    if path.is_file():
        return path
    for place in (path, path / "cifar-10-batches-py", path / "cifar-10-batches-bin"):
        if names := _names({name for name in _ALL_NAMES if (place / name).is_file()}):
            return [place / name for name in names]
    return next((path / name for name in _ARCHIVES if (path / name).is_file()), None)


def _names(present: Collection[str]) -> list[str]:
    """Return the names of the six batches in the first format of which any is present, or an empty list."""
    formats = ([name + suffix for name in _NAMES] for suffix in _READERS)
    return next((names for names in formats if not set(names).isdisjoint(present)), [])


def _content(file: Path) -> bytes:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing, one of the six batches of CIFAR-10")
    return file.read_bytes()


def _unpacked(archive: Path) -> dict[Path, bytes]:
    """Return the content of the six batches in an archive."""
    found = {}
    try:
        with tarfile.open(archive, "r:gz") as opened:
            for member in opened:
                name = Path(member.name).name
                if name in _ALL_NAMES and member.isfile() and member.size <= _LARGEST:
                    content = opened.extractfile(member)
                    found[name] = content.read() if content else b""
    except Exception as error:  # tarfile, gzip and zlib raise nearly anything on a broken archive
        raise ValueError(f"{archive} cannot be read as an archive of CIFAR-10, download it again: {error}") from error
    names = _names(found) or list(_NAMES)
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"{archive} must hold the six batches of CIFAR-10, {missing[0]} is missing")
    return {archive / name: found[name] for name in names}


def _batch(file: Path, content: bytes, count: int | None) -> ImageSet:
    try:
        pixels, labels = _READERS[file.suffix](content)
    except Exception as error:  # a broken pickle raises nearly anything
        raise ValueError(f"{file} cannot be read as a CIFAR-10 batch: {error}") from error
    if pixels.shape[1:] != (3072,):
        raise ValueError(f"{file} must hold rows of 3072 pixels, got data of shape {pixels.shape}")
    if count is not None and len(pixels) != count:
        raise ValueError(f"{file} must hold the {count:,} images of a CIFAR-10 batch, got {len(pixels):,}")
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    batch = image_set(f"{file}: data", images, "labels", labels)
    if labels.max() > 9:
        raise ValueError(f"{file} must hold labels from 0 to 9, got {labels.max()}")
    return batch


def _read_binary(content: bytes) -> tuple[Array, Array]:
    if len(content) % 3073:
        raise ValueError(f"{len(content)} bytes are no whole number of records of 1 label and 3072 pixels")
    data = np.frombuffer(content, np.uint8).copy()  # bytes are read-only, a tensor is not
    return data.reshape(-1, 3073)[:, 1:], data[::3073]


class _ArrayUnpickler(pickle.Unpickler):
    """Admits plain containers and numpy arrays and nothing else, so that a crafted file runs nothing."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"{module}.{name} is refused")
        return _ADMITTED[module, name]


def _read_pickle(content: bytes) -> tuple[Array, Array]:
    batch = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    return np.asarray(batch["data"]), np.asarray(batch["labels"])


_READERS = {"": _read_pickle, ".bin": _read_binary}
_ALL_NAMES = {name + suffix for name in _NAMES for suffix in _READERS}
