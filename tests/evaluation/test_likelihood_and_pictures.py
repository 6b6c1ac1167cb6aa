"""Evaluation: the numbers are those of their formulas, and the pictures show what their names say."""

from __future__ import annotations

from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from nflows.distributions import StandardNormal
from PIL import Image

from nflows_woodbury import ActNorm, Chain, ImageFlow, Multiscale, Squeeze, UniformDequantize, VariationalDequantize
from nflows_woodbury.config import FlowConfig
from nflows_woodbury.data.photos import PhotoSource
from nflows_woodbury.data.sources import ImageSet
from nflows_woodbury.evaluation.likelihood import bits_per_dim, png_bits_per_dim
from nflows_woodbury.evaluation.pictures import image_grid, png_bytes, save_png
from nflows_woodbury.evaluation.samples import (
    class_numbers,
    interpolations,
    nearest_images,
    reconstructions,
    sample_classes,
)

FLOW = FlowConfig(shape=(3, 16, 16), levels=2, steps=1, hidden_channels=8)
DEQUANTIZERS = ["uniform", "variational"]


def random_flow(dequantize: str = "uniform", classes: int = 0) -> ImageFlow:
    """A float64 flow of 1 x 4 x 4 images, away from its start."""
    torch.manual_seed(3)
    config = FlowConfig((1, 4, 4), levels=1, steps=1, hidden_channels=4, dequantize=dequantize, num_classes=classes)
    flow = config.build().double()
    return disturbed(flow)


def disturbed(flow: torch.nn.Module, size: float = 0.1) -> torch.nn.Module:
    for parameter in flow.parameters():
        parameter.data += size * torch.randn_like(parameter)
    return flow


def random_images(count: int, shape: tuple[int, int, int] = (1, 4, 4), seed: int = 0, high: int = 256) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(high, (count, *shape), dtype=torch.uint8, generator=generator)


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


SCALES, BIASES = torch.tensor([5.0, 4.0, 3.0, 6.0]), torch.tensor([0.1, -0.2, 0.3, 0.0])


def normal_flow(dequantize: str, bits: int = 1) -> ImageFlow:
    """Images of 4 pixels, whose noise is ``z = scale (y + bias)``, pixel by pixel."""
    torch.manual_seed(0)
    norm = ActNorm(4)
    norm.log_scale.data, norm.bias.data = SCALES.log(), BIASES.clone()
    first = (
        UniformDequantize(bits)
        if dequantize == "uniform"
        else VariationalDequantize((1, 2, 2), bits, hidden_channels=4)
    )
    chain = Chain([disturbed(first, 0.05), Multiscale([Chain([Squeeze(), norm])], shapes=[(4, 1, 1)])])
    return ImageFlow(chain, StandardNormal((4,)), shape=(1, 2, 2)).double()


def every_binary_image() -> tuple[torch.Tensor, torch.Tensor]:
    """The 16 images uint8 (16, 1, 2, 2) of two values, and their probabilities under ``normal_flow``, (16,)."""
    images = 128 * torch.cartesian_prod(*[torch.arange(2)] * 4).to(torch.uint8).view(16, 1, 2, 2)
    lower = (images.flatten(1).double() / 128) / 2 - 0.5
    cdf = torch.special.ndtr
    bins = cdf(SCALES * (lower + 0.5 + BIASES)) - cdf(SCALES * (lower + BIASES))
    return images, bins.prod(1)


class TestPng:
    def test_bits_per_dim_of_known_files(self, tmp_path: Path) -> None:
        images = PhotoSource(32).test.images[:4]
        sizes = []
        for i, image in enumerate(images):
            Image.fromarray(image.movedim(0, -1).numpy()).save(tmp_path / f"{i}.png", optimize=True)
            sizes.append((tmp_path / f"{i}.png").stat().st_size - 57)
        assert png_bits_per_dim(images) == pytest.approx(8 * np.mean(sizes) / 3072)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_saved_pixels_are_the_image(self, channels: int, tmp_path: Path) -> None:
        image = random_images(1, (channels, 5, 7))[0]
        path = save_png(image, str(tmp_path / "new" / "image.png"), zoom=3)
        with Image.open(path) as read:
            pixels = np.asarray(read).reshape(15, 21, channels)
        assert np.array_equal(pixels[1::3, 2::3], image.movedim(0, -1).numpy())
        assert [p.name for p in path.parent.iterdir()] == ["image.png"]

    def test_other_images_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(TypeError, match=r"image must be a uint8 tensor, got torch.float32"):
            png_bytes(torch.zeros(3, 4, 4))
        with pytest.raises(ValueError, match=r"image must have shape \(1, h, w\) or \(3, h, w\), got \(2, 4, 4\)"):
            save_png(random_images(1, (2, 4, 4))[0], tmp_path / "two.png")
        with pytest.raises(ValueError, match="zoom must be a positive integer, got 0"):
            save_png(random_images(1)[0], tmp_path / "none.png", zoom=0)
        with pytest.raises(ValueError, match="images must hold at least one image"):
            png_bits_per_dim(random_images(0))
        assert not list(tmp_path.iterdir())


class TestPictures:
    def test_grids_put_images_row_by_row(self) -> None:
        images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 3, 4, 6) * 10
        grid = image_grid(images, columns=3, gap=1)
        assert grid.shape == (3, 2 * 5 + 1, 3 * 7 + 1)
        assert [int(grid[0, 2 + 5 * (i // 3), 3 + 7 * (i % 3)]) for i in range(6)] == [0, 10, 20, 30, 40, 255]
        assert (grid[:, 0] == 255).all() and (grid[:, :, 0] == 255).all()

    def test_reconstructions_are_exact_in_float64(self) -> None:
        torch.manual_seed(0)
        images = PhotoSource(16).test.images[:20]
        assert torch.equal(reconstructions(FLOW.build().double(), images), images)

    def test_samples_take_the_classes_in_turn_or_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        flow, seen = random_flow(classes=3), []
        sample = flow.sample
        monkeypatch.setattr(
            flow, "sample", lambda n, labels, **k: seen.append(labels.tolist()) or sample(n, labels, **k)
        )
        assert sample_classes(flow, 5).shape == sample_classes(flow, 5, label=1).shape == (5, 1, 4, 4)
        assert seen == [[0, 1, 2, 0, 1], [1] * 5]
        for classes, label in ((3, 3), (3, -1), (0, 0)):
            with pytest.raises(ValueError, match=rf"label must be one of the model's {classes} classes, from 0, got"):
                sample_classes(random_flow(classes=classes), 5, label=label)
        with pytest.raises(ValueError, match="count must be a positive integer, got 0"):
            sample_classes(flow, 0)


class TestInterpolations:
    @pytest.mark.parametrize("dequantize", DEQUANTIZERS)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_ends_are_the_reconstructions(self, dequantize: str, dtype: torch.dtype) -> None:
        flow, (first, second) = random_flow(dequantize).to(dtype), random_images(12).split(6)
        torch.manual_seed(1)
        ends = [reconstructions(flow, images) for images in (first, second)]
        torch.manual_seed(1)
        pictures = interpolations(flow, first, second, 5)
        assert pictures.shape == (6, 5, 1, 4, 4) and pictures.dtype == torch.uint8
        assert torch.equal(pictures[:, 0], ends[0]) and torch.equal(pictures[:, -1], ends[1])

    def test_equal_the_formula_written_plainly(self) -> None:
        flow, (first, second) = random_flow(classes=3), random_images(8).split(4)
        contexts = [torch.eye(3, dtype=torch.float64)[labels] for labels in ([0, 1, 2, 2], [1, 1, 0, 2])]
        torch.manual_seed(1)
        pictures = interpolations(flow, first, second, 4, (contexts[0], contexts[1]))
        same = interpolations(flow, first, second, 4, contexts[0])
        torch.manual_seed(1)
        for got, end in ((pictures, contexts[1]), (same, contexts[0])):
            start_noise, end_noise = flow.transform_to_noise(first, contexts[0]), flow.transform_to_noise(second, end)
            for i in range(4):
                noise, rows = (a + (b - a) * i / 3 for a, b in ((start_noise, end_noise), (contexts[0], end)))
                assert torch.equal(got[:, i], flow.transform_from_noise(noise.detach(), rows))

    def test_of_an_affine_flow_are_a_fade(self) -> None:
        flow = normal_flow("uniform", bits=8)
        first, second = random_images(20, (1, 2, 2)).split(10)
        pictures = interpolations(flow, first, second, 6).double()
        for i in range(6):
            assert (pictures[:, i] - torch.lerp(first.double(), second.double(), i / 5)).abs().max() <= 1

    def test_bad_arguments(self) -> None:
        flow, images = random_flow(classes=3), random_images(2)
        cases = [
            ((images, images, 1), ValueError, "num must be at least 2, for both ends, got 1"),
            ((images, images, 2.0), TypeError, "num must be a positive integer"),
            ((images, images[:1], 3), ValueError, r"first and second must be alike in shape, got \(2, .*\(1,"),
            ((images, images.float(), 3), TypeError, "images must be a uint8 tensor"),
            ((*random_images(4, (1, 8, 8)).split(2), 3), ValueError, r"images must have shape \(B, 1, 4, 4\)"),
            ((images, images, 3, (torch.eye(3)[:2], torch.eye(3))), ValueError, "the two contexts must be alike"),
            ((images, images, 3, (torch.tensor([0, 3]),) * 2), ValueError, "class numbers must be from 0 to 2, got 3"),
        ]
        for arguments, error, message in cases:
            with pytest.raises(error, match=message):
                interpolations(flow, *arguments)
        with pytest.raises(TypeError, match=r"context must be floating, .* got torch.int64"):
            interpolations(random_flow(), images, images, 3, (torch.arange(2),) * 2)

    def test_class_numbers_give_the_line_between_their_rows(self) -> None:
        flow, (first, second) = random_flow(classes=3), random_images(8).split(4)
        labels = torch.tensor([0, 1, 2, 2]), torch.tensor([1, 1, 0, 2])
        torch.manual_seed(1)
        pictures = interpolations(flow, first, second, 4, labels)
        torch.manual_seed(1)
        rows = torch.eye(3)[labels[0]], torch.eye(3)[labels[1]]
        assert torch.equal(pictures, interpolations(flow, first, second, 4, rows))


def nearest_plainly(images: torch.Tensor, training: torch.Tensor, num: int) -> tuple[np.ndarray, torch.Tensor]:
    """Squared distances from all differences, in integers, and a sort by them, then by number."""
    differences = images.numpy().astype(np.int64)[:, None] - training.numpy().astype(np.int64)
    squares = (differences**2).sum((2, 3, 4))
    order = np.stack([np.lexsort((np.arange(len(training)), row)) for row in squares])[:, :num]
    return np.take_along_axis(squares, order, 1), training[torch.from_numpy(order)]


class TestNearestImages:
    @pytest.mark.parametrize("size", [1, 7, 40, 100])
    @pytest.mark.parametrize("num", [1, 4, 40])
    @pytest.mark.parametrize("high", [2, 256])
    def test_equal_the_dense_search_in_any_batches(self, size: int, num: int, high: int) -> None:
        """Also among ties, which images of two values are full of."""
        training, images = random_images(40, (2, 3, 2), high=high), random_images(9, (2, 3, 2), seed=1, high=high)
        distances, neighbours = nearest_images(images, map(ImageSet, training.split(size)), num)
        expected, expected_neighbours = nearest_plainly(images, training, num)
        assert np.array_equal(distances.square().round().numpy(), expected) and distances.dtype == torch.float64
        assert torch.equal(neighbours, expected_neighbours)

    def test_are_exact_where_float32_is_not(self) -> None:
        """Bright images of 3 x 64 x 64 whose squared distances differ by 1."""
        image = torch.full((1, 3, 64, 64), 250, dtype=torch.uint8)
        training = image.repeat(30, 1, 1, 1)
        for i, other in enumerate(training.flatten(1)):
            other[: 30 - i] += 1
        distances, neighbours = nearest_images(image, map(ImageSet, training.split(8)), 30)
        assert torch.equal(distances[0].square().round(), torch.arange(1, 31, dtype=torch.float64))
        assert torch.equal(neighbours[0], training.flip(0))
        x, y = image.flatten(1).float(), training.flatten(1).float()
        rounded = (x.square().sum(1) + y.square().sum(1) - 2 * (x @ y.T)[0]).flip(0)
        assert not torch.equal(rounded, torch.arange(1, 31).float())  # or this test would be too easy

    def test_labels_empty_batches_and_own_copies_do_not_matter(self) -> None:
        training = random_images(10, seed=2)
        batches = [ImageSet(training[:0]), ImageSet(training, torch.arange(10)), ImageSet(training[:0])]
        distances, neighbours = nearest_images(training[3:5], batches, 1)
        assert not distances.any() and torch.equal(neighbours[:, 0], training[3:5])
        neighbours += 1
        assert torch.equal(training, random_images(10, seed=2))
        assert nearest_images(training[:0], batches, 2)[1].shape == (0, 2, 1, 4, 4)

    def test_bad_arguments(self) -> None:
        images = random_images(5)
        cases = [
            ((images, [ImageSet(images)], 6), ValueError, "batches must hold at least num = 6 images, got 5"),
            ((images, [], 1), ValueError, "batches must hold at least num = 1 images, got 0"),
            ((images, [ImageSet(images)], 0), ValueError, "num must be a positive integer, got 0"),
            ((images, [images], 1), TypeError, r"batches must be ImageSets, got Tensor; ImageSet\(images\) makes one"),
            ((images.float(), [], 1), TypeError, "images must be a uint8 tensor"),
            (
                (images, [ImageSet(random_images(3, (1, 4, 5)))], 1),
                ValueError,
                r"images and those in batches must be alike in shape, got \(1, 4, 4\) and \(1, 4, 5\)",
            ),
        ]
        for arguments, error, message in cases:
            with pytest.raises(error, match=message):
                nearest_images(*arguments)


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
