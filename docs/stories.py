"""Tables and figures of the worked stories, from the records in docs/records/stories that their scripts wrote.

``anomalies.json`` and ``restored.json`` are what examples/find_anomalies.py and examples/restore.py wrote, with the
``result.json`` of the run that both used; ``lattice.json`` is what examples/lattice_reverse_kl.py wrote.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import mean, stdev

import figures
import matplotlib
from matplotlib.figure import Figure
from tables import list_table, where

sys.path.append(str(Path(__file__).parents[1] / "examples"))
import find_anomalies
import lattice_reverse_kl

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


#: what a run of the lattice has -> what it is called
FIGURES = {"effective_sample_size": "effective sample size", "acceptance": "acceptance"}


def write(records: Path, folder: Path) -> None:
    """Write what the pages of the stories include."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = json.loads((records / "anomalies.json").read_text())
    with matplotlib.rc_context(figures.STYLE | {"svg.hashsalt": "anomalies"}):
        find_anomalies.draw(kept["kinds"], folder / "anomalies.svg")
    (folder / "anomalies.rst").write_text(anomalies(kept))
    (folder / "restored.rst").write_text(restored(json.loads((records / "restored.json").read_text())))
    fields = json.loads((records / "lattice.json").read_text())
    (folder / "lattice.rst").write_text(lattice(fields))
    with matplotlib.rc_context(figures.STYLE | {"svg.hashsalt": "lattice"}):
        draw_lattice(fields["runs"]).savefig(folder / "lattice.svg", transparent=True, metadata={"Date": None})


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
    tasks = kept["tasks"].items()
    rows = [[TASKS[task], *(_with_error(found[name], ".2f") for name in names)] for task, found in tasks]
    count = len(next(iter(kept["tasks"].values()))[names[0]])
    title = f"PSNR in dB where it was restored, the mean over {count} images (standard error)"
    return f"{list_table(['what was done', *names], rows, title)}\n{trained(kept['run'])}"


def lattice(kept: dict) -> str:
    """The table of effective sample sizes and acceptances, means over seeds, and what was run."""
    rows = []
    for kappa, mixing in {(run["kappa"], run["mixing"]): None for run in kept["runs"]}:
        runs = [run for run in kept["runs"] if (run["kappa"], run["mixing"]) == (kappa, mixing)]
        shown = [_with_error([run[name] for run in runs], ".3f") for name in FIGURES]
        seconds = f"{mean(run['cpu_seconds'] for run in runs):.0f}"
        rows.append([f"{kappa:g}", mixing, *shown, f"{runs[0]['parameters']:,}", seconds])
    settings = kept["settings"]
    title = f"Means over {len(settings['seeds'])} seeds (standard error)"
    header = ["kappa", "mixing", *FIGURES.values(), "parameters", "CPU seconds"]
    side = settings["side"]
    return (
        f"{list_table(header, rows, title)}\n"
        f"{side} x {side} sites, lambda = {settings['lam']:g}, 2 levels of {settings['steps']} flow steps, "
        f"{settings['iterations']:,} iterations of {settings['batch_size']} samples, {settings['samples']:,} samples "
        f"for the figures; 2-core CPU with other work, 1 thread, torch {settings['torch']}.\n"
    )


def draw_lattice(runs: list[dict]) -> Figure:
    """Each seed as a dot, for each coupling and mixing, and the mean as a line."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    groups = list({(run["kappa"], run["mixing"]): None for run in runs})
    for axes, (name, label) in zip(figure.subplots(1, 2), FIGURES.items(), strict=True):
        for place, (kappa, mixing) in enumerate(groups):
            values = [run[name] for run in runs if (run["kappa"], run["mixing"]) == (kappa, mixing)]
            color = f"C{list(lattice_reverse_kl.MIXINGS).index(mixing)}"
            axes.plot([place] * len(values), values, "o", color=color, markersize=4, alpha=0.6)
            axes.hlines(mean(values), place - 0.3, place + 0.3, color=color)
        names = [f"{mixing}\n$\\kappa$ = {kappa:g}" for kappa, mixing in groups]
        axes.set_xticks(range(len(groups)), names, fontsize=8)
        axes.set(ylabel=label, ylim=(0, None))
        axes.grid(alpha=0.3, axis="y")
    return figure


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


def _with_error(values: list[float], form: str) -> str:
    """A mean and its standard error."""
    return f"{mean(values):{form}} ({stdev(values) / len(values) ** 0.5:{form}})"
