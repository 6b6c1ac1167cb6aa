"""Samples, interpolations and nearest images are those of their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from smallflows import DEQUANTIZERS, FLOW, normal_flow, random_flow, random_images

from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.data.photos import PhotoSource
from nflows_woodbury.evaluation.samples import (
    interpolations,
    nearest_images,
    reconstructions,
    sample_classes,
)


class TestSamples:
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
