"""Real images through flows with every mixing and coupling: do they come back, and is the log-det the Jacobian's?

Each flow is trained for a few steps first. Run it with: python benchmarks/real_images.py --data cifar.npz --mixings all

Printed and written as JSON, flow by flow, over all images:

* in float64: pixel values that do not come back; the largest ``|forward + inverse log-det|``, relative, and absolute
  below 1; the same between the log-det and that of the dense Jacobian by autograd, on crops of the images, with a flow of
  the same parts that is built for that size and trained on such crops (a Jacobian of a whole 32 x 32 image has 9.4
  million entries);
* in float32: the largest move of a dequantized value, in bins, and the share of pixel values that flip.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from nflows_woodbury.data import ImageSource
from nflows_woodbury.flow import ImageFlow
from nflows_woodbury.loading import open_source
from nflows_woodbury.presets import COUPLINGS, MIXINGS, FlowConfig

BATCH = 250
COLUMNS = {  # of the table: the record's entry, and how it is written
    "bits/dim": ("loss", ".3f"),
    "wrong in float64": ("float64_values_that_differ", "d"),
    "forward + inverse": ("float64_logabsdet_forward_and_inverse", ".1e"),
    "autograd": ("float64_logabsdet_and_autograd", ".1e"),
    "float32 move, bins": ("float32_largest_move_in_bins", ".1e"),
    "float32 flips": ("float32_share_of_values_that_flip", ".1e"),
    "seconds": ("seconds", ".0f"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="photos", help="as in nflows-woodbury train (default: photos)")
    parser.add_argument("--mixings", nargs="+", default=["all"], help=f"all (default), or of {', '.join(MIXINGS)}")
    parser.add_argument("--couplings", nargs="+", default=["all"], help=f"all (default), or of {', '.join(COUPLINGS)}")
    parser.add_argument("--images", type=int, default=10_000, help="images that go there and back (default: 10,000)")
    parser.add_argument("--steps", type=int, default=200, help="training steps before (default: 200)")
    parser.add_argument("--levels", type=int, default=FlowConfig.levels)
    parser.add_argument("--flow-steps", type=int, default=FlowConfig.steps, help="of each level")
    parser.add_argument("--hidden-channels", type=int, default=FlowConfig.hidden_channels)
    parser.add_argument("--crops", type=int, default=20, help="crops whose dense Jacobian is taken (default: 20)")
    parser.add_argument("--crop-size", type=int, default=8, help="their side, in flows of one level (default: 8)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("real_images.json"))
    options = parser.parse_args()
    source, records = open_source(options.data), []
    images = take(source, options.images, options.seed)
    print("".join(f"{name:>20}" for name in ["mixing", "coupling", *COLUMNS]))
    for mixing, coupling in pairs(options.mixings, options.couplings):
        start = perf_counter()
        record = run(source, images, mixing, coupling, options) | {"seconds": perf_counter() - start}
        values = [mixing, coupling, *(format(record[key], form) for key, form in COLUMNS.values())]
        print("".join(f"{value:>20}" for value in values), flush=True)
        records.append(record)
        settings = {key: str(value) for key, value in vars(options).items()}
        options.out.write_text(json.dumps({"settings": settings, "flows": records}, indent=2) + "\n")


def pairs(mixings: list[str], couplings: list[str]) -> list[tuple[str, str]]:
    """Each mixing with each coupling; those that come in by ``all`` only with the 1x1 convolution or affine coupling."""
    named = product(*(COUPLINGS if n == ["all"] and i else MIXINGS if n == ["all"] else n for i, n in enumerate((mixings, couplings))))
    if ["all"] not in (mixings, couplings):
        return list(named)
    return [(mixing, coupling) for mixing, coupling in named if mixing == "conv1x1" or coupling == "affine"]


def run(source: ImageSource, images: Tensor, mixing: str, coupling: str, options: argparse.Namespace) -> dict:
    parts = {"mixing": mixing, "coupling": coupling, "hidden_channels": options.hidden_channels}
    torch.manual_seed(options.seed)
    ranks_of_levels = FlowConfig(shape=source.shape, levels=options.levels, steps=options.flow_steps, **parts)
    flow = ranks_of_levels.build()
    loss = train(flow, lambda step, size: source.batch(step, size, seed=options.seed).images, options.steps)
    size = options.crop_size
    small = FlowConfig(shape=(source.shape[0], size, size), levels=1, steps=options.flow_steps, **parts).build()
    train(small, lambda step, n: crop(source.batch(step, n, seed=options.seed).images, size, step), options.steps)
    record = {"mixing": mixing, "coupling": coupling, "loss": loss, "images": len(images), "crops": options.crops}
    record |= in_float32(flow, images) | in_float64(flow, images)
    return record | {"float64_logabsdet_and_autograd": against_autograd(small, crop(images[: options.crops], size, 0))}
