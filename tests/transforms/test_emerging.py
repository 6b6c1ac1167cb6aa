"""Emerging convolutions against dense float64 matrices: value, log-det, inverse, gradients and receptive field."""

from __future__ import annotations

from math import prod

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional as F

from nflows_woodbury.transforms.conv1x1 import InvertibleConv1x1
from nflows_woodbury.transforms.emerging import CORNERS, AutoregressiveConvolution, EmergingConvolution

Shape = tuple[int, int, int]
SHAPES = [(3, 4, 5), (1, 5, 3), (2, 1, 6), (4, 3, 3)]


def off_its_start(layer: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in layer.double().parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return layer


def dense(layer: torch.nn.Module, shape: Shape) -> Tensor:
    """The matrix of a linear layer, column by column from the unit vectors."""
    units = torch.eye(prod(shape), dtype=torch.float64).view(-1, *shape)
    return layer(units)[0].detach().flatten(1).mT


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("kernel_size", [1, 2, 3])
def test_autoregressive_convolution_is_a_masked_convolution(shape: Shape, corner: str, kernel_size: int) -> None:
    torch.manual_seed(0)
    layer = off_its_start(AutoregressiveConvolution(shape, kernel_size, corner))
    taps = layer.weight.detach().clone()
    own = taps[:, :, -1, -1]
    triangle = own.tril(-1) if corner.startswith("upper") else own.triu(1)
    taps[:, :, -1, -1] = triangle + layer.log_scale.detach().tanh().exp().diag()
    window = torch.zeros(shape[0], shape[0], 2 * kernel_size - 1, 2 * kernel_size - 1, dtype=torch.float64)
    window[:, :, :kernel_size, :kernel_size] = taps  # the full window, of which only one quadrant is not zero
    axes = [axis for axis, side in [(2, "upper"), (3, "left")] if side not in corner]
    inputs = torch.randn(4, *shape, dtype=torch.float64)
    expected = F.conv2d(inputs, window.flip(axes), padding=kernel_size - 1)
    torch.testing.assert_close(layer(inputs)[0], expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_logabsdet_and_inverse_are_those_of_the_dense_matrix(shape: Shape, kernel_size: int) -> None:
    torch.manual_seed(0)
    layer = off_its_start(EmergingConvolution(shape, kernel_size))
    matrix, inputs = dense(layer, shape), torch.randn(3, *shape, dtype=torch.float64)
    outputs, logabsdet = layer(inputs)
    torch.testing.assert_close(logabsdet, torch.linalg.slogdet(matrix).logabsdet.expand(3), atol=1e-10, rtol=1e-10)
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x)[0], inputs[:1]).view(matrix.shape)
    torch.testing.assert_close(jacobian, matrix)
    back, inverse_logabsdet = layer.inverse(inputs)
    torch.testing.assert_close(back.flatten(1), torch.linalg.solve(matrix, inputs.flatten(1).mT).mT)
    torch.testing.assert_close(inverse_logabsdet, -logabsdet)
    torch.testing.assert_close(layer.inverse(outputs)[0], inputs)


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_receptive_field_is_exactly_the_full_window(kernel_size: int) -> None:
    torch.manual_seed(0)
    shape, reach = (3, 9, 8), kernel_size // 2
    matrix = dense(off_its_start(EmergingConvolution(shape, kernel_size)), shape).view(*shape, *shape)
    for i in range(reach, shape[1] - reach):
        for j in range(reach, shape[2] - reach):
            seen = matrix[:, i, j].abs()  # by output channel, from input channel and pixel
            window = torch.zeros(shape[1:], dtype=torch.bool)
            window[i - reach : i + reach + 1, j - reach : j + reach + 1] = True
            assert (seen[..., window] > 0).all()
            assert not seen[..., ~window].any()


def test_it_is_a_1x1_convolution_then_one_that_looks_up_left_then_one_that_looks_down_right() -> None:
    parts = [getattr(part, "corner", type(part)) for part in EmergingConvolution((3, 4, 5))]
    assert parts == [InvertibleConv1x1, "upper left", "lower right"]


@pytest.mark.parametrize("shape", [(3, 3, 4), (1, 4, 2)], ids=str)
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_gradients_are_those_of_finite_differences(shape: Shape, direction: str) -> None:
    torch.manual_seed(0)
    layer = off_its_start(EmergingConvolution(shape))
    inputs = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda *_: getattr(layer, direction)(inputs), (inputs, *layer.parameters()))


@pytest.mark.parametrize("value", [-1e6, 1e6])
def test_the_diagonal_can_neither_vanish_nor_explode(value: float) -> None:
    layer = AutoregressiveConvolution((3, 4, 5)).double()
    torch.nn.init.constant_(layer.log_scale, value)
    inputs = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    outputs, logabsdet = layer(inputs)
    torch.testing.assert_close(logabsdet.abs(), torch.full((2,), 3.0 * 4 * 5, dtype=torch.float64))
    torch.testing.assert_close(layer.inverse(outputs)[0], inputs, atol=1e-10, rtol=0)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="kernel_size must be odd, so that the window has a centre; got 4"):
        EmergingConvolution((3, 8, 8), 4)
    with pytest.raises(TypeError, match=r"kernel_size must be a positive integer, got 3\.0"):
        EmergingConvolution((3, 8, 8), 3.0)
    with pytest.raises(ValueError, match="kernel_size must be a positive integer, got 0"):
        AutoregressiveConvolution((3, 8, 8), 0)
    with pytest.raises(ValueError, match=r"corner must be one of lower left, .*; got 'centre'"):
        AutoregressiveConvolution((3, 8, 8), corner="centre")
    with pytest.raises(ValueError, match=r"shape must be \(channels, height, width\)"):
        EmergingConvolution((3, 8))
    for map_ in (layer := EmergingConvolution((3, 8, 8)), layer.inverse):
        with pytest.raises(ValueError, match=r"inputs must have shape \(B, 3, h, w\)"):
            map_(torch.zeros(2, 4, 8, 8))
