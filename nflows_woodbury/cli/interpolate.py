"""``nflows-woodbury interpolate``: pictures on a straight line between the noises of two test images."""

from __future__ import annotations

import argparse

from nflows_woodbury.checks import check_positive_int
from nflows_woodbury.cli.drawing import announce, check_png, count_of, first_images
from nflows_woodbury.cli.flags import Command, add_checkpoint, add_data, add_last_weights, add_number, add_picture

__all__ = ["COMMAND"]

PAIRS = 4


def add_flags(command: argparse.ArgumentParser) -> None:
    """The run, and how many rows and columns."""
    add_checkpoint(command)
    add_data(command)
    add_number(command, "--pairs", PAIRS, "pairs of test images, one row each")
    add_number(command, "--num", 8, "pictures in a row, the two ends included")
    add_number(command, "--seed", 0, "of the dequantization noise")
    add_last_weights(command)
    add_picture(command, "interpolations.png")


def run(
    checkpoint: str, *, data: str | None = None, pairs: int | None = None, num: int = 8, seed: int = 0,
    averaged: bool = True, out: str = "interpolations.png",
) -> None:  # fmt: skip
    """Draw, and print where the picture is."""
    check_png(out)
    import numpy as np
    import torch

    from nflows_woodbury.checkpoint import open_run
    from nflows_woodbury.evaluation.colours import pictured
    from nflows_woodbury.evaluation.pictures import image_grid, save_png
    from nflows_woodbury.evaluation.samples import as_inputs, class_numbers, interpolations

    trained = open_run(checkpoint, data, averaged=averaged)
    tests = trained.source.test
    if len(tests) < 2:
        raise ValueError(f"data must have two test images or more, for a pair, got {len(tests)}")
    pairs = check_positive_int("pairs", count_of(pairs, PAIRS, len(tests) // 2, "pairs of test images"))
    images = first_images(tests, 2 * pairs, 2 * pairs)
    first, second = (images.take(np.arange(i, 2 * pairs, 2)) for i in (0, 1))
    torch.manual_seed(seed)
    start, end = (class_numbers(trained.flow, part.labels) for part in (first, second))
    context = None if start is None or end is None else (start, end)
    ends = [as_inputs(trained.flow, part.images) for part in (first, second)]
    (rows,) = pictured(interpolations(trained.flow, ends[0], ends[1], num, context).flatten(0, 1))
    announce("interpolations:", save_png(image_grid(rows, columns=num), out, zoom=2, drawn=True))


COMMAND = Command("write pictures on the way between test images", add_flags, run)
