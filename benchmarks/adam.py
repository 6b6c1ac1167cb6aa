"""What torch's fused Adam saves: the optimizer's step alone, and a whole training step, fused against foreach, in turn.

python benchmarks/adam.py --threads 1 2 --json adam.json
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch
from mixing import in_turn, write_results

from nflows_woodbury.config import FlowConfig
from nflows_woodbury.flow import ImageFlow

KINDS = {"foreach": False, "fused": True}


def train_step(flow: ImageFlow, optimizer: torch.optim.Optimizer, images: torch.Tensor) -> None:
    optimizer.zero_grad()
    flow(images).mean().backward()
    optimizer.step()


def measure(options: argparse.Namespace) -> list[dict[str, object]]:
    """Medians of both, and the share of foreach's time that fused takes."""
    torch.manual_seed(0)
    config = FlowConfig(
        (3, options.size, options.size), levels=options.levels, steps=options.steps,
        hidden_channels=options.hidden_channels,
    )  # fmt: skip
    images = torch.randint(256, (options.batch_size, *config.shape), dtype=torch.uint8)
    flow = config.build()
    flow.initialize(images)
    flow(images).mean().backward()
    optimizers = {
        kind: torch.optim.Adam(flow.parameters(), 1e-6, fused=fused, foreach=not fused) for kind, fused in KINDS.items()
    }
    calls = {
        "optimizer alone": {kind: optimizer.step for kind, optimizer in optimizers.items()},
        "training step": {kind: partial(train_step, flow, optimizer, images) for kind, optimizer in optimizers.items()},
    }
    rows = []
    for what, by_kind in calls.items():
        times = in_turn(by_kind, rounds=options.rounds)
        share = times["fused"]["median"] / times["foreach"]["median"]
        rows.append({"threads": torch.get_num_threads(), "what": what, **times, "fused / foreach": share})
        in_ms = "  ".join(f"{kind} {1e3 * of_kind['median']:.2f} ms" for kind, of_kind in times.items())
        print(f"{torch.get_num_threads()} threads  {what:16} {in_ms}  fused / foreach {share:.3f}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32, help="side of the images (default: 32)")
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="per level (default: 4)")
    parser.add_argument("--hidden-channels", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=40, help="of each, in turn (default: 40)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    rows = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        rows += measure(options)
    write_results(options.json, options, rows)


if __name__ == "__main__":
    main()
