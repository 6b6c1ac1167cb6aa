"""Updates on both sides of matrices against dense float64 products: values, derivatives, what is kept for those."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import nflows_woodbury.linalg.two_sided as sides
from nflows_woodbury import Chain, LowRankTransform, MEWoodburyTransform, WoodburyTransform
from nflows_woodbury.linalg.two_sided import two_sided
from nflows_woodbury.transforms import LowRankChain

# matrices n x m, ranks on the left and on the right; dense where n <= 2 d, the identity where None
SETTINGS = [
    (n, m, left, right)
    for (n, m), left, right in product([(5, 6), (1, 6), (5, 1)], (None, 1, 2, 3, 7), (None, 1, 2, 3, 8))
    if left or right
]
each_setting = pytest.mark.parametrize("n, m, left, right", SETTINGS)
each_kind = pytest.mark.parametrize("left, right", [(2, None), (None, 2), (2, 2), (2, 4), (4, 2)])


@pytest.fixture(autouse=True, params=[sides.BLOCK_BYTES, 600, 1], ids=["whole", "two in a block", "one in a block"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches whole, in blocks of which the last is smaller (two of 5 x 6 in float64), and matrix by matrix."""
    monkeypatch.setattr(sides, "BLOCK_BYTES", request.param)


def arguments(n: int, m: int, left: int | None, right: int | None, batch: int = 3) -> list[Tensor]:
    """The matrices and the factors of each side that has some, in float64."""
    torch.manual_seed(0)
    shapes = [(batch, n, m), *([(n, left), (left, n)] if left else []), *([(m, right), (right, m)] if right else [])]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def fast(left: int | None, right: int | None) -> Any:
    start = 2 if left else 0
    return lambda x, *f: two_sided(x, f[:2] if left else None, f[start:] if right else None)


def slow(left: int | None, right: int | None) -> Any:
    """The same with ``I + U V`` formed."""

    def dense(U: Tensor, V: Tensor) -> Tensor:
        return torch.eye(len(U), dtype=U.dtype) + U @ V

    def call(x: Tensor, *factors: Tensor) -> Tensor:
        if left:
            x = dense(*factors[:2]) @ x
        return x @ dense(*factors[-2:]) if right else x

    return call


@each_setting
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_values_and_gradients_are_those_of_dense_matrices(n: int, m: int, left: int, right: int, batch: int) -> None:
    given = arguments(n, m, left, right, batch)
    results = []
    for call in (fast(left, right), slow(left, right)):
        outputs = call(*given)
        weights = torch.cos(torch.arange(outputs.numel(), dtype=torch.float64)).view(outputs.shape)
        results.append([outputs, *torch.autograd.grad((weights * outputs).sum(), given)])
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)
    before = given[0].clone()
    with torch.no_grad():  # where it writes on what it has made itself
        torch.testing.assert_close(fast(left, right)(*given), results[1][0], rtol=1e-12, atol=1e-12)
    assert torch.equal(given[0], before)


@each_kind
def test_first_and_second_derivatives_are_those_of_finite_differences(left: int, right: int) -> None:
    given = arguments(5, 6, left, right)
    assert gradcheck(fast(left, right), given)
    assert gradgradcheck(fast(left, right), given)


@each_kind
def test_torch_func_sees_through_it(left: int, right: int) -> None:
    given = [tensor.detach() for tensor in arguments(5, 6, left, right)]
    tangents = tuple(torch.cos(tensor) for tensor in given)
    every = tuple(range(len(given)))
    results = []
    for call in (fast(left, right), slow(left, right)):

        def loss(*args: Tensor, call: Any = call) -> Tensor:
            return call(*args).square().sum()

        parts = [torch.func.jvp(call, tuple(given), tuple(t if i == j else 0 * t for j, t in enumerate(tangents)))
                 for i in every]  # fmt: skip
        parts += [torch.func.jacrev(call, every)(*given), torch.func.jacfwd(call, every)(*given)]
        parts += [torch.func.hessian(loss, every)(*given)]
        many = [torch.stack([tensor, tensor.sin()], 1) for tensor in given]
        for batched in product((None, 1), repeat=len(given)):
            if any(batched):
                some = [both if axis else one for both, one, axis in zip(many, given, batched, strict=True)]
                parts.append(torch.vmap(call, batched)(*some))
        results.append(parts)
    torch.testing.assert_close(*results)


@each_kind
def test_gradients_with_respect_to_some_arguments_only(left: int, right: int) -> None:
    for number, tensor in enumerate(given := arguments(5, 6, left, right)):
        others = [other.detach() for other in given]
        others[number] = tensor
        results = [torch.autograd.grad(call(*others).sum(), tensor) for call in (fast(left, right), slow(left, right))]
        torch.testing.assert_close(*results)


@each_kind
def test_compilers_trace_plain_operations_with_the_same_gradients(left: int, right: int) -> None:
    torch._dynamo.reset()
    given = arguments(5, 6, left, right)
    compiled = torch.compile(fast(left, right), fullgraph=True, backend="aot_eager")
    results = [[outputs, *torch.autograd.grad(outputs.square().sum(), given)]
               for outputs in (call(*given) for call in (compiled, slow(left, right)))]  # fmt: skip
    torch.testing.assert_close(*results)


def test_backward_under_autocast_keeps_full_precision() -> None:
    given = [tensor.detach().float().requires_grad_() for tensor in arguments(9, 8, 2, 3)]
    expected = torch.autograd.grad(fast(2, 3)(*given).square().sum(), given)
    loss = fast(2, 3)(*given).square().sum()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(torch.autograd.grad(loss, given), expected, rtol=0, atol=0)


def test_only_the_inputs_and_thin_products_are_kept() -> None:
    mixing, inputs, kept = WoodburyTransform((64, 16, 16), ranks=(4, 8)), torch.randn(8, 64, 16, 16), {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs, _ = mixing(inputs.requires_grad_())
    factors = sum(parameter.nbytes for parameter in mixing.parameters())
    thin = 4 * 8 * (4 * 256 + 64 * 8 + 4 * 8)
    assert outputs.untyped_storage().data_ptr() not in kept
    assert inputs.nbytes + thin <= sum(kept.values()) <= inputs.nbytes + thin + 4 * factors


SHAPES = [
    ((40, 6, 7), [(0,), (1, 2)]),
    ((4, 6, 7), [(0,), (1,), (2,)]),
    ((3, 4, 2, 6), [(0,), (1,), (2, 3)]),
    ((3, 4, 2, 6), [(0, 1), (2,), (3,)]),
    ((3, 4, 2, 6), [(1,), (2,)]),
    ((3, 4, 2, 6), [(0,), (3,)]),
    ((3, 4, 2, 6), [(0,), (1,), (2,), (3,)]),
    ((5, 6), [(0,), (1,)]),
    ((30,), [(0,)]),
]


def chain(shape: tuple[int, ...], groups: list[tuple[int, ...]], rank: int) -> LowRankChain:
    torch.manual_seed(0)
    return LowRankChain(LowRankTransform(shape, axes, rank, lambda n, d: (torch.randn(n, d) / n, torch.randn(d, n) / d))
                        for axes in groups).double()  # fmt: skip


@pytest.mark.parametrize("shape, groups", SHAPES, ids=str)
@pytest.mark.parametrize("rank", [1, 4])
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_a_fused_chain_is_its_updates_one_by_one(shape: Any, groups: Any, rank: int, direction: str) -> None:
    mixing = chain(shape, groups, rank)
    results = []
    for kind in (LowRankChain, Chain):
        mixing.zero_grad()
        inputs = torch.sin(torch.arange(2.0 * torch.Size(shape).numel()).double()).view(2, *shape).requires_grad_()
        outputs, logabsdet = getattr(kind, direction)(mixing, inputs)
        (outputs.cos().sum() + (torch.arange(2) * logabsdet).sum()).backward()
        results.append([outputs, logabsdet, inputs.grad, *(p.grad.clone() for p in mixing.parameters())])
    torch.testing.assert_close(*results, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", [WoodburyTransform, MEWoodburyTransform])
def test_hooks_on_the_updates_see_what_passes(kind: Any) -> None:
    mixing = kind((4, 3, 5), (2,) * (2 if kind is WoodburyTransform else 3))
    inputs, seen = torch.randn(2, 4, 3, 5), []
    expected = mixing(inputs)
    handle = mixing[1].register_forward_hook(lambda layer, args, results: seen.append((args[0], results)))
    results = mixing(inputs)
    handle.remove()
    torch.testing.assert_close(results, expected)
    torch.testing.assert_close(seen, [(mixing[0](inputs)[0], mixing[1](mixing[0](inputs)[0]))])
    mixing(inputs)
    assert len(seen) == 1
