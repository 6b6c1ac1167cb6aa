"""What the commands share: how a command is described, and flags that several of them have."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = [
    "Command",
    "add_checkpoint",
    "add_data",
    "add_drawing",
    "add_last_weights",
    "add_name",
    "add_number",
    "add_picking",
    "add_picture",
]

# What imports torch or Lightning is imported by the command that needs it, when it runs: help texts wait for neither.


@dataclass(frozen=True)
class Command:
    """A command: a line on what it does, what adds its flags, and what runs it with the flags that were given."""

    summary: str
    add_flags: Callable[[argparse.ArgumentParser], None]
    run: Callable[..., None]


def add_number(group: Any, flag: str, default: object, text: str, kind: type | None = None) -> None:
    """Add a flag that takes a number, of the default's type unless ``kind`` says which."""
    kind = kind or type(default)
    group.add_argument(flag, type=kind, metavar="N" if kind is int else "X", help=f"{text} (default: {default})")


def add_name(group: Any, flag: str, default: str, text: str) -> None:
    """Add a flag that takes one of some names."""
    group.add_argument(flag, metavar="NAME", help=f"{text} (default: {default})")


def add_checkpoint(command: argparse.ArgumentParser) -> None:
    """The run that the command is about."""
    command.add_argument("checkpoint", help="a checkpoint, or the folder of a run")


def add_data(command: argparse.ArgumentParser) -> None:
    """Images other than the run's."""
    command.add_argument("--data", metavar="DATA", help="as in train (default: the data of the run)")


def add_picking(group: Any) -> None:
    """Which images of the data count, and as what."""
    group.add_argument(
        "--size", type=_size, metavar="N",
        help="side of the images, or WIDTHxHEIGHT (default: that of the data, 32 for photos)",
    )  # fmt: skip
    add_number(
        group, "--test-images", "about a tenth", "images to hold out of data without a test set; 0 for the data's own",
        int,
    )  # fmt: skip
    group.add_argument("--skip-broken", action="store_true", help="leave out images that cannot be read")


def _size(text: str) -> int | tuple[int, int]:
    """One side, or WIDTHxHEIGHT as (height, width)."""
    sides = [int(side) for side in text.lower().split("x")]
    if len(sides) > 2:
        raise ValueError(text)
    return sides[0] if len(sides) == 1 else (sides[1], sides[0])


def add_drawing(command: argparse.ArgumentParser) -> None:
    """How samples are drawn."""
    add_number(command, "--temperature", 1.0, "factor on the noise")
    command.add_argument("--label", metavar="CLASS", help="class of all samples, by name or number (default: in turn)")
    add_number(command, "--seed", 0, "of the noise")


def add_last_weights(command: argparse.ArgumentParser) -> None:
    """The averaged weights, or the last ones."""
    command.add_argument(
        "--last-weights", dest="averaged", action="store_false",
        help="use the last weights, where the run has averaged ones",
    )  # fmt: skip


def add_picture(command: argparse.ArgumentParser, default: str) -> None:
    """Where the picture goes."""
    command.add_argument("--out", metavar="FILE", help=f"where the picture goes (default: {default})")
