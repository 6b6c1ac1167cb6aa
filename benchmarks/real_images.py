"""Trained flows on real images: how exactly images come back, and how exact the log-dets are.

Run it on runs of nflows-woodbury compare or train: python benchmarks/real_images.py comparison/*-0 --images 10000

Printed and written as JSON for each:

* in float64, over all images: the pixel values that do not come back, and the largest ``|forward + inverse log-det|``;
  of a few of them, where an image has at most ``--entries`` entries, the largest difference from the log-det of the
  dense Jacobian by autograd. Differences are relative, and absolute where the log-det is below 1;
* in float32, over all images: the largest move of a dequantized value, in bins, and the share of values that flip.
"""

from __future__ import annotations

import argparse
import json
from math import nan
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nflows_woodbury.checkpoint import open_run
from nflows_woodbury.data.sources import ImageSource
from nflows_woodbury.flow import ImageFlow

COLUMNS = {  # of the table: heading, entry of the record, format
    "values wrong": ("float64_values_that_differ", "d"),
    "there and back": ("float64_logabsdet_there_and_back", ".0e"),
    "autograd": ("float64_logabsdet_and_autograd", ".0e"),
    "float32 bins": ("float32_largest_move_in_bins", ".1e"),
    "float32 flips": ("float32_share_of_values_that_flip", ".1e"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="folders of runs, or checkpoints")
    parser.add_argument("--images", type=int, default=10_000, help="images that go there and back (default: 10,000)")
    parser.add_argument("--jacobians", type=int, default=5, help="images whose dense Jacobian is taken (default: 5)")
    parser.add_argument("--entries", type=int, default=1000, help="that an image has at most, for that (default: 1000)")
    parser.add_argument("--out", type=Path, default=Path("real_images.json"))
    options = parser.parse_args()
    records = []
    print(f"{'run':30}" + "".join(f"{heading:>16}" for heading in COLUMNS))
    for name in options.runs:
        run = open_run(name)
        flow, images = run.flow.cpu(), take(run.source, options.images)
        few = images[: options.jacobians if images[0].numel() <= options.entries else 0]
        record = {**in_float32(flow, images), **in_float64(flow, images)}
        record["float64_logabsdet_and_autograd"] = against_autograd(flow, few)
        records.append({"run": name, "images": len(images), "flow": run.saved["flow"], **record})
        print(f"{name:30}" + "".join(f"{format(record[key], form):>16}" for key, form in COLUMNS.values()), flush=True)
        options.out.write_text(json.dumps(records, indent=2) + "\n")


def take(source: ImageSource, count: int) -> Tensor:
    """The test images, and training images if these are too few."""
    images = source.test.take(np.arange(min(count, len(source.test)))).images
    if len(images) == count:
        return images
    return torch.cat([images, source.batch(0, min(count, source.train_size) - len(images), seed=0).images])


@torch.no_grad()
def in_float32(flow: ImageFlow, images: Tensor) -> dict[str, float]:
    dequantize, multiscale = flow.float()._transform
    moved, flipped = 0.0, 0
    for batch in images.split(250):
        values, _ = dequantize(batch)
        back, _ = multiscale.inverse(multiscale(values)[0])
        moved = max(moved, float((back - values).abs().max()) * 256)
        flipped += int((dequantize.inverse(back)[0] != batch).sum())
    return {
        "float32_largest_move_in_bins": moved,
        "float32_share_of_values_that_flip": flipped / images.numel(),
    }


@torch.no_grad()
def in_float64(flow: ImageFlow, images: Tensor) -> dict[str, float]:
    dequantize, multiscale = flow.double()._transform
    wrong, apart = 0, 0.0
    for batch in images.split(250):
        noise, logabsdet = multiscale(dequantize(batch)[0])
        back, inverse_logabsdet = multiscale.inverse(noise)
        wrong += int((dequantize.inverse(back)[0] != batch).sum())
        apart = max(apart, relative(-inverse_logabsdet, logabsdet))
    return {"float64_values_that_differ": wrong, "float64_logabsdet_there_and_back": apart}


def against_autograd(flow: ImageFlow, images: Tensor) -> float:
    """The largest difference between the log-dets of a flow and of its Jacobians, one image at a time; nan for none."""
    dequantize, multiscale = flow.double()._transform
    apart = []
    for image in images.split(1) if len(images) else ():
        values, _ = dequantize(image)
        entries = values.numel()
        copies = values.expand(entries, *values.shape[1:]).clone().requires_grad_()
        outputs, logabsdet = multiscale(copies)
        (jacobian,) = torch.autograd.grad(outputs, copies, torch.eye(entries, dtype=outputs.dtype))
        apart.append(relative(logabsdet[:1], torch.linalg.slogdet(jacobian.flatten(1)).logabsdet[None]))
    return max(apart, default=nan)


def relative(logabsdet: Tensor, expected: Tensor) -> float:
    return float(((logabsdet - expected).abs() / expected.abs().clamp_min(1)).detach().max())


if __name__ == "__main__":
    main()
