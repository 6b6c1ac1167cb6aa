"""What Woodbury may lack beside the emerging convolution: variants of it, trained alike, on validation images.

Run it with: python benchmarks/variants.py --data cifar16-val.npz --max-steps 3000 --seeds 2

Each run adds a line to --out, and those that are there are not run again. The flow is 2 levels of 2 steps with 32
hidden channels; batches of 32 images, half of them mirrored, Adam at 1e-3 with cosine decay after 50 steps of warm-up.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import process_time

import torch
from nflows.transforms.base import InverseTransform, Transform
from torch import Tensor

from nflows_woodbury.config import FlowConfig, compose, paper_ranks
from nflows_woodbury.data.opening import open_source
from nflows_woodbury.data.sources import ImageSource
from nflows_woodbury.evaluation.likelihood import bits_per_dim
from nflows_woodbury.flow import ImageFlow, Part, Shape, image_flow
from nflows_woodbury.train.config import TrainingConfig
from nflows_woodbury.transforms import (
    AffineCoupling,
    Chain,
    LowRankTransform,
    Squeeze,
    WoodburyTransform,
)
from nflows_woodbury.transforms.initialization import DataInitialized

FLOW = FlowConfig(levels=2, steps=2, hidden_channels=32)


class Roll(Transform):
    """Moves an image by one pixel along the diagonal, around its edges; log-det 0."""

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return inputs.roll((1, 1), (2, 3)), inputs.new_zeros(len(inputs))

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return inputs.roll((-1, -1), (2, 3)), inputs.new_zeros(len(inputs))


class Whitening(LowRankTransform, DataInitialized):
    """A low-rank update that starts by whitening and rotating the leading principal components of its axes."""

    def initialize(self, inputs: Tensor) -> None:
        values = inputs.transpose(0, 1).flatten(1) if self.axes[0] == 0 else inputs.flatten(2).flatten(0, 1).mT
        rank = min(self.rank, self.size)
        variances, directions = torch.linalg.eigh(torch.cov(values.double(), correction=0))
        Q, scales = directions[:, -rank:], variances[-rank:].clamp_min(1e-4).rsqrt()
        rotation = torch.linalg.qr(torch.randn(rank, rank, dtype=torch.float64)).Q
        U, V = Q @ (rotation * scales - torch.eye(rank)), Q.mT
        if self.axes[0] != 0:  # x (I + U V)
            U, V = V.mT, U.mT
        self.U[:, :rank], self.V[:rank] = U.to(self.U), V.to(self.V)
        self.V[rank:] = 0


def in_blocks(shape: Shape, rank: int, init: str) -> list[Transform]:
    """``I + U V`` on the channels of 2 x 2 pixels together."""
    c, h, w = shape
    update = LowRankTransform((4 * c, h // 2, w // 2), axes=0, rank=rank, init=init)
    return [Squeeze(), update, InverseTransform(Squeeze())]


def windows(shape: Shape, rank: int, init: str) -> list[Transform]:
    """Blocks, and those that lie across their corners."""
    return [*in_blocks(shape, rank, init), Roll(), *in_blocks(shape, rank, "cancelling"), InverseTransform(Roll())]


def windows_for_channels(dc: int, ds: int) -> Part:
    return lambda shape: Chain([*windows(shape, 16, "reflection"), LowRankTransform(shape, (1, 2), ds, "cancelling")])


def windows_after(dc: int, ds: int) -> Part:
    return lambda shape: Chain([WoodburyTransform(shape, (dc, ds)), *windows(shape, 8, "cancelling")])


def whitened(dc: int, ds: int) -> Part:
    return lambda shape: Chain([Whitening(shape, 0, dc), LowRankTransform(shape, (1, 2), ds, "cancelling")])


def whitened_pixels(dc: int, ds: int) -> Part:
    return lambda shape: Chain([Whitening(shape, 0, dc), Whitening(shape, (1, 2), ds)])


def in_turn(names: list[str], dc: int, ds: int) -> Part:
    """One mixing in the first step of a level, the other in the second, and so on."""
    parts = [compose(name, dc, ds) for name in names]
    made: list[Transform] = []

    def mixing(shape: Shape) -> Transform:
        made.append(parts[len(made) % len(parts)](shape))
        return made[-1]

    return mixing


def named(name: str) -> Callable[[int, int], Part]:
    return partial(compose, name)


#: variant -> mixing of a level's ranks, and its learning rates in thousandths, of the low-rank factors and of the rest
VARIANTS: dict[str, tuple[Callable[[int, int], Part], float, float]] = {
    "woodbury": (named("woodbury"), 1, 1),
    "emerging": (named("emerging"), 1, 1),
    "emerging, woodbury in turn": (partial(in_turn, ["emerging", "woodbury"]), 1, 1),
    "emerging+woodbury": (named("emerging+woodbury"), 1, 1),
    "windows for channels": (windows_for_channels, 1, 1),
    "woodbury, then windows": (windows_after, 1, 1),
    "whitened channels": (whitened, 1, 1),
    "whitened channels and pixels": (whitened_pixels, 1, 1),
    "factors at 3 times the rate": (named("woodbury"), 3, 1),
    "factors at 10 times the rate": (named("woodbury"), 10, 1),
    "all at 3 times the rate": (named("woodbury"), 3, 3),
    "emerging, all at 3 times the rate": (named("emerging"), 3, 3),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="photos", help="as in nflows-woodbury train (default: photos)")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS, metavar="NAME")
    parser.add_argument("--max-steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("variants.jsonl"))
    options = parser.parse_args()
    source = open_source(options.data, size=16 if options.data == "photos" else None)
    there = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    done = {(record["variant"], record["seed"], record["max_steps"]) for record in there}
    for seed in range(options.seeds):
        for name in options.variants:
            if (name, seed, options.max_steps) not in done:
                record = {"variant": name, "data": source.name, **run(source, name, seed, options.max_steps)}
                print(f"{name:30} seed {seed}  {record['bits_per_dim']:.3f}  {record['cpu_seconds']:.0f} s", flush=True)
                with options.out.open("a") as file:
                    file.write(json.dumps(record) + "\n")


def run(source: ImageSource, name: str, seed: int, max_steps: int) -> dict[str, float]:
    torch.manual_seed(seed)
    flow = build(source.shape, name)
    flow.initialize(source.batch(0, 256, seed=seed).images)
    start = process_time()
    train(flow, source, seed, max_steps, *VARIANTS[name][1:])
    seconds = process_time() - start
    return {
        "seed": seed, "max_steps": max_steps, "bits_per_dim": float(bits_per_dim(flow.eval(), source.test).mean()),
        "cpu_seconds": round(seconds, 1), "parameters": sum(parameter.numel() for parameter in flow.parameters()),
    }  # fmt: skip


def build(shape: Shape, name: str) -> ImageFlow:
    mixings = [VARIANTS[name][0](dc, ds) for dc, ds in zip(*paper_ranks(FLOW.levels), strict=True)]
    coupling = partial(AffineCoupling, hidden_channels=FLOW.hidden_channels)
    return image_flow(shape, levels=FLOW.levels, steps=FLOW.steps, mixing=mixings, coupling=coupling)


def train(flow: ImageFlow, source: ImageSource, seed: int, max_steps: int, of_factors: float, of_rest: float) -> None:
    named = list(flow.named_parameters())
    factors = [parameter for name, parameter in named if name.endswith((".U", ".V"))]
    others = [parameter for name, parameter in named if not name.endswith((".U", ".V"))]
    groups = [{"params": others, "lr": 1e-3 * of_rest}, {"params": factors, "lr": 1e-3 * of_factors}]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, TrainingConfig(max_steps=max_steps).rate)
    mirrored = torch.Generator().manual_seed(seed)
    for step in range(max_steps):
        images = source.batch(step, 32, seed=seed).images
        flip = torch.rand(len(images), generator=mirrored) < 0.5
        loss = flow(torch.where(flip[:, None, None, None], images.flip(3), images)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


if __name__ == "__main__":
    main()
