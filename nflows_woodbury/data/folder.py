"""Folders of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch

from nflows_woodbury.data.cache import decode_once, file_states
from nflows_woodbury.data.decoding import Encoded, Sides, check_size, decoded, readable, remarks, sides_of
from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.data.layout import Layout, lay_out
from nflows_woodbury.data.sources import ArraySource
from nflows_woodbury.data.splits import Split, check_no_test_images, held_out_count
from nflows_woodbury.data.walking import BROKEN, Found, find_images, list_files, shown

__all__ = ["load_folder", "read_files", "read_folder"]

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
    if not Path(path).is_dir():
        raise FileNotFoundError(f"{path} is not a folder")
    sides, (found, layout) = check_size(size), _look(Path(path), cache, skip_broken, _is_before(split))
    if layout.parts:
        check_no_test_images(path, test_images)
    elif len(found.names) < 2:
        raise ValueError(_too_few("two or more images", found))
    else:
        held_out_count(len(found.names), test_images)
    whole, notes = _see(found, layout, sides, cache)
    sets = {
        part: ImageSet(whole.images[rows], None if layout.labels is None else layout.labels[rows], found.names[rows])
        for part, rows in (layout.parts or {"train": slice(None)}).items()
    }
    return ArraySource(
        sets["train"],
        sets.get("test", sets.get("val")),
        name=Path(path).resolve().name,
        test_images=test_images,
        validation=sets["val"] if len(sets) == 3 else None,
        split=split,
        class_names=layout.class_names,
        found=found,
        notes=notes,
        files=(found.root, found.names),
    )


def read_folder(
    path: str | Path,
    size: int | Sequence[int] | None = None,
    *,
    cache: str | Path | None = None,
    skip_broken: bool = False,
) -> tuple[ImageSet, Layout, tuple[str, ...]]:
    """All images in and below a folder, or one image file, what their folders mean, and what is to be said.

    The arguments are those of :func:`load_folder`, and so are the errors.
    """
    found, layout = _look(Path(path), cache, skip_broken, before=False)
    images, notes = _see(found, layout, check_size(size), cache)
    return images, layout, notes


def _look(path: Path, cache: str | Path | None, skip_broken: bool, before: bool) -> tuple[Found, Layout]:
    """The files that count and what their folders mean; with ``before``, as in runs that drew permutations."""
    if path.is_file():
        found = Found(path.parent, [path.name])
    else:
        found = Found(path, list_files(path, _BEFORE)) if before else find_images(path)
    if skip_broken and found.names:
        found = _without_broken(found, cache)
    if not found.names:
        raise ValueError(_too_few("images", found))
    return found, lay_out(found.root, found.names, before=before)


def _see(
    found: Found, layout: Layout, sides: Sides | None, cache: str | Path | None
) -> tuple[ImageSet, tuple[str, ...]]:
    said: Counter[str] = Counter()
    images = ImageSet(read_files(found.root, found.names, sides, cache, said), layout.labels, found.names)
    notes = (found.passed_over(), *layout.notes, *remarks(said))
    return images, tuple(note for note in notes if note)


def _too_few(what: str, found: Found) -> str:
    passed = f"; {found.passed_over()}" if found.skipped else ""
    return f"{found.root} must hold {what} (.png, .jpg, all that Pillow reads), got {len(found.names)}{passed}"


def _is_before(split: Split | None) -> bool:
    return split is not None and split.rule == "permutation"


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
