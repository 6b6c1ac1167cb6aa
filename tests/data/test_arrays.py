"""Numpy's files: .npz archives and memory-mapped .npy arrays."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from imagefiles import Payload, nhwc, pixels, trained_on

from nflows_woodbury.data.opening import load_npy, load_npz, open_source

# .npz


@pytest.mark.parametrize("labelled", [False, True])
def test_npz_with_a_split(labelled: bool, tmp_path: Path) -> None:
    arrays = {"train": pixels(30, 4, 6, 3), "test": pixels(3, 4, 6, 3), "names": np.array(["ignored"])}
    labels = {"train_labels": np.arange(30, dtype=np.uint8), "test_labels": np.arange(3)} if labelled else {}
    np.savez(tmp_path / "set.npz", **arrays, **labels)
    images = load_npz(tmp_path / "set.npz")
    assert (images.name, images.shape, images.num_classes) == ("set", (3, 4, 6), 30 if labelled else None)
    assert np.array_equal(nhwc(images._train), arrays["train"])
    assert np.array_equal(nhwc(images.test), arrays["test"])
    if labelled:
        assert images.test.labels is not None
        assert images.test.labels.tolist() == [0, 1, 2]
        batch = images.batch(0, 8, seed=0)
        assert batch.labels is not None
        assert np.array_equal(nhwc(batch), arrays["train"][batch.labels.numpy()])


@pytest.mark.parametrize("keys", [("x", "y"), ("x", "labels"), ("images", "y"), ("images", None)], ids=str)
@pytest.mark.parametrize("grey", [(), (1,)], ids=["NHW", "NHW1"])
def test_npz_without_a_split(keys: tuple[str, str | None], grey: tuple[int, ...], tmp_path: Path) -> None:
    array = pixels(20, 4, 4, *grey)
    labels = {keys[1]: np.arange(20)} if keys[1] else {}
    np.savez(tmp_path / "set.npz", **{keys[0]: array, **labels})
    images = load_npz(tmp_path / "set.npz")
    assert images.shape == (1, 4, 4)
    assert images.num_classes == (20 if labels else None)
    everything = torch.cat([images.test.images, trained_on(images).images]).numpy()
    assert sorted(map(bytes, everything)) == sorted(map(bytes, array))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"x": np.ones((2, 4, 4, 3), np.float32)},
            "set.npz: x must be uint8 .*got float32 from 1.0 to 1.0; floats",
        ),
        ({"x": np.full((2, 4, 4, 3), 300)}, "x must be uint8 from 0 to 255, got int64 from 300 to 300"),
        ({"x": np.array(["a"])}, "x must be uint8 from 0 to 255, got <U1"),
        ({"x": pixels(2, 5, 4, 4)}, r"x must have shape .*\(N, 3, h, w\), got \(2, 5, 4, 4\)"),
        ({"x": pixels(4, 4)}, r"x must have shape .*got \(4, 4\)"),
        ({"x": pixels(0, 4, 4)}, r"x must have shape .*got \(0, 4, 4\)"),
        ({"x": pixels(2, 4, 4), "y": np.zeros(2)}, r"x needs 2 integers from 0 as y, got float64 \(2,\)"),
        ({"x": pixels(2, 4, 4), "y": np.zeros(3, int)}, r"x needs 2 integers from 0 as y, got int64 \(3,\)"),
        ({"x": pixels(2, 4, 4), "y": np.array([0, -1])}, "x needs 2 integers from 0 as y"),
        ({"x": np.array([None])}, "cannot be read as an .npz archive: Object arrays cannot be loaded"),
        ({"test": pixels(2, 4, 4)}, "must hold train and test .*got test"),
        ({"z": pixels(2, 4, 4)}, "must hold train and test .*got z"),
        ({"x": pixels(2, 4, 4), "y": np.zeros(2, int), "labels": np.zeros(2, int)}, "got x, y, labels"),
        ({"train": pixels(2, 4, 4), "test": pixels(2, 4, 4), "test_labels": np.zeros(2, int)}, "must hold"),
        ({"train": pixels(2, 4, 4), "test": pixels(2, 5, 5)}, "must be alike in shape"),
        ({"x": pixels(1, 4, 4)}, "two or more images to hold a test set out of them, got 1"),
    ],
)
def test_npz_that_does_not_fit_is_explained(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_npz(tmp_path / "set.npz")


X, Y = pixels(18, 4, 4, 3), np.arange(18)
ARCHIVES: dict[str, tuple[dict[str, Any], tuple[int, int], int | None]] = {
    "Keras": ({"x_train": X, "y_train": Y, "x_test": X[:5], "y_test": Y[:5]}, (18, 5), 18),
    "Keras, labels in a column": (
        {"x_train": X, "y_train": Y[:, None], "x_test": X[:5], "y_test": Y[:5, None]}, (18, 5), 18),
    "Keras without labels": ({"x_train": X, "x_test": X[:5]}, (18, 5), None),
    "Keras with validation": ({"x_train": X, "x_val": X[:2], "x_test": X[:5]}, (18, 5), None),
    "capitals": ({"X_train": X, "Y_train": Y, "X_test": X[:5], "Y_test": Y[:5]}, (18, 5), 18),
    "MedMNIST": (
        {f"{part}_{kind}": x for part in ("train", "val", "test") for kind, x in (("images", X), ("labels", Y))},
        (18, 18), 18),
    "words the other way": (
        {"images_train": X, "labels_train": Y, "images_test": X[:5], "labels_test": Y[:5]}, (18, 5), 18),
    "train and val": ({"train": X, "val": X[:5]}, (18, 5), None),
    "train and validation": ({"x_train": X, "x_validation": X[:5]}, (18, 5), None),
    "training and testing": ({"training": X, "testing": X[:5]}, (18, 5), None),
    "train alone": ({"x_train": X, "y_train": Y}, (17, 1), 18),
    "positional": ({"arr_0": X}, (17, 1), None),
    "positional with labels": ({"arr_0": X, "arr_1": Y}, (17, 1), 18),
    "positional with something else": ({"arr_0": X, "arr_1": X[:3]}, (17, 1), None),
    "channels first": ({"x": X.transpose(0, 3, 1, 2)}, (17, 1), None),
    "grey": ({"x_train": X[..., 0], "x_test": X[:5, ..., 0]}, (18, 5), None),
    "other arrays": ({"x": X, "mean": np.zeros(3), "names": np.array(["a"])}, (17, 1), None),
}  # fmt: skip


@pytest.mark.parametrize(("arrays", "counts", "classes"), ARCHIVES.values(), ids=ARCHIVES)
def test_npz_as_many_sets_come(
    arrays: dict[str, Any], counts: tuple[int, int], classes: int | None, tmp_path: Path
) -> None:
    np.savez(tmp_path / "set.npz", **arrays)
    source = open_source(str(tmp_path / "set.npz"))
    assert (source.train_size, len(source.test)) == counts
    assert source.num_classes == classes
    seen = trained_on(source)
    if classes:
        assert seen.labels is not None
        assert np.array_equal(nhwc(seen), X[seen.labels.numpy()])


@pytest.mark.parametrize("shape", [(20, 6, 10, 3), (20, 10, 6), (20, 1, 10, 6)], ids=str)
def test_arrays_that_are_no_squares_take_their_own_size(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x=pixels(*shape))
    np.save(tmp_path / "set.npy", pixels(*shape))
    for kind in ("npz", "npy"):
        source = open_source(str(tmp_path / f"set.{kind}"))
        again = open_source(str(tmp_path / f"set.{kind}"), size=source.shape[1:])
        assert again.shape == source.shape
    assert open_source(str(tmp_path / "set.npy"), size=(4, 8)).shape[1:] == (4, 8)
    with pytest.raises(ValueError, match=r"size must be None or as in .*got \(4, 8\)"):
        open_source(str(tmp_path / "set.npz"), size=(4, 8))
    with pytest.raises(ValueError, match=r"size must be one side or \(height, width\), got \(1, 2, 3\)"):
        open_source(str(tmp_path / "set.npz"), size=(1, 2, 3))


def test_npz_object_array_runs_nothing(tmp_path: Path) -> None:
    written = tmp_path / "written"
    np.savez(tmp_path / "set.npz", x=np.array([Payload(written)]))
    with pytest.raises(ValueError, match=r"set\.npz cannot be read"):
        load_npz(tmp_path / "set.npz")
    (tmp_path / "set.npz").write_bytes(pickle.dumps(Payload(written)))
    with pytest.raises(ValueError, match=r"set\.npz cannot be read"):
        load_npz(tmp_path / "set.npz")
    assert not written.exists()
    with pytest.raises(FileNotFoundError, match="absent"):
        load_npz(tmp_path / "absent.npz")


def test_npz_may_hold_out_test_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x=pixels(20, 4, 4))
    assert len(load_npz(tmp_path / "set.npz", test_images=7).test) == 7
    np.savez(tmp_path / "set.npz", train=pixels(20, 4, 4), test=pixels(2, 4, 4))
    with pytest.raises(ValueError, match=r"test_images must be None, as .*set\.npz' has a test set of its own, got 7"):
        load_npz(tmp_path / "set.npz", test_images=7)


# .npy


@pytest.mark.parametrize("shape", [(30, 4, 6, 3), (30, 3, 4, 6), (30, 4, 6), (30, 4, 6, 1)], ids=str)
def test_npy_stays_on_disk(shape: tuple[int, ...], tmp_path: Path) -> None:
    array = pixels(*shape)
    np.save(tmp_path / "set.npy", array)
    images = load_npy(tmp_path / "set.npy", test_images=10)
    channels = 3 if 3 in shape else 1
    assert (images.name, images.shape, images.num_classes) == ("set", (channels, 4, 6), None)
    assert len(images.test) == 10
    assert images.validation is not None
    expected = array if shape[-1] in (1, 3) else array.transpose(0, 2, 3, 1) if shape[1] == 3 else array[..., None]
    every = np.concatenate([nhwc(images.test), nhwc(trained_on(images)), nhwc(images.validation)])
    assert sorted(map(bytes, every)) == sorted(map(bytes, expected))
    assert images.batch(0, 4, seed=0).images.is_contiguous()
    before = (tmp_path / "set.npy").read_bytes()
    images._train.images[:] = 0  # mapped, yet changes do not reach the file
    assert (tmp_path / "set.npy").read_bytes() == before


@pytest.mark.parametrize("shape", [(3, 8, 24, 3), (3, 3, 8, 24), (3, 8, 24)], ids=str)
def test_npy_is_resized_as_a_folder_is(shape: tuple[int, ...], tmp_path: Path) -> None:
    array = np.zeros(shape, np.uint8)
    array.swapaxes(1, 2)[(slice(None), slice(8, 16)) if shape[1] == 8 else (slice(None),) * 3 + (slice(8, 16),)] = 200
    if shape[1] == 3:
        array[:] = 0
        array[..., 8:16] = 200
    np.save(tmp_path / "set.npy", array)
    images = load_npy(tmp_path / "set.npy", 4)
    assert images.shape == (3 if 3 in shape[1:] else 1, 4, 4)
    assert (trained_on(images).images > 180).all(), "the centre square alone"
    same = load_npy(tmp_path / "set.npy")
    assert same.shape[1:] == (8, 24)


def test_npy_of_the_right_size_is_mapped_as_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "set.npy", pixels(5, 4, 4, 3))
    load_npy(tmp_path / "set.npy", 4, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    load_npy(tmp_path / "set.npy", 2, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1


def test_npy_that_does_not_fit_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "set.npy"
    for array, message in [
        (np.ones((2, 4, 4, 3), np.float32), r"set\.npy must be uint8 .*got float32 from 1.0 to 1.0; floats"),
        (pixels(2, 5, 4, 4), r"set\.npy must have shape .*got \(2, 5, 4, 4\)"),
        (pixels(4, 4), r"set\.npy must have shape .*got \(4, 4\)"),
        (pixels(1, 4, 4), "two or more images"),
        (np.array([None, None]), r"set\.npy cannot be read as an \.npy array"),
    ]:
        np.save(path, array, allow_pickle=True)
        with pytest.raises(ValueError, match=message):
            load_npy(path)
    np.save(path, pixels(4, 4, 4))
    whole = path.read_bytes()
    for content in (whole[:-1], whole + b"0", b"", pickle.dumps(Payload(tmp_path / "written"))):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"set\.npy cannot be read as an \.npy array"):
            load_npy(path)
    assert not (tmp_path / "written").exists()
    with pytest.raises(FileNotFoundError, match="absent"):
        load_npy(tmp_path / "absent.npy")
