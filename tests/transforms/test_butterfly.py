"""Butterflies: what they reach along every group of axes, their two ways to multiply, their starts."""

from __future__ import annotations

from math import prod

import pytest
import torch
from registry import AXES, dense_jacobian, move
from torch import Tensor

from nflows_woodbury.transforms import butterfly
from nflows_woodbury.transforms.base import SingularError
from nflows_woodbury.transforms.butterfly import Butterfly, ButterflyTransform

Shape = tuple[int, int, int]
# powers of two, none, primes, one channel, one row, one pixel
SHAPES = [(2, 4, 4), (3, 2, 6), (1, 5, 3), (4, 1, 7), (6, 1, 1)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
each_group = pytest.mark.parametrize("axes", AXES, ids=str)


@each_shape
@each_group
def test_it_reaches_every_entry_of_its_group_and_no_other(shape: Shape, axes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = move(Butterfly(shape, axes), 0.2).double()
    jacobian = dense_jacobian(layer, torch.zeros(1, *shape, dtype=torch.float64))
    places = torch.cartesian_prod(*map(torch.arange, shape))
    others = [axis for axis in range(3) if axis not in axes]
    same = (places[:, None, others] == places[None, :, others]).all(-1)
    assert torch.equal(jacobian != 0, same)


@each_shape
@pytest.mark.parametrize("groups", [((0,), (1, 2)), ((0,), (1,), (2,)), ((0, 1, 2),)], ids=str)
def test_a_chain_over_all_axes_reaches_every_entry(shape: Shape, groups: tuple[tuple[int, ...], ...]) -> None:
    torch.manual_seed(0)
    layer = move(ButterflyTransform(shape, groups), 0.2).double()
    assert dense_jacobian(layer, torch.zeros(1, *shape, dtype=torch.float64)).all()


@each_shape
@each_group
def test_factors_and_their_matrix_give_the_same(
    shape: Shape, axes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    layer, inputs = move(Butterfly(shape, axes), 0.3).double(), torch.randn(3, *shape, dtype=torch.float64)

    def results() -> list[Tensor]:
        x = inputs.clone().requires_grad_()
        outputs, logabsdet = layer(x)
        back, _ = layer.inverse(x)
        loss = outputs.sin().sum() + back.cos().sum() + logabsdet.sum()
        return [outputs, back, *torch.autograd.grad(loss, [x, *layer.parameters()])]

    dense = results()
    monkeypatch.setattr(butterfly, "SPARSE_SIZE", 1)
    torch.testing.assert_close(results(), dense)
    assert layer(inputs[:0])[0].shape == (0, *shape)


@each_group
def test_starts_are_orthogonal_and_the_identity(axes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    shape = (4, 3, 5)
    inputs = torch.randn(2, *shape)
    outputs, logabsdet = Butterfly(shape, axes)(inputs)
    torch.testing.assert_close(outputs.norm(), inputs.norm())
    assert (logabsdet.abs() < 1e-4).all() and not torch.allclose(outputs, inputs, atol=0.1)
    torch.testing.assert_close(Butterfly(shape, axes, "identity")(inputs)[0], inputs)


def test_a_chain_starts_as_a_rotation_of_the_channels_or_as_the_identity() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(2, 4, 3, 5)
    for groups in [((0,), (1, 2)), ((0,), (1,), (2,))]:
        channels = ButterflyTransform((4, 3, 5), groups)
        torch.testing.assert_close(channels(inputs)[0], channels[0](inputs)[0])
        torch.testing.assert_close(ButterflyTransform((4, 3, 5), groups, "identity")(inputs)[0], inputs)


def test_parameters_grow_with_the_logarithm_of_the_size() -> None:
    for size in (2, 8, 256, 1024):
        count = sum(parameter.numel() for parameter in Butterfly((1, size, 1), (1,)).parameters())
        assert count == 2 * size * (size.bit_length() - 1)
    for shape in SHAPES:
        sides = [parameter.shape[-1] for parameter in Butterfly(shape, (0, 1, 2)).parameters()]
        assert prod(sides) == prod(shape)


def test_a_singular_block_is_an_error_of_the_inverse() -> None:
    layer = Butterfly((4, 2, 2))
    torch.nn.init.zeros_(layer.blocks[1])
    assert layer(torch.randn(2, 4, 2, 2))[1].eq(-torch.inf).all()
    with pytest.raises(SingularError, match=r"Butterfly\(shape=\(4, 2, 2\), axes=\(0,\)\) is singular"):
        layer.inverse(torch.randn(2, 4, 2, 2))


def test_vectors_and_sequences_are_mixed_too() -> None:
    for shape, axes in [((9,), (0,)), ((4, 6), (1,)), ((2, 3, 2, 3), (1, 2))]:
        torch.manual_seed(0)
        layer, inputs = move(Butterfly(shape, axes), 0.2).double(), torch.randn(2, *shape, dtype=torch.float64)
        outputs, logabsdet = layer(inputs)
        torch.testing.assert_close(layer.inverse(outputs)[0], inputs)
        expected = torch.linalg.slogdet(dense_jacobian(layer, inputs[:1])).logabsdet
        torch.testing.assert_close(logabsdet, expected.expand(2))


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"axes must be consecutive axes of shape \(3, 8, 8\) in rising order, got"):
        Butterfly((3, 8, 8), (2, 1))
    with pytest.raises(TypeError, match=r"axes must be a sequence of consecutive axes, or one axis, got 1\.0"):
        Butterfly((3, 8, 8), 1.0)
    with pytest.raises(ValueError, match="init must be one of identity, rotation; got 'paper'"):
        Butterfly((3, 8, 8), init="paper")
    with pytest.raises(ValueError, match="groups must name at least one group of axes, got none"):
        ButterflyTransform((3, 8, 8), [])
    for map_ in (layer := Butterfly((3, 8, 8)), layer.inverse):
        with pytest.raises(ValueError, match=r"inputs must have shape \(B, 3, 8, 8\)"):
            map_(torch.zeros(2, 3, 8, 4))
