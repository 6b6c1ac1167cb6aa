"""A flow of short video clips, a window that moves over photographs, with and without mixing over time.

A clip (frames, colours, height, width) goes through image_flow as an image of frames * colours channels.
"""

import argparse
from functools import partial
from math import tau

import torch
from nflows.transforms import ReversePermutation, Transform
from torch.nn import functional as F

from nflows_woodbury import AffineCoupling, Chain, LowRankChain, LowRankTransform, image_flow
from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.data.opening import open_source
from nflows_woodbury.evaluation.likelihood import bits_per_dim, png_bits_per_dim
from nflows_woodbury.evaluation.pictures import image_grid, save_png

FRAMES, COLOURS, SIDE, CROP = 8, 3, 16, 40
KINDS = ["frames reversed", "time", "time and colours as one"]


def clips(photos: torch.Tensor, seed: int) -> torch.Tensor:
    """Pan and zoom once over each crop, uint8 (N, 3, CROP, CROP): frames as channels, uint8 (N, 24, SIDE, SIDE)."""
    noise = torch.rand(4, len(photos), 1, generator=torch.Generator().manual_seed(seed))
    moment = torch.linspace(0, 1, FRAMES)
    zoom = SIDE / CROP * (1 + 0.25 * torch.lerp(noise[0], noise[1], moment))
    way, angle = noise[2] * (0.9 * moment - 0.45), tau * noise[3]  # of the window's middle, within the crop
    maps = torch.stack([zoom, 0 * zoom, way * angle.cos(), 0 * zoom, zoom, way * angle.sin()], -1).view(-1, 2, 3)
    grid = F.affine_grid(maps, [len(maps), COLOURS, SIDE, SIDE], align_corners=False)
    frames = F.grid_sample(photos.float().repeat_interleave(FRAMES, 0), grid, align_corners=False)
    return frames.round().byte().view(len(photos), FRAMES * COLOURS, SIDE, SIDE)


class View(Transform):
    """The same numbers in another shape."""

    def __init__(self, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        super().__init__()
        self.before, self.after = before, after

    def forward(self, inputs: torch.Tensor, context: None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """From ``before`` to ``after``."""
        return inputs.reshape(-1, *self.after), inputs.new_zeros(len(inputs))

    def inverse(self, inputs: torch.Tensor, context: None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """And back."""
        return inputs.reshape(-1, *self.before), inputs.new_zeros(len(inputs))


def mixing(kind: str, shape: tuple[int, int, int]) -> Chain:
    """Mix a clip whose frames come as channels. Each level has half the sides and half the frames of the one before."""
    frames = FRAMES * 2 * shape[1] // SIDE
    clip = frames, shape[0] // frames, *shape[1:]
    update = partial(LowRankTransform, clip)
    pixels = update((2, 3), 16, "cancelling")
    mixed = {
        "frames reversed": [ReversePermutation(frames), LowRankChain([update((1,), 8), pixels])],
        "time": [LowRankChain([update((0,), frames // 2), update((1,), 8), pixels])],
        "time and colours as one": [LowRankChain([update((0, 1), 8 + frames // 2), pixels])],
    }
    return Chain([View(shape, clip), *mixed[kind], View(clip, shape)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--mixings", nargs="*", choices=KINDS, default=KINDS, metavar="MIXING", help=f"of {KINDS}")
    parser.add_argument("--iterations", type=int, default=250)
    parser.add_argument("--hidden-channels", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="video_flow.png", help="test clips, and samples of the best model")
    args = parser.parse_args()
    source = open_source("photos", size=CROP)
    test, best, samples = clips(source.test.images, 0), float("inf"), None
    print(f"{'each frame as PNG':24} {png_bits_per_dim(test[:64].view(-1, COLOURS, SIDE, SIDE)):.2f} bits/dim")
    for kind in args.mixings:
        torch.manual_seed(args.seed)
        coupling = partial(AffineCoupling, hidden_channels=args.hidden_channels)
        flow = image_flow(test.shape[1:], levels=2, steps=4, mixing=partial(mixing, kind), coupling=coupling)
        flow.initialize(clips(source.batch(0, 128, seed=args.seed).images, args.seed))
        optimizer = torch.optim.Adam(flow.parameters(), 2e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.iterations)
        for step in range(args.iterations):
            loss = flow(clips(source.batch(step, 16, seed=args.seed).images, step)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        bits = bits_per_dim(flow.eval(), ImageSet(test)).mean().item()
        print(f"{kind:24} {bits:.2f} test bits/dim", flush=True)
        best, samples = (bits, flow.sample(8, temperature=0.8)) if bits < best else (best, samples)
    films = torch.stack([test[:8], samples], 1).view(16, FRAMES, COLOURS, SIDE, SIDE)
    frames = F.pad(films, (0, 0, 0, 0, 0, 0, 0, 1), value=255).flatten(0, 1)  # a white one ends each film
    print("test clips, samples:", save_png(image_grid(frames, 2 * FRAMES + 2), args.output, zoom=3))


if __name__ == "__main__":
    main()
