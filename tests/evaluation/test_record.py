"""What stands beside a likelihood, so that it can be repeated."""

from __future__ import annotations

import subprocess
from pathlib import Path

from nflows_woodbury.evaluation.record import _checkout, _circumstances, spread


def test_spread_is_that_of_a_sample() -> None:
    records = [{"bits_per_dim": bits} for bits in (1.0, 2.0)]
    assert spread(records) == "2 runs: 1.500 bits/dim, standard deviation 0.707"


def test_a_record_made_in_a_checkout_names_its_commit() -> None:
    root = Path(__file__).parents[2]
    head = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    assert _circumstances()["commit"].rstrip("+") == head.strip()


def test_a_package_in_another_project_s_checkout_has_no_commit(tmp_path: Path) -> None:
    package = tmp_path / "venv" / "site-packages" / "nflows_woodbury" / "evaluation"
    package.mkdir(parents=True)
    assert _checkout(package / "record.py") is None
    (tmp_path / ".git").mkdir()
    assert _checkout(package / "record.py") is None
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "theirs"\n')
    assert _checkout(package / "record.py") is None
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "nflows-woodbury"\n')
    assert _checkout(package / "record.py") == tmp_path
