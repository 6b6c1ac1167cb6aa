"""What waits for a GPU runs from end to end without one, in a trial's sizes, and again only where it failed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
FILES = {
    "tests": "output.txt", "correctness": "device.json", "mixing": "criteria.json", "glow": "glow.json",
    "speed": "device.json", "sampling": "device.json", "memory": "device.json", "copy": "device.json",
    "training": "records.json",
}  # fmt: skip


def trial(folder: Path, data: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit status, and the result of each stage."""
    words = ["--minutes", "9", "--small", "--data", data, "--out", "gpu"]
    status = subprocess.run([sys.executable, "-W", "ignore", str(SCRIPT), *words], cwd=folder).returncode
    stages = json.loads((folder / "gpu" / "gpu.json").read_text())["stages"]
    return status, {stage["name"]: stage for stage in stages}


def test_all_stages_run_and_only_those_that_failed_run_again(tmp_path: Path) -> None:
    status, results = trial(tmp_path, "nowhere.npz")
    assert status == 1 and {name for name, result in results.items() if result["status"]} == {"training"}
    assert "nowhere.npz" in results["training"]["output"]
    again, repeated = trial(tmp_path, "photos")
    assert again == 0, repeated["training"]["output"]
    assert list(repeated) == list(FILES)
    assert all(repeated[name] == results[name] for name in FILES if name != "training")
    for name, file in FILES.items():
        assert (tmp_path / "gpu" / name / file).stat().st_size > 0
    assert "passed" in results["tests"]["output"] and (tmp_path / "gpu" / "training" / "curves.png").exists()
