"""Images in data sets of Hugging Face's library ``datasets``: on the hub, or in ``.parquet`` files of one's own."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import Any

from nflows_woodbury.data.cache import file_states
from nflows_woodbury.data.sources import ArraySource
from nflows_woodbury.data.splits import Split, split_part
from nflows_woodbury.data.tables import Tables
from nflows_woodbury.optional import import_extra

__all__ = ["is_saved", "list_parquet", "load_hub", "load_parquet", "load_saved"]

_HUB_NAME = re.compile(r"(\w[\w.-]*/(\w[\w.-]*))(?::([\w.-]+))?")
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.parquet")


def load_hub(
    name: str,
    size: int | Sequence[int] | None = None,
    *,
    test_images: int | None = None,
    cache: str | Path | None = None,
    split: Split | None = None,
    skip_broken: bool = False,
) -> ArraySource:
    """Return the images of a data set on the hub, ``OWNER/NAME`` or ``OWNER/NAME:CONFIG``, as RGB.

    The one column of images is found by its type: images, structs with bytes, or bytes. A single column of class labels
    gives the labels, or one called label, labels, class or category, unless some are missing, as in hidden test sets.
    The splits ``train``, ``test`` and ``validation``, in all the spellings of :func:`load_folder`, count as its
    subfolders do; other splits are left out, but a single one is the whole, whatever its name, and is held out of by a
    hash of the rows' numbers. Images are turned, resized, and decoded once, as those of a folder are; ``cache`` also
    takes what ``datasets`` keeps. Nothing from the hub is executed. OSError where the hub does not answer, ValueError
    for data of another kind and for ``test_images`` where there is a test set, ImportError without ``datasets``.

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
    downloads = (split.info.download_checksums for split in splits.values())  # by address, with the revision
    tables = Tables(name, splits, None, size, test_images)
    files = _arrow_files(splits)
    made_of = (name, *downloads, *file_states("", files))
    return tables.source(match[2], made_of, cache, files=_relative(files), split=split, skip_broken=skip_broken)


def load_parquet(
    path: str | Path,
    size: int | Sequence[int] | None = None,
    *,
    test_images: int | None = None,
    cache: str | Path | None = None,
    split: Split | None = None,
    skip_broken: bool = False,
) -> ArraySource:
    """Return the images of a ``.parquet`` file, or of those in a folder or its folder ``data``, as from the hub.

    A column of texts may also hold the images, as paths from the file's folder. In a folder, files named ``train...``,
    ``test...`` and ``validation...``, up to a dash, dot or underscore, are splits.
    FileNotFoundError for no such file, and for one that is missing among ``-00000-of-00005`` and so on.

    >>> import datasets, numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> pixels, kind = list(np.zeros((20, 8, 8, 3), np.uint8)), datasets.Features({"image": datasets.Image()})
    >>> images = datasets.Dataset.from_dict({"image": pixels}, features=kind)
    >>> with TemporaryDirectory() as folder:
    ...     _ = images.to_parquet(f"{folder}/mine.parquet")
    ...     source = load_parquet(f"{folder}/mine.parquet", cache=folder, test_images=2)
    ...     source.shape, source.train_size, len(source.test)
    ((3, 8, 8), 18, 2)
    """
    path = Path(path)
    files = list_parquet(path)
    if not files:
        raise FileNotFoundError(f"{path} is no .parquet file and holds none")
    data_files = {part: [escape(str(file)) for file in group] for part, group in _groups(path, files).items()}
    splits = _loaded(str(path), cache, "parquet", data_files=data_files)  # it expects patterns
    tables = Tables(str(path), splits, files[0].parent, size, test_images)
    whole, paths = path.resolve(), [str(file.resolve()) for file in files]
    name = whole.name if path.is_dir() else whole.stem
    made_of = tuple(file_states("", paths))
    return tables.source(name, made_of, cache, files=_relative(paths), split=split, skip_broken=skip_broken)


def load_saved(
    path: str | Path,
    size: int | Sequence[int] | None = None,
    *,
    test_images: int | None = None,
    cache: str | Path | None = None,
    split: Split | None = None,
    skip_broken: bool = False,
) -> ArraySource:
    """Return the images in a folder that ``save_to_disk`` of the library ``datasets`` wrote, as from the hub.

    >>> import datasets, numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> pixels, kind = list(np.zeros((20, 8, 8, 3), np.uint8)), datasets.Features({"image": datasets.Image()})
    >>> images = datasets.Dataset.from_dict({"image": pixels}, features=kind)
    >>> with TemporaryDirectory() as folder:
    ...     images.save_to_disk(f"{folder}/mine")
    ...     load_saved(f"{folder}/mine", test_images=5).train_size
    15
    """
    path, library = Path(path), import_extra("datasets", "datasets")
    saved = _called(str(path), library.load_from_disk, str(path))
    splits = dict(saved) if isinstance(saved, dict) else {"train": saved}
    tables = Tables(str(path), splits, path, size, test_images)
    files = _arrow_files(splits)
    made_of = tuple(file_states("", files))
    return tables.source(
        path.resolve().name, made_of, cache, files=_relative(files), split=split, skip_broken=skip_broken
    )


def is_saved(folder: Path) -> bool:
    """Return whether ``save_to_disk`` of the library ``datasets`` wrote a folder."""
    names = ("dataset_dict.json",), ("dataset_info.json", "state.json")
    return any(all((folder / name).is_file() for name in every) for every in names)


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


def _groups(path: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of each part of the split that a folder's files are named for, or all of them as one."""
    if path.is_file():
        return {"train": list(files)}
    groups: dict[str | None, list[Path]] = {}
    for file in files:
        groups.setdefault(split_part(re.split("[-._]", file.name)[0]), []).append(file)
    others = groups.pop(None, [])
    if groups and others:
        raise ValueError(f"{others[0]} must be named train, test or validation, as others in {path} are")
    return {part: group for part, group in groups.items() if part} or {"train": others}


def _loaded(name: str, cache: str | Path | None, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the splits that ``datasets.load_dataset`` finds."""
    folder = None if cache is None else str(Path(cache) / "huggingface")
    load = import_extra("datasets", "datasets").load_dataset
    return dict(_called(name, load, *args, cache_dir=folder, **kwargs))


def _called(name: str, load: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return load(*args, **kwargs)
    except Exception as error:  # the library raises nearly anything, and the reason is often the cause of that
        kind = next((kind for kind in (FileNotFoundError, OSError) if isinstance(error, kind)), ValueError)
        reason = error if isinstance(error, OSError) else error.__cause__ or error
        full = isinstance(reason, OSError) and reason.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT)
        cure = "; $HF_HOME names another folder for what the library keeps" if full else ""
        raise kind(f"{name} cannot be loaded: {' '.join(str(reason).split())}{cure}") from error


def _arrow_files(splits: Mapping[str, Any]) -> list[str]:
    return sorted(file["filename"] for table in splits.values() for file in table.cache_files)


def _relative(files: Sequence[str]) -> tuple[Path, list[str]]:
    """The folder that files are in and below, and their names there."""
    root = os.path.commonpath([os.path.dirname(file) for file in files]) if files else ""
    return Path(root), [os.path.relpath(file, root) for file in files]
