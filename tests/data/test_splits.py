"""What is held out stays held out: splits by names, fingerprints, and a run's data opened again."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from imagefiles import nhwc, pixels, trained_on, write_image

from nflows_woodbury.data.fingerprints import Fingerprint, describe_change
from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.data.opening import open_source, reopen
from nflows_woodbury.data.sources import ArraySource, ImageSource
from nflows_woodbury.data.splits import Split, fractions_of, split_rows


def names_of(source: ImageSource) -> dict[str, set[object]]:
    validation = () if source.validation is None else source.validation.names or ()
    training = {name for part in source.training(100) for name in part.names or ()}
    return {"train": training, "test": set(source.test.names or ()), "val": set(validation)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(60):
        write_image(tmp_path / "data" / f"{number}.png")
    return tmp_path / "data"


# Fractions


def test_fractions_are_the_names_digests() -> None:
    names = ["a.png", "cats/größe.png", "猫.jpg", 7, "\udcff.png"]
    for name, fraction in zip(names, fractions_of(names), strict=True):
        digest = hashlib.sha256(str(name).encode("utf-8", "surrogateescape")).hexdigest()
        assert abs(int(digest, 16) / 2**256 - fraction) < 2**-52
    assert fractions_of(["gro\u0308\u00dfe"]) == fractions_of(["gr\u00f6\u00dfe"]), "however a disk writes its accents"


def test_fractions_are_spread_evenly() -> None:
    counts = np.histogram(fractions_of([f"{i}.jpg" for i in range(20_000)]), 20, (0, 1))[0]
    assert np.abs(counts - 1000).max() < 150


@pytest.mark.parametrize("test_images", [None, 1, 7, 59])
def test_parts_are_disjoint_and_whole(test_images: int | None) -> None:
    parts = split_rows([f"{i}.png" for i in range(60)], Split(), test_images)[:3]
    assert sorted(np.concatenate(parts)) == list(range(60))
    assert all((np.diff(part) > 0).all() for part in parts)
    assert test_images is None or len(parts[1]) == test_images


@pytest.mark.parametrize("count", range(2, 30))
def test_the_smallest_sets_have_something_in_both_parts(count: int) -> None:
    for start in range(20):
        train, test, _, _ = split_rows(range(start, start + count), Split())
        assert len(train) and len(test)


def test_about_a_tenth_is_tested_on_and_five_percent_of_the_rest_validate() -> None:
    train, test, validation, split = split_rows(range(10_000), Split())
    assert abs(len(test) - 1000) < 100
    assert abs(len(validation) - 0.05 * (len(train) + len(validation))) < 80
    assert split.test_below == 0.1
    assert len(split_rows(range(40_000), Split())[2]) == 1000


# An added file moves no other


def test_an_added_file_moves_no_other(folder: Path) -> None:
    before = names_of(open_source(str(folder)))
    for number in range(60, 100):
        write_image(folder / f"{number}.png")
    after = names_of(open_source(str(folder)))
    assert all(before[part] <= after[part] for part in before)
    assert after["test"] - before["test"]


def test_a_removed_file_moves_no_other(folder: Path) -> None:
    before = names_of(open_source(str(folder)))
    gone = {"0.png", "3.png", min(map(str, before["test"])), min(map(str, before["train"]))}
    for name in gone:
        (folder / name).unlink()
    after = names_of(open_source(str(folder)))
    assert all(after[part] == before[part] - gone for part in before)


def test_an_added_file_moves_at_most_one_where_a_number_was_asked_for(folder: Path) -> None:
    before = names_of(open_source(str(folder), test_images=10))
    write_image(folder / "new.png")
    after = names_of(open_source(str(folder), test_images=10))
    assert len(after["test"]) == 10
    assert len(before["test"] - after["test"]) <= 1


def test_the_split_knows_nothing_of_where_a_folder_is(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere" / "copy")
    assert names_of(open_source(str(folder))) == names_of(open_source(str(tmp_path / "elsewhere" / "copy")))


def test_rows_of_arrays_are_held_out_by_number(tmp_path: Path) -> None:
    images = pixels(80, 4, 4, 3)
    for count in (60, 80):
        np.save(tmp_path / f"{count}.npy", images[:count])
        np.savez(tmp_path / f"{count}.npz", images=images[:count])
    for kind in ("npy", "npz"):
        before, after = (names_of(open_source(str(tmp_path / f"{count}.{kind}"))) for count in (60, 80))
        assert all(before[part] <= after[part] for part in before)
    source = open_source(str(tmp_path / "80.npy"))
    assert np.array_equal(nhwc(source.test), images[sorted(map(int, source.test.names or ()))])


# A run's data, opened again


@pytest.mark.parametrize("test_images", [None, 10])
def test_what_a_run_held_out_stays_so_whatever_happens_to_the_data(test_images: int | None, folder: Path) -> None:
    source = open_source(str(folder), test_images=test_images)
    before, kept = names_of(source), source.kept()
    gone = {min(map(str, before["test"])), min(map(str, before["train"]))}
    for name in gone:
        (folder / name).unlink()
    added = {f"new{number}.png" for number in range(30)}
    for name in added:
        write_image(folder / name)
    again, change = reopen(str(folder), kept, test_images=test_images)
    after = names_of(again)
    assert all(after[part] - added == before[part] - gone for part in before)
    assert change == "30 files added, 2 removed"


def test_nothing_is_said_of_data_that_stay(folder: Path) -> None:
    kept = open_source(str(folder)).kept()
    os.utime(folder / "1.png", ns=(1, 1))
    (folder / "notes.txt").write_text("no image")
    assert reopen(str(folder), kept)[1] is None


def test_a_run_that_kept_nothing_drew_a_permutation(folder: Path) -> None:
    for name in ("a.tif", "b.gif"):  # did not count
        write_image(folder / name)
    names = sorted(f"{number}.png" for number in range(60))
    order = np.random.default_rng(1).permutation(60)
    for test_images, count in ((None, 6), (20, 20)):
        again, change = reopen(str(folder), None, test_images=test_images)
        assert change is None
        assert names_of(again)["test"] == {names[i] for i in order[60 - count :]}


def test_early_runs_had_classes_in_alphabetical_order(tmp_path: Path) -> None:
    for name in ("10", "9", "Train"):
        write_image(tmp_path / name / "a.png")
    assert open_source(str(tmp_path)).class_names == ("9", "10", "Train")
    assert reopen(str(tmp_path), {})[0].class_names == ("10", "9", "Train")


def test_classes_are_mapped_by_name(tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        write_image(tmp_path / "a" / name / "1.png", np.full((8, 8, 3), len(name) + ord(name[0]), np.uint8))
    for name in ("dogs", "birds", "cats"):
        write_image(tmp_path / "b" / name / "1.png", np.full((8, 8, 3), len(name) + ord(name[0]), np.uint8))
    model = open_source(str(tmp_path / "b"))
    source = open_source(str(tmp_path / "a")).in_classes(model.class_names or ())
    assert (source.class_names, source.num_classes) == (("birds", "cats", "dogs"), 3)
    for images in (source.test, trained_on(source)):
        assert images.labels is not None
        assert [2 - (value == 4 + ord("c")) for value in images.images[:, 0, 0, 0].tolist()] == images.labels.tolist()
    with pytest.raises(ValueError, match="classes must be among cats, dogs, as the model's, got birds"):
        model.in_classes(("cats", "dogs"))


# Fingerprints


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda folder: write_image(folder / "new.png"), "1 file added"),
        (lambda folder: [write_image(folder / f"new/{i}.png") for i in range(3)], "3 files added"),
        (lambda folder: (folder / "1.png").unlink(), "1 file removed"),
        (lambda folder: write_image(folder / "1.png"), "1 file changed"),
        (lambda folder: (folder / "1.png").rename(folder / "x.png"), "1 file added, 1 removed"),
        (lambda folder: [write_image(folder / f"{i}.png") for i in range(59, 62)], "2 files added, 1 changed"),
        (lambda folder: shutil.copy(folder / "1.png", folder / "2.png"), "1 file changed"),
        (lambda folder: (folder / "notes.txt").write_text(""), None),
    ],
)
def test_changes_of_files_are_counted(change: Callable[[Path], object], expected: str | None, folder: Path) -> None:
    before = open_source(str(folder)).fingerprint()
    change(folder)
    after = open_source(str(folder)).fingerprint()
    assert before is not None and after is not None
    assert describe_change(before, after) == expected


def test_large_files_are_told_apart_by_their_ends(tmp_path: Path) -> None:
    from nflows_woodbury.data.fingerprints import of_files

    content = bytearray(200_000)
    (tmp_path / "a").write_bytes(content)
    before = of_files(tmp_path, ["a"])
    for place in (0, 199_999):
        other = bytearray(content)
        other[place] = 1
        (tmp_path / "a").write_bytes(other)
        assert describe_change(before, of_files(tmp_path, ["a"])) == "1 file changed"
    (tmp_path / "a").write_bytes(content + b"\0")
    assert describe_change(before, of_files(tmp_path, ["a"])) == "1 file changed"


def test_changes_of_arrays_are_counted_in_images(tmp_path: Path) -> None:
    images = pixels(30, 4, 4, 3)
    np.save(tmp_path / "a.npy", images)
    kept = open_source(str(tmp_path / "a.npy")).kept()
    images[[3, 5], 0, 0, 0] ^= 1
    np.save(tmp_path / "a.npy", np.concatenate([images, images[:1]]))
    assert reopen(str(tmp_path / "a.npy"), kept)[1] == "1 image added, 2 changed"


def test_kept_values_pass_through_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    kept = open_source(str(folder)).kept()
    torch.save(kept, tmp_path / "kept.ckpt")
    loaded = torch.load(tmp_path / "kept.ckpt", weights_only=True)
    assert reopen(str(folder), loaded)[1] is None
    assert Fingerprint.from_dict(loaded["fingerprint"]).items.shape == (60, 2)


def test_bounds_that_leave_nothing_are_refused() -> None:
    images = ImageSet(torch.zeros(5, 1, 2, 2, dtype=torch.uint8))
    with pytest.raises(ValueError, match="there must be an image that was held out among the 5"):
        ArraySource(images, split=Split(test_below=1e-9))
    with pytest.raises(ValueError, match="there must be an image to train on among the 5"):
        ArraySource(images, split=Split(test_below=1.0))


# The photographs


def test_a_path_called_photos_wins_and_a_run_remembers_which_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from nflows_woodbury.data.opening import plain_spec
    from nflows_woodbury.data.photos import PhotoSource

    monkeypatch.chdir(tmp_path)
    built_in = open_source("photos", size=8)
    assert isinstance(built_in, PhotoSource) and plain_spec("photos") == "photos"
    for number in range(3):
        write_image(tmp_path / "photos" / f"{number}.png")
    assert open_source("photos").train_size == 2
    assert "photos: the path photos is read, as it is here" in caplog.text
    assert plain_spec("photos") == "./photos"
    assert reopen("./photos", open_source("photos").kept())[0].train_size == 2
    for kept in (None, built_in.kept()):
        again, change = reopen("photos", kept, size=8)
        assert isinstance(again, PhotoSource) and change is None
    assert isinstance(open_source("built-in:photos", size=8), PhotoSource)
