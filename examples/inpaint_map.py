"""Fill a hole in photographs by the likeliest noise: MAP in the latent space of an image flow.

The flow is frozen; the gradient goes through ``decode`` to the noise ``z``, which minimises
``|mask (decode(z) - y)|^2 / (2 sigma^2) + |z|^2 / 2`` for what is seen of the image, ``y``. Beside it stands the
biharmonic filling of scikit-image, which knows no photographs.
"""

import argparse
from functools import partial
from math import log10

import torch
from skimage.restoration import inpaint_biharmonic

from nflows_woodbury import AffineCoupling, ImageFlow, WoodburyTransform, image_flow
from nflows_woodbury.checkpoint import load_flow
from nflows_woodbury.data.opening import open_source
from nflows_woodbury.data.sources import ImageSource
from nflows_woodbury.evaluation.pictures import image_grid, save_png


def train(source: ImageSource, args: argparse.Namespace) -> ImageFlow:
    """A small flow, for those who have no run."""
    coupling = partial(AffineCoupling, hidden_channels=args.hidden_channels)
    mixing = partial(WoodburyTransform, ranks=(8, 16))
    flow = image_flow(source.shape, levels=args.levels, steps=args.steps, mixing=mixing, coupling=coupling)
    flow.initialize(source.batch(0, 256, seed=args.seed).images)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.iterations)
    for step in range(args.iterations):
        loss = flow(source.batch(step, 32, seed=args.seed).images).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    print(f"trained to {float(loss):.2f} bits/dim", flush=True)
    return flow.eval()


def fill(flow: ImageFlow, seen: torch.Tensor, mask: torch.Tensor, args: argparse.Namespace) -> torch.Tensor:
    """The most probable images, as floats in [-1/2, 1/2), given the pixels where ``mask`` is 1."""
    flow.requires_grad_(False)
    noise = torch.zeros(len(seen), seen[0].numel(), requires_grad=True)
    optimizer = torch.optim.Adam([noise], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.search_steps)
    for step in range(args.search_steps):
        sigma = 0.3 * (args.sigma / 0.3) ** (step / args.search_steps)  # at once, a small one leaves noise where it is
        misfit = (mask * (flow.decode(noise) - seen)).square().sum() / (2 * sigma**2)
        loss = misfit + noise.square().sum() / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return flow.decode(noise).detach()


def psnr(found: torch.Tensor, truth: torch.Tensor, hole: torch.Tensor) -> float:
    """Peak signal to noise ratio in decibels, over the pixels of the hole."""
    return -10 * log10(float(((found - truth).clamp(-1, 1) * hole).square().mean() / hole.mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--checkpoint", help="a run of nflows-woodbury train on photos; else a small flow is trained")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--hole", type=int, default=8, help="side of the hole, in the middle")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--hidden-channels", type=int, default=48)
    parser.add_argument("--iterations", type=int, default=1000, help="of the training")
    parser.add_argument("--search-steps", type=int, default=300, help="of the search for the noise")
    parser.add_argument("--sigma", type=float, default=0.02, help="by which seen pixels may differ, of a range of 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="inpainting.png")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    source = open_source("photos", size=args.size)
    flow = train(source, args) if args.checkpoint is None else load_flow(args.checkpoint)[0]
    truth = (source.test.images[: args.images].float() + 0.5) / 256 - 0.5
    hole = torch.zeros_like(truth)
    start = (args.size - args.hole) // 2
    hole[:, :, start : start + args.hole, start : start + args.hole] = 1
    mean = (truth * (1 - hole)).sum((2, 3), keepdim=True) / (1 - hole).sum((2, 3), keepdim=True)
    seen = truth * (1 - hole) + mean * hole
    smooth = [inpaint_biharmonic(x.numpy(), hole[0, 0].numpy() > 0, channel_axis=0) for x in seen]
    biharmonic = torch.stack([torch.from_numpy(x).float() for x in smooth])
    found = fill(flow, seen, 1 - hole, args) * hole + truth * (1 - hole)
    for name, images in (("mean", seen), ("biharmonic", biharmonic), ("flow, MAP", found)):
        print(f"{name:12}{psnr(images, truth, hole):6.2f} dB in the hole")
    rows = torch.cat([truth, seen, biharmonic, found])
    picture = image_grid(((rows + 0.5) * 256).clamp(0, 255).to(torch.uint8), columns=args.images)
    print("truth, hole, biharmonic, flow:", save_png(picture, args.output, zoom=2))


if __name__ == "__main__":
    main()
