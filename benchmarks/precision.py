"""What each precision costs: 8 steps of ActNorm, Woodbury and affine coupling, off their start, against float64.

For each precision the largest difference of the outputs and of the log-determinant per dimension from those in
float64, and the largest error of the round trip, relative to the largest value. On a CPU it prints the table of the
page "Numerics and precision" (tests/transforms/test_precision.py holds it to that); on CUDA also what TF32 does, in the
networks' convolutions, as torch allows it by default, and in all matrix products.

    python benchmarks/precision.py --device cuda
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from nflows_woodbury import ActNorm, AffineCoupling, Chain, WoodburyTransform

Context = Callable[[], AbstractContextManager[object]]


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    options = parser.parse_args()
    print(f"{'precision':32}{'outputs':>10}{'log-det':>10}{'round trip':>12}")
    for name, (dtype, context) in precisions(options.device).items():
        outputs, logabsdet, back = measure(dtype, context, options.device)
        print(f"{name:32}{outputs:10.0e}{logabsdet:10.0e}{back:12.0e}")


if __name__ == "__main__":
    main()
