"""Given minutes and a GPU: check it against the CPU, then train the paper's CIFAR-10 flows for as long, step for step.

Run it with: python benchmarks/gpu.py --minutes 60 --data path/to/cifar-10-python.tar.gz --out gpu

1. The log-dets of every mixing and coupling on the device must be the CPU's, within 1e-5 relative; else it stops here.
2. A probe gives the seconds of a step of each preset; what fits into the minutes is how many steps all of them take.
3. Each preset trains that long in OUT/PRESET. Where that holds a run, it goes on from there.
4. OUT gets records.json (for the docs' results page), curves.json and curves.png (validation bits/dim over steps and
   seconds); each run's folder holds its samples and a checkpoint that ``nflows-woodbury train --resume`` takes.

Without a GPU all of it runs on the CPU; tiny settings for a trial: --set hidden_channels=8 steps=1 batch_size=8.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from ast import literal_eval
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pytorch_lightning as pl
import torch

from nflows_woodbury.checkpoint import read_checkpoint
from nflows_woodbury.config import COUPLINGS, MIXINGS, FlowConfig
from nflows_woodbury.data.opening import open_source
from nflows_woodbury.evaluation.record import evaluate
from nflows_woodbury.files import write_json
from nflows_woodbury.train.config import TrainingConfig
from nflows_woodbury.train.module import FlowTraining
from nflows_woodbury.train.presets import settings_of
from nflows_woodbury.train.trainer import make_trainer

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PROBE_STEPS = 40


@torch.no_grad()
def largest_difference(mixing: str, coupling: str, dtype: torch.dtype) -> float:
    """Of the log-dets of a small flow, both ways, on the device and on the CPU, relative to their size."""
    torch.manual_seed(0)
    flow = FlowConfig((3, 16, 16), levels=2, steps=2, hidden_channels=32, mixing=mixing, coupling=coupling).build()
    for parameter in flow.parameters():  # off the start, where couplings do nothing
        parameter += 0.02 * torch.randn_like(parameter)
    flow.to(dtype)
    _, multiscale = flow._transform
    values = torch.rand(32, 3, 16, 16, dtype=dtype) - 0.5
    results = []
    for device in ("cpu", DEVICE):
        multiscale.to(device)
        noise, forward = multiscale(values.to(device))
        _, inverse = multiscale.inverse(noise)
        results.append(torch.cat([forward, inverse]).double().cpu())
    expected, got = results
    return float(((got - expected).abs() / expected.abs().clamp_min(1)).max())


def check() -> list[dict]:
    """Every mixing and coupling, in float32 without TF32 and in float64."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    pairs = [(mixing, "affine") for mixing in MIXINGS] + [("conv1x1", coupling) for coupling in COUPLINGS]
    rows = []
    for mixing, coupling in dict.fromkeys(pairs):
        for dtype in (torch.float32, torch.float64):
            difference = largest_difference(mixing, coupling, dtype)
            rows.append({"mixing": mixing, "coupling": coupling, "dtype": str(dtype), "difference": difference})
            print(f"{mixing:12} {coupling:9} {dtype!s:14} {difference:.1e}", flush=True)
    torch.backends.cudnn.allow_tf32 = True
    return rows


class Watch(pl.Callback):
    """Validation bits/dim over steps and seconds of training; and the median seconds of a step."""

    def __init__(self) -> None:
        self.curve: list[dict[str, float]] = []
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        """Note the time, and the validation where it is new."""
        if module.is_step_end(batch_idx):
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            self.ends.append(perf_counter())
            bits = trainer.callback_metrics.get("validation_bits_per_dim")
            if bits is not None and trainer.global_step % module.config.every == 0:
                self.curve.append({"step": trainer.global_step, "seconds": module.seconds, "bits_per_dim": float(bits)})

    @property
    def seconds(self) -> float:
        """Of a step, the median after the first ones."""
        return float(np.median(np.diff(self.ends[PROBE_STEPS // 4 :])))


def fit(flow: FlowConfig, config: TrainingConfig, folder: Path) -> Watch:
    """Train in a folder, from its last checkpoint if it holds one."""
    watch, last = Watch(), folder / "checkpoints" / "last.ckpt"
    source = open_source(config.data, size=config.size)
    if source.validation is not None:  # the whole curve on the same images, few enough to cost little
        source.validation = source.validation.take(np.arange(min(500, len(source.validation))))
    trainer = make_trainer(config, folder, progress=sys.stdout.isatty())
    trainer.callbacks.append(watch)
    start = perf_counter()
    trainer.fit(FlowTraining(flow, config, source), ckpt_path=last if last.exists() else None, weights_only=True)
    print(f"{folder.name}: {trainer.global_step} steps, {perf_counter() - start:.0f} s", flush=True)
    return watch


def settings(name: str, options: argparse.Namespace) -> tuple[FlowConfig, TrainingConfig]:
    """The preset's, with what makes an hour of one GPU count, and the changes of the command line."""
    changes = {"compile": DEVICE == "cuda", "precision": "bf16", "ema_decay": 0.999, "data": options.data}
    changes |= {key: literal_eval(value) for key, value in (pair.split("=", 1) for pair in options.set)}
    flow, config = settings_of(name)
    parts = [replace(part, **{k: v for k, v in changes.items() if k in asdict(part)}) for part in (flow, config)]
    return parts[0], parts[1]


def steps_that_fit(options: argparse.Namespace) -> tuple[int, dict[str, float]]:
    """As many steps as all presets can take in the given minutes, by a probe of each."""
    seconds = {}
    for name in options.presets:
        flow, config = settings(name, options)
        with TemporaryDirectory() as scratch:
            probe = replace(config, max_steps=PROBE_STEPS, every=10 * PROBE_STEPS)
            seconds[name] = fit(flow, probe, Path(scratch) / f"probe of {name}").seconds
    fits = int(0.85 * 60 * options.minutes / sum(seconds.values()))  # the rest: compiling, validation, pictures
    return max(20, fits - fits % 20), seconds


def plot(curves: dict[str, list[dict[str, float]]], path: Path) -> None:
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True, layout="constrained")
    for axes, unit in zip(panels, ("step", "seconds"), strict=True):
        for name, curve in curves.items():
            axes.plot([point[unit] for point in curve], [point["bits_per_dim"] for point in curve], label=name)
        axes.set(xlabel=unit, ylabel="validation bits/dim")
    panels[0].legend()
    figure.savefig(path, dpi=150)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, required=True, help="for the training of all presets together")
    parser.add_argument("--data", required=True, help="CIFAR-10, as in nflows-woodbury train")
    parser.add_argument("--presets", nargs="+", default=["cifar10-woodbury", "cifar10-conv1x1"])
    parser.add_argument("--set", nargs="*", default=[], metavar="SETTING=VALUE", help="change settings of all presets")
    parser.add_argument("--out", type=Path, default=Path("gpu"))
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.simplefilter("ignore")
    rows = check()
    write_json(options.out / "check.json", rows)
    if bad := [row for row in rows if not row["difference"] <= 1e-5]:
        print(f"log-dets differ from the CPU's by more than 1e-5: {bad}", file=sys.stderr)
        return 1
    steps, seconds = steps_that_fit(options)
    print(f"seconds of a step: {seconds}; {steps} steps of each", flush=True)
    path = options.out / "curves.json"
    curves = json.loads(path.read_text()) if path.exists() else {}
    for name in options.presets:
        flow, config = settings(name, options)
        last = options.out / name / "checkpoints" / "last.ckpt"
        done = read_checkpoint(last)["global_step"] if last.exists() else 0
        config = replace(config, max_steps=done + steps, every=steps // 20)
        curves[name] = curves.get(name, []) + fit(flow, config, options.out / name).curve
        write_json(path, curves)
    plot(curves, options.out / "curves.png")
    records = evaluate([str(options.out / name) for name in options.presets], json=str(options.out / "records.json"))
    for name, record in zip(options.presets, records, strict=True):
        print(f"{name}: test bits/dim {record['bits_per_dim']:.3f} after {record['steps']} steps, "
              f"{record['training_seconds']:.0f} s")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
