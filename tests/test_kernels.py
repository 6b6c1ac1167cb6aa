"""How many kernels a flow step launches, and that nothing makes the host wait for them: exact counts, without a device.

On the meta device, which takes the ways of a GPU and computes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from kernels import Kernels, NoStalls
from laws import at
from registry import QUICK, Case
from torch import Tensor, nn

from nflows_woodbury import (
    ActNorm,
    AffineCoupling,
    Chain,
    EmergingConvolution,
    ImageFlow,
    InvertibleConv1x1,
    MEWoodburyTransform,
    WoodburyTransform,
    image_flow,
)
from nflows_woodbury.config import FlowConfig

MIXINGS: dict[str, Callable[..., Any]] = {
    "woodbury": partial(WoodburyTransform, ranks=(4, 6)),
    "me-woodbury": partial(MEWoodburyTransform, ranks=(4, 2, 3)),
    "conv1x1": InvertibleConv1x1,
    "emerging": EmergingConvolution,
}
# kernels of one step more: forward and backward, and sampling
CEILINGS = {"woodbury": (53, 22), "me-woodbury": (56, 23), "conv1x1": (42, 19), "emerging": (72, 103)}


def step(shape: tuple[int, int, int], mixing: Callable[..., Any]) -> Chain:
    return Chain([ActNorm(shape[0]), mixing(shape), AffineCoupling(shape, hidden_channels=8)])


def started(module: nn.Module) -> nn.Module:
    for part in module.modules():
        if isinstance(part, ActNorm):
            part._started = True
    return module.to("meta")


def kernels(mixing: Callable[..., Any], steps: int) -> tuple[int, int]:
    """Of a level: in training, and in sampling."""
    shape = (12, 5, 6)
    level = started(Chain([step(shape, mixing) for _ in range(steps)]))
    inputs = torch.empty(2, *shape, device="meta").requires_grad_()
    with Kernels() as training:
        outputs, logabsdet = level(inputs)
        torch.autograd.backward([outputs, logabsdet], [torch.empty_like(outputs), torch.empty_like(logabsdet)])
    with Kernels() as sampling, torch.no_grad():
        level.inverse(inputs)
    return training.total, sampling.total


@pytest.mark.parametrize("name", MIXINGS)
def test_a_step_launches_no_more_kernels_than_its_ceiling(name: str) -> None:
    few, more = kernels(MIXINGS[name], 2), kernels(MIXINGS[name], 4)
    of_a_step = tuple((b - a) / 2 for a, b in zip(few, more, strict=True))
    assert all(count <= ceiling for count, ceiling in zip(of_a_step, CEILINGS[name], strict=True)), of_a_step


@pytest.mark.parametrize("name", MIXINGS)
def test_small_matrices_are_factorised_as_often_as_in_one_layer(name: str) -> None:
    counts = []
    for steps in (1, 3):
        level = started(Chain([step((12, 5, 6), MIXINGS[name]) for _ in range(steps)]))
        with Kernels() as forward, torch.no_grad():
            level(torch.empty(2, 12, 5, 6, device="meta"))
        once = ("aten::_linalg_slogdet", "aten::eye", "aten::_to_copy")
        counts.append([forward.counts[name] for name in once])
    assert counts[0] == counts[1]


def flow(mixing: Callable[..., Any] = MIXINGS["woodbury"], **arguments: Any) -> ImageFlow:
    coupling = partial(AffineCoupling, hidden_channels=8)
    return started(image_flow((3, 16, 16), levels=2, steps=2, mixing=mixing, coupling=coupling, **arguments))  # type: ignore[return-value]


@pytest.mark.parametrize("name", MIXINGS)
@pytest.mark.parametrize("reversible", [False, True])
def test_no_step_waits_for_the_device(name: str, reversible: bool) -> None:
    model = flow(MIXINGS[name], reversible=reversible)
    optimizer = torch.optim.Adam(model.parameters(), foreach=True)
    images = torch.empty(2, 3, 16, 16, dtype=torch.uint8, device="meta")
    with NoStalls():
        for _ in range(2):
            optimizer.zero_grad()
            model(images).mean().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        with torch.no_grad():
            model(images)
            model._transform.inverse(torch.empty(2, 3 * 16 * 16, device="meta"))


@at(QUICK)
def test_no_layer_waits_for_the_device(case: Case) -> None:
    layer, inputs, context = case.draw()
    given = inputs.to("meta"), None if context is None else context.to("meta")
    with NoStalls(), torch.no_grad():
        outputs, _ = started(layer)(*given)
        layer.inverse(outputs, given[1])


@pytest.mark.parametrize("wait", [Tensor.item, Tensor.nonzero, Tensor.cpu, lambda x: x[x > 0], lambda x: bool(x.any())])
def test_what_waits_is_refused(wait: Callable[[Tensor], object]) -> None:
    with NoStalls(), pytest.raises(AssertionError, match="makes the host wait"):
        wait(torch.empty(1, device="meta"))


def test_samples_and_likelihoods_wait_for_no_device() -> None:
    model = flow()
    with NoStalls(), torch.no_grad():
        assert model.sample(2, batch_size=1).is_meta
        assert model.transform_from_noise(torch.empty(2, 3 * 16 * 16, device="meta")).is_meta
        assert model(torch.empty(2, 3, 16, 16, dtype=torch.uint8, device="meta")).is_meta


def test_what_was_made_last_can_be_looked_at() -> None:
    model = FlowConfig((3, 8, 8), levels=1, steps=1, hidden_channels=8).build()
    model.check_last()
    model.sample(2)
    model.check_last()
    model._last = torch.tensor([0.0, float("nan")])
    with pytest.raises(FloatingPointError, match="1 of 2 images are not finite"):
        model.check_last()


@pytest.mark.parametrize("value", [1.0, float("nan"), float("inf")])
def test_a_step_is_left_out_without_waiting(value: float) -> None:
    module = pytest.importorskip("nflows_woodbury.train.module", exc_type=ImportError)
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight], fused=True)
    weight.grad = torch.full((3,), value)
    skipped = module.skip_on_device(weight.grad.norm(), optimizer, torch.tensor(4))
    optimizer.step()
    kept = value != 1.0
    assert torch.equal(weight, torch.ones(3)) == kept and skipped == 5 * kept
    with NoStalls():
        module.skip_on_device(torch.empty((), device="meta"), optimizer, 0)
