"""Where results go is looked at before the work, and one broken run takes no others with it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from running import LIGHTNING, TINY, run

from nflows_woodbury import checkpoint
from nflows_woodbury.evaluation import record
from nflows_woodbury.train import trainer

pytestmark = LIGHTNING

PICTURES = ["sample", "reconstruct", "interpolate", "nearest"]


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that takes time may be called."""

    def work(*_, **__) -> None:
        raise AssertionError("work before the look")

    monkeypatch.setattr(checkpoint, "load_flow", work)
    monkeypatch.setattr(trainer, "make_trainer", work)


def refused(capsys, *words: object) -> str:
    capsys.readouterr()
    assert run(*words) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    return printed.err


@pytest.mark.parametrize("command", PICTURES)
def test_pictures_have_a_place_before_they_are_drawn(
    command: str, no_work, whole: Path, tmp_path: Path, capsys
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    assert "is a folder" in refused(capsys, command, whole, "--out", tmp_path / "folder.png")
    assert "is no folder" in refused(capsys, command, whole, "--out", tmp_path / "file" / "a.png")
    assert "/proc/none/a.png: " in refused(capsys, command, whole, "--out", "/proc/none/a.png")


def test_records_and_runs_have_a_place_before_the_work(no_work, whole: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").touch()
    assert "is a folder" in refused(capsys, "evaluate", whole, "--json", tmp_path)
    assert "is no folder" in refused(capsys, "evaluate", whole, "--json", tmp_path / "file" / "e.json")
    assert "is no folder" in refused(capsys, "train", *TINY, "--out", tmp_path / "file" / "run")
    assert "/proc/none/" in refused(capsys, "train", *TINY, "--out", "/proc/none/run")


def test_pictures_and_records_go_through_links_and_into_devices(whole: Path, tmp_path: Path, capfd) -> None:
    (tmp_path / "target.png").write_text("old")
    (tmp_path / "link.png").symlink_to("target.png")
    assert run("sample", whole, "--num", 2, "--out", tmp_path / "link.png") == 0
    assert (tmp_path / "link.png").is_symlink() and (tmp_path / "target.png").read_bytes()[:4] == b"\x89PNG"
    capfd.readouterr()
    assert run("evaluate", whole, "--limit", 2, "--json", "/dev/stdout") == 0
    assert len(json.loads(capfd.readouterr().out)) == 1
    assert run("sample", whole, "--num", 2, "--out", "/dev/null") == 0


def test_a_broken_checkpoint_takes_no_others_with_it(whole: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "broken.ckpt").write_text("no checkpoint")
    capsys.readouterr()
    runs = [whole, tmp_path / "broken.ckpt", whole, tmp_path / "gone"]
    assert run("evaluate", *runs, "--limit", 3, "--json", tmp_path / "e.json") == 2
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)) == 2 and json.loads((tmp_path / "e.json").read_text()) == json.loads(
        printed.out
    )
    line = printed.err.splitlines()[-1]
    assert line.startswith("nflows-woodbury: error: 2 of 4 runs cannot be evaluated; ")
    assert "broken.ckpt must be a checkpoint" in line and "gone is neither a checkpoint" in line
    assert run("evaluate", tmp_path / "broken.ckpt", tmp_path / "gone", "--json", tmp_path / "none.json") == 2
    assert not (tmp_path / "none.json").exists()


def test_one_image_has_no_standard_error(whole: Path, tmp_path: Path, capsys) -> None:
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run("evaluate", whole, "--limit", 1, "--json", tmp_path / "e.json") == 0
    (printed,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert printed["standard_error"] is None and printed["bits_per_dim"] > 0
    assert json.loads((tmp_path / "e.json").read_text(), parse_constant=pytest.fail) == [printed]


def test_what_is_not_finite_is_null_and_said(whole: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(record, "bits_per_dim", lambda *_, **__: torch.tensor([1.0, float("inf")]).double())
    capsys.readouterr()
    assert run("evaluate", whole, whole) == 0
    printed = capsys.readouterr()
    for values in json.loads(printed.out, parse_constant=pytest.fail):
        assert values["bits_per_dim"] is None and values["standard_error"] is None
    assert printed.err == "2 runs, 0 with a finite likelihood\n"
