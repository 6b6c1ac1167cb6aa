"""Downsampled ImageNet in its two official forms, and what is said of incomplete ones."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from imagefiles import Payload, pixels, rng, trained_on, write_image

from nflows_woodbury.data.opening import load_imagenet, open_source

BATCHES = [*(f"train_data_batch_{i}.npz" for i in range(1, 11)), "val_data.npz"]


def write_batch(file: Path, count: int = 2, side: int = 4, compressed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    images, labels = pixels(count, 3 * side * side), rng.integers(1, 1001, size=count)
    file.parent.mkdir(parents=True, exist_ok=True)
    (np.savez_compressed if compressed else np.savez)(file, data=images, labels=labels, mean=images.mean(0))
    return images.reshape(count, 3, side, side), labels


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("train", "val", "given"),
    [
        (["."], ".", "."),
        (["."], "val", "."),
        (["Imagenet64_train_part1_npz", "Imagenet64_train_part2_npz"], "Imagenet64_val_npz", "."),
        (["train"], "val", "."),
        (["here"], "val", "here"),
        (["Imagenet32_train_npz"], "Imagenet32_val_npz", "Imagenet32_train_npz"),
    ],
    ids=str,
)
def test_batches_are_found_where_the_archives_unpack(
    train: list[str], val: str, given: str, compressed: bool, tmp_path: Path
) -> None:
    places = [*(train[0] for _ in range(5)), *(train[-1] for _ in range(5)), val]
    parts = [
        write_batch(tmp_path / place / name, 1 + i % 3, compressed=compressed)
        for i, (place, name) in enumerate(zip(places, BATCHES, strict=True))
    ]
    images = load_imagenet(tmp_path / given)
    got = trained_on(images)
    assert (images.name, images.shape, images.validation) == ("imagenet4", (3, 4, 4), None)
    assert np.array_equal(got.images, np.concatenate([part[0] for part in parts[:10]]))
    assert got.labels is not None
    assert np.array_equal(got.labels + 1, np.concatenate([part[1] for part in parts[:10]]))
    assert images.test.labels is not None
    assert np.array_equal(images.test.images, parts[10][0])
    assert np.array_equal(images.test.labels + 1, parts[10][1])


@pytest.mark.parametrize("name", [BATCHES[0], BATCHES[6], BATCHES[10]])
def test_a_missing_batch_is_named(name: str, tmp_path: Path) -> None:
    for other in BATCHES:
        write_batch(tmp_path / other)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name} is missing, one of the eleven batches"):
        open_source(str(tmp_path))


def test_a_batch_in_two_places_is_refused(tmp_path: Path) -> None:
    for name in BATCHES:
        write_batch(tmp_path / "Imagenet32_train_npz" / name)
    write_batch(tmp_path / "Imagenet64_train_npz" / BATCHES[0], side=8)
    with pytest.raises(ValueError, match=r"must hold train_data_batch_1\.npz once, got .*32.* and .*64"):
        open_source(str(tmp_path))


def test_broken_batches_are_named(tmp_path: Path) -> None:
    for name in BATCHES:
        write_batch(tmp_path / name)
    file, rows, labels = tmp_path / BATCHES[4], pixels(2, 48), np.array([1, 1000])
    for arrays, message in [
        ({"data": rows}, "labels is not a file in the archive"),
        ({"labels": labels}, "data.npy"),
        ({"data": rows.astype(float), "labels": labels}, r"data must be uint8 \(N, 3 s s\), got float64 \(2, 48\)"),
        ({"data": pixels(2, 47), "labels": labels}, r"data must be uint8 \(N, 3 s s\), got uint8 \(2, 47\)"),
        ({"data": pixels(2, 3, 4, 4), "labels": labels}, "data must be uint8"),
        ({"data": np.asfortranarray(rows), "labels": labels}, "data must be uint8"),
        ({"data": rows, "labels": labels[:1]}, r"labels must be 2 integers from 1 to 1000, got int64 \(1,\)"),
        ({"data": rows, "labels": labels - 1}, "labels must be 2 integers from 1 to 1000"),
        ({"data": rows, "labels": labels + 1}, "labels must be 2 integers from 1 to 1000"),
        ({"data": rows, "labels": np.array([Payload(tmp_path / "written")] * 2)}, "Object arrays cannot be loaded"),
        ({"data": np.array([[Payload(tmp_path / "written")]]), "labels": labels}, "data must be uint8"),
    ]:
        np.savez(file, **arrays)
        with pytest.raises(ValueError, match=rf"{file.name} cannot be read as a batch of .*{message}"):
            load_imagenet(tmp_path)
    file.write_bytes(pickle.dumps(Payload(tmp_path / "written")))
    with pytest.raises(ValueError, match=rf"{file.name} cannot be read"):
        load_imagenet(tmp_path)
    assert not (tmp_path / "written").exists()
    write_batch(file, side=5)
    with pytest.raises(ValueError, match=rf"{file.name} must hold images as {BATCHES[0]}, of side 4, got 5"):
        load_imagenet(tmp_path)


def test_a_damaged_batch_is_named_and_leaves_no_cache(tmp_path: Path) -> None:
    for name in BATCHES:
        write_batch(tmp_path / "data" / name, side=64)
    file = tmp_path / "data" / BATCHES[4]
    with zipfile.ZipFile(file) as archive:
        at = archive.getinfo("data.npy").header_offset + 20_000
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{file.name} cannot be read .*Bad CRC-32"):
        load_imagenet(tmp_path / "data", cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def write_pngs(root: Path, side: int) -> None:
    for folder, count in ((f"train_{side}x{side}", 3), (f"valid_{side}x{side}", 2)):
        for i in range(count):
            write_image(root / folder / folder / f"{i}.png", np.full((side, side, 3), 10 * i + count, np.uint8))


def test_older_folders_have_no_labels(tmp_path: Path) -> None:
    write_pngs(tmp_path, 32)
    for size in (None, 32):
        images = open_source(str(tmp_path), size=size)
        assert (images.name, images.shape, images.num_classes) == ("imagenet32", (3, 32, 32), None)
        assert trained_on(images).images[:, 0, 0, 0].tolist() == [3, 13, 23]
        assert images.test.images[:, 0, 0, 0].tolist() == [2, 12]
    write_pngs(tmp_path, 64)
    assert open_source(str(tmp_path), size=64).shape == (3, 64, 64)
    with pytest.raises(ValueError, match=r"size must be one of 32, 64, as .* holds these, got None"):
        open_source(str(tmp_path))
    with pytest.raises(ValueError, match=r"size must be None or as in .*where it is \(32, 32\), got 16"):
        open_source(str(tmp_path), size=16)


def test_incomplete_older_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "valid_32x32").mkdir()
    with pytest.raises(FileNotFoundError, match="train_32x32 is missing, one of train_32x32 and valid_32x32"):
        open_source(str(tmp_path))
    write_image(tmp_path / "train_32x32/a.png")
    with pytest.raises(ValueError, match="valid_32x32 must hold PNG files, got none"):
        open_source(str(tmp_path))
    write_image(tmp_path / "valid_32x32/a.png")
    with pytest.raises(ValueError, match=r"a\.png must have 32x32 pixels, as its folder says, got 4x4"):
        open_source(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"holds neither train_data_batch_1\.npz nor train_32x32"):
        load_imagenet(tmp_path / "absent")
