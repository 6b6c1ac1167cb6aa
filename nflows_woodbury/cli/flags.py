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


def add_drawing(command: argparse.ArgumentParser) -> None:
    """How samples are drawn."""
    add_number(command, "--temperature", 1.0, "factor on the noise")
    add_number(command, "--label", "in turn", "class of all samples", int)
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
