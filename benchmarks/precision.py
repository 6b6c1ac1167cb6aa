"""What each precision costs, and what badly conditioned maps cost in float32, both against float64.

First 8 steps of ActNorm, Woodbury and affine coupling, off their start: for each precision the largest difference of
the outputs and of the log-determinant per dimension from those in float64, and the largest error of the round trip,
relative to the largest value. On CUDA also what TF32 does, in the networks' convolutions, as torch allows it by
default, and in all matrix products.

Then each linear layer with small matrices of given condition numbers, in float32 with the same parameters. On a CPU it
prints the tables of the page "Numerics and precision" (tests/transforms/test_precision.py holds it to that).

    python benchmarks/precision.py --device cuda
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import exp, log
from typing import Any

import torch
from torch import Tensor, nn

from nflows_woodbury import (
    ActNorm,
    AffineCoupling,
    AutoregressiveConvolution,
    Chain,
    EmergingConvolution,
    InvertibleConv1x1,
    LowRankTransform,
    MEWoodburyTransform,
    PeriodicConvolution,
    WoodburyTransform,
)

Context = Callable[[], AbstractContextManager[object]]
CONDITIONS = (1e2, 1e4, 1e6, 1e8)
SHAPE = (12, 16, 16)


@contextmanager
def tf32(*, convolutions: bool, products: bool) -> Iterator[None]:
    backends = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend, allowed in zip(backends, (convolutions, products), strict=True):
            backend.allow_tf32 = allowed
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


def precisions(device: str) -> dict[str, tuple[torch.dtype, Context]]:
    """Name -> dtype of the flow, and the context in which it runs."""
    found: dict[str, tuple[torch.dtype, Context]] = {
        "float64": (torch.float64, nullcontext),
        "float32": (torch.float32, lambda: tf32(convolutions=False, products=False)),
        "float32, autocast to bfloat16": (torch.float32, lambda: torch.autocast(device, torch.bfloat16)),
        "float32, autocast to float16": (torch.float32, lambda: torch.autocast(device, torch.float16)),
    }
    if device != "cpu":
        found["float32, TF32 in convolutions"] = torch.float32, lambda: tf32(convolutions=True, products=False)
        found["float32, TF32 in all products"] = torch.float32, lambda: tf32(convolutions=True, products=True)
    return found


@torch.no_grad()
def measure(dtype: torch.dtype, context: Context, device: str = "cpu") -> list[float]:
    """The outputs' difference, that of the log-det per dimension in nats, and the round trip's error."""
    shape = (12, 16, 16)
    torch.manual_seed(0)
    step = [lambda: ActNorm(12), lambda: WoodburyTransform(shape, ranks=(8, 16)), lambda: AffineCoupling(shape, 64)]
    chain = Chain(make() for _ in range(8) for make in step)
    for parameter in chain.parameters():
        parameter += 0.03 * torch.randn(parameter.shape)
    inputs = torch.randn(8, *shape, dtype=torch.float64).to(device)
    expected, expected_logabsdet = chain.to(device).double()(inputs)
    chain, inputs = chain.to(dtype), inputs.to(dtype)
    with context():
        outputs, logabsdet = chain(inputs)
        back, _ = chain.inverse(outputs)
    if not outputs.dtype == logabsdet.dtype == dtype:
        raise TypeError(f"outputs and log-det must be {dtype}, got {outputs.dtype} and {logabsdet.dtype}")
    differences = (outputs - expected) / expected.abs().max(), (logabsdet - expected_logabsdet) / inputs[0].numel()
    return [float(d.abs().max()) for d in (*differences, (back - inputs) / inputs.abs().max())]


# --- small matrices of a given condition number, set into a layer in float64


def matrix(n: int, condition: float) -> Tensor:
    """Singular values from 1 down to 1 / condition, evenly in their logarithms."""
    left, right = (torch.linalg.qr(torch.randn(n, n, dtype=torch.float64)).Q for _ in range(2))
    return left * condition ** -torch.linspace(0, 1, n, dtype=torch.float64) @ right


def low_rank(layer: LowRankTransform, condition: float) -> None:
    """The capacitance ``I + V U``, with ``U`` orthonormal."""
    U = torch.linalg.qr(torch.randn(layer.size, layer.rank, dtype=torch.float64)).Q
    layer.U.copy_(U)
    layer.V.copy_((matrix(layer.rank, condition) - torch.eye(layer.rank, dtype=torch.float64)) @ U.mT)


def conv1x1(layer: InvertibleConv1x1, condition: float) -> None:
    """The matrix, or its factors."""
    W, n = matrix(layer.num_channels, condition), layer.num_channels
    permutation, lower, upper = torch.linalg.lu(W)
    rows, columns = torch.tril_indices(n, n, -1)
    values = {
        "weight": W,
        "permutation": permutation,
        "sign": upper.diagonal().sign(),
        "log_scale": upper.diagonal().abs().log(),
        "lower": lower[rows, columns],
        "upper": upper[columns, rows],
    }
    for name, tensor in layer.matrix.state_dict().items():
        tensor.copy_(values[name])


def autoregressive(layer: AutoregressiveConvolution, condition: float) -> None:
    """The tap on the pixel itself, by entries beside its diagonal; the other taps are small."""
    layer.weight.mul_(1 / condition)
    size = next(exp(e / 100) for e in range(1000) if torch.linalg.cond(_bidiagonal(layer, exp(e / 100))) >= condition)
    layer.weight[:, :, -1, -1] = _bidiagonal(layer, size)


def _bidiagonal(layer: AutoregressiveConvolution, size: float) -> Tensor:
    beside = size * torch.ones(layer.num_channels - 1, dtype=torch.float64)
    lower = torch.eye(layer.num_channels, dtype=torch.float64) + beside.diag(-1)
    return lower if layer.corner.startswith("upper") else lower.mT


def periodic(layer: PeriodicConvolution, condition: float) -> None:
    """The centre tap, and so the matrix of each frequency; the other taps are small."""
    layer.weight.mul_(1 / condition)
    layer.weight[:, :, 1, 1] = matrix(layer.num_channels, condition)


def actnorm(layer: ActNorm, condition: float) -> None:
    """The scales."""
    layer.log_scale.copy_(torch.linspace(0, -log(condition), layer.num_channels))


SETTERS: dict[type[nn.Module], Callable[[Any, float], None]] = {
    LowRankTransform: low_rank,
    InvertibleConv1x1: conv1x1,
    AutoregressiveConvolution: autoregressive,
    PeriodicConvolution: periodic,
    ActNorm: actnorm,
}
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "LowRankTransform": lambda: LowRankTransform(SHAPE, (1, 2), 16),
    "WoodburyTransform": lambda: WoodburyTransform(SHAPE, (8, 16)),
    "MEWoodburyTransform": lambda: MEWoodburyTransform(SHAPE, (8, 8, 8)),
    "InvertibleConv1x1, dense": lambda: InvertibleConv1x1(SHAPE),
    "InvertibleConv1x1, plu": lambda: InvertibleConv1x1(SHAPE, "plu"),
    "AutoregressiveConvolution": lambda: AutoregressiveConvolution(SHAPE),
    "EmergingConvolution": lambda: EmergingConvolution(SHAPE),
    "PeriodicConvolution": lambda: PeriodicConvolution(SHAPE),
    "ActNorm": lambda: ActNorm(SHAPE[0]),
}


def measure_layer(name: str, condition: float, device: str = "cpu") -> list[float]:
    """Errors in float32 of the outputs, the inverse, the log-det per dimension in nats, and all gradients both ways."""
    torch.manual_seed(0)
    layer = LAYERS[name]()
    parts = [layer[0]] if isinstance(layer, EmergingConvolution) else layer if isinstance(layer, Chain) else [layer]
    with torch.no_grad():
        for part in parts:
            SETTERS[type(part)](part, condition)
    narrow, inputs = layer.to(device), torch.randn(8, *SHAPE, device=device)
    wide = copy.deepcopy(narrow).double()
    weights = torch.randn(8, *SHAPE, device=device)
    found = []
    for direction in ("forward", "inverse"):
        both = [results(layer, direction, inputs, weights) for layer in (narrow, wide)]
        outputs, logabsdet, *gradients = (_error(*pair) for pair in zip(*both, strict=True))
        found.append((outputs, logabsdet, max(gradients)))
    (forward, of_forward, gradients), (inverse, of_inverse, inverse_gradients) = found
    return [forward, inverse, max(of_forward, of_inverse), max(gradients, inverse_gradients)]


def results(layer: nn.Module, direction: str, inputs: Tensor, weights: Tensor) -> list[Tensor]:
    """Outputs, log-dets per dimension, and the gradients of all arguments."""
    parameters = list(layer.parameters())
    inputs, weights = (tensor.to(parameters[0].dtype) for tensor in (inputs, weights))
    outputs, logabsdet = getattr(layer, direction)(inputs.requires_grad_())
    scalar = (outputs * weights).sum() / outputs.detach().abs().max() + logabsdet.sum()
    gradients = torch.autograd.grad(scalar, [inputs, *parameters])
    return [outputs, logabsdet / inputs[0].numel(), *gradients]


def _error(narrow: Tensor, wide: Tensor) -> float:
    """The largest difference; relative to the largest value, but for log-dets, of shape (B,)."""
    size = 1 if wide.shape == (8,) else wide.detach().abs().max()
    return float((narrow - wide).detach().abs().max() / size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    options = parser.parse_args()
    print(f"{'precision':32}{'outputs':>10}{'log-det':>10}{'round trip':>12}")
    for name, (dtype, context) in precisions(options.device).items():
        outputs, logabsdet, back = measure(dtype, context, options.device)
        print(f"{name:32}{outputs:10.0e}{logabsdet:10.0e}{back:12.0e}")
    print(f"\n{'layer, condition':36}{'outputs':>10}{'inverse':>10}{'log-det':>10}{'gradients':>12}")
    for name in LAYERS:
        for condition in CONDITIONS:
            outputs, inverse, logabsdet, gradients = measure_layer(name, condition, options.device)
            print(f"{name + f', {condition:.0e}':36}{outputs:10.0e}{inverse:10.0e}{logabsdet:10.0e}{gradients:12.0e}")


if __name__ == "__main__":
    main()
