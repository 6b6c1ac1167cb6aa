"""What training does to the mixings of flows: the condition of each one's whole map, of runs and of their checkpoints.

A mixing maps one image ``x`` to ``J x + b``; its condition is the largest over the smallest singular value of ``J``.
That is the same measure for all mixings, also for those whose inverse solves no matrix, for which ``nflows-woodbury
diagnose`` has no condition. Singular values come from Lanczos' method on ``J^T J`` and on ``(J^T J)^-1``, in float64,
by the layer's own map, its inverse, and their vector-Jacobian products.

    python benchmarks/conditions.py comparison/* --json conditions.json
    python benchmarks/conditions.py runs/mine/checkpoints/last.ckpt --untrained
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from math import inf, isnan, prod
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from mixing import versions
from nflows.transforms.base import Transform
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from nflows_woodbury import ImageFlow
from nflows_woodbury.checkpoint import load_flow
from nflows_woodbury.config import FlowConfig
from nflows_woodbury.files import write_json
from nflows_woodbury.flow import GridFlow
from nflows_woodbury.transforms.base import SingularError

MIXING = re.compile(r".*\.levels\.(\d+)\.transforms\.(\d+)\.transforms\.1")  # the second part of a level's step


def condition(layer: Transform, shape: Sequence[int], *, tolerance: float = 1e-4) -> float:
    """The largest over the smallest singular value of an affine layer's map, to a relative tolerance.

    It is inf of a map that is singular or not finite. The layer must be in float64 and in eval mode.
    """
    try:
        found = norm(lambda x: layer(x)[0], shape, tolerance) * norm(lambda x: layer.inverse(x)[0], shape, tolerance)
    except SingularError:
        return inf
    return inf if isnan(found) else found  # zero times infinity


def norm(function: Callable[[Tensor], Tensor], shape: Sequence[int], tolerance: float) -> float:
    """The largest singular value of an affine map of float64 inputs ``(1, *shape)``; inf of one that is not finite."""
    size = prod(shape)
    origin = torch.zeros(1, *shape, dtype=torch.float64, requires_grad=True)
    shift = function(origin)

    def squared(vector: np.ndarray) -> np.ndarray:
        inputs = torch.from_numpy(np.ascontiguousarray(vector)).reshape(1, *shape)
        with torch.no_grad():
            outputs = function(inputs) - shift
        (back,) = torch.autograd.grad(shift, origin, outputs, retain_graph=True)
        return back.flatten().numpy()

    start = np.random.default_rng(0).normal(size=size)
    image = squared(start)
    if not np.isfinite(image).all() or not image.any():  # Lanczos' method would have nothing to go on with
        return 0.0 if np.isfinite(image).all() else inf
    if size < 3:  # too small for Lanczos' method
        columns = np.stack([squared(unit) for unit in np.eye(size)])
        return float(np.linalg.eigvalsh(columns)[-1]) ** 0.5
    operator = LinearOperator((size, size), squared, dtype=np.float64)
    (largest,) = eigsh(operator, k=1, v0=start, tol=tolerance, return_eigenvectors=False)
    return float(largest) ** 0.5


def mixings(flow: GridFlow) -> dict[str, tuple[Transform, tuple[int, ...]]]:
    """The mixing of each step, by level and step, and the shape of its inputs."""
    found: dict[str, tuple[Transform, tuple[int, ...]]] = {}

    def watch(name: str, part: Transform) -> Any:
        def hook(_: Transform, inputs: tuple[Tensor, ...]) -> None:
            found[name] = part, tuple(inputs[0].shape[1:])

        return part.register_forward_pre_hook(hook)

    matches = [(MIXING.fullmatch(name), part) for name, part in flow.named_modules()]
    hooks = [watch("level {}, step {}".format(*match.groups()), part) for match, part in matches if match]
    dtype = torch.uint8 if isinstance(flow, ImageFlow) else torch.float64
    classes = torch.zeros(1, dtype=torch.long) if flow.num_classes else None
    with torch.no_grad():
        flow.log_prob(torch.zeros(1, *flow.shape, dtype=dtype), classes)
    for hook in hooks:
        hook.remove()
    return found


def measure(path: Path, untrained: bool) -> dict[str, Any]:
    """The conditions of one run's mixings."""
    flow, saved = load_flow(path)
    if untrained:
        torch.manual_seed(saved["training"]["seed"])
        flow = FlowConfig.from_dict(saved["flow"]).build()
    flow.double().eval()
    conditions = {name: condition(part, shape) for name, (part, shape) in mixings(flow).items()}
    step = 0 if untrained else saved["steps"]
    return {
        "mixing": saved["flow"]["mixing"], "seed": saved["training"]["seed"], "step": step,
        "shape": list(flow.shape), "conditions": conditions,
        "largest": max(conditions.values()), "median": median(conditions.values()),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs, or checkpoints")
    parser.add_argument("--untrained", action="store_true", help="as they were before training")
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for path in options.runs:
        rows.append(measure(path, options.untrained))
        numbers = "  ".join(f"{name} {rows[-1][name]:.3g}" for name in ("step", "largest", "median"))
        print(f"{path.name:24} {numbers}", flush=True)
    if options.json:
        write_json(options.json, {**versions(), "results": rows})


if __name__ == "__main__":
    main()
