"""FInC convolutions: each group of channels reaches its corner, and one corner is an autoregressive convolution."""

from __future__ import annotations

import pytest
import torch
from registry import dense_jacobian, move

from nflows_woodbury.transforms.emerging import CORNERS, AutoregressiveConvolution
from nflows_woodbury.transforms.finc import FInCConvolution


def make(c: int, h: int, w: int, kernel_size: int = 3, corners: list[str] | None = None) -> FInCConvolution:
    torch.manual_seed(0)
    given = {} if corners is None else {"corners": corners}
    return move(FInCConvolution((c, h, w), kernel_size, **given), 0.3).double()


@pytest.mark.parametrize("kernel_size", [1, 2, 3])
@pytest.mark.parametrize("channels", [4, 6, 9])
def test_each_group_reaches_its_own_channels_towards_its_corner(channels: int, kernel_size: int) -> None:
    shape = (channels, 5, 6)
    layer = make(*shape, kernel_size)
    seen = dense_jacobian(layer, torch.zeros(1, *shape, dtype=torch.float64)).view(*shape, *shape) != 0
    assert layer.corners == list(CORNERS) and sum(layer.sizes) == channels and max(layer.sizes) - min(layer.sizes) <= 1
    start = 0
    for corner, size in zip(layer.corners, layer.sizes, strict=True):
        own = slice(start, start + size)
        for i, j in torch.cartesian_prod(torch.arange(5), torch.arange(6)).tolist():
            rows = range(i - kernel_size + 1, i + 1) if "upper" in corner else range(i, i + kernel_size)
            columns = range(j - kernel_size + 1, j + 1) if "left" in corner else range(j, j + kernel_size)
            expected = torch.zeros(size, channels, 5, 6, dtype=torch.bool)
            for row in rows:
                for column in columns:
                    if 0 <= row < 5 and 0 <= column < 6:
                        expected[:, own, row, column] = True
            expected[:, own, i, j] = torch.ones(size, size).tril().bool()
            assert torch.equal(seen[own, i, j], expected)
        start += size


@pytest.mark.parametrize("corner", ["upper left", "upper right"])
def test_one_corner_is_the_convolution_of_cinc(corner: str) -> None:
    layer, other = make(3, 4, 5, 2, [corner]), AutoregressiveConvolution((3, 4, 5), 2, corner).double()
    other.load_state_dict(layer.state_dict())
    inputs = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    for ours, theirs in [(layer, other), (layer.inverse, other.inverse)]:
        torch.testing.assert_close(ours(inputs), theirs(inputs))


def test_fewer_channels_than_corners_take_the_first_corners() -> None:
    assert make(1, 2, 2).corners == ["upper left"]
    assert make(3, 2, 2).corners == ["upper left", "upper right", "lower left"]
    assert make(5, 2, 2, corners=["lower right", "lower right"]).sizes == [3, 2]


@pytest.mark.parametrize("value", [-1e6, 1e6])
def test_the_diagonal_can_neither_vanish_nor_explode(value: float) -> None:
    layer, inputs = make(6, 3, 4), torch.randn(2, 6, 3, 4, dtype=torch.float64)
    torch.nn.init.constant_(layer.log_scale, value)
    outputs, logabsdet = layer(inputs)
    torch.testing.assert_close(logabsdet.abs(), torch.full((2,), 6.0 * 3 * 4, dtype=torch.float64))
    torch.testing.assert_close(layer.inverse(outputs)[0], inputs, atol=1e-10, rtol=0)


def test_it_starts_near_the_identity() -> None:
    torch.manual_seed(0)
    for shape in [(4, 8, 8), (48, 8, 8)]:
        inputs = torch.randn(2, *shape)
        outputs, logabsdet = FInCConvolution(shape)(inputs)
        assert (outputs - inputs).norm() < 0.2 * inputs.norm() and not logabsdet.any()


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="kernel_size must be a positive integer, got 0"):
        FInCConvolution((4, 8, 8), 0)
    with pytest.raises(ValueError, match=r"corners must be at least one of upper left, .*, got none"):
        FInCConvolution((4, 8, 8), corners=[])
    for corners in ("centre", ["upper left", "centre"]):
        with pytest.raises(ValueError, match=r"corners must be one of lower left, .*; got 'centre'"):
            FInCConvolution((4, 8, 8), corners=corners)
    for map_ in (layer := FInCConvolution((4, 8, 8)), layer.inverse):
        with pytest.raises(ValueError, match=r"inputs must have shape \(B, 4, h, w\)"):
            map_(torch.zeros(2, 3, 8, 8))
