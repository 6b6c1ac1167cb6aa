"""Image sources: batches are pure functions, splits are disjoint and the same in every run."""

from __future__ import annotations

import pickle
from itertools import chain
from typing import Any

import pytest
import torch
from imagefiles import pixels

from nflows_woodbury.data import sources
from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.data.photos import PhotoSource
from nflows_woodbury.data.sources import ArraySource


def numbered(count: int, start: int = 0) -> ImageSet:
    """Images of one pixel and labels that are both their own number, below 256."""
    numbers = torch.arange(start, start + count)
    return ImageSet(numbers.to(torch.uint8).view(-1, 1, 1, 1), numbers)


def source(count: int = 20, **kwargs: Any) -> ArraySource:
    return ArraySource(numbered(count), numbered(5, start=200), **{"validation_size": 0, **kwargs})


def drawn(images: ImageSet) -> list[int]:
    return images.images.flatten().tolist()


# Sets


def test_image_set_refuses_other_dtypes_and_labels() -> None:
    images = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    with pytest.raises(TypeError, match=r"uint8.*float32"):
        ImageSet(images.float())
    with pytest.raises(ValueError, match="shape"):
        ImageSet(images[0])
    with pytest.raises(TypeError, match=r"labels must be int64, got torch\.int32"):
        ImageSet(images, torch.zeros(3, dtype=torch.int32))
    for labels in (torch.zeros(2, dtype=torch.int64), torch.tensor([0, -1, 0])):
        with pytest.raises(ValueError, match="labels must be 3 integers from 0"):
            ImageSet(images, labels)


# Batches


@pytest.fixture(params=[source, lambda: PhotoSource(8)], ids=["array", "photos"])
def any_source(request: pytest.FixtureRequest) -> Any:
    return request.param()


def test_batch_is_a_function_of_its_arguments_only(any_source: sources.ImageSource) -> None:
    first = any_source.batch(7, 6, seed=3).images
    for step, size, seed in [(0, 6, 3), (900, 5, 4), (7, 6, 4)]:
        assert not torch.equal(any_source.batch(step, size, seed=seed).images[:5], first[:5])
    assert torch.equal(any_source.batch(7, 6, seed=3).images, first)
    assert torch.equal(pickle.loads(pickle.dumps(any_source)).batch(7, 6, seed=3).images, first)
    assert first.dtype == torch.uint8
    assert first.shape == (6, *any_source.shape)
    assert first.is_contiguous()


def test_ranks_share_the_global_batch(any_source: sources.ImageSource) -> None:
    for step in range(4):  # step 1 of the array straddles epochs
        parts = [any_source.batch(step, 12, seed=1, rank=rank, world_size=3) for rank in range(3)]
        assert [len(part) for part in parts] == [4, 4, 4]
        whole = any_source.batch(step, 12, seed=1)
        assert torch.equal(torch.cat([part.images for part in parts]), whole.images)


def test_ranks_are_disjoint_within_an_epoch() -> None:
    parts = [drawn(source(20).batch(0, 20, seed=1, rank=rank, world_size=4)) for rank in range(4)]
    assert sorted(chain.from_iterable(parts)) == list(range(20))


@pytest.mark.parametrize("batch_size", [1, 4, 6, 7, 20])
def test_every_image_comes_once_per_epoch(batch_size: int) -> None:
    images = source(20)
    steps = range(60 // batch_size + 1)
    stream = [number for step in steps for number in drawn(images.batch(step, batch_size, seed=5))]
    epochs = [stream[start : start + 20] for start in (0, 20, 40)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(20))] * 3
    assert epochs[0] != epochs[1] != epochs[2]


def test_labels_go_with_their_images() -> None:
    batch = source().batch(2, 9, seed=0)
    assert batch.labels is not None
    assert batch.labels.dtype == torch.int64
    assert batch.labels.tolist() == drawn(batch)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be a positive integer, got 0"),
        ({"batch_size": 21}, ValueError, "batch_size must be at most the 20 training images, got 21"),
        ({"batch_size": 5, "world_size": 2}, ValueError, "batch_size must be a multiple of world_size"),
        ({"step": -1}, ValueError, "step must be an integer from 0, got -1"),
        ({"step": 1.0}, TypeError, "step must be an integer from 0, got 1.0"),
        ({"seed": True}, TypeError, "seed must be an integer from 0, got True"),
        ({"rank": 2, "world_size": 2}, ValueError, r"rank must be below world_size \(2\), got 2"),
        ({"world_size": 0}, ValueError, "world_size must be a positive integer, got 0"),
    ],
    ids=str,
)
def test_batch_names_the_argument_that_is_wrong(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"step": 0, "batch_size": 4, "seed": 0, **change}
    with pytest.raises(error, match=message):
        source().batch(**arguments)


@pytest.mark.parametrize("batch_size", [1, 7, 20, 50])
def test_training_gives_every_image_once_in_order(batch_size: int) -> None:
    parts = [drawn(part) for part in source(20).training(batch_size)]
    assert list(chain.from_iterable(parts)) == list(range(20))
    assert [len(part) for part in parts[:-1]] == [batch_size] * (len(parts) - 1)


def test_training_names_a_wrong_batch_size() -> None:
    with pytest.raises(ValueError, match="batch_size must be a positive integer, got 0"):
        source().training(0)


# Images in memory


def test_validation_is_held_out_the_same_for_every_run() -> None:
    images = source(200, validation_size=None)
    assert images.validation is not None
    held_out = drawn(images.validation)
    assert len(held_out) == 10
    assert drawn(source(200, validation_size=10).validation) == held_out
    for seed in range(3):
        assert sorted(drawn(images.batch(0, 190, seed=seed)) + held_out) == list(range(200))


def test_validation_may_be_given_or_left_out() -> None:
    assert source(19, validation_size=None).validation is None
    given = numbered(3, start=100)
    assert source(validation=given, validation_size=None).validation is given
    assert sorted(drawn(source(validation=given).batch(0, 20, seed=0))) == list(range(20))
    with pytest.raises(ValueError, match="validation_size must be below 1, as validation is given, got 2"):
        source(validation=given, validation_size=2)
    with pytest.raises(ValueError, match=r"validation_size must be below 20, the number of .*got 20"):
        source(validation_size=20)
    with pytest.raises(ValueError, match="validation_size must be an integer from 0, got -1"):
        source(validation_size=-1)


def test_default_validation_has_at_most_1000_images() -> None:
    images = ImageSet(torch.zeros(30_000, 1, 1, 1, dtype=torch.uint8))
    assert len(ArraySource(images, images).validation or ()) == 1000


def test_attributes_follow_from_the_sets() -> None:
    images = ArraySource(ImageSet(torch.zeros(3, 1, 4, 6, dtype=torch.uint8)), name="grey")
    assert (images.name, images.shape, images.num_classes) == ("grey", (1, 4, 6), None)
    assert (len(images.test), images.validation) == (1, None)
    assert source().num_classes == 205


@pytest.mark.parametrize("labels", [None, torch.tensor([1, 2])], ids=["unlabelled", "other shape"])
def test_sets_must_be_alike(labels: torch.Tensor | None) -> None:
    side = 1 if labels is None else 2
    other = ImageSet(torch.zeros(2, 1, side, side, dtype=torch.uint8), labels)
    for sets in [(numbered(3), other), (numbered(3), numbered(0))]:
        with pytest.raises(ValueError, match=r"must be alike in shape and labels, got \("):
            ArraySource(*sets)


def test_test_images_are_held_out_the_same_for_every_run() -> None:
    images = ArraySource(numbered(200), test_images=30)
    assert images.validation is not None
    assert (len(images.test), len(images.validation), images.train_size) == (30, 10, 160)
    assert drawn(ArraySource(numbered(200), test_images=30, validation_size=0).test) == drawn(images.test)
    assert images.test.labels is not None
    assert images.test.labels.tolist() == drawn(images.test)
    for seed in range(2):
        batch = drawn(images.batch(0, 160, seed=seed))
        assert sorted(batch + drawn(images.test) + drawn(images.validation)) == list(range(200))


@pytest.mark.parametrize(
    ("test_images", "error", "message"),
    [
        (20, ValueError, "test_images must be below 20, the number of images, got 20"),
        (0, ValueError, "test_images must be a positive integer, got 0"),
        (1.5, TypeError, "test_images must be a positive integer, got 1.5"),
    ],
)
def test_test_images_must_fit(test_images: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ArraySource(numbered(20), test_images=test_images)
    with pytest.raises(ValueError, match=r"test_images must be None where test is given, got "):
        ArraySource(numbered(20), numbered(5), test_images=test_images)
    with pytest.raises(ValueError, match="two or more images to hold a test set out of them, got 1"):
        ArraySource(numbered(1))


def test_training_images_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    take = ImageSet.take
    monkeypatch.setattr(ImageSet, "take", lambda self, rows: taken.append(len(rows)) or take(self, rows))
    images = torch.zeros(200, 1, 2, 2, dtype=torch.uint8)
    source = ArraySource(ImageSet(images), test_images=20)
    assert taken == [20, len(source.validation or ())], "only what is held out"
    assert source._train.images.data_ptr() == images.data_ptr()


def test_images_with_other_strides_come_contiguous() -> None:
    images = ImageSet(torch.from_numpy(pixels(20, 4, 4, 3)).movedim(3, 1))
    assert ArraySource(images).batch(0, 4, seed=0).images.is_contiguous()
