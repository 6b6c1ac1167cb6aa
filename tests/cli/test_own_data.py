"""What a run was trained and tested on is what the other commands use, by names, wherever the images are by then."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from imagefiles import pixels, write_image
from running import LIGHTNING, run

from nflows_woodbury.checkpoint import open_run, read_checkpoint
from nflows_woodbury.evaluation.diagnosis import diagnose
from nflows_woodbury.evaluation.history import read_history
from nflows_woodbury.evaluation.samples import class_numbers

pytestmark = LIGHTNING

SMALL = ["train", "--steps", 1, "--hidden-channels", 4, "--levels", 1, "--batch-size", 4, "--max-steps", 2, "--quiet"]


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """40 images in three classes."""
    for i in range(40):
        write_image(tmp_path / "pets" / ("birds", "cats", "dogs")[i % 3] / f"{i}.png", pixels(4, 4, 3))
    return tmp_path / "pets"


@pytest.fixture
def trained(pets: Path) -> Path:
    """A class-conditional run with 7 images to test on."""
    out = pets.parent / "run"
    assert run(*SMALL, "--data", pets, "--test-images", 7, "--conditional", "--out", out) == 0
    return out


def evaluated(capsys, *words: object) -> tuple[dict, str]:
    capsys.readouterr()
    assert run("evaluate", *words) == 0
    printed = capsys.readouterr()
    return json.loads(printed.out)[0], printed.err


def names(run_folder: Path, data: Path | None = None) -> set[str]:
    return set(open_run(run_folder, None if data is None else str(data)).source.test.names)


def test_the_test_images_of_the_run_are_those_of_every_command(trained: Path, pets: Path, monkeypatch, capsys) -> None:
    first, _ = evaluated(capsys, trained)
    assert first["images"] == 7
    assert json.loads((trained / "result.json").read_text())[0]["bits_per_dim"] == first["bits_per_dim"]
    (pets.parent / "link").symlink_to(pets)
    monkeypatch.chdir(pets.parent)
    for place in (pets, "pets", "./pets", pets.parent / "run" / ".." / "pets", "link"):
        again, error = evaluated(capsys, trained, "--data", place)
        assert again["bits_per_dim"] == first["bits_per_dim"] and again["images"] == 7 and error == ""
    assert run("reconstruct", trained, "--num", 8, "--data", pets, "--out", "r.png") == 2
    assert "num must be at most the 7 test images" in capsys.readouterr().err


def test_images_that_were_moved_are_known_by_themselves(trained: Path, pets: Path, capsys) -> None:
    tested, (first, _) = names(trained), evaluated(capsys, trained)
    shutil.move(pets, pets.parent / "elsewhere")
    assert names(trained, pets.parent / "elsewhere") == tested
    again, error = evaluated(capsys, trained, "--data", pets.parent / "elsewhere")
    assert again["bits_per_dim"] == first["bits_per_dim"] and again["data_change"] is None and error == ""
    assert run("train", "--resume", trained, "--data", pets.parent / "elsewhere", "--max-steps", 3, "--quiet") == 0
    assert read_checkpoint(trained)["nflows_woodbury"]["training"]["data"] == str(pets.parent / "elsewhere")


def test_changed_images_are_counted_and_resuming_refuses_them(trained: Path, pets: Path, capsys, caplog) -> None:
    tested = names(trained)
    seen = {str(path.relative_to(pets)) for path in pets.rglob("*.png")} - tested
    for i in range(20):
        write_image(pets / "cats" / f"new-{i}.png", pixels(4, 4, 3))
    gone = sorted(tested)[0]
    (pets / gone).unlink()
    record, _ = evaluated(capsys, trained)
    assert f"{pets}: not the images of the run any more: 20 files added, 1 removed" in caplog.text
    assert record["data_change"] == "20 files added, 1 removed"
    assert not names(trained) & seen and tested - {gone} <= names(trained)
    resume = ["train", "--resume", trained, "--max-steps", 3, "--quiet"]
    assert run(*resume) == 2
    assert "20 files added, 1 removed; --changed-data goes on with them" in capsys.readouterr().err
    assert read_checkpoint(trained)["global_step"] == 2
    assert run(*resume, "--changed-data") == 0
    assert evaluated(capsys, trained)[0]["data_change"] is None  # they are the run's now
    assert not names(trained) & seen


def test_a_changed_content_is_a_change(trained: Path, pets: Path, capsys) -> None:
    write_image(pets / "cats" / "1.png", pixels(4, 4, 3))
    assert evaluated(capsys, trained)[0]["data_change"] == "1 file changed"
    (pets / "cats" / "1.png").touch()
    assert evaluated(capsys, trained)[0]["data_change"] == "1 file changed"


def test_other_images_keep_a_split_of_their_own(trained: Path, tmp_path: Path, capsys) -> None:
    for i in range(12):
        write_image(tmp_path / "others" / ("dogs", "birds")[i % 2] / f"{i}.png", pixels(4, 4, 3))
    record, error = evaluated(capsys, trained, "--data", tmp_path / "others")
    assert 1 <= record["images"] < 7 and record["data"] == "others" and error == ""


def test_classes_go_by_name(trained: Path, tmp_path: Path, capsys) -> None:
    assert read_checkpoint(trained)["nflows_woodbury"]["data"]["class_names"] == ["birds", "cats", "dogs"]
    for part in ("train", "test"):
        for i in range(8):
            write_image(tmp_path / "others" / part / ("cats", "dogs")[i % 2] / f"{i}.png", pixels(4, 4, 3))
    source = open_run(trained, str(tmp_path / "others")).source
    expected = [1 if "cats" in str(name) else 2 for name in source.test.names]
    assert source.test.labels.tolist() == expected and source.class_names == ("birds", "cats", "dogs")
    shutil.copytree(tmp_path / "others" / "train" / "cats", tmp_path / "others" / "train" / "owls")
    assert run("evaluate", trained, "--data", tmp_path / "others") == 2
    assert "classes must be among birds, cats, dogs, as the model's, got owls" in capsys.readouterr().err


def test_labels_are_names_or_numbers(trained: Path, tmp_path: Path, capsys) -> None:
    for label in ("cats", "1"):
        for command in ("sample", "nearest"):
            out = tmp_path / f"{command}-{label}.png"
            assert run(command, trained, "--label", label, "--num", 2, "--out", out) == 0
    for command in ("sample", "nearest"):
        assert (tmp_path / f"{command}-cats.png").read_bytes() == (tmp_path / f"{command}-1.png").read_bytes()
    capsys.readouterr()
    for label, message in (
        ("cat", "'cat'; cats is near"),
        ("3", "or their numbers from 0 to 2, got '3'"),
        ("-1", "got '-1'"),
    ):
        assert run("sample", trained, f"--label={label}", "--out", tmp_path / "none.png") == 2
        assert re.search(f"label must be one of the classes birds, cats, dogs.*{message}", capsys.readouterr().err)
    assert run("sample", trained, "--num", 3, "--out", tmp_path / "turn.png") == 0
    assert "classes in turn: birds, cats, dogs" in capsys.readouterr().out


def test_what_a_run_notes_of_its_layers_is_of_images_with_their_classes(trained: Path) -> None:
    opened = open_run(trained)
    batch, moments = opened.source.batch(0, 4, seed=0), read_history(trained)
    assert [moment.step for moment in moments] == [0, 1, 2] and len(batch.labels.unique()) > 1
    torch.manual_seed(0)
    assert tuple(diagnose(opened.flow, batch.images, class_numbers(opened.flow, batch.labels))) == moments[-1].reports


def test_a_model_without_classes_does_not_mind_new_ones(pets: Path, capsys) -> None:
    out = pets.parent / "plain"
    assert run(*SMALL, "--data", pets, "--out", out) == 0
    write_image(pets / "owls" / "1.png", pixels(4, 4, 3))
    assert evaluated(capsys, out)[0]["data_change"] == "1 file added"
    assert run("sample", out, "--label", "cats", "--out", out / "s.png") == 2
    assert "label must be left out for a model without classes, got 'cats'" in capsys.readouterr().err


def test_a_folder_called_photos_goes_before_the_built_in_ones(pets: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(pets.parent)
    assert run(*SMALL, "--size", 4, "--out", "built-in") == 0
    pets.rename("photos")
    assert run(*SMALL, "--data", "photos", "--out", "own") == 0
    assert "note       the path photos is read" in capsys.readouterr().out
    assert evaluated(capsys, "built-in")[0]["images"] == 512
    assert evaluated(capsys, "own")[0]["images"] < 40
    monkeypatch.chdir(pets.parent / "own")
    assert read_checkpoint(".")["nflows_woodbury"]["training"]["data"] == "./photos"


def test_broken_images_are_left_out_where_that_is_asked_for(pets: Path, capsys) -> None:
    (pets / "cats" / "broken.png").write_bytes(b"no image")
    out = pets.parent / "run"
    assert run(*SMALL, "--data", pets, "--out", out) == 2
    assert "broken.png" in capsys.readouterr().err
    assert run(*SMALL, "--data", pets, "--skip-broken", "--out", out) == 0
    assert evaluated(capsys, out)[0]["data_change"] is None
    assert run("train", "--resume", out, "--max-steps", 3, "--quiet") == 0


@pytest.mark.parametrize("count", [3, 4, 9])
def test_small_sets_train_and_show_what_is_there(count: int, tmp_path: Path, capsys) -> None:
    for i in range(count):
        write_image(tmp_path / "few" / f"{i}.png", pixels(4, 4, 3))
    out = tmp_path / "run"
    at = SMALL.index("--batch-size")
    words = SMALL[:at] + SMALL[at + 2 :]
    assert run(*words, "--data", tmp_path / "few", "--test-images", 2, "--out", out) == 0
    assert f"{count - 2} images a step, as there are {count - 2} to train on\n" in capsys.readouterr().err
    for command in ("reconstruct", "interpolate", "nearest"):
        assert run(command, out, "--out", tmp_path / f"{command}.png") == 0
    assert run("diagnose", out) == 0
    said = capsys.readouterr().err
    expected = ["2 test images", "1 pairs of test images", "2 test images", "2 test images"]
    expected[2:2] = [f"{count - 2} training images"] if count < 7 else []
    assert said.splitlines() == [f"{what}, as there are no more" for what in expected]
    assert run("reconstruct", out, "--num", 3, "--out", tmp_path / "none.png") == 2
    assert run("interpolate", out, "--pairs", 2, "--out", tmp_path / "none.png") == 2
    assert run(*words, "--data", tmp_path / "few", "--test-images", 1, "--out", tmp_path / "one") == 0
    assert run("interpolate", tmp_path / "one", "--out", tmp_path / "none.png") == 2
    assert "two test images or more" in capsys.readouterr().err
