"""How the starts of the low-rank factors learn: test bits/dim after a short run, over seeds.

Run it with: python benchmarks/starts.py --data cifar.npz --out starts.jsonl
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from time import perf_counter

import numpy as np
import torch

from nflows_woodbury import AffineCoupling, InvertibleConv1x1, MEWoodburyTransform, WoodburyTransform, image_flow
from nflows_woodbury.config import paper_ranks
from nflows_woodbury.data.opening import open_source
from nflows_woodbury.evaluation.likelihood import bits_per_dim

LEVELS = 3


def woodbury(*init):
    return [partial(WoodburyTransform, ranks=ranks, init=init) for ranks in zip(*paper_ranks(LEVELS), strict=True)]


def me_woodbury(*init):
    return [
        partial(MEWoodburyTransform, ranks=(dc, ds, ds), init=init) for dc, ds in zip(*paper_ranks(LEVELS), strict=True)
    ]


SMALL, LARGE = "cancelling", "cancelling-unit"
VARIANTS = {
    "conv1x1": InvertibleConv1x1,
    "woodbury: paper": woodbury("paper", "paper"),
    "woodbury: reflection, cancelling 0.3": woodbury("reflection", SMALL),
    "woodbury: reflection, cancelling 1": woodbury("reflection", LARGE),
    "me-woodbury: paper": me_woodbury("paper", "paper", "paper"),
    "me-woodbury: reflection, cancelling 0.3": me_woodbury("reflection", SMALL, SMALL),
    "me-woodbury: reflection, cancelling 1": me_woodbury("reflection", LARGE, LARGE),
}


def run(source, mixing, options: argparse.Namespace, seed: int) -> dict[str, float]:
    torch.manual_seed(seed)
    coupling = partial(AffineCoupling, hidden_channels=options.hidden_channels)
    flow = image_flow(source.shape, levels=LEVELS, steps=4, mixing=mixing, coupling=coupling)
    flow.initialize(source.batch(0, 256, seed=seed).images)
    optimizer = torch.optim.Adam(flow.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.max_steps)
    start = perf_counter()
    for step in range(options.max_steps):
        loss = flow(source.batch(step, 32, seed=seed).images).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    seconds = (perf_counter() - start) / options.max_steps
    bits = bits_per_dim(flow, source.test.take(np.arange(min(1000, len(source.test)))))
    return {"bits_per_dim": float(bits.mean()), "seconds_per_step": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="photos", help="as in nflows-woodbury train (default: photos)")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), help=", ".join(VARIANTS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--max-steps", type=int, default=1500, help="optimizer steps of 32 images (default: 1500)")
    parser.add_argument("--hidden-channels", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("starts.jsonl"), help="records; runs that it holds are kept")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    source = open_source(options.data)
    keys = {"max_steps": options.max_steps, "hidden_channels": options.hidden_channels, "data": source.name}
    for seed in options.seeds:
        for name in options.variants:
            key = {"variant": name, "seed": seed, **keys}
            if not any(record.items() >= key.items() for record in _records(options.out)):
                record = key | run(source, VARIANTS[name], options, seed)
                with options.out.open("a") as file:
                    file.write(json.dumps(record) + "\n")
                print(json.dumps(record), flush=True)
    for name in options.variants:
        bits = [r["bits_per_dim"] for r in _records(options.out) if r.items() >= {"variant": name, **keys}.items()]
        print(f"{name:42} {mean(bits):.3f} ({stdev(bits) if len(bits) > 1 else float('nan'):.3f})  {len(bits)} runs")


def _records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    main()
