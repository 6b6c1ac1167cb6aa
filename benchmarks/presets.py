"""Train each preset for a few steps at full size and a reduced batch, and say how much memory that takes.

Run it with: python benchmarks/presets.py --images cifar10=cifar.npz imagenet64=imagenet64.npz ... --out presets.json

Each preset runs in a process of its own, on the CPU; its memory is the peak of that process, what importing takes
included. Images of the wrong size for a preset are refused. Records that the file holds already are kept. The table
goes to the standard output, as CSV.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import sys
import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from nflows_woodbury.files import write_json
from nflows_woodbury.train.presets import PRESETS, settings_of


def train(name: str, data: str, batch_size: int, steps: int) -> dict:
    """A few steps, the first ActNorm included, without pictures."""
    import pytorch_lightning as pl

    from nflows_woodbury.data.opening import open_source
    from nflows_woodbury.train.callbacks import Pictures, Validation
    from nflows_woodbury.train.module import FlowTraining
    from nflows_woodbury.train.trainer import make_trainer

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    losses, times = [], [perf_counter()]

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, *_) -> None:
            losses.append(float(outputs["loss"]))
            times.append(perf_counter())

        def on_train_start(self, trainer, module) -> None:
            times[0] = perf_counter()

    flow, config = settings_of(name)
    config = replace(config, data=data, batch_size=batch_size, max_steps=steps)
    module = FlowTraining(flow, config, open_source(data, size=config.size))
    with TemporaryDirectory() as folder:
        trainer = make_trainer(config, Path(folder), progress=False)
        trainer.callbacks = [c for c in trainer.callbacks if not isinstance(c, (Pictures, Validation))] + [Watch()]
        trainer.fit(module)
    seconds = [end - start for start, end in pairwise(times)]
    parameters = sum(parameter.numel() for parameter in module.flow.parameters())
    return {"parameters": parameters, "batch_size": batch_size, "losses": losses, "seconds": seconds}


def measure(name: str, data: str, batch_size: int, steps: int) -> dict:
    """``train`` in a child process, with its peak memory."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, json.dumps(train(name, data, batch_size, steps)).encode())
        except BaseException as error:
            os.write(writer, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        os._exit(0)
    os.close(writer)
    _, _, usage = os.wait4(child, 0)
    text = os.fdopen(reader).read()
    record = json.loads(text) if text else {"error": "killed, most likely for memory"}
    return {"preset": name, "peak_gib": round(usage.ru_maxrss / 2**20, 2), **record}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", nargs="+", required=True, metavar="DATA=FILE", help="images of each data set")
    parser.add_argument("--presets", nargs="*", default=PRESETS, help="default: all whose images are given")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--max-steps", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("presets.json"))
    options = parser.parse_args()
    images = dict(pair.split("=", 1) for pair in options.images)
    records = json.loads(options.out.read_text()) if options.out.exists() else []
    for name in options.presets:
        data = next((path for key, path in images.items() if name.startswith(key)), None)
        if data is None or name in {record["preset"] for record in records if "error" not in record}:
            continue
        records.append(measure(name, data, options.batch_size, options.max_steps))
        write_json(options.out, records)
        print(json.dumps(records[-1]), file=sys.stderr, flush=True)
    table = csv.writer(sys.stdout)
    table.writerow(["preset", "parameters", "batch", "peak GiB", "bits/dim of the steps"])
    for r in records:
        if "error" in r:
            table.writerow([r["preset"], "", "", r["peak_gib"], r["error"]])
        else:
            losses = " ".join(f"{loss:.2f}" for loss in r["losses"])
            table.writerow([r["preset"], f"{r['parameters']:,}", r["batch_size"], r["peak_gib"], losses])


if __name__ == "__main__":
    main()
