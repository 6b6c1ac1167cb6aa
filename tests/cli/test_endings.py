"""However a command ends, what was done stays, a line says how to go on, and the status is the conventional one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
from running import LIGHTNING, TINY, assert_same, run, state

from nflows_woodbury.checkpoint import read_checkpoint
from nflows_woodbury.evaluation import record
from nflows_woodbury.train import run as training
from nflows_woodbury.train import trainer

pytestmark = LIGHTNING

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
TRAIN = ["train", *TINY, "--max-steps", 12, "--every", 4, "--warmup-steps", 2]


class At(pl.Callback):
    """Signals while a step runs."""

    def __init__(self, step: int, *numbers: signal.Signals) -> None:
        self.step, self.numbers = step, numbers

    def on_train_batch_start(self, trainer, *_) -> None:
        if trainer.global_step == self.step:
            for number in self.numbers:
                signal.raise_signal(number)


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch):
    """Called with a step and signals: they come in that step of the next run."""
    callbacks = trainer._callbacks

    def come(step: int, *numbers: signal.Signals) -> None:
        monkeypatch.setattr(trainer, "_callbacks", lambda *a: [*callbacks(*a), At(step, *numbers)])

    return come


@pytest.mark.parametrize("number", SIGNALS, ids=lambda s: s.name)
def test_a_signal_keeps_the_step_and_says_how_to_go_on(
    number: signal.Signals, whole: Path, tmp_path: Path, signals, monkeypatch, capsys
) -> None:
    out, before = tmp_path / "run", [signal.getsignal(n) for n in SIGNALS]
    signals(6, number)
    assert run(*TRAIN, "--out", out) == 128 + number
    assert [signal.getsignal(n) for n in SIGNALS] == before
    assert read_checkpoint(out)["global_step"] == 7
    error = capsys.readouterr().err
    assert f"it ended at step 7; to go on: nflows-woodbury train --resume {out}\n" in error
    assert error.count("--resume") == 1 and "Traceback" not in error
    monkeypatch.undo()
    assert run("train", "--resume", out, "--quiet") == 0
    assert_same(state(out), state(whole))


def test_a_second_signal_ends_within_the_step(tmp_path: Path, signals, capsys) -> None:
    signals(6, signal.SIGINT, signal.SIGINT)
    assert run(*TRAIN, "--out", tmp_path / "run") == 130
    assert read_checkpoint(tmp_path / "run")["global_step"] == 4
    assert f"--resume {tmp_path / 'run'}\n" in capsys.readouterr().err
    signals(2, signal.SIGINT, signal.SIGTERM)
    assert run(*TRAIN, "--out", tmp_path / "early") == 143
    assert "before its first checkpoint: start it again" in capsys.readouterr().err


def test_a_signal_that_the_shell_ignores_stays_ignored(tmp_path: Path, signals) -> None:
    signals(6, signal.SIGHUP, signal.SIGINT)
    before = [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGINT)]
    try:
        assert run(*TRAIN, "--out", tmp_path / "run") == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        for number, handler in zip((signal.SIGHUP, signal.SIGINT), before, strict=True):
            signal.signal(number, handler)
    assert read_checkpoint(tmp_path / "run")["global_step"] == 12


def test_a_signal_after_the_last_step_says_where_the_results_come_from(
    tmp_path: Path, signals, monkeypatch, capsys
) -> None:
    signals(11, signal.SIGTERM)
    assert run(*TRAIN, "--out", tmp_path / "late") == 143
    assert f"all steps are done; for its results: nflows-woodbury evaluate {tmp_path}" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr(training, "measure", lambda *_, **__: signal.raise_signal(signal.SIGHUP))
    assert run(*TRAIN, "--out", tmp_path / "later") == 129
    assert f"all steps are done; for its results: nflows-woodbury evaluate {tmp_path}" in capsys.readouterr().err


@pytest.mark.parametrize("number", SIGNALS, ids=lambda s: s.name)
def test_a_signal_ends_evaluate_and_leaves_what_was_done(
    number: signal.Signals, whole: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    measure, calls = record.bits_per_dim, []

    def measure_once(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            signal.raise_signal(number)
        return measure(*args, **kwargs)

    monkeypatch.setattr(record, "bits_per_dim", measure_once)
    capsys.readouterr()
    assert run("evaluate", whole, whole, "--limit", 4, "--json", tmp_path / "e.json") == 128 + number
    printed = capsys.readouterr()
    assert printed.err.startswith("nflows-woodbury: ended by ") and printed.err.count("\n") == 1
    assert len(json.loads(printed.out)) == len(json.loads((tmp_path / "e.json").read_text())) == 1
    monkeypatch.setattr(record, "bits_per_dim", lambda *_, **__: signal.raise_signal(number))
    assert run("evaluate", whole, "--json", tmp_path / "none.json") == 128 + number
    assert capsys.readouterr().out == "" and not (tmp_path / "none.json").exists()


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = f"{sys.executable} -W ignore -m nflows_woodbury"
    return subprocess.run(
        ["bash", "-c", line.replace("COMMAND", command)], capture_output=True, text=True, cwd=folder, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_a_closed_pipe_ends_training_with_a_checkpoint(tmp_path: Path) -> None:
    words = " ".join(map(str, TINY)).replace(" --quiet", "")
    done = shell(
        f"COMMAND train {words} --max-steps 100000 --out run 2>&1 | head -c 999 > o; echo ${{PIPESTATUS[0]}}", tmp_path
    )
    assert done.stdout.strip() == "141" and done.stderr == ""
    assert 0 < read_checkpoint(tmp_path / "run")["global_step"] < 100000


@pytest.mark.parametrize("words", ["presets", "train --help"])
def test_a_closed_pipe_leaves_no_traceback(words: str, tmp_path: Path) -> None:
    done = shell(f"(COMMAND {words}; echo $? > status) | head -c 1", tmp_path)
    assert done.stderr == "" and (tmp_path / "status").read_text().strip() in ("0", "141")


def test_a_full_disk_under_what_is_printed_is_said(tmp_path: Path) -> None:
    done = shell("COMMAND presets show cifar10-woodbury > /dev/full; echo $?", tmp_path)
    assert "no space left on device; free some space" in done.stderr and done.stderr.count("\n") == 1
    assert done.stdout.strip() == "2"
