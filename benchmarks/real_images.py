"""Real images through flows with every mixing and every coupling: how exactly they come back, and the log-dets.

Run it with: python benchmarks/real_images.py --data cifar.npz --images 10000 --mixings all

Each flow is trained for a few steps first, so that no parameter is at its start. Printed and written as JSON for each:

* in float64, over all images: the pixel values that do not come back, and the largest ``|forward + inverse log-det|``;
  on crops of some of them, with a flow of the same parts that is built for that size and trained on crops, the largest
  difference from the log-det of the dense Jacobian by autograd (a whole 32 x 32 image has one of 9.4 million entries).
  Differences are relative, and absolute where the log-det is below 1;
* in float32, over all images: the largest move of a dequantized value, in bins, and the share of values that flip.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from nflows_woodbury.config import COUPLINGS, MIXINGS, FlowConfig
from nflows_woodbury.data.opening import open_source
from nflows_woodbury.data.sources import ImageSource
from nflows_woodbury.flow import ImageFlow

COLUMNS = {  # of the table: heading, entry of the record, format
    "loss": ("training_bits_per_dim", ".3f"),
    "values wrong": ("float64_values_that_differ", "d"),
    "there and back": ("float64_logabsdet_there_and_back", ".0e"),
    "autograd": ("float64_logabsdet_and_autograd", ".0e"),
    "float32 bins": ("float32_largest_move_in_bins", ".1e"),
    "float32 flips": ("float32_share_of_values_that_flip", ".1e"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="photos", help="as in nflows-woodbury train (default: photos)")
    for name, choices, other in [("mixings", MIXINGS, "affine coupling"), ("couplings", COUPLINGS, "1x1 convolution")]:
        text = f"{', '.join(choices)}; or all (default), each with the {other}"
        parser.add_argument(f"--{name}", nargs="+", default=["all"], choices=["all", *choices], metavar="", help=text)
    parser.add_argument("--images", type=int, default=10_000, help="images that go there and back (default: 10,000)")
    parser.add_argument("--steps", type=int, default=200, help="training steps before, of 32 images (default: 200)")
    parser.add_argument("--levels", type=int, default=FlowConfig.levels, help="of the flows (default: 3)")
    parser.add_argument("--flow-steps", type=int, default=FlowConfig.steps, help="of each level (default: 4)")
    parser.add_argument("--hidden-channels", type=int, default=FlowConfig.hidden_channels)
    parser.add_argument("--crops", type=int, default=20, help="crops whose dense Jacobian is taken (default: 20)")
    parser.add_argument("--crop-size", type=int, default=12, help="their side, for flows of 2 levels (default: 12)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("real_images.json"))
    options = parser.parse_args()
    source = open_source(options.data)
    images, records = take(source, options), []
    print(f"{'mixing':14}{'coupling':10}" + "".join(f"{heading:>16}" for heading in COLUMNS))
    for mixing, coupling in pairs(options.mixings, options.couplings):
        records.append({"mixing": mixing, "coupling": coupling, **run(source, images, mixing, coupling, options)})
        row = "".join(f"{format(records[-1][key], form):>16}" for key, form in COLUMNS.values())
        print(f"{mixing:14}{coupling:10}{row}", flush=True)
        settings = vars(options) | {"out": str(options.out), "images": len(images)}
        options.out.write_text(json.dumps({"settings": settings, "flows": records}, indent=2) + "\n")


def pairs(mixings: list[str], couplings: list[str]) -> list[tuple[str, str]]:
    """Every mixing with every coupling; where one is ``all``, only those with a 1x1 convolution or affine coupling."""
    every = product(MIXINGS if "all" in mixings else mixings, COUPLINGS if "all" in couplings else couplings)
    if "all" not in [*mixings, *couplings]:
        return list(every)
    return [pair for pair in every if pair[0] == "conv1x1" or pair[1] == "affine"]


def take(source: ImageSource, options: argparse.Namespace) -> Tensor:
    """The test images, and training images if these are too few."""
    count = min(options.images, len(source.test))
    images = source.test.take(np.arange(count)).images
    if count == options.images:
        return images
    return torch.cat([images, source.batch(0, options.images - count, seed=options.seed).images])


def run(source: ImageSource, images: Tensor, mixing: str, coupling: str, options: argparse.Namespace) -> dict:
    torch.manual_seed(options.seed)
    start = perf_counter()
    parts = {"steps": options.flow_steps, "mixing": mixing, "coupling": coupling}
    parts["hidden_channels"] = options.hidden_channels
    flow = FlowConfig(shape=source.shape, levels=options.levels, **parts).build()
    loss = train(flow, lambda step, count: source.batch(step, count, seed=options.seed).images, options.steps)
    size = options.crop_size
    small = FlowConfig(shape=(source.shape[0], size, size), levels=2, **parts).build()
    train(small, lambda step, count: crops(source.batch(step, count, seed=options.seed).images, size), options.steps)
    return {
        "training_bits_per_dim": loss,
        **in_float32(flow, images),
        **in_float64(flow, images),
        "float64_logabsdet_and_autograd": against_autograd(small, crops(images[: options.crops], size)),
        "seconds": perf_counter() - start,
    }


def train(flow: ImageFlow, batch: Callable[[int, int], Tensor], steps: int) -> float:
    flow.initialize(batch(0, 256))
    optimizer = torch.optim.Adam(flow.parameters(), 1e-3)
    for step in range(steps):
        loss = flow(batch(step, 32)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    flow.eval()
    return float(loss.detach())


def crops(images: Tensor, size: int) -> Tensor:
    """One crop of each image, anywhere in it."""
    corners = [[int(torch.randint(side - size + 1, ())) for side in image.shape[1:]] for image in images]
    return torch.stack([x[:, i : i + size, j : j + size] for x, (i, j) in zip(images, corners, strict=True)])


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
    """The largest difference between the log-dets of a flow and of its Jacobians, one image at a time."""
    dequantize, multiscale = flow.double()._transform
    apart = 0.0
    for image in images.split(1):
        values, _ = dequantize(image)
        entries = values.numel()
        copies = values.expand(entries, *values.shape[1:]).clone().requires_grad_()
        outputs, logabsdet = multiscale(copies)
        (jacobian,) = torch.autograd.grad(outputs, copies, torch.eye(entries, dtype=outputs.dtype))
        apart = max(apart, relative(logabsdet[:1], torch.linalg.slogdet(jacobian.flatten(1)).logabsdet[None]))
    return apart


def relative(logabsdet: Tensor, expected: Tensor) -> float:
    return float(((logabsdet - expected).abs() / expected.abs().clamp_min(1)).detach().max())


if __name__ == "__main__":
    main()
