"""The installed package alone, without extras: runs in the environment of ``tox -e wheel`` (see conftest.py)."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path


def test_the_wheel_runs_the_nflows_snippet_of_the_readme(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    snippet = re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)[0]
    run = subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "torch.Size([5]) torch.Size([2, 12, 16, 16])\n"


def test_train_names_the_missing_extra(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nflows_woodbury", "train"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.count("\n") == 1
    assert "pip install nflows-woodbury[train]" in run.stderr


def test_the_wheel_holds_the_types_marker_and_nothing_but_the_package() -> None:
    files = [str(file) for file in distribution("nflows-woodbury").files or []]
    assert "nflows_woodbury/py.typed" in files
    tops = {file.split("/")[0] for file in files if not file.startswith("..")}
    assert all(top.startswith("nflows_woodbury") for top in tops)
