"""Runs scripts as ``python path words`` does, in copies of one process that has imported what is slow to import."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

LIMIT = 300  # seconds

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["matplotlib.pyplot", "nflows.flows", "normflows", "pytorch_lightning", "skimage.data"])


def run_script(path: Path, words: Sequence[str], folder: Path) -> str:
    """What a script that runs in a folder prints; AssertionError with what it said unless its exit status is 0."""
    output = folder / "output.txt"
    process = SERVER.Process(target=_run, args=(path, [str(path), *words], folder, output))
    process.start()
    process.join(LIMIT)
    process.kill()
    process.join()
    said = output.read_text()
    assert process.exitcode == 0, said
    return said


def _run(path: Path, words: list[str], folder: Path, output: Path) -> None:
    os.chdir(folder)
    sys.argv[:] = words
    sys.path[:] = [str(path.parent), *(entry for entry in sys.path if entry != str(Path(__file__).parent))]
    warnings.simplefilter("ignore")
    with output.open("w") as file, contextlib.redirect_stdout(file):
        try:
            runpy.run_path(str(path), run_name="__main__")
        except Exception:
            traceback.print_exc(file=file)
            sys.exit(1)
