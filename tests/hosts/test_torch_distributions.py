"""Layers as transforms of torch.distributions: the checks that torch makes of its own, and its and zuko's flows."""

from __future__ import annotations

import copy
import pickle
import warnings
from math import prod

import pytest
import torch
import zuko
from laws import at
from registry import QUICK, Case, dense_jacobian
from torch import Tensor
from torch.distributions import Independent, Normal, TransformedDistribution, constraints
from torch.distributions.transforms import ComposeTransform, ExpTransform, IndependentTransform

from nflows_woodbury import ActNorm, AffineCoupling, Chain, LowRankLinear, Squeeze, as_torch_transform
from nflows_woodbury.transforms.torch_transform import LayerTransform

each_layer = at(QUICK)
BATCHES = [(), (2,), (2, 1, 3), (0,), (2, 0)]


def dims_of(case: Case) -> tuple[int, int]:
    layer, inputs, context = case.draw()
    return len(case.shape), layer(inputs, context)[0].dim() - 1


def transform_of(case: Case, cache_size: int = 0) -> LayerTransform:
    """The case as a transform, with one context for all inputs if it has one."""
    context = case.contexts(batch=1)
    dim = 0 if context is None else context.dim() - 1
    context = None if context is None else context[0]
    return as_torch_transform(case.build(), dims_of(case), context=context, context_dim=dim, cache_size=cache_size)


def values(batch: tuple[int, ...], event: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(*batch, *event, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# --- what torch asks of its own transforms


@each_layer
def test_any_batch_shape_is_one_batch_of_the_layer(case: Case) -> None:
    transform = transform_of(case)
    for batch in BATCHES:
        x = values(batch, case.shape)
        y = transform(x)
        rows = x.reshape(prod(batch), *case.shape)
        context = None if transform.context is None else transform.context.expand(len(rows), *transform.context.shape)
        outputs, logabsdet = transform.layer(rows, context)
        torch.testing.assert_close(y, outputs.reshape(y.shape))
        log_det = transform.log_abs_det_jacobian(x, y)
        assert log_det.shape == batch
        torch.testing.assert_close(log_det, logabsdet.reshape(batch))
        assert transform.forward_shape(x.shape) == y.shape and transform.inverse_shape(y.shape) == x.shape
        torch.testing.assert_close(transform.inv(y), x, rtol=1e-8, atol=1e-8)


@each_layer
def test_the_inverse_is_a_transform_too(case: Case) -> None:
    transform = transform_of(case)
    inverse = transform.inv
    assert inverse.inv is transform and transform.inv is inverse
    assert transform.bijective and inverse.bijective
    assert (inverse.domain.event_dim, inverse.codomain.event_dim) == dims_of(case)[::-1]
    x = values((3,), case.shape)
    y = transform(x)
    torch.testing.assert_close(inverse.log_abs_det_jacobian(y, x), -transform.log_abs_det_jacobian(x, y))
    assert transform.domain.check(x).all() and transform.codomain.check(y).shape == (3,)


@each_layer
def test_log_det_is_that_of_the_jacobian(case: Case) -> None:
    transform, x = transform_of(case), values((1,), case.shape)
    context = None if transform.context is None else transform.context[None]
    expected = torch.linalg.slogdet(dense_jacobian(transform.layer, x, context)).logabsdet
    torch.testing.assert_close(transform.log_abs_det_jacobian(x, transform(x))[0], expected, rtol=1e-8, atol=1e-8)


@each_layer
def test_cached_values_are_those_of_the_last_call(case: Case) -> None:
    plain, cached = transform_of(case), transform_of(case, cache_size=1)
    x = values((2,), case.shape)
    y = cached(x)
    assert cached(x) is y and cached.inv(y) is x
    torch.testing.assert_close(cached.log_abs_det_jacobian(x, y), plain.log_abs_det_jacobian(x, y))
    assert cached.log_abs_det_jacobian(x, y) is cached.log_abs_det_jacobian(x, y)
    z = values((2,), y.shape[1:], seed=1)
    back = cached.inv(z)
    assert cached(back) is z and cached.inv(z) is back
    torch.testing.assert_close(cached.log_abs_det_jacobian(back, z), plain.log_abs_det_jacobian(back, z))
    torch.testing.assert_close(cached.log_abs_det_jacobian(x, y), plain.log_abs_det_jacobian(x, y))  # no longer cached


@each_layer
def test_copies_are_the_same_map(case: Case) -> None:
    transform, x = transform_of(case, cache_size=1), values((2,), case.shape)
    y = transform(x.requires_grad_())  # what is cached has a graph
    for twin in (pickle.loads(pickle.dumps(transform)), copy.deepcopy(transform), transform.with_cache(0)):
        torch.testing.assert_close(twin(x), y)
        assert twin.domain.event_dim == transform.domain.event_dim


@at([case for case in QUICK if case.name in ("woodbury", "affine", "spline-bins", "squeeze", "multiscale")])
def test_traced(case: Case) -> None:
    transform, x = transform_of(case), values((2, 2), case.shape)
    transform.layer.requires_grad_(False)  # what a trace holds as a constant may have no gradient
    y = transform(x)
    calls = [
        (lambda x: transform(x), x),
        (lambda y: transform.inv(y), y),
        (lambda x: transform.log_abs_det_jacobian(x, transform(x)), x),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that shapes are looked at; and that torch.jit is deprecated
        for call, inputs in calls:
            traced = torch.jit.trace(call, (inputs,), check_trace=False)
            torch.testing.assert_close(traced(inputs), call(inputs))


def test_equality_and_with_cache() -> None:
    layer, other = LowRankLinear(4, 2), LowRankLinear(4, 2)
    transform = as_torch_transform(layer, 1)
    assert transform == as_torch_transform(layer, 1) and transform.inv == as_torch_transform(layer, (1, 1)).inv
    assert transform != as_torch_transform(other, 1) and transform != as_torch_transform(layer, 2)
    assert transform != as_torch_transform(layer, 1, context=torch.zeros(3)) and transform != ExpTransform()
    assert transform.with_cache(0) is transform and transform.with_cache().with_cache(1) != 0
    assert transform.with_cache() == transform and transform.inv.with_cache().inv.layer is layer
    assert repr(transform) == "LayerTransform(LowRankLinear)"


def test_composed_with_torch_transforms() -> None:
    """Log-dets of a composition add up; an axis more in the event sums them."""
    case = Case("low-rank-linear", (6,), ranks=(2,))
    layer, x = transform_of(case), values((5, 3), (6,))
    composed = ComposeTransform([layer, ExpTransform(), layer.inv], cache_size=1)
    y = composed(x)
    assert composed.domain.event_dim == 1 and composed.forward_shape(x.shape) == y.shape == (5, 3, 6)
    rows = y.reshape(15, 6)
    middle = layer(x)
    expected = layer.log_abs_det_jacobian(x, middle) + middle.sum(-1)
    expected = expected - layer.layer(rows)[1].view(5, 3)
    torch.testing.assert_close(composed.log_abs_det_jacobian(x, y), expected)
    wider = IndependentTransform(layer, 1)
    assert wider.domain.event_dim == 2
    torch.testing.assert_close(wider.log_abs_det_jacobian(x, layer(x)), layer.log_abs_det_jacobian(x, layer(x)).sum(1))


# --- in distributions


def normal(*size: int) -> Independent:
    return Independent(Normal(torch.zeros(size, dtype=torch.float64), torch.ones(size, dtype=torch.float64)), 1)


@pytest.mark.parametrize("cache_size", [0, 1])
def test_a_transformed_distribution_of_images(cache_size: int) -> None:
    """Of three event axes over a flat base, with a batch of its own: densities of samples, gradients, support."""
    case = Case("multiscale-squeezed", (3, 4, 4))
    transform = transform_of(case, cache_size)
    base = normal(48).expand((2,))
    flow = TransformedDistribution(base, [transform.inv], validate_args=True)
    assert (flow.batch_shape, flow.event_shape) == ((2,), (3, 4, 4))
    assert constraints.is_dependent(flow.support) is False and flow.support.event_dim == 3
    samples = flow.rsample((5,))
    assert samples.shape == (5, 2, 3, 4, 4)
    noise, logabsdet = transform.layer(samples.flatten(0, 1))
    expected = normal(48).log_prob(noise) + logabsdet
    torch.testing.assert_close(flow.log_prob(samples), expected.view(5, 2))
    assert flow.expand((7, 2)).sample().shape == (7, 2, 3, 4, 4)
    with pytest.raises(ValueError, match="support"):
        flow.log_prob(samples.log())


def test_a_density_trains_the_layer_and_samples_carry_gradients() -> None:
    layer = Case("low-rank-linear", (6,)).build()
    flow = TransformedDistribution(normal(6), [as_torch_transform(layer, 1, cache_size=1).inv])
    for loss in (lambda: -flow.log_prob(values((4,), (6,))).mean(), lambda: flow.rsample((4,)).square().mean()):
        layer.zero_grad()
        loss().backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())


def test_the_cache_spares_the_second_pass() -> None:
    calls = []
    layer = Case("low-rank-linear", (6,)).build()
    layer.register_forward_hook(lambda *_: calls.append(1))
    flow = TransformedDistribution(normal(6), [as_torch_transform(layer, 1, cache_size=1).inv])
    calls.clear()
    flow.log_prob(flow.rsample((4,)))
    assert not calls


@pytest.mark.parametrize("batch", [(), (4,), (3, 4)])
def test_a_context_meets_every_batch_that_it_broadcasts_with(batch: tuple[int, ...]) -> None:
    layer = Case("affine", (4, 4, 4), context="vector").build()
    x, context = values(batch, (4, 4, 4)), values((4,), (3,), seed=1)
    transform = as_torch_transform(layer, 3, context=context)
    y, log_det = transform.call_and_ladj(x)
    wide = torch.broadcast_shapes(batch, (4,))
    assert y.shape == (*wide, 4, 4, 4) and log_det.shape == wide
    for i in range(4):  # one by one
        for x_i, y_i in zip(
            x.expand(*wide, 4, 4, 4)[..., i, :, :, :].reshape(-1, 4, 4, 4),
            y[..., i, :, :, :].reshape(-1, 4, 4, 4),
            strict=True,
        ):
            torch.testing.assert_close(layer(x_i[None], context[i : i + 1])[0][0], y_i)
    torch.testing.assert_close(transform.inv(y), x.expand(*wide, 4, 4, 4))


def test_finding_a_shape_starts_nothing_and_leaves_modes_alone() -> None:
    from nflows.transforms import ActNorm as HostActNorm
    from nflows.transforms import BatchNorm

    layer = Chain([HostActNorm(4), BatchNorm(4)])
    layer.transforms[1].eval()
    before = copy.deepcopy(layer.state_dict())
    assert as_torch_transform(layer, 1).forward_shape((7, 4)) == (7, 4)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert layer.training and layer.transforms[0].training and not layer.transforms[1].training


# --- in zuko


class Conditional(zuko.lazy.LazyTransform):
    """A layer whose context is zuko's."""

    def __init__(self, layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, c: Tensor | None = None) -> LayerTransform:
        return as_torch_transform(self.layer, event_dim=1, context=c)


def zuko_base(features: int) -> zuko.lazy.UnconditionalDistribution:
    return zuko.lazy.UnconditionalDistribution(
        zuko.distributions.DiagNormal, torch.zeros(features), torch.ones(features), buffer=True
    )


def test_a_layer_between_transforms_of_zuko() -> None:
    torch.manual_seed(0)
    layer = LowRankLinear(5, rank=2)
    ours = zuko.lazy.UnconditionalTransform(as_torch_transform, layer, event_dim=1)
    theirs = [zuko.flows.MaskedAutoregressiveTransform(5, 3, hidden_features=(8,)) for _ in range(2)]
    flow = zuko.lazy.Flow([theirs[0], ours, theirs[1]], zuko_base(5))
    assert set(layer.parameters()) <= set(flow.parameters())
    c = torch.randn(4, 3)
    x, log_prob = flow(c).rsample_and_log_prob((6,))
    assert x.shape == (6, 4, 5)
    torch.testing.assert_close(log_prob, flow(c).log_prob(x), rtol=1e-4, atol=1e-4)
    loss = -flow(c).log_prob(x.detach()).mean()
    loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())


def test_a_conditional_layer_as_a_lazy_transform() -> None:
    torch.manual_seed(0)
    layer = Chain([Squeeze(), AffineCoupling((4, 1, 1), 8, context_features=3)])
    layer = Chain([_Image(), layer, _Flat()])
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    flow = zuko.lazy.Flow(Conditional(layer), zuko_base(4))
    c = torch.randn(7, 3)
    x, log_prob = flow(c).rsample_and_log_prob((2,))
    assert x.shape == (2, 7, 4) and flow(c).event_shape == (4,)
    torch.testing.assert_close(log_prob, flow(c).log_prob(x), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(flow(c).log_prob(x), flow(-c).log_prob(x))


class _Image(ActNorm):
    """Vectors of four as images of 2 x 2 pixels."""

    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return inputs.view(-1, 1, 2, 2), inputs.new_zeros(len(inputs))

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return inputs.flatten(1), inputs.new_zeros(len(inputs))


class _Flat(_Image):
    """Images as vectors."""

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return inputs.flatten(1), inputs.new_zeros(len(inputs))

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return inputs.view(-1, 4, 1, 1), inputs.new_zeros(len(inputs))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: as_torch_transform(torch.nn.Linear(2, 2), 1),
            TypeError,
            "layer must be an nflows Transform, got Linear",
        ),
        (lambda: as_torch_transform(Squeeze(), 0), ValueError, "event_dim must be a positive integer, got 0"),
        (
            lambda: as_torch_transform(Squeeze(), (3, 1, 1)),
            ValueError,
            r"event_dim must be a number or a pair.*\(3, 1, 1\)",
        ),
        (lambda: as_torch_transform(Squeeze(), 3, cache_size=2), ValueError, "cache_size must be 0 or 1"),
        (
            lambda: as_torch_transform(Squeeze(), 3, context=torch.zeros(3), context_dim=3),
            ValueError,
            r"context must have at least context_dim = 3 axes, got \(3,\)",
        ),
        (
            lambda: as_torch_transform(Squeeze(), 3)(torch.zeros(4, 4)),
            ValueError,
            r"at least 3 axes, got shape \(4, 4\)",
        ),
        (lambda: as_torch_transform(Squeeze(), 3).forward_shape((4,)), ValueError, r"at least 3 axes, got \(4,\)"),
    ],
)
def test_bad_arguments(call, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        call()
