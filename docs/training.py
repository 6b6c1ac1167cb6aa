"""What training does to the layers: figures and tables from docs/records/training.

``conditions.json`` is what benchmarks/conditions.py wrote of the comparison's runs, ``NAME/diagnosis.json`` what a long
run noted.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

import figures
import matplotlib
from matplotlib.figure import Figure
from tables import list_table

from nflows_woodbury.evaluation import history

RUNS = ("cifar10", "photos")


def write(records: Path, folder: Path) -> None:
    """Write what the page includes."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = json.loads((records / "conditions.json").read_text())["results"]
    (folder / "conditions.rst").write_text(conditions(rows))
    with matplotlib.rc_context(figures.STYLE | {"svg.hashsalt": "training"}):
        _save(draw_conditions(rows), folder / "conditions.svg")
        for name in RUNS:
            moments = history.read_history(records / name)
            (folder / f"{name}.rst").write_text(moments_table(moments))
            _save(history.plot(moments), folder / f"{name}.svg")


def conditions(rows: list[dict[str, Any]]) -> str:
    """A row for each mixing: conditions at the end, means over its runs, the largest of all."""
    cells = []
    for mixing in sorted({row["mixing"] for row in rows}, key=lambda name: _largest(rows, name)):
        runs = [row for row in rows if row["mixing"] == mixing]
        cells.append(
            [
                mixing, f"{mean(run['median'] for run in runs):.1f}", f"{mean(run['largest'] for run in runs):.0f}",
                f"{_largest(rows, mixing):.0f}", str(len(runs)),
            ]
        )  # fmt: skip
    header = ["mixing", "median of a flow's layers", "largest of a flow's layers", "largest of all runs", "runs"]
    return list_table(header, cells, "Condition of the whole map of a mixing, after training")


def _largest(rows: list[dict[str, Any]], mixing: str) -> float:
    return max(row["largest"] for row in rows if row["mixing"] == mixing)


def draw_conditions(rows: list[dict[str, Any]]) -> Figure:
    """A line for each mixing, a dot for each layer of each run."""
    names = sorted({row["mixing"] for row in rows}, key=lambda name: -_largest(rows, name))
    figure = Figure(figsize=(7, 0.8 + 0.25 * len(names)), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        values = list(row["conditions"].values())
        axes.plot(values, [names.index(row["mixing"])] * len(values), "o", color="C0", markersize=4, alpha=0.5)
    axes.set_yticks(range(len(names)), names)
    axes.set(xscale="log", xlabel="condition")
    axes.grid(alpha=0.3)
    return figure


def moments_table(moments: list[history.Moment]) -> str:
    """A row for each moment: the largest condition, round trips, and how many values they change."""
    cells = [
        [
            f"{moment.step:,}", f"{moment.worst.condition:.1f}" if moment.worst else "",
            *(f"{way.round_trip:.0e}" for way in moment.ways), f"{max(way.changed or 0 for way in moment.ways):.2%}",
        ]
        for moment in moments
    ]  # fmt: skip
    header = ["step", "largest condition of a factor", *(way.name for way in moments[-1].ways), "pixel values changed"]
    return list_table(header, cells)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, transparent=True, metadata={"Date": None})
