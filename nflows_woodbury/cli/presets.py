"""``nflows-woodbury presets``: the paper's experiments, or every setting of one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from nflows_woodbury.cli.flags import Command

__all__ = ["COMMAND"]


def add_flags(command: argparse.ArgumentParser) -> None:
    """Nothing, or ``show NAME``, and whether memory is counted."""
    command.add_argument(
        "words", nargs="*", default=[], metavar="show NAME", help="every setting of one, and its source"
    )
    command.add_argument(
        "--memory", action="store_true", help="of one: what a training step takes, counted in some seconds"
    )


def run(words: Sequence[str], memory: bool = False) -> None:
    """Print the table, or one preset."""
    from nflows_woodbury.train.presets import describe, overview, settings_of

    if not words and not memory:
        print(*overview(), sep="\n")
    elif len(words) == 2 and words[0] == "show":
        print(describe(words[1]))
        if memory:
            from nflows_woodbury.train.memory import needed_card

            flow, training = settings_of(words[1])
            print(needed_card(flow, training.batch_size))
    else:
        given = " ".join([*words, "--memory"] if memory else words)
        raise ValueError(f"presets must be followed by nothing or by 'show NAME', got {given!r}")


COMMAND = Command("list the paper's experiments, or show one", add_flags, run)
