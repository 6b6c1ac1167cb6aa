"""Scores of strangeness: each is what its name says, and the AUROC is Mann's and Whitney's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from nflows_woodbury.config import FlowConfig
from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.evaluation.likelihood import bits_per_dim, png_bits_per_dim
from nflows_woodbury.evaluation.pictures import captioned
from nflows_woodbury.evaluation.scores import auroc, quantiles, score_images

IMAGES = ImageSet(torch.randint(256, (7, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)))


def flow(**settings):
    torch.manual_seed(0)
    made = FlowConfig((3, 8, 8), levels=1, steps=2, hidden_channels=8, **settings).build()
    labels = torch.arange(7) % settings["num_classes"] if "num_classes" in settings else None
    made.initialize(IMAGES.images, labels)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1) if parameter.abs().max() == 0 else None
    return made.eval()


def test_scores_are_means_over_draws_with_their_errors() -> None:
    model = flow()
    scores = score_images(model, IMAGES, samples=5, seed=3)
    draws = torch.stack([bits_per_dim(model, IMAGES, seed=3 + draw) for draw in range(5)])
    assert torch.allclose(scores.bits_per_dim, draws.mean(0), rtol=1e-12)
    assert torch.allclose(scores.standard_error, draws.std(0) / 5**0.5, rtol=1e-9)
    assert score_images(model, IMAGES, samples=1).standard_error.isnan().all()
    png = [png_bits_per_dim(image[None]) for image in IMAGES.images]
    assert scores.png.tolist() == png
    assert torch.equal(scores.difference, scores.bits_per_dim - scores.png)


def test_norms_are_those_of_the_noise() -> None:
    model = flow()
    scores = score_images(model, IMAGES, typical_norm=0.9, seed=2, batch_size=7)
    torch.manual_seed(2)
    noise = model.transform_to_noise(IMAGES.images).detach().double()
    assert torch.allclose(scores.norm, noise.norm(dim=1) / 192**0.5, rtol=1e-12)
    assert torch.allclose(scores.norm_distance, (scores.norm - 0.9).abs())
    assert torch.equal(scores.norm, score_images(model, IMAGES, seed=2, batch_size=7).norm)


def test_a_flow_with_classes_is_their_mixture() -> None:
    model = flow(num_classes=3)
    scores = score_images(model, IMAGES, samples=1, batch_size=7)
    of_class = torch.stack(
        [bits_per_dim(model, ImageSet(IMAGES.images, torch.full((7,), k)), batch_size=7) for k in range(3)]
    )
    exact = -torch.logsumexp(-of_class * 192 * np.log(2) - np.log(3), 0) / (192 * np.log(2))
    assert torch.allclose(scores.bits_per_dim, exact, rtol=1e-12)
    assert not torch.allclose(of_class[0], of_class[1])


def test_models_of_fewer_bits_compare_with_images_of_those_bits() -> None:
    scores = score_images(flow(bits=5), IMAGES, bits=5)
    assert scores.png.tolist() == [png_bits_per_dim(image[None] >> 3) for image in IMAGES.images]


@pytest.mark.parametrize("seed", range(5))
def test_auroc_is_the_statistic_of_mann_and_whitney(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, positive = rng.integers(0, 8, size=40).astype(float), rng.random(40) < 0.4  # with many ties
    expected = stats.mannwhitneyu(values[positive], values[~positive]).statistic / (positive.sum() * (~positive).sum())
    assert auroc(torch.from_numpy(values), torch.from_numpy(positive)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("positive", [[True] * 3, [False] * 3])
def test_auroc_needs_both_kinds(positive: list[bool]) -> None:
    with pytest.raises(ValueError, match=r"positive must hold true and false values, got [03] of 3 true"):
        auroc(torch.arange(3.0), torch.tensor(positive))


def test_quantiles_are_shares_of_the_reference() -> None:
    reference = torch.rand(30, dtype=torch.float64)
    values = torch.cat([torch.rand(50, dtype=torch.float64), reference])  # an image is as strange as itself
    expected = [float((reference <= value).double().mean()) for value in values]
    assert quantiles(values, reference).tolist() == pytest.approx(expected)


def test_captions_stand_below_their_images() -> None:
    sheet = captioned(IMAGES.images[:4], ["a", "b\nc", "", "d"], columns=2)
    assert sheet.shape == (3, 2 * (96 + 29 + 2) + 2, 2 * 98 + 2)
    assert torch.equal(sheet[:, 2:98:12, 2:98:12], IMAGES.images[0])
    below = sheet[:, 98:127]
    assert (below[:, :, 2:98] < 128).any() and (below[:, :, 100:196] < 128).any()
    assert (sheet[:, 98 + 127 : 254, 2:98] == 255).all(), "no text, no ink"
    with pytest.raises(ValueError, match="captions must be 4, one for each image, got 1"):
        captioned(IMAGES.images[:4], ["a"])
