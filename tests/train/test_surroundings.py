"""What surrounds a run: ranks in the shell's variables, other machines, a compiler, disk, memory, and its progress."""

from __future__ import annotations

import io
import mmap
import os
import platform
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from running import CONFIG, FLOW, LIGHTNING, TINY, run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nflows_woodbury.checkpoint import read_checkpoint
from nflows_woodbury.cli import main as main_module
from nflows_woodbury.data.photos import PhotoSource
from nflows_woodbury.data.sources import ArraySource
from nflows_woodbury.evaluation.pictures import pair_grid
from nflows_woodbury.train.callbacks import ProgressBar
from nflows_woodbury.train.module import FlowTraining
from nflows_woodbury.train.trainer import make_trainer

pytestmark = LIGHTNING

RANKS = [
    {"RANK": "1"},
    {"LOCAL_RANK": "3"},
    {"SLURM_PROCID": "2"},
    {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "bash", "SLURM_JOB_ID": "7", "SLURM_LOCALID": "1"},
    {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "7", "SLURM_NODEID": "0"},
    {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "TORCHELASTIC_RUN_ID": "x"},
]


@pytest.fixture
def rank(monkeypatch: pytest.MonkeyPatch):
    """Called with variables: they are set, as when Lightning was imported."""
    from pytorch_lightning.utilities import rank_zero_only

    monkeypatch.setattr(rank_zero_only, "rank", rank_zero_only.rank)

    def claim(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        rank_zero_only.rank = int(
            next(value for name, value in variables.items() if "RANK" in name or "PROCID" in name)
        )

    return claim


@pytest.mark.parametrize("variables", RANKS, ids=lambda v: "-".join(v))
def test_a_rank_in_the_shell_changes_no_run_on_one_device(variables, rank, tmp_path: Path, capsys) -> None:
    rank(variables)
    words = ["train", *TINY, "--max-steps", 2, "--out", tmp_path / "run"]
    assert run(*words) == 0
    assert {"samples.png", "reconstructions.png", "result.json"} <= {path.name for path in (tmp_path / "run").iterdir()}
    assert any((tmp_path / "run" / "log").glob("events*")) and "test bits/dim" in capsys.readouterr().out
    rank(variables)
    assert run(*words) == 2
    assert "holds a run" in capsys.readouterr().err


@pytest.mark.parametrize("variables", [{}, {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "bash"}], ids=["shell", "slurm"])
def test_several_machines_without_a_launcher_are_refused(variables, monkeypatch, tmp_path: Path, capsys) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run("train", *TINY, "--num-nodes", 2, "--out", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert "num_nodes 2 waits for a process on each machine" in error and "torchrun" in error and "srun" in error


def test_several_machines_say_where_they_meet(monkeypatch, capsys) -> None:
    from nflows_woodbury.train.config import Running
    from nflows_woodbury.train.environment import check_launcher

    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    check_launcher(Running(num_nodes=2, devices=4))
    assert capsys.readouterr().err == "waiting until 2 machines with 4 processes each meet at 10.0.0.1:29500\n"


def test_compiling_without_a_compiler_is_said_before_training(monkeypatch, tmp_path: Path, capsys) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert run("train", *TINY, "--compile", "--out", tmp_path / "run") == 2
    assert "compile needs a C++ compiler, and there is no no-such-compiler" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


class FullDisk(pl.Callback):
    """No file of this process may grow beyond 10 kB any more, from a step on."""

    def on_train_batch_start(self, trainer, *_) -> None:
        if trainer.global_step == 5:
            import resource

            self.before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, self.before[1][1]))

    def on_exception(self, *_) -> None:
        import resource

        signal.signal(signal.SIGXFSZ, self.before[0])
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before[1])


def test_a_full_disk_is_named_and_how_to_go_on(tmp_path: Path, monkeypatch, capsys) -> None:
    from nflows_woodbury.train import trainer

    callbacks = trainer._callbacks
    monkeypatch.setattr(trainer, "_callbacks", lambda *a: [FullDisk(), *callbacks(*a)])
    assert run("train", *TINY, "--max-steps", 12, "--every", 4, "--out", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert "last.ckpt: file too large; " in error and f"train --resume {tmp_path / 'run'}" in error
    assert read_checkpoint(tmp_path / "run")["global_step"] == 4
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["last.ckpt"]


def labelled() -> ArraySource:
    """Photographs with some held out for validation."""
    return ArraySource(PhotoSource(16).test)


def test_a_validation_is_logged_when_it_is_measured_and_once(tmp_path: Path) -> None:
    config = replace(CONFIG, every=3)
    make_trainer(config, tmp_path, progress=False).fit(FlowTraining(FLOW, config, labelled()))
    events = EventAccumulator(str(tmp_path / "log"))
    events.Reload()
    assert [event.step for event in events.Scalars("validation_bits_per_dim")] == [3, 6, 9, 12]


def bar_of(tmp_path: Path, monkeypatch, **settings) -> str:
    text = io.StringIO()
    monkeypatch.setattr(sys, "stderr", text)
    config = replace(CONFIG, **settings)
    trainer = make_trainer(config, tmp_path, progress=True)
    last = tmp_path / "checkpoints" / "last.ckpt"
    trainer.fit(FlowTraining(FLOW, config, labelled()), ckpt_path=last if last.exists() else None, weights_only=True)
    return text.getvalue()


def test_the_progress_bar_counts_a_resumed_run_s_own_steps(tmp_path: Path, monkeypatch, capsys) -> None:
    assert "12/12" in bar_of(tmp_path, monkeypatch)
    text = bar_of(tmp_path, monkeypatch, max_steps=20)
    lines = [line for line in text.split("\r") if line.strip()]
    assert "12/20" in lines[0] and "20/20" in lines[-1] and "0/20" not in lines[0].replace("12/20", "")
    assert "bits/dim=" in lines[-1] and "validation=" in lines[-1]
    assert capsys.readouterr().out == ""


def test_the_rate_is_that_of_this_process(tmp_path: Path, monkeypatch) -> None:
    seen = []
    count = ProgressBar.on_train_batch_end

    def look(self, trainer, *rest) -> None:
        count(self, trainer, *rest)
        seen.append((self._bar.n, self._bar.initial, self._bar.total))

    bar_of(tmp_path, monkeypatch)
    monkeypatch.setattr(ProgressBar, "on_train_batch_end", look)
    bar_of(tmp_path, monkeypatch, max_steps=15)
    assert seen == [(13, 12, 15), (14, 12, 15), (15, 12, 15)]


@pytest.mark.parametrize("count", range(1, 20))
def test_pairs_stay_together_whatever_their_number(count: int) -> None:
    first = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    grid = pair_grid(first, first + 100)[0, 2::4, 2::4]
    left, right = grid[:, 0::2].flatten(), grid[:, 1::2].flatten()
    assert torch.equal(left[:count], first[:, 0, 0, 0]) and torch.equal(right[:count], first[:, 0, 0, 0] + 100)
    assert (left[count:] == 255).all() and len(left) - count < max(grid.shape[1] // 2, 1)


def test_progress_goes_to_one_stream_and_results_to_the_other(tmp_path: Path, capsys) -> None:
    words = [word for word in TINY if word != "--quiet"]
    assert run("train", *words, "--max-steps", 3, "--out", tmp_path / "run") == 0
    printed = capsys.readouterr()
    assert "\n3 steps in " in printed.out and "\r" not in printed.out and "3/3" in printed.err
    with Image.open(tmp_path / "run" / "reconstructions.png") as image:
        assert image.width > 0


STEPS = """
import resource
import torch
from nflows_woodbury.train.allocator import keep_freed_memory
print(keep_freed_memory())
for step in range(6):
    if step == 3:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [torch.zeros(2**20) for _ in range(16)]
    del kept
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(**variables: str) -> tuple[str, int]:
    """Of three steps that make the same tensors of 64 MiB: what the function says, and how many pages are new."""
    from nflows_woodbury.train.allocator import _SETTINGS

    environment = {name: value for name, value in os.environ.items() if name not in _SETTINGS} | variables
    words = [sys.executable, "-W", "ignore", "-c", STEPS]
    said, faults = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout.split()
    return said, int(faults)


def test_freed_memory_is_kept_for_the_next_step() -> None:
    said, faults = page_faults()
    assert said == str(platform.libc_ver()[0] == "glibc")
    assert said == "False" or faults < 3 * 2**26 / mmap.PAGESIZE / 10


def test_settings_of_the_allocator_stand() -> None:
    assert page_faults(MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"


def test_every_command_keeps_freed_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(main_module, "keep_freed_memory", lambda: asked.append(True))
    assert run("presets") == 0 and asked == [True]


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_without_glibc_nothing_changes(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    from nflows_woodbury.train import allocator

    def fail(name: None) -> None:
        raise error

    for name in allocator._SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(allocator.ctypes, "CDLL", fail)
    assert allocator.keep_freed_memory() is False
