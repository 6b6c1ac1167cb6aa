"""Train a preset with several mixings for so many minutes in all, and draw validation bits/dim over steps and seconds.

    python benchmarks/budget.py --minutes 30 --data path/to/cifar-10-python.tar.gz --out budget

A probe gives the seconds of a step of each mixing; what fits into the minutes is how many steps all of them take. Each
trains in OUT/MIXING; where that holds a run, it goes on from there. OUT gets records.json (for the docs' results page),
curves.json and curves.png; each run's folder holds its samples and a checkpoint that ``nflows-woodbury train --resume``
takes. Without a GPU all of it runs on the CPU; for a trial: --set hidden_channels=8 steps=1 batch_size=8.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from ast import literal_eval
from dataclasses import replace
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
from nflows_woodbury.config import FlowConfig
from nflows_woodbury.data.opening import open_source
from nflows_woodbury.evaluation.record import evaluate
from nflows_woodbury.files import write_json
from nflows_woodbury.train.callbacks import Validation
from nflows_woodbury.train.config import TrainingConfig
from nflows_woodbury.train.module import FlowTraining
from nflows_woodbury.train.presets import settings_of
from nflows_woodbury.train.trainer import make_trainer

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PROBE_STEPS = 40


class Watch(pl.Callback):
    """Validation bits/dim over steps and seconds of training; and the median seconds of a step."""

    def __init__(self, validation: Validation) -> None:
        self.validation = validation
        self.curve: list[dict[str, float]] = []
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        """Note the time, and the validation where it is new."""
        if module.is_step_end(batch_idx):
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            self.ends.append(perf_counter())
            if trainer.global_step % module.config.every == 0 and (bits := self.validation.value) is not None:
                self.curve.append({"step": trainer.global_step, "seconds": module.seconds, "bits_per_dim": bits})

    @property
    def seconds(self) -> float:
        """Of a step, the median after the first ones."""
        return float(np.median(np.diff(self.ends[PROBE_STEPS // 4 :])))


def fit(flow: FlowConfig, config: TrainingConfig, folder: Path) -> Watch:
    """Train in a folder, from its last checkpoint if it holds one."""
    last = folder / "checkpoints" / "last.ckpt"
    source = open_source(config.data, size=config.size)
    if source.validation is not None:  # the whole curve on the same images, few enough to cost little
        source.validation = source.validation.take(np.arange(min(500, len(source.validation))))
    trainer = make_trainer(config, folder, progress=sys.stdout.isatty())
    watch = Watch(next(callback for callback in trainer.callbacks if isinstance(callback, Validation)))
    trainer.callbacks.append(watch)
    start = perf_counter()
    trainer.fit(FlowTraining(flow, config, source), ckpt_path=last if last.exists() else None, weights_only=True)
    print(f"{folder.name}: {trainer.global_step} steps, {perf_counter() - start:.0f} s", flush=True)
    return watch


def settings(mixing: str, options: argparse.Namespace) -> tuple[FlowConfig, TrainingConfig]:
    """The preset's with a mixing, with what makes an hour of one GPU count, and the changes of the command line."""
    changes = {"compile": DEVICE == "cuda", "precision": "bf16", "ema_decay": 0.999, "data": options.data}
    changes |= {key: literal_eval(value) for key, value in (pair.split("=", 1) for pair in options.set)}
    return settings_of(options.preset, mixing=mixing, **changes)


def steps_that_fit(options: argparse.Namespace) -> tuple[int, dict[str, float]]:
    """As many steps as all mixings can take in the given minutes, by a probe of each."""
    seconds = {}
    for mixing in options.mixing:
        flow, config = settings(mixing, options)
        with TemporaryDirectory() as scratch:
            probe = replace(config, max_steps=PROBE_STEPS, every=10 * PROBE_STEPS)
            seconds[mixing] = fit(flow, probe, Path(scratch) / f"probe of {mixing}").seconds
    fits = int(0.85 * 60 * options.minutes / sum(seconds.values()))  # the rest: compiling, validation, pictures
    return max(options.points, fits - fits % options.points), seconds


def plot(curves: dict[str, list[dict[str, float]]], path: Path) -> None:
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True, layout="constrained")
    for axes, unit in zip(panels, ("step", "seconds"), strict=True):
        for name, curve in curves.items():
            axes.plot([point[unit] for point in curve], [point["bits_per_dim"] for point in curve], label=name)
        axes.set(xlabel=unit, ylabel="validation bits/dim")
    panels[0].legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, help="for the training of all mixings together")
    parser.add_argument("--data", required=True, help="CIFAR-10, as in nflows-woodbury train")
    parser.add_argument("--points", type=int, default=20, help="of each curve (default: 20)")
    parser.add_argument("--preset", default="cifar10-woodbury", help="(default: cifar10-woodbury)")
    parser.add_argument("--mixing", nargs="+", default=["woodbury", "emerging", "conv1x1", "emerging+woodbury"])
    parser.add_argument("--set", nargs="*", default=[], metavar="SETTING=VALUE", help="change settings of all runs")
    parser.add_argument("--out", type=Path, default=Path("budget"))
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.simplefilter("ignore")
    steps, seconds = steps_that_fit(options)
    print(f"seconds of a step: {seconds}; {steps} steps of each", flush=True)
    path = options.out / "curves.json"
    curves = json.loads(path.read_text()) if path.exists() else {}
    for mixing in options.mixing:
        flow, config = settings(mixing, options)
        last = options.out / mixing / "checkpoints" / "last.ckpt"
        done = read_checkpoint(last)["global_step"] if last.exists() else 0
        config = replace(config, max_steps=done + steps, every=steps // options.points)
        curves[mixing] = curves.get(mixing, []) + fit(flow, config, options.out / mixing).curve
        write_json(path, curves)
    plot(curves, options.out / "curves.png")
    records = evaluate([str(options.out / mixing) for mixing in options.mixing], json=str(options.out / "records.json"))
    for mixing, record in zip(options.mixing, records, strict=True):
        print(f"{mixing}: test bits/dim {record['bits_per_dim']:.3f} after {record['steps']} steps, "
              f"{record['training_seconds']:.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
