"""Frozen flows in ONNX: what onnxruntime computes is what torch computes, at any batch."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

import pytest
import torch
from parts import AFFINE, WOODBURY, build
from registry import move
from torch import Tensor, nn

from nflows_woodbury import field_flow, freeze

onnxruntime = pytest.importorskip("onnxruntime", reason="the ends of what is supported run without ONNX")


class Way(nn.Module):
    """A method of a flow as a module, so that exporters take it."""

    def __init__(self, flow: nn.Module, method: str) -> None:
        super().__init__()
        self.flow, self.method = flow, method

    def forward(self, inputs: Tensor) -> Tensor:
        return getattr(self.flow, self.method)(inputs)


def session(way: Way, example: Tensor, path: Path) -> onnxruntime.InferenceSession:
    """A file of ONNX, and what runs it."""
    batch = torch.export.Dim("batch", min=1, max=1024)
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of the exporter, about itself
        torch.onnx.export(way, (example,), path, dynamo=True, dynamic_shapes={"inputs": {0: batch}}, verbose=False)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def flow() -> nn.Module:
    torch.manual_seed(0)
    flow = field_flow((1, 8, 8), levels=2, steps=1, mixing=WOODBURY, coupling=AFFINE)
    return freeze(move(flow, 0.2))


@pytest.mark.parametrize(("method", "size"), [("log_prob", (1, 8, 8)), ("decode", (64,))])
def test_a_woodbury_flow_gives_the_same_in_onnxruntime(
    flow, method: str, size: tuple[int, ...], tmp_path: Path
) -> None:
    way = Way(flow, method)
    runs = session(way, torch.randn(3, *size), tmp_path / "flow.onnx")
    for count in (1, 7):
        inputs = torch.randn(count, *size)
        (outputs,) = runs.run(None, {runs.get_inputs()[0].name: inputs.numpy()})
        expected = way(inputs)
        assert outputs.shape == tuple(expected.shape)
        assert (torch.from_numpy(outputs) - expected).abs().max() <= 1e-5 * expected.abs().max().clamp_min(1)


def test_the_sampler_of_images_gives_the_same_pixels(tmp_path: Path) -> None:
    way = Way(freeze(build(shape=(1, 8, 8))), "transform_from_noise")
    runs = session(way, torch.randn(3, 64), tmp_path / "flow.onnx")
    noise = torch.randn(5, 64)
    (images,) = runs.run(None, {runs.get_inputs()[0].name: noise.numpy()})
    expected = way(noise)
    assert images.dtype == "uint8" and images.shape == (5, 1, 8, 8) and expected.float().std() > 1
    assert (torch.from_numpy(images) != expected).double().mean() < 0.01  # a pixel on a bin's edge may go to the next
