"""Whole flows: change of variables, sampling, the start from data, training, and the chain they are."""

from __future__ import annotations

from math import log

import pytest
import torch
from nflows import distributions
from parts import (
    AFFINE,
    SHAPE,
    WOODBURY,
    build,
    random_images,
)
from registry import dense_jacobian
from torch import Tensor

from nflows_woodbury import (
    ActNorm,
    AffineCoupling,
    Chain,
    ImageFlow,
    InvertibleConv1x1,
    SplitPrior,
    Squeeze,
    TopPrior,
    UniformDequantize,
    WoodburyTransform,
    image_flow,
)
from nflows_woodbury.config import DEQUANTIZERS, FlowConfig


@pytest.mark.parametrize("dequantizer", DEQUANTIZERS)
def test_log_prob_is_the_change_of_variables(dequantizer: str) -> None:
    flow = build(dequantize=DEQUANTIZERS[dequantizer](SHAPE, 8)).double()
    images = random_images(2)
    dequantize, multiscale = flow._transform
    torch.manual_seed(1)
    values, dequantize_logabsdet = dequantize(images)
    jacobians = [dense_jacobian(multiscale, value[None]) for value in values]
    noise, _ = multiscale(values)
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1).log_prob(noise).sum(1)
    expected = normal + torch.stack([torch.linalg.slogdet(j).logabsdet for j in jacobians]) + dequantize_logabsdet
    torch.manual_seed(1)
    torch.testing.assert_close(flow.log_prob(images), expected, rtol=1e-10, atol=1e-8)
    torch.manual_seed(1)
    torch.testing.assert_close(flow(images), -expected / (192 * log(2)), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("bits", [1, 5, 8])
def test_uniform_noise_costs_exactly_its_bits(bits: int) -> None:
    """A model that is uniform over the dequantized cube pays ``bits`` per dimension, whatever the image."""
    flow = ImageFlow(Chain([UniformDequantize(bits)]), _Cube(), shape=SHAPE)
    torch.testing.assert_close(flow(random_images(3)), torch.full((3,), float(bits)))


class _Cube(distributions.Distribution):
    def _log_prob(self, inputs: Tensor, context: Tensor | None) -> Tensor:
        inside = ((inputs >= -0.5) & (inputs < 0.5)).flatten(1).all(1)
        return torch.where(inside, 0.0, -torch.inf)


@pytest.mark.parametrize("bits", [3, 5, 8])
def test_round_trips_of_uint8_images_are_exact_in_float64(bits: int) -> None:
    flow = build(dequantize=UniformDequantize(bits)).double()
    images = random_images(200)
    assert torch.equal(flow.transform_from_noise(flow.transform_to_noise(images)), images >> (8 - bits) << (8 - bits))


def test_temperature_scales_the_noise() -> None:
    flow = build()
    torch.manual_seed(3)
    cold = flow.sample(3, temperature=0.5)
    torch.manual_seed(3)
    noise = torch.randn(3, 192)
    assert torch.equal(cold, flow.transform_from_noise(0.5 * noise))
    still = flow.sample(2, temperature=0.0)
    assert torch.equal(still[0], still[1])


def test_sampling_in_batches_gives_the_asked_number() -> None:
    flow = build()
    assert flow.sample(7, batch_size=3).shape == (7, *SHAPE)
    images, log_prob = flow.sample_and_log_prob(5)
    assert images.shape == (5, *SHAPE) and log_prob.shape == (5,)


def test_samples_log_prob_is_that_of_the_point_they_are_floored_from() -> None:
    flow = build().double()
    torch.manual_seed(0)
    images, log_prob = flow.sample_and_log_prob(3)
    torch.manual_seed(0)
    noise = torch.randn(3, 192).double()  # what the base draws
    dequantize, multiscale = flow._transform
    values, logabsdet = multiscale.inverse(noise)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum(1)
    _, floor_logabsdet = dequantize.inverse(values)
    torch.testing.assert_close(log_prob, normal - logabsdet - floor_logabsdet)
    assert torch.equal(dequantize.inverse(values)[0], images)


def test_a_flow_is_the_chain_that_its_docstring_says() -> None:
    flow = image_flow(SHAPE, levels=2, steps=2, mixing=WOODBURY, coupling=AFFINE)
    dequantize, multiscale = flow._transform
    step = [ActNorm, WoodburyTransform, AffineCoupling]
    levels = [[type(part) for part in [level[0], *level[1], *level[2], level[3]]] for level in multiscale.levels]
    assert isinstance(dequantize, UniformDequantize) and all(len(level) == 4 for level in multiscale.levels)
    assert levels == [[Squeeze, *step, *step, prior] for prior in (SplitPrior, TopPrior)]


def test_parts_can_differ_by_level_and_see_their_shape() -> None:
    seen = []

    def mixing(shape):
        seen.append(shape)
        return InvertibleConv1x1(shape)

    flow = image_flow((1, 16, 8), levels=2, steps=2, mixing=[mixing, WOODBURY], coupling=AFFINE)
    assert seen == [(4, 8, 4), (4, 8, 4)]
    assert flow(random_images(2, (1, 16, 8))).shape == (2,)


def test_initialize_normalizes_what_leaves_each_actnorm() -> None:
    torch.manual_seed(0)
    flow = image_flow(SHAPE, levels=2, steps=2, mixing=WOODBURY, coupling=AFFINE)
    images = random_images(256)
    outputs = {}
    flow.initialize(images)
    layers = [layer for layer in flow.modules() if isinstance(layer, ActNorm)]
    for layer in layers:
        layer.register_forward_hook(lambda module, _, result: outputs.update({module: result[0]}))
    flow(images)
    assert len(layers) == 4
    for layer in layers:
        std, mean = torch.std_mean(outputs[layer], (0, 2, 3))
        assert (mean.abs() < 0.02).all() and ((std - 1).abs() < 0.02).all()


def test_a_constant_channel_starts_finite() -> None:
    flow = image_flow(SHAPE, levels=1, steps=1, mixing=WOODBURY, coupling=AFFINE)
    images = random_images(8)
    images[:, 0] = 17
    flow.initialize(images)
    assert flow(images).isfinite().all()
    layer, constant = ActNorm(2, min_std=0.01), torch.full((3, 2, 4, 4), 17.0)
    layer.initialize(constant)
    torch.testing.assert_close(layer.log_scale.detach(), torch.full((2,), -log(0.01)))
    assert not layer(constant)[0].any()


def test_training_lowers_bits_per_dim_and_state_dict_carries_the_start() -> None:
    flow = build()
    images = random_images(64) // 8
    optimizer = torch.optim.Adam(flow.parameters(), 1e-2)
    before = flow(images).mean().detach()
    for _ in range(30):
        loss = flow(images).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.detach() < before - 1
    other = image_flow(SHAPE, levels=2, steps=1, mixing=WOODBURY, coupling=AFFINE)
    other.load_state_dict(flow.state_dict())
    assert torch.equal(other.transform_from_noise(torch.zeros(2, 192)), flow.transform_from_noise(torch.zeros(2, 192)))


def test_whole_flow_under_autocast_stays_invertible() -> None:
    flow, images = build(), random_images(32)
    with torch.autocast("cpu", torch.bfloat16):
        values, _ = flow._transform[0](images)
        noise, _ = flow._transform[1](values)
        back, _ = flow._transform[1].inverse(noise)
    assert noise.dtype == torch.float32
    # bf16 nets magnify the last float32 digit to one of theirs; with bf16 arithmetic the error is tens of times larger
    assert (back - values).abs().max() < 2e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dequantizer", DEQUANTIZERS)
def test_a_flow_in_half_precision_says_what_to_do_instead(dequantizer: str, dtype: torch.dtype) -> None:
    flow, images = build(dequantize=DEQUANTIZERS[dequantizer](SHAPE, 8)).to(dtype), random_images(2)
    for call in (lambda: flow(images), lambda: flow.sample(2), lambda: flow.sample_and_log_prob(2)):
        with pytest.raises(TypeError, match=r"must be float32 or float64, got .*; undo \.half\(\) .*bf16-mixed"):
            call()


def test_configs_build_what_they_say_and_survive_a_round_trip() -> None:
    config = FlowConfig(shape=(3, 16, 16), levels=2, steps=1, mixing="me-woodbury", hidden_channels=8, num_classes=4)
    assert FlowConfig.from_dict(config.to_dict()) == config
    flow = config.build()
    assert flow(random_images(2, (3, 16, 16)), torch.eye(4)[:2]).shape == (2,)
    with pytest.raises(ValueError, match="settings must be among"):
        FlowConfig.from_dict({**config.to_dict(), "colour": 1})
