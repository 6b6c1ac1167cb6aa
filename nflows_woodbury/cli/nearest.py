"""``nflows-woodbury nearest``: samples beside the training images nearest to them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nflows_woodbury.cli.drawing import announce, check_images, check_png, count_of, draw_samples, first_images
from nflows_woodbury.cli.flags import (
    Command,
    add_checkpoint,
    add_data,
    add_drawing,
    add_last_weights,
    add_number,
    add_picture,
)

__all__ = ["COMMAND", "Nearest", "nearest"]

NEIGHBOURS = 5


def add_flags(command: argparse.ArgumentParser) -> None:
    """The run, and how it is drawn from."""
    add_checkpoint(command)
    add_data(command)
    add_number(command, "--num", 8, "samples, one row each")
    add_number(command, "--neighbours", NEIGHBOURS, "training images beside each sample, the nearest first")
    add_drawing(command)
    add_last_weights(command)
    add_picture(command, "nearest.png")


@dataclass(frozen=True)
class Nearest:
    """Distances to the nearest training image, root mean squares over pixels of 0 to 255."""

    picture: Path
    of_samples: list[float]
    of_tests: float  # the median over as many test images


def nearest(
    checkpoint: str, *, data: str | None = None, num: int = 8, neighbours: int | None = None, temperature: float = 1.0,
    label: str | None = None, seed: int = 0, averaged: bool = True, out: str = "nearest.png",
) -> Nearest:  # fmt: skip
    """Draw rows of a sample and the training images nearest to it."""
    check_png(out)
    import torch

    from nflows_woodbury.checkpoint import open_run
    from nflows_woodbury.evaluation.pictures import image_grid, save_png
    from nflows_woodbury.evaluation.samples import nearest_images

    trained = open_run(checkpoint, data, averaged=averaged)
    check_images(trained.saved, "nearest", "as distances are over pixels of 0 to 255")
    samples = draw_samples(trained.flow, trained.saved, num, temperature, label, seed)
    neighbours = count_of(neighbours, NEIGHBOURS, trained.source.train_size, "training images")
    tests = first_images(trained.source.test, None, num).images
    distances, images = nearest_images(torch.cat([samples, tests]), trained.source.training(1000), neighbours)
    of_samples, of_tests = (distances[:, 0] * samples[0].numel() ** -0.5).split([num, len(tests)])
    rows = torch.cat([samples[:, None], images[:num]], 1)
    picture = save_png(image_grid(rows.flatten(0, 1), columns=neighbours + 1), out, zoom=2, drawn=True)
    return Nearest(picture, of_samples.tolist(), float(of_tests.median()))


def run(checkpoint: str, **flags: Any) -> None:
    """Draw, and print the distances."""
    found = nearest(checkpoint, **flags)
    print(
        "distance to the nearest training image, root mean square over pixels of 0 to 255\n"
        f"samples:          {' '.join(f'{distance:.1f}' for distance in found.of_samples)}\n"
        f"test images:      {found.of_tests:.1f} (median)"
    )
    announce("nearest images:  ", found.picture)


COMMAND = Command("write samples beside the training images nearest to them", add_flags, run)
