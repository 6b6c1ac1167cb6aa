"""From 8 to 32 pixels: an image flow given a small image, at every level, and a picture of input, samples and truth."""

import argparse
from functools import partial

import torch
from torch.nn import functional as F

from nflows_woodbury import AffineCoupling, ConditionNet, HaarSqueeze, ImageFlow, WoodburyTransform, image_flow
from nflows_woodbury.data.opening import open_source
from nflows_woodbury.evaluation.pictures import image_grid, save_png

SMALL, FEATURES = 8, 32


def shrunk(images: torch.Tensor) -> torch.Tensor:
    """Images, uint8, averaged over cells to 8 x 8 pixels, uint8."""
    return F.adaptive_avg_pool2d(images.float(), SMALL).round().to(torch.uint8)


def build(shape: tuple[int, ...], args: argparse.Namespace) -> ImageFlow:
    return image_flow(
        shape,
        levels=args.levels,
        steps=args.steps,
        mixing=partial(WoodburyTransform, ranks=(8, 16)),
        coupling=partial(AffineCoupling, hidden_channels=args.hidden_channels, context_features=FEATURES),
        condition=partial(ConditionNet, in_channels=shape[0], features=FEATURES, hidden_channels=48),
        context_features=FEATURES,
        squeeze=HaarSqueeze,  # means of cells first: what the small image knows is what deeper levels hold
    )


@torch.no_grad()
def bits_per_dim(flow: ImageFlow, images: torch.Tensor, given: torch.Tensor) -> float:
    parts = zip(images.split(64), given.split(64), strict=True)
    return float(torch.cat([flow(some, small) for some, small in parts]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data", default="photos", help="as in nflows-woodbury train: photos, a folder, a file")
    parser.add_argument("--size", type=int, default=32, help="side of the large images")
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="flow steps per level")
    parser.add_argument("--hidden-channels", type=int, default=48)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--temperature", type=float, default=0.8, help="of the samples")
    parser.add_argument("--test-images", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="super_resolution.png")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    source = open_source(args.data, size=args.size)
    flow = build(source.shape, args)
    images = source.batch(0, min(256, source.train_size), seed=args.seed).images
    flow.initialize(images, shrunk(images))
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.iterations)
    for step in range(args.iterations):
        images = source.batch(step, args.batch_size, seed=args.seed).images
        loss = flow(images, shrunk(images)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step:5}  {loss.item():.3f} bits/dim", flush=True)
    flow.eval()
    test = source.test.images[: args.test_images]
    small = shrunk(test)
    print(f"test bits/dim given the small image      {bits_per_dim(flow, test, small):.3f}")
    print(f"test bits/dim given that of another one  {bits_per_dim(flow, test, small.roll(1, 0)):.3f}")
    shown = small[:8]
    samples = flow.sample(4, shown, temperature=args.temperature)
    off = (shrunk(samples.flatten(0, 1)).float() - shown.repeat_interleave(4, 0).float()).abs().mean()
    print(f"samples, shrunk again, differ from their input by {float(off):.1f} of 255 on average")
    large = shown.repeat_interleave(args.size // SMALL, 2).repeat_interleave(args.size // SMALL, 3)
    rows = torch.cat([large[:, None], samples, test[:8, None]], 1)
    picture = save_png(image_grid(rows.flatten(0, 1), columns=6), args.output, zoom=3)
    print("input, four samples, truth, in a row each:", picture)


if __name__ == "__main__":
    main()
