"""Runs the scripts of the tutorials when the site is built; the pages show the scripts and what they printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nflows_woodbury


def run(scripts: Path, results: Path, renew: bool = True) -> None:
    """Run each script whose output is missing or, with ``renew``, older than it or the package, in a folder of its own.

    A script's standard output goes to ``output.txt`` there, beside the pictures that it writes, which take their
    colours from docs/matplotlibrc. RuntimeError with what it said if it fails.
    """
    environment = os.environ | {"MATPLOTLIBRC": str(Path(__file__).with_name("matplotlibrc"))}
    package = [source.stat().st_mtime for source in Path(nflows_woodbury.__file__).parent.rglob("*.py")]
    for script in sorted(scripts.glob("*.py")):
        output = results / script.stem / "output.txt"
        if output.exists() and (not renew or output.stat().st_mtime > max(*package, script.stat().st_mtime)):
            continue
        output.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, script]
        done = subprocess.run(command, cwd=output.parent, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{script.name} failed:\n{done.stdout}{done.stderr}")
        output.write_text(done.stdout)
