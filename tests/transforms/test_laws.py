"""Laws that every transform obeys, checked once for all of them from the registry."""

from __future__ import annotations

import copy
import io
import pickle
from dataclasses import replace

import pytest
import torch
from laws import at, each_case, relative
from registry import CONTEXT_FEATURES, LAYERS, QUICK, Case, dense_jacobian

from nflows_woodbury import LowRankTransform
from nflows_woodbury.config import COUPLINGS, DEQUANTIZERS, LOW_RANK, MIXINGS
from nflows_woodbury.linalg import low_rank


@each_case
def test_round_trip_in_float64(case: Case) -> None:
    transform, inputs = case.build(), case.inputs()
    with torch.no_grad():
        there, _ = transform(inputs)
        assert relative(transform.inverse(there)[0], inputs) < (1e-10 if case.linear else 1e-9)
        if there.shape == inputs.shape:
            assert relative(transform(transform.inverse(inputs)[0])[0], inputs) < (1e-10 if case.linear else 1e-9)


@each_case
def test_round_trip_in_float32(case: Case) -> None:
    transform, inputs = case.build(torch.float32), case.inputs(torch.float32, batch=16)
    with torch.no_grad():
        outputs = transform.inverse(transform(inputs)[0])[0]
    assert relative(outputs, inputs) < (1e-5 if case.linear else 1e-3)


@each_case
def test_cases_are_as_well_conditioned_as_the_tolerances_suppose(case: Case) -> None:
    transform = case.build()
    for layer in transform.modules():
        if isinstance(layer, LowRankTransform):
            assert torch.linalg.cond(low_rank.capacitances(layer.U, layer.V)) < 100
    assert torch.linalg.cond(dense_jacobian(transform, case.inputs(batch=1))) < 1e3


@each_case
def test_logabsdet_is_that_of_the_autograd_jacobian(case: Case) -> None:
    transform, inputs = case.build(), case.inputs()
    _, logabsdet = transform(inputs)
    expected = torch.stack([torch.linalg.slogdet(dense_jacobian(transform, x[None])).logabsdet for x in inputs])
    assert logabsdet.shape == (len(inputs),)
    assert ((logabsdet - expected).abs() <= 1e-9 * expected.abs().clamp_min(1)).all()


@each_case
def test_inverse_logabsdet_is_the_negative(case: Case) -> None:
    transform, inputs = case.build(), case.inputs()
    outputs, forward = transform(inputs)
    _, inverse = transform.inverse(outputs)
    tolerance = 1e-12 if case.linear else 1e-9
    assert ((forward + inverse).abs() <= tolerance * forward.abs().clamp_min(1)).all()


@each_case
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_every_parameter_and_the_inputs_get_a_gradient(case: Case, direction: str) -> None:
    transform = case.build()
    latents = transform(case.inputs())[0].detach() if direction == "inverse" else case.inputs()
    inputs = latents.requires_grad_()
    outputs, logabsdet = getattr(transform, direction)(inputs)
    weights = torch.randn(outputs.shape, dtype=outputs.dtype, generator=torch.Generator().manual_seed(2))
    ((outputs * weights).sum() + logabsdet.sum()).backward()
    for name, tensor in [*transform.named_parameters(), ("inputs", inputs)]:
        assert tensor.grad is not None and tensor.grad.isfinite().all(), name
        assert tensor.grad.any() or not tensor.numel(), name


@each_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_dtype_is_kept_and_logabsdet_is_per_input(case: Case, dtype: torch.dtype) -> None:
    transform, inputs = case.build(dtype), case.inputs(dtype, batch=3)
    outputs, logabsdet = transform(inputs)
    back, inverse_logabsdet = transform.inverse(outputs)
    assert outputs.dtype == back.dtype == logabsdet.dtype == inverse_logabsdet.dtype == dtype
    assert logabsdet.shape == inverse_logabsdet.shape == (3,)
    total = logabsdet.detach()
    total += 1  # nflows' coupling layers add in place: each entry has memory of its own
    assert back.shape == inputs.shape


@each_case
def test_each_input_is_mapped_on_its_own_in_any_memory_layout(case: Case) -> None:
    transform, inputs = case.build(), case.inputs(batch=4)
    outputs, logabsdet = transform(inputs)
    alone = [transform(x[None]) for x in inputs]
    assert relative(torch.cat([y for y, _ in alone]), outputs) < 1e-12
    assert relative(torch.cat([d for _, d in alone]), logabsdet) < 1e-12
    strided = torch.stack([inputs, inputs], -1)[..., 0]
    reversed_axes = inputs.permute(*reversed(range(inputs.dim()))).contiguous().permute(*reversed(range(inputs.dim())))
    for layout in (strided, reversed_axes):
        assert relative(transform(layout)[0], outputs) < 1e-12
        assert relative(transform.inverse(transform(layout)[0])[0], inputs) < 1e-9
    assert transform(inputs[:0])[0].shape == (0, *outputs.shape[1:])


@each_case
@pytest.mark.parametrize("graph", [True, False])
def test_inputs_are_left_alone(case: Case, graph: bool) -> None:
    transform, inputs = case.build(), case.inputs()
    before = inputs.clone()
    with torch.set_grad_enabled(graph):
        outputs, _ = transform(inputs)
        kept = outputs.clone()
        transform.inverse(outputs)
    assert torch.equal(inputs, before) and torch.equal(outputs, kept)


@each_case
def test_copies_and_pickles_and_state_dicts_are_the_same_transform(case: Case) -> None:
    transform, inputs = case.build(), case.inputs()
    outputs, logabsdet = transform(inputs)
    fresh = case.build(seed=5)
    buffer = io.BytesIO()
    torch.save(transform.state_dict(), buffer)
    buffer.seek(0)
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    for other in (copy.deepcopy(transform), fresh, pickle.loads(pickle.dumps(transform))):
        assert torch.equal(other(inputs)[0], outputs) and torch.equal(other(inputs)[1], logabsdet)


@each_case
def test_meta_device_gives_shapes(case: Case) -> None:
    transform, inputs = case.build(torch.float32), case.inputs(torch.float32)
    shape = transform(inputs)[0].shape
    outputs, logabsdet = transform.to("meta")(inputs.to("meta"))
    assert outputs.device.type == "meta" and outputs.shape == shape and logabsdet.shape == (2,)


@each_case
def test_autocast_leaves_the_invertible_arithmetic_alone(case: Case) -> None:
    transform, inputs = case.build(torch.float32), case.inputs(torch.float32)
    outputs, logabsdet = transform(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        cast_outputs, cast_logabsdet = transform(inputs)
        back, _ = transform.inverse(cast_outputs)
    assert cast_outputs.dtype == cast_logabsdet.dtype == torch.float32
    assert relative(back, inputs) < (1e-5 if case.linear else 1e-3)
    if case.linear:
        assert relative(cast_outputs, outputs) < 1e-5 and relative(cast_logabsdet, logabsdet) < 1e-5


@each_case
def test_context_is_accepted(case: Case) -> None:
    transform, inputs = case.build(), case.inputs()
    context = torch.randn(2, CONTEXT_FEATURES, dtype=torch.float64)
    outputs, _ = transform(inputs, context)
    assert torch.equal(outputs, transform(inputs)[0])
    assert torch.equal(transform.inverse(outputs, context=context)[0], transform.inverse(outputs)[0])


@each_case
def test_integer_inputs_are_refused_by_layers_that_calculate(case: Case) -> None:
    transform = case.build(torch.float32)
    images = torch.zeros((2, *case.shape), dtype=torch.uint8)
    if any(True for _ in transform.parameters()) or case.name in ("squeeze-haar", "standardize", "logit"):
        with pytest.raises(TypeError, match="floating point"):
            transform(images)
    else:
        assert transform(images)[0].dtype == torch.uint8


@pytest.mark.parametrize("context", ["vector", "map"])
@at(case for case in QUICK if LAYERS[case.name].conditional)
def test_conditional_layers_depend_on_their_context(case: Case, context: str) -> None:
    transform, inputs, given = replace(case, context=context).draw()
    outputs, logabsdet = transform(inputs, given)
    assert relative(transform.inverse(outputs, given)[0], inputs) < 1e-9
    assert not torch.allclose(transform(inputs, -given)[0], outputs)
    jacobians = [dense_jacobian(transform, inputs[i : i + 1], given[i : i + 1]) for i in range(2)]
    assert relative(logabsdet, torch.stack([torch.linalg.slogdet(j).logabsdet for j in jacobians])) < 1e-9
    with pytest.raises(ValueError, match="context must be given"):
        transform(inputs)
    with pytest.raises(ValueError, match="context must have shape"):
        transform(inputs, given[:, :2])


@pytest.mark.parametrize("shape", [(12, 16, 16), (48, 4, 4), (24, 15, 9), (96, 32, 32)], ids=str)
@pytest.mark.parametrize("name", MIXINGS)
def test_mixings_start_well_conditioned_at_the_sizes_of_a_model(name: str, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    layer = MIXINGS[name](8, 16)(shape)
    for dtype, tolerance in [(torch.float32, 1e-5), (torch.float64, 1e-10)]:
        inputs = torch.randn(2, *shape, dtype=dtype)
        with torch.no_grad():
            back = layer.to(dtype).inverse(layer.to(dtype)(inputs)[0])[0]
        torch.testing.assert_close(back, inputs, atol=tolerance, rtol=0)


FIXED_SIZE = [*LOW_RANK, "butterfly"]
ANY_SIZE = [*(name for name in MIXINGS if name not in FIXED_SIZE), *COUPLINGS, "split-prior"]


@pytest.mark.parametrize("size", [(6, 6), (3, 5), (8, 4)], ids=str)
@at(case for case in QUICK if case.name in ANY_SIZE)
def test_layers_that_do_not_depend_on_height_and_width_take_any(case: Case, size: tuple[int, int]) -> None:
    transform = case.build()
    inputs = torch.randn(2, case.shape[0], *size, dtype=torch.float64)
    outputs, logabsdet = transform(inputs)
    assert outputs.shape == inputs.shape
    assert relative(transform.inverse(outputs)[0], inputs) < 1e-9
    expected = torch.linalg.slogdet(dense_jacobian(transform, inputs[:1])).logabsdet
    assert relative(logabsdet[0], expected) < 1e-9


@at(case for case in QUICK if case.name != "reversible")  # it recomputes
def test_traces_without_graph_breaks(case: Case) -> None:
    torch._dynamo.reset()
    transform, inputs = case.build(torch.float32), case.inputs(torch.float32)
    outputs, logabsdet = transform(inputs)
    there, there_logabsdet = torch.compile(transform, fullgraph=True, backend="eager")(inputs)
    back, _ = torch.compile(transform.inverse, fullgraph=True, backend="eager")(outputs.detach())
    assert relative(there, outputs) < 1e-5 and relative(there_logabsdet, logabsdet) < 1e-5
    assert relative(back, inputs) < (1e-5 if case.linear else 1e-3)


@at(case for case in QUICK if case.name in LOW_RANK)
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_compiles_whole_with_gradients(case: Case, direction: str) -> None:
    torch._dynamo.reset()
    transform, inputs = case.build(torch.float32), case.inputs(torch.float32)
    plain = getattr(transform, direction)
    results = []
    for call in (plain, torch.compile(plain, fullgraph=True)):
        transform.zero_grad()
        outputs, logabsdet = call(inputs)
        (outputs.square().sum() + logabsdet.sum()).backward()
        results.append([outputs, logabsdet, *[p.grad.clone() for p in transform.parameters()]])
    for compiled, expected in zip(results[1], results[0], strict=True):
        assert relative(compiled, expected) < 1e-5


@pytest.mark.cuda
@each_case
def test_cuda_agrees_with_the_cpu(case: Case) -> None:
    transform, inputs = case.build(torch.float32), case.inputs(torch.float32)
    outputs, logabsdet = transform(inputs)
    transform, cuda = transform.cuda(), inputs.cuda()
    with torch.backends.cudnn.flags(allow_tf32=False):
        cuda_outputs, cuda_logabsdet = transform(cuda)
        back, _ = transform.inverse(cuda_outputs)
    assert relative(cuda_outputs.cpu(), outputs) < 1e-4 and relative(cuda_logabsdet.cpu(), logabsdet) < 1e-4
    assert relative(back, cuda) < (1e-5 if case.linear else 1e-3)


@pytest.mark.parametrize("name", DEQUANTIZERS)
@pytest.mark.parametrize("bits", [1, 3, 5, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_dequantizers_are_undone_by_their_floor(name: str, bits: int, dtype: torch.dtype) -> None:
    shape = (3, 4, 6)
    torch.manual_seed(0)
    dequantize = DEQUANTIZERS[name](shape, bits).to(dtype)
    images = torch.randint(256, (500, *shape), dtype=torch.uint8)
    values, logabsdet = dequantize(images)
    assert values.dtype == dtype and values.min() >= -0.5 and values.max() < 0.5
    kept = images >> (8 - bits) << (8 - bits)
    assert torch.equal(((values.double() + 0.5) * 2**bits).floor().to(torch.uint8) << (8 - bits), kept)
    back, inverse_logabsdet = dequantize.inverse(values)
    assert back.dtype == torch.uint8 and torch.equal(back, kept)
    assert logabsdet.shape == inverse_logabsdet.shape == (500,)
    assert relative(inverse_logabsdet, -logabsdet) < 1e-6
