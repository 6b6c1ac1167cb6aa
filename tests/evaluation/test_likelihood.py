"""Bits per dimension: of flows those of their formulas, of PNG those of its files."""

from __future__ import annotations

from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from smallflows import DEQUANTIZERS, FLOW, every_binary_image, normal_flow, random_flow, random_images

from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.data.photos import PhotoSource
from nflows_woodbury.evaluation.likelihood import bits_per_dim, png_bits_per_dim
from nflows_woodbury.evaluation.samples import (
    class_numbers,
    nearest_images,
)


class TestBitsPerDim:
    def test_is_the_mean_over_the_noise_and_leaves_the_generator_alone(self) -> None:
        torch.manual_seed(0)
        flow, images = FLOW.build(), PhotoSource(16).test.take(np.arange(10))
        state = torch.get_rng_state()
        once = bits_per_dim(flow, images, batch_size=4, seed=1)
        assert torch.equal(torch.get_rng_state(), state)
        assert once.shape == (10,) and torch.equal(once, bits_per_dim(flow, images, batch_size=4, seed=1))
        torch.manual_seed(1)
        expected = [flow(images.images[i : i + 4]).detach().double() for i in (0, 4, 8)]
        assert torch.equal(once, torch.cat(expected))
        assert torch.equal(once, bits_per_dim(flow, images, batch_size=4, seed=1, importance_samples=1))

    def test_more_samples_make_it_less_random_and_leave_the_mean(self) -> None:
        flow, images = random_flow("variational"), ImageSet(random_images(10))
        many = torch.stack([bits_per_dim(flow, images, samples=50, seed=s) for s in range(4)])
        one = torch.stack([bits_per_dim(flow, images, seed=s) for s in range(10, 50)])
        assert many.std(0).mean() < one.std(0).mean() / 3
        assert (many.mean(0) - one.mean(0)).abs().max() < 4 * one.std(0).max() / 40**0.5

    def test_classes_enter_as_one_hot_context(self) -> None:
        flow, labels = random_flow(classes=3), torch.tensor([2, 0, 1, 1, 2])
        images = ImageSet(random_images(5), labels)
        torch.manual_seed(0)
        with torch.no_grad():
            expected = flow(images.images, torch.eye(3, dtype=torch.float64)[labels])
        assert torch.equal(bits_per_dim(flow, images), expected)
        torch.manual_seed(0)
        context = torch.eye(3, dtype=torch.float64)[labels]
        with torch.no_grad():
            parts = [flow(images.images[i : i + 2], context[i : i + 2]) for i in (0, 2, 4)]
        assert torch.equal(bits_per_dim(flow, images, batch_size=2), torch.cat(parts))
        assert class_numbers(random_flow(), labels) is None
        with pytest.raises(ValueError, match="labels must be given for a model with 3 classes"):
            bits_per_dim(flow, ImageSet(images.images))

    @pytest.mark.parametrize("mode", [True, False])
    def test_the_mode_comes_back_also_after_an_error(self, mode: bool) -> None:
        flow = random_flow().train(mode)
        bits_per_dim(flow, ImageSet(random_images(2)))
        assert flow.training is mode
        with pytest.raises(ValueError, match="shape"):
            bits_per_dim(flow, ImageSet(random_images(2, (1, 8, 8))))
        assert flow.training is mode

    @pytest.mark.parametrize("name", ["samples", "importance_samples", "batch_size"])
    def test_counts_are_positive_integers(self, name: str) -> None:
        flow, images = random_flow(), ImageSet(random_images(2))
        with pytest.raises(ValueError, match=rf"{name} must be a positive integer, got 0"):
            bits_per_dim(flow, images, **{name: 0})
        with pytest.raises(TypeError, match=rf"{name} must be a positive integer, got 2.5"):
            bits_per_dim(flow, images, **{name: 2.5})
        with pytest.raises(ValueError, match="images must hold at least one image, got none"):
            bits_per_dim(flow, ImageSet(random_images(0)))


class TestImportanceSamples:
    @pytest.mark.parametrize("dequantize", DEQUANTIZERS)
    def test_equal_the_formula_written_plainly(self, dequantize: str) -> None:
        flow, images = random_flow(dequantize), random_images(6)
        bits = bits_per_dim(flow, ImageSet(images), batch_size=4, samples=2, importance_samples=3, seed=5)
        torch.manual_seed(5)
        expected = []
        for batch in images.split(4):
            weights = torch.stack([flow.log_prob(batch).detach() for _ in range(6)]).unflatten(0, (2, 3))
            expected.append(-(weights.logsumexp(1) - log(3)).mean(0) / (16 * log(2)))
        torch.testing.assert_close(bits, torch.cat(expected), rtol=1e-12, atol=0)
        assert bits.dtype == torch.float64

    @pytest.mark.parametrize("dequantize", DEQUANTIZERS)
    def test_same_draws_give_lower_bits_in_larger_groups(self, dequantize: str) -> None:
        """The mean of logarithms is at most the logarithm of the mean: for each image, whatever the draws."""
        flow, images = random_flow(dequantize), ImageSet(random_images(50))
        rows = [bits_per_dim(flow, images, samples=12 // k, importance_samples=k) for k in (1, 2, 4, 12)]
        for more, fewer in zip(rows[1:], rows, strict=False):
            assert (more < fewer).all()

    @pytest.mark.parametrize("dequantize", DEQUANTIZERS)
    def test_expected_bits_fall_with_each_further_draw(self, dequantize: str) -> None:
        """Own draws for each number; 5 standard errors of the difference over 960 images with 8 estimates each."""
        flow, images = normal_flow(dequantize), ImageSet(every_binary_image()[0].repeat(60, 1, 1, 1))
        rows = [
            bits_per_dim(flow, images, batch_size=960, samples=8, importance_samples=k, seed=k) for k in (1, 2, 3, 4)
        ]
        for more, fewer in zip(rows[1:], rows, strict=False):
            difference = fewer - more
            assert difference.mean() > 5 * difference.std() / len(difference) ** 0.5

    @pytest.mark.parametrize("dequantize", DEQUANTIZERS)
    def test_approach_the_exact_probability(self, dequantize: str) -> None:
        """An affine flow gives each pixel a normal distribution; a bin's probability is a difference of its cdf."""
        flow, images, exact = normal_flow(dequantize), *every_binary_image()
        sixty = ImageSet(images.repeat(60, 1, 1, 1))

        def estimates(count: int) -> torch.Tensor:
            return bits_per_dim(flow, sixty, batch_size=960, importance_samples=count).view(60, 16)

        for count in (10, 100):  # the mean of p / q is an unbiased estimate of the probability
            probability = 2 ** (-4 * estimates(count))
            assert ((probability.mean(0) - exact).abs() < 5 * probability.std(0) / 60**0.5).all()
        above = [estimates(count).mean(0) + exact.log2() / 4 for count in (1, 100)]
        assert (above[0] > 0.1).all() and (above[1].abs() < above[0] / 8).all()

    def test_densities_of_zero_or_infinity_stay_what_they_are(self) -> None:
        class Known(torch.nn.Module):
            num_classes = 0

            def __init__(self, *draws: float) -> None:
                super().__init__()
                self.draws, self.parameter = iter(draws), torch.nn.Parameter(torch.zeros(()))

            def forward(self, images: torch.Tensor, context: None) -> torch.Tensor:
                return torch.full((len(images),), next(self.draws))

        inf, nan = float("inf"), float("nan")
        image = ImageSet(random_images(1, (1, 1, 1)))
        for draws, expected in {
            (inf, inf): inf,
            (inf, 3.0): 4.0,
            (2.0, -inf): -inf,
            (nan, 1.0): nan,
            (2.0,): 2,
        }.items():
            bits = bits_per_dim(Known(*draws), image, importance_samples=len(draws))
            torch.testing.assert_close(bits, torch.tensor([expected], dtype=torch.float64), equal_nan=True)


class TestPng:
    def test_bits_per_dim_of_known_files(self, tmp_path: Path) -> None:
        images = PhotoSource(32).test.images[:4]
        sizes = []
        for i, image in enumerate(images):
            Image.fromarray(image.movedim(0, -1).numpy()).save(tmp_path / f"{i}.png", optimize=True)
            sizes.append((tmp_path / f"{i}.png").stat().st_size - 57)
        assert png_bits_per_dim(images) == pytest.approx(8 * np.mean(sizes) / 3072)
        with pytest.raises(ValueError, match="images must hold at least one image"):
            png_bits_per_dim(random_images(0))


@pytest.mark.cuda
def test_cuda_agrees_with_the_cpu_and_its_generator_stays() -> None:
    training, images = ImageSet(random_images(40)), random_images(9, seed=1)
    flow, state = random_flow("variational").cuda(), torch.cuda.get_rng_state()
    bits = bits_per_dim(flow, ImageSet(images), samples=50)
    assert torch.equal(torch.cuda.get_rng_state(), state) and bits.device.type == "cpu"
    torch.testing.assert_close(
        bits.mean(), bits_per_dim(flow.cpu(), ImageSet(images), samples=50).mean(), rtol=0.02, atol=0
    )
    for cuda, cpu in zip(
        nearest_images(images.cuda(), [training], 3), nearest_images(images, [training], 3), strict=True
    ):
        torch.testing.assert_close(cuda.cpu(), cpu)
