"""The adapters, the named classes and the Glow block, in normflows' own models and by its own checks."""

from __future__ import annotations

import importlib
import inspect
import pickle
import subprocess
import sys
from functools import partial

import normflows as nf
import pytest
import torch
from normflows.flows import flow_test
from torch.distributions import Independent, Normal

from nflows_woodbury import (
    ActNorm,
    AffineCoupling,
    Chain,
    MEWoodburyTransform,
    Multiscale,
    SplitPrior,
    Squeeze,
    TopPrior,
    UniformDequantize,
    WoodburyTransform,
    initialize,
)
from nflows_woodbury import normflows as ours
from nflows_woodbury.normflows import NflowsAdapter, NormflowsAdapter, WoodburyGlowBlock

SHAPE = (4, 6, 6)
FLOWS = {
    "Butterfly": {},
    "CirculantDiagonal": {"num_circulants": 2},
    "EmergingConv": {},
    "ExponentialConv": {"kernel_size": 5},
    "FInCConv": {"kernel_size": 2},
    "InvertibleConv1x1": {"parametrization": "plu"},
    "LowRankLinear": {"rank": 3},
    "MEWoodbury": {"ranks": (2, 3, 3)},
    "MaCow": {"hidden_channels": 8},
    "PeriodicConv": {},
    "SplineCoupling": {"hidden_channels": 8},
    "SplitPrior": {},
    "TopPrior": {},
    "Woodbury": {"ranks": (2, 3)},
    "WoodburyGlowBlock": {"hidden_channels": 8},
}
CONDITIONAL = ("MaCow", "SplineCoupling", "SplitPrior", "TopPrior", "WoodburyGlowBlock")
SIZES = dict.fromkeys(FLOWS, SHAPE) | {"LowRankLinear": (9,)}  # of one input


def built(name: str, **more) -> torch.nn.Module:
    """A named class with its settings, off its start."""
    size = SIZES[name] if len(SIZES[name]) > 1 else SIZES[name][0]
    return moved(getattr(ours, name)(size, **FLOWS[name], **more))


@pytest.fixture
def host():
    """``normflows.flows`` as it is without :func:`register`, put back afterwards."""
    before = dict(vars(nf.flows))
    for name in FLOWS:
        vars(nf.flows).pop(name, None)
    yield nf.flows
    vars(nf.flows).clear()
    vars(nf.flows).update(before)


def moved(flow: torch.nn.Module) -> torch.nn.Module:
    """The flow off its start, so that couplings act."""
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return flow


def shift_and_scale(flow: torch.nn.Module) -> float:
    """The largest parameter of the flow's ActNorm layers: 0 before they start from data."""
    layers = [layer for layer in flow.modules() if isinstance(layer, ActNorm)]
    return max(float(p.detach().abs().max()) for layer in layers for p in layer.parameters())


def test_every_named_class_is_tried_here():
    assert set(ours.__all__) == {*FLOWS, "NflowsAdapter", "NormflowsAdapter", "register"}


@pytest.mark.parametrize(
    ("name", "context_features"), [(name, None) for name in FLOWS] + [(name, 3) for name in CONDITIONAL]
)
def test_normflows_own_checks(name: str, context_features: int | None) -> None:
    torch.manual_seed(0)
    conditional = {} if context_features is None else {"context_features": context_features}
    flow = built(name, **conditional)
    context = None if context_features is None else torch.randn(5, context_features)
    check = flow_test.FlowTest()
    check.checkForwardInverse(flow, torch.randn(5, *SIZES[name]), context, atol=1e-4, rtol=1e-4)
    assert flow(torch.randn(5, *SIZES[name]), context=context)[1].shape == (5,)


@pytest.mark.parametrize("name", FLOWS)
def test_named_classes_are_classes_like_any_other(name: str) -> None:
    flow_class = getattr(ours, name)
    assert flow_class.__name__ == name
    assert getattr(importlib.import_module(flow_class.__module__), name) is flow_class
    assert flow_class.__doc__
    assert issubclass(flow_class, nf.flows.Flow)
    expected = FLOWS[name].keys() | {"shape" if SIZES[name] == SHAPE else "features"}
    assert expected <= set(inspect.signature(flow_class).parameters)
    flow = built(name)
    z = torch.randn(2, *SIZES[name])
    assert torch.equal(pickle.loads(pickle.dumps(flow))(z)[0], flow(z)[0])


def test_register_is_idempotent_and_replaces_nothing(host) -> None:
    before = dict(vars(host))
    ours.register()
    ours.register()
    assert {name: vars(host)[name] for name in before} == before
    assert all(vars(host)[name] is getattr(ours, name) for name in FLOWS)
    assert vars(host).keys() - before.keys() == FLOWS.keys()


def test_register_refuses_a_name_that_is_taken(host) -> None:
    host.Woodbury = nf.flows.Planar
    with pytest.raises(ValueError, match=r"normflows\.flows\.Woodbury exists already"):
        ours.register()
    assert host.Woodbury is nf.flows.Planar
    assert not hasattr(host, "EmergingConv")


def test_importing_changes_nothing_in_normflows() -> None:
    code = (
        "import normflows.flows as flows; before = dict(vars(flows)); import nflows_woodbury.normflows; "
        "assert dict(vars(flows)) == before"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def glow(base, num_classes: int | None, transform=None) -> nf.MultiscaleFlow:
    """normflows' two-level Glow of 3 x 8 x 8 images, deepest level first, with our blocks."""
    torch.manual_seed(0)
    mixing = partial(MEWoodburyTransform, ranks=(2, 2, 2))
    bases, flows, merges = [], [], []
    for shape, latent in [((24, 2, 2), (24, 2, 2)), ((12, 4, 4), (6, 4, 4))]:
        blocks = [WoodburyGlowBlock(shape, hidden_channels=8, mixing=mixing) for _ in range(2)]
        flows.append([*blocks, nf.flows.Squeeze()])
        bases.append(base(latent) if num_classes is None else base(latent, num_classes))
    merges.append(nf.flows.Merge())
    return nf.MultiscaleFlow(bases, flows, merges, transform=transform, class_cond=num_classes is not None)


BASES = [
    (nf.distributions.GlowBase, None),
    (nf.distributions.GlowBase, 3),
    (partial(nf.distributions.DiagGaussian, trainable=True), None),
    (nf.distributions.ClassCondDiagGaussian, 3),
]


@pytest.mark.parametrize(("base", "num_classes"), BASES)
def test_blocks_train_and_sample_in_a_multiscale_flow(base, num_classes: int | None) -> None:
    model = glow(base, num_classes)
    images = 3 + 2 * torch.randn(16, 3, 8, 8)
    labels = None if num_classes is None else torch.randint(num_classes, (16,))
    assert shift_and_scale(model) == 0
    initialize(model, images, labels)
    assert shift_and_scale(model) > 0.1
    latents, log_det = model.inverse_and_log_det(images)
    back, back_log_det = model.forward_and_log_det(latents)
    torch.testing.assert_close(back, images, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(back_log_det, -log_det, atol=1e-3, rtol=1e-4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(3):
        loss = model.forward_kld(images, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[0]
    with torch.no_grad():
        samples, log_prob = model.sample(5, None if labels is None else labels[:5])
        expected = model.log_prob(samples, None if labels is None else labels[:5])
    assert samples.shape == (5, 3, 8, 8)
    torch.testing.assert_close(log_prob, expected, atol=1e-2, rtol=1e-4)


def test_a_multiscale_flow_over_uint8_images() -> None:
    model = glow(nf.distributions.GlowBase, None, transform=NormflowsAdapter(UniformDequantize()))
    images = torch.randint(256, (8, 3, 8, 8), dtype=torch.uint8)
    initialize(model, images)
    assert model(images).shape == (8,)
    samples, _ = model.sample(4, temperature=0.7)
    assert samples.dtype == torch.uint8
    assert samples.shape == (4, 3, 8, 8)


def test_initialize_normalizes_what_each_block_gets() -> None:
    block = WoodburyGlowBlock((4, 6, 6), hidden_channels=8)
    model = nf.NormalizingFlow(nf.distributions.DiagGaussian((4, 6, 6)), [block])
    images = 3 + 2 * torch.randn(64, 4, 6, 6)
    initialize(nf.MultiscaleFlow([model.q0], [[block]], [], class_cond=False), images)
    std, mean = torch.std_mean(block.transform[0](images)[0], (0, 2, 3), correction=0)
    torch.testing.assert_close(mean, torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(std, torch.ones(4), atol=1e-5, rtol=0)


def test_context_of_a_conditional_normalizing_flow_arrives() -> None:
    torch.manual_seed(0)
    flow = moved(WoodburyGlowBlock(SHAPE, 8, context_features=3))
    base = nf.distributions.base.ConditionalDiagGaussian(SHAPE, lambda context: torch.zeros(4, *SHAPE[:-1], 12))
    model = nf.ConditionalNormalizingFlow(base, [flow])
    images, context = torch.randn(4, *SHAPE), torch.randn(4, 3)
    assert not torch.allclose(model.log_prob(images, context), model.log_prob(images, -context))
    samples, log_prob = model.sample(4, context)
    torch.testing.assert_close(log_prob, model.log_prob(samples, context), atol=1e-3, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:torch.lu is deprecated:UserWarning")
def test_adapters_swap_the_directions_and_leave_values_and_log_dets() -> None:
    torch.manual_seed(0)
    transform, flow = moved(AffineCoupling(SHAPE, 8)), moved(nf.flows.GlowBlock(4, 8, use_lu=False))
    inputs = torch.randn(2, *SHAPE)
    for actual, expected in [
        (NormflowsAdapter(transform).inverse(inputs), transform(inputs)),
        (NormflowsAdapter(transform)(inputs), transform.inverse(inputs)),
        (NflowsAdapter(flow)(inputs), flow.inverse(inputs)),
        (NflowsAdapter(flow).inverse(inputs), flow(inputs)),
    ]:
        assert expected[1].any()
        torch.testing.assert_close(actual, expected, atol=0, rtol=0)


def test_both_adapters_undo_each_other() -> None:
    torch.manual_seed(0)
    transform = moved(Chain([Squeeze(), ActNorm(16), AffineCoupling((16, 3, 3), 8, context_features=3)]))
    there_and_back = NflowsAdapter(NormflowsAdapter(transform))
    inputs, context = torch.randn(2, *SHAPE), torch.randn(2, 3)
    for actual, expected in [
        (there_and_back(inputs, context), transform(inputs, context)),
        (there_and_back.inverse(transform(inputs, context)[0], context), (inputs, -transform(inputs, context)[1])),
    ]:
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


NORMFLOWS = {
    "an int": (lambda: nf.flows.Squeeze(), (2, 4, 4)),
    "a scalar": (lambda: nf.flows.AffineConstFlow((2,)), (2,)),
    "a scalar per pixel": (lambda: nf.flows.Invertible1x1Conv(2), (2, 4, 4)),
    "a vector": (lambda: nf.flows.GlowBlock(2, 4, use_lu=False), (2, 4, 4)),
    "with context": (lambda: nf.flows.CoupledRationalQuadraticSpline(4, 1, 8, num_context_channels=3), (4,)),
    "with labels": (lambda: nf.flows.CCAffineConst((2,), 3), (2,)),
}


@pytest.mark.parametrize("log_det", NORMFLOWS)
@pytest.mark.filterwarnings("ignore:torch.lu is deprecated:UserWarning")
def test_normflows_flows_as_transforms(log_det: str) -> None:
    torch.manual_seed(0)
    make, shape = NORMFLOWS[log_det]
    transform = NflowsAdapter(moved(make())).double()
    inputs = torch.randn(5, *shape, dtype=torch.float64)
    context = torch.randn(5, 3, dtype=torch.float64)  # flows that take no context do without
    outputs, logabsdet = transform(inputs, context)
    assert logabsdet.shape == (5,)
    assert logabsdet.dtype == torch.float64
    assert log_det.startswith("with") != torch.equal(transform(inputs, -context)[0], outputs)
    back, back_logabsdet = transform.inverse(outputs, context)
    torch.testing.assert_close(back, inputs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(back_logabsdet, -logabsdet, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("adapter", "part", "match"),
    [
        (NormflowsAdapter, nf.flows.Squeeze(), "transform must be an nflows Transform, got Squeeze"),
        (NflowsAdapter, Squeeze(), "flow must be a normflows Flow, got Squeeze"),
    ],
)
def test_adapters_refuse_the_other_kind(adapter, part, match: str) -> None:
    with pytest.raises(TypeError, match=match):
        adapter(part)


# what a script of normflows writes, beside channels and hidden channels
ACCEPTED = [
    {},
    {"split_mode": "channel", "scale": True, "scale_map": "exp", "leaky": 0.0, "init_zeros": True},
    {"split_mode": "channel_inv", "net_actnorm": False},
    {"scale": False},
]


@pytest.mark.parametrize("keywords", ACCEPTED, ids=str)
@pytest.mark.filterwarnings("ignore:torch.lu is deprecated:UserWarning")
def test_keywords_of_glow_block_mean_what_they_mean_there(keywords) -> None:
    """The half that conditions comes through unchanged, and without a scale the coupling keeps volumes."""
    torch.manual_seed(0)
    shape = (5, 4, 4)
    coupling = Chain(list(moved(WoodburyGlowBlock(shape, 8, **keywords)).transform)[2:])
    theirs = moved(nf.flows.GlowBlock(5, 8, use_lu=False, **keywords)).flows[0]
    inputs = torch.randn(2, *shape)
    (outputs, logabsdet), (reference, of_reference) = coupling(inputs), theirs.inverse(inputs)
    kept, of_theirs = ((values == inputs).all((0, 2, 3)).tolist() for values in (outputs, reference))
    assert 0 < sum(kept) < 5
    if keywords.get("split_mode") == "channel_inv":  # of an odd number our larger half conditions in either mode
        assert kept == [False, False, True, True, True] and of_theirs == [False, False, False, True, True]
    else:
        assert kept == of_theirs
    assert bool(logabsdet.any()) == bool(torch.as_tensor(of_reference).any()) == keywords.get("scale", True)


@pytest.mark.parametrize(
    ("keywords", "match"),
    [
        ({"split_mode": "checkerboard"}, "split_mode must be one of channel, channel_inv, got 'checkerboard'; .*MaCow"),
        ({"scale_map": "sigmoid"}, "scale_map must be 'exp', got 'sigmoid'; .*leave it out"),
        ({"use_lu": True}, "use_lu must be None, got True; .*mixing=partial"),
        ({"use_lu": False}, "use_lu must be None, got False; .*mixing=partial"),
        ({"leaky": 0.1}, "leaky must be 0, got 0.1; .*coupling="),
        ({"init_zeros": False}, "init_zeros must be True, got False; .*leave it out"),
        ({"net_actnorm": True}, "net_actnorm must be False, got True; .*coupling="),
        ({"scale": False, "coupling": AffineCoupling}, "scale must be True with a coupling of your own, got False"),
    ],
    ids=str,
)
def test_keywords_of_glow_block_that_the_block_lacks_name_their_replacement(keywords, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        WoodburyGlowBlock(SHAPE, 8, **keywords)


def test_every_keyword_of_glow_block_is_known() -> None:
    theirs = inspect.signature(nf.flows.GlowBlock).parameters.keys() - {"channels"}
    assert theirs <= inspect.signature(WoodburyGlowBlock).parameters.keys()


def with_learned_priors() -> tuple[nf.MultiscaleFlow, Multiscale]:
    """The same layers in normflows' model of two levels with a standard normal base, and in ours."""
    torch.manual_seed(0)
    shapes = [(12, 4, 4), (24, 2, 2)]
    levels = [
        moved(Chain([Squeeze(), WoodburyTransform(shape, ranks=(3, 4)), prior(shape)]))
        for shape, prior in zip(shapes, (SplitPrior, TopPrior), strict=True)
    ]
    fine, deep = ([NormflowsAdapter(part) for part in reversed(list(level))] for level in levels)
    bases = [nf.distributions.DiagGaussian(shape, trainable=False) for shape in [(24, 2, 2), (6, 4, 4)]]
    theirs = nf.MultiscaleFlow(bases, [deep, fine], [nf.flows.Merge()], class_cond=False)
    return theirs, Multiscale(levels, shapes)


def test_a_learned_split_prior_in_a_multiscale_flow_has_the_density_of_a_conditional_gaussian() -> None:
    """``log p(z2 | z1) = log N(z2; mean(z1), scale(z1))`` at each split, as our own assembly has it."""
    theirs, ours = with_learned_priors()
    images = torch.randn(5, 3, 8, 8)
    noise, logabsdet = ours(images)
    expected = Independent(Normal(torch.zeros(192), 1.0), 1).log_prob(noise) + logabsdet
    torch.testing.assert_close(theirs.log_prob(images, None), expected, rtol=1e-5, atol=1e-3)
    fine, prior = Chain(list(ours.levels[0])[:-1]), ours.levels[0][-1]
    given, values = fine(images)[0].chunk(2, 1)
    mean, log_scale = prior.conv(given).chunk(2, 1)
    assert mean.std() > 0.01
    by_hand = Independent(Normal(mean, log_scale.exp()), 3).log_prob(values)
    after, change = prior(torch.cat([given, values], 1))
    standard = Independent(Normal(torch.zeros_like(mean), 1.0), 3).log_prob(after[:, 6:])
    torch.testing.assert_close(standard + change, by_hand, rtol=1e-5, atol=1e-3)


def test_samples_of_learned_split_priors_follow_temperature() -> None:
    theirs, _ = with_learned_priors()
    samples, log_prob = theirs.sample(4)
    torch.testing.assert_close(log_prob, theirs.log_prob(samples, None), rtol=1e-4, atol=1e-2)
    coldest = theirs.sample(2, temperature=1e-6)[0]  # every draw is the mean given the mean
    torch.testing.assert_close(coldest[0], coldest[1], rtol=0, atol=1e-3)
    assert coldest.abs().max() > 0.01


def test_the_block_says_that_it_needs_a_shape() -> None:
    with pytest.raises(TypeError, match=r"shape must be a sequence \(channels, height, width\), got 12"):
        WoodburyGlowBlock(12, 8)
