"""Fields of floats on the command line: trained, evaluated, sampled, drawn, and told apart from images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from running import LIGHTNING, TINY, run

from nflows_woodbury import FieldFlow, ImageFlow
from nflows_woodbury.checkpoint import load_flow, open_run, read_checkpoint
from nflows_woodbury.evaluation.history import read_history
from nflows_woodbury.evaluation.record import spread

pytestmark = LIGHTNING
SMALL = [word for word in TINY if word not in ("--size", "16")]


def values(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return (300 + 20 * np.random.default_rng(seed).standard_normal((count, *shape))).astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "heat.npy"
    np.save(path, values(120, 8, 8))
    return path


@pytest.fixture(scope="module")
def trained(data: Path) -> Path:
    out = data.parent / "run"
    assert run("train", *SMALL, "--data", data, "--max-steps", 4, "--every", 2, "--out", out) == 0
    return out


def printed(capsys, *words: object) -> str:
    capsys.readouterr()
    assert run(*words) == 0
    return capsys.readouterr().out


def refused(capsys, *words: object) -> str:
    capsys.readouterr()
    assert run(*words) == 2
    return capsys.readouterr().err


def picture(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.copy()


def test_a_checkpoint_holds_which_kind_it_is(trained: Path, whole: Path) -> None:
    flow, saved = load_flow(trained)
    assert isinstance(flow, FieldFlow) and saved["flow"]["first"] == "standardize" and flow.shape == (1, 8, 8)
    torch.testing.assert_close(flow._transform[0].mean, torch.tensor([300.0]), rtol=0.01, atol=0)
    assert isinstance(load_flow(whole)[0], ImageFlow)


def test_a_checkpoint_from_before_fields_is_of_images(whole: Path, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(whole)
    for name in ("first", "bounds"):
        del checkpoint["nflows_woodbury"]["flow"][name]
    torch.save(checkpoint, tmp_path / "old.ckpt")
    assert isinstance(load_flow(tmp_path / "old.ckpt")[0], ImageFlow)


def test_results_are_nats_and_differential_bits(trained: Path, capsys) -> None:
    (kept,) = json.loads((trained / "result.json").read_text())
    (record,) = json.loads(printed(capsys, "evaluate", trained))
    fields = open_run(trained).source.test.images
    with torch.no_grad():
        density = load_flow(trained)[0].log_prob(fields).mean()
    assert record["log_density_nats"] == pytest.approx(float(density), rel=1e-5) == kept["log_density_nats"]
    assert record["differential_bits_per_dim"] == pytest.approx(float(density) / (-64 * np.log(2)), rel=1e-5)
    assert "bits_per_dim" not in record and record["images"] == len(fields)
    assert "differential bits/dim, standard deviation" in spread([record, record])
    assert "not to be compared" in spread([record, {"bits_per_dim": 3.0}])


def test_training_says_what_its_figures_are(data: Path, tmp_path: Path, capsys) -> None:
    out = printed(capsys, "train", *SMALL, "--data", data, "--max-steps", 1, "--first", "logit", "--bounds", 0, 600,
                  "--precision", "float64", "--flip", "--out", tmp_path / "run")  # fmt: skip
    assert "120 fields of 8 x 8 values, 1 channel" in out and "values     float32 from" in out
    assert " nats  (" in out and "differential bits/dim  (in the units of the data" in out
    assert "PNG" not in out and "test bits/dim" not in out and "--out more.npy" in out
    flow, saved = load_flow(tmp_path / "run")
    assert repr(flow._transform[0]) == "Logit(low=0, high=600, margin=0.001)" and saved["flow"]["bounds"] == (
        0.0,
        600.0,
    )
    assert flow.sample(2).dtype == torch.float64
    for name in ("samples.png", "reconstructions.png"):
        assert picture(tmp_path / "run" / name).mode == "RGB"


def test_samples_go_into_an_array_and_a_picture(trained: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "samples: samples.npy\npicture: samples.png" in printed(capsys, "sample", trained, "--num", 3, "--seed", 5)
    samples = np.load("samples.npy")
    assert samples.shape == (3, 1, 8, 8) and samples.dtype == np.float32 and np.isfinite(samples).all()
    printed(capsys, "sample", trained, "--num", 3, "--seed", 5, "--out", "more.npy")
    assert np.array_equal(np.load("more.npy"), samples) and not Path("more.png").exists()
    printed(capsys, "sample", trained, "--num", 3, "--out", "only.png")
    assert picture(Path("only.png")).mode == "RGB" and not Path("only.npy").exists()
    again = printed(capsys, "evaluate", trained, "--data", "samples.npy")
    assert json.loads(again)[0]["data"] == "samples"


def test_images_go_into_an_array_too(whole: Path, tmp_path: Path, capsys) -> None:
    printed(capsys, "sample", whole, "--num", 3, "--out", tmp_path / "images.npy")
    assert np.load(tmp_path / "images.npy").dtype == np.uint8


@pytest.mark.parametrize("command", ["reconstruct", "interpolate"])
def test_pictures_are_drawn_by_colour(command: str, trained: Path, tmp_path: Path, capsys) -> None:
    printed(capsys, command, trained, "--out", tmp_path / "picture.png")
    assert len(np.unique(np.asarray(picture(tmp_path / "picture.png")).reshape(-1, 3), axis=0)) > 50


def test_diagnose_and_data_and_resume(trained: Path, data: Path, tmp_path: Path, capsys) -> None:
    out = printed(capsys, "diagnose", trained)
    assert "Standardize(num_channels=1)" in out and "fields -> noise -> fields" in out and "0 of " in out
    out = printed(capsys, "data", data, "--out", tmp_path / "sheet.png")
    assert "fields of 8 x 8 values" in out and "held out by a hash of each field's number" in out
    assert picture(tmp_path / "sheet.png").size[0] > 100
    assert "done" not in printed(capsys, "train", "--resume", trained, "--max-steps", 5, "--quiet")
    assert read_checkpoint(trained)["global_step"] == 5
    moments = read_history(trained)
    assert [moment.step for moment in moments] == [0, 2, 4, 5]
    ways = ["fields -> noise -> fields", "noise -> fields -> noise, temperature 1"]
    assert [way.name for way in moments[-1].ways] == ways


def test_what_is_about_images_says_so(trained: Path, data: Path, whole: Path, tmp_path: Path, capsys) -> None:
    assert "model of images for nearest" in refused(capsys, "nearest", trained)
    assert "checkpoint must be of a model of images" in refused(capsys, "score", trained)
    assert "importance_samples must be 1 for fields" in refused(capsys, "evaluate", trained, "--importance-samples", 4)
    assert "bits must be left at 8 for fields" in refused(
        capsys, "train", *SMALL, "--data", data, "--bits", 5, "--out", tmp_path / "a")  # fmt: skip
    assert "first must be left out for images" in refused(capsys, "train", *TINY, "--first", "logit")
    assert "bounds must be None for standardize" in refused(
        capsys, "train", *SMALL, "--data", data, "--first", "standardize", "--bounds", 0, 1)  # fmt: skip
    assert "first must be one of logit, nothing, standardize; got 'logits'" in refused(
        capsys, "train", *SMALL, "--data", data, "--first", "logits")  # fmt: skip
    assert "data must be images" in refused(
        capsys, "compare", *SMALL, "--data", data, "--mixing", "conv1x1", "--seeds", 1, "--out", tmp_path / "b"
    )
    assert "data must be fields, as those that the model was" in refused(
        capsys, "evaluate", trained, "--data", "photos"
    )
    np.save(tmp_path / "other.npy", values(30, 4, 4))
    assert "of shape (1, 8, 8), as the model, got (1, 4, 4)" in refused(
        capsys, "evaluate", trained, "--data", tmp_path / "other.npy")  # fmt: skip
    assert "as fields are not resized, got (16, 16)" in refused(capsys, "evaluate", whole, "--data", data)
    np.save(tmp_path / "large.npy", values(30, 3, 16, 16))
    assert "data must be images, as those that the model was" in refused(
        capsys, "evaluate", whole, "--data", tmp_path / "large.npy")  # fmt: skip
    assert "size must be None or that of the floats" in refused(capsys, "train", "--data", data, "--size", 16)


def test_volumes_train_and_are_drawn(tmp_path: Path, capsys) -> None:
    np.save(tmp_path / "scans.npy", values(40, 1, 4, 4, 4))
    words = ["--levels", 1, "--hidden-channels", 4, "--max-steps", 1, "--quiet"]
    out = printed(capsys, "train", "--data", tmp_path / "scans.npy", *words, "--out", tmp_path / "run")
    assert "40 fields of 4 x 4 x 4 values" in out and picture(tmp_path / "run" / "samples.png").mode == "RGB"
    printed(capsys, "sample", tmp_path / "run", "--num", 2, "--out", tmp_path / "s.npy")
    assert np.load(tmp_path / "s.npy").shape == (2, 1, 4, 4, 4)
