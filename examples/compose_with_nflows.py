"""A plain nflows model, its own Flow, CompositeTransform, ActNorm and coupling, with Woodbury mixing between."""

from __future__ import annotations

import argparse
from math import log, prod

import torch
from nflows.distributions import StandardNormal
from nflows.flows import Flow
from nflows.nn.nets import ConvResidualNet
from nflows.transforms import ActNorm, AffineCouplingTransform, CompositeTransform

from nflows_woodbury import Squeeze, UniformDequantize, WoodburyTransform
from nflows_woodbury.data.opening import open_source
from nflows_woodbury.evaluation.pictures import image_grid, save_png

Shape = tuple[int, int, int]


def coupling(shape: Shape, hidden_channels: int) -> AffineCouplingTransform:
    mask = torch.arange(shape[0]) % 2  # nflows transforms the channels that are 1
    return AffineCouplingTransform(mask, lambda ins, outs: ConvResidualNet(ins, outs, hidden_channels, num_blocks=1))


def build(shape: Shape, levels: int, steps: int, hidden_channels: int) -> Flow:
    channels, height, width = shape
    transforms = []
    for _ in range(levels):
        channels, height, width = level = 4 * channels, height // 2, width // 2
        transforms.append(Squeeze())
        for _ in range(steps):
            transforms += [ActNorm(channels), WoodburyTransform(level, ranks=(8, 16)), coupling(level, hidden_channels)]
    return Flow(CompositeTransform(transforms), StandardNormal([channels, height, width]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data", default="photos", help="'photos', a .npz file or a folder of images")
    parser.add_argument("--size", type=int, default=16, help="side of the images")
    parser.add_argument("--levels", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4, help="flow steps per level")
    parser.add_argument("--hidden-channels", type=int, default=48)
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--output", default="samples_nflows.png")
    args = parser.parse_args()
    torch.manual_seed(0)
    source = open_source(args.data, size=args.size)
    flow, dequantize = build(source.shape, args.levels, args.steps, args.hidden_channels), UniformDequantize()

    def bits_per_dimension(images: torch.Tensor) -> torch.Tensor:
        values, logabsdet = dequantize(images)
        return -(flow.log_prob(values) + logabsdet).mean() / (prod(source.shape) * log(2))

    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
    for step in range(args.iterations):
        loss = bits_per_dimension(source.batch(step, args.batch_size, seed=0).images)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 10.0)
        optimizer.step()
        if step % 50 == 0 or step == args.iterations - 1:
            print(f"step {step:5}  {loss.item():.3f} bits/dim", flush=True)
    flow.eval()
    with torch.no_grad():
        print(f"test        {bits_per_dimension(source.test.images[:256]).item():.3f} bits/dim")
        samples, _ = dequantize.inverse(flow.sample(32))
    save_png(image_grid(samples, columns=8), args.output, zoom=4)
    print(f"samples     {args.output}")


if __name__ == "__main__":
    main()
