"""Trained flows that differ in their mixing, best first: what each costs, as a table, a CSV file and a picture."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import product
from math import nan
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from nflows_woodbury.evaluation.pictures import save_figure
from nflows_woodbury.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Ranked", "draw", "plot", "ranking", "table", "write_csv"]

_PLACES = tuple(product((5, -5), (4, -4, 14, -14)))  # of a name beside its point, in points


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
        step_milliseconds: of CPU time for a batch forward and backward, the shortest of all runs.
        parameters: of the whole flow.
        sampling_milliseconds: of CPU time for each image, the shortest; not a number where no sample is finite.
        round_trip: the largest difference between test images and what comes back from noise, over the largest value;
            the worst run's.

    >>> Ranked("woodbury", 3, 4.5, 0.01, 120.0, 2.0, 17.5, 42860, 0.3, 1e-6).runs
    3
    """

    mixing: str
    runs: int
    bits_per_dim: float
    standard_error: float
    cpu_seconds: float
    cpu_standard_error: float
    step_milliseconds: float
    parameters: int
    sampling_milliseconds: float
    round_trip: float


def ranking(records: Iterable[Mapping[str, Any]]) -> list[Ranked]:
    """The runs of each mixing as one row, the lowest bits per dimension first.

    Args:
        records: what :func:`~nflows_woodbury.evaluation.record.measure` returns, with
            :func:`~nflows_woodbury.evaluation.costs.costs`.

    >>> record = {"flow": {"mixing": "woodbury"}, "parameters": 9, "training_cpu_seconds": 3.0, "round_trip": 1e-6}
    >>> record |= {"step_milliseconds": 17.5, "sampling_milliseconds": 1.0}
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
    seconds = [_number(record["training_cpu_seconds"]) for record in records]
    trips = [_number(record["round_trip"]) for record in records]
    times = [_number(record["sampling_milliseconds"]) for record in records]
    return Ranked(
        mixing,
        len(finite),
        mean(finite) if finite else nan,
        _standard_error(finite),
        mean(seconds),
        _standard_error(seconds),
        min(record["step_milliseconds"] for record in records),
        records[0]["parameters"],
        min((time for time in times if time == time), default=nan),
        nan if any(trip != trip for trip in trips) else max(trips),
    )


def _number(value: float | None) -> float:
    """What a record holds; null stands for what is no number."""
    return nan if value is None else value


def _standard_error(values: Sequence[float]) -> float:
    return stdev(values) / len(values) ** 0.5 if len(values) > 1 else nan


def table(rows: Sequence[Ranked]) -> list[str]:
    r"""Lines that people read, under a heading.

    >>> print(*table([Ranked("woodbury", 3, 4.5, 0.01, 120.0, 2.0, 17.5, 42860, 0.3, 1e-6)]), sep="\n")
    mixing    runs  test bits/dim (se)  CPU seconds  ms/step  parameters  ms/sample  round trip
    woodbury     3       4.500 (0.010)        120.0     17.5      42,860       0.30       1e-06
    """
    header = ("mixing", "runs", "test bits/dim (se)", "CPU seconds", "ms/step", "parameters", "ms/sample", "round trip")
    cells = [header] + [
        (
            row.mixing, f"{row.runs}", _with_error(row.bits_per_dim, row.standard_error), f"{row.cpu_seconds:.1f}",
            f"{row.step_milliseconds:.1f}", f"{row.parameters:,}", f"{row.sampling_milliseconds:.2f}",
            f"{row.round_trip:.0e}",
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
    ...     write_csv(f"{folder}/t.csv", [Ranked("woodbury", 1, 4.5, nan, 120.0, nan, 17.5, 42860, 0.3, 1e-6)])
    ...     Path(folder, "t.csv").read_text().splitlines()[1]
    'woodbury,1,4.5,,120.0,,17.5,42860,0.3,1e-06'
    """
    with whole_file(path) as new, new.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(Ranked))
        writer.writerows(["" if value != value else value for value in astuple(row)] for row in rows)


def plot(rows: Sequence[Ranked]) -> Figure:
    """Bits per dimension against CPU seconds of training, with standard errors.

    >>> [axes] = plot([Ranked("woodbury", 3, 4.5, 0.01, 120.0, 2.0, 17.5, 42860, 0.3, 1e-6)]).axes
    >>> axes.get_ylabel()
    'test bits/dim'
    """
    from matplotlib.figure import Figure  # which nflows requires
    from matplotlib.transforms import Bbox

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    points = []
    for row in rows:
        errors = [error if error == error else 0 for error in (row.cpu_standard_error, row.standard_error)]
        point = row.cpu_seconds, row.bits_per_dim
        (line, *_) = axes.errorbar(*point, xerr=errors[0], yerr=errors[1], fmt="o", markersize=4, capsize=3)
        points.append((row.mixing, point, line.get_color()))
    axes.set(xlabel="CPU seconds of training", ylabel="test bits/dim")
    axes.margins(0.1)
    axes.grid(alpha=0.3)
    figure.draw_without_rendering()  # only then it is known where points and labels lie
    places = axes.transData.transform([point for _, point, _ in points])
    taken = [Bbox.from_extents(x - 4, y - 4, x + 4, y + 4) for x, y in places]
    for name, point, colour in points:
        taken.append(_label(axes, name, point, colour, taken))
    return figure


def _label(axes: Any, name: str, point: tuple[float, float], colour: str, taken: Sequence[Any]) -> Any:
    """Write a name beside its point, in the first place where it covers nothing, or the last; the box it takes."""
    for x, y in _PLACES:
        text = axes.annotate(
            name, point, xytext=(x, y), textcoords="offset points", fontsize=8, color=colour,
            ha="left" if x > 0 else "right", va="bottom" if y > 0 else "top",
        )  # fmt: skip
        box = text.get_window_extent()
        inside = axes.bbox.fully_containsx(box.x0) and axes.bbox.fully_containsx(box.x1)
        if (inside and not box.count_overlaps(taken)) or (x, y) == _PLACES[-1]:
            break
        text.remove()
    return box


def draw(path: str | Path, rows: Sequence[Ranked]) -> None:
    """Write the figure of ``plot`` as PNG, whole or not at all.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     draw(f"{folder}/p.png", [Ranked("woodbury", 3, 4.5, 0.01, 120.0, 2.0, 17.5, 42860, 0.3, 1e-6)])
    ...     Path(folder, "p.png").read_bytes()[1:4]
    b'PNG'
    """
    save_figure(plot(rows), path)
