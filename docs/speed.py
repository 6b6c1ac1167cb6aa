"""What was counted and timed of layers, from docs/records/speed: memory, latency, flow steps, and growth with size.

``benchmarks/memory.py``, ``frozen.py``, ``floor.py``, ``allocator.py`` and ``mixing.py sweep`` wrote the records.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import figures
import matplotlib
from matplotlib.figure import Figure
from tables import list_table

Record = dict[str, Any]

#: the paper's Table 1, of one image: forward, inverse
COSTS = {
    "conv1x1": (":math:`c^2 h w + c^3`", ":math:`c^2 h w`"),
    "periodic": (r":math:`c\, h w \log(h w) + c^3 h w`", r":math:`c\, h w \log(h w) + c^2 h w`"),
    "emerging": (":math:`c^2 h w`", ":math:`c^2 h w`, pixel after pixel"),
    "woodbury": (":math:`d\\, c h w`", ":math:`d\\, c h w`"),
    "me-woodbury": (":math:`d\\, c h w`", ":math:`d\\, c h w`"),
}


def write(records: Path, folder: Path) -> dict[str, str]:
    """The tables by their names; the figure is drawn into the folder."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted((records / "speed").glob("*.json"))}
    with matplotlib.rc_context(figures.STYLE):
        growth(found["sweep"]).savefig(folder / "sweep.svg", transparent=True, metadata={"Date": None})
    return {
        "layer-memory": memory(found["memory"]),
        "latency": latency(found["frozen"]),
        "costs": costs(found["sweep"]),
        "floor": floor(found["floor"]),
        "allocator": allocator(found["allocator"]),
    }


def memory(record: Record) -> str:
    """A row for each layer, a pair of columns for each shape."""
    shapes = list(record["results"])
    header = ["layer", *(f"{shape.replace('x', ' x ')}: {what}" for shape in shapes for what in ("kept", "must"))]
    header += [f"fixed, KiB, {shapes[-1].replace('x', ' x ')}", "what must be kept"]
    rows = []
    for of_shapes in zip(*record["results"].values(), strict=True):
        numbers = [value for row in of_shapes for value in (row["kept"], row["must"])]
        last = of_shapes[-1]
        cells = ["" if number is None else f"{number:.2f}" for number in numbers]
        rows.append([last["layer"], *cells, f"{last['fixed'] / 1024:,.0f}", last["what"]])
    return list_table(header, rows)


def latency(record: Record) -> str:
    """Milliseconds for one sample and one likelihood, as it is and frozen."""
    by_mixing: dict[str, list[str]] = {}
    for row in record["results"]:
        cells = by_mixing.setdefault(row["mixing"], [row["mixing"]])
        cells += [f"{row['plain']:.1f}", f"{row['frozen']:.1f}", f"{row['frozen'] / row['plain']:.2f}"]
    ways = ("sample", "likelihood")
    header = ["mixing", *(f"{way}, {what}" for way in ways for what in ("ms", "frozen, ms", "ratio"))]
    return list_table(header, by_mixing.values())


def floor(record: Record) -> str:
    """A row for each number of threads and level: a flow step over its network, and where its time goes."""
    parts = ["step", "network", "around the network", "mixing", "ActNorm", "glue"]
    rows = []
    for row in record["results"]:
        level = "all" if row["shape"] is None else " x ".join(map(str, row["shape"]))
        cells = [f"{row[name]:.2f}" for name in ("step / network", *parts)]
        rows.append([str(row["threads"]), level, *cells])
    return list_table(["threads", "level", "step / network", *(f"{part}, ms" for part in parts)], rows)


def allocator(record: Record) -> str:
    """A row for each flow and number of threads: the quotient of times, and page faults."""
    rows = []
    for row in record["results"]:
        quotient = row["kept / given back"]
        spread = f"{quotient['median']:.2f} ({quotient['low']:.2f} to {quotient['high']:.2f})"
        faults = [f"{row[kind]['page faults']:,.0f}" for kind in ("given back", "kept")]
        rows.append([row["flow"], str(row["threads"]), spread, *faults])
    header = ["flow", "threads", "time kept / given back (quartiles)", "page faults a step, given back", "kept"]
    return list_table(header, rows)


def curve(record: Record, axis: str, operation: str, layer: str) -> list[tuple[int, float]]:
    """Seconds against the number of channels or pixels."""
    wanted = (axis, operation, layer)
    rows = [row for row in record["results"] if (row["axis"], row["operation"], row["layer"]) == wanted]
    return sorted((row["n"], row["median"]) for row in rows)


def costs(record: Record) -> str:
    """The paper's costs, and the exponents that were measured."""
    header = ["mixing", "forward, the paper", "inverse, the paper"]
    ways = [(axis, operation) for axis in ("channels", "pixels") for operation in ("forward", "inverse")]
    header += [f"exponent in {axis}, {operation}" for axis, operation in ways]
    layers, rows = record["settings"]["layers"], []
    exponents = {(row["axis"], row["operation"], row["layer"]): row["exponent"] for row in record["exponents"]}
    for layer in dict.fromkeys([*(name for name in COSTS if name in layers), *layers]):
        fitted = [f"{exponents[(*way, layer)]:.2f}" for way in ways]
        rows.append([layer, *COSTS.get(layer, ("", "")), *fitted])
    return list_table(header, rows)


def growth(record: Record) -> Figure:
    """Time against channels and against pixels, a row of panels for each operation."""
    operations = list(dict.fromkeys(row["operation"] for row in record["results"]))
    figure = Figure(figsize=(7.2, 2.5 * len(operations)), layout="constrained")
    panels = figure.subplots(len(operations), 2, sharey="row", sharex="col", squeeze=False)
    for of_operation, operation in zip(panels, operations, strict=True):
        for panel, axis in zip(of_operation, ("channels", "pixels"), strict=True):
            for layer in record["settings"]["layers"]:
                points = [(n, 1e3 * seconds) for n, seconds in curve(record, axis, operation, layer)]
                panel.loglog(*zip(*points, strict=True), marker="o", markersize=3, label=layer)
            sizes = sorted({row["n"] for row in record["results"] if row["axis"] == axis})
            panel.set_xticks(sizes, [str(size) for size in sizes], rotation=45)
            panel.minorticks_off()
            panel.set_title(operation)
        of_operation[0].set_ylabel("ms")
    for panel, axis in zip(panels[-1], ("channels", "pixels"), strict=True):
        panel.set_xlabel(axis)
    handles = panels[0][0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, labelcolor=figures.GREY)
    return figure
