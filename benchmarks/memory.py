"""Count what autograd keeps of each layer for its backward pass, beside what it must keep. A count, so exact.

Bytes of saved tensors, each storage once and parameters left out, in units of the layer's inputs: the part that grows
with the batch, and the rest in KiB. What must be kept: of a Woodbury transformation, whose sides commute, the inputs
and the thin products; of another layer that multiplies by matrices one after another, the inputs of each; of a
coupling, the inputs of each convolution and what the map of its entries needs. One more pass gives all else that the
gradients need.

    python benchmarks/memory.py --shape 48x16x16 --json memory.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from math import ceil, log2, prod
from pathlib import Path
from typing import Any

import torch
from mixing import versions
from torch import Tensor, nn

from nflows_woodbury import ActNorm, AffineCoupling, Chain
from nflows_woodbury.config import COUPLINGS, MIXINGS
from nflows_woodbury.transforms.butterfly import SPARSE_SIZE

Shape = tuple[int, int, int]
DC, DS = 8, 16


def kept(layer: nn.Module, inputs: Tensor) -> int:
    """Bytes that autograd saves in one call of the layer on inputs that another layer made."""
    own = {parameter.untyped_storage().data_ptr() for parameter in layer.parameters()}
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    inputs = inputs.detach().requires_grad_().clone()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        results = layer(inputs)
        total = sum(sizes.values())
    del results  # until here, so that no storage is counted twice
    return total


def count(layer: nn.Module, shape: Shape, batch: int = 8) -> tuple[float, float]:
    """What grows with the batch, in inputs of the layer, and what does not, in bytes."""
    torch.manual_seed(0)
    small, large = (kept(layer, torch.randn(size, *shape)) for size in (batch, 2 * batch))
    return (large - small) / (4 * batch * prod(shape)), 2 * small - large


# --- what must be kept, in inputs of the layer


def of_update(n: int, rank: int) -> float:
    """Thin products of ``I + U V`` over vectors of ``n``; none where the matrix itself is cheaper."""
    return rank / n if n > 2 * rank else 0.0


def of_net(shape: Shape, hidden: int) -> float:
    """The inputs of the convolutions 3x3, 1x1 and 3x3 of a coupling: half of the channels, and both hidden layers."""
    return 0.5 + 2 * hidden / shape[0]


def of_butterfly(shape: Shape) -> float:
    """Inputs of a matrix over the channels, and of one over the pixels or of each factor of it."""
    _, h, w = shape
    return 1 + (1 if h * w < SPARSE_SIZE else ceil(log2(h * w)))


def of_macow(shape: Shape, hidden: int) -> float:
    """Of four couplings: inputs of three convolutions, outputs and log-scale."""
    return 4 * (1 + 2 * hidden / shape[0] + 2)


MUST: dict[str, Callable[[Shape, int], tuple[float, str]]] = {
    "ActNorm": lambda shape, hidden: (1, "outputs, which the layer after it keeps as its inputs"),
    "woodbury": lambda shape, hidden: (
        1 + of_update(shape[0], DC) + of_update(prod(shape[1:]), DS), "inputs, thin products"),
    "me-woodbury": lambda shape, hidden: (
        1 + sum(of_update(n, d) for n, d in zip(shape, (DC, DS, DS), strict=True)), "inputs, thin products"),
    "emerging": lambda shape, hidden: (3, "inputs of a 1x1 and of two convolutions"),
    "finc": lambda shape, hidden: (2, "inputs of a 1x1 and of one convolution"),
    "butterfly": lambda shape, hidden: (of_butterfly(shape), "inputs of each factor"),
    "affine": lambda shape, hidden: (of_net(shape, hidden) + 1, "inputs of convolutions; new half, log-scale"),
    "additive": lambda shape, hidden: (of_net(shape, hidden), "inputs of convolutions"),
    "macow": lambda shape, hidden: (of_macow(shape, hidden), "as affine, of four couplings on all channels"),
}  # fmt: skip
LINEAR = (1.0, "inputs")  # of every other mixing


def must(name: str, layer: Any, shape: Shape, hidden: int) -> tuple[float | None, str]:
    """What a layer must keep, in its inputs, and what that is; None for what depends on its parameters."""
    if name == "spline":
        return of_net(shape, hidden) + (1 + layer.num_parameters) / 2, "inputs of convolutions; values, parameters"
    if name == "exponential":
        return None, "inputs of a 1x1 and of each term of the series"
    return MUST[name](shape, hidden) if name in MUST else LINEAR


def rows_of(shape: Shape, hidden: int) -> list[dict[str, Any]]:
    """Of ActNorm, each mixing, each coupling, and a whole flow step."""
    torch.manual_seed(0)
    layers: dict[str, Any] = {"ActNorm": ActNorm(shape[0])}
    layers |= {name: make(DC, DS)(shape) for name, make in MIXINGS.items()}
    layers |= {name: make(shape, hidden) for name, make in COUPLINGS.items()}
    rows = []
    for name, layer in layers.items():
        (of_batch, fixed), (least, what) = count(layer, shape), must(name, layer, shape, hidden)
        rows.append({"layer": name, "kept": of_batch, "fixed": fixed, "must": least, "what": what})
    for name in ("woodbury", "conv1x1"):
        step = Chain([ActNorm(shape[0]), MIXINGS[name](DC, DS)(shape), AffineCoupling(shape, hidden)])
        of_batch, fixed = count(step, shape)
        least = sum(row["must"] for row in rows if row["layer"] in (name, "affine"))
        what = "what the mixing and the coupling must"
        rows.append(
            {"layer": f"a step: ActNorm, {name}, affine", "kept": of_batch, "fixed": fixed, "must": least, "what": what}
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", default=["12x16x16", "48x16x16"], metavar="CxHxW")
    parser.add_argument("--hidden-channels", type=int, default=64, help="of the couplings' networks (default: 64)")
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    results = {}
    for words in options.shape:
        c, h, w = map(int, words.split("x"))
        rows = results[words] = rows_of((c, h, w), options.hidden_channels)
        for row in rows:
            least = "" if row["must"] is None else f"{row['must']:.2f}"
            print(f"{words:10} {row['layer']:34} keeps {row['kept']:6.2f} inputs and {row['fixed'] / 1024:7.1f} KiB, "
                  f"must {least:>6}: {row['what']}")  # fmt: skip
    if options.json:
        settings = {"ranks": [DC, DS], "hidden_channels": options.hidden_channels}
        options.json.write_text(json.dumps({"settings": settings, **versions(), "results": results}) + "\n")


if __name__ == "__main__":
    main()
