"""Tables and figures of the worked stories, from the records in docs/records/stories that their scripts wrote.

``anomalies.json`` and ``restored.json`` are what examples/find_anomalies.py and examples/restore.py wrote, with the
``result.json`` of the run that both used.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import mean, stdev

import figures
import matplotlib
from tables import list_table, where

sys.path.append(str(Path(__file__).parents[1] / "examples"))
import find_anomalies

KINDS = {
    "churches": "churches, ImageNet's class",
    "objects": "CIFAR-10's test images",
    "noise": "the held-out faces with noise of standard deviation 20",
    "blur": "the held-out faces, each pixel the mean of 3 x 3",
    "patch": "the held-out faces with a grey patch of a ninth of the image",
}

TASKS = {
    "hole": "a hole in the middle, a ninth of the image",
    "noise": "noise of standard deviation 25 on all pixels",
}


def write(records: Path, folder: Path) -> None:
    """Write what the pages of the stories include."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = json.loads((records / "anomalies.json").read_text())
    with matplotlib.rc_context(figures.STYLE | {"svg.hashsalt": "anomalies"}):
        find_anomalies.draw(kept["kinds"], folder / "anomalies.svg")
    (folder / "anomalies.rst").write_text(anomalies(kept))
    (folder / "restored.rst").write_text(restored(json.loads((records / "restored.json").read_text())))


def anomalies(kept: dict) -> str:
    """The table of AUROCs, and a sentence on the run."""
    names = list(next(iter(kept["kinds"].values())))
    rows = [
        [KINDS[kind], *(f"{scores[name]['auroc']:.3f}" for name in names)] for kind, scores in kept["kinds"].items()
    ]
    return f"{list_table(['strange images', *names], rows, 'AUROC of each score')}\n{trained(kept['run'])}"


def restored(kept: dict) -> str:
    """The table of peak signal to noise ratios."""
    names = list(next(iter(kept["tasks"].values())))
    rows = [[TASKS[task], *(_decibels(found[name]) for name in names)] for task, found in kept["tasks"].items()]
    count = len(next(iter(kept["tasks"].values()))[names[0]])
    title = f"PSNR in dB where it was restored, the mean over {count} images (standard error)"
    return f"{list_table(['what was done', *names], rows, title)}\n{trained(kept['run'])}"


def trained(run: dict) -> str:
    """A paragraph on a run."""
    flow, training = run["flow"], run["training"]
    return (
        f"The flow: {flow['mixing']} mixing, {flow['levels']} levels x {flow['steps']} steps, "
        f"{flow['hidden_channels']} channels, {run['parameters']:,} parameters, {run['steps']:,} steps of "
        f"{training['batch_size']} images in {run['training_cpu_seconds']:.0f} CPU seconds, seed {training['seed']}; "
        f"{run['bits_per_dim']:.3f} bits/dim (standard error {run['standard_error']:.3f}) on {run['images']} held-out "
        f"images. {where(run)}.\n"
    )


def _decibels(values: list[float]) -> str:
    return f"{mean(values):.2f} ({stdev(values) / len(values) ** 0.5:.2f})"
