"""A checkpoint written before the package was divided into rooms (``old.ckpt``) is read and continued.

It is what this command wrote then: nflows-woodbury train --size 8 --levels 1 --steps 1 --hidden-channels 8
--batch-size 8 --max-steps 2
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from running import LIGHTNING, run

from nflows_woodbury.checkpoint import load_flow, open_run, read_checkpoint
from nflows_woodbury.evaluation.likelihood import bits_per_dim

pytestmark = LIGHTNING

OLD = Path(__file__).with_name("old.ckpt")


def test_it_gives_the_bits_per_dim_that_it_gave_then() -> None:
    flow, saved = load_flow(OLD)
    assert saved["steps"] == 2 and saved["training"]["max_steps"] == 2
    bits = bits_per_dim(flow, open_run(OLD).source.test)
    assert bits.mean().item() == pytest.approx(8.01508198864758, abs=1e-5)


def test_its_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    shutil.copy(OLD, tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert run("train", "--resume", tmp_path / "run", "--max-steps", 3, "--quiet") == 0
    assert read_checkpoint(tmp_path / "run")["global_step"] == 3
