"""Where images come from: :func:`open_source` finds the reader for what it is given. Nothing in a file is executed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nflows_woodbury.data.arrays import load_npy, load_npz
from nflows_woodbury.data.cifar10 import find_cifar10, load_cifar10
from nflows_woodbury.data.decoding import check_same_size, check_size
from nflows_woodbury.data.fingerprints import Fingerprint, describe_change
from nflows_woodbury.data.folder import load_folder, read_folder
from nflows_woodbury.data.huggingface import is_saved, list_parquet, load_hub, load_parquet, load_saved
from nflows_woodbury.data.imagenet import is_imagenet, load_imagenet
from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.data.photos import PhotoSource
from nflows_woodbury.data.sources import ArraySource, ImageSource
from nflows_woodbury.data.splits import Split, check_no_test_images
from nflows_woodbury.data.walking import readable_suffixes

__all__ = [
    "all_images",
    "load_cifar10",
    "load_folder",
    "load_hub",
    "load_imagenet",
    "load_npy",
    "load_npz",
    "load_parquet",
    "load_saved",
    "open_source",
    "plain_spec",
    "reopen",
]

PHOTOS, BUILT_IN = "photos", "built-in:photos"
_HERE = "the path photos is read, as it is here; built-in:photos stands for scikit-image's photographs"
_log = logging.getLogger(__name__)

_KINDS = "'photos', a folder, an .npz, .npy or .parquet file, an archive of CIFAR-10 or hf:OWNER/NAME"


def open_source(
    spec: str = PHOTOS,
    *,
    size: int | Sequence[int] | None = None,
    test_images: int | None = None,
    cache: str | Path | None = None,
    split: Split | None = None,
    skip_broken: bool = False,
    say: bool = True,
) -> ImageSource:
    """Return the source of images that ``spec`` names.

    Args:
        spec: ``photos``, unless there is a file or folder of that name, or ``built-in:photos`` whatever there is; a
            folder of images, of CIFAR-10, of downsampled ImageNet, of ``.parquet`` files or as ``datasets`` saves it;
            an ``.npz``, ``.npy`` or ``.parquet`` file; an archive of CIFAR-10; or ``hf:OWNER/NAME`` or
            ``hf:OWNER/NAME:CONFIG`` for a data set on Hugging Face's hub.
        size: side of the images, or (height, width): 32 unless given for photos, else that of the data. Images in
            folders and in ``.npy`` and ``.parquet`` files and from the hub are resized to it.
        test_images: images held out as a test set where the data have none, those with the smallest hashes of their
            names; by default about a tenth, by the same hash. An image that is added moves no other.
        cache: folder for decoded images, by default ``~/.cache/nflows-woodbury``, or that in ``$XDG_CACHE_HOME``;
            sets of fewer than 1,000 images are only kept there if it is given.
        split: how images are held out, as in the ``split`` of a source that was opened before.
        skip_broken: leave out images that cannot be read, of folders, ``.parquet`` files and the hub.
        say: log what was passed over and what images lose; the source's ``notes`` have it too.

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
    options: dict[str, Any] = {"test_images": test_images, "cache": cache, "split": split, "skip_broken": skip_broken}
    if spec in (PHOTOS, BUILT_IN) and plain_spec(spec) == PHOTOS:
        check_no_test_images(spec, test_images)
        return PhotoSource(32 if size is None else size)
    source = load_hub(spec[3:], size, **options) if spec.startswith("hf:") else _read(spec, size, options)
    if spec == PHOTOS:
        source.notes = (_HERE, *source.notes)
    for note in source.notes if say else ():
        _log.warning("%s: %s", spec, note)
    return source


def plain_spec(spec: str) -> str:
    """What to note down of a ``spec``, so that it means the same where other files are: ``photos`` is then built in.

    >>> plain_spec("photos"), plain_spec("built-in:photos"), plain_spec("pets")
    ('photos', 'photos', 'pets')
    """
    return f"./{PHOTOS}" if spec == PHOTOS and Path(PHOTOS).exists() else spec.removeprefix("built-in:")


def reopen(
    spec: str,
    kept: Mapping[str, Any] | None,
    *,
    size: int | Sequence[int] | None = None,
    test_images: int | None = None,
    cache: str | Path | None = None,
    skip_broken: bool = False,
) -> tuple[ImageSource, str | None]:
    """The source that a run was trained on, with the same images held out, and how its data changed since, or None.

    Args:
        spec: what the run noted down by :func:`plain_spec`.
        kept: what its source gave as ``kept()``, or None for a run that keeps nothing.
        size: as in :func:`open_source`.
        test_images: as in :func:`open_source`; only a run that keeps nothing needs it.
        cache: as in :func:`open_source`.
        skip_broken: as in :func:`open_source`.

    >>> source = open_source("photos", size=16)
    >>> again, change = reopen("photos", source.kept(), size=16)
    >>> again.shape, change
    ((3, 16, 16), None)
    """
    kept = kept or {}
    source = open_source(
        BUILT_IN if spec == PHOTOS else spec, size=size, test_images=test_images, cache=cache,
        split=Split.from_dict(kept.get("split")), skip_broken=skip_broken,
    )  # fmt: skip
    if kept.get("class_names"):
        source = source.in_classes(kept["class_names"])
    now = source.fingerprint() if kept.get("fingerprint") else None
    return source, None if now is None else describe_change(Fingerprint.from_dict(kept["fingerprint"]), now)


def all_images(
    spec: str, *, size: int | Sequence[int] | None = None, cache: str | Path | None = None, skip_broken: bool = False
) -> tuple[ImageSet, tuple[str, ...] | None, tuple[str, ...]]:
    """All images that ``spec`` names, of all parts of a split, the names of their classes, and what is to be said.

    Args:
        spec: as in :func:`open_source`, or one image file; of photos the test crops count.
        size: as in :func:`open_source`.
        cache: as in :func:`open_source`.
        skip_broken: as in :func:`open_source`.

    >>> images, class_names, notes = all_images("built-in:photos", size=16)
    >>> len(images), class_names, notes
    (512, None, ())
    """
    path = Path(spec)
    is_image = path.is_file() and path.suffix.lower() in readable_suffixes()
    if is_image or (path.is_dir() and _folder_reader(path) is load_folder):
        images, layout, notes = read_folder(path, size, cache=cache, skip_broken=skip_broken)
        return images, layout.class_names, notes
    source = open_source(spec, size=size, cache=cache, skip_broken=skip_broken, say=False)
    return source.whole(), source.class_names, source.notes


def _folder_reader(path: Path) -> Callable[..., ArraySource]:
    return next((read for holds, read in _FOLDERS if holds(path)), load_folder)


def _read(spec: str, size: int | Sequence[int] | None, options: dict[str, Any]) -> ArraySource:
    path = Path(spec)
    if not path.exists():
        raise FileNotFoundError(f"{spec!r} is not there; give {_KINDS}")
    if path.is_dir():
        read = _folder_reader(path)
    elif path.suffix.lower() in _FILES:
        read = _FILES[path.suffix.lower()]
    else:
        raise ValueError(f"spec must be {_KINDS}; got the file {spec!r}")
    return read(path, size, **options)


def _cifar10(path: Path, size: int | Sequence[int] | None, *, test_images: int | None, **others: object) -> ArraySource:
    check_no_test_images(path, test_images)
    source = load_cifar10(path)
    check_same_size(path, check_size(size), source.shape[1:])
    return source


def _imagenet(
    path: Path, size: int | Sequence[int] | None, *, test_images: int | None, cache: str | Path | None, **others: object
) -> ArraySource:
    check_no_test_images(path, test_images)
    return load_imagenet(path, size, cache=cache)


def _npz(
    path: Path, size: int | Sequence[int] | None, *, test_images: int | None, split: Split | None, **others: object
) -> ArraySource:
    source = load_npz(path, test_images=test_images, split=split)
    check_same_size(path, check_size(size), source.shape[1:])
    return source


def _npy(path: Path, size: int | Sequence[int] | None, *, skip_broken: bool, **options: Any) -> ArraySource:
    return load_npy(path, size, **options)


_FILES: dict[str, Callable[..., ArraySource]] = {
    ".npz": _npz, ".npy": _npy, ".parquet": load_parquet, ".gz": _cifar10, ".tgz": _cifar10,
}  # fmt: skip
_FOLDERS: tuple[tuple[Callable[[Path], object], Callable[..., ArraySource]], ...] = (
    (find_cifar10, _cifar10),
    (is_imagenet, _imagenet),
    (is_saved, load_saved),
    (list_parquet, load_parquet),
)
