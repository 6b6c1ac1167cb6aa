"""Flows on the meta device, emptied and loaded: the density is the one that was saved, or the flow refuses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from nflows import distributions
from nflows.flows.base import Flow
from parts import AFFINE, BASES, GRID_COUPLINGS, GRID_MIXINGS, GRID_SHAPE, SHAPE, WOODBURY, build, random_images
from torch import Tensor

from nflows_woodbury import ActNorm, Chain, ImageFlow, image_flow
from nflows_woodbury.checkpoint import load_flow
from nflows_woodbury.config import DEQUANTIZERS

# nflows 0.14 calls functions that torch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:torch.(lu|triangular_solve) is deprecated:UserWarning")

PARTS = {
    **{f"{name} mixing": {"mixing": part} for name, part in GRID_MIXINGS.items()},
    **{f"{name} coupling": {"coupling": part} for name, part in GRID_COUPLINGS.items()},
    **{f"{name} base": {"base": base} for name, base in BASES.items()},
    **{f"{name} dequantization": {"dequantize": name} for name in DEQUANTIZERS},
    "base of a flow": {"base": lambda d: Flow(Chain(), distributions.StandardNormal((d,)))},
    "reversible": {"reversible": True},
}


def made(name: str) -> dict[str, object]:
    """The parts of a flow, those that are modules made anew on the default device."""
    parts = dict(PARTS[name])
    if "dequantize" in parts:
        parts["dequantize"] = DEQUANTIZERS[parts["dequantize"]](GRID_SHAPE, 8)
    return parts


#: what nflows cannot build there, as it looks at values
MOVED = ("nflows-affine coupling", "nflows-spline coupling", "made-mog base")


def on_meta(name: str) -> ImageFlow:
    with torch.device("cpu" if name in MOVED else "meta"):
        flow = image_flow(GRID_SHAPE, **{"levels": 2, "steps": 1, "mixing": WOODBURY, "coupling": AFFINE, **made(name)})
    return flow.to("meta")


def emptied(flow: ImageFlow, state: dict[str, Tensor]) -> None:
    flow.to_empty(device="cpu")
    with torch.no_grad():
        for buffer in flow.buffers():
            buffer.zero_()  # what memory holds that nobody has written to
    flow.load_state_dict(state)


def assigned(flow: ImageFlow, state: dict[str, Tensor]) -> None:
    flow.load_state_dict(state, assign=True)


@pytest.mark.parametrize("load", [emptied, assigned])
@pytest.mark.parametrize("name", PARTS)
def test_a_flow_from_the_meta_device_has_the_density_that_was_saved(
    name: str, load: Callable[[ImageFlow, dict[str, Tensor]], None]
) -> None:
    saved, loaded, images = build(shape=GRID_SHAPE, **made(name)), on_meta(name), random_images(3, GRID_SHAPE)
    load(loaded, saved.state_dict())
    loaded.eval().to("cpu")
    for dtype in (torch.float32, torch.float64):
        results = []
        for flow in (saved.to(dtype), loaded.to(dtype)):
            torch.manual_seed(0)
            bits, noise = flow(images), flow.transform_to_noise(images)
            results.append([bits, noise, flow.transform_from_noise(noise)])
        torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


def test_samples_of_a_loaded_flow_are_those_of_the_saved_one() -> None:
    saved, loaded = build(shape=GRID_SHAPE), on_meta("reversible")
    assigned(loaded, saved.state_dict())
    results = []
    for flow in (saved, loaded):
        torch.manual_seed(0)
        results.append(flow.sample_and_log_prob(3))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_run_is_loaded_on_the_cpu_whatever_the_default_device(whole, device: str) -> None:
    expected, _ = load_flow(whole)
    with torch.device(device):
        flow, _ = load_flow(whole)
    assert {tensor.device.type for tensor in (*flow.parameters(), *flow.buffers())} == {"cpu"}
    images = random_images(2, flow.shape)
    torch.manual_seed(0)
    bits = flow(images)
    torch.manual_seed(0)
    assert torch.equal(bits, expected(images))


class Table(ActNorm):
    """A layer with a constant that no state dict holds."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("table", torch.ones(channels), persistent=False)


def test_constants_that_loading_cannot_know_are_refused_by_name() -> None:
    make = partial(image_flow, SHAPE, levels=1, steps=1, mixing=lambda shape: Table(shape[0]), coupling=AFFINE)
    message = r"no state dict gives back the buffers _transform\.transforms\.1\.levels\.0\..*\.table; build the flow on"
    with torch.device("meta"), pytest.raises(RuntimeError, match=message):
        make()
    with pytest.raises(RuntimeError, match=message):
        make().to_empty(device="cpu")
