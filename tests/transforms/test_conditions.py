"""Badly conditioned maps of every linear layer keep the digits of float32: values, inverses, log-dets and gradients."""

from __future__ import annotations

import copy

import torch
from laws import at, relative
from registry import QUICK, Case
from torch import Tensor, nn
from twins import dense, has_twin


def badly_conditioned(case: Case) -> nn.Module:
    """The layer in float32, led to where its dense matrix is almost singular, if there is such a place."""
    layer = case.build()
    for _ in range(40):
        values = torch.linalg.svdvals(dense(layer, case.shape))
        if values[0] > 1e5 * values[-1]:
            break
        gradients = torch.autograd.grad(values[-1], list(layer.parameters()), materialize_grads=True)
        step = 0.9 * values[-1].detach() / sum(gradient.square().sum() for gradient in gradients)
        with torch.no_grad():  # almost as far as a straight line would have to go to zero
            for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
                parameter -= step * gradient
    return layer.float()


def results(layer: nn.Module, direction: str, inputs: Tensor, weights: Tensor) -> list[Tensor]:
    """Outputs, log-dets and the gradients of all arguments, in the layer's dtype."""
    parameters = list(layer.parameters())
    inputs, weights = (tensor.to(parameters[0].dtype) for tensor in (inputs, weights))
    outputs, logabsdet = getattr(layer, direction)(inputs.requires_grad_())
    scalar = (outputs * weights).sum() / outputs.detach().abs().max() + logabsdet.sum()
    return [outputs, logabsdet, *torch.autograd.grad(scalar, [inputs, *parameters])]


@at([case for case in QUICK if has_twin(case.make()) and any(True for _ in case.make().parameters())])
def test_badly_conditioned_maps_keep_the_digits_of_float32(case: Case) -> None:
    narrow = badly_conditioned(case)
    wide = copy.deepcopy(narrow).double()
    inputs, weights = case.inputs(torch.float32), case.inputs(torch.float32, seed=3)
    for direction in ("forward", "inverse"):
        ours, expected = (results(layer, direction, inputs, weights) for layer in (narrow, wide))
        for one, of_wide in zip(ours, expected, strict=True):
            assert relative(one.double(), of_wide) < 5e-6, direction
