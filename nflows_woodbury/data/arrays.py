"""Arrays in numpy's files: ``.npz`` archives, and ``.npy`` files, which are memory-mapped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nflows_woodbury.checks import check_positive_int
from nflows_woodbury.data.cache import decode_once, file_states, map_array
from nflows_woodbury.data.decoding import fitted
from nflows_woodbury.data.sources import ArraySource, ImageSet, check_no_test_images, held_out_count
from nflows_woodbury.optional import import_extra

__all__ = ["image_set", "load_npy", "load_npz"]

Array = npt.NDArray[Any]

_NPZ_LAYOUTS = (  # (images, labels) of each part; the labels are optional
    [("train", "train_labels"), ("test", "test_labels")],
    *([(images, labels)] for images in ("x", "images") for labels in ("y", "labels")),
)


def load_npz(path: str | Path, *, test_images: int | None = None) -> ArraySource:
    """Return the images of an ``.npz`` archive: uint8 (N, h, w, 3), or grey (N, h, w) or (N, h, w, 1).

    Its arrays are ``train`` and ``test``, with ``train_labels`` and ``test_labels`` if any, or ``x`` or
    ``images``, with ``y`` or ``labels`` if any, of which ``test_images`` (default: a tenth) become the test set;
    others do not count. FileNotFoundError where there is no file, ValueError for anything else, and for
    ``test_images`` where there is a ``test``.

    >>> import numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> images, labels = np.zeros((20, 8, 8), np.uint8), np.arange(20) % 10
    >>> with TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/mine.npz", images=images, labels=labels)
    ...     source = load_npz(f"{folder}/mine.npz")
    >>> source.shape, source.num_classes, len(source.test)
    ((1, 8, 8), 10, 2)
    """
    known = {key for layout in _NPZ_LAYOUTS for pair in layout for key in pair}
    with Path(path).open("rb") as file:
        try:
            archive = np.load(file, allow_pickle=False)
            arrays = {key: archive[key] for key in archive.files if key in known}
        except Exception as error:  # numpy and zipfile raise nearly anything on a broken archive
            raise ValueError(f"{path} cannot be read as an .npz archive: {error}") from error
    for layout in _NPZ_LAYOUTS:
        if arrays.keys() in ({pair[0] for pair in layout}, {key for pair in layout for key in pair}):
            sets = [image_set(f"{path}: {x}", arrays[x], y, arrays.get(y)) for x, y in layout]
            if len(sets) > 1:
                check_no_test_images(path, test_images)
            return ArraySource(*sets, name=Path(path).stem, test_images=test_images)
    raise ValueError(
        f"{path} must hold train and test (and train_labels and test_labels, if any), or x or images "
        f"(and y or labels, if any), got {', '.join(archive.files) or 'no arrays'}"
    )


def load_npy(
    path: str | Path, size: int | None = None, *, test_images: int | None = None, cache: str | Path | None = None
) -> ArraySource:
    """Return the images of an ``.npy`` file: uint8 (N, h, w, 3) or (N, 3, h, w), or grey with one channel or none.

    They stay on disk, memory-mapped. ``test_images`` (default: a tenth) become the test set. With ``size`` each
    image of another size is resized and centre-cropped to ``size`` x ``size``, once, as those of a folder are.
    FileNotFoundError where there is no file, ValueError for anything else.

    >>> import numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/mine.npy", np.zeros((20, 8, 8, 3), np.uint8))
    ...     source = load_npy(f"{folder}/mine.npy", test_images=5)
    ...     source.shape, source.train_size, len(source.test)
    ((3, 8, 8), 15, 5)
    """
    path, size = Path(path), None if size is None else check_positive_int("size", size)
    array = map_array(path)
    grey = array.ndim == 3
    planar = array.ndim == 4 and array.shape[3] not in (1, 3) and array.shape[1] in (1, 3)
    images = _pixels(str(path), array[..., None] if grey else array.transpose(0, 2, 3, 1) if planar else array)
    held_out_count(len(images), test_images)
    if size is not None and images.shape[2:] != (size, size):
        shape = (len(images), images.shape[1], size, size)
        made_of = (str(path.parent.resolve()), size, *file_states(path.parent, [path.name]))
        images = decode_once(_resized(images, size), shape, made_of, cache)
    return ArraySource(ImageSet(images), name=path.stem, test_images=test_images)


def image_set(key: str, images: Array, labels_key: str, labels: Array | None) -> ImageSet:
    """Return uint8 (N, h, w), (N, h, w, 1) or (N, h, w, 3) images, and integer labels (N,), as a set in memory."""
    pixels = _pixels(key, images[..., None] if images.ndim == 3 else images).contiguous()
    if labels is None:
        return ImageSet(pixels)
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),) or labels.min() < 0:
        got = f"{labels.dtype} {labels.shape}"
        raise ValueError(f"{key} needs {len(images)} integers from 0 as {labels_key}, got {got}")
    return ImageSet(pixels, torch.from_numpy(labels.astype(np.int64)))


def _pixels(key: str, images: Array) -> torch.Tensor:
    """Return uint8 (N, h, w, 1 or 3) as (N, 1 or 3, h, w), without a copy where strides allow."""
    if images.dtype != np.uint8:
        numeric = images.size and images.dtype.kind in "biuf"
        got = f"{images.dtype} from {images.min()} to {images.max()}" if numeric else f"{images.dtype}"
        hint = "floats in [0, 1] become so by (x * 255).round().astype('uint8')"
        raise ValueError(f"{key} must be uint8 from 0 to 255, got {got}; {hint}")
    if images.ndim != 4 or images.shape[3] not in (1, 3) or not images.size:
        raise ValueError(f"{key} must have shape (N, h, w), (N, h, w, 1) or (N, h, w, 3), got {images.shape}")
    return torch.from_numpy(images).movedim(3, 1)


def _resized(images: torch.Tensor, size: int) -> Iterator[npt.NDArray[np.uint8]]:
    channels, pil = images.shape[1], import_extra("PIL.Image")
    for image in images.movedim(1, 3).numpy():
        picture = pil.fromarray(np.ascontiguousarray(image[..., 0] if channels == 1 else image))
        yield fitted(picture, size).reshape(size, size, channels).transpose(2, 0, 1)
