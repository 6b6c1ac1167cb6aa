"""One trained run for all tests that read one."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import TINY, run


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing interrupts, through the command line; read it, do not change it."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert run("train", *TINY, "--max-steps", 12, "--every", 4, "--warmup-steps", 2, "--out", out) == 0
    return out
