"""How exactly a trained flow gives images back: all bits in float64, fractions of a bin in float32.

Run it with: python benchmarks/round_trip.py --data cifar.npz
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch

from nflows_woodbury.loading import open_source
from nflows_woodbury.presets import COUPLINGS, MIXINGS, FlowConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="photos", help="as in nflows-woodbury train (default: photos)")
    parser.add_argument("--mixing", default="woodbury", help=", ".join(MIXINGS))
    parser.add_argument("--coupling", default="affine", help=", ".join(COUPLINGS))
    parser.add_argument("--images", type=int, default=10_000, help="images that go there and back (default: 10,000)")
    parser.add_argument("--steps", type=int, default=200, help="training steps before (default: 200)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    source = open_source(options.data)
    torch.manual_seed(options.seed)
    flow = FlowConfig(shape=source.shape, mixing=options.mixing, coupling=options.coupling).build()
    flow.initialize(source.batch(0, 256, seed=options.seed).images)
    optimizer = torch.optim.Adam(flow.parameters(), 1e-3)
    for step in range(options.steps):
        loss = flow(source.batch(step, 32, seed=options.seed).images).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    count = min(options.images, len(source.test))
    images = source.test.take(np.arange(count)).images
    if count < options.images:  # then from the training images
        more = source.batch(0, options.images - count, seed=options.seed).images
        images = torch.cat([images, more])
    report = {"loss": float(loss.detach()), "images": len(images), **measure(flow, images)}
    print(json.dumps(vars(options) | report, indent=2))


@torch.no_grad()
def measure(flow: torch.nn.Module, images: torch.Tensor) -> dict[str, float]:
    flow.eval()
    dequantize, multiscale = flow._transform
    moved, flipped = 0.0, 0
    for batch in images.split(250):
        values, _ = dequantize(batch)
        back, _ = multiscale.inverse(multiscale(values)[0])
        moved = max(moved, float((back - values).abs().max()) * 256)
        flipped += int((dequantize.inverse(back)[0] != batch).sum())
    flow.double()
    wrong = sum(
        int((flow.transform_from_noise(flow.transform_to_noise(batch)) != batch).sum()) for batch in images.split(250)
    )
    return {
        "float32_largest_move_in_bins": moved,
        "float32_share_of_values_that_flip": flipped / images.numel(),
        "float64_values_that_differ": wrong,
    }


if __name__ == "__main__":
    main()
