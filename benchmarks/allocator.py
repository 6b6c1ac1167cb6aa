"""What it saves to keep freed memory: training steps of one flow in two processes, of which one keeps it, in turn.

    python benchmarks/allocator.py --threads 1 2 --json allocator.json

Beside the milliseconds of a step stand the pages that the system had to find for it, and the most that a process held.
"""

from __future__ import annotations

import argparse
import resource
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import torch
from adam import train_step
from mixing import write_results

from nflows_woodbury.config import FlowConfig
from nflows_woodbury.train.allocator import keep_freed_memory

FLOWS = {
    "16x16, 2 levels x 2 steps, 32 hidden channels": FlowConfig((3, 16, 16), levels=2, steps=2, hidden_channels=32),
    "32x32, 3 levels x 4 steps, 64 hidden channels": FlowConfig((3, 32, 32), levels=3, steps=4, hidden_channels=64),
    "64x64, 3 levels x 4 steps, 64 hidden channels": FlowConfig((3, 64, 64), levels=3, steps=4, hidden_channels=64),
}


def work(pipe: Connection, config: FlowConfig, batch_size: int, threads: int, keep: bool) -> None:
    """A training step for each message, until there is none; its seconds and page faults are the answer."""
    torch.set_num_threads(threads)
    if keep and not keep_freed_memory():
        raise SystemExit("the C library here keeps freed memory, or not, as it likes")
    torch.manual_seed(0)
    images = torch.randint(256, (batch_size, *config.shape), dtype=torch.uint8)
    flow = config.build()
    flow.initialize(images)
    optimizer = torch.optim.Adam(flow.parameters(), 1e-6)
    while pipe.recv():
        faults, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, perf_counter()
        train_step(flow, optimizer, images)
        seconds, used = perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
        pipe.send((seconds, used.ru_minflt - faults, used.ru_maxrss / 1024))


def measure(name: str, threads: int, options: argparse.Namespace) -> dict[str, Any]:
    """Medians over the rounds of both processes, and the quotient of the steps of each round."""
    context, pipes = get_context("spawn"), {}
    for kind in ("given back", "kept"):
        pipes[kind], theirs = context.Pipe()
        arguments = theirs, FLOWS[name], options.batch_size, threads, kind == "kept"
        context.Process(target=work, args=arguments, daemon=True).start()
        theirs.close()  # so that the end of the process ends the waiting for it
    steps: dict[str, list[tuple[float, int, float]]] = {kind: [] for kind in pipes}
    for _ in range(options.rounds + 5):
        for kind, pipe in pipes.items():
            pipe.send(True)
            steps[kind].append(pipe.recv())
    row: dict[str, Any] = {"flow": name, "threads": threads}
    for kind, pipe in pipes.items():
        pipe.send(False)
        seconds, faults, held = zip(*steps[kind][5:], strict=True)  # the first ones find their memory
        row[kind] = {"ms": 1e3 * median(seconds), "page faults": median(faults), "MiB": max(held)}
    quotients = [kept / back for (back, *_), (kept, *_) in zip(*(given[5:] for given in steps.values()), strict=True)]
    low, middle, high = quantiles(quotients)
    row["kept / given back"] = {"low": low, "median": middle, "high": high}
    of_kinds = "  ".join(
        f"{kind} {row[kind]['ms']:.1f} ms, {row[kind]['page faults']:.0f} page faults, {row[kind]['MiB']:.0f} MiB"
        for kind in pipes
    )
    print(f"{threads} threads  {name}  {of_kinds}  quotient {middle:.2f} ({low:.2f} to {high:.2f})", flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=40, help="of each, in turn (default: 40)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    rows = [measure(name, threads, options) for name in FLOWS for threads in options.threads]
    write_results(options.json, options, rows)


if __name__ == "__main__":
    main()
