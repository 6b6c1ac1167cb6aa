"""``nflows-woodbury diagnose``: how well each layer of a trained flow inverts."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nflows_woodbury.cli.drawing import first_images
from nflows_woodbury.cli.flags import Command, add_checkpoint, add_data, add_last_weights, add_number

if TYPE_CHECKING:
    from nflows_woodbury.evaluation.diagnosis import LayerReport

__all__ = ["COMMAND"]


def add_flags(command: argparse.ArgumentParser) -> None:
    """The run, and how many images."""
    add_checkpoint(command)
    add_data(command)
    add_number(command, "--num", 16, "test images to run through the layers")
    add_number(command, "--seed", 0, "of the dequantization noise")
    add_last_weights(command)


def run(checkpoint: str, *, data: str | None = None, num: int = 16, seed: int = 0, averaged: bool = True) -> None:
    """Print a line for each layer; ArithmeticError for layers that cannot be trusted."""
    import torch

    from nflows_woodbury.checkpoint import open_run
    from nflows_woodbury.evaluation.diagnosis import diagnose
    from nflows_woodbury.evaluation.samples import class_numbers, reconstructions

    trained = open_run(checkpoint, data, averaged=averaged)
    images = first_images(trained.source.test, num)
    batch, context = images.images.to(trained.device), class_numbers(trained.flow, images.labels)
    torch.manual_seed(seed)
    reports = diagnose(trained.flow, batch, context)
    cleared = 8 - trained.saved["flow"]["bits"]  # a model of fewer bits clears the lower ones
    changed = (reconstructions(trained.flow, batch, context) >> cleared) != (batch >> cleared)
    _print(reports)
    print(f"whole flow: {changed.sum()} of {changed.numel()} pixel values change on their way to noise and back")
    if unsound := [report.name for report in reports if not report.is_sound]:
        raise ArithmeticError(f"{len(unsound)} layers cannot be trusted: {', '.join(unsound)}")


def _print(reports: Sequence[LayerReport]) -> None:
    width = max(len(report.name) for report in reports)
    print(f"{'layer':<{width}}{'condition':>12}{'log-det/dim':>13}{'round trip':>12}  kind")
    for r in reports:
        condition = "" if r.condition is None else f"{r.condition:.3g}"
        print(f"{r.name:<{width}}{condition:>12}{r.logabsdet:>13.4f}{r.round_trip:>12.1e}  {r.kind}")


COMMAND = Command("print how well each layer of a trained flow inverts", add_flags, run)
