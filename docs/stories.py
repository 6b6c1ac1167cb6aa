"""Tables and figures of the worked stories, from the records in docs/records/stories that their scripts wrote.

``anomalies.json`` is what examples/find_anomalies.py wrote, with the ``result.json`` of its run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

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


def write(records: Path, folder: Path) -> None:
    """Write what the pages of the stories include."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = json.loads((records / "anomalies.json").read_text())
    with matplotlib.rc_context(figures.STYLE | {"svg.hashsalt": "anomalies"}):
        find_anomalies.draw(kept["kinds"], folder / "anomalies.svg")
    (folder / "anomalies.rst").write_text(anomalies(kept))


def anomalies(kept: dict) -> str:
    """The table of AUROCs, and a sentence on the run."""
    run, names = kept["run"], list(next(iter(kept["kinds"].values())))
    rows = [
        [KINDS[kind], *(f"{scores[name]['auroc']:.3f}" for name in names)] for kind, scores in kept["kinds"].items()
    ]
    settings = run["flow"]
    return (
        list_table(["strange images", *names], rows, "AUROC of each score")
        + f"\nThe flow: {settings['mixing']} mixing, {settings['levels']} levels x {settings['steps']} steps, "
        f"{settings['hidden_channels']} channels, {run['parameters']:,} parameters, {run['steps']:,} steps of "
        f"{run['training']['batch_size']} images in {run['training_cpu_seconds']:.0f} CPU seconds, seed "
        f"{run['training']['seed']}; {run['bits_per_dim']:.3f} bits/dim (standard error {run['standard_error']:.3f}) "
        f"on {run['images']} held-out faces. {where(run)}.\n"
    )
