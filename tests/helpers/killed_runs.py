"""Kill training runs at random moments, resume them, and compare their ends with that of the run that nothing killed.

Run it with: python tests/helpers/killed_runs.py --runs 50
It prints one JSON object. Runs are forks of this process, which has everything imported and runs no tensor operation
itself, so that a run takes a second. A checkpoint is written every other step: many kills come while one is written.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import signal
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ["OMP_NUM_THREADS"] = "1"  # no threads that a fork would lose

import torch
from running import CONFIG, assert_same, fit, state

from nflows_woodbury.checkpoint import find_checkpoint
from nflows_woodbury.evaluation.history import read_history

LONG = replace(CONFIG, max_steps=40, every=2, warmup_steps=4, accumulate=2, ema_decay=0.9, clip_norm=1.0)


def start(folder: Path) -> int:
    """Fork a process that trains in a folder, from its last checkpoint if it has one."""
    child = os.fork()
    if child:
        return child
    try:
        torch.set_num_threads(1)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1), os.dup2(quiet, 2)
        resume = find_checkpoint(folder) if (folder / "checkpoints" / "last.ckpt").exists() else None
        fit(folder, resume=resume, config=LONG)
    except BaseException:
        os._exit(1)
    os._exit(0)


def kill_after(child: int, seconds: float) -> bool:
    """Kill at a random moment; whether that was before the end."""
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def kill_at_write(child: int, checkpoints: Path, writes: int) -> bool:
    """Kill while the checkpoint of this number is being written; whether that was before the end."""
    was_writing = False
    while writes:
        is_writing = checkpoints.exists() and any(name.endswith(".new") for name in os.listdir(checkpoints))
        writes -= is_writing and not was_writing
        was_writing = is_writing
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
    return kill_after(child, 0)


def finish(child: int, folder: Path) -> None:
    if os.waitpid(child, 0)[1] != 0:
        raise RuntimeError(f"the run in {folder} failed")


def main(runs: int, seed: int, folder: Path) -> dict[str, int]:
    rng = random.Random(seed)
    began = time.monotonic()
    finish(start(folder / "whole"), folder / "whole")
    seconds = time.monotonic() - began
    report = {"runs": 0, "kills": 0, "while_writing": 0, "before_the_first_checkpoint": 0, "equal": 0}
    while report["runs"] < runs:
        out = folder / str(report["runs"])
        kills = 0
        checkpoints = out / "checkpoints"
        for _ in range(rng.choice([1, 2])):
            child = start(out)
            if rng.random() < 0.5:
                killed = kill_at_write(child, checkpoints, rng.randint(1, 10))
            else:
                killed = kill_after(child, rng.uniform(0, seconds))
            if not killed:
                break  # it had ended
            kills += 1
            report["while_writing"] += any(checkpoints.glob(".*.new"))
            report["before_the_first_checkpoint"] += not (checkpoints / "last.ckpt").exists()
        finish(start(out), out)
        assert_same(state(out), state(folder / "whole"))
        assert read_history(out) == read_history(folder / "whole")
        if kills:
            report["runs"] += 1
            report["kills"] += kills
            report["equal"] += 1
        left = list((out / "checkpoints").glob(".*.new"))
        assert not left, left
        out.rename(folder / f"done-{time.monotonic_ns()}")
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    with TemporaryDirectory() as scratch:
        json.dump(main(options.runs, options.seed, Path(scratch)), sys.stdout)
        print()
