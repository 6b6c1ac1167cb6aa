"""Tables of images, the data sets of the library ``datasets``: which column holds them, which their classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os.path import splitext
from pathlib import Path
from typing import Any

import torch

from nflows_woodbury.data.cache import decode_once
from nflows_woodbury.data.classes import natural_order
from nflows_woodbury.data.decoding import Encoded, check_size, decoded, readable, remarks, sides_of
from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.data.sources import ArraySource
from nflows_woodbury.data.splits import Split, check_no_test_images, held_out_count, split_part
from nflows_woodbury.data.walking import readable_suffixes
from nflows_woodbury.optional import import_extra

__all__ = ["Tables"]

_BINARY, _TEXT, _LABEL_NAMES = (
    ("binary", "large_binary"),
    ("string", "large_string"),
    ("label", "labels", "class", "category"),
)


class Tables:
    """The splits that count, train first, with their images yet to be decoded.

    Args:
        name: for messages.
        splits: tables by the names of splits; a single one is the whole, whatever its name.
        root: the folder that paths in the tables start from, or None where a path counts for nothing.
        size: as in :func:`.folder.load_folder`.
        test_images: images to hold out of a single split.

    Raises:
        ValueError: for tables without one column of images, without a split for training or with an empty one.
    """

    def __init__(
        self,
        name: str,
        splits: Mapping[str, Any],
        root: Path | None,
        size: int | Sequence[int] | None,
        test_images: int | None,
    ) -> None:
        self.name, self.root, self.size, self.test_images = name, root, check_size(size), test_images
        self.parts = {"train": next(iter(splits.values()))} if len(splits) == 1 else _parts(name, splits)
        if empty := [part for part, table in self.parts.items() if not len(table)]:
            raise ValueError(f"{name} must have images in its split {empty[0]}, got none")
        if len(self.parts) > 1:
            check_no_test_images(name, test_images)
        else:
            held_out_count(len(self.parts["train"]), test_images)
        self.column = self._image_column()

    def source(
        self,
        name: str,
        made_of: Iterable[object],
        cache: str | Path | None,
        *,
        files: tuple[Path, Sequence[str]],
        split: Split | None,
        skip_broken: bool,
    ) -> ArraySource:
        """The images, decoded once; ``made_of`` and ``files`` are what the tables are read from."""
        made_of, said, notes = tuple(made_of), Counter[str](), []
        rows = {part: list(range(len(table))) for part, table in self.parts.items()}
        if skip_broken:
            rows, left_out = self._readable(rows, made_of, cache)
            notes += [f"skipped {left_out:,} image{'s' * (left_out > 1)} that cannot be read"] * (left_out > 0)
        count = sum(map(len, rows.values()))
        shape = (count, 3, *sides_of(self._encoded(rows), self.size))
        images = decode_once(decoded(self._encoded(rows), self.size, said), shape, (self.size, *made_of), cache)
        labels, class_names, remark = self._labels()
        sets, start = {}, 0
        for part, numbers in rows.items():
            pixels, start = images[start : start + len(numbers)], start + len(numbers)
            sets[part] = ImageSet(pixels, None if labels is None else labels[part][numbers], numbers)
        return ArraySource(
            sets["train"],
            sets.get("test", sets.get("val")),
            name=name,
            test_images=self.test_images,
            validation=sets["val"] if len(sets) == 3 else None,
            split=split or Split("hash" if len(sets) == 1 else "permutation"),
            class_names=class_names,
            notes=[*notes, *remark, *remarks(said)],
            files=files,
        )

    def _image_column(self) -> str:
        """The one column of images: of that type, or of structs with bytes, of bytes, or of paths, in this order."""
        features, library = self.parts["train"].features, import_extra("datasets", "datasets")
        kinds: tuple[Callable[[str, Any], bool], ...] = (
            lambda _, feature: isinstance(feature, library.Image),
            lambda _, feature: isinstance(feature, dict) and _dtype(feature.get("bytes")) in _BINARY,
            lambda _, feature: _dtype(feature) in _BINARY,
            lambda name, feature: _dtype(feature) in _TEXT and self._holds_paths(name),
        )
        found = ([name for name, feature in features.items() if holds(name, feature)] for holds in kinds)
        columns = next(filter(None, found), [])
        if len(columns) != 1:
            got = f"{', '.join(columns) or 'none'} of {', '.join(features)}"
            raise ValueError(f"{self.name} must have one column of images, got {got}")
        return columns[0]

    def _holds_paths(self, column: str) -> bool:
        first = self.parts["train"].select_columns([column])[0][column]
        return self.root is not None and first is not None and splitext(first.lower())[1] in readable_suffixes()

    def _encoded(self, rows: Mapping[str, Sequence[int]]) -> Iterator[Encoded]:
        image = import_extra("datasets", "datasets").Image
        for part, table in self.parts.items():
            plain = table.select_columns([self.column])
            if isinstance(plain.features[self.column], image):
                plain = plain.cast_column(self.column, image(decode=False))
            kept = plain if len(rows[part]) == len(plain) else plain.select(rows[part])
            for number, row in zip(rows[part], kept, strict=True):
                yield self._content(row[self.column], f"image {number} of {part} in {self.name}")

    def _content(self, value: Any, name: str) -> Encoded:
        fields = value if isinstance(value, dict) else {"path" if isinstance(value, str) else "bytes": value}
        content, path = fields.get("bytes"), fields.get("path")
        return name, content if content is not None or path is None else (self.root or Path()) / path

    def _readable(
        self, rows: Mapping[str, list[int]], made_of: tuple[object, ...], cache: str | Path | None
    ) -> tuple[dict[str, list[int]], int]:
        """The rows whose images can be read, which is found out once, and how many others there are."""
        count = sum(map(len, rows.values()))
        marks = decode_once(readable(self._encoded(rows)), (count, 1, 1, 1), ("readable", *made_of), cache)
        good = iter(marks.flatten().tolist())
        kept = {part: [number for number in numbers if next(good)] for part, numbers in rows.items()}
        return kept, count - sum(map(len, kept.values()))

    def _labels(self) -> tuple[dict[str, torch.Tensor] | None, tuple[str, ...] | None, tuple[str, ...]]:
        """The labels of each part and their names, or None, and why there are none where that may surprise."""
        features, library = self.parts["train"].features, import_extra("datasets", "datasets")
        classes = [name for name, feature in features.items() if isinstance(feature, library.ClassLabel)]
        columns = classes or [name for name in features if name.lower() in _LABEL_NAMES and _dtype(features[name])]
        if len(columns) != 1:
            remark = f"no classes: there are several columns of them, {', '.join(columns)}"
            return None, None, (remark,) if columns else ()
        values = {part: list(table[columns[0]]) for part, table in self.parts.items()}
        distinct = {value for column in values.values() for value in column}
        names = tuple(features[columns[0]].names) if classes else None
        if all(isinstance(value, str) for value in distinct):
            names = tuple(sorted(distinct, key=natural_order))
            numbers = {value: number for number, value in enumerate(names)}
            values = {part: [numbers[value] for value in column] for part, column in values.items()}
        elif not all(isinstance(value, int) and value >= 0 for value in distinct):
            return None, None, (f"no classes: some values of {columns[0]} are missing or no numbers from 0",)
        return {part: torch.tensor(column, dtype=torch.int64) for part, column in values.items()}, names, ()


def _parts(name: str, splits: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, str] = {}
    for split in splits:
        part = split_part(split)
        if part is not None and found.setdefault(part, split) != split:
            raise ValueError(f"{name} must have one split {part}, got {found[part]} and {split}")
    if "train" not in found:
        raise ValueError(f"{name} must have a split train, got {', '.join(splits)}")
    return {part: splits[found[part]] for part in ("train", "test", "val") if part in found}


def _dtype(feature: Any) -> str | None:
    return getattr(feature, "dtype", None)
