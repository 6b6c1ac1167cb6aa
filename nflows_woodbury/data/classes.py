"""Classes by name: their order, and what a name or another data set's numbers stand for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

import torch

__all__ = ["class_number", "in_classes", "natural_order"]


def natural_order(name: str) -> tuple[object, ...]:
    """The key that sorts names as people count: numbers by value, all else by letters of any case.

    >>> sorted(["10", "2", "b", "A1", "1"], key=natural_order)
    ['1', '2', '10', 'A1', 'b']
    """
    parts = re.split(r"(\d+)", name)
    return tuple(
        (not part.isdecimal(), int(part) if part.isdecimal() else 0, part.casefold()) for part in parts if part
    ), name


def class_number(label: int | str, names: Sequence[str] | None, num_classes: int) -> int:
    """The number of the class that ``label`` is, a name or a number; ValueError for none of them.

    A name goes before a number: of the classes 1, 2 and 10 the text "10" is the last.

    >>> class_number("cats", ("birds", "cats"), 2), class_number("0", ("birds", "cats"), 2), class_number(1, None, 2)
    (1, 0, 1)
    >>> class_number("cat", ("birds", "cats"), 2)
    Traceback (most recent call last):
    ValueError: label must be one of the classes birds, cats, or their numbers from 0 to 1, got 'cat'; cats is near
    """
    if names is not None and str(label) in names:
        return list(names).index(str(label))
    if re.fullmatch(r"[0-9]+", str(label)) and int(label) < num_classes:
        return int(label)
    near = get_close_matches(str(label), names or (), 1)
    listed = f"one of the classes {_listed(names)}, or their numbers" if names else f"one of the {num_classes} classes,"
    hint = f"; {near[0]} is near" if near else ""
    raise ValueError(f"label must be {listed} from 0 to {num_classes - 1}, got {label!r}{hint}")


def in_classes(labels: torch.Tensor, names: Sequence[str] | None, wanted: Sequence[str]) -> torch.Tensor:
    """Labels that count ``names`` as labels that count ``wanted``; ValueError that names the classes not among them.

    Labels without names keep their numbers. Only classes that have images must be known.

    >>> in_classes(torch.tensor([0, 1, 1]), ("dogs", "cats"), ("birds", "cats", "dogs"))
    tensor([2, 1, 1])
    >>> in_classes(torch.tensor([0, 1]), ("cats", "owls"), ("birds", "cats", "dogs"))
    Traceback (most recent call last):
    ValueError: classes must be among birds, cats, dogs, as the model's, got owls
    """
    present = labels.unique().tolist()
    if names is None:
        if present and present[-1] >= len(wanted):
            raise ValueError(
                f"labels must be below {len(wanted)}, the number of the model's classes, got {present[-1]}"
            )
        return labels
    if unknown := [names[label] for label in present if names[label] not in wanted]:
        raise ValueError(f"classes must be among {_listed(wanted)}, as the model's, got {_listed(unknown)}")
    numbers = [wanted.index(name) if name in wanted else 0 for name in names]
    return torch.tensor(numbers, dtype=labels.dtype)[labels]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
