"""Train every mixing and coupling by name at an equal number of steps, and print and plot how they compare.

Mixings run with the affine coupling, couplings with the 1x1 convolution. Each run's record is kept in --out, so an
interrupted comparison goes on where it stopped.
"""

import argparse
import json
from pathlib import Path
from statistics import mean, median, stdev
from time import perf_counter

import torch
from matplotlib.figure import Figure
from tqdm import trange

from nflows_woodbury.config import COUPLINGS, MIXINGS, FlowConfig
from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.data.opening import open_source
from nflows_woodbury.evaluation.likelihood import bits_per_dim

BATCH = 32
COLUMNS = ("mixing", "coupling", "test bits/dim (sd)", "parameters", "ms/step train", "forward", "inverse")


def run(options: argparse.Namespace, mixing: str, coupling: str, seed: int) -> dict[str, float]:
    """Train one model with Adam and cosine decay; measure it."""
    source = open_source(options.data)
    torch.manual_seed(seed)
    flow = FlowConfig(shape=source.shape, mixing=mixing, coupling=coupling).build()  # 3 levels x 4 steps, 64 channels
    flow.initialize(source.batch(0, 256, seed=seed).images)
    optimizer = torch.optim.Adam(flow.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.max_steps)

    def train(step: int) -> None:
        loss = flow(source.batch(step, BATCH, seed=seed).images).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    steps = trange(options.max_steps, desc=f"{mixing} + {coupling}, seed {seed}")
    training = [seconds(train, step) for step in steps]
    bits = bits_per_dim(flow, ImageSet(source.test.images[: options.test_images]))
    images = source.test.images[:BATCH]
    with torch.no_grad():
        noise = flow.transform_to_noise(images)
        forward = [seconds(flow, images) for _ in range(5)]
        inverse = [seconds(flow.transform_from_noise, noise) for _ in range(5)]
    times = {"train": median(training), "forward": median(forward), "inverse": median(inverse)}
    return {"bits_per_dim": float(bits.mean()), "parameters": sum(p.numel() for p in flow.parameters()), **times}


def seconds(function, argument) -> float:
    start = perf_counter()
    function(argument)
    return perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="photos", help="as in nflows-woodbury train (default: photos)")
    parser.add_argument("--mixings", nargs="*", default=["conv1x1", "woodbury"], help=f"all: {' '.join(MIXINGS)}")
    parser.add_argument("--couplings", nargs="*", default=[], help=f"with conv1x1; all: {' '.join(COUPLINGS)}")
    parser.add_argument("--max-steps", type=int, default=150, help="optimizer steps (default: 150)")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each, with seeds 0, 1, ... (default: 1)")
    parser.add_argument("--test-images", type=int, default=500, help="the first N (default: 500)")
    parser.add_argument("--out", type=Path, default=Path("comparison"), help="folder of records, table and plot")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    pairs = [(m, "affine") for m in options.mixings] + [("conv1x1", c) for c in options.couplings]
    pairs = list(dict.fromkeys(pairs))
    axes = Figure(figsize=(1.5 + 1.1 * len(pairs), 4), layout="constrained").subplots()
    for row, (mixing, coupling) in enumerate(pairs):
        records = []
        for seed in range(options.seeds):
            path = options.out / f"{mixing}-{coupling}-{options.max_steps}-{seed}.json"
            if not path.exists():
                path.write_text(json.dumps(run(options, mixing, coupling, seed)))
            records.append(json.loads(path.read_text()))
        bits = [record["bits_per_dim"] for record in records]
        spread = stdev(bits) if len(bits) > 1 else float("nan")
        times = [f"{1e3 * median(r[name] for r in records):.0f}" for name in ("train", "forward", "inverse")]
        cells = [mixing, coupling, f"{mean(bits):.3f} ({spread:.3f})", f"{records[0]['parameters']}", *times]
        lines.append(f"| {' | '.join(cells)} |")
        axes.errorbar(row, mean(bits), spread, fmt="o", color="C0", capsize=4)
    print("\n".join(lines))
    (options.out / "table.md").write_text("\n".join(lines) + "\n")
    axes.margins(x=0.3)
    axes.grid(axis="y", alpha=0.3)
    axes.set_xticks(range(len(pairs)), ["\n".join(pair) for pair in pairs])
    axes.set_ylabel("test bits/dim")
    axes.figure.savefig(options.out / "comparison.png", dpi=150)
    print("plot:", options.out / "comparison.png")


if __name__ == "__main__":
    main()
