"""``nflows-woodbury evaluate``: the test bits/dim of trained flows, with all that led to them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from nflows_woodbury.cli.flags import Command, add_data, add_last_weights, add_number
from nflows_woodbury.files import check_writable, to_json, write_json

__all__ = ["COMMAND"]


def add_flags(command: argparse.ArgumentParser) -> None:
    """Runs, images, and how the estimate is made."""
    command.add_argument("checkpoints", nargs="+", metavar="checkpoint", help="a checkpoint, or the folder of a run")
    add_data(command)
    add_number(command, "--samples", 1, "estimates for each image, averaged")
    add_number(command, "--importance-samples", 1, "draws of the noise for each estimate: a tighter bound")
    add_number(command, "--seed", 0, "of the noise")
    add_number(command, "--limit", "all", "only the first N test images", int)
    add_last_weights(command)
    command.add_argument("--json", dest="out", metavar="FILE", help="also write the records to this file")


def run(
    checkpoints: Sequence[str], *, data: str | None = None, samples: int = 1, importance_samples: int = 1,
    seed: int = 0, limit: int | None = None, averaged: bool = True, out: str | None = None,
) -> None:  # fmt: skip
    """Print the records as JSON and, of several, their spread; ValueError names the runs that cannot be evaluated."""
    if out is not None:
        check_writable(out)
    from nflows_woodbury.evaluation.record import evaluate, spread

    records: list[dict[str, Any]] = []
    failed: list[str] = []
    try:
        for checkpoint in checkpoints:
            try:
                records += evaluate(
                    [checkpoint], data=data, samples=samples, importance_samples=importance_samples, seed=seed,
                    limit=limit, averaged=averaged,
                )  # fmt: skip
            except (ValueError, TypeError, OSError) as error:
                if len(checkpoints) == 1:
                    raise
                failed.append(f"{checkpoint}: {error}")
    finally:  # a signal, too, leaves what was done
        _write(records, out)
    if len(records) > 1:
        print(spread(records), file=sys.stderr)
    if failed:
        raise ValueError(f"{len(failed)} of {len(checkpoints)} runs cannot be evaluated; {'; '.join(failed)}")


def _write(records: list[dict[str, Any]], out: str | None) -> None:
    if records and out is not None:
        write_json(out, records)
    if records and out != "/dev/stdout":
        print(to_json(records))


COMMAND = Command("print trained flows' test bits/dim, with all that led to it", add_flags, run)
