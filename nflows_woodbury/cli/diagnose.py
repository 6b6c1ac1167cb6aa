"""``nflows-woodbury diagnose``: how well a trained flow and each of its layers invert, now and along its training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nflows_woodbury.cli.drawing import announce, check_png, first_images
from nflows_woodbury.cli.flags import Command, add_checkpoint, add_data, add_last_weights, add_number

if TYPE_CHECKING:
    from nflows_woodbury.evaluation.diagnosis import LayerReport

__all__ = ["COMMAND"]

NUM = 16


def add_flags(command: argparse.ArgumentParser) -> None:
    """The run, and how many images."""
    add_checkpoint(command)
    add_data(command)
    add_number(command, "--num", NUM, "test images to run through the layers")
    add_number(command, "--temperature", 1.0, "factor on the noise that goes to images and back")
    add_number(command, "--seed", 0, "of the dequantization noise, and of that noise")
    add_last_weights(command)
    command.add_argument(
        "--history", action="store_true", help="instead print what the run noted of its layers while it was trained"
    )
    command.add_argument("--png", metavar="FILE", help="also draw that history")


def run(
    checkpoint: str, *, data: str | None = None, num: int | None = None, temperature: float = 1.0, seed: int = 0,
    averaged: bool = True, history: bool = False, png: str | None = None,
) -> None:  # fmt: skip
    """Print a line for each layer and two for the whole flow; ArithmeticError for those that cannot be trusted."""
    if history or png is not None:
        given = {
            "data": data is not None, "num": num is not None, "temperature": temperature != 1.0, "seed": seed != 0,
            "last-weights": not averaged,
        }  # fmt: skip
        if names := " and ".join(name for name, is_given in given.items() if is_given):
            raise ValueError(f"{names} must be left out with --history and --png: it is of what the run noted then")
        _print_history(checkpoint, png)
        return
    import torch

    from nflows_woodbury.checkpoint import open_run
    from nflows_woodbury.evaluation.diagnosis import MAX_CHANGED, diagnose
    from nflows_woodbury.evaluation.samples import as_inputs, class_numbers

    trained = open_run(checkpoint, data, averaged=averaged)
    images = first_images(trained.source.test, num, NUM)
    batch, context = as_inputs(trained.flow, images.images), class_numbers(trained.flow, images.labels)
    torch.manual_seed(seed)
    reports = diagnose(trained.flow, batch, context, temperature=temperature)
    _print(reports)
    for report in reports:
        if report.changed is not None:
            changed = round(report.changed * batch.numel())
            print(f"whole flow: {changed} of {batch.numel()} pixel values change, {report.name}")
    unsound = [report for report in reports if not report.is_sound]
    layers = [report.name for report in unsound if report.changed is None]
    ways = [report.name for report in unsound if report.changed is not None]
    complaints = [f"{len(layers)} layers cannot be trusted: {', '.join(layers)}"] if layers else []
    if ways:
        complaints.append(f"the whole flow changes more than {MAX_CHANGED:.0%} of pixel values: {', '.join(ways)}")
    if complaints:
        raise ArithmeticError("; ".join(complaints))


def _print_history(checkpoint: str, png: str | None) -> None:
    """A line for each time that the run looked at its layers."""
    if png is not None:
        check_png(png, "png")
    from nflows_woodbury.checkpoint import find_checkpoint
    from nflows_woodbury.evaluation.history import HISTORY, draw, read_history, table

    moments = read_history(checkpoint)  # without a checkpoint, if the run was killed before the first one
    if not moments:
        place = find_checkpoint(checkpoint).absolute().parent
        folder = place.parent if place.name == "checkpoints" else place
        moments = read_history(folder)
    if not moments:
        raise FileNotFoundError(
            f"{folder / HISTORY} is not there: a run writes it while it trains, and older versions did not; without "
            "--history and --png the layers are looked at as they are now"
        )
    print(*table(moments), sep="\n")
    if png is not None:
        draw(png, moments)
        announce("picture:", Path(png))


def _print(reports: Sequence[LayerReport]) -> None:
    width = max(len(report.name) for report in reports)
    print(f"{'layer':<{width}}{'condition':>12}{'log-det/dim':>13}{'round trip':>12}  kind")
    for r in reports:
        condition = "" if r.condition is None else f"{r.condition:.3g}"
        print(f"{r.name:<{width}}{condition:>12}{r.logabsdet:>13.4f}{r.round_trip:>12.1e}  {r.kind}")


COMMAND = Command("print how well a trained flow and each of its layers invert", add_flags, run)
