"""Conditioners at equal CPU time: test bits/dim of one small model with each network of its couplings.

    OMP_NUM_THREADS=1 python benchmarks/nets.py --data cifar16.npz --seconds 100 --learning-rate 1e-3 --out nets.jsonl

Each trains for so many seconds of CPU time of this process; the learning rate falls by a cosine. A line of JSON
for each goes to --out.
"""

from __future__ import annotations

import argparse
import json
from math import cos, pi
from pathlib import Path
from time import process_time

import torch

from nflows_woodbury.config import NETS, FlowConfig
from nflows_woodbury.data.opening import open_source
from nflows_woodbury.data.sources import ImageSource
from nflows_woodbury.flow import ImageFlow


def train(flow: ImageFlow, source: ImageSource, options: argparse.Namespace, seed: int) -> int:
    """Adam on random batches for so many seconds of CPU time; the number of steps."""
    optimizer = torch.optim.Adam(flow.parameters(), options.learning_rate)
    start, step = process_time(), 0
    while (share := (process_time() - start) / options.seconds) < 1:
        rate = min(1.0, (step + 1) / 50) * (1 + cos(pi * share)) / 2
        optimizer.param_groups[0]["lr"] = options.learning_rate * rate
        loss = flow(source.batch(step, options.batch_size, seed=seed).images).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 100.0)
        optimizer.step()
        step += 1
    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="as in nflows-woodbury train")
    parser.add_argument("--size", type=int, help="of the images (default: that of the data)")
    parser.add_argument("--name", default="CIFAR-10", help="what the record calls the data")
    parser.add_argument("--seconds", type=float, default=100.0, help="of CPU time for each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--nets", nargs="+", default=list(NETS))
    parser.add_argument("--mixing", default="conv1x1")
    parser.add_argument("--hidden-channels", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--out", type=Path, default=Path("nets.jsonl"))
    options = parser.parse_args()
    source = open_source(options.data, size=options.size)
    test = source.test.images[:1000]
    for seed in options.seeds:
        for net in options.nets:
            torch.manual_seed(seed)
            config = FlowConfig(
                tuple(test.shape[1:]), levels=2, steps=4, mixing=options.mixing, net=net,
                hidden_channels=options.hidden_channels,
            )  # fmt: skip
            flow = config.build()
            flow.initialize(source.batch(0, 256, seed=seed).images)
            steps = train(flow, source, options, seed)
            with torch.no_grad():
                bits = torch.cat([flow.eval()(part) for part in test.split(250)]).mean().item()
            record = {
                "net": net, "seed": seed, "seconds": options.seconds, "steps": steps, "bits_per_dim": bits,
                "parameters": sum(parameter.numel() for parameter in flow.parameters()), "model": config.to_dict(),
                "batch_size": options.batch_size, "learning_rate": options.learning_rate, "test_images": len(test),
                "data": "{} at {}x{}".format(options.name, *test.shape[2:]), "torch": torch.__version__,
                "device": f"CPU, {torch.get_num_threads()} thread",
            }  # fmt: skip
            print(f"{net:10} seed {seed}: {bits:.3f} bits/dim after {steps} steps", flush=True)
            with options.out.open("a") as file:
                file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
