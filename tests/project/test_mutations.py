"""The mutation check itself takes minutes and is run by hand; here only that its tables fit the code and the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_every_mutated_line_is_still_there_once() -> None:
    script = Path(__file__).parents[1] / "mutations"
    listed = subprocess.run([sys.executable, str(script), "--list"], capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    assert int(listed.stdout.split()[-2]) >= 297
