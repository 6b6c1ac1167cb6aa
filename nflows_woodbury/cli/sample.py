"""``nflows-woodbury sample``: a grid of samples as PNG."""

from __future__ import annotations

import argparse

from nflows_woodbury.cli.drawing import announce, check_png, class_names, draw_samples
from nflows_woodbury.cli.flags import (
    Command,
    add_checkpoint,
    add_drawing,
    add_last_weights,
    add_number,
    add_picture,
)

__all__ = ["COMMAND"]


def add_flags(command: argparse.ArgumentParser) -> None:
    """The run, and how it is drawn from."""
    add_checkpoint(command)
    add_number(command, "--num", 36, "images")
    add_drawing(command)
    add_last_weights(command)
    add_picture(command, "samples.png")


def run(
    checkpoint: str, *, num: int = 36, temperature: float = 1.0, label: str | None = None, seed: int = 0,
    averaged: bool = True, out: str = "samples.png",
) -> None:  # fmt: skip
    """Draw, and print where the picture is."""
    check_png(out)
    from nflows_woodbury.checkpoint import find_device, load_flow
    from nflows_woodbury.evaluation.pictures import image_grid, save_png

    flow, saved = load_flow(checkpoint, averaged=averaged)
    samples = draw_samples(flow.to(find_device()), saved, num, temperature, label, seed)
    if label is None and (names := class_names(saved)):
        print(f"classes in turn: {', '.join(names)}")
    announce("samples:", save_png(image_grid(samples), out, zoom=2, drawn=True))


COMMAND = Command("write a grid of samples of a trained flow as PNG", add_flags, run)
