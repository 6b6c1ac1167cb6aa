"""The commands about images: what training would see, and which images are strange to a run."""

from __future__ import annotations

import csv
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from imagefiles import write_image
from PIL import Image
from running import LIGHTNING, run

from nflows_woodbury.data.opening import open_source

pytestmark = LIGHTNING


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    folder = tmp_path / "pets"
    for number in range(12):
        write_image(folder / "normal" / f"{number}.png", np.full((16, 16, 3), 20 * number, np.uint8))
    for number in range(8):
        write_image(
            folder / "odd" / f"{number}.png",
            np.random.default_rng(number).integers(256, size=(16, 16, 3), dtype=np.uint8),
        )
    (folder / ".DS_Store").write_bytes(b"")
    (folder / "notes.txt").write_text("")
    return folder


def test_data_prints_what_training_would_see(pets: Path, capsys) -> None:
    assert run("data", pets) == 0
    out, err = capsys.readouterr()
    source = open_source(str(pets), say=False)
    assert out.splitlines() == [
        f"data       {pets}: 20 images of 16x16 pixels, 3 channels",
        "sizes      all 16x16",
        f"split      {source.train_size} to train on, {len(source.test)} to test on; "
        "held out by a hash of each image's name",
        "classes    2: normal 12, odd 8",
        "note       skipped 2 files: 1 hidden (.DS_Store), 1 without an image (notes.txt)",
    ]
    assert err == ""


def test_data_draws_a_contact_sheet_that_is_no_data(pets: Path, capsys) -> None:
    assert run("data", pets, "--out", pets / "sheet.png") == 0
    assert f"contact sheet: {pets / 'sheet.png'}" in capsys.readouterr().out
    with Image.open(pets / "sheet.png") as sheet:
        assert sheet.size[0] > 96 and np.asarray(sheet).std() > 10
    assert run("data", pets) == 0
    assert "1 of a run (sheet.png)" in capsys.readouterr().out


def test_data_says_that_training_needs_a_size(pets: Path, capsys) -> None:
    write_image(pets / "odd" / "wide.png", np.zeros((20, 30, 3), np.uint8))
    assert run("data", pets) == 0
    out = capsys.readouterr().out
    assert "sizes      2, from 16x16 to 30x20, most often 16x16" in out
    assert "train needs --size, as they are large or of several sizes; here 64" in out
    assert run("data", pets, "--size", "32x16") == 0
    assert "21 images of 32x16 pixels" in capsys.readouterr().out


def test_data_shows_what_there_is_before_it_refuses(pets: Path, capsys) -> None:
    (pets / "odd" / "9.png").write_bytes(b"no image")
    assert run("data", pets) == 2
    out, err = capsys.readouterr()
    assert "pets: 21 images" in out and "note       skipped 2 files" in out
    assert re.search(r"9\.png cannot be read as an image: .*skip_broken", err)
    assert run("data", pets, "--skip-broken") == 0
    assert "1 that cannot be read (odd/9.png)" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["photos", "npz", "npy"])
def test_data_takes_what_train_takes(kind: str, tmp_path: Path, capsys) -> None:
    images = np.random.default_rng(0).integers(256, size=(20, 8, 12, 3), dtype=np.uint8)
    np.save(tmp_path / "set.npy", images)
    np.savez(tmp_path / "set.npz", x_train=images, x_test=images[:5], y_train=np.arange(20), y_test=np.arange(5))
    assert run("data", kind if kind == "photos" else tmp_path / f"set.{kind}") == 0
    out = capsys.readouterr().out
    expected = {"photos": "training images of 32x32", "npz": "25 images of 12x8", "npy": "20 images of 12x8"}[kind]
    assert expected in out
    assert ("classes    20: 0 2, 1 2, 2 2, 3 2, 4 2, 5 1," in out) == (kind == "npz")


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_score_tells_noise_from_plain_images(whole: Path, pets: Path, tmp_path: Path, capsys) -> None:
    capsys.readouterr()
    words = ("--limit", 20, "--samples", 2)
    assert run("score", whole, "--data", pets, "--csv", tmp_path / "s.csv", "--png", tmp_path / "s.png", *words) == 0
    out = capsys.readouterr().out
    found = rows((tmp_path / "s.csv").read_text())
    assert list(found[0]) == [
        "file", "class", "bits_per_dim", "standard_error", "png_bits_per_dim", "difference", "norm_distance",
        "quantile",
    ]  # fmt: skip
    assert {row["file"] for row in found} == {f"normal/{i}.png" for i in range(12)} | {f"odd/{i}.png" for i in range(8)}
    bits = [float(row["bits_per_dim"]) for row in found]
    assert bits == sorted(bits, reverse=True)
    assert all(row["class"] == row["file"].split("/")[0] for row in found)
    assert [row["class"] for row in found[:8]] == ["odd"] * 8
    assert "AUROC of bits_per_dim: 1.000" in out and f"scores: {tmp_path / 's.csv'}" in out
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.size[0] == 6 * 98 + 2
    for row in found:
        assert float(row["difference"]) == pytest.approx(
            float(row["bits_per_dim"]) - float(row["png_bits_per_dim"]), abs=2e-6
        )
        assert 0 <= float(row["quantile"]) <= 1


def test_score_writes_to_standard_output_and_sorts_as_told(whole: Path, pets: Path, capsys) -> None:
    capsys.readouterr()
    assert run("score", whole, "--data", pets, "--sort", "difference", "--limit", 20, "--samples", 1) == 0
    out, err = capsys.readouterr()
    differences = [float(row["difference"]) for row in rows(out)]
    assert len(differences) == 20 and differences == sorted(differences, reverse=True)
    assert "20 images beside 20 test images of the run, by difference" in err


def test_score_without_data_ranks_the_runs_own_test_images(whole: Path, capsys) -> None:
    capsys.readouterr()
    assert run("score", whole, "--limit", 10, "--samples", 1) == 0
    found = rows(capsys.readouterr().out)
    assert [float(row["quantile"]) for row in found] == pytest.approx([1 - i / 10 for i in range(10)])


def test_score_takes_one_image_and_leaves_out_broken_ones(whole: Path, pets: Path, capsys) -> None:
    capsys.readouterr()
    assert run("score", whole, "--data", pets / "odd" / "3.png", "--limit", 5) == 0
    assert [row["file"] for row in rows(capsys.readouterr().out)] == ["3.png"]
    (pets / "odd" / "9.png").write_bytes(b"no image")
    assert run("score", whole, "--data", pets, "--limit", 5) == 2
    assert run("score", whole, "--data", pets, "--limit", 5, "--skip-broken", "--samples", 1) == 0


def test_score_scores_where_the_runs_own_data_are_gone(tmp_path: Path, pets: Path, capsys) -> None:
    words = ["--steps", 1, "--hidden-channels", 8, "--levels", 2, "--batch-size", 4, "--quiet", "--max-steps", 1]
    assert run("train", "--data", pets, "--out", tmp_path / "run", *words) == 0
    shutil.move(pets, tmp_path / "moved")
    capsys.readouterr()
    assert run("score", tmp_path / "run", "--data", tmp_path / "moved", "--samples", 1) == 0
    found = rows(capsys.readouterr().out)
    assert len(found) == 20 and "quantile" not in found[0]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sort", "beauty"], "sort must be one of bits_per_dim, difference, norm_distance; got 'beauty'"),
        (["--limit", "0"], "limit must be a positive integer, got 0"),
        (["--samples", "0"], "samples must be a positive integer, got 0"),
        (["--png", "s.jpg"], "png must be a .png file, got 's.jpg'"),
        (["--data", "absent"], "'absent' is not there"),
    ],
)
def test_score_explains_what_would_do(flags: list[str], message: str, whole: Path, capsys) -> None:
    assert run("score", whole, *flags) == 2
    assert message in capsys.readouterr().err
