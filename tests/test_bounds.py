"""What ``tox -e oldest`` installs are the lower bounds of pyproject.toml."""

from __future__ import annotations

from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

OLDEST = Path(__file__).parents[1] / "constraints-oldest.txt"


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    pinned = dict(line.split("==") for line in OLDEST.read_text().splitlines() if "==" in line)
    required = [Requirement(line) for line in requires("nflows-woodbury")]
    for bound in required:
        if bound.name in pinned:
            lower = next(part.version for part in bound.specifier if part.operator in (">=", "=="))
            assert Version(lower) == Version(pinned[bound.name]), bound
    needed = [
        r for r in required if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in ("train", "datasets"))
    ]
    assert {bound.name for bound in needed} <= pinned.keys()
