"""``nflows-woodbury score``: how strange each image of a folder is to a trained flow."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nflows_woodbury.cli.drawing import check_png
from nflows_woodbury.cli.flags import Command, add_checkpoint, add_last_weights, add_name, add_number
from nflows_woodbury.files import check_writable, whole_file

if TYPE_CHECKING:
    from nflows_woodbury.evaluation.anomalies import ScoredImages

__all__ = ["COMMAND"]

_SHOWN = 18  # of the most and of the least likely images


def add_flags(command: argparse.ArgumentParser) -> None:
    """The run, the images, and what is written."""
    add_checkpoint(command)
    command.add_argument(
        "--data", metavar="DATA", help="a folder of images, an image, or as in train (default: the run's test images)"
    )
    command.add_argument("--csv", metavar="FILE", help="where the scores go (default: standard output)")
    command.add_argument("--png", metavar="FILE", help="also draw the strangest and the most usual images")
    add_name(command, "--sort", "bits_per_dim", "strangest first by bits_per_dim, difference or norm_distance")
    add_name(command, "--normal", "normal", "class folder of usual images, for the AUROC of each score")
    add_number(command, "--samples", 4, "draws of the noise for each image")
    add_number(command, "--limit", 1000, "test images of the run to compare with, at most")
    add_number(command, "--seed", 0, "of the noise")
    command.add_argument("--skip-broken", action="store_true", help="leave out images that cannot be read")
    add_last_weights(command)


def run(
    checkpoint: str, *, data: str | None = None, png: str | None = None, sort: str = "bits_per_dim",
    normal: str = "normal", **options: Any,
) -> None:  # fmt: skip
    """Write the scores, strangest first, and print how well each tells the classes apart."""
    table = options.pop("csv", None)
    if png is not None:
        check_png(png, "png")
    if table is not None:
        check_writable(table)
    from nflows_woodbury.evaluation.anomalies import score_data

    scored = score_data(checkpoint, data, sort=sort, **options)
    text = _text(scored)
    if table is None:
        sys.stdout.write(text)
    else:
        with whole_file(table) as new:
            new.write_text(text, encoding="utf-8", newline="")
    out = sys.stderr if table is None else sys.stdout
    print(f"{len(scored.rows)} images beside {scored.references} test images of the run, by {sort}", file=out)
    for line in scored.separation(normal):
        print(line, file=out)
    if table is not None:
        print(f"scores: {table}", file=out)
    if png is not None:
        print(f"pictures: {_draw(scored, png, sort)}", file=out)


def _text(scored: ScoredImages) -> str:
    """The rows as CSV."""
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, scored.columns)
    writer.writeheader()
    writer.writerows(scored.rows)
    return buffer.getvalue()


def _draw(scored: ScoredImages, png: str, sort: str) -> Path:
    from nflows_woodbury.evaluation.pictures import captioned, save_png

    half = min(_SHOWN, (len(scored.rows) + 1) // 2)
    places = [*range(half), *range(max(half, len(scored.rows) - half), len(scored.rows))]
    captions = [f"{float(scored.rows[i][sort]):.3f}\n{scored.rows[i]['file'][-18:]}" for i in places]
    return save_png(captioned(scored.images[places], captions, columns=6), png, drawn=True)


COMMAND = Command("score images by how strange they are to a trained flow", add_flags, run)
