"""``nflows-woodbury publish``: a trained flow as one file to be given to others, and a card that says what it is."""

from __future__ import annotations

import argparse

from nflows_woodbury.cli.flags import Command, add_last_weights
from nflows_woodbury.files import check_writable

__all__ = ["COMMAND"]


def add_flags(command: argparse.ArgumentParser) -> None:
    """The run, and what its reader has to know."""
    command.add_argument("run_folder", metavar="run", help="the folder of a run that is done")
    command.add_argument("--out", required=True, metavar="FILE", help="FILE.safetensors; the card goes to FILE.md")
    command.add_argument("--licence", required=True, metavar="TEXT", help="of the images, such as CC0")
    add_last_weights(command)


def run(run_folder: str, *, out: str, licence: str, averaged: bool = True) -> None:
    """Write both files, and print where they are."""
    check_writable(out)
    from nflows_woodbury.evaluation.publishing import publish

    place = publish(run_folder, out, licence=licence, averaged=averaged)
    print(f"weights: {out}\ncard:    {place}")


COMMAND = Command("write a trained flow's weights and a card, to be given to others", add_flags, run)
