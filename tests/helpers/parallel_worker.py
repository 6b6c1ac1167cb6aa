"""One process of a run on several, started by torchrun: trains, and writes down what it saw."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytorch_lightning as pl
import torch
from running import CONFIG, fit

from nflows_woodbury.train.diagnoses import Diagnoses

RUNS = {
    "float32": {"precision": "float32"},
    "float64": {"precision": "float64"},
    "reversible": {"precision": "float64", "reversible": True},
}


class Record(pl.Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []
        self.parameters: list[str] = []
        self.images: list[str] = []
        self.noise: list[list[float]] = []

    def on_train_start(self, trainer, module) -> None:
        self._add(module)
        module.flow._transform[0].register_forward_hook(self._add_noise)

    def _add_noise(self, dequantize, inputs, results) -> None:
        """What a step dequantizes: the images, and where in their bins the first values lie."""
        if not dequantize.training:
            return
        self.images.append(hashlib.sha256(inputs[0].numpy().tobytes()).hexdigest())
        bins = results[0].detach().double().flatten()[:20] * 2**dequantize.bits
        self.noise.append((bins - bins.floor()).tolist())

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.losses.append(float(outputs["loss"]))
        self._add(module)

    def _add(self, module) -> None:
        digest = hashlib.sha256()
        for parameter in module.parameters():
            digest.update(parameter.detach().numpy().tobytes())
        self.parameters.append(digest.hexdigest())


class Interrupt(pl.Callback):
    """A signal to the second process alone."""

    def on_train_batch_start(self, trainer, *_) -> None:
        if trainer.global_step == 6 and trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)


class Die(pl.Callback):
    """The second process is gone, without a word."""

    def on_train_batch_start(self, trainer, *_) -> None:
        if trainer.global_step == 6 and trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def main(out: Path, *, lost: bool) -> None:
    rank = int(os.environ["RANK"])
    torch.set_num_threads(1)
    if lost:
        fit(out, Die(), devices=2)
    for name, changes in RUNS.items():
        record, config = Record(), replace(CONFIG, max_steps=20, ema_decay=0.9, **changes)
        trainer = fit(out / name, record, config=config, devices=2).trainer
        values = {key: getattr(record, key) for key in ("losses", "parameters", "images", "noise")}
        [diagnoses] = [callback for callback in trainer.callbacks if isinstance(callback, Diagnoses)]
        values["diagnosed"] = [moment.step for moment in diagnoses.moments]
        if name == "float32":
            values["stopped"] = fit(out / "stopped", Interrupt(), config=config, devices=2).trainer.global_step
        (out / f"{name}-{rank}.json").write_text(json.dumps(values))
        gc.collect()


if __name__ == "__main__":
    main(Path(sys.argv[1]), lost="lost" in sys.argv)
