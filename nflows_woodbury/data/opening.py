"""Where images come from: :func:`open_source` finds the reader for what it is given. Nothing in a file is executed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nflows_woodbury.data.arrays import load_npy, load_npz
from nflows_woodbury.data.cifar10 import find_cifar10, load_cifar10
from nflows_woodbury.data.folder import load_folder
from nflows_woodbury.data.huggingface import list_parquet, load_hub, load_parquet
from nflows_woodbury.data.imagenet import is_imagenet, load_imagenet
from nflows_woodbury.data.photos import PhotoSource
from nflows_woodbury.data.sources import ArraySource, ImageSource, check_no_test_images, check_same_size

__all__ = [
    "load_cifar10",
    "load_folder",
    "load_hub",
    "load_imagenet",
    "load_npy",
    "load_npz",
    "load_parquet",
    "open_source",
]

_KINDS = "'photos', a folder, an .npz, .npy or .parquet file, an archive of CIFAR-10 or hf:OWNER/NAME"


def open_source(
    spec: str = "photos", *, size: int | None = None, test_images: int | None = None, cache: str | Path | None = None
) -> ImageSource:
    """Return the source of images that ``spec`` names.

    Args:
        spec: ``photos``; a folder of images, of CIFAR-10, of downsampled ImageNet or of ``.parquet`` files; an
            ``.npz``, ``.npy`` or ``.parquet`` file; an archive of CIFAR-10; or ``hf:OWNER/NAME`` or
            ``hf:OWNER/NAME:CONFIG`` for a data set on Hugging Face's hub.
        size: side of the images: 32 unless given for photos, else that of the data. Images in folders and in
            ``.npy`` and ``.parquet`` files and from the hub are resized to it.
        test_images: images held out as a test set where the data have none; a tenth by default, always the same ones.
        cache: folder for decoded images, by default ``~/.cache/nflows-woodbury``, or that in ``$XDG_CACHE_HOME``;
            sets of fewer than 1,000 images are only kept there if it is given.

    Raises:
        FileNotFoundError: for a path that is not there, and for data of which a part is missing.
        ValueError: for other files, broken ones, and a ``size`` or ``test_images`` that does not go with the data.
        OSError: if decoded images cannot be kept or the hub does not answer.
        ImportError: if reading needs an extra that is not installed.

    >>> source = open_source("photos", size=16)
    >>> source.shape, source.batch(0, 32, seed=0).images.shape
    ((3, 16, 16), torch.Size([32, 3, 16, 16]))
    """
    if not isinstance(spec, str):
        raise TypeError(f"spec must be a string, {_KINDS}; got {spec!r}")
    if spec == "photos":
        check_no_test_images(spec, test_images)
        return PhotoSource(32 if size is None else size)
    if spec.startswith("hf:"):
        return load_hub(spec[3:], size, test_images=test_images, cache=cache)
    path = Path(spec)
    if not path.exists():
        raise FileNotFoundError(f"{spec!r} is not there; give {_KINDS}")
    if path.is_dir():
        read = next((read for holds, read in _FOLDERS if holds(path)), load_folder)
    elif path.suffix in _FILES:
        read = _FILES[path.suffix]
    else:
        raise ValueError(f"spec must be {_KINDS}; got the file {spec!r}")
    return read(path, size, test_images=test_images, cache=cache)


def _cifar10(path: Path, size: int | None, *, test_images: int | None, cache: str | Path | None) -> ArraySource:
    check_no_test_images(path, test_images)
    source = load_cifar10(path)
    check_same_size(path, size, source.shape[1:])
    return source


def _imagenet(path: Path, size: int | None, *, test_images: int | None, cache: str | Path | None) -> ArraySource:
    check_no_test_images(path, test_images)
    return load_imagenet(path, size, cache=cache)


def _npz(path: Path, size: int | None, *, test_images: int | None, cache: str | Path | None) -> ArraySource:
    source = load_npz(path, test_images=test_images)
    check_same_size(path, size, source.shape[1:])
    return source


_FILES: dict[str, Callable[..., ArraySource]] = {
    ".npz": _npz, ".npy": load_npy, ".parquet": load_parquet, ".gz": _cifar10, ".tgz": _cifar10,
}  # fmt: skip
_FOLDERS: tuple[tuple[Callable[[Path], object], Callable[..., ArraySource]], ...] = (
    (find_cifar10, _cifar10),
    (is_imagenet, _imagenet),
    (list_parquet, load_parquet),
)
