"""The model of normflows' Glow notebook with its blocks swapped for ours: any mixing in normflows' MultiscaleFlow."""

from __future__ import annotations

import argparse
from functools import partial
from math import log, prod

import normflows as nf
import torch

from nflows_woodbury import InvertibleConv1x1, MEWoodburyTransform, UniformDequantize, WoodburyTransform, initialize
from nflows_woodbury.data.opening import open_source
from nflows_woodbury.evaluation.pictures import image_grid, save_png
from nflows_woodbury.normflows import NormflowsAdapter, register

Shape = tuple[int, int, int]
MIXINGS = {
    "woodbury": partial(WoodburyTransform, ranks=(8, 16)),
    "me-woodbury": partial(MEWoodburyTransform, ranks=(8, 16, 16)),
    "conv1x1": InvertibleConv1x1,
}


def build(shape: Shape, levels: int, blocks: int, hidden_channels: int, mixing: str) -> nf.MultiscaleFlow:
    channels, height, width = shape
    q0, merges, flows = [], [], []
    for i in range(levels):  # the deepest level first, as normflows has it
        sides = height // 2 ** (levels - i), width // 2 ** (levels - i)
        level = (channels * 2 ** (levels + 1 - i), *sides)
        flows_ = [nf.flows.WoodburyGlowBlock(level, hidden_channels, mixing=MIXINGS[mixing]) for _ in range(blocks)]
        flows += [[*flows_, nf.flows.Squeeze()]]
        if i > 0:
            merges += [nf.flows.Merge()]
        latent = level if i == 0 else (level[0] // 2, *sides)
        q0 += [nf.distributions.GlowBase(latent)]
    return nf.MultiscaleFlow(q0, flows, merges, transform=NormflowsAdapter(UniformDequantize()), class_cond=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data", default="photos", help="'photos', a .npz file or a folder of images")
    parser.add_argument("--size", type=int, default=32, help="side of the images")
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--blocks", type=int, default=4, help="blocks per level")
    parser.add_argument("--hidden-channels", type=int, default=48)
    parser.add_argument("--mixing", choices=sorted(MIXINGS), default="woodbury")
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--output", default="samples_normflows.png")
    args = parser.parse_args()
    torch.manual_seed(0)
    register()  # puts WoodburyGlowBlock, Woodbury, ... into normflows.flows
    source = open_source(args.data, size=args.size)
    model = build(source.shape, args.levels, args.blocks, args.hidden_channels, args.mixing)
    initialize(model, source.batch(0, 4 * args.batch_size, seed=0).images)  # ActNorm
    bits = 1 / (prod(source.shape) * log(2))
    optimizer = torch.optim.Adamax(model.parameters(), lr=1e-3, weight_decay=1e-5)
    for step in range(args.iterations):
        loss = model.forward_kld(source.batch(step, args.batch_size, seed=0).images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0 or step == args.iterations - 1:
            print(f"step {step:5}  {bits * loss.item():.3f} bits/dim", flush=True)
    model.eval()
    with torch.no_grad():
        print(f"test        {bits * model.forward_kld(source.test.images[:256]).item():.3f} bits/dim")
        samples, _ = model.sample(32, temperature=0.7)
    save_png(image_grid(samples, columns=8), args.output, zoom=4)
    print(f"samples     {args.output}")


if __name__ == "__main__":
    main()
