"""Circulant-diagonal layers: what they reach, their two ways to multiply, their starts."""

from __future__ import annotations

import pytest
import torch
from registry import dense_jacobian, move
from torch import Tensor

from nflows_woodbury.transforms import circulant
from nflows_woodbury.transforms.circulant import CirculantDiagonal


def test_it_reaches_the_channels_of_its_pixel() -> None:
    for c in (1, 2, 5, 6):
        torch.manual_seed(0)
        layer = move(CirculantDiagonal((c, 2, 3)), 0.2).double()
        jacobian = dense_jacobian(layer, torch.zeros(1, c, 2, 3, dtype=torch.float64)).view(c, 6, c, 6)
        for i in range(6):
            for j in range(6):
                assert jacobian[:, i, :, j].all() if i == j else not jacobian[:, i, :, j].any()


@pytest.mark.parametrize("c", [1, 2, 5, 8])
def test_the_fourier_domain_and_the_matrix_give_the_same(c: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer, inputs = move(CirculantDiagonal((c, 3, 2), 2), 0.3).double(), torch.randn(4, c, 3, 2, dtype=torch.float64)

    def results() -> list[Tensor]:
        x = inputs.clone().requires_grad_()
        outputs, logabsdet = layer(x)
        back, _ = layer.inverse(x)
        loss = outputs.sin().sum() + back.cos().sum() + logabsdet.sum()
        return [outputs, back, *torch.autograd.grad(loss, [x, *layer.parameters()])]

    dense = results()
    monkeypatch.setattr(circulant, "FOURIER_CHANNELS", 1)
    torch.testing.assert_close(results(), dense)
    assert layer(inputs[:0])[0].shape == (0, c, 3, 2)


def test_starts_are_orthogonal_and_the_identity() -> None:
    torch.manual_seed(0)
    for c in (1, 2, 7, 8):
        inputs = torch.randn(3, c, 2, 2)
        outputs, logabsdet = CirculantDiagonal((c, 2, 2), 3)(inputs)
        torch.testing.assert_close(outputs.norm(dim=1), inputs.norm(dim=1))
        assert not logabsdet.any()
        torch.testing.assert_close(CirculantDiagonal((c, 2, 2), 3, "identity")(inputs)[0], inputs)
    starts = torch.stack([CirculantDiagonal((8, 1, 1))(torch.eye(8)[:, :, None, None])[0] for _ in range(200)])
    assert (starts.mean(0).abs() < 0.2).all() and (starts.std(0) > 0.2).all()


@pytest.mark.parametrize("value", [-30.0, 30.0])
def test_it_cannot_become_singular(value: float) -> None:
    layer, inputs = CirculantDiagonal((5, 2, 2)).double(), torch.randn(2, 5, 2, 2, dtype=torch.float64)
    torch.nn.init.constant_(layer.log_scale, value)
    torch.nn.init.constant_(layer.log_modulus, value)
    outputs, logabsdet = layer(inputs)
    torch.testing.assert_close(logabsdet, torch.full((2,), 4 * 5 * 3 * value, dtype=torch.float64))
    torch.testing.assert_close(layer.inverse(outputs)[0], inputs)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="num_circulants must be a positive integer, got 0"):
        CirculantDiagonal((3, 8, 8), 0)
    with pytest.raises(ValueError, match="init must be one of identity, rotation; got 'paper'"):
        CirculantDiagonal((3, 8, 8), init="paper")
    for map_ in (layer := CirculantDiagonal((3, 8, 8)), layer.inverse):
        with pytest.raises(ValueError, match=r"inputs must have shape \(B, 3, h, w\)"):
            map_(torch.zeros(2, 4, 8, 8))
