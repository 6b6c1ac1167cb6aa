"""What the files of a public project repeat is the same everywhere; their syntax is checked by ``tox -e habits``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def found(pattern: str, file: str) -> str:
    (text,) = re.findall(pattern, (ROOT / file).read_text(), re.MULTILINE)
    return text


def test_the_citation_is_of_this_version() -> None:
    assert found(r"^version: (\S+)$", "CITATION.cff") == found(r'^version = "(.+)"$', "pyproject.toml")


@pytest.mark.parametrize(
    "name, repository",
    [("ruff", "astral-sh/ruff-pre-commit"), ("check-jsonschema", "python-jsonschema/check-jsonschema")],
)
def test_pre_commit_runs_what_tox_runs(name: str, repository: str) -> None:
    revision = found(rf"{repository}\n +rev: v?(\S+)", ".pre-commit-config.yaml")
    assert revision == found(rf"^{name}==(\S+)$", "constraints.txt")


def test_every_workflow_and_form_is_checked() -> None:
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / ".github").rglob("*.yml")]
    checked = re.findall(r"\.github/\S+", (ROOT / "tox.ini").read_text())
    assert sorted(files) == sorted(checked)
