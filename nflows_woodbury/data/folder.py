"""Folders of images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from nflows_woodbury.checks import check_positive_int
from nflows_woodbury.data.cache import decode_once, file_states
from nflows_woodbury.data.decoding import decoded, side_of
from nflows_woodbury.data.sources import ArraySource, ImageSet, check_no_test_images, held_out_count

__all__ = ["SUFFIXES", "list_files", "load_folder", "read_files"]

#: of the files that count as images
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def load_folder(
    path: str | Path, size: int | None = None, *, test_images: int | None = None, cache: str | Path | None = None
) -> ArraySource:
    """Return the images (png, jpg, jpeg, webp, bmp; other files do not count) in and below a folder, as RGB.

    Subfolders ``train`` and ``test`` or ``val`` are the split (of all three, ``val`` is the validation set);
    without them ``test_images`` (default: a tenth) become the test set. Two or more class folders, with every
    image exactly one level down in its split, become labels in the order of their names. Alpha is dropped. With
    ``size`` each image is resized and centre-cropped to ``size`` x ``size``, without it all must be squares of
    one size. 1,000 images or more, or any with a ``cache`` folder, are decoded once into a file there, by default
    in the user's cache folder. ValueError for others, for too few images, images beside the split and unreadable
    ones, and for ``test_images`` where there is a split; FileNotFoundError for no folder.

    >>> import torch
    >>> from tempfile import TemporaryDirectory
    >>> from nflows_woodbury.evaluation.pictures import save_png
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("train/cats/1", "train/cats/2", "train/dogs/1", "test/cats/1"):
    ...         _ = save_png(torch.zeros(3, 8, 8, dtype=torch.uint8), f"{folder}/{name}.png")
    ...     source = load_folder(folder)
    >>> source.shape, source.num_classes, source.train_size, len(source.test)
    ((3, 8, 8), 2, 3, 1)
    """
    root, size = Path(path), None if size is None else check_positive_int("size", size)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder")
    names = list_files(root)
    if len(names) < 2:
        raise ValueError(f"{root} must hold two or more images ({', '.join(SUFFIXES)}), got {len(names)}")
    parts = _split(root, names)
    if parts:
        check_no_test_images(root, test_images)
    else:
        held_out_count(len(names), test_images)
    labels = _labels([name.partition("/")[2] for name in names] if parts else names)
    images, name = read_files(root, names, size, cache), root.resolve().name
    if not parts:
        return ArraySource(ImageSet(images, labels), name=name, test_images=test_images)
    sets = {part: ImageSet(images[rows], None if labels is None else labels[rows]) for part, rows in parts.items()}
    validation = sets["val"] if len(sets) == 3 else None
    return ArraySource(sets["train"], sets.get("test", sets.get("val")), name=name, validation=validation)


def list_files(root: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[str]:
    """Return the files with these suffixes in and below ``root``, as names with slashes, sorted folder by folder.

    Links to folders are followed, but no folder is read twice. OSError for one that cannot be read.
    """

    def unreadable(error: OSError) -> None:
        raise error

    names, seen = [], set()
    for folder, inner, files in os.walk(root, onerror=unreadable, followlinks=True):
        inner.sort()
        if (real := os.path.realpath(folder)) in seen:  # a link to where it is, or to where it has been
            inner.clear()
            continue
        seen.add(real)
        place = Path(folder).relative_to(root).parts
        names += ["/".join((*place, file)) for file in files if file.lower().endswith(suffixes)]
    names = [name for name in names if os.path.isfile(os.path.join(root, name))]
    return sorted(names, key=lambda name: name.split("/"))


def read_files(root: Path, names: list[str], size: int | None, cache: str | Path | None) -> torch.Tensor:
    """Return the images with these names, uint8 (N, 3, s, s), decoded once; ``s`` is ``size`` or the first one's."""
    files = ((root / name, root / name) for name in names)
    side = side_of([(root / names[0], root / names[0])], size)
    made_of = (str(root.resolve()), size, *file_states(root, names))
    return decode_once(decoded(files, size), (len(names), 3, side, side), made_of, cache)


def _split(root: Path, names: list[str]) -> dict[str, slice]:
    """Return where in the sorted names the images of train, test and val are, or nothing without a split."""
    tops = [name.partition("/")[0] for name in names]
    parts = set(tops)
    if "train" not in parts or parts.isdisjoint({"test", "val"}):
        return {}
    if stray := parts - {"train", "test", "val"}:
        raise ValueError(f"{root / min(stray)} must be in train, test or val, the split of {root}")
    return {part: slice(tops.index(part), tops.index(part) + tops.count(part)) for part in parts}


def _labels(names: list[str]) -> torch.Tensor | None:
    """Return the numbers of the folders of images that all lie one level down, in two or more of them, or None."""
    classes, labels = np.unique([name.partition("/")[0] for name in names], return_inverse=True)
    labelled = len(classes) > 1 and all(name.count("/") == 1 for name in names)
    return torch.from_numpy(labels) if labelled else None
