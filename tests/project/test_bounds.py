"""What ``tox -e oldest`` installs are the lower bounds of pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.version import Version

ROOT = Path(__file__).parents[2]


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    bounds = re.findall(r'^  "([a-z-]+)[>=]=([\d.]+)', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    oldest = re.findall(r"^([a-z-]+)==([\d.]+)$", (ROOT / "constraints-oldest.txt").read_text(), re.MULTILINE)
    pinned = {name: Version(version) for name, version in oldest}
    assert pinned.keys() - {"numpy"} <= dict(bounds).keys()
    for name, version in bounds:
        assert name not in pinned or pinned[name] == Version(version), name
