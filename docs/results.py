"""The tables, the figure and the pictures of the results page, made from the records in docs/records.

That folder holds ``published.json``, numbers with the source in which they were read; lists of records that
``nflows-woodbury evaluate --json`` wrote, and pictures with the same names; ``comparison.json`` and ``starts-*.jsonl``,
which docs/collect.py makes, as it does ``mixings-*.jsonl`` for docs/mixings.py; and ``speed`` for docs/speed.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import figures
import glance
import matplotlib
import mixings
import speed
import torch
from glance import NOT_PUBLISHED, Row
from matplotlib.figure import Figure
from tables import marked, where

from nflows_woodbury.config import LOW_RANK, FlowConfig
from nflows_woodbury.train.config import TrainingConfig
from nflows_woodbury.train.presets import PRESETS, settings_of

Record = dict[str, Any]
Runs = Sequence[Record]
Models = dict[tuple[int, str, str], Runs]  # by optimizer steps, mixing and coupling

#: variants of benchmarks/starts.py that nflows-woodbury compare trains as well, and their mixing
DEFAULTS = {
    "conv1x1": "conv1x1",
    "woodbury: reflection, cancelling 0.3": "woodbury",
    "me-woodbury: reflection, cancelling 1": "me-woodbury",
}
UNNAMED = {"seed", "every", "temperature", "data", "preset", "max_steps"}  # where a run may differ from its preset


def write(records: Path, folder: Path) -> None:
    """Write the parts that docs/results.rst includes; what stays the same is not touched."""
    folder.mkdir(parents=True, exist_ok=True)
    of_others = {"published.json", "comparison.json"}
    evaluated = [path for path in sorted(records.glob("*.json")) if path.name not in of_others]
    runs = grouped(record for path in evaluated for record in json.loads(path.read_text()))
    lines = [line for path in sorted(records.glob("starts-*.jsonl")) for line in path.read_text().splitlines()]
    starts = grouped(map(json.loads, lines))
    models = compared(json.loads((records / "comparison.json").read_text()), starts)
    with matplotlib.rc_context(figures.STYLE):
        draw(models).savefig(folder / "comparison.svg", transparent=True, metadata={"Date": None})
    published, compared_mixings = json.loads((records / "published.json").read_text()), mixings.read(records)
    parts = {
        "published": at_a_glance(published, runs, models, mixings.at_a_glance(compared_mixings)),
        "runs": evaluations(runs),
        "comparison": comparison(models),
        "starts": table_of_starts(starts),
        "pictures": "\n".join(map(picture, sorted(records.glob("*.png")))),
        **mixings.write(compared_mixings, folder),
        "variants": mixings.variants(records),
        **speed.write(records, folder),
        "rates": mixings.rates(records),
    }
    for name, text in parts.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def grouped(records: Iterable[Record]) -> list[list[Record]]:
    """Records that differ only in the seed and in what it changes, together; the lowest bits per dimension first."""
    groups: dict[str, list[Record]] = {}
    of_one = {
        "bits_per_dim", "standard_error", "training_seconds", "training_cpu_seconds", "evaluation_seconds", "date",
        "seed", "sampling_milliseconds", "round_trip",
    }  # fmt: skip
    for record in records:
        key = {name: value for name, value in record.items() if name not in of_one}
        key["training"] = key.get("training", {}) | {"seed": None}
        groups.setdefault(json.dumps(key, sort_keys=True), []).append(record)
    return sorted(groups.values(), key=_mean)


def at_a_glance(published: Sequence[Record], runs: Sequence[Runs], models: Models, of_mixings: Iterable[Row]) -> str:
    """All numbers, the published ones first, and what they need to be read."""
    rows = [row for source in published for row in glance.published(source, lambda preset: _ours(preset, runs))]
    for (steps, mixing, coupling), group in models.items():
        setting = f"3 levels of 4, 64 channels, {steps:,} steps"
        name = f"{mixing}, {coupling}"
        rows.append(("CIFAR-10", name, NOT_PUBLISHED, _bits(group), setting, str(len(group)), where(group[0])))
    texts = [f"*{source['title']}.* {source['text']}" for source in published]
    return "\n\n".join([glance.table([*rows, *of_mixings]), *texts])


def _ours(preset: str, runs: Sequence[Runs]) -> list[Row]:
    """Each group of runs of a preset: bits per dimension, what is not as in the preset, seeds, and where."""
    groups = [run for run in runs if run[0]["training"].get("preset") == preset]
    return [
        (
            _bits(run),
            ", ".join(["the preset", f"{run[0]['steps']:,} steps", *changes(run[0])]),
            str(len(run)),
            where(run[0]),
        )
        for run in groups
    ]


def changes(record: Record) -> list[str]:
    """The settings of a run of a preset that are not the preset's, but for its steps, which are always named."""
    name = record["training"].get("preset")
    if name not in PRESETS:
        return []
    flow, training = settings_of(name)
    due = json.loads(json.dumps(flow.to_dict() | training.to_dict()))
    found = TrainingConfig().to_dict() | flow.to_dict() | record["flow"] | record["training"]
    found = json.loads(json.dumps(found))
    return [f"{key} {found[key]}" for key in due if key not in UNNAMED and found[key] != due[key]]


def evaluations(runs: Sequence[Runs]) -> str:
    """All that was recorded of each group of runs."""
    rows = []
    for run in runs:
        one, flow = run[0], run[0]["flow"]
        name = one["training"].get("preset") or f"{flow['mixing']}, {flow['coupling']}"
        noise = f"{one['samples']} x {one['importance_samples']} draws of the noise"
        time = f"{mean(record['training_seconds'] for record in run) / 3600:.1f} h"
        rows.append([
            ", ".join([name, *changes(one)]), _bits(run), str(len(run)), f"{one['steps']:,} in {time}",
            f"{one['parameters']:,}", f"{one['images']:,} images of {one['data']}, {noise}, {one['weights']} weights",
            where(one),
        ])  # fmt: skip
    header = ["run", "test bits/dim", "runs", "steps", "parameters", "evaluated on", "mark"]
    return marked(header, rows) if rows else "No run has been recorded yet.\n"


def compared(records: Iterable[Record], starts: Iterable[Runs]) -> Models:
    """The runs of each model after each number of steps, best first; the paper's mixings come from the starts."""
    models: dict[tuple[int, str, str], Runs] = {}
    for group in grouped(records):
        models[group[0]["max_steps"], group[0]["mixing"], group[0]["coupling"]] = group
    lengths = {steps for steps, *_ in models}
    for group in starts:
        one = group[0]
        mixing, width = DEFAULTS.get(one["variant"]), one["hidden_channels"]
        if mixing and one["max_steps"] in lengths and width == FlowConfig.hidden_channels:
            models.setdefault((one["max_steps"], mixing, "affine"), group)
    return dict(sorted(models.items(), key=lambda model: (model[0][0], _mean(model[1]))))


def comparison(models: Models) -> str:
    """The order in words, and the table."""
    texts, rows = [], []
    for steps in dict.fromkeys(steps for steps, *_ in models):
        of_steps = [names for of, *names in models if of == steps]
        mixings = ", ".join(mixing for mixing, coupling in of_steps if coupling == "affine")
        couplings = ", ".join(coupling for mixing, coupling in of_steps if mixing == "conv1x1")
        texts.append(f"After {steps:,} steps, best first: the mixings {mixings}; the couplings {couplings}.")
    for (steps, mixing, coupling), runs in models.items():
        size = runs[0].get("parameters") or _parameters(mixing)
        rows.append([mixing, coupling, _bits(runs), str(len(runs)), f"{steps:,}", f"{size:,}", where(runs[0])])
    header = ["mixing", "coupling", "test bits/dim", "runs", "steps", "parameters", "mark"]
    return "\n\n".join([*texts, marked(header, rows)])


def draw(models: Models) -> Figure:
    """The comparison as dots: each run, and means with their standard deviations."""
    figure = Figure(figsize=(6.2, 0.7 + 0.32 * len(models)), layout="constrained")
    axes = figure.subplots()
    several = len({steps for steps, *_ in models}) > 1
    for row, ((*_, coupling), runs) in enumerate(models.items()):
        bits = [run["bits_per_dim"] for run in runs]
        colour = "C0" if coupling == "affine" else "C1"
        axes.errorbar(mean(bits), row, xerr=stdev(bits) if len(bits) > 1 else None, fmt="o", color=colour, capsize=4)
        axes.plot(bits, [row] * len(bits), "|", color=figures.GREY, markersize=7, markeredgewidth=1.2)
    names = [f"{mixing}, {coupling}" + f", {steps:,} steps" * several for steps, mixing, coupling in models]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("test bits/dim")
    return figure


def table_of_starts(starts: Sequence[Runs]) -> str:
    """A row for each start and length of training, and what is missing."""
    kinds = [(runs[0]["max_steps"], runs[0]["hidden_channels"]) for runs in starts]
    rows = []
    for runs in sorted(starts, key=lambda runs: (runs[0]["max_steps"], runs[0]["hidden_channels"], _mean(runs))):
        one = runs[0]
        name = one["variant"] + " (the default)" * (DEFAULTS.get(one["variant"]) in LOW_RANK)
        name += f"; {one['note']}" if "note" in one else ""
        numbers = [str(len(runs)), f"{one['max_steps']:,}", str(one["hidden_channels"])]
        rows.append([name, _bits(runs), *numbers, where(one)])
    header = ["mixing: start", "test bits/dim", "runs", "steps", "hidden channels", "mark"]
    steps, width = (max(kind) for kind in zip(*kinds, strict=True))
    return f"{marked(header, rows)}\nNo start has been measured beyond {steps:,} steps or {width} hidden channels.\n"


def picture(path: Path) -> str:
    """A grid of samples with what the first record of the same name says of the flow."""
    one = json.loads(path.with_suffix(".json").read_text())[0]
    flow, training = one["flow"], one["training"]
    bits = f"{one['bits_per_dim']:.3f} test bits/dim"
    alt = f"A grid of samples of a flow trained on {one['data']}."
    return (
        f".. figure:: /records/{path.name}\n   :alt: {alt}\n   :width: 400\n   :figclass: pixels\n\n"
        f"   Samples at temperature {training['temperature']:g} of a flow trained on {one['data']}: {flow['mixing']}, "
        f"{flow['coupling']}, {one['steps']:,} steps, seed {training['seed']}, {bits}, "
        f"measured: {where(one)}.\n"
    )


def _mean(runs: Runs) -> float:
    return mean(run["bits_per_dim"] for run in runs)


def _bits(runs: Runs) -> str:
    bits = [run["bits_per_dim"] for run in runs]
    return f"{mean(bits):.3f} ({stdev(bits):.3f})" if len(bits) > 1 else f"{bits[0]:.3f}"


def _parameters(mixing: str) -> int:
    with torch.device("meta"):  # shapes only
        return sum(parameter.numel() for parameter in FlowConfig(mixing=mixing).build().parameters())
