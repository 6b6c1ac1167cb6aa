"""Starting from data: every model class of both hosts, from the same data, ends with the same density."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import normflows as nf
import pytest
import torch
from nflows import distributions, transforms
from nflows.flows.base import Flow
from torch import Tensor, nn

from nflows_woodbury import ActNorm, AffineCoupling, Chain, ImageFlow, Reversible, UniformDequantize, initialize
from nflows_woodbury.normflows import NflowsAdapter, NormflowsAdapter

SHAPE = (2, 4, 3)
DATA = 100 + 30 * torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(0)).double()
LABELS = torch.arange(64) % 3
CONTEXT = nn.functional.one_hot(LABELS, 3).double()


def layers() -> list[transforms.Transform]:
    """Data to noise; the coupling starts as the identity, and needs its context."""
    return [ActNorm(2), AffineCoupling(SHAPE, 4, context_features=3)]


def plain() -> list[transforms.Transform]:
    return [ActNorm(2), AffineCoupling(SHAPE, 4)]


def flows(make: Callable[[], list[transforms.Transform]]) -> list[nf.flows.Flow]:
    """The same, as normflows lists them: noise to data."""
    return [NormflowsAdapter(layer) for layer in reversed(make())]


def normal() -> distributions.StandardNormal:
    return distributions.StandardNormal(SHAPE)


class ConditionalNormal(nf.distributions.BaseDistribution):
    """Standard normal; normflows' conditional models hand their bases the context."""

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return torch.distributions.Normal(0.0, 1.0).log_prob(z).flatten(1).sum(1)


def class_gaussian() -> nf.distributions.BaseDistribution:
    return nf.distributions.ClassCondDiagGaussian(SHAPE, 3)


def gaussian() -> nf.distributions.BaseDistribution:
    return nf.distributions.DiagGaussian(SHAPE, trainable=False)


#: model -> how to make it, and what goes with the data
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...]]] = {
    "nflows Flow": (lambda: Flow(Chain(plain()), normal()), ()),
    "nflows Flow with context": (lambda: Flow(Chain(layers()), normal()), (CONTEXT,)),
    "nflows Flow with an embedding": (
        lambda: Flow(Chain(layers()), normal(), nn.Embedding.from_pretrained(torch.eye(3).double())),
        (LABELS,),
    ),
    "nflows Flow of a Flow": (lambda: Flow(Chain(), Flow(Chain(plain()), normal())), ()),
    "nflows Flow, CompositeTransform": (lambda: Flow(transforms.CompositeTransform(plain()), normal()), ()),
    "nflows Flow, InverseTransform": (
        lambda: Flow(transforms.InverseTransform(Chain(reversed(plain()))), normal()), ()
    ),
    "nflows Flow, normflows' own adapter": (
        lambda: Flow(NflowsAdapter(nf.flows.Composite(flows(plain))), normal()), ()
    ),
    "reversible": (lambda: Flow(Reversible(plain()), normal()), ()),
    "NormalizingFlow": (lambda: nf.NormalizingFlow(gaussian(), flows(plain)), ()),
    "NormalizingFlow, wrapped": (lambda: nn.DataParallel(nf.NormalizingFlow(gaussian(), flows(plain))), ()),
    "NormalizingFlow, compiled": (
        lambda: torch.compile(nf.NormalizingFlow(gaussian(), flows(plain)), backend="eager"), ()
    ),
    "NormalizingFlow, Composite": (
        lambda: nf.NormalizingFlow(gaussian(), [nf.flows.Composite(flows(plain))]), ()
    ),
    "NormalizingFlow, Reverse": (
        lambda: nf.NormalizingFlow(gaussian(), [nf.flows.Reverse(NormflowsAdapter(Chain(reversed(plain()))))]), ()
    ),
    "ConditionalNormalizingFlow": (
        lambda: nf.ConditionalNormalizingFlow(ConditionalNormal(), flows(layers)), (CONTEXT,)
    ),
    "ClassCondFlow": (lambda: nf.ClassCondFlow(class_gaussian(), flows(plain)), (LABELS,)),
    "MultiscaleFlow": (lambda: nf.MultiscaleFlow([gaussian()], [flows(plain)], [], class_cond=False), ()),
    "MultiscaleFlow with labels": (lambda: nf.MultiscaleFlow([class_gaussian()], [flows(plain)], []), (LABELS,)),
}  # fmt: skip

#: transforms and flows without a base: what takes data to noise when it is called, and what does so by its inverse
MAPS: dict[str, Callable[[], nn.Module]] = {
    "ActNorm": lambda: ActNorm(2),
    "Chain": lambda: Chain(plain()),
    "InverseTransform": lambda: transforms.InverseTransform(Chain(reversed(plain()))),
    "InverseTransform twice": lambda: transforms.InverseTransform(transforms.InverseTransform(Chain(plain()))),
    "CompositeTransform": lambda: transforms.CompositeTransform(plain()),
    "NflowsAdapter": lambda: NflowsAdapter(NormflowsAdapter(Chain(plain()))),
    "NormflowsAdapter": lambda: NormflowsAdapter(Chain(plain())),
    "normflows Composite": lambda: nf.flows.Composite(flows(plain)),
}


def standardized() -> tuple[Tensor, Tensor]:
    """The data with mean 0 and standard deviation 1 in each channel, and the log-det of that map."""
    std, mean = torch.std_mean(DATA, (0, 2, 3), correction=0, keepdim=True)
    return (DATA - mean) / std, -12 * std.log().sum()


@pytest.mark.parametrize("name", MODELS)
def test_every_model_starts_at_the_density_of_standardized_data(name: str) -> None:
    make, context = MODELS[name]
    torch.manual_seed(0)
    model = make().double()
    initialize(model, DATA, *context)
    noise, logabsdet = standardized()
    if "class" in name.lower() or "labels" in name:
        base = model.q0 if isinstance(model.q0, nf.distributions.BaseDistribution) else model.q0[0]
        expected = base.log_prob(noise, LABELS)
    else:
        expected = torch.distributions.Normal(0.0, 1.0).log_prob(noise).flatten(1).sum(1)
    model = model.module if isinstance(model, nn.DataParallel) else model
    arguments = (DATA, None) if isinstance(model, nf.MultiscaleFlow) and not context else (DATA, *context)
    torch.testing.assert_close(model.log_prob(*arguments), expected + logabsdet)
    layers = [layer for layer in model.modules() if isinstance(layer, ActNorm)]
    assert layers and not any({"forward", "inverse"} & vars(layer).keys() for layer in layers)


@pytest.mark.parametrize("name", MAPS)
def test_every_map_starts_as_the_one_that_standardizes(name: str) -> None:
    module = MAPS[name]().double()
    initialize(module, DATA)
    outputs = (module.inverse if isinstance(module, nf.flows.Flow) else module)(DATA)
    noise, logabsdet = standardized()
    torch.testing.assert_close(outputs[0], noise)
    torch.testing.assert_close(
        outputs[1].double(), logabsdet.expand(64), rtol=1e-6, atol=0
    )  # normflows sums in float32


def test_an_autoencoder_starts_on_the_codes_that_go_through_its_flows() -> None:
    class Copy(nf.distributions.BaseEncoder):
        def forward(self, x: Tensor, num_samples: int = 1) -> tuple[Tensor, Tensor]:
            return x[:, None], torch.zeros(len(x), 1, dtype=x.dtype)

    model = nf.NormalizingFlowVAE(gaussian(), Copy(), [NormflowsAdapter(ActNorm(2))]).double()
    initialize(model, DATA)
    codes, *_ = model(DATA)
    torch.testing.assert_close(codes[:, 0], standardized()[0])


@pytest.mark.parametrize("reversible", [False, True])
def test_an_image_flow_starts_all_its_parts_with_its_base(reversible: bool) -> None:
    kind = Reversible if reversible else Chain
    layer = ActNorm(2)
    base = Flow(Chain([transforms.PointwiseAffineTransform(scale=3.0), layer]), normal())
    flow = ImageFlow(Chain([UniformDequantize(), kind([ActNorm(2)])]), base, shape=SHAPE)
    images = torch.randint(256, (64, *SHAPE), dtype=torch.uint8)
    flow.initialize(images)
    outputs = flow.transform_to_noise(images)
    std, mean = torch.std_mean(outputs, (0, 2, 3))
    torch.testing.assert_close(std, torch.ones(2), atol=1e-2, rtol=0)
    torch.testing.assert_close(mean, torch.zeros(2), atol=1e-2, rtol=0)
    torch.testing.assert_close(layer.log_scale.exp(), torch.full((2,), 1 / 3), atol=1e-2, rtol=0)


def test_a_layer_that_comes_twice_starts_where_data_reach_it_first() -> None:
    layer = ActNorm(2).double()
    initialize(Chain([layer, layer]), DATA)
    torch.testing.assert_close(layer(DATA)[0], standardized()[0])


def test_layers_that_data_never_reach_are_named() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = ActNorm(2), nn.ModuleList([ActNorm(2)])

        def forward(self, inputs: Tensor) -> Tensor:
            return self.used(inputs)[0]

    model = Half().double()
    with pytest.raises(ValueError, match=r"Half did not reach unused\.0 \(ActNorm\)$"):
        initialize(model, DATA)
    torch.testing.assert_close(model(DATA), standardized()[0])


def test_a_layer_of_ones_own_starts_and_one_that_cannot_says_so() -> None:
    from nflows_woodbury.transforms.initialization import DataInitialized

    class Center(DataInitialized):
        def __init__(self) -> None:
            super().__init__()
            self.mean = nn.Parameter(torch.zeros((), dtype=torch.float64))

        def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return inputs - self.mean, torch.zeros(inputs.shape[0])

        def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return inputs + self.mean, torch.zeros(inputs.shape[0])

        def initialize(self, inputs: Tensor) -> None:
            self.mean.copy_(inputs.mean())

    layer = Center()
    initialize(nf.NormalizingFlow(gaussian(), [NormflowsAdapter(layer)]).double(), DATA)
    assert layer.mean.item() == pytest.approx(DATA.mean().item())
    with pytest.raises(TypeError, match="Center starts from what its forward gets, but data reach it by its inverse"):
        initialize(transforms.InverseTransform(Center()), DATA)


def test_methods_and_hooks_of_the_layers_are_left_as_they_were() -> None:
    layer = ActNorm(2).double()
    own = partial(ActNorm.forward, layer)
    layer.forward = own
    with pytest.raises(ValueError, match="inputs must have shape"):
        initialize(Chain([layer]), DATA[:, :1])
    assert layer.forward is own and "inverse" not in vars(layer)
