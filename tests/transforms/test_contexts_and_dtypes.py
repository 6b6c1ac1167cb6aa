"""Contexts that do not fit the inputs, and half precision: refused by every layer in the same words, or cast up."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from laws import at, relative
from registry import CASES, CONTEXT_FEATURES, LAYERS, QUICK, Case

from nflows_woodbury.config import DEQUANTIZERS

HALF = [torch.float16, torch.bfloat16]
each_conditional = at(case for case in QUICK if LAYERS[case.name].conditional)
each_direction = pytest.mark.parametrize("direction", ["forward", "inverse"])
each_context = pytest.mark.parametrize("context", ["vector", "map"])


def has_parameters(case: Case) -> bool:
    return any(True for _ in case.make().parameters())


@each_direction
@each_context
@each_conditional
def test_a_context_of_another_batch_size_is_refused(case: Case, context: str, direction: str) -> None:
    case = replace(case, context=context)
    transform, inputs = case.build(), case.inputs(batch=4)
    latents = transform(inputs, case.contexts(batch=4))[0].detach() if direction == "inverse" else inputs
    apply = getattr(transform, direction)
    for some, rows in ((latents, 1), (latents[:1], 4), (latents, 3)):
        with pytest.raises(ValueError, match=f"context must have a row for each input, {len(some)} .* got {rows}$"):
            apply(some, case.contexts(batch=rows))


@each_direction
@each_conditional
def test_a_context_of_another_size_or_of_class_numbers_is_refused(case: Case, direction: str) -> None:
    case = replace(case, context="map")
    transform, inputs, given = case.draw()
    latents = transform(inputs, given)[0].detach() if direction == "inverse" else inputs
    apply = getattr(transform, direction)
    taller, wider = (torch.nn.functional.pad(given, sides) for sides in ((0, 0, 0, 2), (0, 1)))
    for other in (taller, wider, given[:, :, :1], given[:, :, :, :1]):
        with pytest.raises(
            ValueError, match=r"context must have the height and width of the inputs, .* got shape \(2, 3"
        ):
            apply(latents, other)
    with pytest.raises(
        ValueError, match=rf"got class numbers of shape \(2,\); .*Embedding\(num_classes, {CONTEXT_FEATURES}"
    ):
        apply(latents, torch.tensor([0, 1]))


@pytest.mark.parametrize("dtype", HALF, ids=str)
@each_direction
@at(case for case in QUICK if has_parameters(case))
def test_half_precision_parameters_are_refused_with_what_to_do_instead(
    case: Case, direction: str, dtype: torch.dtype
) -> None:
    transform, inputs = case.build(torch.float32), case.inputs(torch.float32)
    latents = transform(inputs)[0].detach() if direction == "inverse" else inputs
    with pytest.raises(TypeError, match=r"parameters must be float32 or float64, got .* use torch\.autocast"):
        getattr(transform.to(dtype), direction)(latents.to(dtype))


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("name", DEQUANTIZERS)
def test_half_precision_dequantizers_are_refused(name: str, dtype: torch.dtype) -> None:
    dequantize = DEQUANTIZERS[name]((2, 4, 4), 8).to(dtype)
    images = torch.zeros(2, 2, 4, 4, dtype=torch.uint8)
    for apply, inputs in ((dequantize, images), (dequantize.inverse, torch.zeros(2, 2, 4, 4))):
        with pytest.raises(TypeError, match="parameters must be float32 or float64"):
            apply(inputs)


@each_direction
@at(case for case in CASES if has_parameters(case))
def test_what_autocast_made_smaller_is_cast_up(case: Case, direction: str) -> None:
    """Layers of nflows give bfloat16 under autocast; ours go on in the dtype of their parameters."""
    transform, inputs = case.build(torch.float32), case.inputs(torch.float32)
    latents = (transform(inputs)[0].detach() if direction == "inverse" else inputs).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        outputs, logabsdet = getattr(transform, direction)(latents)
        expected, expected_logabsdet = getattr(transform, direction)(latents.float())
    assert outputs.dtype == logabsdet.dtype == torch.float32
    assert relative(outputs, expected) == 0 and relative(logabsdet, expected_logabsdet) == 0
    with pytest.raises(TypeError, match=r"inputs must have the layer's dtype .* such as inputs\.to\(torch\.float32\)"):
        getattr(transform, direction)(latents)
