"""MaCow: causality in each direction from autograd, the reach of a unit, and its inverse row by row."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from nflows_woodbury.transforms import ActNorm, initialize
from nflows_woodbury.transforms.macow import DIRECTIONS, MaCowUnit, MaskedConvCoupling

SHAPE = (2, 6, 5)
each_direction = pytest.mark.parametrize("direction", DIRECTIONS)


def off_its_start(layer: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in layer.double().parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return layer


def jacobian(layer: torch.nn.Module, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    """(c, h, w, c, h, w), outputs first."""
    inputs = torch.randn(1, *shape, dtype=torch.float64)
    return torch.autograd.functional.jacobian(lambda x: layer(x)[0], inputs).view(*shape, *shape)


def ways(jacobian: Tensor) -> set[tuple[int, int]]:
    """The steps (down, right) from each output pixel to the other input pixels that it depends on."""
    pixels = jacobian.abs().sum((0, 3)).nonzero()
    return {(k - i, m - j) for i, j, k, m in pixels.tolist()} - {(0, 0)}


@each_direction
@pytest.mark.parametrize("kernel_size", [(2, 3), (1, 1), (3, 5)], ids=str)
def test_couplings_are_strictly_causal_in_their_direction(direction: str, kernel_size: tuple[int, int]) -> None:
    layer = off_its_start(MaskedConvCoupling(SHAPE, 8, kernel_size, direction))
    matrix = jacobian(layer)
    rows, columns = kernel_size
    back, aside = range(1, rows + 1), range(-(columns // 2), columns // 2 + 1)
    expected = {
        "up": {(-a, b) for a in back for b in aside},
        "down": {(a, b) for a in back for b in aside},
        "left": {(b, -a) for a in back for b in aside},
        "right": {(b, a) for a in back for b in aside},
    }
    assert ways(matrix) == expected[direction]
    own = matrix.diagonal(dim1=1, dim2=4).diagonal(dim1=1, dim2=3)  # (c, c, h, w): a pixel's dependence on itself
    assert not (own * (1 - torch.eye(SHAPE[0], dtype=own.dtype)[:, :, None, None])).any()
    assert (own.diagonal() > 0).all()


def test_the_unit_reaches_the_neighbours_on_all_sides() -> None:
    for shape in (SHAPE, (1, 5, 6)):
        reached = ways(jacobian(off_its_start(MaCowUnit(shape, 8)), shape))
        assert {(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)} - {(0, 0)} <= reached


def test_the_unit_is_that_of_the_paper() -> None:
    unit = MaCowUnit(SHAPE, 8)
    parts = [part.direction if isinstance(part, MaskedConvCoupling) else type(part) for part in unit]
    assert parts == [ActNorm, "up", "down", ActNorm, "left", "right"]
    inputs = torch.randn(3, *SHAPE)
    outputs, logabsdet = unit(inputs)
    assert torch.equal(outputs, inputs)
    assert not logabsdet.any()
    initialize(unit, 5 + 2 * inputs)
    outputs, _ = unit(5 + 2 * inputs)
    assert outputs.mean().abs() < 1e-5
    assert (outputs.std() - 1).abs() < 0.1


@each_direction
@pytest.mark.parametrize("shape", [SHAPE, (1, 3, 4), (3, 1, 5), (2, 4, 1)], ids=str)
def test_inverse_and_logabsdet(direction: str, shape: tuple[int, int, int]) -> None:
    layer = off_its_start(MaskedConvCoupling(shape, 8, direction=direction))
    inputs = torch.randn(3, *shape, dtype=torch.float64)
    outputs, logabsdet = layer(inputs)
    back, inverse_logabsdet = layer.inverse(outputs)
    torch.testing.assert_close(back, inputs, atol=1e-10, rtol=0)
    torch.testing.assert_close(inverse_logabsdet, -logabsdet)
    matrix = torch.autograd.functional.jacobian(lambda x: layer(x)[0], inputs[:1]).view(2 * (inputs[0].numel(),))
    torch.testing.assert_close(logabsdet[0], torch.linalg.slogdet(matrix).logabsdet)


@each_direction
def test_the_inverse_evaluates_the_conditioner_at_one_row_a_step(direction: str, monkeypatch) -> None:
    layer, sizes = off_its_start(MaskedConvCoupling(SHAPE, 8, direction=direction)), []
    condition = MaskedConvCoupling._condition

    def counted(self, earlier: Tensor, context: Tensor | None) -> Tensor:
        parameters = condition(self, earlier, context)
        sizes.append(tuple(parameters.shape[3:]))
        return parameters

    monkeypatch.setattr(MaskedConvCoupling, "_condition", counted)
    layer.inverse(torch.randn(2, *SHAPE, dtype=torch.float64))
    height, width = SHAPE[1:] if direction in ("up", "down") else SHAPE[:0:-1]
    assert sizes == height * [(1, width)]


@pytest.mark.parametrize("map_direction", ["forward", "inverse"])
@pytest.mark.parametrize("make", [MaCowUnit, *(partial(MaskedConvCoupling, direction=name) for name in DIRECTIONS)])
def test_gradients_are_those_of_finite_differences(make, map_direction: str) -> None:
    layer = off_its_start(make((2, 3, 2), 2, (1, 3), context_features=1))
    inputs = torch.randn(2, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    context = torch.randn(2, 1, 3, 2, dtype=torch.float64, requires_grad=True)
    arguments = (inputs, context, *layer.parameters())
    assert gradcheck(lambda *_: getattr(layer, map_direction)(inputs, context), arguments)


@each_direction
def test_context_acts_on_the_pixel_that_it_belongs_to(direction: str) -> None:
    layer = off_its_start(MaskedConvCoupling(SHAPE, 8, direction=direction, context_features=3))
    inputs, context = torch.randn(1, *SHAPE, dtype=torch.float64), torch.randn(1, 3, *SHAPE[1:], dtype=torch.float64)
    matrix = torch.autograd.functional.jacobian(lambda c: layer(inputs, c)[0], context).view(*SHAPE, 3, *SHAPE[1:])
    assert matrix.any()
    assert ways(matrix) == set()
    for some in (context, context[:, :, 0, 0]):
        outputs, _ = layer(inputs, some)
        torch.testing.assert_close(layer.inverse(outputs, some)[0], inputs, atol=1e-10, rtol=0)


def test_bad_arguments() -> None:
    for make in (MaCowUnit, MaskedConvCoupling):
        with pytest.raises(ValueError, match=r"kernel_size must have an odd number of columns, .* got 2"):
            make(SHAPE, 8, (2, 2))
        with pytest.raises(TypeError, match=r"kernel_size must be a sequence \(rows, columns\), got 3"):
            make(SHAPE, 8, 3)
        with pytest.raises(ValueError, match=r"kernel_size must be \(rows, columns\), got \(2, 3, 1\)"):
            make(SHAPE, 8, (2, 3, 1))
        with pytest.raises(ValueError, match="hidden_channels must be a positive integer, got 0"):
            make(SHAPE, 0)
    with pytest.raises(ValueError, match="direction must be one of down, left, right, up; got 'north'"):
        MaskedConvCoupling(SHAPE, 8, direction="north")
    layer = MaskedConvCoupling(SHAPE, 8, context_features=3)
    for map_ in (layer, layer.inverse):
        with pytest.raises(ValueError, match="context must be given, with 3 features; got None"):
            map_(torch.zeros(1, *SHAPE))
        with pytest.raises(ValueError, match=r"context must have shape \(B, 3\) or \(B, 3, h, w\)"):
            map_(torch.zeros(1, *SHAPE), torch.zeros(1, 4))
        with pytest.raises(ValueError, match=r"inputs must have shape \(B, 2, h, w\)"):
            map_(torch.zeros(1, 3, 6, 5), torch.zeros(1, 3))
