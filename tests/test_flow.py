"""Whole flows: every mixing with every coupling and base, ours and nflows', from uint8 to noise and back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import log

import pytest
import torch
from nflows import distributions, transforms
from nflows.flows.base import Flow
from nflows.nn.nets import ConvResidualNet
from registry import dense_jacobian
from torch import Tensor, nn

from nflows_woodbury import (
    ActNorm,
    AffineCoupling,
    Chain,
    ImageFlow,
    InvertibleConv1x1,
    MEWoodburyTransform,
    SplitPrior,
    Squeeze,
    TopPrior,
    UniformDequantize,
    WoodburyTransform,
    image_flow,
)
from nflows_woodbury.config import COUPLINGS, DEQUANTIZERS, MIXINGS, FlowConfig

# nflows 0.14 calls functions that torch deprecates; its own layers are used here as they are.
pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.triangular_solve is deprecated:UserWarning"),
    pytest.mark.filterwarnings("ignore:torch.lu is deprecated:UserWarning"),
]

SHAPE = (3, 8, 8)
GRID_SHAPE = (1, 12, 12)  # levels of 6 x 6 and 3 x 3 pixels: odd, and no smaller than a kernel
AFFINE = partial(AffineCoupling, hidden_channels=8)
WOODBURY = partial(WoodburyTransform, ranks=(3, 4))


def mask(channels: int) -> Tensor:
    return torch.arange(channels) % 2


def conv_net(inputs: int, outputs: int) -> nn.Module:
    return ConvResidualNet(inputs, outputs, hidden_channels=8, num_blocks=1)


NFLOWS_MIXINGS = {"nflows-conv1x1": lambda s: transforms.OneByOneConvolution(s[0])}
NFLOWS_COUPLINGS = {
    "nflows-affine": lambda s: transforms.AffineCouplingTransform(mask(s[0]), conv_net),
    "nflows-spline": lambda s: transforms.PiecewiseRationalQuadraticCouplingTransform(
        mask(s[0]), conv_net, num_bins=4, tails="linear", tail_bound=5.0
    ),
}
BASES: dict[str, Callable[[int], distributions.Distribution]] = {
    "standard-normal": lambda d: distributions.StandardNormal((d,)),
    "diagonal-normal": lambda d: distributions.DiagonalNormal((d,)),
    "made-mog": lambda d: distributions.MADEMoG(d, hidden_features=2 * d, context_features=None),
}
GRID_MIXINGS = {**{name: mixing(3, 4) for name, mixing in MIXINGS.items()}, **NFLOWS_MIXINGS}
GRID_COUPLINGS = {**{n: partial(coupling, hidden_channels=8) for n, coupling in COUPLINGS.items()}, **NFLOWS_COUPLINGS}


def random_images(count: int, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, *shape), dtype=torch.uint8, generator=generator)


def build(context: Tensor | None = None, shape: tuple[int, int, int] = SHAPE, **parts) -> ImageFlow:
    torch.manual_seed(0)
    flow = image_flow(shape, **{"levels": 2, "steps": 1, "mixing": WOODBURY, "coupling": AFFINE, **parts})
    flow.initialize(random_images(64, shape), context)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return flow.eval()


@pytest.mark.parametrize("base", [pytest.param(b, marks=[pytest.mark.quick] * (b == "standard-normal")) for b in BASES])
@pytest.mark.parametrize("coupling", GRID_COUPLINGS)
@pytest.mark.parametrize("mixing", GRID_MIXINGS)
def test_any_mixing_goes_with_any_coupling_and_base(mixing: str, coupling: str, base: str) -> None:
    parts = {"mixing": GRID_MIXINGS[mixing], "coupling": GRID_COUPLINGS[coupling], "base": BASES[base]}
    flow = build(shape=GRID_SHAPE, **parts).double()
    images = random_images(6, GRID_SHAPE)
    bits = flow(images)
    assert bits.shape == (6,) and bits.isfinite().all()
    noise = flow.transform_to_noise(images)
    assert noise.shape == (6, 144) and noise.dtype == torch.float64
    assert torch.equal(flow.transform_from_noise(noise), images)
    if base == "standard-normal":
        samples = flow.sample(4)
        assert samples.dtype == torch.uint8 and samples.shape == (4, *GRID_SHAPE)
    else:
        with pytest.raises(NotImplementedError, match="cannot sample without context"):
            flow.sample(4)


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


def conditional(**parts) -> ImageFlow:
    coupling = partial(AffineCoupling, hidden_channels=8, context_features=5)
    return build(torch.eye(5).repeat(13, 1)[:64], coupling=coupling, context_features=5, **parts)


def test_context_reaches_every_part_and_sampling_is_per_row() -> None:
    flow = conditional().double()
    images, context = random_images(4), torch.eye(5, dtype=torch.float64)[:4]
    flow(images, context).sum().backward()
    touched = [name for name, p in flow.named_parameters() if "context" in name and p.grad is not None and p.grad.any()]
    assert len(touched) == 2 + 2  # two couplings, a split prior, the top prior
    samples = flow.sample(3, context, batch_size=2)
    assert samples.shape == (4, 3, *SHAPE) and samples.dtype == torch.uint8
    torch.manual_seed(0)
    one = flow.sample(1, context[:1])
    torch.manual_seed(0)
    other = flow.sample(1, context[1:2])
    assert not torch.equal(one, other)
    assert flow.sample_and_log_prob(2, context)[1].shape == (4, 2)
    noise = flow.transform_to_noise(images, context)
    assert torch.equal(flow.transform_from_noise(noise, context), images)
    with pytest.raises(ValueError, match="context must be given"):
        flow(images)


def test_samples_are_those_of_their_row_of_the_context() -> None:
    flow, context = conditional(), torch.eye(5)[:4]
    samples = flow.sample(3, context, batch_size=2, temperature=0.0)
    for row, images in zip(context, samples, strict=True):
        assert torch.equal(images, flow.transform_from_noise(torch.zeros(3, 192), row.expand(3, -1)))
    assert not torch.equal(samples[0], samples[1])
    torch.manual_seed(0)
    samples = flow.sample(3, context)
    torch.manual_seed(0)
    images, log_prob = flow.sample_and_log_prob(3, context)
    assert torch.equal(images, samples)
    torch.manual_seed(0)
    noise = torch.randn(12, 192)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum(1)
    _, logabsdet = flow._transform.inverse(noise, context.repeat_interleave(3, 0))
    torch.testing.assert_close(log_prob.flatten(), normal - logabsdet)


def test_embedding_net_maps_labels_to_context() -> None:
    torch.manual_seed(0)
    coupling = partial(AffineCoupling, hidden_channels=8, context_features=5)
    flow = image_flow(
        SHAPE, levels=1, steps=1, mixing=WOODBURY, coupling=coupling, context_features=5,
        embedding_net=nn.Embedding(10, 5),
    )  # fmt: skip
    labels = torch.tensor([1, 7])
    flow.initialize(random_images(2), labels)
    flow(random_images(2), labels).sum().backward()
    assert flow._embedding_net.weight.grad[7].any() and not flow._embedding_net.weight.grad[3].any()
    assert flow.sample(3, labels).shape == (2, 3, *SHAPE)


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


def test_nflows_mixing_under_autocast_leaves_the_rest_in_float32() -> None:
    flow, images = build(mixing=NFLOWS_MIXINGS["nflows-conv1x1"]), random_images(32)
    torch.manual_seed(1)
    expected = flow(images)
    with torch.autocast("cpu", torch.bfloat16):
        torch.manual_seed(1)
        bits = flow(images)
        samples = flow.sample(3)
    assert bits.dtype == torch.float32 and samples.dtype == torch.uint8
    torch.testing.assert_close(bits, expected, rtol=1e-2, atol=0)  # its products have three digits
    bits.mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in flow.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dequantizer", DEQUANTIZERS)
def test_a_flow_in_half_precision_says_what_to_do_instead(dequantizer: str, dtype: torch.dtype) -> None:
    flow, images = build(dequantize=DEQUANTIZERS[dequantizer](SHAPE, 8)).to(dtype), random_images(2)
    for call in (lambda: flow(images), lambda: flow.sample(2), lambda: flow.sample_and_log_prob(2)):
        with pytest.raises(TypeError, match=r"must be float32 or float64, got .*; undo \.half\(\) .*bf16-mixed"):
            call()


PAIRS = dict.fromkeys([(mixing, "affine") for mixing in MIXINGS] + [("conv1x1", coupling) for coupling in COUPLINGS])


@pytest.mark.parametrize("mixing, coupling", PAIRS)
def test_training_and_sampling_compile_in_one_graph_each(mixing: str, coupling: str) -> None:
    torch.manual_seed(1)
    flow = FlowConfig((3, 6, 6), levels=1, steps=1, hidden_channels=4, mixing=mixing, coupling=coupling).build()
    images = torch.randint(256, (4, 3, 6, 6), dtype=torch.uint8)
    flow.initialize(images)

    def train() -> Tensor:
        flow.zero_grad()
        bits = flow(images)
        bits.mean().backward()
        return torch.cat([bits.detach(), *(parameter.grad.flatten() for parameter in flow.parameters())])

    def sample() -> Tensor:
        with torch.no_grad():
            return flow.sample(5, temperature=0.7)

    for call, name in ((train, "forward"), (sample, "sample")):
        torch._dynamo.reset()
        torch.manual_seed(2)
        expected = call()
        setattr(flow, name, torch.compile(getattr(flow, name), fullgraph=True, backend="eager"))
        torch.manual_seed(2)
        torch.testing.assert_close(call(), expected)


class TestInsideNflows:
    """Our layers in nflows' own containers, its layers in ours."""

    def test_composite_and_inverse_and_flow(self) -> None:
        torch.manual_seed(0)
        shape = (4, 6, 6)
        layers = [ActNorm(4), WoodburyTransform(shape, (2, 4)), MEWoodburyTransform(shape, (2, 3, 3)),
                  AffineCoupling(shape, 8), transforms.InverseTransform(InvertibleConv1x1(shape, "plu"))]  # fmt: skip
        composite = transforms.CompositeTransform(layers)
        flow = Flow(composite, distributions.StandardNormal(shape))
        inputs = torch.randn(5, *shape)
        assert flow.log_prob(inputs).shape == (5,)
        assert flow.sample(3).shape == (3, *shape)
        outputs, forward = composite(inputs)
        back, inverse = transforms.InverseTransform(composite)(outputs)
        torch.testing.assert_close(back, inputs, rtol=0, atol=1e-4)
        torch.testing.assert_close(forward, -inverse, rtol=1e-4, atol=1e-4)

    def test_multiscale_composite(self) -> None:
        multiscale = transforms.MultiscaleCompositeTransform(2)
        hidden = multiscale.add_transform(WoodburyTransform((4, 4, 4), (2, 4)), (4, 4, 4))
        multiscale.add_transform(MEWoodburyTransform(hidden, (2, 2, 2)), hidden)
        inputs = torch.randn(3, 4, 4, 4)
        outputs, logabsdet = multiscale(inputs)
        torch.testing.assert_close(multiscale.inverse(outputs)[0], inputs, rtol=0, atol=1e-4)
        assert outputs.shape == (3, 64) and logabsdet.shape == (3,)

    def test_chain_takes_nflows_layers(self) -> None:
        chain = Chain([transforms.OneByOneConvolution(4), WoodburyTransform((4, 4, 4), (2, 2))])
        inputs = torch.randn(3, 4, 4, 4)
        outputs, _ = chain(inputs)
        torch.testing.assert_close(chain.inverse(outputs)[0], inputs, rtol=0, atol=1e-4)

    def test_chain_sums_log_dets_of_bfloat16_layers_in_float32(self) -> None:
        layer = transforms.PointwiseAffineTransform(scale=torch.tensor(2.0, dtype=torch.bfloat16))
        _, logabsdet = Chain([layer] * 300)(torch.zeros(1, 1, dtype=torch.bfloat16))
        torch.testing.assert_close(logabsdet, torch.tensor([300 * log(2)]), rtol=4e-3, atol=0)


def test_configs_build_what_they_say_and_survive_a_round_trip() -> None:
    config = FlowConfig(shape=(3, 16, 16), levels=2, steps=1, mixing="me-woodbury", hidden_channels=8, num_classes=4)
    assert FlowConfig.from_dict(config.to_dict()) == config
    flow = config.build()
    assert flow(random_images(2, (3, 16, 16)), torch.eye(4)[:2]).shape == (2,)
    with pytest.raises(ValueError, match="settings must be among"):
        FlowConfig.from_dict({**config.to_dict(), "colour": 1})


def test_a_flow_with_classes_takes_their_numbers_as_context() -> None:
    torch.manual_seed(0)
    config = FlowConfig((3, 8, 8), levels=1, steps=1, hidden_channels=4, num_classes=3)
    flow, plain = config.build(), FlowConfig((3, 8, 8), levels=1, steps=1, hidden_channels=4).build()
    for parameter in flow.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    images, labels = random_images(4, (3, 8, 8)), torch.tensor([2, 0, 1, 1])
    rows = torch.eye(3)[labels]
    for call in (flow, flow.log_prob, flow.transform_to_noise):
        results = []
        for context in (labels, labels.int(), rows):
            torch.manual_seed(1)
            results.append(call(images, context))
        assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    assert flow.sample(4, context=labels).shape == (4, 4, 3, 8, 8)
    torch.manual_seed(1)
    drawn = flow.sample(2, context=labels)
    torch.manual_seed(1)
    assert torch.equal(drawn, flow.sample(2, context=rows))
    assert (flow.num_classes, plain.num_classes) == (3, 0) and not any(
        "embedding" in name for name in flow.state_dict()
    )
    assert flow(images, 0.5 * rows + 0.5 / 3).shape == (4,)


def test_class_numbers_out_of_range_are_nan_where_no_check_can_look() -> None:
    flow = FlowConfig((3, 8, 8), levels=1, steps=1, hidden_channels=4, num_classes=3).build()
    images, labels = random_images(2, (3, 8, 8)), torch.tensor([1, 3])

    def bits(image: Tensor, label: Tensor) -> Tensor:
        return flow(image[None], label[None])[0]

    for values in (
        torch.vmap(bits, randomness="different")(images, labels),
        torch.compile(flow, fullgraph=True, backend="eager")(images, labels),
    ):
        assert values.isnan().tolist() == [False, True]
