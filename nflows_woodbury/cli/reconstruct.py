"""``nflows-woodbury reconstruct``: test images, each beside what comes back from its noise."""

from __future__ import annotations

import argparse

from nflows_woodbury.cli.drawing import announce, check_png, first_images
from nflows_woodbury.cli.flags import Command, add_checkpoint, add_data, add_last_weights, add_number, add_picture

__all__ = ["COMMAND"]

NUM = 18


def add_flags(command: argparse.ArgumentParser) -> None:
    """The run, and how many images."""
    add_checkpoint(command)
    add_data(command)
    add_number(command, "--num", NUM, "test images, each beside what comes back from its noise")
    add_number(command, "--seed", 0, "of the dequantization noise")
    add_last_weights(command)
    add_picture(command, "reconstructions.png")


def run(
    checkpoint: str, *, data: str | None = None, num: int | None = None, seed: int = 0, averaged: bool = True,
    out: str = "reconstructions.png",
) -> None:  # fmt: skip
    """Draw, and print where the picture is."""
    check_png(out)
    import torch

    from nflows_woodbury.checkpoint import open_run
    from nflows_woodbury.evaluation.colours import pictured
    from nflows_woodbury.evaluation.pictures import pair_grid, save_png
    from nflows_woodbury.evaluation.samples import as_inputs, class_numbers, reconstructions

    trained = open_run(checkpoint, data, averaged=averaged)
    images = first_images(trained.source.test, num, NUM)
    torch.manual_seed(seed)
    context = class_numbers(trained.flow, images.labels)
    back = reconstructions(trained.flow, as_inputs(trained.flow, images.images), context).cpu()
    announce("reconstructions:", save_png(pair_grid(*pictured(images.images, back)), out, zoom=2, drawn=True))


COMMAND = Command("write test images beside what comes back from noise", add_flags, run)
