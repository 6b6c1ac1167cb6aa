"""``nflows-woodbury presets``: the paper's experiments, or every setting of one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from nflows_woodbury.cli.flags import Command

__all__ = ["COMMAND"]


def add_flags(command: argparse.ArgumentParser) -> None:
    """Nothing, or ``show NAME``."""
    command.add_argument(
        "words", nargs="*", default=[], metavar="show NAME", help="every setting of one, and its source"
    )


def run(words: Sequence[str]) -> None:
    """Print the table, or one preset."""
    from nflows_woodbury.train.memory import card
    from nflows_woodbury.train.presets import describe, overview, settings_of

    if not words:
        print(*overview(), sep="\n")
    elif words[0] == "show" and len(words) == 2:
        print(describe(words[1]))
        flow, training = settings_of(words[1])
        print(card(flow, training.batch_size))
    else:
        raise ValueError(f"presets must be followed by nothing or by 'show NAME', got {' '.join(words)!r}")


COMMAND = Command("list the paper's experiments, or show one", add_flags, run)
