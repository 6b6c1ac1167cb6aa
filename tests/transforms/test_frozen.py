"""Frozen copies: what the model gives, without its parameters and without factorisations; and they export."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from laws import at, each_case
from nflows import transforms as nflows_transforms
from nflows.distributions import StandardNormal
from nflows.flows import Flow
from parts import build, random_images
from registry import QUICK, Case
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from nflows_woodbury import (
    ActNorm,
    AffineCoupling,
    Chain,
    InvertibleConv1x1,
    LowRankChain,
    LowRankTransform,
    WoodburyTransform,
    freeze,
    initialize,
)

each_layer = at(QUICK)


def assert_same(actual: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@each_case
def test_a_frozen_copy_is_the_same_map_both_ways(case: Case) -> None:
    layer, inputs, context = case.draw()
    before = copy.deepcopy(layer.state_dict())
    frozen = freeze(layer)
    outputs, logabsdet = layer(inputs, context)
    assert_same(frozen(inputs, context), (outputs, logabsdet))
    assert_same(frozen.inverse(outputs, context), layer.inverse(outputs, context))
    assert not list(frozen.parameters()) and not frozen.training
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


@each_layer
def test_gradients_reach_the_inputs(case: Case) -> None:
    layer, inputs, context = case.draw()
    gradients = []
    for way in (layer, freeze(layer)):
        values = inputs.clone().requires_grad_()
        outputs, logabsdet = way(values, context)
        gradients.append(torch.autograd.grad(outputs.square().sum() + logabsdet.sum(), values)[0])
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


class Operators(TorchDispatchMode):
    """The names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


FACTORISATIONS = {"linalg_lu_factor_ex", "linalg_lu_solve", "_linalg_slogdet", "linalg_matrix_exp"}


@each_layer
def test_nothing_is_factorised_or_solved_in_a_frozen_copy(case: Case) -> None:
    layer, inputs, context = case.draw()
    frozen = freeze(layer)
    with Operators() as ran, torch.no_grad():
        frozen.inverse(frozen(inputs, context)[0], context)
    assert not ran.names & FACTORISATIONS


class Way(nn.Module):
    """A direction of a layer as a module, so that exporters take it."""

    def __init__(self, layer: nn.Module, direction: str) -> None:
        super().__init__()
        self.layer, self.direction = layer, direction

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return getattr(self.layer, self.direction)(inputs)


#: directions of layers whose loop over wavefronts is an operator of this package, which ONNX does not know
NOT_IN_ONNX = {("emerging", "inverse"), ("autoregressive", "inverse"), ("finc", "inverse")}
MORE = ("window", "bins", "kernel", "axes", "corners", "-plu", "-qr", "-exp", "-empty")  # of what is there already


@at([case for case in QUICK if not case.name.endswith(MORE)])
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_exported_with_any_batch(case: Case, direction: str) -> None:
    """As operators that ONNX knows, but for those that the documentation names."""
    layer, inputs, context = case.draw(torch.float32)
    frozen, count = freeze(layer), {"inputs": {0: torch.export.Dim("batch", min=1, max=64)}}
    values = inputs if direction == "forward" else layer(inputs, context)[0].detach()
    with torch.no_grad():
        exported = torch.export.export(Way(frozen, direction), (values,), dynamic_shapes=count, strict=False)
        for number in (1, 3):
            more = values[:1].expand(number, *values.shape[1:]).contiguous()
            assert_same(exported.module()(more), Way(frozen, direction)(more), 1e-5)
    graphs = [part.graph for part in exported.graph_module.modules() if isinstance(part, torch.fx.GraphModule)]
    operators = {str(node.target) for graph in graphs for node in graph.nodes if node.op == "call_function"}
    unknown = {name for name in operators if "nflows_woodbury" in name or any(part in name for part in FACTORISATIONS)}
    assert bool(unknown) == ((case.name, direction) in NOT_IN_ONNX), unknown


def test_it_does_not_train() -> None:
    frozen = freeze(Chain([ActNorm(4), WoodburyTransform((4, 3, 3), (2, 2)), AffineCoupling((4, 3, 3), 8)]))
    with pytest.raises(ValueError, match="empty parameter list"):
        torch.optim.SGD(frozen.parameters(), lr=0.1)
    with pytest.raises(RuntimeError, match="does not require grad"):
        frozen(torch.randn(2, 4, 3, 3))[1].sum().backward()


@pytest.mark.parametrize("strict", [True, False])
def test_state_dicts(strict: bool) -> None:
    """Of another frozen copy they load; of the model they do not, and the error says what to do."""
    models = [Case("woodbury", (4, 4, 4), seed=seed).build() for seed in (0, 1)]
    first, second = map(freeze, models)
    inputs = torch.randn(2, 4, 4, 4, dtype=torch.float64)
    with pytest.raises(RuntimeError, match=r"this is a layer of a frozen copy.*freeze it again"):
        first.load_state_dict(models[1].state_dict(), strict=strict)
    with pytest.raises(RuntimeError, match=r"1 is a layer of a frozen copy.*freeze it again"):
        freeze(Chain([Chain(), models[0]])).load_state_dict(Chain([Chain(), models[1]]).state_dict(), strict=strict)
    first.load_state_dict(second.state_dict(), strict=strict)
    assert_same(first(inputs), second(inputs))


def test_copies_and_dtypes_of_a_frozen_copy() -> None:
    layer = Case("emerging", (4, 4, 4)).build(torch.float32)
    frozen, inputs = freeze(layer), torch.randn(2, 4, 4, 4)
    for twin in (pickle.loads(pickle.dumps(frozen)), copy.deepcopy(frozen), freeze(frozen)):
        assert_same(twin(inputs), frozen(inputs))
    wide = frozen.double()
    assert_same(wide(inputs.double()), layer.double()(inputs.double()), 1e-5)
    assert all(buffer.dtype == torch.float64 for buffer in wide.buffers())
    with pytest.raises(TypeError, match="float64"):
        wide(inputs)


def test_layers_that_come_twice_come_twice() -> None:
    """A layer in two places, and updates that two layers share."""
    conv, shape = InvertibleConv1x1((4, 3, 3)), (4, 3, 3)
    updates = [LowRankTransform(shape, axes, 2) for axes in (0, (1, 2))]
    layer = Chain([conv, LowRankChain(updates), ActNorm(4), conv, LowRankChain(updates)])
    frozen, inputs = freeze(layer), torch.randn(2, *shape)
    assert frozen[0] is frozen[3] and layer[0] is conv and len(list(layer.parameters())) == 7
    assert_same(frozen(inputs), layer(inputs), 1e-5)
    assert_same(frozen.inverse(inputs), layer.inverse(inputs), 1e-5)


def test_whole_models_of_both_hosts() -> None:
    import normflows as nf

    from nflows_woodbury.normflows import WoodburyGlowBlock

    shape = (4, 6, 6)
    parts = [WoodburyTransform(shape, (2, 3)), nflows_transforms.ReversePermutation(4), AffineCoupling(shape, 8)]
    inputs = torch.randn(3, *shape)
    flow = Flow(nflows_transforms.CompositeTransform(parts), StandardNormal(shape))
    torch.testing.assert_close(freeze(flow).log_prob(inputs), flow.log_prob(inputs))
    model = nf.NormalizingFlow(nf.distributions.DiagGaussian(shape), [WoodburyGlowBlock(shape, 8) for _ in range(2)])
    torch.testing.assert_close(freeze(model).log_prob(inputs), model.log_prob(inputs))
    assert freeze(model).sample(2)[0].shape == (2, *shape)
    images = build(dequantize=None)
    frozen, pictures = freeze(images), random_images(5)
    results = []
    for each in (images, frozen):
        torch.manual_seed(0)
        results.append((each(pictures), each.sample(3, temperature=0.7)))
    torch.testing.assert_close(results[1][0], results[0][0])
    assert (results[1][1] != results[0][1]).double().mean() < 0.01  # a pixel on a bin's edge may go to the next one
    assert frozen.double().sample(2).dtype == torch.uint8


def test_a_frozen_copy_starts_from_no_data() -> None:
    with pytest.raises(ValueError, match=r"ActNorm|frozen"):
        initialize(freeze(Chain([ActNorm(4)])), torch.randn(5, 4))


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match=r"module must be a torch\.nn\.Module, got Normal"):
        freeze(torch.distributions.Normal(0, 1))


def test_the_tensors_of_the_model_are_not_in_the_copy_beside_its_own() -> None:
    names = freeze(Chain([InvertibleConv1x1((4, 3, 3), parametrization="plu"), ActNorm(4)])).state_dict().keys()
    assert not {name.split(".")[-1] for name in names} & {"lower", "upper", "sign", "permutation", "log_scale"}
