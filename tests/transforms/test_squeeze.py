"""Squeezes against plain formulas."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from nflows_woodbury import HaarSqueeze, Squeeze


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_squeeze_is_that_of_torch(factor: int) -> None:
    images = torch.randn(2, 3, 2 * factor, 4 * factor)
    assert torch.equal(Squeeze(factor)(images)[0], F.pixel_unshuffle(images, factor))


def test_haar_gives_means_first_and_then_differences() -> None:
    images = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    a, b, c, d = (images[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1))
    parts = [a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d]
    outputs, logabsdet = HaarSqueeze()(images)
    torch.testing.assert_close(outputs, torch.cat(parts, 1) / 2)
    torch.testing.assert_close(outputs[:, :3], 2 * F.avg_pool2d(images, 2))
    assert torch.equal(logabsdet, torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(outputs.square().sum(), images.square().sum())
    torch.testing.assert_close(HaarSqueeze().inverse(outputs)[0], images)


def test_haar_round_trips_of_whole_numbers_are_exact() -> None:
    images = torch.randint(256, (4, 3, 8, 8)).float()
    assert torch.equal(HaarSqueeze().inverse(HaarSqueeze()(images)[0])[0], images)


def test_haar_sees_blocks_of_two_pixels_by_two() -> None:
    images = torch.zeros(1, 1, 4, 4)
    images[..., 2, 1] = 1.0
    outputs, _ = HaarSqueeze()(images)
    assert outputs[0, :, 1, 0].tolist() == [0.5, -0.5, 0.5, -0.5]
    assert outputs.count_nonzero() == 4


def test_bad_arguments() -> None:
    for squeeze in (Squeeze(), HaarSqueeze()):
        with pytest.raises(ValueError, match=r"inputs must be .* with h and w divisible by 2, got"):
            squeeze(torch.zeros(1, 3, 4, 5))
        with pytest.raises(ValueError, match=r"inputs must be .* with c divisible by 4, got"):
            squeeze.inverse(torch.zeros(1, 3, 4, 4))
        with pytest.raises(TypeError, match=r"inputs must be a tensor \(B, c, h, w\), got list"):
            squeeze([0])
    for map_ in (HaarSqueeze(), HaarSqueeze().inverse):
        with pytest.raises(TypeError, match=r"inputs must be a floating point tensor, got torch\.uint8"):
            map_(torch.zeros(1, 4, 4, 4, dtype=torch.uint8))
