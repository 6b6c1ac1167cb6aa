"""Laws in the modes of torch: derivatives over derivatives, ensembles, exported and traced code, replicas, autocast.

Each is checked at one case of every layer, both ways. Second derivatives of linear layers stand beside those of the
same map as a dense matrix, others beside plain reverse mode.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from laws import at, relative
from registry import QUICK, Case
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, stack_module_state
from twins import dense, has_twin

import nflows_woodbury.linalg.two_sided as sides

Arguments = tuple[Tensor, ...]
Scalar = Callable[..., Tensor]

# beside one of each layer: an axis in the middle, ranks above the axis, two sides, three axes
CASES = [
    *QUICK,
    Case("low-rank", (4, 3, 5), {"axes": (1,)}, (1,)),
    Case("woodbury", (4, 3, 5), {}, (1, 2)),
    Case("woodbury", (4, 3, 5), {}, (9, 18)),
    Case("me-woodbury", (4, 3, 5), {}, (1, 1)),
    Case("autoregressive", (2, 3, 4), {"kernel_size": 3, "corner": "lower left"}),
    # vectors, sequences, volumes
    Case("conv1x1", (5,)),
    Case("affine", (4, 3)),
    Case("split-prior", (2, 2, 1, 3)),
]
LEARNING = [case for case in CASES if any(True for _ in case.make().parameters())]
each = at(CASES)
each_learning = at(LEARNING)
each_way = pytest.mark.parametrize("direction", ["forward", "inverse"])


class Directed(nn.Module):
    """A transform in one direction, as a module."""

    def __init__(self, transform: nn.Module, direction: str) -> None:
        super().__init__()
        self.transform, self.direction = transform, direction

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return getattr(self.transform, self.direction)(inputs)


class Twin(Directed):
    """The same with a dense matrix."""

    def __init__(self, transform: nn.Module, direction: str, shape: tuple[int, ...]) -> None:
        super().__init__(transform, direction)
        self.shape = shape

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        matrix = dense(self.transform, self.shape)
        offset = self.transform(torch.zeros(1, *self.shape, dtype=torch.float64))[0].flatten()
        logabsdet = torch.linalg.slogdet(matrix).logabsdet.expand(inputs.shape[0])
        if self.direction == "forward":
            return inputs.flatten(1) @ matrix.mT + offset, logabsdet
        return torch.linalg.solve(matrix, (inputs.flatten(1) - offset).mT).mT, -logabsdet


def given(case: Case, direction: str) -> Tensor:
    """Inputs of that direction."""
    inputs = case.inputs()
    return inputs if direction == "forward" else case.build()(inputs)[0].detach()


def scalar_of(module: nn.Module, case: Case, direction: str) -> tuple[Scalar, Arguments]:
    """A curved function of the outputs and the log-det, by inputs and all parameters; and these."""
    names = [name for name, _ in module.named_parameters()]

    def scalar(inputs: Tensor, *values: Tensor) -> Tensor:
        outputs, logabsdet = functional_call(module, dict(zip(names, values, strict=True)), (inputs,))
        return outputs.cos().sum() + logabsdet.square().sum()

    return scalar, (given(case, direction), *(parameter.detach() for parameter in module.parameters()))


# --- second derivatives: each gives H v, for the Hessian H in all arguments


def every(arguments: Arguments) -> tuple[int, ...]:
    return tuple(range(len(arguments)))


def reverse_over_reverse(f: Scalar, at_: Arguments, v: Arguments) -> Sequence[Tensor]:
    leaves = [tensor.clone().requires_grad_() for tensor in at_]
    gradients = torch.autograd.grad(f(*leaves), leaves, create_graph=True)
    return torch.autograd.grad(gradients, leaves, v, materialize_grads=True)


def forward_over_reverse(f: Scalar, at_: Arguments, v: Arguments, create_graph: bool = False) -> Sequence[Tensor]:
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(tensor.clone().requires_grad_(), t) for tensor, t in zip(at_, v, strict=True)]
        gradients = torch.autograd.grad(f(*duals), duals, create_graph=create_graph)
        tangents = [forward_ad.unpack_dual(gradient).tangent for gradient in gradients]
        return [torch.zeros_like(t) if tangent is None else tangent for t, tangent in zip(v, tangents, strict=True)]


def forward_over_reverse_in_a_graph(f: Scalar, at_: Arguments, v: Arguments) -> Sequence[Tensor]:
    return forward_over_reverse(f, at_, v, create_graph=True)


def reverse_over_forward(f: Scalar, at_: Arguments, v: Arguments) -> Sequence[Tensor]:
    leaves = [tensor.clone().requires_grad_() for tensor in at_]
    with forward_ad.dual_level():
        value = f(*(forward_ad.make_dual(leaf, t) for leaf, t in zip(leaves, v, strict=True)))
        return torch.autograd.grad(forward_ad.unpack_dual(value).tangent, leaves, materialize_grads=True)


def jvp_of_grad(f: Scalar, at_: Arguments, v: Arguments) -> Sequence[Tensor]:
    return torch.func.jvp(torch.func.grad(f, every(at_)), at_, v)[1]


def grad_of_jvp(f: Scalar, at_: Arguments, v: Arguments) -> Sequence[Tensor]:
    return torch.func.grad(lambda *a: torch.func.jvp(f, a, v)[1], every(at_))(*at_)


def vjp_of_vjp(f: Scalar, at_: Arguments, v: Arguments) -> Sequence[Tensor]:
    return torch.func.vjp(lambda *a: torch.func.vjp(f, *a)[1](torch.ones((), dtype=torch.float64)), *at_)[1](v)


def jvp_of_vjp(f: Scalar, at_: Arguments, v: Arguments) -> Sequence[Tensor]:
    return torch.func.jvp(lambda *a: torch.func.vjp(f, *a)[1](torch.ones((), dtype=torch.float64)), at_, v)[1]


def jacfwd_of_jacrev(f: Scalar, at_: Arguments, v: Arguments) -> Sequence[Tensor]:
    """As in torch.func.hessian, along one line."""
    return torch.func.jacfwd(lambda step: torch.func.jacrev(f, every(at_))(*moved(at_, v, step)))(zero())


def jacrev_of_jacfwd(f: Scalar, at_: Arguments, v: Arguments) -> Sequence[Tensor]:
    return torch.func.jacrev(lambda *a: torch.func.jacfwd(lambda step: f(*moved(a, v, step)))(zero()), every(at_))(*at_)


def moved(at_: Arguments, v: Arguments, step: Tensor) -> list[Tensor]:
    return [tensor + step * t for tensor, t in zip(at_, v, strict=True)]


def zero() -> Tensor:
    return torch.zeros((), dtype=torch.float64)


MODES = [
    *(reverse_over_reverse, forward_over_reverse, forward_over_reverse_in_a_graph, reverse_over_forward),
    *(jvp_of_grad, grad_of_jvp, vjp_of_vjp, jvp_of_vjp, jacfwd_of_jacrev, jacrev_of_jacfwd),
]
OF_FUNC = MODES[4:]  # which mean the same with grad off


#: what torch itself cannot do, and says so: softmax in reverse over forward mode
REFUSED = dict.fromkeys(["spline", "spline-bins", "affine-attention"], reverse_over_forward)


@at([case for case in CASES if case.name != "reversible"])  # which is differentiable once, and says so
@each_way
def test_second_derivatives_in_every_mode_are_those_of_the_dense_twin(case: Case, direction: str) -> None:
    transform = case.build()
    ours, arguments = scalar_of(Directed(transform, direction), case, direction)
    v = tuple(torch.cos(3 * tensor + 1) for tensor in arguments)
    twin = has_twin(transform)
    truth = scalar_of(Twin(transform, direction, case.shape), case, direction)[0] if twin else ours
    expected = reverse_over_reverse(truth, arguments, v)
    for mode in MODES[0 if twin else 1 :]:
        if REFUSED.get(case.name) is mode:
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                mode(ours, arguments, v)
            continue
        for context in (nullcontext, torch.no_grad) if mode in OF_FUNC else (nullcontext,):
            with context():
                products = mode(ours, arguments, v)
            for product, of_twin in zip(products, expected, strict=True):
                assert relative(product, of_twin) < 1e-10, f"{mode.__name__} in {context.__name__}"
    twice = torch.func.jacfwd(torch.func.jacfwd(lambda step: ours(*moved(arguments, v, step))))(zero())
    along = sum(((t * product).sum() for t, product in zip(v, expected, strict=True)), zero())
    assert relative(twice, along) < 1e-10, "jacfwd of jacfwd"


@each
@each_way
def test_gradients_take_batches_of_directions_and_directions_with_tangents(
    case: Case, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sides, "BLOCK_BYTES", 1)  # as if the batch were large
    inputs = given(case, direction).requires_grad_()
    module = Directed(case.build(), direction)
    outputs = module(inputs)[0]
    arguments = [inputs, *(parameter for parameter in module.parameters())]
    directions = torch.stack([outputs.detach().cos(), outputs.detach().sin()])

    def gradients(of_outputs: Tensor, **options: Any) -> list[Tensor]:
        found = torch.autograd.grad(outputs, arguments, of_outputs, retain_graph=True, allow_unused=True, **options)
        return [gradient for gradient in found if gradient is not None]

    first, second = map(gradients, directions)
    for many, *each_alone in zip(gradients(directions, is_grads_batched=True), first, second, strict=True):
        assert relative(many, torch.stack(each_alone)) < 1e-12
    with forward_ad.dual_level():
        duals = gradients(forward_ad.make_dual(*directions))
        for dual, primal, tangent in zip(duals, first, second, strict=True):
            assert relative(forward_ad.unpack_dual(dual).primal, primal) < 1e-12
            assert relative(forward_ad.unpack_dual(dual).tangent, tangent) < 1e-12


# --- ensembles


@each_learning
@each_way
@pytest.mark.parametrize("graph", [True, False])
def test_vmap_over_stacked_parameters_is_each_by_itself(
    case: Case, direction: str, graph: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sides, "BLOCK_BYTES", 1)  # as if the batch were large
    transforms, inputs = [case.build(seed=seed) for seed in range(2)], given(case, direction)
    modules = [Directed(transform, direction) for transform in transforms]
    stacked = stack_module_state(modules)

    def member(parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor) -> Any:
        return functional_call(modules[0], (parameters, buffers), (inputs,))

    for shared in (True, False):
        batch = inputs if shared else torch.stack([inputs, inputs.cos()])
        with torch.set_grad_enabled(graph):
            results = torch.vmap(member, (0, 0, None if shared else 0))(*stacked, batch)
            alone = [module(batch if shared else batch[i]) for i, module in enumerate(modules)]
        for result, each_alone in zip(results, zip(*alone, strict=True), strict=True):
            assert relative(result, torch.stack(each_alone)) < 1e-12
    if graph:
        (results[0].square().sum() + results[1].square().sum()).backward()
        for name, together in stacked[0].items():
            of_each = [torch.autograd.grad(outputs.square().sum() + logabsdet.square().sum(), dict(
                module.named_parameters())[name], retain_graph=True)[0]
                for module, (outputs, logabsdet) in zip(modules, alone, strict=True)]  # fmt: skip
            assert relative(together.grad, torch.stack(of_each)) < 1e-10, name


# --- code that is recorded


class BothWays(nn.Module):
    """Both directions on the same inputs, so that one recording holds them."""

    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        outputs, logabsdet = self.transform(inputs)
        return outputs, logabsdet, *self.transform.inverse(outputs)


@at([case for case in CASES if case.linear])
@pytest.mark.filterwarnings("ignore:`torch.jit.:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # checks of shapes are made once
@pytest.mark.parametrize("record", ["export", "trace"])
def test_recorded_code_takes_another_batch(case: Case, record: str) -> None:
    module, inputs = BothWays(case.build()), case.inputs(batch=3)
    with torch.no_grad():
        if record == "export":
            torch._dynamo.reset()
            batch = torch.export.Dim("batch", min=2, max=64)
            recorded = torch.export.export(module, (inputs,), dynamic_shapes=({0: batch},)).module()
        else:
            torch.jit.save(torch.jit.trace(module, (inputs,), check_trace=False), file := io.BytesIO())
            file.seek(0)
            recorded = torch.jit.load(file)
        for size in (3, 2, 7):
            others = case.inputs(batch=size, seed=5)
            torch.testing.assert_close(recorded(others), module(others), rtol=1e-12, atol=1e-12)


# --- copies, precision


def replicate(module: nn.Module) -> nn.Module:
    """What torch.nn.DataParallel makes for each device: a copy whose parameters are plain attributes."""
    replica = module._replicate_for_data_parallel()
    for name, child in module._modules.items():
        replica._modules[name] = replicate(child)
    for name, parameter in module._parameters.items():
        setattr(replica, name, parameter.clone())
    return replica


@each_learning
@each_way
def test_replicas_of_data_parallel_are_the_same_layer(case: Case, direction: str) -> None:
    module, inputs = Directed(case.build(), direction), given(case, direction)
    outputs, logabsdet = replicate(module)(inputs)
    expected, expected_logabsdet = module(inputs)
    assert torch.equal(outputs, expected) and torch.equal(logabsdet, expected_logabsdet)
    (outputs.square().sum() + logabsdet.sum()).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    with pytest.raises(TypeError, match="inputs must have the layer's dtype"):
        replicate(module)(inputs.float())
