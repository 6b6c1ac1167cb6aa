"""Trained flows that differ in their mixing, best first: what each costs, as a table, a CSV file and a picture."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from math import nan
from pathlib import Path
from statistics import mean, stdev
from time import process_time
from typing import TYPE_CHECKING, Any

import torch

from nflows_woodbury.checkpoint import Run
from nflows_woodbury.evaluation.diagnosis import diagnose
from nflows_woodbury.evaluation.samples import class_numbers, sample_classes
from nflows_woodbury.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Ranked", "costs", "draw", "plot", "ranking", "table", "write_csv"]

_BATCH, _ROUNDS = 32, 20  # samples at a time, and how often; the fastest counts


@dataclass(frozen=True)
class Ranked:
    """The runs of one mixing, whose seeds differ.

    Attributes:
        mixing: its name.
        runs: how many have a finite likelihood.
        bits_per_dim: of the test images, the mean over them.
        standard_error: of that mean over seeds, ``sd / sqrt(runs)``; not a number for one run.
        cpu_seconds: of training, the mean.
        cpu_standard_error: likewise.
        parameters: of the whole flow.
        sampling_milliseconds: of CPU time for each image, the mean.
        round_trip: the largest difference between test images and what comes back from noise, over the largest value;
            the worst run's.

    >>> Ranked("woodbury", 3, 4.5, 0.01, 120.0, 2.0, 42860, 0.3, 1e-6).runs
    3
    """

    mixing: str
    runs: int
    bits_per_dim: float
    standard_error: float
    cpu_seconds: float
    cpu_standard_error: float
    parameters: int
    sampling_milliseconds: float
    round_trip: float


@torch.no_grad()
def costs(run: Run) -> dict[str, float]:
    """What the use of a trained flow costs: CPU milliseconds for each sample, and the error of a round trip.

    >>> from nflows_woodbury.checkpoint import open_run
    >>> sorted(costs(open_run(run_folder)))
    ['round_trip', 'sampling_milliseconds']
    """
    images = run.source.test.images[:100]
    labels = None if run.source.test.labels is None else run.source.test.labels[:100]
    there_and_back = diagnose(run.flow, images.to(run.device), class_numbers(run.flow, labels))[-2]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        seconds = [_sampling_seconds(run) for _ in range(1 + _ROUNDS)][1:]
    return {"sampling_milliseconds": 1e3 * min(seconds) / _BATCH, "round_trip": there_and_back.round_trip}


def _sampling_seconds(run: Run) -> float:
    start = process_time()
    sample_classes(run.flow, _BATCH).cpu()
    return process_time() - start


def ranking(records: Iterable[Mapping[str, Any]]) -> list[Ranked]:
    """The runs of each mixing as one row, the lowest bits per dimension first.

    Args:
        records: what :func:`~nflows_woodbury.evaluation.record.measure` returns, with :func:`costs`.

    >>> record = {"flow": {"mixing": "woodbury"}, "parameters": 9, "training_cpu_seconds": 3.0, "round_trip": 1e-6}
    >>> record |= {"sampling_milliseconds": 1.0}
    >>> (row,) = ranking([record | {"bits_per_dim": bits} for bits in (1.0, 2.0)])
    >>> row.mixing, row.runs, row.bits_per_dim, row.standard_error
    ('woodbury', 2, 1.5, 0.5)
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault(record["flow"]["mixing"], []).append(record)
    rows = [_row(mixing, group) for mixing, group in groups.items()]
    return sorted(rows, key=lambda row: (row.runs == 0, row.bits_per_dim))


def _row(mixing: str, records: Sequence[Mapping[str, Any]]) -> Ranked:
    finite = [record["bits_per_dim"] for record in records if record["bits_per_dim"] is not None]
    seconds = [record["training_cpu_seconds"] for record in records]
    trips = [nan if record["round_trip"] is None else record["round_trip"] for record in records]
    return Ranked(
        mixing,
        len(finite),
        mean(finite) if finite else nan,
        _standard_error(finite),
        mean(seconds),
        _standard_error(seconds),
        records[0]["parameters"],
        mean(record["sampling_milliseconds"] for record in records),
        nan if any(trip != trip for trip in trips) else max(trips),
    )


def _standard_error(values: Sequence[float]) -> float:
    return stdev(values) / len(values) ** 0.5 if len(values) > 1 else nan


def table(rows: Sequence[Ranked]) -> list[str]:
    r"""Lines that people read, under a heading.

    >>> print(*table([Ranked("woodbury", 3, 4.5, 0.01, 120.0, 2.0, 42860, 0.3, 1e-6)]), sep="\n")
    mixing    runs  test bits/dim (se)  CPU seconds  parameters  ms/sample  round trip
    woodbury     3       4.500 (0.010)        120.0      42,860        0.3       1e-06
    """
    header = ("mixing", "runs", "test bits/dim (se)", "CPU seconds", "parameters", "ms/sample", "round trip")
    cells = [header] + [
        (
            row.mixing, f"{row.runs}", _with_error(row.bits_per_dim, row.standard_error), f"{row.cpu_seconds:.1f}",
            f"{row.parameters:,}", f"{row.sampling_milliseconds:.2g}", f"{row.round_trip:.0e}",
        )
        for row in rows
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join([first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(others, widths[1:], strict=True))])
        for first, *others in cells
    ]


def _with_error(value: float, error: float) -> str:
    return f"{value:.3f}" + (f" ({error:.3f})" if error == error else "")


def write_csv(path: str | Path, rows: Sequence[Ranked]) -> None:
    """Write the rows with all digits, whole or not at all; what is not a number is left empty.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_csv(f"{folder}/t.csv", [Ranked("woodbury", 1, 4.5, nan, 120.0, nan, 42860, 0.3, 1e-6)])
    ...     Path(folder, "t.csv").read_text().splitlines()[1]
    'woodbury,1,4.5,,120.0,,42860,0.3,1e-06'
    """
    with whole_file(path) as new, new.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(Ranked))
        writer.writerows(["" if value != value else value for value in astuple(row)] for row in rows)


def plot(rows: Sequence[Ranked]) -> Figure:
    """Bits per dimension against CPU seconds of training, with standard errors.

    >>> [axes] = plot([Ranked("woodbury", 3, 4.5, 0.01, 120.0, 2.0, 42860, 0.3, 1e-6)]).axes
    >>> axes.get_ylabel()
    'test bits/dim'
    """
    from matplotlib.figure import Figure  # which nflows requires

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        errors = [error if error == error else 0 for error in (row.cpu_standard_error, row.standard_error)]
        point = row.cpu_seconds, row.bits_per_dim
        (line, *_) = axes.errorbar(*point, xerr=errors[0], yerr=errors[1], fmt="o", markersize=4, capsize=3)
        axes.annotate(
            row.mixing, point, xytext=(5, 4), textcoords="offset points", fontsize=8, color=line.get_color()
        )  # fmt: skip
    axes.set(xlabel="CPU seconds of training", ylabel="test bits/dim")
    axes.margins(0.1)
    axes.grid(alpha=0.3)
    return figure


def draw(path: str | Path, rows: Sequence[Ranked]) -> None:
    """Write :func:`plot` as PNG, whole or not at all.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     draw(f"{folder}/p.png", [Ranked("woodbury", 3, 4.5, 0.01, 120.0, 2.0, 42860, 0.3, 1e-6)])
    ...     Path(folder, "p.png").read_bytes()[1:4]
    b'PNG'
    """
    with whole_file(path) as new:
        plot(rows).savefig(new, format="png", dpi=150)
