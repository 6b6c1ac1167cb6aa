"""NaN is no picture: sampling and decoding count the images that are not finite, in our flows and in the hosts'."""

from __future__ import annotations

from collections.abc import Callable

import normflows as nf
import pytest
import torch
from nflows.distributions import StandardNormal
from nflows.flows.base import Flow
from nflows.transforms import CompositeTransform, InverseTransform
from parts import SHAPE, build, random_images
from torch import Tensor

from nflows_woodbury import ActNorm, AdditiveCoupling, Chain, ImageFlow, Squeeze, UniformDequantize
from nflows_woodbury.config import COUPLINGS, DEQUANTIZERS
from nflows_woodbury.evaluation.samples import interpolations, reconstructions
from nflows_woodbury.normflows import NormflowsAdapter

BAD = [float("nan"), float("inf"), -float("inf")]


def broken(dequantizer: str = "uniform", value: float = BAD[0]) -> ImageFlow:
    """A flow whose last step of sampling makes every image not finite, and leaves log-dets alone."""
    flow = build(dequantize=DEQUANTIZERS[dequantizer](SHAPE, 8))
    with torch.no_grad():
        flow._transform[1].levels[0][1][0].bias[3] = value
    return flow


CALLS: dict[str, Callable[[ImageFlow], object]] = {
    "sample": lambda flow: flow.sample(5),
    "sample, cold": lambda flow: flow.sample(5, temperature=0.0),
    "sample in one batch": lambda flow: flow.sample(5, batch_size=5),
    "sample_and_log_prob": lambda flow: flow.sample_and_log_prob(5),
    "transform_from_noise": lambda flow: flow.transform_from_noise(torch.zeros(5, 192)),
}


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("dequantizer", DEQUANTIZERS)
@pytest.mark.parametrize("name", CALLS)
def test_every_way_to_images_counts_those_that_are_not_finite(name: str, dequantizer: str, value: float) -> None:
    with pytest.raises(FloatingPointError, match=r"^5 of 5 images are not finite: .* temperature .* diagnose"):
        CALLS[name](broken(dequantizer, value))


def test_pictures_of_a_trained_flow_count_them_too() -> None:
    flow, images = broken(), random_images(2)
    for call in (lambda: reconstructions(flow, images), lambda: interpolations(flow, images, images, 3)):
        with pytest.raises(FloatingPointError, match="images are not finite"):
            call()


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_only_those_that_are_not_finite_count(coupling: str, value: float) -> None:
    flow = build(coupling=lambda shape: COUPLINGS[coupling](shape, 8))
    noise = torch.randn(6, 192, generator=torch.Generator().manual_seed(0))
    flow.transform_from_noise(noise)
    noise[[1, 4], 17] = value
    with pytest.raises(FloatingPointError, match=r"^2 of 6 images are not finite"):
        flow.transform_from_noise(noise)


class Unchecked(UniformDequantize):
    """As on a device, where the dequantizer does not look at values."""

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        images, _ = super().inverse(inputs.nan_to_num())
        return images, torch.where(inputs.flatten(1).isfinite().all(1), -self._logabsdet(inputs), float("nan"))


def test_where_the_dequantizer_does_not_look_there_is_one_check_a_call() -> None:
    flow = build(dequantize=Unchecked())
    with torch.no_grad():
        flow._transform[1].levels[0][1][0].bias[3] = torch.nan
    with pytest.raises(FloatingPointError, match=r"^6 of 6 images"):
        flow.sample(6, batch_size=2)
    for name, call in CALLS.items():
        with pytest.raises(FloatingPointError, match=r"^5 of 5 images"):
            call(flow), name


@pytest.mark.cuda
@pytest.mark.parametrize("name", CALLS)
def test_a_gpu_is_asked_once_a_call(name: str) -> None:
    flow = broken().cuda()
    flow.transform_from_noise = lambda noise, call=flow.transform_from_noise: call(noise.cuda())
    with pytest.raises(FloatingPointError, match=r"^5 of 5 images are not finite"):
        CALLS[name](flow)


def layers() -> list:
    shift = ActNorm(3)
    torch.nn.init.constant_(shift.bias, torch.nan)
    return [UniformDequantize(), shift, Squeeze(), AdditiveCoupling((12, 4, 4), 8)]


HOSTS: dict[str, Callable[[], Tensor]] = {
    "nflows Flow": lambda: Flow(Chain(layers()), StandardNormal((12, 4, 4))).sample(4),
    "nflows InverseTransform": lambda: InverseTransform(Chain(layers()))(torch.zeros(4, 12, 4, 4)),
    "normflows NormalizingFlow": lambda: nf.NormalizingFlow(
        nf.distributions.DiagGaussian((12, 4, 4)), [NormflowsAdapter(layer) for layer in reversed(layers())]
    ).sample(4),
    "normflows MultiscaleFlow": lambda: nf.MultiscaleFlow(
        [nf.distributions.DiagGaussian((12, 4, 4))], [[NormflowsAdapter(CompositeTransform(layers()[2:]))]], [],
        transform=NormflowsAdapter(Chain(layers()[:2])), class_cond=False,
    ).sample(4),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTS)
def test_models_of_the_hosts_count_them_too(name: str) -> None:
    with pytest.raises(FloatingPointError, match=r"^4 of 4 images are not finite"):
        HOSTS[name]()


def test_compiled_and_vmapped_code_is_not_stopped_and_has_the_log_det_nan() -> None:
    values = torch.zeros(3, 3, 8, 8)
    values[1, 0, 0, 0] = torch.nan
    inverse = UniformDequantize().inverse
    for apply in (torch.compile(inverse, fullgraph=True, backend="eager"), torch.vmap(lambda x: inverse(x[None]))):
        _, logabsdet = apply(values)
        assert logabsdet.flatten().isnan().tolist() == [False, True, False]
    flow = broken()
    sample = torch.compile(flow.sample, fullgraph=True, backend="eager")
    assert sample(2).dtype == torch.uint8
