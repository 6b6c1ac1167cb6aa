"""Folders of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch

from nflows_woodbury.data.cache import decode_once, file_states
from nflows_woodbury.data.decoding import Encoded, Sides, check_size, decoded, readable, remarks, sides_of
from nflows_woodbury.data.layout import lay_out
from nflows_woodbury.data.sources import ArraySource, ImageSet
from nflows_woodbury.data.splits import Split, check_no_test_images, held_out_count
from nflows_woodbury.data.walking import BROKEN, Found, find_images, list_files, shown

__all__ = ["load_folder", "read_files"]

_BEFORE = (".png", ".jpg", ".jpeg", ".webp", ".bmp")  # all that counted when runs drew permutations


def load_folder(
    path: str | Path,
    size: int | Sequence[int] | None = None,
    *,
    test_images: int | None = None,
    cache: str | Path | None = None,
    split: Split | None = None,
    skip_broken: bool = False,
) -> ArraySource:
    """Return the images in and below a folder, all formats that Pillow reads, upright, on white, as RGB.

    Hidden files, the system's, thumbnails and the folders of runs do not count; the source's ``notes`` say what was
    passed over. Subfolders ``train`` and ``test`` or ``val`` (or ``training``, ``testing``, ``valid``, ``validation``,
    in any case) are the split; of all three, ``val`` is the validation set. Without them about a tenth is held out by a
    hash of each image's name, or the ``test_images`` with the smallest hashes; ``split`` holds out as another source
    did. Two or more class folders, with every image exactly one level down in its split, become labels in the order in
    which people count. With ``size``, a side or (height, width), each image is resized and cropped to its centre,
    without it all must be of one size. 1,000 images or more, or any with a ``cache`` folder, are decoded once into a
    file there, by default in the user's cache folder. With ``skip_broken`` images that cannot be read are left out.
    ValueError for others, for too few images, images beside the split and unreadable ones, and for ``test_images``
    where there is a split; FileNotFoundError for no folder.

    >>> import torch
    >>> from tempfile import TemporaryDirectory
    >>> from nflows_woodbury.evaluation.pictures import save_png
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("Train/cats/1", "Train/cats/2", "Train/dogs/1", "Test/cats/1"):
    ...         _ = save_png(torch.zeros(3, 8, 8, dtype=torch.uint8), f"{folder}/{name}.png")
    ...     source = load_folder(folder)
    >>> source.shape, source.class_names, source.train_size, len(source.test)
    ((3, 8, 8), ('cats', 'dogs'), 3, 1)
    """
    root, sides = Path(path), check_size(size)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder")
    before = split is not None and split.rule == "permutation"
    found = Found(root, list_files(root, _BEFORE)) if before else find_images(root)
    if skip_broken:
        found = _without_broken(found, cache)
    names = found.names
    if len(names) < 2:
        passed = f"; {found.passed_over()}" if found.skipped else ""
        raise ValueError(
            f"{root} must hold two or more images (.png, .jpg, all that Pillow reads), got {len(names)}{passed}"
        )
    layout = lay_out(root, names, before=before)
    if layout.parts:
        check_no_test_images(root, test_images)
    else:
        held_out_count(len(names), test_images)
    said: Counter[str] = Counter()
    images = read_files(root, names, sides, cache, said)
    sets = {
        part: ImageSet(images[rows], None if layout.labels is None else layout.labels[rows], names[rows])
        for part, rows in (layout.parts or {"train": slice(None)}).items()
    }
    return ArraySource(
        sets["train"],
        sets.get("test", sets.get("val")),
        name=root.resolve().name,
        test_images=test_images,
        validation=sets["val"] if len(sets) == 3 else None,
        split=split,
        class_names=layout.class_names,
        found=found,
        notes=[note for note in (found.passed_over(), *layout.notes, *remarks(said)) if note],
        files=(root, names),
    )


def read_files(
    root: Path, names: Sequence[str], size: Sides | None, cache: str | Path | None, said: Counter[str] | None = None
) -> torch.Tensor:
    """Return the images with these names, uint8 (N, 3, h, w), decoded once; what they lose is counted in ``said``."""
    height, width = sides_of(_encoded(root, names), size)
    made_of = (str(root.resolve()), size, *file_states(root, names))
    return decode_once(decoded(_encoded(root, names), size, said), (len(names), 3, height, width), made_of, cache)


def _encoded(root: Path, names: Iterable[str]) -> Iterator[Encoded]:
    return ((shown(root / name), root / name) for name in names)


def _without_broken(found: Found, cache: str | Path | None) -> Found:
    """Leave out the images that cannot be read, which is found out once."""
    root, names = found.root, found.names
    made_of = ("readable", str(root.resolve()), *file_states(root, names))
    marks = decode_once(readable(_encoded(root, names)), (len(names), 1, 1, 1), made_of, cache).flatten().tolist()
    broken = [name for name, mark in zip(names, marks, strict=True) if not mark]
    kept = [name for name, mark in zip(names, marks, strict=True) if mark]
    return Found(root, kept, {**found.skipped, **({BROKEN: broken} if broken else {})})
