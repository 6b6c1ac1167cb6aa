"""What a shell completes after ``nflows-woodbury``: commands, flags, names and files."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from nflows_woodbury.config import COUPLINGS, DEQUANTIZERS, FIRSTS, MIXINGS, SQUEEZES, START_NAMES
from nflows_woodbury.train.config import PRECISIONS, SCHEDULES
from nflows_woodbury.train.presets import PRESETS

__all__ = ["SHELLS", "completion"]

SHELLS = ("bash", "zsh")

_NAMES: dict[str, Iterable[str]] = {
    "mixing": MIXINGS,
    "coupling": COUPLINGS,
    "dequantize": DEQUANTIZERS,
    "squeeze": SQUEEZES,
    "first": FIRSTS,
    "start": ("default", *START_NAMES),
    "schedule": SCHEDULES,
    "precision": PRECISIONS,
    "preset": PRESETS,
}
_FILES = {"checkpoint", "checkpoints", "data", "out", "resume"}


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script that completes a command line of ``parser`` in a shell; names and files are marked in ``parser``."""
    import shtab

    for action in _actions(parser):
        if action.dest in _NAMES:
            action.choices = list(_NAMES[action.dest])
        elif action.dest in _FILES:
            setattr(action, "complete", shtab.FILE)  # noqa: B010, as shtab finds it
        elif action.dest == "words":
            action.choices = ["show", *PRESETS]
    script: str = shtab.complete(parser, shell)
    return script


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Those of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
