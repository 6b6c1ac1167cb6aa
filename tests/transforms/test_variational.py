"""Variational dequantization: its bound is what the formula says, and it starts at the uniform one."""

from __future__ import annotations

from functools import partial
from math import log, pi

import pytest
import torch
from torch import Tensor

from nflows_woodbury import (
    AffineCoupling,
    ImageFlow,
    InvertibleConv1x1,
    UniformDequantize,
    WoodburyTransform,
    image_flow,
)
from nflows_woodbury.transforms.spline import SplineCoupling
from nflows_woodbury.transforms.variational import VariationalDequantize

SHAPE = (2, 4, 2)
PARTS = {
    "default": {},
    "spline": {"coupling": SplineCoupling, "steps": 1},
    "woodbury": {"mixing": partial(WoodburyTransform, ranks=(3, 2)), "coupling": AffineCoupling},
}


def dequantizer(bits: int = 8, parts: str = "default", dtype: torch.dtype = torch.float64) -> VariationalDequantize:
    """A small one, moved off its start."""
    torch.manual_seed(0)
    dequantize = VariationalDequantize(SHAPE, bits, hidden_channels=6, **PARTS[parts]).to(dtype)
    with torch.no_grad():
        for parameter in dequantize.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return dequantize


def images(count: int = 3) -> Tensor:
    return torch.randint(256, (count, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def minus_log_q(dequantize: VariationalDequantize, image: Tensor, epsilon: Tensor) -> Tensor:
    """``-log q(y | image)`` by the change of variables, from the dense Jacobian of the noise's whole way to ``y``."""
    jacobian = torch.autograd.functional.jacobian(lambda noise: dequantize._add_shaped(image, noise)[0], epsilon)
    size = epsilon.numel()
    log_normal = -epsilon.square().sum() / 2 - size / 2 * log(2 * pi)
    return torch.linalg.slogdet(jacobian.reshape(size, size)).logabsdet - log_normal


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("bits", [3, 8])
def test_log_det_is_minus_log_q(parts: str, bits: int) -> None:
    dequantize, x = dequantizer(bits, parts), images()
    torch.manual_seed(7)
    values, logabsdet = dequantize(x)
    torch.manual_seed(7)
    epsilon = torch.randn(x.shape, dtype=torch.float64)
    torch.testing.assert_close(dequantize._add_shaped(x, epsilon)[0], values)
    expected = torch.stack([minus_log_q(dequantize, x[i : i + 1], epsilon[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(logabsdet, expected, atol=1e-9, rtol=1e-9)
    back, back_logabsdet = dequantize.inverse(values)
    assert torch.equal(back, x >> (8 - bits) << (8 - bits))
    torch.testing.assert_close(back_logabsdet, -logabsdet, atol=1e-7, rtol=0)


def test_bits_per_dimension_of_a_whole_flow() -> None:
    dequantize, x = dequantizer(), images()
    flow = image_flow(
        SHAPE,
        levels=1,
        steps=1,
        mixing=InvertibleConv1x1,
        coupling=partial(AffineCoupling, hidden_channels=4),
        dequantize=dequantize,
    ).double()
    assert isinstance(flow, ImageFlow)
    flow.initialize(x)
    torch.manual_seed(7)
    bits = flow(x)
    torch.manual_seed(7)
    epsilon = torch.randn(x.shape, dtype=torch.float64)
    values, _ = dequantize._add_shaped(x, epsilon)
    noise, logabsdet = flow._transform[1](values)
    log_q = torch.stack([minus_log_q(dequantize, x[i : i + 1], epsilon[i : i + 1]) for i in range(len(x))])
    expected = -(flow._distribution.log_prob(noise) + logabsdet + log_q) / (16 * log(2))
    torch.testing.assert_close(bits, expected)
    assert torch.equal(flow.transform_from_noise(flow.transform_to_noise(x)), x)
    samples, log_prob = flow.sample_and_log_prob(4)
    assert samples.dtype == torch.uint8
    assert log_prob.isfinite().all()


def test_it_starts_at_uniform_noise() -> None:
    torch.manual_seed(0)
    dequantize = VariationalDequantize((3, 8, 8), steps=4).double()
    x = torch.randint(256, (200, 3, 8, 8), dtype=torch.uint8)
    values, logabsdet = dequantize(x)
    torch.testing.assert_close(logabsdet, UniformDequantize().double()(x)[1], atol=1e-3, rtol=0)
    noise = ((values + 0.5) * 256 - x).flatten().sort().values
    uniform = torch.linspace(0, 1, len(noise), dtype=torch.float64)
    assert (noise - uniform).abs().max() < 2 / len(noise) ** 0.5  # Kolmogorov's statistic


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_ends_of_a_bin_stay_finite_and_in_the_bin(dtype: torch.dtype) -> None:
    dequantize, x = dequantizer(dtype=dtype), images()
    for size in (-40.0, -8.0, 8.0, 40.0):
        values, logabsdet = dequantize._add_shaped(x, torch.full(x.shape, size, dtype=dtype))
        back, back_logabsdet = dequantize.inverse(values)
        assert torch.equal(back, x)
        assert logabsdet.isfinite().all()
        assert back_logabsdet.isfinite().all()
    for value in (-0.7, -0.5, 0.0, 0.5, 0.7):
        back, logabsdet = dequantize.inverse(torch.full(x.shape, value, dtype=dtype))
        assert (back == min(max(int((value + 0.5) * 256), 0), 255)).all()
        assert logabsdet.isfinite().all()


def test_the_noise_depends_on_the_image() -> None:
    dequantize, x = dequantizer(), images()
    with torch.no_grad():
        for part in list(dequantize.noise_flow)[1::2]:
            part.net.context.weight *= 10
    epsilon = torch.randn(x.shape, dtype=torch.float64)
    noise = [(dequantize._add_shaped(y, epsilon)[0] + 0.5) * 256 % 1 for y in (x, 255 - x)]
    assert (noise[0] - noise[1]).abs().max() > 1e-2


def test_every_parameter_takes_part() -> None:
    dequantize, x = dequantizer(dtype=torch.float32), images(16)
    values, logabsdet = dequantize(x)
    (values.square().sum() + logabsdet.sum()).backward()
    for name, parameter in dequantize.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"shape": (3, 5, 4)}, ValueError, "even height and width"),
        ({"bits": 9}, ValueError, "bits must be between 1 and 8"),
        ({"steps": 0}, ValueError, "steps must be a positive integer"),
        ({"hidden_channels": 1.5}, TypeError, "hidden_channels must be a positive integer"),
    ],
)
def test_arguments(arguments: dict[str, object], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        VariationalDequantize(**{"shape": SHAPE, **arguments})


def test_images_of_another_kind_are_refused() -> None:
    dequantize = dequantizer()
    with pytest.raises(TypeError, match="uint8"):
        dequantize(images().float())
    with pytest.raises(ValueError, match=r"images must have shape \(B, 2, 4, 2\)"):
        dequantize(images()[:, :1])
    with pytest.raises(ValueError, match=r"inputs must have shape \(B, 2, 4, 2\)"):
        dequantize.inverse(torch.zeros(2, 2, 4, 4))
