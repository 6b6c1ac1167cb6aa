"""Arrays of floats: which are fields, which are images of 8 bits, and which shapes are taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nflows_woodbury.data.fields import is_field_array
from nflows_woodbury.data.images import FieldSet, ImageSet
from nflows_woodbury.data.opening import load_npy, load_npz, open_source
from nflows_woodbury.data.sources import ArraySource

RANDOM = np.random.default_rng(0)
BYTES = RANDOM.integers(256, size=(30, 8, 8)).astype(np.float32)


def saved(path: Path, array: np.ndarray) -> Path:
    np.save(path / "set.npy", array)
    return path / "set.npy"


@pytest.mark.parametrize(
    "given, shape",
    [((8, 6), (1, 8, 6)), ((2, 8, 6), (2, 8, 6)), ((3, 4, 3), (3, 4, 3)), ((1, 4, 4, 4), (1, 4, 4, 4))],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"], ids=str)
def test_shapes_and_dtypes(given: tuple[int, ...], shape: tuple[int, ...], dtype, tmp_path: Path) -> None:
    array = RANDOM.standard_normal((30, *given)).astype(dtype)
    source = open_source(str(saved(tmp_path, array)), test_images=10)
    assert source.is_fields and source.shape == shape and len(source.test) == 10
    assert source.test.images.dtype == (torch.float64 if dtype == np.float64 else torch.float32)
    whole = source.whole().images.numpy()
    assert isinstance(source.whole(), FieldSet) and np.array_equal(whole.reshape(array.shape), array)
    assert isinstance(source.batch(0, 4, seed=0), FieldSet) and source.fingerprint() is not None


def test_archives_hold_fields_with_parts_and_labels(tmp_path: Path) -> None:
    x, y = RANDOM.standard_normal((30, 8, 8)), np.arange(30) % 3
    np.savez(tmp_path / "set.npz", x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])
    source = load_npz(tmp_path / "set.npz")
    assert source.is_fields and source.num_classes == 3 and len(source.test) == 10 and source.class_counts() == [10] * 3


@pytest.mark.parametrize("scaled", [BYTES / 255, BYTES, BYTES / 127.5 - 1], ids=["0 to 1", "0 to 255", "-1 to 1"])
def test_floats_of_eight_bit_images_are_told_to_be_bytes(scaled: np.ndarray, tmp_path: Path) -> None:
    assert not is_field_array(scaled) and is_field_array(scaled + RANDOM.standard_normal(scaled.shape))
    with pytest.raises(ValueError, match=r"set\.npy must be uint8 from 0 to 255, got float32 .*; floats in \[0, 1\]"):
        load_npy(saved(tmp_path, scaled))


BAD = {
    "channels last": (RANDOM.standard_normal((9, 8, 8, 3)), r"got \(9, 8, 8, 3\), whose last axis looks like channels"),
    "vectors": (RANDOM.standard_normal((9, 8)), r"fields of shape \(N, height, width\), .* got \(9, 8\)"),
    "six axes": (RANDOM.standard_normal((3, 2, 2, 2, 2, 2)), r"got \(3, 2, 2, 2, 2, 2\)"),
    "complex": (RANDOM.standard_normal((9, 8, 8)) * 1j, "must be uint8 from 0 to 255, got complex128; .*fields"),
    "integers": (RANDOM.integers(9, size=(9, 8, 8)), r"must be uint8 from 0 to 255, got int64 from 0 to 8; .*fields"),
    "empty": (np.zeros((0, 8, 8)), "got float64"),
}


@pytest.mark.parametrize("name", BAD)
def test_other_arrays_are_refused(name: str, tmp_path: Path) -> None:
    array, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        load_npy(saved(tmp_path, array))


def test_what_is_not_finite_is_counted(tmp_path: Path) -> None:
    array = RANDOM.standard_normal((30, 8, 8))
    array[[3, 17], 0, 0] = np.nan, np.inf
    with pytest.raises(ValueError, match="must be finite, got NaN or infinity in 2 of 30 fields; leave those out"):
        load_npy(saved(tmp_path, array))


def test_fields_and_images_do_not_mix() -> None:
    fields, images = FieldSet(torch.randn(4, 1, 8, 8)), ImageSet(torch.zeros(4, 1, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="must be alike"):
        ArraySource(fields, images)
    with pytest.raises(TypeError, match=r"fields must be a float32 or float64 tensor, got torch\.uint8"):
        FieldSet(images.images)
