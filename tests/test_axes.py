"""Whole flows of vectors, sequences, images and volumes, and of sizes that the levels do not divide."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from registry import move
from rounding import jacobians
from torch import Tensor

from nflows_woodbury import (
    AffineCoupling,
    HaarSqueeze,
    InvertibleConv1x1,
    MEWoodburyTransform,
    Pad,
    SplineCoupling,
    Squeeze,
    VariationalDequantize,
    WoodburyTransform,
    field_flow,
    image_flow,
)
from nflows_woodbury.config import NETS, FlowConfig
from nflows_woodbury.flow import GridFlow

PARTS = {"steps": 1, "mixing": InvertibleConv1x1, "coupling": partial(AffineCoupling, hidden_channels=4)}
SPLINE = partial(SplineCoupling, hidden_channels=4)
#: shape, levels, and other parts
FLOWS = {
    "vectors": ((7,), 2, {"mixing": partial(WoodburyTransform, ranks=(3,))}),
    "sequences": ((2, 12), 2, {"mixing": partial(WoodburyTransform, ranks=(3, 2))}),
    "volumes": ((1, 4, 2, 6), 1, {"mixing": partial(MEWoodburyTransform, ranks=(3, 2, 2, 2)), "squeeze": HaarSqueeze}),
    "films": ((1, 3, 4, 4), 2, {"squeeze": partial(Squeeze, factor=(1, 2, 2))}),
    "padded-images": ((1, 6, 7), 2, {"pad": Pad}),
    "padded-sequences": ((2, 9), 1, {"pad": partial(Pad, scale=1.0), "coupling": SPLINE}),
    "attention": ((2, 6), 1, {"coupling": partial(AffineCoupling, net=NETS["attention"](4, 1))}),
}
each_flow = pytest.mark.parametrize("name", FLOWS)


def built(name: str, make=field_flow, **more) -> GridFlow:
    shape, levels, parts = FLOWS[name]
    torch.manual_seed(0)
    return move(make(shape, levels=levels, **{**PARTS, **parts, **more}), 0.3).eval().double()


@each_flow
def test_fields_have_a_density_and_come_back(name: str) -> None:
    flow, shape = built(name), FLOWS[name][0]
    fields = torch.randn(2, *shape, dtype=torch.float64)
    noise = flow.transform_to_noise(fields)
    torch.testing.assert_close(flow.transform_from_noise(noise), fields)
    samples = flow.sample(5)
    assert samples.shape == (5, *shape) and samples.isfinite().all()
    if "padded" in name:
        assert noise.shape[1] > fields[0].numel()
        return
    expected = torch.linalg.slogdet(jacobians(flow._transform, fields, None)).logabsdet
    torch.testing.assert_close(flow.log_prob(fields), flow._distribution.log_prob(noise) + expected)


@each_flow
def test_uint8_has_bits_per_real_dimension_and_comes_back(name: str) -> None:
    flow, shape = built(name, image_flow), FLOWS[name][0]
    images = torch.randint(256, (4, *shape), dtype=torch.uint8)
    flow.initialize(images)
    assert torch.equal(flow.transform_from_noise(flow.transform_to_noise(images)), images)
    bits, samples = flow(images), flow.sample(2)
    assert bits.shape == (4,) and bits.isfinite().all() and (bits > 0).all()
    assert samples.dtype == torch.uint8 and samples.shape == (2, *shape)
    log_prob = flow.log_prob(images)
    assert log_prob.shape == (4,) and log_prob.isfinite().all()


def test_variational_dequantization_takes_other_axes() -> None:
    for shape in ((2, 6), (1, 2, 4, 2)):
        torch.manual_seed(0)
        dequantize = VariationalDequantize(shape, hidden_channels=4).double()
        images = torch.randint(256, (5, *shape), dtype=torch.uint8)
        values, logabsdet = dequantize(images)
        back, of_inverse = dequantize.inverse(values)
        assert torch.equal(back, images)
        torch.testing.assert_close(of_inverse, -logabsdet, rtol=1e-6, atol=1e-6)


def test_padding_costs_nothing_but_what_the_flow_does_not_know() -> None:
    """A flow that maps the real pixels to noise by itself, and the padding too, loses no bit by it."""
    parts = {**PARTS, "mixing": partial(InvertibleConv1x1, init="identity")}
    flow, fields = field_flow((1, 3, 3), levels=1, **parts, pad=partial(Pad, scale=1.0)), torch.randn(5, 1, 3, 3)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(fields).sum((1, 2, 3))
    torch.testing.assert_close(flow.log_prob(fields), expected)


def test_sizes_that_are_divisible_are_not_padded() -> None:
    torch.manual_seed(0)
    plain = field_flow((1, 4, 4), levels=1, **PARTS)
    torch.manual_seed(0)
    padded = field_flow((1, 4, 4), levels=1, **PARTS, pad=Pad)
    assert list(plain.state_dict()) == list(padded.state_dict())
    assert torch.equal(plain(torch.ones(1, 1, 4, 4)), padded(torch.ones(1, 1, 4, 4)))


@pytest.mark.parametrize("shape, what", [((1, 28, 28), "height and width .* 28 x 28"), ((1, 6), "each size .* got 6")])
def test_the_error_of_a_size_names_what_pads_it(shape: tuple[int, ...], what: str) -> None:
    for make in (image_flow, field_flow):
        with pytest.raises(ValueError, match=rf"{what}; give pad=Pad \(--pad on the command line\), use fewer levels"):
            make(shape, levels=3, **PARTS)
    with pytest.raises(TypeError, match="pad must be a constructor, such as Pad, or None, got True"):
        image_flow(shape, levels=3, **PARTS, pad=True)


def test_the_error_of_sides_that_are_not_halved_names_them() -> None:
    with pytest.raises(ValueError, match=r"divisible by \(1, 4, 4\), got 3 x 6 x 4"):
        field_flow((1, 3, 6, 4), levels=2, **PARTS, squeeze=partial(Squeeze, factor=(1, 2, 2)))


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("shape", [(1, 6, 6), (2, 6)])
def test_a_model_as_data_has_a_net_and_padding(net: str, shape: tuple[int, ...]) -> None:
    config = FlowConfig(shape, levels=2, steps=1, mixing="me-woodbury", hidden_channels=4, net=net, pad=True)
    assert FlowConfig.from_dict(config.to_dict()) == config
    flow = config.build()
    images = torch.zeros((3, *shape), dtype=torch.uint8)
    assert flow(images).shape == (3,) and flow.sample(2).shape == (2, *shape)


def test_old_settings_have_the_net_that_there_was() -> None:
    old = FlowConfig((3, 8, 8), levels=1, steps=1, hidden_channels=4).to_dict()
    del old["net"], old["pad"]
    names = FlowConfig.from_dict(old).build().state_dict()
    assert any(name.endswith("net.second.weight") for name in names)


def test_bad_settings() -> None:
    for settings, error, message in [
        ({"net": "mlp"}, ValueError, "net must be one of attention, conv, residual; got 'mlp'"),
        ({"net": "residual", "coupling": "macow"}, ValueError, "net must be 'conv' for macow, .* got 'residual'"),
        ({"pad": 1}, TypeError, "pad must be True or False, got 1"),
    ]:
        with pytest.raises(error, match=message):
            FlowConfig(**settings)


def test_padded_likelihoods_are_bounds_of_samples_too() -> None:
    """log p(x, u) - log q(u) of a sample and its own u is what sample_and_log_prob gives."""
    flow, count = built("padded-images"), 50
    torch.manual_seed(1)
    fields, log_prob = flow.rsample_and_log_prob(count)
    torch.manual_seed(1)
    noise, _ = flow._noise(count, None)
    pad, multiscale = flow._transform
    padded, logabsdet = multiscale.inverse(noise)
    expected = flow._distribution.log_prob(noise) - logabsdet - pad.inverse(padded)[1]
    torch.testing.assert_close(log_prob, expected)
    assert torch.equal(fields, pad.inverse(padded)[0])


def test_gradients_reach_fields_of_every_number_of_axes() -> None:
    for name, (shape, *_) in FLOWS.items():
        flow = built(name)
        noise = torch.randn_like(flow.transform_to_noise(torch.zeros(2, *shape, dtype=torch.float64))).requires_grad_()
        gradient: Tensor = torch.autograd.grad(flow.decode(noise).square().sum(), noise)[0]
        assert gradient.isfinite().all() and gradient.any()
