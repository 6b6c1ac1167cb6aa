"""What the folders that images lie in mean: a split, classes, or neither."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import commonpath

import numpy as np
import torch

from nflows_woodbury.data.classes import natural_order
from nflows_woodbury.data.splits import split_part
from nflows_woodbury.data.walking import shown

__all__ = ["Layout", "lay_out"]


@dataclass(frozen=True)
class Layout:
    """The split and the classes that the names of images tell of.

    Attributes:
        parts: where in the names ``train``, ``test`` and ``val`` are; nothing without a split.
        labels: int64 (N,), or None without classes.
        class_names: in the order of the labels, or None.
        notes: what looks like a split or classes and is none.
    """

    parts: dict[str, slice]
    labels: torch.Tensor | None = None
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def lay_out(root: Path, names: Sequence[str], *, before: bool = False) -> Layout:
    """Return the split and the classes of images by their names below ``root``, sorted folder by folder.

    Folders that all images share are passed through. ValueError for images beside a split, and for two folders of one
    part. With ``before``, as in runs that drew permutations: a split by exact names, classes in alphabetical order.

    >>> layout = lay_out(Path("pets"), ["Test/2/a.png", "Train/10/b.png", "Train/2/c.png"])
    >>> layout.parts, layout.labels, layout.class_names
    ({'test': slice(0, 1, None), 'train': slice(1, 3, None)}, tensor([0, 1, 0]), ('2', '10'))
    """
    shared = "" if before else _shared(names)
    inner = _inside(shared, names)
    parts, folders = _parts(root, inner, before)
    notes = [] if before else _unsplit(shared, inner, parts, folders)
    if not parts:
        return _classes(inner, parts, notes, before)
    inside = [name.partition("/")[2] for name in inner]
    return _classes(inside if before else _inside(_shared(inside), inside), parts, notes, before)


def _shared(names: Sequence[str]) -> str:
    """The folder that all the names are in, or nothing."""
    return commonpath({name.rpartition("/")[0] for name in names})


def _inside(shared: str, names: Sequence[str]) -> list[str]:
    return [name[len(shared) :].lstrip("/") for name in names] if shared else list(names)


def _parts(root: Path, names: Sequence[str], before: bool) -> tuple[dict[str, slice], dict[str, str]]:
    """Where the parts of a whole split are, and the folders with names of parts, whole or not."""
    counts = Counter(name.partition("/")[0] for name in names)
    folders: dict[str, str] = {}
    for top in counts if before else (top for top in counts if any(name.startswith(f"{top}/") for name in names)):
        part = (top if top in ("train", "test", "val") else None) if before else split_part(top)
        if part is not None and folders.setdefault(part, top) != top:
            raise ValueError(f"{root} must hold one folder {part}, got {folders[part]} and {top}")
    if "train" not in folders or len(folders) < 2:
        return {}, folders
    if stray := counts.keys() - set(folders.values()):
        raise ValueError(f"{shown(root / min(stray))} must be in train, test or val, the split of {root}")
    starts = dict(zip(counts, np.cumsum([0, *counts.values()]).tolist(), strict=False))
    return {part: slice(starts[top], starts[top] + counts[top]) for part, top in folders.items()}, folders


def _unsplit(shared: str, names: Sequence[str], parts: dict[str, slice], folders: dict[str, str]) -> list[str]:
    """What looks like a split and is none."""
    if parts:
        return []
    alone = [top for top in shared.split("/") if split_part(top)] or list(folders.values())
    if alone:
        found = " and ".join(map(shown, alone))
        lacks = "test or val" if {split_part(top) for top in alone} == {"train"} else "train"
        return [f"{found} looks like a part of a split, but there is no {lacks} beside it: images are held out of all"]
    second = {split_part(name.split("/")[1]) for name in names if name.count("/") > 1}
    if {"train"} < second - {None}:
        return [f"folders train and test count at the top only, not in {shown(names[0].partition('/')[0])}"]
    return []


def _classes(names: Sequence[str], parts: dict[str, slice], notes: Sequence[str], before: bool) -> Layout:
    """The layout, with the numbers of the folders of images that all lie one level down, in two or more of them."""
    tops = [name.partition("/")[0] for name in names]
    folders = {top for top, name in zip(tops, names, strict=True) if "/" in name}
    if len(folders) < 2:
        return Layout(parts, notes=tuple(notes))
    if stray := [name for name in names if name.count("/") != 1]:
        few = f"{len(stray):,} of {len(names):,} images lie elsewhere than one folder down, such as {shown(stray[0])}"
        return Layout(parts, notes=(*notes, *([] if before or notes else [f"the folders are no classes, as {few}"])))
    classes = sorted(folders) if before else sorted(folders, key=natural_order)
    numbers = {name: number for number, name in enumerate(classes)}
    labels = torch.tensor([numbers[top] for top in tops])
    if parts and (untrained := [classes[i] for i in set(labels.tolist()) - set(labels[parts["train"]].tolist())]):
        notes = [*notes, f"no training images are in {', '.join(map(shown, sorted(untrained)))}"]
    return Layout(parts, labels, tuple(classes), tuple(notes))
