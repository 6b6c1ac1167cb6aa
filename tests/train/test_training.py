"""Training: interrupted runs end as uninterrupted ones, and the command line does what it says."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from running import CONFIG, FLOW, LIGHTNING, TINY, assert_same, fit, run, state

from nflows_woodbury.checkpoint import load_flow, read_checkpoint
from nflows_woodbury.cli.main import COMMANDS
from nflows_woodbury.data.arrays import load_npz
from nflows_woodbury.data.photos import PhotoSource
from nflows_woodbury.evaluation.likelihood import bits_per_dim
from nflows_woodbury.evaluation.record import nearest, spread
from nflows_woodbury.train.batches import noise_seed
from nflows_woodbury.train.module import FlowTraining

pytestmark = LIGHTNING


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The run that nothing interrupts, through the command line."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert run("train", *TINY, "--max-steps", 12, "--every", 4, "--warmup-steps", 2, "--out", out) == 0
    return out


def test_same_settings_give_the_same_run(whole: Path, tmp_path: Path) -> None:
    fit(tmp_path / "again")
    assert_same(state(tmp_path / "again"), state(whole))


def test_the_history_of_a_generator_changes_nothing(whole: Path, tmp_path: Path) -> None:
    import pytorch_lightning as pl

    class Reseed(pl.Callback):
        def on_train_batch_start(self, trainer, *_) -> None:
            for reseed in (random.seed, np.random.seed, torch.manual_seed):
                reseed(1000 + trainer.global_step)

    fit(tmp_path / "run", Reseed())
    assert_same(state(tmp_path / "run"), state(whole))


def test_the_seed_is_that_of_the_start() -> None:
    first, same, other = (FlowTraining(FLOW, replace(CONFIG, seed=s), PhotoSource(16)).state_dict() for s in (3, 3, 4))
    assert_same(first, same)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_signal_ends_the_run_with_a_checkpoint_and_resuming_ends_as_if_nothing_had_happened(
    number: signal.Signals, whole: Path, tmp_path: Path
) -> None:
    import pytorch_lightning as pl

    class Interrupt(pl.Callback):
        def on_train_batch_end(self, trainer, *_) -> None:
            if trainer.global_step == 6:
                os.kill(os.getpid(), number)

    out = tmp_path / "run"
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    fit(out, Interrupt())
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert 6 <= read_checkpoint(out)["global_step"] < 12
    assert run("train", "--resume", out, "--quiet") == 0
    assert_same(state(out), state(whole))


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
    flags["nearest"] += ["--num", 4, "--temperature", 0.8]
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
    _, distances, of_test = nearest(str(whole), data=str(path), num=5, neighbours=1, out=str(tmp_path / "n.png"))
    (training,) = source.training(100)
    differences = source.test.images[:5, None].double() - training.images.double()
    expected = differences.square().mean((2, 3, 4)).sqrt().amin(1)
    assert len(distances) == 5 and of_test == pytest.approx(expected.median().item())


def test_spread_is_that_of_a_sample() -> None:
    records = [{"bits_per_dim": bits} for bits in (1.0, 2.0)]
    assert spread(records) == "2 runs: 1.500 bits/dim, standard deviation 0.707"


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
    assert "label must be one of the model's 3 classes" in capsys.readouterr().err


def test_help_reads_well_and_waits_for_nothing_heavy() -> None:
    code = "import sys\nfrom nflows_woodbury.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'pytorch_lightning', 'nflows'} & set(sys.modules)"
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(f"    {name}" in text for name in COMMANDS)
    code = code.replace("['--help']", "['train', '--help']").replace("'torch', ", "").replace(", 'nflows'", "")
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for flag in ("data", "mixing", "levels", "steps", "max-steps", "devices", "seed", "out", "resume"):
        assert f"--{flag} " in text


BAD = [
    (["train", "--mixing", "conv"], "mixing must be one of .*woodbury.*; got 'conv'"),
    (["train", "--coupling", "x"], "coupling must be one of"),
    (["train", "--levels", "6"], r"height and width divisible by 2\^levels = 64, got 32 x 32"),
    (["train", "--size", "33"], "divisible"),
    (["train", "--size", "4000"], "size must be at most"),
    (["train", "--max-steps", "0"], "max_steps must be a positive integer, got 0"),
    (["train", "--learning-rate", "-1"], "learning_rate must be positive, got -1"),
    (["train", "--clip-norm", "-1"], "clip_norm must be at least 0, got -1"),
    (["train", "--schedule", "step"], "schedule must be one of constant, cosine; got 'step'"),
    (["train", "--bits", "9"], "bits must be between 1 and 8, got 9"),
    (["train", "--devices", "0"], "devices must be a positive integer, got 0"),
    (["train", "--data", "no/such/folder"], "'no/such/folder' is not there"),
    (["train", "--data", "{corrupt}"], "broken.png cannot be read as an image"),
    (["train", "--conditional"], "conditional needs labelled images; photos has no labels"),
    (["train", "--out", "{whole}"], "holds a run; --resume .* continues it"),
    (["train", "--resume", "no/such/run"], "no/such/run is neither a checkpoint nor a run's folder"),
    (["train", "--resume", "{whole}", "--seed", "3", "--mixing", "conv1x1"], "--mixing, --seed cannot change"),
    (["train", "--resume", "{text}"], "must be a checkpoint of nflows-woodbury train"),
    (["evaluate", "{text}"], "must be a checkpoint of nflows-woodbury train"),
    (["evaluate", "{crafted}"], "must be a checkpoint of nflows-woodbury train"),
    (["evaluate", "{other}"], "has no settings of a flow"),
    (["evaluate", "{whole}", "--samples", "0"], "samples must be a positive integer, got 0"),
    (["evaluate", "{whole}", "--limit", "0"], "limit must be a positive integer"),
    (["sample", "{whole}", "--num", "0"], "num must be a positive integer, got 0"),
    (["sample", "{whole}", "--temperature", "-1"], "temperature must be at least 0"),
    (["sample", "{whole}", "--out", "x.jpg"], "out must be a .png file, got 'x.jpg'"),
    (["sample", "{whole}", "--label", "1"], "label must be one of the model's 0 classes"),
]


class _Harm:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("case", range(len(BAD)))
def test_bad_command_lines_fail_in_one_line(case: int, whole: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "photos" / "fine.png")
    (tmp_path / "photos" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot an image")
    (tmp_path / "text.ckpt").write_text("hello")
    torch.save({"nflows_woodbury": _Harm(tmp_path / "harm")}, tmp_path / "crafted.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    words, message = BAD[case]
    places = {"whole": whole, "corrupt": tmp_path / "photos"}
    places |= {name: tmp_path / f"{name}.ckpt" for name in ("text", "crafted", "other")}
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert run(*[word.format(**places) for word in words]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1 and error.startswith("nflows-woodbury: error: ")
    assert sorted(tmp_path.rglob("*")) == before  # nothing written, nothing executed


def test_unknown_flags_and_commands_exit_with_usage(capsys) -> None:
    for words in (["train", "--colour", "3"], ["paint"], [], ["train", "--levels", "three"]):
        with pytest.raises(SystemExit) as caught:
            run(*words)
        assert caught.value.code == 2
        assert "usage:" in capsys.readouterr().err


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ValueError, match="mixing must be one of"):
        run("train", "--mixing", "conv", "--debug")


@pytest.mark.parametrize("module", ["pytorch_lightning", "tensorboard", "skimage.data"])
def test_train_without_its_extra_names_the_extra(module: str, monkeypatch, tmp_path: Path, capsys) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert run("train", *TINY, "--out", tmp_path / "run") == 2
    assert re.search(rf"{module} is missing: pip install nflows-woodbury\[train\]", capsys.readouterr().err)


def test_importing_the_package_pulls_in_no_extra_and_patches_nothing() -> None:
    code = """
import sys, nflows.transforms, normflows.flows
before = {m.__name__: dict(vars(m)) for m in (nflows.transforms, normflows.flows)}
import nflows_woodbury, nflows_woodbury.transforms, nflows_woodbury.flow, nflows_woodbury.config
assert nflows_woodbury.WoodburyTransform is nflows_woodbury.transforms.WoodburyTransform
assert not {"pytorch_lightning", "skimage"} & set(sys.modules)
assert all(vars(sys.modules[name]) == values for name, values in before.items())
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code]).returncode == 0


def test_noise_differs_by_step_and_part() -> None:
    seeds = {noise_seed(seed, step, part) for seed in range(10) for step in range(100) for part in range(8)}
    assert len(seeds) == 8000 and all(0 <= seed < 2**63 for seed in seeds)
