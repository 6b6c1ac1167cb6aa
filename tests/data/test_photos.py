"""Crops of the embedded photographs: uniform, all of them, and none of training in the test set."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from imagefiles import pixels

from nflows_woodbury.data import photos
from nflows_woodbury.data.photos import PhotoSource

PHOTO_SHAPES = {"astronaut": (512, 512), "coffee": (400, 600), "cat": (300, 451), "rocket": (427, 640)}


@pytest.fixture
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Photos whose first channel marks the right quarter, and whose second is the photo's number."""
    import skimage.data

    for number, (name, shape) in enumerate(PHOTO_SHAPES.items()):
        photo = np.zeros((*shape, 3), np.uint8)
        photo[:, shape[1] * 3 // 4 :, 0] = 255
        photo[:, :, 1] = number
        monkeypatch.setattr(skimage.data, name, lambda photo=photo: photo)


@pytest.mark.usefixtures("columns")
def test_train_crops_never_touch_the_right_quarter() -> None:
    photos = PhotoSource(32)
    train = torch.cat([photos.batch(step, 500, seed=0).images for step in range(4)])
    assert (train[:, 0] == 0).all()
    assert (photos.test.images[:, 0] == 255).all()
    for images in (train, photos.test.images):
        seen = images[:, 1].flatten(1).unique(dim=1)
        assert seen.shape[1] == 1, "a crop lies in one photo"
        assert seen.unique().tolist() == [0, 1, 2, 3]


@pytest.mark.usefixtures("columns")
def test_crops_are_uniform_over_the_positions_of_all_photos() -> None:
    photos = PhotoSource(32)
    numbers = torch.cat([photos.batch(step, 1000, seed=1).images[:, 1, 0, 0] for step in range(10)])
    positions = [(h - 31) * (w * 3 // 4 - 31) for h, w in PHOTO_SHAPES.values()]
    expected = torch.tensor(positions) / sum(positions)
    assert (numbers.long().bincount() / len(numbers) - expected).abs().max() < 0.02


def test_every_crop_number_is_one_crop() -> None:
    panels = [torch.from_numpy(pixels(3, 6, 5)), torch.from_numpy(pixels(3, 4, 7))]
    places = [(x, i, j) for x in panels for i in range(x.shape[1] - 2) for j in range(x.shape[2] - 2)]
    expected = [panel[:, row : row + 3, column : column + 3] for panel, row, column in places]
    crops = photos._crops(panels, (3, 3), np.arange(len(expected)))
    assert torch.equal(crops.images, torch.stack(expected))


def test_photos_have_a_fixed_test_set_and_no_labels() -> None:
    photos = PhotoSource()
    assert (photos.name, photos.shape) == ("photos", (3, 32, 32))
    assert (photos.num_classes, photos.validation) == (None, None)
    assert photos.test.images.shape == (512, 3, 32, 32)
    assert photos.test.labels is None
    assert torch.equal(photos.test.images, PhotoSource(32).test.images)
    assert PhotoSource(113).batch(0, 2, seed=0).images.shape == (2, 3, 113, 113)


def test_photo_size_must_fit() -> None:
    with pytest.raises(ValueError, match=r"size must be at most 113 .*got 114"):
        PhotoSource(114)
    with pytest.raises(TypeError, match="size must be a positive integer"):
        PhotoSource(8.5)  # type: ignore[arg-type]


def test_training_of_photos_gives_every_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    import skimage.data

    images = {name: pixels(20, 60, 3) for name in PHOTO_SHAPES}
    for name, photo in images.items():
        monkeypatch.setattr(skimage.data, name, lambda photo=photo: photo)
    photos = PhotoSource(5)
    seen = torch.cat([part.images for part in photos.training(1000)])
    places = [(x, i, j) for x in images.values() for i in range(16) for j in range(41)]
    assert len(seen) == photos.train_size == len(places)
    expected = np.stack([photo[i : i + 5, j : j + 5] for photo, i, j in places])
    assert np.array_equal(seen.movedim(1, 3), expected)
