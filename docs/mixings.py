"""The comparison of all mixings, from ``mixings-*.jsonl`` in docs/records: tables, figures, and what is still to run.

docs/collect.py makes these records from a folder of ``nflows-woodbury compare``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path
from statistics import mean, stdev
from textwrap import fill
from typing import Any

import figures
import matplotlib
from glance import NOT_PUBLISHED, Row
from tables import list_table, marked, where

from nflows_woodbury.evaluation.ranking import Ranked, plot, ranking

Record = dict[str, Any]

SEEDS = (0, 1, 2)
SINGLE = (
    "conv1x1", "conv1x1-plu", "woodbury", "me-woodbury", "emerging", "periodic", "exponential", "finc", "circulant",
    "butterfly",
)  # fmt: skip
PAIRS = ("emerging+woodbury", "emerging,woodbury", "conv1x1+woodbury", "finc+woodbury")
#: those that are compared at 32 x 32 pixels, too
LARGER = ("conv1x1", "woodbury", "emerging", "emerging,woodbury", "emerging+woodbury")
RATE, STEPS = 5e-3, 6000


@dataclass(frozen=True)
class Setting:
    """Images and a size of network, in which all mixings are compared."""

    title: str
    name: str
    data: str
    steps: int
    hidden_channels: int
    levels: int = 2
    mixings: tuple[str, ...] = SINGLE + PAIRS

    def holds(self, record: Record) -> bool:
        """Whether a record is of this setting."""
        flow, training = record["flow"], record["training"]
        size = flow["levels"], flow["steps"], flow["hidden_channels"], training["max_steps"]
        chosen = training["learning_rate"] == RATE
        return chosen and record["data"] == self.data and size == (self.levels, self.steps, self.hidden_channels, STEPS)

    def command(self, mixings: Sequence[str]) -> str:
        """The line that makes its runs, or goes on with them."""
        names = fill(" ".join(mixings), 88, break_on_hyphens=False).replace("\n", " \\\n    ")
        return (
            f"nflows-woodbury compare --seeds {len(SEEDS)} --data {self.data}.npz \\\n  --mixing {names} \\\n"
            f"  --levels {self.levels} --steps {self.steps} --hidden-channels {self.hidden_channels} \\\n"
            f"  --max-steps {STEPS} --learning-rate {RATE:g} --flip --every 1000 --out {self.name}"
        )


SETTINGS = (
    Setting("CIFAR-10 at 16 x 16, small", "cifar16-small", "cifar16", 2, 32),
    Setting("ImageNet at 16 x 16, small", "imagenet16-small", "imagenet16", 2, 32),
    Setting("CIFAR-10 at 16 x 16, medium", "cifar16-medium", "cifar16", 4, 64),
    Setting("ImageNet at 16 x 16, medium", "imagenet16-medium", "imagenet16", 4, 64),
    Setting("CIFAR-10 at 32 x 32, small", "cifar32-small", "cifar32", 2, 32, levels=3, mixings=LARGER),
)

#: what a reader may have to pay -> the column that says how much
COSTS: dict[str, tuple[str, Callable[[Ranked], float], str]] = {
    "training": ("CPU ms for a training step", lambda row: row.step_milliseconds, ".1f"),
    "sampling": ("CPU ms for a sample", lambda row: row.sampling_milliseconds, ".2f"),
    "parameters": ("parameters", lambda row: row.parameters, ",d"),
    "exactness": ("round trip", lambda row: row.round_trip, ".0e"),
}


def read(records: Path) -> list[Record]:
    """All records of the comparison."""
    lines = [line for path in sorted(records.glob("mixings-*.jsonl")) for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def write(records: Sequence[Record], folder: Path) -> dict[str, str]:
    """Draw the figures into ``folder``, and return the parts that the pages include, by name."""
    parts, choices = [], {name: [] for name in COSTS}
    for setting in SETTINGS:
        of_it = [record for record in records if setting.holds(record)]
        parts.append(section(setting, of_it))
        rows = ranked(of_it)
        if rows:
            with matplotlib.rc_context(figures.STYLE):
                picture = plot(rows)
                picture.savefig(folder / f"mixings-{setting.name}.svg", transparent=True, metadata={"Date": None})
        for name, found in choices.items():
            found += [[setting.title, *cells] for cells in front(rows, name)]
    return {"mixings": "\n".join(parts)} | {
        f"which-{name}": list_table(["setting", "mixing", "test bits/dim", COSTS[name][0]], rows)
        if rows
        else "Not measured yet.\n"
        for name, rows in choices.items()
    }


def ranked(records: Sequence[Record]) -> list[Ranked]:
    """The mixings, with the time that all steps take in turn; that of the runs themselves comes from many machines."""
    return [
        replace(row, cpu_seconds=STEPS * row.step_milliseconds / 1000, cpu_standard_error=nan)
        for row in ranking(records)
    ]


def at_a_glance(records: Sequence[Record]) -> list[Row]:
    """Rows for the table of all numbers: what is measured, and one for what is not."""
    found: list[Row] = []
    for setting in SETTINGS:
        of_it = [record for record in records if setting.holds(record)]
        images, size = setting.title.split(", ")
        shape = f"{setting.levels} levels of {setting.steps}, {setting.hidden_channels} channels"
        text = f"{size}: {shape}, {STEPS:,} steps"
        places = "; ".join(sorted({where(record) for record in of_it}))
        rows = ranking(of_it)
        for row in rows:
            bits = with_error(row.bits_per_dim, row.standard_error, ".3f", "se ")
            found.append((images, row.mixing, NOT_PUBLISHED, bits, text, str(row.runs), places))
        missing = [name for name in setting.mixings if name not in {row.mixing for row in rows}]
        found += [(images, name, NOT_PUBLISHED, "not measured yet", text, "", "") for name in missing]
    return found


def section(setting: Setting, records: Sequence[Record]) -> str:
    """A table and a figure, and what is still to be measured."""
    head = f"{setting.title}\n{'~' * len(setting.title)}\n"
    rows = [
        [
            row.mixing, with_error(row.bits_per_dim, row.standard_error, ".3f"), f"{row.runs}",
            f"{row.step_milliseconds:.1f}", f"{row.cpu_seconds:.0f}", f"{row.parameters:,}",
            f"{row.sampling_milliseconds:.2f}", f"{row.round_trip:.0e}",
        ]
        for row in ranked(records)
    ]  # fmt: skip
    if not rows:
        return f"{head}\n{to_run(setting, records)}"
    places = "; ".join(sorted({where(record) for record in records}))
    timed = sorted({record["timed_on"] for record in records if "timed_on" in record})
    title = f"Measured: {places}" + (f"; times on: {', '.join(timed)}" if timed else "")
    header = ["mixing", "test bits/dim", "seeds", "ms/step", "seconds", "parameters", "ms/sample", "round trip"]
    figure = (
        f".. figure:: /_build/results/mixings-{setting.name}.svg\n"
        "   :alt: Test bits per dimension of each mixing as dots with error bars, against CPU seconds of training.\n"
        "   :width: 640\n"
    )
    return "\n".join([head, list_table(header, rows, title), figure, to_run(setting, records)])


def with_error(value: float, error: float, form: str, what: str = "") -> str:
    """A mean and, of more than one run, its standard error."""
    return f"{value:{form}}" + (f" ({what}{error:{form}})" if error == error else "")


def to_run(setting: Setting, records: Sequence[Record]) -> str:
    """Which runs are not recorded, and the line that makes them."""
    done = {(record["flow"]["mixing"], record["training"]["seed"]) for record in records}
    missing = {seed: [name for name in setting.mixings if (name, seed) not in done] for seed in SEEDS}
    if not any(missing.values()):
        return ""
    texts = [
        f"seed {seed} of {'all mixings' if len(names) == len(setting.mixings) else ', '.join(names)}"
        for seed, names in missing.items()
        if names
    ]
    wanted = [name for name in setting.mixings if any(name in names for names in missing.values())]
    if not done:
        texts = ["all mixings, with every seed"]
    line = setting.command(wanted).replace("\n", "\n   ")
    return f"Not measured yet: {'; '.join(texts)}. The line that goes on:\n\n.. code-block:: sh\n\n   {line}\n"


def variants(records: Path) -> str:
    """The trials of what Woodbury lacks, best first, from ``variants-*.jsonl``, which benchmarks/variants.py writes."""
    lines = [line for path in sorted(records.glob("variants-*.jsonl")) for line in path.read_text().splitlines()]
    groups: dict[str, list[Record]] = {}
    for record in map(json.loads, lines):
        groups.setdefault(record["variant"], []).append(record)
    rows = [
        [
            name, _mean_of(runs, "bits_per_dim", ".3f"), ", ".join(str(run["seed"]) for run in runs),
            f"{runs[0]['max_steps']:,}", _mean_of(runs, "cpu_seconds", ".0f"), f"{runs[0]['parameters']:,}",
            where(runs[0]),
        ]
        for name, runs in sorted(groups.items(), key=lambda group: mean(run["bits_per_dim"] for run in group[1]))
    ]  # fmt: skip
    header = ["variant", "validation bits/dim", "seeds", "steps", "CPU seconds", "parameters", "mark"]
    return marked(header, rows) if rows else "Not measured yet.\n"


def rates(records: Path) -> str:
    """What was tried to choose the rate, from ``rates.jsonl``: a row for each mixing, a column for each rate."""
    runs = list(map(json.loads, (records / "rates.jsonl").read_text().splitlines()))
    found = {(run["mixing"], run["training"]["learning_rate"]): run["bits_per_dim"] for run in runs}
    columns = sorted({rate for _, rate in found})
    rows = [
        [mixing, *(f"{found[mixing, rate]:.3f}" if (mixing, rate) in found else "failed" for rate in columns)]
        for mixing in sorted({mixing for mixing, _ in found})
    ]
    return list_table(["mixing", *(f"{rate:g}" for rate in columns)], rows, f"Measured: {where(runs[-1])}")


def _mean_of(runs: Sequence[Record], name: str, form: str) -> str:
    values = [run[name] for run in runs]
    return with_error(mean(values), stdev(values) / len(values) ** 0.5 if len(values) > 1 else nan, form)


def front(rows: Sequence[Ranked], cost: str) -> list[list[str]]:
    """The mixings that none beats in likelihood at the same cost or less, the cheapest first."""
    _, of, form = COSTS[cost]
    found: list[Ranked] = []
    for row in sorted(rows, key=lambda row: (of(row), row.bits_per_dim)):
        if not found or row.bits_per_dim < found[-1].bits_per_dim:
            found.append(row)
    bits = [with_error(row.bits_per_dim, row.standard_error, ".3f") for row in found]
    return [[row.mixing, text, format(of(row), form)] for row, text in zip(found, bits, strict=True)]
