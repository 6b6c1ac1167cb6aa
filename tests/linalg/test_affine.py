"""The affine map of a coupling against its operations one by one: values, derivatives, and what is kept for them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from nflows_woodbury.linalg.affine import affine


def arguments() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]


def call(values: Tensor, shift: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    return affine(values, shift, 3 * raw, 2.0)


def one_by_one(values: Tensor, shift: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    log_scale = 2 * (3 * raw / 2).tanh()
    return (values + shift) * log_scale.exp(), log_scale


def test_values_are_those_of_the_operations() -> None:
    given = arguments()
    torch.testing.assert_close(call(*given), one_by_one(*given), rtol=1e-15, atol=1e-15)
    with torch.no_grad():
        torch.testing.assert_close(call(*given), one_by_one(*given), rtol=1e-15, atol=1e-15)


def test_first_and_second_derivatives_are_those_of_finite_differences() -> None:
    assert gradcheck(call, arguments())
    assert gradgradcheck(call, arguments())


def test_torch_func_sees_through_it() -> None:
    given = [tensor.detach() for tensor in arguments()]
    every = (0, 1, 2)
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(transform(call, every)(*given), transform(one_by_one, every)(*given))
    torch.testing.assert_close(torch.vmap(call)(*given), one_by_one(*given))


def test_two_tensors_are_kept() -> None:
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        affine(*arguments(), 2.0)
    assert len(kept) == 2
