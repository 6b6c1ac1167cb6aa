"""What goes wrong around a run ends in a clear message, and the last good checkpoint stays."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import filelock
import numpy as np
import pytest
import torch
from PIL import Image
from running import CONFIG, LIGHTNING, TINY, assert_same, fit, run, state

from nflows_woodbury.checkpoint import find_checkpoint, load_flow, read_checkpoint

pytestmark = LIGHTNING


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run of four steps."""
    fit(tmp_path / "run", config=replace(CONFIG, max_steps=4))
    return tmp_path / "run"


def rewrite(folder: Path, change) -> None:
    path = find_checkpoint(folder)
    checkpoint = read_checkpoint(path)
    change(checkpoint)
    torch.save(checkpoint, path)


def fails(capsys, *words: object) -> str:
    capsys.readouterr()
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert error.startswith("nflows-woodbury: error: ") and error.count("\n") == 1
    return error


@pytest.mark.parametrize("size", [0, 10, 1000, -100])
def test_a_truncated_checkpoint_is_named(size: int, finished: Path, capsys) -> None:
    path = find_checkpoint(finished)
    path.write_bytes(path.read_bytes()[:size])
    for words in (["train", "--resume", finished, "--quiet"], ["evaluate", finished], ["diagnose", finished]):
        assert re.search(f"{path} must be a checkpoint .* cut short", fails(capsys, *words))


def test_a_checkpoint_with_unknown_settings_is_refused_not_read_in_part(finished: Path, capsys) -> None:
    before = find_checkpoint(finished).read_bytes()
    for part in ("training", "flow"):
        rewrite(finished, lambda checkpoint, part=part: checkpoint["nflows_woodbury"][part].update(momentum=0.9))
        error = fails(capsys, "train", "--resume", finished, "--quiet")
        assert "of a version whose settings this one knows" in error and "momentum" in error
        find_checkpoint(finished).write_bytes(before)


def test_a_checkpoint_from_before_a_setting_existed_resumes_with_its_default(finished: Path) -> None:
    rewrite(finished, lambda checkpoint: checkpoint["nflows_woodbury"]["training"].pop("skip_limit"))
    rewrite(finished, lambda checkpoint: checkpoint["nflows_woodbury"]["flow"].pop("start"))
    assert run("train", "--resume", finished, "--max-steps", 5, "--quiet") == 0
    assert read_checkpoint(finished)["global_step"] == 5


def test_weights_of_another_shape_are_refused(finished: Path, capsys) -> None:
    rewrite(finished, lambda checkpoint: checkpoint["nflows_woodbury"]["flow"].update(hidden_channels=9))
    assert "the weights do not fit the settings" in fails(capsys, "evaluate", finished)


def test_images_of_another_shape_are_refused(finished: Path, tmp_path: Path, capsys) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(40, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "small.npz", images=pixels)
    for words in (["evaluate", finished, "--data"], ["train", "--quiet", "--resume", finished, "--data"]):
        assert re.search(r"\(?(8, 8|3, 16, 16)", fails(capsys, *words, tmp_path / "small.npz"))
    assert read_checkpoint(finished)["global_step"] == 4


def test_a_crafted_checkpoint_runs_nothing_on_resume(finished: Path, tmp_path: Path, capsys) -> None:
    class Harm:
        def __reduce__(self):
            return Path.touch, (tmp_path / "harm",)

    path = find_checkpoint(finished)
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["callbacks"] = {"x": Harm()}
    torch.save(checkpoint, path)
    assert "more than tensors and plain values" in fails(capsys, "train", "--resume", finished, "--quiet")
    assert not (tmp_path / "harm").exists()


def test_a_folder_holds_one_run_at_a_time(finished: Path, tmp_path: Path, capsys) -> None:
    before = state(finished)
    with filelock.FileLock(finished / ".lock"):
        error = fails(capsys, "train", "--resume", finished, "--max-steps", 6, "--quiet")
    assert f"{finished} is in use by another run" in error
    assert_same(state(finished), before)
    (tmp_path / "new").mkdir()
    with filelock.FileLock(tmp_path / "new" / ".lock"):
        assert "in use by another run" in fails(capsys, "train", *TINY, "--out", tmp_path / "new", "--max-steps", 1)
    assert run("train", "--resume", finished, "--max-steps", 6, "--quiet") == 0


def test_a_run_killed_before_its_first_checkpoint_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / ".last.ckpt.elsewhere-1.new").write_bytes(b"half")
    assert run("train", *TINY, "--out", tmp_path / "run", "--max-steps", 1) == 0
    assert load_flow(tmp_path / "run")[1]["steps"] == 1


def test_a_corrupt_image_is_named_before_training_starts(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(4):
        Image.fromarray(np.full((16, 16, 3), number, np.uint8)).save(folder / f"{number}.png")
    whole = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(whole[: len(whole) // 2])
    error = fails(capsys, "train", *TINY, "--data", folder, "--out", tmp_path / "run")
    assert "2.png cannot be read as an image" in error and not (tmp_path / "run").exists()
