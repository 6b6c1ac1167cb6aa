"""Arrays in numpy's files: ``.npz`` archives, and ``.npy`` files, which are memory-mapped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nflows_woodbury.data.cache import decode_once, file_states, map_array
from nflows_woodbury.data.decoding import Sides, check_size, fitted
from nflows_woodbury.data.fields import field_set, is_field_array
from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.data.sources import ArraySource
from nflows_woodbury.data.splits import Split, check_no_test_images, held_out_count, split_part
from nflows_woodbury.optional import import_extra

__all__ = ["image_set", "load_npy", "load_npz"]

Array = npt.NDArray[Any]

_KINDS = {"x": "images", "images": "images", "y": "labels", "labels": "labels"}
_WHOLE = ""  # the part that data without a split are
_BARE, _LABELLED = frozenset({"images"}), frozenset({"images", "labels"})
_POSITIONAL = {"arr_0": (_WHOLE, "images"), "arr_1": (_WHOLE, "labels")}


def load_npz(path: str | Path, *, test_images: int | None = None, split: Split | None = None) -> ArraySource:
    """Return the images of an ``.npz`` archive: uint8 (N, h, w, 3) or (N, 3, h, w), or grey (N, h, w) or (N, h, w, 1).

    Or its fields: floats (N, h, w), of one channel, or (N, c, ...).

    Its arrays are named by a part, ``train``, ``test`` or ``val`` in any of their spellings, and by what they are:
    ``x``, ``images`` or nothing, or ``y`` or ``labels``, as in ``x_train`` and ``y_train``, ``train`` and
    ``train_labels``, ``val_images``; or there is no part, as in ``x``, ``images`` and ``labels``, or ``arr_0``, and
    ``arr_1`` if those are labels. Other arrays do not count. Without a test set ``val`` is it, and without that about a
    tenth is held out, or ``test_images``. FileNotFoundError where there is no file, ValueError for anything else, and
    for ``test_images`` where there is a test set.

    >>> import numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> x, y = np.zeros((30, 8, 8), np.uint8), np.arange(30) % 10
    >>> with TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/mine.npz", x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])
    ...     source = load_npz(f"{folder}/mine.npz")
    >>> source.shape, source.num_classes, len(source.test)
    ((1, 8, 8), 10, 10)
    """
    with Path(path).open("rb") as file:
        try:
            archive = np.load(file, allow_pickle=False)
            arrays = {key: archive[key] for key in archive.files if _meaning(key)}
        except Exception as error:  # numpy and zipfile raise nearly anything on a broken archive
            raise ValueError(f"{path} cannot be read as an .npz archive: {error}") from error
    parts = _parts(path, arrays, archive.files)
    sets = {
        part: image_set(f"{path}: {keys['images']}", arrays[keys["images"]], labels, arrays.get(labels))
        for part, keys in parts.items()
        for labels in [keys.get("labels", "")]
    }
    whole = sets.pop(_WHOLE) if _WHOLE in sets else sets.pop("train")
    if sets:
        check_no_test_images(path, test_images)
    lonely = "train" in parts and not sets
    return ArraySource(
        whole,
        sets.get("test", sets.get("val")),
        name=Path(path).stem,
        test_images=test_images,
        validation=sets["val"] if len(sets) == 2 else None,
        split=split,
        notes=[f"{path} has train, but no test or val: images are held out of all"] if lonely else (),
    )


def _meaning(key: str) -> tuple[str, str] | None:
    """Return the part of a split that an array's name stands for, and whether it is ``images`` or ``labels``, or None.

    >>> [_meaning(key) for key in ("x_train", "train_labels", "images", "arr_0", "valid_y", "mean")]
    [('train', 'images'), ('train', 'labels'), ('', 'images'), ('', 'images'), ('val', 'labels'), None]
    """
    if key in _POSITIONAL:
        return _POSITIONAL[key]
    words = key.lower().split("_")
    parts = [part for part in map(split_part, words) if part]
    kinds = [_KINDS.get(word) for word in words if not split_part(word)]
    if len(parts) > 1 or len(kinds) > 1 or None in kinds:
        return None
    return (parts[0] if parts else _WHOLE), (kinds[0] or "images") if kinds else "images"


def _parts(path: str | Path, arrays: Mapping[str, Array], every: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the names of the images and labels of each part; ValueError for archives of another kind."""
    parts: dict[str, dict[str, str]] = {}
    twice = False
    for key, array in arrays.items():
        if key == "arr_1" and (array.dtype.kind not in "iu" or array.ndim > 2):
            continue  # not labels
        part, kind = _meaning(key) or (_WHOLE, "images")
        twice |= parts.setdefault(part, {}).setdefault(kind, key) != key
    whole = parts.keys() == {_WHOLE} or ("train" in parts and _WHOLE not in parts)
    if twice or not whole or {*map(frozenset, parts.values())} not in ({_BARE}, {_LABELLED}):
        raise ValueError(
            f"{path} must hold train and test (and train_labels and test_labels, if any), or x_train and x_test (and "
            "y_train and y_test), or x, images or arr_0 (and y or labels, if any), got "
            f"{', '.join(every) or 'no arrays'}"
        )
    return parts


def load_npy(
    path: str | Path,
    size: int | Sequence[int] | None = None,
    *,
    test_images: int | None = None,
    cache: str | Path | None = None,
    split: Split | None = None,
) -> ArraySource:
    """Return the images of an ``.npy`` file: uint8 (N, h, w, 3) or (N, 3, h, w), or grey with one channel or none.

    Or its fields, which are not resized: floats (N, h, w), of one channel, or (N, c, ...).

    They stay on disk, memory-mapped. About a tenth, or ``test_images``, become the test set, by a hash of their
    numbers. With ``size``, a side or (height, width), images of another size are resized and cropped, once, as a
    folder's are. FileNotFoundError where there is no file, ValueError for anything else.

    >>> import numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/mine.npy", np.zeros((20, 8, 8, 3), np.uint8))
    ...     source = load_npy(f"{folder}/mine.npy", test_images=5)
    ...     source.shape, source.train_size, len(source.test)
    ((3, 8, 8), 15, 5)
    """
    path, sides, array = Path(path), check_size(size), map_array(path)
    if is_field_array(array):
        fields = field_set(str(path), array)
        own = tuple(fields.images.shape[2:])
        if sides not in (None, own):
            raise ValueError(
                f"size must be None or that of the floats in {path}, {own}, as fields are not resized, got {sides}"
            )
        return ArraySource(fields, name=path.stem, test_images=test_images, split=split)
    images = _pixels(str(path), array)
    held_out_count(len(images), test_images)
    if sides is not None and images.shape[2:] != sides:
        shape = (*images.shape[:2], *sides)
        made_of = (str(path.parent.resolve()), sides, *file_states(path.parent, [path.name]))
        images = decode_once(_resized(images, sides), shape, made_of, cache)
    return ArraySource(ImageSet(images), name=path.stem, test_images=test_images, split=split)


def image_set(key: str, images: Array, labels_key: str, labels: Array | None) -> ImageSet:
    """Return uint8 images, channels last, first or none, or fields, and integer labels (N,) or (N, 1), as a set."""
    found = field_set(key, images) if is_field_array(images) else ImageSet(_pixels(key, images).contiguous())
    if labels is None:
        return found
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),) or labels.min() < 0:
        got = f"{labels.dtype} {labels.shape}"
        raise ValueError(f"{key} needs {len(images)} integers from 0 as {labels_key}, got {got}")
    return replace(found, labels=torch.from_numpy(labels.astype(np.int64)))


def _pixels(key: str, images: Array) -> torch.Tensor:
    """Return uint8 (N, h, w), (N, h, w, 1 or 3) or (N, 1 or 3, h, w) as (N, 1 or 3, h, w), without a copy."""
    if images.dtype != np.uint8:
        numeric = images.size and images.dtype.kind in "biuf"
        got = f"{images.dtype} from {images.min()} to {images.max()}" if numeric else f"{images.dtype}"
        hint = (
            "floats in [0, 1] become so by (x * 255).round().astype('uint8'); fields must be floats, of integers "
            "x.astype('float32'), of complex numbers np.stack([x.real, x.imag], 1)"
        )
        raise ValueError(f"{key} must be uint8 from 0 to 255, got {got}; {hint}")
    planar = images.ndim == 4 and images.shape[3] not in (1, 3) and images.shape[1] in (1, 3)
    last = images[..., None] if images.ndim == 3 else images.transpose(0, 2, 3, 1) if planar else images
    if last.ndim != 4 or last.shape[3] not in (1, 3) or not last.size:
        raise ValueError(
            f"{key} must have shape (N, h, w), (N, h, w, 1), (N, h, w, 3) or (N, 3, h, w), got {images.shape}"
        )
    return torch.from_numpy(last).movedim(3, 1)


def _resized(images: torch.Tensor, size: Sides) -> Iterator[npt.NDArray[np.uint8]]:
    channels, pil = images.shape[1], import_extra("PIL.Image")
    for image in images.movedim(1, 3).numpy():
        picture = pil.fromarray(np.ascontiguousarray(image[..., 0] if channels == 1 else image))
        yield fitted(picture, size).reshape(*size, channels).transpose(2, 0, 1)
