"""Padding by noise: what it adds, what it drops, and that its likelihood is a bound which is tight for true noise."""

from __future__ import annotations

from math import log

import pytest
import torch
from laws import relative
from nflows.distributions import StandardNormal
from registry import move
from torch import Tensor
from torch.distributions import Normal

from nflows_woodbury import AffineCoupling, Chain, FieldFlow, InvertibleConv1x1, Multiscale, Pad

#: shape, sizes, and where the inputs stand in the outputs
SIZES = [
    ((1, 28, 28), (32, 32), (slice(2, 30), slice(2, 30))),
    ((2, 5), (8,), (slice(1, 6),)),
    ((2, 3, 4, 5), (4, 4, 8), (slice(0, 3), slice(0, 4), slice(1, 6))),
    ((2, 3, 3), (3, 3), (slice(0, 3), slice(0, 3))),
]


def padded(shape: tuple[int, ...], sizes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Pad, Tensor]:
    torch.manual_seed(0)
    return Pad(shape, sizes, scale=0.5), torch.randn(4, *shape, dtype=dtype)


@pytest.mark.parametrize("shape, sizes, within", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_noise_stands_around_the_inputs_and_counts_with_its_density(shape, sizes, within, dtype) -> None:
    pad, inputs = padded(shape, sizes, dtype)
    outputs, logabsdet = pad(inputs)
    inner = (slice(None), slice(None), *within)
    assert outputs.shape == (4, shape[0], *sizes) and outputs.dtype == logabsdet.dtype == dtype
    assert torch.equal(outputs[inner], inputs)
    around = torch.ones_like(outputs, dtype=torch.bool)
    around[inner] = False
    noise = outputs[around].view(4, -1).double()
    assert noise.unique().numel() == noise.numel()  # none of it is drawn twice
    assert relative(logabsdet.double(), -Normal(0.0, 0.5).log_prob(noise).sum(1)) < 1e-5
    back, of_inverse = pad.inverse(outputs)
    assert torch.equal(back, inputs) and relative(of_inverse, -logabsdet) < 1e-6
    assert not torch.equal(pad(inputs)[0], outputs) or not noise.numel()  # and each time another


def test_noise_has_its_standard_deviation() -> None:
    outputs, _ = Pad((1, 1), (4096,), scale=0.25)(torch.zeros(4, 1, 1))
    assert outputs.std().item() == pytest.approx(0.25, rel=0.05)


def flow_of_one_number(multiscale: Multiscale) -> FieldFlow:
    """A number x, and one of noise behind it."""
    return FieldFlow(Chain([Pad((1, 1), (2,), scale=0.5), multiscale]), StandardNormal((2,)), shape=(1, 1)).double()


def test_a_flow_that_knows_the_noise_gives_the_density_itself_and_every_time() -> None:
    """p(x, u) = p(x) q(u) costs nothing: here with p(x) = N(0, 1/9), scaled by 3, and u by 2."""
    layer = InvertibleConv1x1((2,), init="identity")
    with torch.no_grad():
        layer.matrix.weight.copy_(torch.diag(torch.tensor([3.0, 2.0])))
    flow = flow_of_one_number(Multiscale([_as_vector(layer)], [(2,)]))
    inputs = torch.linspace(-1, 1, 5, dtype=torch.float64).view(-1, 1, 1)
    expected = Normal(0.0, 1 / 3).log_prob(inputs.flatten())
    for _ in range(3):
        torch.testing.assert_close(flow.log_prob(inputs), expected)
        torch.testing.assert_close(flow(inputs), -expected / log(2))  # by the one real dimension


def test_the_mean_over_the_noise_is_below_the_density_and_that_of_samples_above() -> None:
    """By quadrature over u, for a flow in which x and u depend on each other."""
    torch.manual_seed(0)
    coupled = move(Chain([InvertibleConv1x1((2,)), AffineCoupling((2,), 8)]), 1.0)
    flow = flow_of_one_number(Multiscale([_as_vector(coupled)], [(2,)])).requires_grad_(False)
    u = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    x = torch.tensor(0.3, dtype=torch.float64)
    pairs = torch.stack([x.expand_as(u), u], 1)[:, None]
    joint = _joint(flow, pairs)
    of_noise = Normal(0.0, 0.5).log_prob(u)
    exact = torch.logsumexp(joint, 0) + log(24 / 4000)
    below = (of_noise.exp() * (joint - of_noise)).sum() * 24 / 4000
    above = ((joint - exact).exp() * (joint - of_noise)).sum() * 24 / 4000
    assert below < exact - 1e-3 < exact + 1e-3 < above
    draws = flow.log_prob(x.expand(20000, 1, 1))
    assert draws.mean().item() == pytest.approx(below.item(), abs=5 * draws.std().item() / 20000**0.5)
    assert (draws.logsumexp(0) - log(20000)).item() == pytest.approx(exact.item(), abs=0.02)


def _joint(flow: FieldFlow, pairs: Tensor) -> Tensor:
    """log p(x, u)."""
    noise, logabsdet = flow._transform[1](pairs)
    return flow._distribution.log_prob(noise) + logabsdet


class _as_vector(Chain):
    """A sequence of one channel (B, 1, 2) as vectors of two, through some transforms."""

    def __init__(self, transform) -> None:
        super().__init__([transform])

    def forward(self, inputs, context=None):
        return super().forward(inputs[:, 0])

    def inverse(self, inputs, context=None):
        outputs, logabsdet = super().inverse(inputs)
        return outputs[:, None], logabsdet


def test_bad_arguments() -> None:
    for sizes in ((32,), (32, 27), (32, 32, 32)):
        with pytest.raises(ValueError, match=r"sizes must be at least those of shape, \(28, 28\), one for each; got"):
            Pad((1, 28, 28), sizes)
    with pytest.raises(ValueError, match="scale must be above 0 and finite, got 0"):
        Pad((1, 28, 28), (32, 32), scale=0)
    pad = Pad((1, 3), (4,))
    with pytest.raises(ValueError, match=r"inputs must have shape \(B, 1, 3\), got \(2, 1, 4\)"):
        pad(torch.zeros(2, 1, 4))
    with pytest.raises(ValueError, match=r"inputs must have shape \(B, 1, 4\), got \(2, 1, 3\)"):
        pad.inverse(torch.zeros(2, 1, 3))
    with pytest.raises(TypeError, match="inputs must be a floating point tensor"):
        pad(torch.zeros(2, 1, 3, dtype=torch.uint8))
