"""``nflows-woodbury sample``: a grid of samples as PNG, or the samples themselves."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nflows_woodbury.cli.drawing import announce, check_png, class_names, draw_samples
from nflows_woodbury.cli.flags import (
    Command,
    add_checkpoint,
    add_drawing,
    add_last_weights,
    add_number,
)
from nflows_woodbury.files import check_writable, whole_file

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["COMMAND"]


def add_flags(command: argparse.ArgumentParser) -> None:
    """The run, and how it is drawn from."""
    add_checkpoint(command)
    add_number(command, "--num", 36, "images")
    add_drawing(command)
    add_last_weights(command)
    command.add_argument(
        "--out", metavar="FILE", help="where the picture goes, or as .npy the samples as they are "
        "(default: samples.png, for fields samples.npy as well)"
    )  # fmt: skip


def run(
    checkpoint: str, *, num: int = 36, temperature: float = 1.0, label: str | None = None, seed: int = 0,
    averaged: bool = True, out: str | None = None,
) -> None:  # fmt: skip
    """Draw, and print where the picture is."""
    as_array = out is not None and Path(out).suffix.lower() == ".npy"
    if out is not None and as_array:
        check_writable(out)
    else:
        check_png(out or "samples.png")
    from nflows_woodbury.checkpoint import find_device, load_flow
    from nflows_woodbury.evaluation.colours import pictured
    from nflows_woodbury.evaluation.pictures import image_grid, save_png

    flow, saved = load_flow(checkpoint, averaged=averaged)
    samples = draw_samples(flow.to(find_device()), saved, num, temperature, label, seed)
    if label is None and (names := class_names(saved)):
        print(f"classes in turn: {', '.join(names)}")
    if as_array or (out is None and samples.is_floating_point()):
        announce("samples:", _save(samples, out or "samples.npy"))
    if not as_array:
        (pictures,) = pictured(samples)
        what = "picture:" if samples.is_floating_point() else "samples:"
        announce(what, save_png(image_grid(pictures), out or "samples.png", zoom=2, drawn=True))


def _save(samples: Tensor, out: str) -> Path:
    """Write the samples as an array (num, c, ...), whole or not at all."""
    import numpy as np

    with whole_file(out) as new, new.open("wb") as file:
        np.save(file, samples.numpy())
    return Path(out)


COMMAND = Command("write samples of a trained flow, as a grid in PNG or as an array in .npy", add_flags, run)
