"""Each command reads a run back and writes what it announces."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import LIGHTNING, run

from nflows_woodbury.checkpoint import load_flow
from nflows_woodbury.cli.nearest import nearest
from nflows_woodbury.data.arrays import load_npz
from nflows_woodbury.data.photos import PhotoSource
from nflows_woodbury.evaluation.likelihood import bits_per_dim

pytestmark = LIGHTNING


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.quick
def test_train_writes_what_it_announces(whole: Path, capsys) -> None:
    (result,) = json.loads((whole / "result.json").read_text())
    assert result["images"] == 512 and result["steps"] == 12 and result["bits_per_dim"] > 0
    assert any(whole.glob("log/events.out.tfevents.*"))
    samples = pixels(whole / "samples.png")
    assert samples.shape == (2 * (6 * 18 + 2), 2 * (6 * 18 + 2), 3) and samples.std() > 10
    assert pixels(whole / "reconstructions.png").shape == (2 * (4 * 18 + 2), 2 * (4 * 18 + 2), 3)
    assert [p.name for p in (whole / "checkpoints").iterdir()] == ["last.ckpt"]
    logged = _scalars(whole / "log")
    assert {"train_bits_per_dim", "gradient_norm", "images_per_second"} <= logged


def _scalars(folder: Path) -> set[str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return set(events.Tags()["scalars"])


@pytest.mark.quick
def test_evaluate_and_sample_read_the_run_back(whole: Path, tmp_path: Path, capsys) -> None:
    capsys.readouterr()
    assert run("evaluate", whole, "--json", tmp_path / "e.json") == 0
    (printed,) = json.loads(capsys.readouterr().out)
    assert [printed] == json.loads((tmp_path / "e.json").read_text())
    assert printed["bits_per_dim"] == json.loads((whole / "result.json").read_text())[0]["bits_per_dim"]
    assert run("evaluate", whole, "--limit", 5, "--samples", 3, "--importance-samples", 4) == 0
    (printed,) = json.loads(capsys.readouterr().out)
    assert [printed[name] for name in ("images", "samples", "importance_samples")] == [5, 3, 4]
    images = PhotoSource(16).test.take(np.arange(5))
    bits = bits_per_dim(load_flow(whole)[0], images, samples=3, importance_samples=4)
    expected = bits.mean().item(), (bits.var() / 5).sqrt().item()
    assert (printed["bits_per_dim"], printed["standard_error"]) == pytest.approx(expected)
    assert run("evaluate", whole, whole, "--limit", 5) == 0
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)) == 2 and "2 runs: " in printed.err and "deviation 0.000" in printed.err
    for name in ("a.png", "b.png"):
        assert run("sample", whole, "--num", 5, "--temperature", 0.5, "--out", tmp_path / name) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    for other in ([], ["--temperature", 0.5, "--seed", 1]):
        assert run("sample", whole, "--num", 5, *other, "--out", tmp_path / "c.png") == 0
        assert (tmp_path / "a.png").read_bytes() != (tmp_path / "c.png").read_bytes()
    assert pixels(tmp_path / "a.png").shape == (2 * (2 * 18 + 2), 2 * (3 * 18 + 2), 3)


def test_pictures_of_a_run(whole: Path, tmp_path: Path, capsys) -> None:
    sizes = {"reconstruct": (4, 3), "interpolate": (4, 3), "nearest": (3, 4)}  # columns, rows
    flags = {"reconstruct": ["--num", 6], "interpolate": ["--pairs", 3, "--num", 4], "nearest": ["--neighbours", 2]}
    np.savez(tmp_path / "few.npz", x=np.random.default_rng(0).integers(256, size=(60, 16, 16, 3), dtype=np.uint8))
    flags["nearest"] += ["--num", 4, "--temperature", 0.8, "--data", tmp_path / "few.npz"]
    for command, (columns, rows) in sizes.items():
        out = tmp_path / f"{command}.png"
        assert run(command, whole, *flags[command], "--out", out) == 0
        assert pixels(out).shape == (2 * (rows * 18 + 2), 2 * (columns * 18 + 2), 3)
        first = out.read_bytes()
        assert run(command, whole, *flags[command], "--out", out) == 0
        assert out.read_bytes() == first
    assert re.search(r"samples: +(\d+\.\d ){3}\d+\.\d\ntest images: +\d+\.\d \(median\)", capsys.readouterr().out)


def test_distances_are_root_mean_squares_over_pixels(whole: Path, tmp_path: Path) -> None:
    images, path = np.random.default_rng(0).integers(256, size=(60, 16, 16, 3), dtype=np.uint8), tmp_path / "d.npz"
    np.savez(path, images=images)
    source = load_npz(path)
    found = nearest(str(whole), data=str(path), num=5, neighbours=1, out=str(tmp_path / "n.png"))
    (training,) = source.training(100)
    differences = source.test.images[:5, None].double() - training.images.double()
    expected = differences.square().mean((2, 3, 4)).sqrt().amin(1)
    assert len(found.of_samples) == 5 and found.of_tests == pytest.approx(expected.median().item())


INTERPOLATE = {"interpolate": ["--pairs", 2]}


def test_class_conditional_run(tmp_path: Path, capsys) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(256, size=(60, 16, 16, 3), dtype=np.uint8), rng.integers(3, size=60)
    np.savez(tmp_path / "d.npz", x=images, y=labels)
    out = tmp_path / "run"
    words = ["--steps", 1, "--hidden-channels", 8, "--levels", 2, "--batch-size", 8, "--quiet", "--max-steps", 3]
    assert run("train", *words, "--data", tmp_path / "d.npz", "--conditional", "--bits", 5, "--out", out) == 0
    assert load_flow(out)[1]["flow"]["num_classes"] == 3
    assert run("sample", out, "--label", 2, "--num", 4, "--out", tmp_path / "s.png") == 0
    for command in ("reconstruct", "interpolate", "nearest"):
        assert run(command, out, "--num", 3, "--out", tmp_path / f"{command}.png", *INTERPOLATE.get(command, [])) == 0
    assert run("evaluate", out) == 0
    assert run("sample", out, "--label", 3, "--out", tmp_path / "t.png") == 2
    assert "label must be one of the 3 classes, from 0 to 2, got '3'" in capsys.readouterr().err
