"""Time mixing layers beside their peers: forward, forward + backward, and inverse, each with its log-determinant.

Beside every mixing with a name in the package stand nflows' ``OneByOneConvolution``, normflows' ``Invertible1x1Conv``,
``conv2d`` with a 1x1 kernel, and the Woodbury formula as published, in plain torch operations (``x + U (V x)``, an
explicit inverse, a separate ``slogdet``). All run in turn on the same data; what is quoted are medians.

    python benchmarks/mixing.py criteria --threads 1     # six sizes, geometric means of ratios, three runs
    python benchmarks/mixing.py sweep --out sweep        # over channels and pixels: table, exponents, plot, JSON

In a sweep all sizes, too, take turns. One that is stopped goes on with the axes and operations that its JSON lacks.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import exp, log
from pathlib import Path
from statistics import fmean, linear_regression, quantiles
from time import perf_counter
from typing import Any, TypeVar

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import nflows.transforms
import normflows
import torch
from torch import Tensor, nn
from torch.autograd import backward
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from nflows_woodbury import WoodburyTransform
from nflows_woodbury.config import MIXINGS

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))
from registry import Case

Shape = tuple[int, int, int]
Key = TypeVar("Key")
Size = tuple[int, int, int, int]  # and a batch
CRITERIA = ("64x12x16x16", "64x24x8x8", "64x48x4x4", "16x96x32x32", "8x96x64x64", "64x192x8x8")
CHANNELS = [(8, c, 32, 32) for c in (16, 32, 64, 128, 256, 512)]
PIXELS = [(8, 48, side, side) for side in (8, 16, 24, 32, 48, 64, 96, 128)]


# --- the peers, data to noise in forward


class Published(nn.Module):
    """Woodbury as in the paper's appendix and its authors' repository, with the factors of ours."""

    def __init__(self, shape: Shape, ranks: tuple[int, int]) -> None:
        super().__init__()
        for name, factor in zip(("Uc", "Vc", "Us", "Vs"), WoodburyTransform(shape, ranks).parameters(), strict=True):
            setattr(self, name, factor)
        self.register_buffer("eye_c", torch.eye(ranks[0]))
        self.register_buffer("eye_s", torch.eye(ranks[1]))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        x = inputs.flatten(2)
        _, c, s = x.shape
        logabsdet = s * torch.slogdet(self.eye_c + self.Vc @ self.Uc)[1]
        x = x + torch.matmul(self.Uc, torch.matmul(self.Vc, x))
        logabsdet = logabsdet + c * torch.slogdet(self.eye_s + self.Vs @ self.Us)[1]
        x = x + torch.matmul(torch.matmul(x, self.Us), self.Vs)
        return x.view(inputs.shape), logabsdet

    def inverse(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        x = inputs.flatten(2)
        _, c, s = x.shape
        logabsdet = c * torch.slogdet(self.eye_s + self.Vs @ self.Us)[1]
        x = x - torch.matmul(
            torch.matmul(torch.matmul(x, self.Us), torch.inverse(self.eye_s + self.Vs @ self.Us)), self.Vs
        )
        logabsdet = logabsdet + s * torch.slogdet(self.eye_c + self.Vc @ self.Uc)[1]
        W = torch.matmul(self.Uc, torch.inverse(self.eye_c + self.Vc @ self.Uc))
        x = x - torch.matmul(W, torch.matmul(self.Vc, x))
        return x.view(inputs.shape), -logabsdet


class Conv2d(nn.Module):
    """``conv2d`` with a dense 1x1 kernel, and ``slogdet``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(channels, channels)).Q)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return F.conv2d(inputs, self.weight[:, :, None, None]), self._logabsdet(inputs)

    def inverse(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return F.conv2d(inputs, torch.inverse(self.weight)[:, :, None, None]), -self._logabsdet(inputs)

    def _logabsdet(self, inputs: Tensor) -> Tensor:
        return inputs[0, 0].numel() * torch.slogdet(self.weight)[1]


class Normflows(nn.Module):
    """Its forward is noise to data."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.flow = normflows.flows.Invertible1x1Conv(channels, use_lu=True)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.flow.inverse(inputs)

    def inverse(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.flow.forward(inputs)


PEERS: dict[str, Callable[[Shape, tuple[int, int]], nn.Module]] = {
    "published Woodbury": Published,
    "conv2d": lambda shape, ranks: Conv2d(shape[0]),
    "nflows 1x1": lambda shape, ranks: nflows.transforms.OneByOneConvolution(shape[0], identity_init=False),
    "normflows 1x1": lambda shape, ranks: Normflows(shape[0]),
}
OURS: dict[str, Callable[[Shape, tuple[int, int]], nn.Module]] = {
    name: lambda shape, ranks, name=name: Case(name, shape, ranks=ranks).make() for name in MIXINGS
}
LAYERS = OURS | PEERS


# --- measuring


def forward(layer: nn.Module, inputs: Tensor) -> Any:
    with torch.no_grad():
        return layer(inputs)


def forward_and_backward(layer: nn.Module, inputs: Tensor) -> None:
    layer.zero_grad()
    inputs = inputs.detach().requires_grad_()
    outputs, logabsdet = layer(inputs)
    backward([outputs, logabsdet.sum()], [inputs.detach(), None])


def inverse(layer: nn.Module, inputs: Tensor) -> Any:
    with torch.no_grad():
        return layer.inverse(inputs)


OPERATIONS = {"forward": forward, "forward + backward": forward_and_backward, "inverse": inverse}


def in_turn(
    calls: dict[Key, Callable[[], Any]], rounds: int = 5, seconds: float = 0.0, device: str = "cpu"
) -> dict[Key, dict[str, float]]:
    """Median and quartiles of each call's seconds, timed round by round, after a warm-up.

    A round takes each once, or as often in a row as fit into 10 ms, so that short ones run warm as they do in a model.
    Each gets at least so many rounds, and goes on until it has taken ``seconds``.
    """
    often = {name: max(1, int(0.01 / min(once(call, device) for _ in range(3)))) for name, call in calls.items()}
    taken: dict[Key, list[float]] = {name: [] for name in calls}
    waiting = dict(calls)
    while waiting:
        for name, call in list(waiting.items()):
            taken[name].append(once(call, device, often[name]))
            if len(taken[name]) >= rounds and sum(taken[name]) * often[name] >= seconds:
                del waiting[name]
    return {name: dict(zip(("low", "median", "high"), quantiles(times), strict=True)) for name, times in taken.items()}


def once(call: Callable[[], Any], device: str, often: int = 1) -> float:
    """Seconds of one call, as the mean of so many in a row."""
    synchronize(device)
    start = perf_counter()
    for _ in range(often):
        call()
    synchronize(device)
    return (perf_counter() - start) / often


def synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def peak_memory(call: Callable[[], Any], device: str = "cpu") -> int:
    """The most bytes of tensors that one call holds beyond what it starts with."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    held = peak = 0
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def versions() -> dict[str, str]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {"torch": torch.__version__, "python": platform.python_version(), "device": device}


def write_results(path: Path | None, options: argparse.Namespace, rows: Sequence[Any]) -> None:
    """Rows with their settings and versions, as JSON, where a path is given."""
    if path is not None:
        settings = {key: value for key, value in vars(options).items() if key != "json"}
        path.write_text(json.dumps({"settings": settings, **versions(), "results": rows}, indent=2) + "\n")


def ranks_of(shape: Shape) -> tuple[int, int]:
    """Of channels and pixels: 16, or 8 on the smallest axes."""
    c, h, w = shape
    return 8 if c <= 16 else 16, 8 if h * w <= 16 else 16


def measure(size: Size, layers: Iterable[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """All operations of all layers at one size."""
    return [row for operation in OPERATIONS for row in measure_sizes([size], operation, layers, options)]


def measure_sizes(
    sizes: Iterable[Size], operation: str, layers: Iterable[str], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """One operation of all layers at some sizes, all in turn."""
    calls = {}
    for size in sizes:
        torch.manual_seed(0)
        inputs, shape = torch.randn(size, device=options.device), size[1:]
        for name in layers:
            layer = LAYERS[name](shape, ranks_of(shape)).to(options.device)
            calls[size, name] = partial(OPERATIONS[operation], layer, inputs)
    times = in_turn(calls, seconds=options.seconds, device=options.device)
    return [
        {"size": list(size), "ranks": ranks_of(size[1:]), "layer": name, "operation": operation, **seconds}
        for (size, name), seconds in times.items()
    ]


# --- reports


def mean_ratio(rows: list[dict[str, Any]], operation: str, over: str, under: str) -> float:
    """The geometric mean over sizes of one layer's time over another's."""
    times = {(tuple(row["size"]), row["layer"]): row["median"] for row in rows if row["operation"] == operation}
    return exp(fmean(log(times[size, over] / times[size, under]) for size in dict.fromkeys(s for s, _ in times)))


def criteria(options: argparse.Namespace) -> dict[str, Any]:
    """All sizes, as often as asked for; of each run the geometric means."""
    rows, means, sizes = [], [], [tuple(map(int, size.split("x"))) for size in options.sizes]
    for run in range(options.runs):
        found = [row for size in sizes for row in measure(size, options.layers, options)]
        rows += [{"run": run, **row} for row in found]
        means.append({})
        print(f"run {run}: time over that of woodbury, geometric mean over {len(sizes)} sizes")
        for operation in OPERATIONS:
            ratios = {name: mean_ratio(found, operation, name, "woodbury") for name in options.layers}
            means[-1][operation] = ratios
            print(f"  {operation:19}" + "  ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()), flush=True)
    print(table([row for row in rows if row["run"] == options.runs - 1], options.layers))
    return {"means": means, "results": rows}


def sweep(options: argparse.Namespace) -> dict[str, Any]:
    """Over channels and pixels; exponents of the growth over the upper decade."""
    path, settings = options.out / "sweep.json", settings_of(options)
    rows, exponents = measured_before(path, settings), []
    for axis, sizes in (("channels", CHANNELS), ("pixels", PIXELS)):
        for operation in OPERATIONS:
            if any((row["axis"], row["operation"]) == (axis, operation) for row in rows):
                continue
            found = measure_sizes(sizes, operation, options.layers, options)
            rows += [{"axis": axis, "n": size_along(axis, row["size"]), **row} for row in found]
            path.write_text(json.dumps({"settings": settings, "results": rows}) + "\n")
            print(f"{axis}: {operation} done", flush=True)
        for operation in OPERATIONS:
            for name in options.layers:
                curve = [(r["n"], r["median"]) for r in rows
                         if (r["axis"], r["operation"], r["layer"]) == (axis, operation, name)]  # fmt: skip
                upper = [(log(n), log(seconds)) for n, seconds in curve if 10 * n >= curve[-1][0]]
                slope = linear_regression(*zip(*upper, strict=True)).slope
                exponents.append({"axis": axis, "operation": operation, "layer": name, "exponent": slope})
    print(table(rows, options.layers))
    for row in exponents:
        print(f"{row['axis']:9} {row['operation']:19} {row['layer']:19} grows with exponent {row['exponent']:.2f}")
    plot(rows, options.layers, options.out / "sweep.png")
    return {"exponents": exponents, "results": rows}


def size_along(axis: str, size: Sequence[int]) -> int:
    """How many channels or pixels."""
    return size[1] if axis == "channels" else size[2] * size[3]


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """What results of one file have in common."""
    names = ("seconds", "threads", "device", "layers")
    return {name: getattr(options, name) for name in names} | versions()


def measured_before(path: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a sweep that was stopped; ValueError for one with other settings."""
    if not path.exists():
        return []
    before = json.loads(path.read_text())
    if before["settings"] != settings:
        raise ValueError(f"{path} holds a sweep with other settings, {before['settings']}; give another --out")
    return before["results"]


def table(rows: list[dict[str, Any]], layers: Iterable[str]) -> str:
    """Milliseconds, and the spread (quartiles apart, of the median) of the first layer."""
    cells = {(tuple(row["size"]), row["operation"], row["layer"]): row for row in rows}
    lines = ["| size | operation | " + " | ".join(layers) + " |", "|" + "---|" * (2 + len(list(layers)))]
    for size, operation in dict.fromkeys((size, operation) for size, operation, _ in cells):
        found = [cells[size, operation, name] for name in layers]
        times = " | ".join(
            f"{1e3 * row['median']:.2f} ({(row['high'] - row['low']) / row['median']:.0%})" for row in found
        )
        lines.append(f"| {'x'.join(map(str, size))} | {operation} | {times} |")
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], layers: Iterable[str], path: Path) -> None:
    """Time against channels and pixels, a row of panels for each operation."""
    figure, panels = plt.subplots(len(OPERATIONS), 2, figsize=(9, 9), layout="constrained", sharey="row", sharex="col")
    for row_of_panels, operation in zip(panels, OPERATIONS, strict=True):
        for axes, axis in zip(row_of_panels, ("channels", "pixels"), strict=True):
            for name in layers:
                curve = [(r["n"], 1e3 * r["median"]) for r in rows
                         if (r["axis"], r["operation"], r["layer"]) == (axis, operation, name)]  # fmt: skip
                axes.loglog(*zip(*curve, strict=True), "o-" if name in OURS else "s--", label=name, markersize=3)
            axes.set(title=operation, xlabel=axis if operation == list(OPERATIONS)[-1] else "")
            ticks = sorted({r["n"] for r in rows if r["axis"] == axis})
            axes.set_xticks(ticks, map(str, ticks), rotation=45, fontsize=8)
            axes.minorticks_off()
            axes.grid(alpha=0.3)
        row_of_panels[0].set_ylabel("ms")
    panels[0][0].legend(fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["criteria", "sweep"])
    parser.add_argument("--layers", nargs="+", choices=LAYERS, metavar="LAYER",
                        default=["woodbury", "me-woodbury", "conv1x1", *PEERS], help=", ".join(LAYERS))  # fmt: skip
    parser.add_argument("--runs", type=int, default=3, help="of the criteria (default: 3)")
    parser.add_argument("--sizes", nargs="+", default=CRITERIA, metavar="BxCxHxW", help="of the criteria")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each layer, size and operation (default: 0.5)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="that torch uses")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--out", type=Path, default=Path("mixing-times"), help="folder for JSON and plot")
    options = parser.parse_args()
    if "woodbury" not in options.layers:
        parser.error("--layers must hold woodbury, which the others are compared with")
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    results = {"criteria": criteria, "sweep": sweep}[options.what](options)
    record = {"settings": settings_of(options), **results}
    (options.out / f"{options.what}.json").write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
