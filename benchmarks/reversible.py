"""Measure what ``Reversible`` saves and costs: peak memory and time of a training step against the number of steps.

The same flow as a plain and as a reversible chain, in turn. Peak memory is that of all tensors during forward and
backward pass, beyond parameters, their gradients and the images.

    python benchmarks/reversible.py --steps 8 32 --hidden-channels 128 --threads 1
    # a deep one
    python benchmarks/reversible.py --train 3 --steps 128 --hidden-channels 16 --batch-size 1440 --limit 18

``--train N`` takes N steps of Adam with each kind instead, in a process that may have no more than ``--limit`` GiB.
"""

from __future__ import annotations

import argparse
import resource
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from mixing import in_turn, peak_memory, write_results

from nflows_woodbury import ImageFlow
from nflows_woodbury.config import COUPLINGS, MIXINGS, FlowConfig
from nflows_woodbury.data.opening import open_source

KINDS = {"plain": False, "reversible": True}


def train_step(flow: ImageFlow, images: torch.Tensor) -> None:
    flow.zero_grad()
    flow(images).mean().backward()


def build(kind: str, steps: int, images: torch.Tensor, options: argparse.Namespace) -> ImageFlow:
    """The flow of one kind, the same parameters in each, started from a few images."""
    torch.manual_seed(0)
    config = FlowConfig(
        (3, options.size, options.size), levels=options.levels, steps=steps, mixing=options.mixing,
        coupling=options.coupling, hidden_channels=options.hidden_channels,
    )  # fmt: skip
    flow = config.build(reversible=KINDS[kind]).to(options.device)
    flow.initialize(images[:16])
    return flow


def photographs(options: argparse.Namespace) -> torch.Tensor:
    """Crops of scikit-image's photographs, as many as a batch has."""
    return open_source("photos", size=options.size).batch(0, options.batch_size, seed=0).images.to(options.device)


def train(kind: str, steps: int, images: torch.Tensor, options: argparse.Namespace) -> dict[str, Any]:
    """Bits per dimension of steps of Adam on one batch, or of none where they do not fit into memory."""
    flow = build(kind, steps, images, options)
    optimizer = torch.optim.Adam(flow.parameters(), options.learning_rate)
    row: dict[str, Any] = {"steps": steps, "kind": kind, "bits_per_dim": [], "fits": True}
    start = perf_counter()
    try:
        for _ in range(options.train):
            optimizer.zero_grad()
            loss = flow(images).mean()
            loss.backward()
            optimizer.step()
            row["bits_per_dim"].append(loss.item())
            print(
                f"{steps} steps a level, {kind}: {loss.item():.3f} bits/dim, {perf_counter() - start:.0f} s", flush=True
            )
    except (RuntimeError, MemoryError) as error:
        if "memory" not in str(error):
            raise
        row["fits"] = False
        print(f"{steps} steps a level, {kind}: does not fit into {options.limit} GiB", flush=True)
    row["seconds"] = perf_counter() - start
    row["largest_resident_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"largest resident memory of the process so far: {row['largest_resident_bytes'] / 2**30:.1f} GiB", flush=True)
    return row


def measure(steps: int, options: argparse.Namespace) -> dict[str, Any]:
    """Bytes and seconds of both kinds at one number of steps."""
    images = torch.randint(256, (options.batch_size, 3, options.size, options.size), dtype=torch.uint8)
    images = images.to(options.device)
    calls, peaks = {}, {}
    for kind in options.only:
        flow = build(kind, steps, images, options)
        calls[kind] = partial(train_step, flow, images)
        calls[kind]()
        flow.zero_grad()
        gradients = sum(parameter.nbytes for parameter in flow.parameters())  # made during the pass, and kept
        peaks[kind] = peak_memory(calls[kind], options.device) - gradients
    row: dict[str, Any] = {"steps": steps, "peak_bytes": peaks}
    row["seconds"] = in_turn(calls, options.rounds, device=options.device) if options.rounds else {}
    for kind in calls:
        time = f", {row['seconds'][kind]['median']:.3f} s" if options.rounds else ""
        print(f"{steps:3} steps a level, {kind:10}: peak {row['peak_bytes'][kind] / 2**20:9.1f} MiB{time}", flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 32], help="flow steps a level (default: 8 32)")
    parser.add_argument("--size", type=int, default=32, help="side of the images (default: 32)")
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--mixing", choices=MIXINGS, default="woodbury")
    parser.add_argument("--coupling", choices=COUPLINGS, default="affine")
    parser.add_argument("--hidden-channels", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), help="kinds (default: both)")
    parser.add_argument(
        "--rounds", type=int, default=9, help="timed steps of each kind; 0 for memory only (default: 9)"
    )
    parser.add_argument("--train", type=int, help="so many steps of Adam with each kind, and no timing in turn")
    parser.add_argument("--learning-rate", type=float, default=3e-5, help="of Adam (default: 3e-5)")
    parser.add_argument("--limit", type=float, help="most GiB of memory that the process may have")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.limit:
        resource.setrlimit(resource.RLIMIT_AS, (int(options.limit * 2**30),) * 2)
    if options.train:
        images = photographs(options)
        write_results(
            options.json,
            options,
            [train(kind, steps, images, options) for steps in options.steps for kind in options.only],
        )
        return
    rows = [measure(steps, options) for steps in options.steps]
    first, last = rows[0], rows[-1]
    for kind in options.only:
        growth = last["peak_bytes"][kind] / first["peak_bytes"][kind]
        print(f"{kind}: {growth:.2f} times the memory at {last['steps'] / first['steps']:g} times the steps")
    if options.rounds and len(options.only) == 2:
        for row in rows:
            ratio = row["seconds"]["reversible"]["median"] / row["seconds"]["plain"]["median"]
            print(f"{row['steps']} steps: reversible takes {ratio:.2f} times the time")
    write_results(options.json, options, rows)


if __name__ == "__main__":
    main()
