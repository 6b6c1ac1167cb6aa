"""Folders of images: what counts, splits, classes, sizes, and what is refused."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from imagefiles import nhwc, pixels, trained_on, write_image

from nflows_woodbury.data.opening import load_folder, open_source
from nflows_woodbury.data.splits import Split, split_rows
from nflows_woodbury.data.walking import list_files

ALL = (".png", ".bmp", ".webp")


def test_folder_is_read_recursively_in_order(tmp_path: Path) -> None:
    names = ["a.png", "b.bmp", "c/d.webp", "c/e/f.PNG", *(f"g{i:02}.png" for i in range(16))]
    arrays = np.stack([write_image(tmp_path / name) for name in names])
    (tmp_path / "notes.txt").write_text("not an image")
    images = load_folder(tmp_path)
    assert (images.name, images.shape, images.num_classes) == (tmp_path.name, (3, 4, 4), None)
    kept, tenth, validated, _ = split_rows(list_files(tmp_path, ALL), Split(), None, None)
    assert images.validation is None and not len(validated)
    assert np.array_equal(nhwc(trained_on(images)), arrays[kept])
    assert np.array_equal(nhwc(images.test), arrays[tenth])


def test_folder_split_and_class_folders(tmp_path: Path) -> None:
    for name in ["train/dog/1.png", "train/cat/1.png", "train/cat/2.png", "test/dog/3.png", "test/cat/3.png"]:
        write_image(tmp_path / name)
    images = load_folder(tmp_path)
    batch = images.batch(0, 3, seed=0)
    assert images.num_classes == 2
    assert batch.labels is not None
    assert images.test.labels is not None
    assert sorted(batch.labels.tolist()) == [0, 0, 1]
    assert images.test.labels.tolist() == [0, 1]
    write_image(tmp_path / "test/extra.png")
    assert load_folder(tmp_path).num_classes is None, "not every image is in a class folder"


def test_val_stands_in_for_test_or_validates(tmp_path: Path) -> None:
    write_image(tmp_path / "train/1.png")
    val = write_image(tmp_path / "val/1.png")
    assert np.array_equal(nhwc(load_folder(tmp_path).test)[0], val)
    test = write_image(tmp_path / "test/1.png")
    images = load_folder(tmp_path)
    assert np.array_equal(nhwc(images.test)[0], test)
    assert images.validation is not None
    assert np.array_equal(nhwc(images.validation)[0], val)
    write_image(tmp_path / "stray/1.png")
    with pytest.raises(ValueError, match=r"stray must be in train, test or val"):
        load_folder(tmp_path)


def test_folder_with_a_size_resizes_and_crops(tmp_path: Path) -> None:
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 200  # the centre square
    write_image(tmp_path / "a.png", wide)
    write_image(tmp_path / "b.png", np.ascontiguousarray(wide.transpose(1, 0, 2)))
    same = write_image(tmp_path / "c.png")
    images = load_folder(tmp_path, 4)
    everything = np.concatenate([nhwc(images.test), nhwc(images.batch(0, 2, seed=0))])
    assert everything.shape == (3, 4, 4, 3)
    assert sum((image == same).all() for image in everything) == 1, "images of that size stay as they are"
    assert sum((image > 180).all() for image in everything) == 2, "the black sides are cut off"


def test_images_of_other_sizes_need_a_size(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png", pixels(5, 4, 3))
    with pytest.raises(ValueError, match=r"b\.png has 4x5 pixels, it must be of 4x4 pixels like the first"):
        load_folder(tmp_path)
    write_image(tmp_path / "a.png", pixels(4, 6, 3))
    with pytest.raises(
        ValueError, match=r"b\.png has 4x5 pixels, it must be of 6x4 pixels like the first .*give a size"
    ):
        load_folder(tmp_path)
    write_image(tmp_path / "b.png", pixels(4, 6, 3))
    assert load_folder(tmp_path).shape == (3, 4, 6)
    with pytest.raises(ValueError, match="size must be a positive integer, got 0"):
        load_folder(tmp_path, 0)


def test_grey_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    grey = write_image(tmp_path / "train/a.png", pixels(4, 4))
    clear = write_image(tmp_path / "test/a.png", pixels(4, 4, 4))
    images = load_folder(tmp_path)
    assert np.array_equal(nhwc(images.batch(0, 1, seed=0))[0], np.stack([grey] * 3, axis=-1))
    colour, alpha = clear[..., :3].astype(float), clear[..., 3:] / 255
    assert np.abs(nhwc(images.test)[0] - (alpha * colour + (1 - alpha) * 255)).max() <= 1


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore")  # the reader itself must turn the warning into an error
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no image", "cannot identify"),
        (png_header(4, 4), ""),
        (png_header(10_000, 10_000), "decompression bomb"),  # where Pillow only warns
        (png_header(60_000, 60_000), "decompression bomb"),
    ],
    ids=["text", "truncated", "bomb", "larger bomb"],
)
def test_broken_images_and_bombs_are_named(content: bytes, reason: str, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(content)
    filters = list(warnings.filters)
    with pytest.raises(ValueError, match=rf"b\.png cannot be read as an image: .*{reason}") as caught:
        load_folder(tmp_path, 4)
    assert "\n" not in str(caught.value)
    assert warnings.filters == filters


def test_images_of_16_bits_keep_their_high_byte(tmp_path: Path) -> None:
    write_image(tmp_path / "train/a.png", np.full((4, 4), 0x1234, np.uint16))
    write_image(tmp_path / "test/b.png")
    assert (trained_on(load_folder(tmp_path)).images == 0x12).all()


def test_folder_must_hold_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must hold images \(\.png, .*got 0"):
        load_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        load_folder(tmp_path / "absent")


def test_names_are_sorted_folder_by_folder(tmp_path: Path) -> None:
    for name in ["a/z.png", "a-b/a.png", "a.png"]:  # as strings, "a-b/" and "a.png" come before "a/"
        write_image(tmp_path / name)
    assert list_files(tmp_path, ALL) == ["a/z.png", "a-b/a.png", "a.png"]


def test_links_to_folders_are_followed_but_not_round_and_round(tmp_path: Path) -> None:
    for part in ("there/a", "there/b"):
        write_image(tmp_path / f"{part}.png")
    (tmp_path / "here").mkdir()
    for name, target in (("train", "there"), ("train2", "there"), ("up", "here")):
        (tmp_path / "here" / name).symlink_to(tmp_path / target)
    (tmp_path / "here/dangling.png").symlink_to(tmp_path / "absent.png")
    assert list_files(tmp_path / "here", ALL) == ["train/a.png", "train/b.png"]
    (tmp_path / "link").symlink_to(tmp_path / "here")
    assert list_files(tmp_path / "link", ALL) == ["train/a.png", "train/b.png"]


def test_test_images_are_held_out_of_a_folder_without_split(tmp_path: Path) -> None:
    for i in range(12):
        write_image(tmp_path / f"{i:02}.png")
    images = load_folder(tmp_path, test_images=5)
    assert (len(images.test), images.train_size) == (5, 7)
    assert np.array_equal(nhwc(images.test), nhwc(load_folder(tmp_path, 4, test_images=5).test))
    with pytest.raises(ValueError, match="test_images must be below 12, the number of images, got 12"):
        load_folder(tmp_path, test_images=12)
    write_image(tmp_path / "split/train/1.png")
    write_image(tmp_path / "split/val/1.png")
    with pytest.raises(ValueError, match=r"test_images must be None, as '.*split' has a test set of its own, got 1"):
        load_folder(tmp_path / "split", test_images=1)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read all folders")
def test_unreadable_folders_are_not_passed_over(tmp_path: Path) -> None:
    write_image(tmp_path / "a/a.png")
    (tmp_path / "a").chmod(0)
    with pytest.raises(PermissionError):
        load_folder(tmp_path)
    (tmp_path / "a").chmod(0o700)


def test_broken_images_may_be_left_out(tmp_path: Path) -> None:
    for i in range(12):
        write_image(tmp_path / "data" / f"{i:02}.png")
    (tmp_path / "data/00.png").write_bytes(b"no image")
    (tmp_path / "data/05.png").write_bytes((tmp_path / "data/05.png").read_bytes()[:-40])
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        images = load_folder(tmp_path / "data", skip_broken=True, cache=cache)
        assert images.train_size + len(images.test) == 10
        assert images.notes == ("skipped 2 files: 2 that cannot be read (00.png, ...)",)
    write_image(tmp_path / "data/00.png")
    assert (
        load_folder(tmp_path / "data", skip_broken=True, cache=tmp_path / "cache").notes[0].startswith("skipped 1 file")
    )


def test_size_may_be_a_height_and_a_width(tmp_path: Path) -> None:
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 4:20] = 200
    for name in ("train/a.png", "test/a.png"):
        write_image(tmp_path / name, wide)
    images = load_folder(tmp_path, (4, 8))
    assert images.shape == (3, 4, 8)
    assert (trained_on(images).images > 180).all(), "the centre alone"


def test_what_was_passed_over_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.png", "b.png", "._a.png", "Thumbs.db.png"):
        write_image(tmp_path / name)
    open_source(str(tmp_path))
    assert [record.getMessage() for record in caplog.records] == [f"{tmp_path}: skipped 1 file: 1 hidden (._a.png)"]
    caplog.clear()
    assert open_source(str(tmp_path), say=False).notes == ("skipped 1 file: 1 hidden (._a.png)",)
    assert not caplog.records
