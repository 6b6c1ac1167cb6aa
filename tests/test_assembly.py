"""Every mixing with every coupling and base, ours and nflows', from uint8 to noise and back; and ours inside nflows."""

from __future__ import annotations

from math import log

import pytest
import torch
from nflows import distributions, transforms
from nflows.flows.base import Flow
from parts import (
    BASES,
    GRID_COUPLINGS,
    GRID_MIXINGS,
    GRID_SHAPE,
    NFLOWS_MIXINGS,
    build,
    random_images,
)
from torch import Tensor

from nflows_woodbury import (
    ActNorm,
    AffineCoupling,
    Chain,
    InvertibleConv1x1,
    MEWoodburyTransform,
    WoodburyTransform,
)
from nflows_woodbury.config import COUPLINGS, MIXINGS, FlowConfig

# nflows 0.14 calls functions that torch deprecates; its own layers are used here as they are.
pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.triangular_solve is deprecated:UserWarning"),
    pytest.mark.filterwarnings("ignore:torch.lu is deprecated:UserWarning"),
]


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
