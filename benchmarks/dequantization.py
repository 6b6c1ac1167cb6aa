"""Does a learned dequantizer pay? Bits per dimension with uniform and with variational noise at equal steps.

Every run of a seed sees the same batches and starts from the same flow; test images are scored with one draw of noise
each.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

import torch
from nflows.transforms.base import Transform

from nflows_woodbury.config import MIXINGS, paper_ranks
from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.data.opening import open_source
from nflows_woodbury.data.sources import ImageSource
from nflows_woodbury.evaluation.likelihood import bits_per_dim
from nflows_woodbury.flow import ImageFlow, image_flow
from nflows_woodbury.transforms.coupling import AffineCoupling
from nflows_woodbury.transforms.dequantize import UniformDequantize
from nflows_woodbury.transforms.variational import VariationalDequantize

DEQUANTIZERS: dict[str, Callable[..., Transform]] = {
    "uniform": lambda shape, bits, args: UniformDequantize(bits),
    "variational": lambda shape, bits, args: VariationalDequantize(
        shape, bits, hidden_channels=args.noise_channels, steps=args.noise_steps
    ),
}


def build(dequantizer: str, source: ImageSource, args: argparse.Namespace) -> ImageFlow:
    return image_flow(
        source.shape,
        levels=args.levels,
        steps=args.flow_steps,
        mixing=[MIXINGS[args.mixing](dc, ds) for dc, ds in zip(*paper_ranks(args.levels), strict=True)],
        coupling=partial(AffineCoupling, hidden_channels=args.hidden_channels),
        dequantize=DEQUANTIZERS[dequantizer](source.shape, args.bits, args),
    )


def run(dequantizer: str, seed: int, source: ImageSource, args: argparse.Namespace) -> dict[str, object]:
    torch.manual_seed(seed)
    plain = build("uniform", source, args)
    flow = build(dequantizer, source, args)
    start = {name: value for name, value in plain.state_dict().items() if name in flow.state_dict()}
    flow.load_state_dict(start, strict=False)
    flow.initialize(source.batch(0, 8 * args.batch_size, seed=seed).images)
    optimizer = torch.optim.Adam(flow.parameters(), lr=args.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    began = time.perf_counter()
    for step in range(args.steps):
        loss = flow(source.batch(step, args.batch_size, seed=seed).images).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    seconds = (time.perf_counter() - began) / args.steps
    bits = bits_per_dim(flow, ImageSet(source.test.images[: args.test_images])).mean().item()
    parameters = sum(parameter.numel() for parameter in flow.parameters())
    return {"name": dequantizer, "seed": seed, "bits": bits, "seconds_per_step": seconds, "parameters": parameters}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data", default="photos", help="'photos', a .npz file or a folder")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--dequantizers", nargs="+", choices=sorted(DEQUANTIZERS), default=sorted(DEQUANTIZERS))
    parser.add_argument("--mixing", choices=sorted(MIXINGS), default="woodbury")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3, help="Adam's, decays to 0 by a cosine")
    parser.add_argument("--bits", type=int, default=8)
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--flow-steps", type=int, default=4, help="flow steps per level")
    parser.add_argument("--hidden-channels", type=int, default=64)
    parser.add_argument("--noise-steps", type=int, default=2, help="steps of the variational dequantizer")
    parser.add_argument("--noise-channels", type=int, default=32, help="its hidden channels")
    parser.add_argument("--test-images", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="write the results of all runs there")
    args = parser.parse_args()
    source, results = open_source(args.data), []
    print(f"{'dequantizer':12} {'bits/dim':>8} {'(sd)':>8} {'s/step':>7} {'parameters':>11}")
    for dequantizer in args.dequantizers:
        runs = [run(dequantizer, seed, source, args) for seed in args.seeds]
        bits = [result["bits"] for result in runs]
        spread = f"({stdev(bits):.4f})" if len(bits) > 1 else ""
        pace = fmean(result["seconds_per_step"] for result in runs)
        print(f"{dequantizer:12} {fmean(bits):8.4f} {spread:>8} {pace:7.3f} {runs[0]['parameters']:11,}", flush=True)
        results += runs
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
