"""A reversible chain is a chain: same values, same gradients, without the memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest
import torch
from running import CONFIG, LIGHTNING, assert_same, fit

from nflows_woodbury import (
    ActNorm,
    AffineCoupling,
    Chain,
    InvertibleConv1x1,
    LowRankTransform,
    Reversible,
    WoodburyTransform,
    initialize,
)
from nflows_woodbury.config import COUPLINGS, MIXINGS, FlowConfig
from nflows_woodbury.data.photos import PhotoSource
from nflows_woodbury.transforms.base import SingularError

IMAGES = PhotoSource(16).test.images[:4]


def gradients(flow: torch.nn.Module, images: torch.Tensor, context=None) -> tuple[torch.Tensor, list[torch.Tensor]]:
    flow.zero_grad()
    torch.manual_seed(5)
    loss = flow(images, context).mean()
    loss.backward()
    return loss.detach(), [parameter.grad.clone() for parameter in flow.parameters()]


def pair(dtype: torch.dtype, **settings) -> list[torch.nn.Module]:
    """The same flow, off its start, as a chain and as a reversible chain."""
    flows = []
    for reversible in (False, True):
        torch.manual_seed(0)
        flow = FlowConfig((3, 16, 16), levels=2, hidden_channels=8, **settings).build(reversible=reversible).to(dtype)
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter += 0.02 * torch.randn(parameter.shape)
        flows.append(flow)
    return flows


def assert_gradients_close(flows, images, limit: float, context=None) -> None:
    (loss, expected), (ours, got) = (gradients(flow, images, context) for flow in flows)
    assert torch.equal(loss, ours)
    size = max(float(gradient.abs().max()) for gradient in expected)
    for ours, theirs in zip(got, expected, strict=True):
        assert float((ours - theirs).abs().max()) <= limit * size


PAIRS = dict.fromkeys([(mixing, "affine") for mixing in MIXINGS] + [("conv1x1", coupling) for coupling in COUPLINGS])


@pytest.mark.parametrize(("mixing", "coupling"), PAIRS)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_gradients_are_those_of_a_chain(mixing: str, coupling: str, dtype: torch.dtype, limit: float) -> None:
    assert_gradients_close(pair(dtype, steps=3, mixing=mixing, coupling=coupling), IMAGES, limit)


def test_gradients_with_context_reach_what_made_it() -> None:
    flows = pair(torch.float64, steps=2, num_classes=3)
    embedding = torch.randn(4, 3, dtype=torch.float64)
    assert_gradients_close(flows, IMAGES, 1e-9, embedding)
    results = []
    for flow in flows:
        context = embedding.clone().requires_grad_()
        torch.manual_seed(5)
        flow(IMAGES, context).mean().backward()
        results.append(context.grad)
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-14)


def test_gradients_of_shared_and_frozen_parameters_and_of_the_inputs() -> None:
    shared, frozen = InvertibleConv1x1((4, 6, 6)).double(), WoodburyTransform((4, 6, 6), ranks=(2, 3)).double()
    frozen.requires_grad_(False)
    parts = [shared, frozen, AffineCoupling((4, 6, 6), 8).double(), shared, frozen, shared]
    results = []
    for make in (Chain, Reversible, partial(Reversible, segment=2), partial(Reversible, segment=3)):
        shared.zero_grad()
        inputs = torch.linspace(-1, 1, 2 * 4 * 36, dtype=torch.float64).view(2, 4, 6, 6).requires_grad_()
        outputs, logabsdet = make(parts)(inputs)
        (outputs.square().sum() - logabsdet.sum()).backward()
        results.append([inputs.grad, *(p.grad.clone() for p in shared.parameters())])
        assert all(parameter.grad is None for parameter in frozen.parameters())
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-10, atol=1e-12)


def test_no_gradient_no_recomputation() -> None:
    chain = Reversible([WoodburyTransform((4, 6, 6), ranks=(2, 3))]).requires_grad_(False)
    outputs, _ = chain(torch.randn(2, 4, 6, 6))
    assert outputs.grad_fn is None
    assert Reversible([])(torch.ones(2, 4, 6, 6))[1].tolist() == [0, 0]


def saved_bytes(flow: torch.nn.Module) -> int:
    """What autograd keeps for the backward pass, each storage once, parameters aside."""
    own = {parameter.untyped_storage().data_ptr() for parameter in flow.parameters()}
    storages: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = flow(IMAGES).mean()  # alive, so that no storage is used twice
        total = sum(storages.values())
    del loss
    return total


def test_threads_that_train_take_turns() -> None:
    torch.manual_seed(0)
    chain = Reversible([ActNorm(4), InvertibleConv1x1((4, 8, 8)), AffineCoupling((4, 8, 8), 8)])
    parameters, inputs = [*chain.parameters()], torch.randn(2, 4, 4, 8, 8)
    with torch.no_grad():
        for parameter in parameters:
            parameter += 0.1 * torch.randn_like(parameter)

    def found(images: torch.Tensor) -> list[torch.Tensor]:
        outputs, logabsdet = chain(images)
        loss = outputs.square().sum() - logabsdet.sum()
        return list(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))

    alone = [found(images) for images in inputs]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(found, [*inputs] * 30))
    assert all(one is other for one, other in zip(chain.parameters(), parameters, strict=True))
    for got, expected in zip(together, alone * 30, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_memory_does_not_grow_with_the_number_of_steps() -> None:
    plain, reversible = ([saved_bytes(pair(torch.float32, steps=n)[i]) for n in (2, 4, 16)] for i in (0, 1))
    assert reversible[0] == reversible[1] == reversible[2] < plain[0]
    assert plain[2] > 3 * plain[1] > 4 * plain[0]


def test_drift_is_measured_and_a_segment_bounds_it() -> None:
    torch.manual_seed(0)
    layers = [LowRankTransform((64,), (0,), 8, init=stretching) for _ in range(12)]
    inputs, drifts = torch.randn(4, 64), []
    for segment in (None, 3):
        chain = Reversible(layers, segment=segment, tolerance=1e9)
        chain(inputs)[0].sum().backward()
        drifts.append(float(chain.drift))
    assert drifts[1] < drifts[0] / 5
    identity, worst = [LowRankTransform((64,), (0,), 8, init="cancelling") for _ in range(3)], []
    for parts in (layers[:3], identity + layers[:3], layers[:3] + identity):
        chain = Reversible(parts, segment=3, tolerance=1e9)
        chain(inputs)[0].sum().backward()
        worst.append(float(chain.drift))
    assert min(worst[1:]) > worst[0] / 2 > 0  # that of the worst segment
    chain = Reversible(layers, tolerance=drifts[0] / 2)
    with pytest.raises(SingularError, match=r"Reversible of 12 transforms .* drift by .* a smaller segment or float64"):
        chain(inputs)[0].sum().backward()
    Reversible(layers, tolerance=drifts[0] / 2, segment=3)(inputs)[0].sum().backward()


def stretching(n: int, d: int) -> tuple[torch.Tensor, torch.Tensor]:
    """I + U V stretches d directions by 4."""
    Q = torch.linalg.qr(torch.randn(n, d)).Q
    return 3 * Q, Q.mT.clone()


def test_autocast_of_the_forward_pass_is_that_of_the_recomputation() -> None:
    flow = pair(torch.float32, steps=2)[1]
    seen = set()
    for part in flow.modules():
        if isinstance(part, torch.nn.Conv2d) and part.kernel_size == (1, 1):
            part.register_forward_hook(lambda module, inputs, outputs: seen.add(outputs.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        loss = flow(IMAGES).mean()
    loss.backward()
    assert seen == {torch.bfloat16}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # from inside torch.compile
def test_a_compiled_flow_recomputes_outside_its_graphs() -> None:
    plain, flow = pair(torch.float64, steps=2)
    expected = gradients(plain, IMAGES)
    flow.compile(backend="eager")
    loss, got = gradients(flow, IMAGES)
    torch.testing.assert_close(loss, expected[0], rtol=1e-12, atol=0)
    for ours, theirs in zip(got, expected[1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
    chains = [part for part in flow.modules() if isinstance(part, Reversible)]
    assert len(chains) == 2 and all(chain.drift is not None for chain in chains)


@pytest.mark.filterwarnings(*[mark.args[0] for mark in LIGHTNING])
def test_a_reversible_run_trains_alike_and_resumes_as_either(tmp_path) -> None:
    config = replace(CONFIG, precision="float64")
    plain = fit(tmp_path / "plain", config=config).flow.state_dict()
    reversible = fit(tmp_path / "run", config=replace(config, reversible=True)).flow.state_dict()
    for name, weight in plain.items():
        torch.testing.assert_close(reversible[name], weight, rtol=0, atol=1e-9)
    assert_same([*plain], [*reversible])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"segment": 0}, ValueError, "segment must be a positive integer, got 0"),
        ({"segment": 1.5}, TypeError, "segment must be a positive integer, got 1.5"),
        ({"tolerance": -1}, ValueError, "tolerance must be at least 0, got -1"),
        ({"tolerance": "no"}, TypeError, "tolerance must be a number"),
    ],
)
def test_bad_arguments(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Reversible([], **arguments)


def test_a_thousand_steps_train() -> None:
    torch.manual_seed(0)
    shape = (2, 2, 3)
    chain = Reversible(
        part
        for _ in range(1000)
        for part in (ActNorm(2), WoodburyTransform(shape, (1, 2)), AffineCoupling(shape, hidden_channels=2))
    )
    inputs = 5 + 3 * torch.randn(8, *shape)
    initialize(chain, inputs)
    optimizer = torch.optim.Adam(chain.parameters(), 1e-6)

    def loss() -> torch.Tensor:
        outputs, logabsdet = chain(inputs)
        return (outputs.square().flatten(1).sum(1) / 2 - logabsdet).mean()

    before = loss()
    before.backward()
    optimizer.step()
    assert chain.drift < 1e-3
    with torch.no_grad():
        assert loss() < before
