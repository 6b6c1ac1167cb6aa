"""Images in data sets of Hugging Face's library ``datasets``: on the hub, or in ``.parquet`` files of one's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from glob import escape
from pathlib import Path
from typing import Any

import torch

from nflows_woodbury.checks import check_positive_int
from nflows_woodbury.data.cache import decode_once, file_states
from nflows_woodbury.data.decoding import Encoded, decoded, side_of
from nflows_woodbury.data.sources import ArraySource, ImageSet, check_no_test_images, held_out_count
from nflows_woodbury.optional import import_extra

__all__ = ["list_parquet", "load_hub", "load_parquet"]

_PARTS = {"train": "train", "test": "test", "validation": "val", "valid": "val", "val": "val"}
_HUB_NAME = re.compile(r"(\w[\w.-]*/(\w[\w.-]*))(?::([\w.-]+))?")
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.parquet")


def load_hub(
    name: str, size: int | None = None, *, test_images: int | None = None, cache: str | Path | None = None
) -> ArraySource:
    """Return the images of a data set on the hub, ``OWNER/NAME`` or ``OWNER/NAME:CONFIG``, as RGB.

    The one column of images is found by its type. A single column of class labels gives the labels, unless some
    are missing, as in hidden test sets. The splits ``train``, ``test`` and ``validation`` (or ``valid`` or ``val``)
    count as the subfolders do in :func:`load_folder`; other splits are left out, but a single one is the whole,
    whatever its name. Images are resized, and decoded once, as those of a folder are; ``cache`` also takes what
    ``datasets`` keeps. Nothing from the hub is executed. OSError where the hub does not answer, ValueError for data
    of another kind and for ``test_images`` where there is a test set, ImportError without ``datasets``.

    >>> source = load_hub("uoft-cs/cifar10")  # doctest: +SKIP
    >>> load_hub("cifar10")
    Traceback (most recent call last):
    ValueError: a data set on the hub must be OWNER/NAME or OWNER/NAME:CONFIG, got 'cifar10'
    """
    match = _HUB_NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"a data set on the hub must be OWNER/NAME or OWNER/NAME:CONFIG, got {name!r}")
    if Path(match[1]).exists():  # the library would take that instead
        raise ValueError(f"{match[1]} must not be a path that is here too; give the path itself, or run elsewhere")
    splits = _loaded(name, cache, match[1], match[3])
    files = sorted(file["filename"] for split in splits.values() for file in split.cache_files)
    downloads = (split.info.download_checksums for split in splits.values())  # by address, with the revision
    images = _Images(name, splits, size, test_images)
    return images.source(match[2], (name, *downloads, *file_states("", files)), cache)


def load_parquet(
    path: str | Path, size: int | None = None, *, test_images: int | None = None, cache: str | Path | None = None
) -> ArraySource:
    """Return the images of a ``.parquet`` file, or of those in a folder or its folder ``data``, as from the hub.

    In a folder, files named ``train...``, ``test...`` and ``validation...``, up to a dash or dot, are splits.
    FileNotFoundError for no such file, and for one that is missing among ``-00000-of-00005`` and so on.

    >>> import datasets, numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> pixels, kind = list(np.zeros((20, 8, 8, 3), np.uint8)), datasets.Features({"image": datasets.Image()})
    >>> images = datasets.Dataset.from_dict({"image": pixels}, features=kind)
    >>> with TemporaryDirectory() as folder:
    ...     _ = images.to_parquet(f"{folder}/mine.parquet")
    ...     source = load_parquet(f"{folder}/mine.parquet", cache=folder)
    ...     source.shape, source.train_size, len(source.test)
    ((3, 8, 8), 18, 2)
    """
    path = Path(path)
    files = list_parquet(path)
    if not files:
        raise FileNotFoundError(f"{path} is no .parquet file and holds none")
    groups: dict[str, list[str]] = {}
    for file in files:
        groups.setdefault(re.split("[-.]", file.name)[0] if path.is_dir() else "train", []).append(str(file))
    if groups.keys().isdisjoint(_PARTS):
        groups = {"train": [str(file) for file in files]}
    elif stray := sorted(groups.keys() - _PARTS):
        raise ValueError(f"{groups[stray[0]][0]} must be named train, test or validation, as others in {path} are")
    data_files = {name: [escape(file) for file in group] for name, group in groups.items()}  # it expects patterns
    splits = _loaded(str(path), cache, "parquet", data_files=data_files)
    images = _Images(str(path), splits, size, test_images)
    whole = path.resolve()
    made_of = file_states("", (str(file.resolve()) for file in files))
    return images.source(whole.name if path.is_dir() else whole.stem, made_of, cache)


def list_parquet(path: Path) -> list[Path]:
    """Return a ``.parquet`` file, or those in a folder or its ``data``; FileNotFoundError for an incomplete series."""
    files = [path] if path.is_file() else sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))
    present = set(files)
    for file in files if path.is_dir() else []:
        if match := _SHARD.fullmatch(file.name):
            names = (f"{match[1]}-{number:05}-of-{match[3]}.parquet" for number in range(int(match[3])))
            if missing := [name for name in names if file.with_name(name) not in present]:
                raise FileNotFoundError(f"{file.with_name(missing[0])} is missing, one of a series of {int(match[3])}")
    return files


def _loaded(name: str, cache: str | Path | None, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the splits that ``datasets.load_dataset`` finds."""
    library = import_extra("datasets", "datasets")
    folder = None if cache is None else str(Path(cache) / "huggingface")
    try:
        return dict(library.load_dataset(*args, cache_dir=folder, **kwargs))
    except Exception as error:  # it raises nearly anything, and the reason is often the cause of that
        kind = next((kind for kind in (FileNotFoundError, OSError) if isinstance(error, kind)), ValueError)
        reason = error if isinstance(error, OSError) else error.__cause__ or error
        raise kind(f"{name} cannot be loaded: {' '.join(str(reason).split())}") from error


class _Images:
    """The splits that count, train first, with their images yet to be decoded."""

    def __init__(self, name: str, splits: Mapping[str, Any], size: int | None, test_images: int | None) -> None:
        self.name, self.size = name, None if size is None else check_positive_int("size", size)
        found = {part: splits[split] for split, part in _PARTS.items() if split in splits}
        self.parts = {"train": next(iter(splits.values()))} if len(splits) == 1 else found
        if "train" not in self.parts:
            raise ValueError(f"{name} must have a split train, got {', '.join(splits)}")
        if empty := [part for part, data in self.parts.items() if not len(data)]:
            raise ValueError(f"{name} must have images in its split {empty[0]}, got none")
        self.test_images = test_images
        if len(self.parts) > 1:
            check_no_test_images(name, test_images)
        else:
            held_out_count(len(self.parts["train"]), test_images)
        self.library = import_extra("datasets", "datasets")
        columns = self._columns(self.library.Image)
        if len(columns) != 1:
            every = ", ".join(self.parts["train"].features)
            raise ValueError(f"{name} must have one column of images, got {', '.join(columns) or 'none'} of {every}")
        self.column = columns[0]

    def _columns(self, kind: type) -> list[str]:
        return [name for name, feature in self.parts["train"].features.items() if isinstance(feature, kind)]

    def source(self, name: str, made_of: Iterable[object], cache: str | Path | None) -> ArraySource:
        side = side_of(self._encoded(), self.size)
        counts = {part: len(data) for part, data in self.parts.items()}
        shape = (sum(counts.values()), 3, side, side)
        images = decode_once(decoded(self._encoded(), self.size), shape, (self.size, *made_of), cache)
        labels, sets, start = self._labels(), {}, 0
        for part, count in counts.items():
            rows, start = slice(start, start + count), start + count
            sets[part] = ImageSet(images[rows], None if labels is None else labels[rows])
        test, validation = sets.get("test", sets.get("val")), sets["val"] if len(sets) == 3 else None
        return ArraySource(sets["train"], test, name=name, test_images=self.test_images, validation=validation)

    def _encoded(self) -> Iterator[Encoded]:
        for part, data in self.parts.items():
            plain = data.select_columns([self.column]).cast_column(self.column, self.library.Image(decode=False))
            for number, row in enumerate(plain):
                image, name = row[self.column] or {}, f"image {number} of {part} in {self.name}"
                if image.get("bytes") is None and image.get("path") is None:
                    raise ValueError(f"{name} is missing")
                yield name, Path(image["path"]) if image["bytes"] is None else image["bytes"]

    def _labels(self) -> torch.Tensor | None:
        columns = self._columns(self.library.ClassLabel)
        if len(columns) != 1:
            return None
        labels = [label for data in self.parts.values() for label in data[columns[0]]]
        return None if any(label is None or label < 0 for label in labels) else torch.tensor(labels)
