"""Resuming continues the run that is named, with its settings, however it is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from running import LIGHTNING, TINY, assert_same, run, state

from nflows_woodbury.checkpoint import read_checkpoint

pytestmark = LIGHTNING

#: the flags of the shared run, see tests/conftest.py
GIVEN = [*TINY, "--max-steps", 12, "--every", 4, "--warmup-steps", 2]


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A copy of the shared run, to go on with."""
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


PLACES = [
    ("", "run"),
    ("", "run/checkpoints/last.ckpt"),
    ("", "run/checkpoints"),
    ("", "./run/"),
    ("run", "."),
    ("run", "checkpoints/last.ckpt"),
    ("run/checkpoints", "last.ckpt"),
    ("run/checkpoints", "."),
    ("run/log", ".."),
]


@pytest.mark.parametrize(("folder", "name"), PLACES)
def test_a_run_goes_on_in_its_own_folder(folder: str, name: str, copy: Path, monkeypatch) -> None:
    monkeypatch.chdir(copy.parent / folder)
    assert run("train", "--resume", name, "--max-steps", 13, "--quiet") == 0
    assert read_checkpoint(copy)["global_step"] == 13
    assert [path.name for path in copy.rglob("*.ckpt")] == ["last.ckpt"] and [*copy.parent.iterdir()] == [copy]


def test_a_link_to_a_run_is_the_run(copy: Path) -> None:
    link = copy.parent / "link"
    link.symlink_to(copy)
    assert run("train", "--resume", link, "--max-steps", 13, "--out", copy, "--quiet") == 0
    assert read_checkpoint(copy)["global_step"] == 13


def test_a_checkpoint_outside_a_run_needs_a_place_to_go_on(copy: Path, tmp_path: Path, capsys) -> None:
    lone = tmp_path / "lone.ckpt"
    shutil.copy(copy / "checkpoints" / "last.ckpt", lone)
    words = ["train", "--resume", lone, "--max-steps", 13, "--quiet"]
    assert run(*words) == 2
    assert f"{lone} lies in no run's folder" in capsys.readouterr().err
    assert run(*words, "--out", tmp_path / "new") == 0
    assert read_checkpoint(tmp_path / "new")["global_step"] == 13
    assert run(*words, "--out", copy) == 2
    assert f"{copy} holds a run" in capsys.readouterr().err


def test_the_same_flags_again_are_fine(copy: Path) -> None:
    before = state(copy)
    assert run("train", "--resume", copy, "--out", copy, *GIVEN) == 0
    assert_same(state(copy), before)
    more = ["--mixing", "woodbury", "--channel-ranks", 8, 8, "--pixel-ranks", 16, 8, "--test-images", 0, "--seed", 0]
    assert run("train", "--resume", copy, *more, "--learning-rate", 0.005, "--data", "photos", "--quiet") == 0


CONTRADICTIONS = {
    "--seed 3": r"--seed 3 (the run has 0) cannot change",
    "--mixing emerging": "--mixing emerging (the run has woodbury) cannot change",
    "--batch-size 4 --steps 2": "--batch-size 4 (the run has 8), --steps 2 (the run has 1) cannot change",
    "--pixel-ranks 4 4": "--pixel-ranks 4 4 (the run has 16 8) cannot change",
    "--size 8": "--size 8 (the run has 16) cannot change",
    "--test-images 5": "--test-images 5 (the run has 0) cannot change",
    "--preset cifar10-woodbury": "--preset cifar10-woodbury (the run has none) cannot change",
    "--conditional": "--conditional (the run has none) cannot change",
    "--out elsewhere": "out must be the folder of the run that is resumed",
}


@pytest.mark.parametrize("words", CONTRADICTIONS)
def test_a_flag_that_contradicts_the_run_is_refused_by_name(words: str, whole: Path, capsys) -> None:
    before = read_checkpoint(whole)["global_step"]
    assert run("train", "--resume", whole, *words.split(), "--max-steps", 14, "--quiet") == 2
    error = capsys.readouterr().err
    assert CONTRADICTIONS[words] in error and error.count("\n") == 1
    assert read_checkpoint(whole)["global_step"] == before


def test_what_changes_no_result_may_change(copy: Path, capsys) -> None:
    assert run("train", "--resume", copy, "--max-steps", 13, "--every", 7, "--reversible", "--devices", 1) == 0
    saved = read_checkpoint(copy)["nflows_woodbury"]["training"]
    assert (saved["max_steps"], saved["every"], saved["reversible"]) == (13, 7, True)
