"""Affine maps of single entries against their operations one by one: values, derivatives, what is kept for them."""

from __future__ import annotations

import pytest
import torch
from derivatives import check_all_derivatives, check_vmap
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from nflows_woodbury.linalg.affine import affine, channelwise, unaffine


def arguments() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]


def call(values: Tensor, shift: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    return affine(values, torch.stack([shift, 3 * raw], 1), 2.0)


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


def test_gradients_one_by_one_and_many_at_once_are_those_of_the_operations() -> None:
    given = arguments()
    gradients = torch.randn(2, 3, 2, 3, dtype=torch.float64).unbind()
    expected = torch.autograd.grad(one_by_one(*given), given, [gradient[0] for gradient in gradients])
    torch.testing.assert_close(torch.autograd.grad(call(*given), given, [one[0] for one in gradients]), expected)
    expected = torch.autograd.grad(one_by_one(*given), given, gradients, is_grads_batched=True)
    torch.testing.assert_close(torch.autograd.grad(call(*given), given, gradients, is_grads_batched=True), expected)


def test_torch_func_sees_through_it() -> None:
    given = [tensor.detach() for tensor in arguments()]
    every = (0, 1, 2)
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(transform(call, every)(*given), transform(one_by_one, every)(*given))
    torch.testing.assert_close(torch.vmap(call)(*given), one_by_one(*given))


def inverse(values: Tensor, shift: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    return unaffine(values, torch.stack([shift, 3 * raw], 1), 2.0)


def test_the_inverse_undoes_it_in_every_mode() -> None:
    values, shift, raw = arguments()
    outputs, log_scale = one_by_one(values, shift, raw)
    given = [tensor.detach() for tensor in (outputs, shift, raw)]
    expected = values, -log_scale
    torch.testing.assert_close(inverse(outputs, shift, raw), expected)
    torch.testing.assert_close(torch.vmap(inverse)(*given), expected)
    with torch.no_grad():
        torch.testing.assert_close(inverse(outputs, shift, raw), expected)
        torch.testing.assert_close(torch.vmap(inverse)(*given), expected)
    check_all_derivatives(lambda *tensors: torch.stack(inverse(*tensors)), given)


def test_what_is_given_is_left_as_it_was() -> None:
    values, shift, raw = arguments()
    given = values, torch.stack([shift, raw], 1)
    before = [tensor.clone() for tensor in given]
    with torch.no_grad():
        affine(*given, 2.0), unaffine(*given, 2.0)
    assert all(map(torch.equal, given, before))


def test_two_tensors_are_kept_of_a_coupling() -> None:
    values, shift, raw = arguments()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        affine(values, torch.stack([shift, raw], 1).detach().requires_grad_(), 2.0)
    assert len(kept) == 2


@pytest.mark.parametrize("pixels", [(), (3,), (2, 3)], ids=str)
def test_a_scale_for_each_channel_and_its_derivatives(pixels: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(2, 3, *pixels, dtype=torch.float64)
    bias, scale = torch.randn(3, dtype=torch.float64), torch.tensor([0.1, 1.0, 30.0], dtype=torch.float64)
    expected = torch.stack([s * (inputs[:, k] + b) for k, (b, s) in enumerate(zip(bias, scale, strict=True))], 1)
    torch.testing.assert_close(channelwise(inputs, bias, scale), expected)
    with torch.no_grad():
        torch.testing.assert_close(channelwise(inputs, bias, scale), expected)
    check_all_derivatives(channelwise, (inputs, bias, scale))
    check_vmap(channelwise, (inputs, bias, scale))


def test_outputs_are_kept_of_a_scale_for_each_channel() -> None:
    kept: list[Tensor] = []
    inputs, scale = torch.randn(2, 3, 4, requires_grad=True), torch.rand(3)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        outputs = channelwise(inputs, torch.randn(3), scale)
    assert [tensor.data_ptr() for tensor in kept] == [outputs.data_ptr(), scale.data_ptr()]
