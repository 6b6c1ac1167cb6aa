"""Gradients on the way from noise to data: against finite differences; and where images have none."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from nflows.distributions import ConditionalDiagonalNormal
from nflows.transforms import CompositeTransform
from parts import AFFINE, SHAPE, WOODBURY, build, random_images
from registry import dense_jacobian, move
from torch import Tensor

from nflows_woodbury import (
    ActNorm,
    AffineCoupling,
    Chain,
    ImageFlow,
    Standardize,
    UniformDequantize,
    VariationalDequantize,
    field_flow,
)
from nflows_woodbury.flow import GridFlow

D = 192


def fields() -> GridFlow:
    torch.manual_seed(0)
    flow = field_flow(SHAPE, levels=2, steps=1, mixing=WOODBURY, coupling=AFFINE, first=Standardize(3)).double()
    flow.initialize(20 + 5 * torch.randn(64, *SHAPE, dtype=torch.float64))
    return move(flow, 0.2).eval()


def two_parts() -> ImageFlow:
    """An image flow with a layer between its dequantization and its levels."""
    flow = build()
    dequantize, rest = flow._transform
    between = move(ActNorm(3), 0.5)
    return ImageFlow(Chain([dequantize, between, rest]), flow._distribution, shape=SHAPE).double().eval()


FLOWS = {
    "images, two parts": two_parts,
    "fields": fields,
    "images": lambda: build().double(),
    "images, 5 bits": lambda: build(dequantize=UniformDequantize(5)).double(),
    "images, variational": lambda: build(dequantize=VariationalDequantize(SHAPE, hidden_channels=8)).double(),
}
each_flow = pytest.mark.parametrize("name", FLOWS)


def noise(count: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(count, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@each_flow
def test_decode_has_the_gradient_of_finite_differences(name: str) -> None:
    flow, z, direction = FLOWS[name](), noise().requires_grad_(), noise(seed=1)
    weights = torch.randn(2, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad((flow.decode(z) * weights).sum(), z)
    step = 1e-6
    with torch.no_grad():
        ends = [(flow.decode(z + sign * step * direction) * weights).sum() for sign in (1, -1)]
    assert (gradient * direction).sum().item() == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=1e-6)


@each_flow
def test_parameters_get_the_gradient_of_finite_differences(name: str) -> None:
    flow, step = FLOWS[name](), 1e-6

    def loss() -> Tensor:
        torch.manual_seed(5)
        values, log_prob = flow.rsample_and_log_prob(2)
        return log_prob.sum() + values.square().sum()

    parameters = [parameter for part in flow.floating for parameter in part.parameters()]
    torch.manual_seed(6)
    directions = [torch.randn_like(parameter) for parameter in parameters]
    gradients = torch.autograd.grad(loss(), parameters)
    slope = sum(float((gradient * direction).sum()) for gradient, direction in zip(gradients, directions, strict=True))
    ends = []
    with torch.no_grad():
        for move_by in (step, -2 * step):
            torch._foreach_add_(parameters, directions, alpha=move_by)
            ends.append(float(loss()))
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5)


@each_flow
def test_the_density_of_samples_is_the_change_of_variables(name: str) -> None:
    flow = FLOWS[name]()
    torch.manual_seed(4)
    values, log_prob = flow.rsample_and_log_prob(2)
    torch.manual_seed(4)
    z = torch.randn(2, D).double()
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1).log_prob(z).sum(1)
    rest = Chain(flow.floating)
    logabsdet = torch.stack([torch.linalg.slogdet(dense_jacobian(rest, x[None])).logabsdet for x in values.detach()])
    torch.testing.assert_close(log_prob, normal + logabsdet, rtol=1e-9, atol=1e-8)
    torch.testing.assert_close(values, flow.decode(z))
    torch.manual_seed(4)
    torch.testing.assert_close(flow.rsample(2), values)
    torch.manual_seed(4)
    torch.testing.assert_close(flow.rsample(2, temperature=0.5), flow.decode(0.5 * z))


def test_float_samples_with_density_are_differentiable() -> None:
    flow = fields()
    torch.manual_seed(4)
    values, log_prob = flow.sample_and_log_prob(3)
    torch.testing.assert_close(flow.log_prob(values), log_prob)
    (log_prob.mean() + values.square().mean()).backward()
    gradients = [parameter.grad for parameter in flow.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_transform_from_noise_of_fields_keeps_the_gradient() -> None:
    flow, z = fields(), noise().requires_grad_()
    assert torch.equal(flow.transform_from_noise(z), flow.decode(z))
    assert torch.autograd.grad(flow.transform_from_noise(z).sum(), z)[0].any()


@pytest.mark.parametrize("bits", [8, 5])
def test_images_are_the_floor_of_what_is_decoded(bits: int) -> None:
    flow, z = build(dequantize=UniformDequantize(bits)).double(), noise(5)
    y = flow.decode(z)
    pixels = ((y + 0.5) * 2**bits).floor().clamp(0, 2**bits - 1) * 2 ** (8 - bits)
    assert torch.equal(flow.transform_from_noise(z), pixels.to(torch.uint8))


def test_images_drop_no_gradient_in_silence() -> None:
    flow, images = build(), random_images(2)
    own = flow.transform_to_noise(images)  # of the parameters
    assert torch.equal(flow.transform_from_noise(own), flow.transform_from_noise(own.detach()))
    leaf = own.detach().requires_grad_()
    message = r"noise must require no gradient, as uint8 images have none; decode\(noise, context\)"
    with pytest.raises(TypeError, match=message):
        flow.transform_from_noise(leaf)
    flow.requires_grad_(False)
    with pytest.raises(TypeError, match=message):
        flow.transform_from_noise(0.5 * leaf)
    with torch.no_grad():
        assert flow.transform_from_noise(leaf).dtype == torch.uint8
    values, _ = build().rsample_and_log_prob(2)
    assert values.requires_grad and values.is_floating_point()


def test_a_gradient_reaches_the_context() -> None:
    coupling = partial(AffineCoupling, hidden_channels=8, context_features=3)
    context = torch.randn(2, 3, requires_grad=True)
    flow = build(coupling=coupling, context_features=3, context=torch.randn(64, 3))
    values = flow.rsample(4, context)
    assert values.shape == (2, 4, *SHAPE)
    values.square().sum().backward()
    assert context.grad is not None and (context.grad != 0).any(1).all()
    torch.manual_seed(1)
    both, log_prob = flow.rsample_and_log_prob(4, context)
    torch.manual_seed(1)
    assert both.shape == (2, 4, *SHAPE) and log_prob.shape == (2, 4) and torch.equal(both, flow.rsample(4, context))


SAMPLERS = {
    "sample": lambda flow, **options: flow.sample(3, **options),
    "rsample": lambda flow, **options: flow.rsample(3, **options),
    "sample_and_log_prob": lambda flow, **options: flow.sample_and_log_prob(3, **options)[0],
    "rsample_and_log_prob": lambda flow, **options: flow.rsample_and_log_prob(3, **options)[0],
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("kind", ["fields", "images"])
def test_a_generator_gives_what_the_global_one_would(kind: str, name: str) -> None:
    flow, generator = FLOWS[kind](), torch.Generator().manual_seed(9)
    before = torch.get_rng_state()
    drawn = [SAMPLERS[name](flow, generator=generator) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(9)
    for values in drawn:
        assert torch.equal(SAMPLERS[name](flow), values)
    assert not torch.equal(*drawn)


def test_a_generator_works_with_every_base() -> None:
    flow = build(base=lambda d: ConditionalDiagonalNormal((d,), context_encoder=torch.nn.Linear(3, 2 * d)),
                 context=torch.randn(64, 3))  # fmt: skip
    context = torch.randn(2, 3)
    first = flow.sample(3, context, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(1)
    assert torch.equal(flow.sample(3, context), first)


def test_a_bad_generator_is_named() -> None:
    flow = build()
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator or None, got 0"):
        flow.sample(2, generator=0)
    with pytest.raises(ValueError, match="generator must be of the device that the noise is drawn on, meta"):
        flow.to("meta").sample(2, generator=torch.Generator())


def test_what_stands_before_the_floats_must_be_known() -> None:
    flow = build()
    dequantize, rest = flow._transform
    for transform in (CompositeTransform([dequantize, rest]), Chain([Chain([dequantize, rest])])):
        with pytest.raises(TypeError, match="transform must be a Chain that begins with the dequantization by itself"):
            ImageFlow(transform, flow._distribution, shape=SHAPE).decode(torch.zeros(1, D))
    with pytest.raises(TypeError, match="inputs must be a floating point tensor"):
        flow.decode(torch.zeros(1, D, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"latents of shape \(B, 192\), got \(1, 191\)"):
        flow.decode(torch.zeros(1, D - 1))


@pytest.mark.parametrize("kind", ["fields", "images"])
def test_decoding_compiles_and_transforms(kind: str) -> None:
    flow, z = FLOWS[kind](), noise()
    values = flow.decode(z)
    torch.testing.assert_close(torch.compile(flow.decode, fullgraph=True, backend="eager")(z), values)
    torch.testing.assert_close(torch.vmap(lambda row: flow.decode(row[None])[0])(z), values)
    tangent = torch.func.jvp(flow.decode, (z,), (noise(seed=1),))[1]
    assert tangent.shape == values.shape and tangent.any()
