"""Laws of whole flows on cases that hypothesis draws, see tests/helpers/drawing.py."""

from __future__ import annotations

from math import log, prod
from typing import Any

import pytest
import torch
from drawing import FlowCase, each_dequantizer, each_flow
from rounding import agree, bounds, close, jacobians, largest, one_by_one, plain, require, tame
from torch import Tensor


def quantized(images: Tensor, bits: int) -> Tensor:
    return images >> (8 - bits) << (8 - bits)


@each_dequantizer
def test_dequantized_images_stand_a_nudge(case: FlowCase) -> None:
    """By 2^-30 of a bin, in float64: what a flow's round trip may do to them must not change an image."""
    flow, images, _ = case.draw(torch.float64)
    dequantize, nudge = flow._transform[0], 2.0 ** -(30 + case.bits)
    values, logabsdet = dequantize(images)
    assert values.abs().max() <= 0.5 and logabsdet.isfinite().all()
    for moved in (values - nudge, values, values + nudge):
        assert torch.equal(dequantize.inverse(moved)[0], quantized(images, case.bits))


@each_flow
def test_uint8_round_trip_of_flows_is_exact_in_float64(case: FlowCase) -> None:
    flow, images, context = case.draw(torch.float64)
    with torch.no_grad():
        noise = flow.transform_to_noise(images, context)
    bound, _ = bounds(flow._transform[1], noise, context, "inverse")
    require((bound * 2**case.bits < 2**-20).all())  # of a bin: closer to its ends noise lies once in a million values
    back = flow.transform_from_noise(noise, context)
    assert back.dtype == torch.uint8 and back.shape == images.shape
    assert torch.equal(back, quantized(images, case.bits))


@each_flow
def test_round_trip_of_dequantized_images_through_flows(case: FlowCase) -> None:
    flow, images, context = case.draw()
    dequantize, multiscale = flow._transform
    with torch.no_grad():
        values, _ = dequantize(images)
        noise, logabsdet = multiscale(values, context)
        back, _ = multiscale.inverse(noise, context)
    assert values.dtype == noise.dtype == back.dtype == logabsdet.dtype == getattr(torch, case.dtype)
    bound, _ = bounds(multiscale, noise, context, "inverse")
    assert (largest(back - values) <= bound).all()


@each_flow
def test_log_prob_is_the_base_and_the_autograd_jacobian(case: FlowCase) -> None:
    flow, images, context = case.draw(torch.float64)
    dequantize, multiscale = flow._transform
    torch.manual_seed(case.seed)
    values, of_bins = dequantize(images)
    values = values.detach()
    expected = torch.linalg.slogdet(jacobians(multiscale, values, context)).logabsdet
    noise, logabsdet = multiscale(values, context)
    assert close(logabsdet, expected) and close(-multiscale.inverse(noise, context)[1], logabsdet)
    torch.manual_seed(case.seed)
    log_prob = flow.log_prob(images, context)
    base = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1).log_prob(noise).sum(1)
    torch.testing.assert_close(log_prob, base + expected + of_bins, rtol=1e-9, atol=1e-9)
    torch.manual_seed(case.seed)
    torch.testing.assert_close(flow(images, context), -log_prob / (values[0].numel() * log(2)))


@each_flow
def test_memory_layout_of_images_changes_nothing(case: FlowCase) -> None:
    flow, images, context = case.draw()
    dequantize, multiscale = flow._transform
    drawn = []
    for layout in (images, plain(images)):
        torch.manual_seed(case.seed)
        drawn.append(dequantize(layout))
    for values, expected in zip(*drawn, strict=True):
        torch.testing.assert_close(values, expected)
    values = drawn[0][0].detach()
    bound = bounds(multiscale, plain(values), context, "forward")
    agree(multiscale(values, context), multiscale(plain(values), context), bound)
    noise = flow.transform_to_noise(images, context).detach()
    assert flow.transform_from_noise(noise.mT.contiguous().mT, context).shape == images.shape


@each_flow
def test_a_batch_of_images_is_its_items_one_by_one(case: FlowCase) -> None:
    flow, images, context = case.draw()
    dequantize, multiscale = flow._transform
    values = dequantize(images)[0].detach()
    bound = bounds(multiscale, values, context, "forward")
    agree(one_by_one(multiscale, values, context), multiscale(values, context), bound)


@each_flow
def test_no_images_keep_their_shapes(case: FlowCase) -> None:
    flow, images, context = case.draw()
    images, context = images[:0], None if context is None else context[:0]
    bits = flow(images, context)
    noise = flow.transform_to_noise(images, context)
    assert bits.shape == flow.log_prob(images, context).shape == (0,)
    assert noise.shape == (0, prod(case.size[1]))
    assert noise.dtype == bits.dtype == getattr(torch, case.dtype)
    back = flow.transform_from_noise(noise, context)
    assert back.shape == images.shape and back.dtype == torch.uint8
    bits.sum().backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in flow.parameters())


@each_flow
def test_gradients_of_flows_are_finite(case: FlowCase) -> None:
    flow, images, context = case.draw()
    dequantize, multiscale = flow._transform
    torch.manual_seed(case.seed)
    require(tame(multiscale, dequantize(images)[0], context))
    torch.manual_seed(case.seed)  # the same noise again
    bits = flow(images, context)
    assert bits.isfinite().all()
    bits.sum().backward()
    for name, parameter in flow.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


#: what once broke a law, as it was printed
BROKE = [
    (
        test_dequantized_images_stand_a_nudge,
        FlowCase("woodbury", "additive", (1, (2, 4, 4)), "variational", bits=1, spread=0.6, seed=1),
    ),
    (
        test_uint8_round_trip_of_flows_is_exact_in_float64,
        FlowCase(
            "woodbury", "additive", (2, (3, 4, 8)), "variational", steps=2, bits=1, ranks=(7, 17), context=True,
            spread=0.6, batch=2, layout="reversed", seed=564,
        ),
    ),
    (
        test_gradients_of_flows_are_finite,
        FlowCase(
            "emerging", "macow", (2, (2, 8, 8)), "variational", steps=2, bits=2, spread=0.3, pixels=(0, 0), batch=2,
            dtype="float32", seed=4,
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize("test, case", BROKE, ids=lambda value: getattr(value, "mixing", ""))
def test_what_once_broke_a_law_no_longer_does(test: Any, case: FlowCase) -> None:
    test.law(case)
