"""Train every mixing and coupling by name at an equal number of steps, and print and plot how they compare.

Mixings run with the affine coupling, couplings with the 1x1 convolution. Each run's record is kept in --out, so an
interrupted comparison goes on where it stopped.
"""

import argparse
import json
from pathlib import Path
from time import perf_counter

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from tqdm import trange

from nflows_woodbury.evaluation import bits_per_dim
from nflows_woodbury.loading import open_source
from nflows_woodbury.presets import COUPLINGS, MIXINGS, FlowConfig

BATCH = 32


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="photos", help="as in nflows-woodbury train (default: photos)")
    parser.add_argument("--mixings", nargs="*", default=["conv1x1", "woodbury"], help=f"all: {' '.join(MIXINGS)}")
    parser.add_argument("--couplings", nargs="*", default=[], help=f"with conv1x1; all: {' '.join(COUPLINGS)}")
    parser.add_argument("--max-steps", type=int, default=150, help="optimizer steps (default: 150)")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each, with seeds 0, 1, ... (default: 1)")
    parser.add_argument("--test-images", type=int, default=500, help="the first N (default: 500)")
    parser.add_argument("--out", type=Path, default=Path("comparison"), help="folder of records, table and plot")
    return parser.parse_args()


def run(options: argparse.Namespace, mixing: str, coupling: str, seed: int) -> dict[str, float]:
    """Train one model with Adam and cosine decay; measure it."""
    source = open_source(options.data)
    torch.manual_seed(seed)
    flow = FlowConfig(shape=source.shape, mixing=mixing, coupling=coupling).build()  # 3 levels x 4 steps, 64 channels
    flow.initialize(source.batch(0, 256, seed=seed).images)
    optimizer = torch.optim.Adam(flow.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.max_steps)
    times = []
    for step in trange(options.max_steps, desc=f"{mixing} + {coupling}, seed {seed}"):
        start = perf_counter()
        loss = flow(source.batch(step, BATCH, seed=seed).images).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        times.append(perf_counter() - start)
    bits = bits_per_dim(flow, source.test.take(np.arange(min(options.test_images, len(source.test)))))
    test = source.test.images[:BATCH]
    with torch.no_grad():
        noise = flow.transform_to_noise(test)
        forward, inverse = (seconds(f, x) for f, x in ((flow, test), (flow.transform_from_noise, noise)))
    parameters = sum(p.numel() for p in flow.parameters())
    return {"bits_per_dim": float(bits.mean()), "parameters": parameters, "train": float(np.median(times)),
            "forward": forward, "inverse": inverse}  # fmt: skip


def seconds(function, argument, repeats: int = 5) -> float:
    times = []
    for _ in range(repeats):
        start = perf_counter()
        function(argument)
        times.append(perf_counter() - start)
    return float(np.median(times))


def main() -> None:
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    pairs = [(m, "affine") for m in options.mixings] + [("conv1x1", c) for c in options.couplings]
    lines, results = [], {}
    for mixing, coupling in dict.fromkeys(pairs):
        records = []
        for seed in range(options.seeds):
            path = options.out / f"{mixing}-{coupling}-{options.max_steps}-{seed}.json"
            if not path.exists():
                path.write_text(json.dumps(run(options, mixing, coupling, seed)))
            records.append(json.loads(path.read_text()))
        bits = np.array([record["bits_per_dim"] for record in records])
        spread = bits.std(ddof=1) if len(bits) > 1 else float("nan")
        results[f"{mixing}\n{coupling}"] = bits.mean(), spread
        median = {k: np.median([r[k] for r in records]) for k in ("parameters", "train", "forward", "inverse")}
        times = " | ".join(f"{1e3 * median[k]:.0f}" for k in ("train", "forward", "inverse"))
        lines.append(
            f"| {mixing} | {coupling} | {bits.mean():.3f} ({spread:.3f}) | {median['parameters']:.0f} | {times} |"
        )
    head = "| mixing | coupling | test bits/dim (sd) | parameters | ms/step train | forward | inverse |"
    table = "\n".join([head, "|" + "---|" * 7, *lines])
    (options.out / "table.md").write_text(table + "\n")
    print(table)
    figure, axes = plt.subplots(figsize=(1.5 + 1.1 * len(results), 4), layout="constrained")
    means, spreads = zip(*results.values(), strict=True)
    axes.errorbar(range(len(results)), means, np.nan_to_num(spreads), fmt="o", capsize=4)
    axes.set(xticks=range(len(results)), xticklabels=results, ylabel="test bits/dim")
    figure.savefig(options.out / "comparison.png", dpi=150)
    print("plot:", options.out / "comparison.png")


if __name__ == "__main__":
    main()
