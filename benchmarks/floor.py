"""Time a flow step over the convolutions in it, which no flow step can do without, and say where the rest goes.

A step is ActNorm, a mixing and an affine coupling, as ``image_flow`` chains them, at each level of a flow. Its floor is
the coupling's network alone, forward and backward on the same values with the same gradients. Beside both stand each
layer alone; around the network a coupling splits, scales and sums the log-det; glue is what the whole takes beyond its
layers, negative where a chain does at once what layers alone do one by one. All run in turn, in milliseconds a step.

    python benchmarks/floor.py --threads 1 2 --json floor.json
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mixing import in_turn, write_results
from torch import Tensor, nn
from torch.autograd import backward

from nflows_woodbury import ActNorm, AffineCoupling, Chain, initialize
from nflows_woodbury.config import MIXINGS

Shape = tuple[int, int, int]


def level_shapes(size: int, levels: int) -> list[Shape]:
    """What a flow of colour images has at each level: squeezed, half of the channels left behind."""
    return [(12 * 2**level, size >> (level + 1), size >> (level + 1)) for level in range(levels)]


def level(shape: Shape, steps: int, mixing: str, hidden: int, inputs: Tensor) -> Chain:
    """So many steps, started from the inputs, with networks that do something."""
    make = MIXINGS[mixing](8, 16)
    layers = [(ActNorm(shape[0]), make(shape), AffineCoupling(shape, hidden)) for _ in range(steps)]
    chain = Chain([layer for step in layers for layer in step])
    for *_, coupling in layers:
        nn.init.normal_(coupling.net.last.weight, std=0.01)
    initialize(chain, inputs)
    return chain


def forward_and_backward(module: nn.Module, inputs: Tensor, gradient: Tensor) -> Tensor:
    """Of one call; the gradient of the inputs."""
    module.zero_grad()
    inputs = inputs.detach().requires_grad_()
    results = module(inputs)
    if isinstance(results, Tensor):
        results.backward(gradient)
    else:
        backward([results[0], results[1].sum()], [gradient, None])
    assert inputs.grad is not None
    return inputs.grad


def calls_of(chain: Chain, inputs: Tensor) -> dict[str, list[Callable[[], Any]]]:
    """Forward and backward of the whole, and of each part on what it is given there."""
    given: dict[nn.Module, Tensor] = {}
    received: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, args: tuple[Any, ...], results: Any) -> None:
        outputs = results if isinstance(results, Tensor) else results[0]
        given[module] = args[0].detach().clone()
        outputs.register_hook(partial(received.__setitem__, module))

    layers = list(chain.transforms)
    modules = [*layers, *(coupling.net for coupling in layers[2::3])]
    handles = [module.register_forward_hook(keep) for module in modules]
    gradient = torch.randn_like(inputs)
    forward_and_backward(chain, inputs, gradient)
    for handle in handles:
        handle.remove()

    def of(some: list[nn.Module]) -> list[Callable[[], Any]]:
        return [partial(forward_and_backward, module, given[module], received[module]) for module in some]

    parts = {
        "ActNorm": layers[0::3],
        "mixing": layers[1::3],
        "coupling": layers[2::3],
        "network": modules[len(layers) :],
    }
    return {"step": [partial(forward_and_backward, chain, inputs, gradient)]} | {k: of(v) for k, v in parts.items()}


def run_all(calls: list[Callable[[], Any]]) -> None:
    for call in calls:
        call()


def measure(shape: Shape, options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds a step of the whole and of its parts, medians."""
    torch.manual_seed(0)
    inputs = torch.randn(options.batch_size, *shape)
    chain = level(shape, options.steps, options.mixing, options.hidden_channels, inputs)
    calls = {name: partial(run_all, each) for name, each in calls_of(chain, inputs).items()}
    times = in_turn(calls, rounds=options.rounds, seconds=options.seconds)
    each = {name: 1e3 * of_call["median"] / options.steps for name, of_call in times.items()}
    each["around the network"] = each["coupling"] - each["network"]
    each["glue"] = each["step"] - each["ActNorm"] - each["mixing"] - each["coupling"]
    return each | {"step / network": each["step"] / each["network"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32, help="side of the images (default: 32)")
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="per level (default: 4)")
    parser.add_argument("--mixing", choices=MIXINGS, default="woodbury", metavar="MIXING")
    parser.add_argument("--hidden-channels", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=15, help="of each, in turn, at least (default: 15)")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each, at least (default: 0.5)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    rows = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        found = [(shape, measure(shape, options)) for shape in level_shapes(options.size, options.levels)]
        whole = {name: sum(times[name] for _, times in found) for name in found[0][1]}
        whole["step / network"] = whole["step"] / whole["network"]
        for shape, times in [*found, (None, whole)]:
            rows.append({"threads": threads, "shape": shape, **times})
            words = "all levels" if shape is None else "x".join(map(str, shape))
            print(f"{threads} threads  {words:12}" + "".join(f"  {name} {value:.2f}" for name, value in times.items()),
                  flush=True)  # fmt: skip
    write_results(options.json, options, rows)


if __name__ == "__main__":
    main()
