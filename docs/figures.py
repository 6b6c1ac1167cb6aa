"""The figures of the pages, drawn by the layers themselves when the site is built.

Grounds are transparent and text is mid-grey, so that one file serves light and dark pages.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from math import ceil, prod
from pathlib import Path
from time import perf_counter
from typing import Any

import matplotlib
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from nflows.transforms.base import Transform
from tails import tails
from torch import Tensor

import nflows_woodbury
from nflows_woodbury.config import MIXINGS as NAMED
from nflows_woodbury.config import FlowConfig
from nflows_woodbury.transforms.macow import MaCowUnit

# Every mixing that has a name, but for those that look like conv1x1; and MaCow's coupling for comparison.
MIXINGS = {
    **{name: mixing for name, mixing in NAMED.items() if not name.startswith("conv1x1-")},
    "macow": lambda dc, ds: partial(MaCowUnit, hidden_channels=16),
}

GREY = "#808080"
STYLE = matplotlib.rc_params_from_file(Path(__file__).with_name("matplotlibrc"), use_default_template=False)
FLOOR = 1e-3  # of the colour scale
RANKS = (2, 8)


def draw(folder: Path, renew: bool = True) -> None:
    """Draw every figure that is missing or, with ``renew``, older than the code it shows."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = [Path(__file__), *Path(nflows_woodbury.__file__).parent.rglob("*.py")]
    newest = max(source.stat().st_mtime for source in sources)
    for name, make in FIGURES.items():
        path = folder / f"{name}.svg"
        if path.exists() and (not renew or path.stat().st_mtime > newest):
            continue
        with torch.random.fork_rng(devices=[]), matplotlib.rc_context(STYLE):
            torch.manual_seed(0)
            make().savefig(path, transparent=True, metadata={"Date": None})


def receptive_fields(columns: int = 3) -> Figure:
    """What one output pixel in the middle and one in the corner depend on."""
    shape, rows = (4, 15, 15), 2 * ceil(len(MIXINGS) / columns)
    figure, axes = _panels(rows, columns, 1.95)
    for number, (name, mixing) in enumerate(MIXINGS.items()):
        layer = _moved(mixing(*RANKS)(shape)).double()
        upper, column = 2 * (number // columns), number % columns
        for row, (i, j) in ((upper, (7, 7)), (upper + 1, (0, 0))):
            image = _show(axes[row][column], _receptive_field(layer, shape, i, j))
        axes[upper][column].set_title(name)
    _colour_bar(figure, image, axes)
    return figure


def jacobians(columns: int = 3) -> Figure:
    """The whole Jacobian of each mixing on a small image, entry by entry."""
    shape = (2, 4, 4)
    figure, axes = _panels(ceil(len(MIXINGS) / columns), columns, 2.05)
    for number, (name, mixing) in enumerate(MIXINGS.items()):
        panel = axes[number // columns][number % columns]
        image = _show(panel, _jacobian(_moved(mixing(*RANKS)(shape)).double(), shape).abs())
        panel.set_title(name)
    _colour_bar(figure, image, axes)
    return figure


def timing(sizes: tuple[int, ...] = (8, 16, 32, 64), channels: int = 12, batch: int = 8, rounds: int = 5) -> Figure:
    """Milliseconds for each image, forward and inverse, against the image's side."""
    figure = Figure(figsize=(6.2, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    calls = {}
    for (name, mixing), size in product(MIXINGS.items(), sizes):
        layer, images = _moved(mixing(8, 16)((channels, size, size))), torch.randn(batch, channels, size, size)
        for direction in ("forward", "inverse"):
            calls[name, direction, size] = partial(getattr(layer, direction), images)
    seconds = {key: float("inf") for key in calls}
    for _ in range(rounds):  # in turn, so that a busy moment of the machine hits none of them every time
        seconds = {key: min(seconds[key], _seconds(call)) for key, call in calls.items()}
    for panel, direction in zip(panels, ("forward", "inverse"), strict=True):
        for name in MIXINGS:
            record = [1e3 * seconds[name, direction, size] / batch for size in sizes]
            panel.plot(sizes, record, marker="o", markersize=4, label=name)
        panel.set(title=direction, xlabel="side of the image, pixels", xscale="log", yscale="log")
        panel.set_xticks(sizes, [str(size) for size in sizes])
        panel.minorticks_off()
    panels[0].set_ylabel("milliseconds per image")
    threads = torch.get_num_threads()
    cpu = f"{threads} CPU thread{'s' * (threads > 1)}"
    figure.suptitle(f"torch {torch.__version__}, {cpu}, {channels} channels", size=10)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, labelcolor=GREY)
    return figure


def memory(depths: tuple[int, ...] = (1, 2, 4, 8, 16, 32)) -> Figure:
    """What autograd keeps for the backward pass of one batch, against the flow steps of each level."""
    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axes = figure.subplots()
    images = torch.zeros(8, 3, 32, 32, dtype=torch.uint8)
    for reversible, label in ((False, "activations kept"), (True, "reversible")):
        flows = [FlowConfig(steps=depth).build(reversible=reversible) for depth in depths]
        axes.plot(depths, [_kept(flow, images) / 2**20 for flow in flows], marker="o", markersize=4, label=label)
    axes.set(xlabel="flow steps in each of 3 levels", ylabel="MiB", xscale="log", yscale="log")
    axes.set_xticks(depths, [str(depth) for depth in depths])
    axes.minorticks_off()
    axes.legend(labelcolor=GREY)
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "receptive-fields": receptive_fields,
    "jacobians": jacobians,
    "timing": timing,
    "memory": memory,
    "tails": tails,
}


def _kept(flow: torch.nn.Module, images: Tensor) -> int:
    """Bytes, each storage once, parameters aside."""
    own = {parameter.untyped_storage().data_ptr() for parameter in flow.parameters()}
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = flow(images).mean()
        total = sum(sizes.values())
    del loss  # until here, so that no storage is counted twice
    return total


def _moved(layer: Transform) -> Transform:
    """The layer as training may leave it: its start plus noise, so that every part of it acts."""
    with torch.no_grad():
        for parameter in layer.parameters():
            spread = 0.2 / max(parameter.shape[0], 1) ** 0.5 if parameter.dim() > 1 else 0.1
            parameter += spread * torch.randn(parameter.shape)
    return layer.eval()


def _receptive_field(layer: Transform, shape: tuple[int, int, int], i: int, j: int) -> Tensor:
    """Mean over channels of |d y[:, i, j] / d x|, shape (h, w)."""
    inputs = torch.zeros(1, *shape, dtype=torch.float64, requires_grad=True)
    pixel = layer(inputs)[0][0, :, i, j]
    rows = [torch.autograd.grad(value, inputs, retain_graph=True)[0][0].abs() for value in pixel]
    return torch.stack(rows).mean((0, 1))


def _jacobian(layer: Transform, shape: tuple[int, int, int]) -> Tensor:
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x)[0], torch.zeros(1, *shape, dtype=torch.float64))
    return jacobian.reshape(prod(shape), prod(shape))


@torch.no_grad()
def _seconds(call: Callable[[], Any], budget: float = 0.01) -> float:
    """Shortest of the calls that fit into ``budget`` seconds, three at least."""
    times: list[float] = []
    while sum(times) < budget or len(times) < 3:
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return min(times)


def _panels(rows: int, columns: int, side: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(columns * side, rows * side + 0.7), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for panel in axes.flat:
        panel.axis("off")
    return figure, axes


def _show(panel: Any, values: Tensor) -> Any:
    """Values as colours, relative to the largest; what is 0 (up to rounding) stays empty."""
    share = values / values.max()
    panel.axis("on")
    panel.set(xticks=[], yticks=[])
    for spine in panel.spines.values():
        spine.set_visible(True)
    shown = torch.where(share < 1e-12, torch.nan, share.clamp_min(FLOOR))
    return panel.imshow(shown.numpy(), cmap="viridis", norm=LogNorm(FLOOR, 1), interpolation="nearest")


def _colour_bar(figure: Figure, image: Any, axes: Any) -> None:
    bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.7, aspect=40, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_label("share of the panel's largest entry")
