"""Models that the hosts' own examples build, with our assembly in its place: they train, and their samples are theirs.

Of normflows: RealNVP in two dimensions, a multiscale Glow of images with classes, and a conditional flow. Of nflows'
makers: the image experiment of Neural Spline Flows. Of users: the posterior estimator that sbi builds of nflows'
layers, and a prior for deepinv.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import normflows as nf
import pytest
import torch
from nflows import transforms
from nflows.distributions import StandardNormal
from nflows.flows import Flow
from nflows.nn.nets import ConvResidualNet, ResidualNet
from torch import Tensor, nn

from nflows_woodbury import (
    ActNorm,
    AffineCoupling,
    Chain,
    InvertibleConv1x1,
    LowRankLinear,
    SplineCoupling,
    WoodburyTransform,
    field_flow,
    freeze,
    image_flow,
    initialize,
)
from nflows_woodbury import normflows as ours
from nflows_woodbury.normflows import NormflowsAdapter
from nflows_woodbury.transforms.nets import OneHot


def trained(module: nn.Module, loss: Callable[[], Tensor], steps: int = 40, rate: float = 1e-2) -> list[float]:
    """The losses of a few steps of Adam."""
    optimizer, losses = torch.optim.Adam(module.parameters(), lr=rate), []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def test_real_nvp_of_two_moons() -> None:
    """normflows' first example: couplings of two features; a low-rank layer where it swaps them."""
    torch.manual_seed(0)
    flows: list[nf.flows.Flow] = []
    for _ in range(4):
        flows += [nf.flows.AffineCouplingBlock(nf.nets.MLP([1, 16, 16, 2], init_zeros=True)), ours.LowRankLinear(2, 1)]
    model, moons = nf.NormalizingFlow(nf.distributions.DiagGaussian(2), flows), nf.distributions.TwoMoons()
    points = moons.sample(256)
    losses = trained(model, lambda: model.forward_kld(points))
    assert losses[-1] < losses[0] - 0.5
    samples, log_prob = model.sample(8)
    torch.testing.assert_close(log_prob, model.log_prob(samples), rtol=1e-3, atol=1e-3)


def test_real_nvp_of_two_moons_all_ours() -> None:
    """The same from our parts alone, which take vectors."""
    torch.manual_seed(0)
    steps = [
        part for _ in range(4) for part in (ActNorm(2), LowRankLinear(2, 1), AffineCoupling((2,), hidden_channels=16))
    ]
    model = nf.NormalizingFlow(nf.distributions.DiagGaussian(2), [NormflowsAdapter(Chain(steps))])
    points = nf.distributions.TwoMoons().sample(256)
    initialize(model, points)
    losses = trained(model, lambda: model.forward_kld(points))
    assert losses[-1] < losses[0] - 0.2


def test_glow_of_images_with_classes() -> None:
    """normflows' image example: levels of 1x1 convolutions and couplings, squeezed; the class shifts the latents."""
    torch.manual_seed(0)
    classes = 3
    flow = image_flow(
        (1, 8, 8),
        levels=2,
        steps=1,
        mixing=InvertibleConv1x1,
        coupling=partial(AffineCoupling, hidden_channels=8),
        context_features=classes,
        embedding_net=OneHot(classes),
    )
    labels = torch.arange(30) % classes
    images = (60 * labels.view(-1, 1, 1, 1) + torch.randint(40, (30, 1, 8, 8))).to(torch.uint8)
    flow.initialize(images, labels)
    losses = trained(flow, lambda: flow(images, labels).mean())
    assert losses[-1] < losses[0] - 0.1
    samples = flow.sample(2, context=torch.arange(classes), temperature=0.7)
    assert samples.shape == (classes, 2, 1, 8, 8) and samples.dtype == torch.uint8
    with torch.no_grad():
        assert flow(images, labels).mean() < flow(images, (labels + 1) % classes).mean()


def test_a_conditional_flow() -> None:
    """normflows' conditional example: autoregressive splines that see a context, and a linear layer between them."""
    torch.manual_seed(0)
    flows: list[nf.flows.Flow] = []
    for _ in range(2):
        spline = nf.flows.AutoregressiveRationalQuadraticSpline(2, 1, 16, num_context_channels=4)
        flows += [spline, ours.LowRankLinear(2, 1)]
    model = nf.ConditionalNormalizingFlow(nf.distributions.DiagGaussian(2, trainable=False), flows)
    context = torch.rand(128, 4) * 2 - 1
    points = context[:, :2] + 0.5 * context[:, 2:].exp() * torch.randn(128, 2)
    losses = trained(model, lambda: model.forward_kld(points, context))
    assert losses[-1] < losses[0] - 0.1
    samples, log_prob = model.sample(5, context=context[:5])
    torch.testing.assert_close(log_prob, model.log_prob(samples, context[:5]), rtol=1e-3, atol=1e-3)


def spline_of_nflows(shape: tuple[int, int, int]) -> transforms.Transform:
    """A spline coupling on every other channel, whose network is residual."""

    def net(inputs: int, outputs: int) -> nn.Module:
        return ConvResidualNet(inputs, outputs, hidden_channels=8, num_blocks=1)

    mask = torch.arange(shape[0]) % 2
    return transforms.PiecewiseRationalQuadraticCouplingTransform(mask, net, num_bins=4, tails="linear", tail_bound=3.0)


@pytest.mark.filterwarnings("ignore:torch.triangular_solve is deprecated:UserWarning")
@pytest.mark.parametrize(
    "mixing", [lambda shape: transforms.OneByOneConvolution(shape[0]), partial(WoodburyTransform, ranks=(2, 4))]
)
@pytest.mark.parametrize("coupling", [spline_of_nflows, partial(SplineCoupling, hidden_channels=8)])
def test_neural_spline_flows_of_images(mixing, coupling) -> None:
    """Levels of steps of actnorm, a 1x1 convolution and a spline coupling, after a squeeze; then the next level."""
    torch.manual_seed(0)
    flow = image_flow((1, 8, 8), levels=2, steps=1, mixing=mixing, coupling=coupling)
    images = torch.randint(128, (16, 1, 8, 8)).to(torch.uint8)
    flow.initialize(images)
    losses = trained(flow, lambda: flow(images).mean(), steps=10)
    assert losses[-1] < losses[0]
    assert flow.sample(2).shape == (2, 1, 8, 8)


def posterior_estimator(features: int, observed: int) -> Flow:
    """What sbi builds of nflows for a posterior: couplings that see an observation, a linear layer after each."""
    steps: list[transforms.Transform] = []
    for i in range(3):
        mask = (torch.arange(features) + i) % 2

        def net(inputs: int, outputs: int) -> nn.Module:
            return ResidualNet(inputs, outputs, hidden_features=16, context_features=observed, num_blocks=1)

        steps += [transforms.AffineCouplingTransform(mask, net), LowRankLinear(features, rank=2)]
    embedding = nn.Linear(observed, observed)
    return Flow(transforms.CompositeTransform(steps), StandardNormal((features,)), embedding)


def test_neural_posterior_estimation() -> None:
    """Of a linear Gaussian simulator, whose posterior is known: ``x = theta + noise`` with a standard normal prior."""
    torch.manual_seed(0)
    flow, theta = posterior_estimator(3, 3), torch.randn(512, 3)
    observed = theta + 0.5 * torch.randn(512, 3)
    losses = trained(flow, lambda: -flow.log_prob(theta, context=observed).mean(), steps=120)
    posterior = torch.distributions.Independent(torch.distributions.Normal(observed / 1.25, 0.2**0.5), 1)
    best = -posterior.log_prob(theta).mean().item()
    assert losses[0] > best + 1 > losses[-1] + 0.5
    one = torch.tensor([[1.0, -1.0, 0.5]])
    with torch.no_grad():
        samples = flow.sample(400, context=one)[0]
    torch.testing.assert_close(samples.mean(0), one[0] / 1.25, rtol=0, atol=0.3)


class Prior(nn.Module):
    """What an optimizer of deepinv asks of an explicit prior: values (B,), and their gradient, by autograd."""

    def fn(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def grad(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.requires_grad_()
            values = self.fn(x)
            return torch.autograd.grad(values, x, torch.ones_like(values), create_graph=True)[0]


class FlowPrior(Prior):
    """Minus the log-density of a flow over floats."""

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow = flow

    def fn(self, x: Tensor) -> Tensor:
        return -self.flow.log_prob(x)


def test_a_frozen_flow_is_a_prior_of_an_inverse_problem() -> None:
    """Inpainting by gradient descent on ``|mask (x - y)|^2 / 2 + weight prior(x)``: what is missing is filled in."""
    torch.manual_seed(0)
    flow = field_flow(
        (1, 8, 8),
        levels=1,
        steps=1,
        mixing=partial(WoodburyTransform, ranks=(2, 4)),
        coupling=partial(AffineCoupling, hidden_channels=8),
    )
    fields = 2 + 0.1 * torch.randn(64, 1, 8, 8)  # close to 2 everywhere
    flow.initialize(fields)
    prior, mask = FlowPrior(freeze(flow)), torch.rand(1, 1, 8, 8) < 0.5
    seen = mask * fields[:2]
    x, values = seen.clone(), []
    for _ in range(60):
        values.append(float((prior.fn(x) + 500 * (mask * (x - seen)).square().flatten(1).sum(1) / 2).sum()))
        x = (x - 2e-3 * (prior.grad(x) + 500 * mask * (x - seen))).detach()
    assert values[-1] < values[0]
    assert (x - fields[:2]).abs().mean() < 0.2 < (seen - fields[:2]).abs().mean()
