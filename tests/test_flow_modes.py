"""Whole flows exported, traced and as ensembles, in both directions, at other batch sizes than they were made with."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import pytest
import torch
from parts import build, random_images
from registry import Case
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from nflows_woodbury import ImageFlow
from nflows_woodbury.config import COUPLINGS, DEQUANTIZERS, MIXINGS

FLOWS = {
    **{f"{name} mixing": {"mixing": lambda s, name=name: Case(name, s, ranks=(3, 4)).make()} for name in MIXINGS},
    **{f"{name} coupling": {"coupling": lambda s, name=name: Case(name, s).make()} for name in COUPLINGS},
    **{f"{name} dequantization": {"dequantize": make} for name, make in DEQUANTIZERS.items()},
    "reversible": {"reversible": True},
}
SHAPE = (1, 6, 6)


def flow_of(name: str, seed: int = 0) -> ImageFlow:
    parts = dict(FLOWS[name])
    if "dequantize" in parts:
        parts["dequantize"] = parts["dequantize"](SHAPE, 8)
    flow = build(shape=SHAPE, levels=1, **parts)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return flow


class Way(nn.Module):
    """One of a flow's methods as a module, so that exporters take it."""

    def __init__(self, flow: ImageFlow, method: str) -> None:
        super().__init__()
        self.flow, self.method = flow, method

    def forward(self, inputs: Tensor) -> Tensor:
        return getattr(self.flow, self.method)(inputs)


#: method -> its inputs
WAYS: dict[str, Callable[[int], Tensor]] = {
    "forward": lambda count: random_images(count, SHAPE),
    "transform_from_noise": lambda count: torch.randn(count, 36, generator=torch.Generator().manual_seed(0)),
}
each_flow = pytest.mark.parametrize("name", FLOWS)
each_way = pytest.mark.parametrize("method", WAYS)


def results(calls: Sequence[Callable[[Tensor], Tensor]], inputs: Tensor) -> list[Tensor]:
    """Of each, with the same random numbers."""
    found = []
    for call in calls:
        torch.manual_seed(7)
        found.append(call(inputs).detach())
    return found


def assert_same(results: Sequence[Tensor]) -> None:
    if results[0].dtype == torch.uint8:  # a pixel on a bin's edge may go to the next one
        assert all((result != results[0]).double().mean() < 0.01 for result in results)
        return
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-4, atol=1e-4)


@each_way
@each_flow
def test_exported_with_a_dynamic_batch(name: str, method: str) -> None:
    way = Way(flow_of(name), method)
    batch = torch.export.Dim("batch", min=1, max=64)
    with torch.no_grad():
        exported = torch.export.export(way, (WAYS[method](4),), dynamic_shapes={"inputs": {0: batch}}, strict=False)
        for count in (2, 9):
            assert_same(results([way, exported.module()], WAYS[method](count)))


@each_way
@each_flow
def test_traced_at_another_batch_size(name: str, method: str) -> None:
    way = Way(flow_of(name), method)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that shapes are looked at; and that torch.jit is deprecated
        traced = torch.jit.trace(way, (WAYS[method](4),), check_trace=False)
        for count in (2, 9):
            assert_same(results([way, traced], WAYS[method](count)))


@each_way
@each_flow
def test_an_ensemble_by_vmap_over_stacked_parameters(name: str, method: str) -> None:
    ways = [Way(flow_of(name, seed), method) for seed in range(3)]
    state, inputs = stack_module_state(ways), WAYS[method](4)
    torch.manual_seed(7)
    together = torch.vmap(lambda *state: functional_call(ways[0], state, (inputs,)), randomness="same")(*state)
    for result, way in zip(together, ways, strict=True):
        assert_same([*results([way], inputs), result])
