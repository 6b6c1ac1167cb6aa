"""Laws of every transform of the registry on cases that hypothesis draws, see tests/helpers/drawing.py."""

from __future__ import annotations

import torch
from drawing import LAYOUTS, each_transform
from nflows.transforms.base import Transform
from registry import CASES, Case
from rounding import agree, bounds, close, jacobians, largest, one_by_one, plain

from nflows_woodbury import transforms
from nflows_woodbury.config import DEQUANTIZERS


@each_transform
def test_round_trip(case: Case) -> None:
    transform, inputs, context = case.draw()
    with torch.no_grad():
        outputs, logabsdet = transform(inputs, context)
        back, _ = transform.inverse(outputs, context)
    bound, _ = bounds(transform, outputs, context, "inverse")
    assert back.dtype == outputs.dtype == logabsdet.dtype == inputs.dtype
    assert back.shape == inputs.shape and logabsdet.shape == (case.batch,)
    assert (largest(back - inputs) <= bound).all()


@each_transform
def test_logabsdet_is_that_of_the_autograd_jacobian(case: Case) -> None:
    transform, inputs, context = case.draw(torch.float64)
    dense = jacobians(transform, inputs, context)
    assert close(transform(inputs, context)[1], torch.linalg.slogdet(dense).logabsdet)


@each_transform
def test_inverse_logabsdet_is_the_negative(case: Case) -> None:
    transform, inputs, context = case.draw(torch.float64)
    jacobians(transform, inputs, context)  # which draws again what is close to singular
    outputs, forward = transform(inputs, context)
    _, inverse = transform.inverse(outputs, context)
    assert close(-inverse, forward)


@each_transform
def test_memory_layout_changes_nothing(case: Case) -> None:
    transform, inputs, context = case.draw()
    lay = LAYOUTS[case.layout]
    laid_context = lay(context) if case.context == "map" else context
    context = None if context is None else plain(laid_context)
    latents = transform(inputs, context)[0].detach()
    flat = latents.dim() == 2
    for direction, laid in [
        ("forward", lay(inputs)),
        ("inverse", latents.mT.contiguous().mT if flat else lay(latents)),
    ]:
        bound, call = bounds(transform, plain(laid), context, direction), getattr(transform, direction)
        agree(call(laid, laid_context), call(plain(laid), context), bound)


@each_transform
def test_a_batch_is_its_items_one_by_one(case: Case) -> None:
    transform, inputs, context = case.draw()
    latents = transform(inputs, context)[0].detach()
    for direction, values in [("forward", inputs), ("inverse", latents)]:
        bound, call = bounds(transform, values, context, direction), getattr(transform, direction)
        agree(one_by_one(call, values, context), call(values, context), bound)


@each_transform
def test_a_batch_of_none_keeps_shapes(case: Case) -> None:
    transform, inputs, context = case.draw()
    shape = transform(inputs, context)[0].shape[1:]
    inputs = LAYOUTS[case.layout](inputs[:0]).requires_grad_()
    context = None if context is None else context[:0]
    outputs, logabsdet = transform(inputs, context)
    back, inverse_logabsdet = transform.inverse(outputs, context)
    assert outputs.shape == (0, *shape) and back.shape == (0, *case.shape)
    assert logabsdet.shape == inverse_logabsdet.shape == (0,)
    assert outputs.dtype == back.dtype == logabsdet.dtype == inputs.dtype
    for values in (outputs, back):
        values.sum().backward(retain_graph=True)
    assert inputs.grad.shape == inputs.shape


@each_transform
def test_gradients_are_finite(case: Case) -> None:
    transform, inputs, context = case.draw()
    latents = transform(inputs, context)[0].detach()
    for direction, values in [("forward", inputs), ("inverse", latents)]:
        transform.zero_grad()
        values = LAYOUTS[case.layout](values)
        values = values.detach().requires_grad_()
        outputs, logabsdet = getattr(transform, direction)(values, context)
        (outputs.square().sum() + logabsdet.sum()).backward()
        for name, tensor in [*transform.named_parameters(), ("inputs", values)]:
            assert tensor.grad is not None and tensor.grad.isfinite().all(), (direction, name)


def test_every_public_transform_is_in_the_registry() -> None:
    made = {type(module) for case in CASES for module in case.make().modules()}
    made |= {type(DEQUANTIZERS[name]((1, 2, 2), 8)) for name in DEQUANTIZERS}
    made |= {transforms.Pad}  # whose outputs are random, as theirs
    public = [getattr(transforms, name) for name in transforms.__all__]
    assert {part for part in public if isinstance(part, type) and issubclass(part, Transform)} <= made


def test_an_input_of_zeros_through_reversible_layers_has_finite_gradients() -> None:
    """Which once was NaN."""
    test_gradients_are_finite.law(Case("reversible", (1, 1, 1), spread=0.1, scale=0.0))
