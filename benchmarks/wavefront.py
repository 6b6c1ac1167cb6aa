"""Time the wavefront inverse of a triangular convolution against substitution pixel by pixel.

Both are plain torch, vectorised over batch, channels and groups. Pixel by pixel comes twice: ``textbook`` solves with
the triangular corner tap at every pixel, ``folded`` multiplies kernel and image by its inverse ahead of the loop, as
the wavefront does. All run in turn, forward only, on the same data; the table gives medians in milliseconds.

    python benchmarks/wavefront.py --threads 1 --repeats 15 --json wavefront.json    # one of emerging's convolutions
    python benchmarks/wavefront.py --groups 4 --kernel 3 --sizes 16x12x32x32 16x48x32x32 16x96x32x32    # FInC's
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nflows_woodbury.linalg import triangular_conv
from nflows_woodbury.linalg.wavefronts import wavefronts

SIZES = ("16x12x16x16", "16x48x16x16", "16x96x32x32")


def textbook(outputs: Tensor, kernel: Tensor) -> Tensor:
    corner, taps, inputs = _start(outputs, kernel)
    p, q = kernel.shape[3:]
    for i in range(outputs.shape[3]):
        for j in range(outputs.shape[4]):
            known = inputs[..., i : i + p, j : j + q].flatten(2)
            rest = outputs[..., i, j].mT - taps @ known.mT
            inputs[..., i + p - 1, j + q - 1] = torch.linalg.solve_triangular(corner, rest, upper=False).mT
    return inputs[..., p - 1 :, q - 1 :]


def folded(outputs: Tensor, kernel: Tensor) -> Tensor:
    corner, taps, inputs = _start(outputs, kernel)
    p, q = kernel.shape[3:]
    inverse = torch.linalg.solve_triangular(corner, torch.eye(corner.shape[1]).expand_as(corner), upper=False)
    taps = -(inverse @ taps).mT.contiguous()
    scaled = torch.matmul(inverse[:, None], outputs.flatten(3)).view(outputs.shape)
    for i in range(outputs.shape[3]):
        for j in range(outputs.shape[4]):
            known = inputs[..., i : i + p, j : j + q].flatten(2)
            if len(inputs) == 1:
                inputs[0, ..., i + p - 1, j + q - 1] = torch.addmm(scaled[0, ..., i, j], known[0], taps[0])
            else:
                inputs[..., i + p - 1, j + q - 1] = torch.baddbmm(scaled[..., i, j], known, taps)
    return inputs[..., p - 1 :, q - 1 :]


def _start(outputs: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The corner tap, the other taps as a matrix, and zeros with a margin for the solution."""
    corner, taps = kernel[..., -1, -1], kernel.clone()
    taps[..., -1, -1] = 0
    p, q = kernel.shape[3:]
    return corner, taps.flatten(2), F.pad(torch.zeros_like(outputs), (q - 1, 0, p - 1, 0))


METHODS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "wavefront": triangular_conv.solve,
    "textbook": textbook,
    "folded": folded,
}


@torch.no_grad()
def measure(size: tuple[int, ...], kernel_size: int, groups: int, repeats: int) -> dict[str, Any]:
    """Medians of all methods at one size, with the steps that they take one after another."""
    batch, channels, height, width = size[0], size[1] // groups, *size[2:]
    kernel = torch.randn(groups, channels, channels, kernel_size, kernel_size)
    kernel *= 0.1 / (channels * kernel_size**2) ** 0.5
    kernel = triangular_conv.triangular(kernel, kernel[..., -1, -1].tril(-1) + torch.eye(channels))
    images = torch.randn(groups, batch, channels, height, width)
    outputs = torch.stack([triangular_conv.convolve(*pair) for pair in zip(images, kernel, strict=True)])
    for name, method in METHODS.items():  # also the warm-up
        torch.testing.assert_close(method(outputs, kernel), images, atol=1e-4, rtol=0, msg=name)
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    for _ in range(repeats):
        for name, method in METHODS.items():
            start = time.perf_counter()
            method(outputs, kernel)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: 1e3 * statistics.median(times) for name, times in seconds.items()}
    return {
        "size": "x".join(map(str, size)),
        "kernel": kernel_size,
        "groups": groups,
        "steps": {"wavefront": len(wavefronts(height, width)), "pixel by pixel": height * width},
        "milliseconds": medians,
        "ratio": {name: medians[name] / medians["wavefront"] for name in METHODS if name != "wavefront"},
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The results as lines of text."""
    head = ("size", "steps", "wavefront", "pixels", "textbook", "ratio", "folded", "ratio")
    lines = [f"{head[0]:>14}" + "".join(f"{name:>11}" for name in head[1:])]
    for row in rows:
        steps, times, ratio = row["steps"], row["milliseconds"], row["ratio"]
        lines.append(
            f"{row['size']:>14}{steps['wavefront']:>11}{times['wavefront']:>11.2f}{steps['pixel by pixel']:>11}"
            f"{times['textbook']:>11.2f}{ratio['textbook']:>11.1f}{times['folded']:>11.2f}{ratio['folded']:>11.1f}"
        )
    return "\n".join(lines)


def _size(text: str) -> tuple[int, ...]:
    sizes = tuple(map(int, text.split("x")))
    if len(sizes) != 4 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"must be BATCHxCHANNELSxHEIGHTxWIDTH, got {text}")
    return sizes


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = [*map(_size, SIZES)]
    parser.add_argument("--sizes", nargs="+", type=_size, default=sizes, help="BATCHxCHANNELSxHEIGHTxWIDTH, any number")
    parser.add_argument("--kernel", type=int, default=2, help="side of the quadrant: 2 for a joint 3 x 3 window")
    parser.add_argument("--groups", type=int, default=1, help="groups of channels, each with a kernel of its own")
    parser.add_argument("--repeats", type=int, default=15, help="timed runs of each method, in turn")
    parser.add_argument("--threads", type=int, default=1, help="threads that torch uses")
    parser.add_argument("--seed", type=int, default=0, help="seed of kernel and images")
    parser.add_argument("--json", type=Path, help="file for the results and the settings")
    options = parser.parse_args(arguments)
    if any(size[1] % options.groups for size in options.sizes):
        parser.error(f"--sizes must have channels divisible by --groups {options.groups}")
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    rows = [measure(size, options.kernel, options.groups, options.repeats) for size in options.sizes]
    print(table(rows))
    if options.json:
        settings = {"threads": options.threads, "repeats": options.repeats, "seed": options.seed}
        versions = {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()}
        options.json.write_text(json.dumps({**settings, **versions, "results": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
