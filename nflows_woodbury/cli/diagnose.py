"""``nflows-woodbury diagnose``: how well a trained flow and each of its layers invert."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nflows_woodbury.cli.drawing import first_images
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


def run(
    checkpoint: str, *, data: str | None = None, num: int | None = None, temperature: float = 1.0, seed: int = 0,
    averaged: bool = True,
) -> None:  # fmt: skip
    """Print a line for each layer and two for the whole flow; ArithmeticError for those that cannot be trusted."""
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


def _print(reports: Sequence[LayerReport]) -> None:
    width = max(len(report.name) for report in reports)
    print(f"{'layer':<{width}}{'condition':>12}{'log-det/dim':>13}{'round trip':>12}  kind")
    for r in reports:
        condition = "" if r.condition is None else f"{r.condition:.3g}"
        print(f"{r.name:<{width}}{condition:>12}{r.logabsdet:>13.4f}{r.round_trip:>12.1e}  {r.kind}")


COMMAND = Command("print how well a trained flow and each of its layers invert", add_flags, run)
