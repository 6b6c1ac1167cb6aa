"""One table of all numbers of the results page: published, ours, with which settings, of how many seeds, and where."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tables import list_table

DATA = {
    "cifar10": "CIFAR-10", "imagenet32": "ImageNet 32 x 32", "imagenet64": "ImageNet 64 x 64",
    "celeba-hq64": "CelebA-HQ 64 x 64", "celeba-hq128": "CelebA-HQ 128 x 128", "celeba-hq256": "CelebA-HQ 256 x 256",
}  # fmt: skip
STEPS = {
    "conv1x1": "Glow (1x1 convolution)", "emerging": "emerging", "periodic": "periodic", "spline": "neural spline",
    "macow": "MaCow", "woodbury": "Woodbury", "me-woodbury": "ME-Woodbury",
}  # fmt: skip
HEADER = ("images", "flow step", "published", "ours", "setting of ours", "seeds", "measured")
NOT_PUBLISHED = "none of this size"
NOT_RUN = "none: a run of the preset takes days on a GPU"

Row = tuple[str, ...]  # a cell for each of HEADER


def table(rows: Iterable[Row]) -> str:
    """The whole table; rows that differ in the flow step alone, as they are empty, become one."""
    merged: list[list[str]] = []
    for images, step, *others in rows:
        is_empty = not any(others[-2:])
        if merged and is_empty and [images, *others] == [merged[-1][0], *merged[-1][2:]]:
            merged[-1][1] += f", {step}"
        else:
            merged.append([images, step, *others])
    return list_table(HEADER, merged)


def published(source: dict[str, Any], ours: Callable[[str], Sequence[Row]]) -> list[Row]:
    """The rows of a publication: each number of its table, and ours with the same preset, ``(ours, ..., measured)``."""
    rows: list[Row] = []
    for data, cells in source["published"].items():
        steps = source.get("steps", {}).get(data)
        after = f"after {steps:,} steps" if steps else "steps not given"
        for name, cell in cells.items():
            theirs = f"{source['title']}: " + (f"{_number(cell)}, {after}" if cell else source["missing"])
            none = "none: its setting is no preset" if source.get("alone") else NOT_RUN
            found = () if source.get("alone") else ours(f"{data}-{name}")
            rows += [(DATA[data], STEPS[name], theirs, *run) for run in found or [(none, "", "", "")]]
    return rows


def _number(cell: dict[str, str]) -> str:
    return cell["bits_per_dim"] + (f", {cell['parameters']} parameters" if "parameters" in cell else "")
