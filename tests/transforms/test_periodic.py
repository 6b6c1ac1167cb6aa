"""Periodic convolutions against dense float64 matrices: value, log-det, inverse, gradients, and being circulant."""

from __future__ import annotations

from math import prod

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from nflows_woodbury.transforms.periodic import PeriodicConvolution

Shape = tuple[int, int, int]
# odd and even heights and widths, one channel, h != w, kernels as large as the image, one pixel
SETTINGS = [
    ((3, 4, 4), 3),
    ((3, 5, 4), 3),
    ((3, 4, 5), 3),
    ((2, 5, 7), 5),
    ((1, 3, 3), 3),
    ((1, 6, 5), 5),
    ((2, 4, 6), 2),
    ((2, 2, 5), 2),
    ((3, 1, 6), 1),
    ((4, 1, 1), 1),
]
each_setting = pytest.mark.parametrize(("shape", "kernel_size"), SETTINGS)


def make(shape: Shape, kernel_size: int) -> PeriodicConvolution:
    torch.manual_seed(0)
    layer = PeriodicConvolution(shape, kernel_size).double()
    with torch.no_grad():
        layer.weight += 0.2 / kernel_size * torch.randn_like(layer.weight)
    return layer


def dense(layer: torch.nn.Module, shape: Shape) -> Tensor:
    """The matrix of a linear layer, column by column from the unit vectors."""
    units = torch.eye(prod(shape), dtype=torch.float64).view(-1, *shape)
    return layer(units)[0].detach().flatten(1).mT


@each_setting
def test_it_is_a_sum_of_cyclic_shifts(shape: Shape, kernel_size: int) -> None:
    layer, inputs = make(shape, kernel_size), torch.randn(4, *shape, dtype=torch.float64)
    expected = torch.zeros_like(inputs)
    for a in range(kernel_size):
        for b in range(kernel_size):
            shifted = inputs.roll((kernel_size // 2 - a, kernel_size // 2 - b), (2, 3))
            expected += torch.einsum("oi,bihw->bohw", layer.weight[:, :, a, b], shifted)
    torch.testing.assert_close(layer(inputs)[0], expected)


@each_setting
def test_its_matrix_is_circulant(shape: Shape, kernel_size: int) -> None:
    c, h, w = shape
    matrix = dense(make(shape, kernel_size), shape).view(c, h, w, c, h, w)
    for i in range(h):
        for j in range(w):  # what a pixel sees, moved with it, is what pixel (0, 0) sees
            torch.testing.assert_close(matrix[:, i, j].roll((-i, -j), (2, 3)), matrix[:, 0, 0], atol=1e-14, rtol=0)


@each_setting
def test_logabsdet_and_inverse_are_those_of_the_dense_matrix(shape: Shape, kernel_size: int) -> None:
    layer, inputs = make(shape, kernel_size), torch.randn(3, *shape, dtype=torch.float64)
    matrix = dense(layer, shape)
    outputs, logabsdet = layer(inputs)
    torch.testing.assert_close(logabsdet, torch.linalg.slogdet(matrix).logabsdet.expand(3), atol=1e-10, rtol=1e-10)
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x)[0], inputs[:1]).view(matrix.shape)
    torch.testing.assert_close(jacobian, matrix)
    back, inverse_logabsdet = layer.inverse(inputs)
    torch.testing.assert_close(back.flatten(1), torch.linalg.solve(matrix, inputs.flatten(1).mT).mT)
    torch.testing.assert_close(inverse_logabsdet, -logabsdet)
    torch.testing.assert_close(layer.inverse(outputs)[0], inputs)


@pytest.mark.parametrize(("shape", "kernel_size"), [((2, 3, 4), 3), ((2, 4, 3), 2), ((1, 5, 5), 5)])
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_gradients_are_those_of_finite_differences(shape: Shape, kernel_size: int, direction: str) -> None:
    layer = make(shape, kernel_size)
    inputs = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda *_: getattr(layer, direction)(inputs), (inputs, *layer.parameters()))


def test_other_sizes_and_empty_batches_are_accepted_when_called() -> None:
    layer = make((3, 4, 4), 3)
    inputs = torch.randn(2, 3, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(layer.inverse(layer(inputs)[0])[0], inputs)
    for map_ in (layer, layer.inverse):
        outputs, logabsdet = map_(inputs[:0])
        assert outputs.shape == (0, 3, 7, 5)
        assert logabsdet.shape == (0,)


def test_bad_arguments() -> None:
    for shape in [(3, 4, 8), (3, 8, 4)]:
        with pytest.raises(ValueError, match="shape must be at least as high and wide as the kernel, 5 x 5, got"):
            PeriodicConvolution(shape, 5)
    with pytest.raises(TypeError, match="kernel_size must be a positive integer, got '3'"):
        PeriodicConvolution((3, 4, 4), "3")
    for map_ in (layer := PeriodicConvolution((3, 4, 4)), layer.inverse):
        with pytest.raises(ValueError, match="inputs must be at least as high and wide as the kernel, 3 x 3, got 2"):
            map_(torch.zeros(1, 3, 2, 8))
        with pytest.raises(ValueError, match=r"inputs must have shape \(B, 3, h, w\)"):
            map_(torch.zeros(1, 4, 4, 4))
