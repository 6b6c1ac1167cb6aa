"""Latency of one sample from a frozen flow against the flow as it is, and of one likelihood; timed in turn.

    python benchmarks/frozen.py [--size 32] [--levels 3] [--steps 8] [--hidden-channels 64] [--repeats 30]

For each mixing the median over repeats of the time of both, in milliseconds, and their ratio, on one thread. All
mixings, too, take turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from mixing import write_results

from nflows_woodbury import AffineCoupling, freeze, image_flow
from nflows_woodbury.config import MIXINGS


def in_turn(calls: list[Callable[[], object]], repeats: int) -> list[float]:
    """The median time of each call in milliseconds; each is made once before."""
    times: list[list[float]] = [[] for _ in calls]
    for repeat in range(repeats + 1):
        for call, own in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            if repeat:
                own.append(1e3 * (time.perf_counter() - start))
    return [median(own) for own in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("size", 32), ("levels", 3), ("steps", 8), ("hidden-channels", 64), ("repeats", 30)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--mixings", nargs="+", choices=MIXINGS, default=list(MIXINGS), metavar="MIXING")
    parser.add_argument("--json", type=Path, help="file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    flows = {}
    for name in arguments.mixings:
        torch.manual_seed(0)
        flows[name] = image_flow(
            (3, arguments.size, arguments.size),
            levels=arguments.levels,
            steps=arguments.steps,
            mixing=MIXINGS[name](8, 16),
            coupling=partial(AffineCoupling, hidden_channels=arguments.hidden_channels),
        ).eval()
    pairs = [(flow, freeze(flow)) for flow in flows.values()]
    image = torch.randint(256, (1, 3, arguments.size, arguments.size), dtype=torch.uint8)
    calls: dict[str, list[Callable[[], object]]] = {
        "sample": [partial(flow.sample, 1) for pair in pairs for flow in pair],
        "log_prob": [partial(flow.log_prob, image) for pair in pairs for flow in pair],
    }
    rows: list[dict[str, Any]] = []
    print(f"{'mixing':20}{'way':10}{'plain ms':>10}{'frozen ms':>10}{'frozen / plain':>16}")
    with torch.no_grad():
        for way, of_all in calls.items():
            times = in_turn(of_all, arguments.repeats)
            for name, plain, constant in zip(flows, times[::2], times[1::2], strict=True):
                print(f"{name:20}{way:10}{plain:10.1f}{constant:10.1f}{constant / plain:16.2f}", flush=True)
                rows.append({"mixing": name, "way": way, "plain": plain, "frozen": constant})
    write_results(arguments.json, arguments, rows)


if __name__ == "__main__":
    main()
