"""The parametrizations of the 1x1 convolution: how they start, and that they cannot become singular."""

from __future__ import annotations

import pytest
import torch
from registry import dense_jacobian, move
from torch import Tensor

from nflows_woodbury.transforms.base import SingularError
from nflows_woodbury.transforms.conv1x1 import PARAMETRIZATIONS, InvertibleConv1x1

each_parametrization = pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)


def matrix(layer: InvertibleConv1x1) -> Tensor:
    c = layer.num_channels
    return layer(torch.eye(c)[:, :, None, None])[0].detach().view(c, c).mT


@each_parametrization
@pytest.mark.parametrize("c", [1, 2, 9, 24])
def test_starts_are_random_rotations_and_the_identity(parametrization: str, c: int) -> None:
    torch.manual_seed(0)
    first, second = (matrix(InvertibleConv1x1((c, 1, 1), parametrization)) for _ in range(2))
    torch.testing.assert_close(first @ first.mT, torch.eye(c), rtol=0, atol=1e-5)
    assert c == 1 or not torch.allclose(first, second, atol=0.1)
    layer = InvertibleConv1x1((c, 3, 2), parametrization, init="identity")
    torch.testing.assert_close(matrix(layer), torch.eye(c), rtol=0, atol=1e-6)
    assert (layer(torch.zeros(2, c, 3, 2))[1].abs() < 1e-5).all()


@each_parametrization
def test_it_reaches_the_channels_of_its_pixel(parametrization: str) -> None:
    torch.manual_seed(0)
    layer = move(InvertibleConv1x1((4, 2, 3), parametrization), 0.2).double()
    jacobian = dense_jacobian(layer, torch.zeros(1, 4, 2, 3, dtype=torch.float64)).view(4, 6, 4, 6)
    for i in range(6):
        for j in range(6):
            assert jacobian[:, i, :, j].all() if i == j else not jacobian[:, i, :, j].any()


def test_exponentials_start_as_rotations_without_reflections() -> None:
    for seed in range(10):
        torch.manual_seed(seed)
        W = matrix(InvertibleConv1x1((6, 1, 1), "exp")).double()
        torch.testing.assert_close(torch.linalg.det(W), torch.tensor(1.0, dtype=torch.float64), rtol=0, atol=1e-5)
        torch.manual_seed(seed)
        start = torch.linalg.qr(torch.randn(6, 6)).Q
        start[0] *= torch.linalg.det(start).sign()
        torch.testing.assert_close(W.float(), start, rtol=0, atol=1e-5)


@pytest.mark.parametrize("parametrization", [name for name in PARAMETRIZATIONS if name != "dense"])
def test_all_but_the_dense_one_cannot_become_singular(parametrization: str) -> None:
    layer, inputs = InvertibleConv1x1((5, 2, 2), parametrization).double(), torch.randn(2, 5, 2, 2).double()
    for value in (0.0, -1.0, 1.0):
        for parameter in layer.parameters():
            torch.nn.init.constant_(parameter, value)
        outputs, logabsdet = layer(inputs)
        torch.testing.assert_close(layer.inverse(outputs)[0], inputs)
        torch.testing.assert_close(logabsdet, torch.full((2,), 4 * 5 * value, dtype=torch.float64))


def test_a_singular_dense_matrix_is_an_error_of_the_inverse() -> None:
    layer = InvertibleConv1x1((5, 2, 2))
    torch.nn.init.ones_(layer.matrix.weight)
    with pytest.raises(SingularError):
        layer.inverse(torch.randn(2, 5, 2, 2))


def test_there_are_as_many_parameters_as_entries() -> None:
    for parametrization in PARAMETRIZATIONS:
        layer = InvertibleConv1x1((7, 1, 1), parametrization)
        assert sum(parameter.numel() for parameter in layer.parameters()) == 49


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="parametrization must be one of dense, exp, plu, qr; got 'lu'"):
        InvertibleConv1x1((3, 8, 8), "lu")
    with pytest.raises(ValueError, match="init must be one of identity, rotation; got 'paper'"):
        InvertibleConv1x1((3, 8, 8), init="paper")
