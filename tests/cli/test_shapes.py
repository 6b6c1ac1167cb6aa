"""Images of any shape: every command takes them, from the run's own data and from others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from imagefiles import pixels, write_image
from PIL import Image
from running import LIGHTNING, run

from nflows_woodbury.checkpoint import load_flow

pytestmark = LIGHTNING

TINY = ["--steps", 1, "--hidden-channels", 4, "--levels", 1, "--batch-size", 4, "--max-steps", 2, "--quiet"]


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 12 x 8 pixels in all kinds of data, and a run on the archive."""
    root = tmp_path_factory.mktemp("wide")
    images = pixels(60, 8, 12, 3)
    np.savez(root / "images.npz", x_train=images[:50], x_test=images[50:])
    np.save(root / "images.npy", images)
    for number, image in enumerate(images):
        write_image(root / "folder" / f"{number}.png", image)
        write_image(root / "larger" / f"{number}.png", np.kron(image, np.ones((3, 2, 1), np.uint8)))
    assert run("train", "--data", root / "images.npz", *TINY, "--out", root / "run") == 0
    return root


DATA = ["images.npz", "images.npy", "folder", "larger", None]


def given(root: Path, data: str | None) -> list[object]:
    return [] if data is None else ["--data", root / data]


@pytest.mark.parametrize("data", DATA)
def test_evaluate_takes_data_of_any_kind(data: str | None, wide: Path, capsys) -> None:
    capsys.readouterr()
    assert run("evaluate", wide / "run", *given(wide, data)) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["bits_per_dim"] > 0 and record["images"] > 0


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("command", ["reconstruct", "interpolate", "nearest", "diagnose", "score"])
def test_so_do_the_others(command: str, data: str | None, wide: Path, tmp_path: Path, capsys) -> None:
    flags = {
        "reconstruct": ["--num", 1, "--out", tmp_path / "x.png"],
        "interpolate": ["--pairs", 1, "--num", 2, "--out", tmp_path / "x.png"],
        "nearest": ["--num", 1, "--out", tmp_path / "x.png"],
        "diagnose": ["--num", 1],
        "score": ["--samples", 1],
    }[command]
    assert run(command, wide / "run", *given(wide, data), *flags) == 0, capsys.readouterr().err


def test_train_takes_a_width_and_a_height(wide: Path, tmp_path: Path, capsys) -> None:
    words = ["--data", wide / "larger", *TINY, "--out", tmp_path / "run"]
    assert run("train", *words, "--size", "8x16") == 0
    assert load_flow(tmp_path / "run")[0].shape == (3, 16, 8)
    assert run("sample", tmp_path / "run", "--num", 1, "--out", tmp_path / "s.png") == 0
    with Image.open(tmp_path / "s.png") as sample:
        assert sample.size == (2 * 12, 2 * 20)
    assert run("evaluate", tmp_path / "run") == 0
    resume = ["train", "--resume", tmp_path / "run", "--quiet", "--max-steps", 3]
    assert run(*resume, "--size", "8x16") == 0
    assert run(*resume, "--size", "16x8") == 2
    assert "--size" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["8x", "x", "8x8x8", "wide", "0", "0x8", "-8"])
def test_other_sizes_are_refused(size: str, wide: Path, tmp_path: Path, capsys) -> None:
    words = ["train", "--data", wide / "larger", *TINY, "--out", tmp_path / "run", f"--size={size}"]
    with pytest.raises(SystemExit, match="2"):  # by the parser, or by the settings
        raise SystemExit(run(*words))
    assert "size" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_summary_is_the_first_lines_of_train(wide: Path, tmp_path: Path, capsys) -> None:
    (wide / "folder" / ".DS_Store").write_bytes(b"")
    assert run("data", wide / "folder") == 0
    summary = capsys.readouterr().out
    assert "note       skipped 1 file: 1 hidden (.DS_Store)" in summary
    assert run("train", "--data", wide / "folder", *TINY, "--out", tmp_path / "run") == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(summary)
    assert "skipped" not in printed.err, "said once"


def test_a_run_keeps_out_of_the_folder_of_its_images(wide: Path, capsys) -> None:
    words = ["train", "--data", wide / "folder", *TINY, "--out"]
    assert run(*words, wide / "folder") == 2
    assert "out must be another path than that of the data" in capsys.readouterr().err
    assert run(*words, wide / "folder" / "run") == 0
    assert run("evaluate", wide / "folder" / "run") == 0
    assert run("evaluate", wide / "run", "--data", wide / "folder" / "run") == 2
    assert "is the folder of a run" in capsys.readouterr().err
