"""How a flow and its layers changed while it learned: diagnoses from along a run, as a file, lines and a figure.

>>> HISTORY
'diagnosis.json'
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nflows_woodbury.evaluation.diagnosis import LayerReport
from nflows_woodbury.evaluation.pictures import save_figure
from nflows_woodbury.files import write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["HISTORY", "Moment", "draw", "plot", "read_history", "table", "write_history"]

#: the file in a run's folder
HISTORY = "diagnosis.json"

_NOT_FINITE = {"condition": inf, "logabsdet": nan, "round_trip": inf}  # what null stands for in the file


@dataclass(frozen=True)
class Moment:
    """A diagnosis after so many steps of training.

    >>> layer = LayerReport("0", "ActNorm(3)", condition=None, logabsdet=0.1, round_trip=1e-6)
    >>> flow = LayerReport("images -> noise -> images", "whole flow", None, -1.0, round_trip=1e-5, changed=0.0)
    >>> moment = Moment(100, (layer, flow))
    >>> [report.name for report in moment.layers], [report.name for report in moment.ways]
    (['0'], ['images -> noise -> images'])
    """

    step: int
    reports: tuple[LayerReport, ...]

    @property
    def layers(self) -> list[LayerReport]:
        """The reports on single layers."""
        return [report for report in self.reports if report.changed is None]

    @property
    def ways(self) -> list[LayerReport]:
        """The reports on the whole flow, there and back."""
        return [report for report in self.reports if report.changed is not None]

    @property
    def worst(self) -> LayerReport | None:
        """The layer with the largest condition, or None where no layer has one."""
        solving = [report for report in self.layers if report.condition is not None]
        return max(solving, key=lambda report: report.condition or 0, default=None)


def write_history(path: str | Path, moments: Sequence[Moment]) -> None:
    """Write the moments as JSON, whole or not at all; a number that is not finite is null, one that is none left out.

    >>> from tempfile import TemporaryDirectory
    >>> singular = LayerReport("0", "InvertibleConv1x1(3)", condition=inf, logabsdet=-inf, round_trip=inf)
    >>> with TemporaryDirectory() as folder:
    ...     write_history(Path(folder, HISTORY), [Moment(0, (singular,))])
    ...     [moment] = read_history(folder)
    >>> moment.worst.condition
    inf
    """
    write_json(path, [{"step": moment.step, "reports": list(map(_values, moment.reports))} for moment in moments])


def _values(report: LayerReport) -> dict[str, Any]:
    return {name: value for name, value in asdict(report).items() if value is not None}


def read_history(folder: str | Path) -> list[Moment]:
    """The moments of a run's folder, in the order of their steps; none if it has no such file.

    >>> read_history("no-such-run")
    []
    """
    path = Path(folder, HISTORY)
    if not path.is_file():
        return []
    try:
        return [Moment(entry["step"], tuple(map(_report, entry["reports"]))) for entry in json.loads(path.read_text())]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} must be what a training run wrote, or be deleted; {error}") from error


def _report(values: Mapping[str, Any]) -> LayerReport:
    finite: dict[str, Any] = {name: _NOT_FINITE[name] if value is None else value for name, value in values.items()}
    return LayerReport(**{"condition": None, **finite})


def table(moments: Sequence[Moment]) -> list[str]:
    """A line for each moment: the largest condition and whose it is, and what the ways there and back change.

    >>> layer = LayerReport("0.mixing", "InvertibleConv1x1(3)", condition=2.5, logabsdet=0.1, round_trip=1e-6)
    >>> flow = LayerReport("images -> noise -> images", "whole flow", None, -1.0, round_trip=1e-5, changed=0.0)
    >>> for line in table([Moment(100, (layer, flow))]):
    ...     print(line)
      step   condition  round trip   changed  layer with that condition
       100         2.5     1.0e-05     0.00%  0.mixing: InvertibleConv1x1(3)
    """
    lines = [f"{'step':>6}{'condition':>12}{'round trip':>12}{'changed':>10}  layer with that condition"]
    for moment in moments:
        worst = moment.worst
        condition = "" if worst is None else f"{worst.condition:.3g}"
        trip = max((way.round_trip for way in moment.ways), default=nan)
        changed = max((way.changed or 0.0 for way in moment.ways), default=nan)
        layer = "" if worst is None else f"{worst.name}: {worst.kind}"
        lines.append(f"{moment.step:>6}{condition:>12}{trip:>12.1e}{changed:>10.2%}  {layer}")
    return lines


def plot(moments: Sequence[Moment]) -> Figure:
    """Conditions of layers over the steps of training, a colour for each kind of layers, above the round trips.

    A cross at the upper edge is a number that is not finite.

    >>> layer = LayerReport("0", "InvertibleConv1x1(3)", condition=2.5, logabsdet=0.1, round_trip=1e-6)
    >>> above, below = plot([Moment(step, (layer,)) for step in (0, 100)]).axes
    >>> above.get_ylabel(), below.get_xlabel()
    ('condition', 'steps of training')
    """
    from matplotlib.figure import Figure  # which nflows requires
    from matplotlib.ticker import LogFormatter, MaxNLocator

    figure = Figure(figsize=(7, 6), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    last = moments[-1] if moments else Moment(0, ())
    solving = [report for report in last.layers if report.condition is not None]
    kinds = {_class(report): None for report in solving}
    for report in solving:
        _curve(panels[0], moments, report.name, "condition", _class(report), f"C{[*kinds].index(_class(report))}")
    for number, way in enumerate(last.ways):
        _curve(panels[1], moments, way.name, "round_trip", way.name, f"C{number}")
    for axes, label in zip(panels, ("condition", "round trip"), strict=True):
        labels = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))  # each once
        if labels:
            axes.set_yscale("log")
            axes.legend(labels.values(), labels.keys(), fontsize=8, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
            axes.yaxis.set_major_formatter(LogFormatter())
            axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    panels[1].set_xlabel("steps of training")
    panels[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _class(report: LayerReport) -> str:
    """Its class and, if it says so, the axes along which it acts."""
    axes = re.search(r"axes=\([\d, ]*\)", report.kind)
    return ", ".join([report.kind.partition("(")[0], *([axes[0]] if axes else [])])


def _curve(axes: Any, moments: Sequence[Moment], name: str, value: str, label: str, color: str) -> None:
    """One value of one report over the steps, on a logarithmic axis; crosses above it where it is not finite."""
    points = [(m.step, getattr(report, value)) for m in moments for report in m.reports if report.name == name]
    if seen := [point for point in points if 0 < point[1] < inf]:
        axes.plot(*zip(*seen, strict=True), color=color, label=label, marker=".", linewidth=1)
    for step in [step for step, number in points if not number < inf]:
        named = None if seen else label
        axes.plot(step, 0.98, color=color, label=named, marker="x", transform=axes.get_xaxis_transform())


def draw(path: str | Path, moments: Sequence[Moment]) -> None:
    """Write the figure of ``plot`` as PNG, whole or not at all.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     draw(f"{folder}/d.png", [])
    ...     Path(folder, "d.png").read_bytes()[1:4]
    b'PNG'
    """
    save_figure(plot(moments), path)
