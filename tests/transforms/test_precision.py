"""The table of docs/concepts/numerics.rst, measured again."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARK = runpy.run_path(str(ROOT / "benchmarks" / "precision.py"))
PRECISIONS = BENCHMARK["precisions"]("cpu")


def table() -> dict[str, list[float]]:
    page = ROOT / "docs" / "concepts" / "numerics.rst"
    text = page.read_text().split(":name: precision-table")[1].split("\n\n", 2)[1]
    rows = [re.findall(r"- (.*)", row) for row in text.split("   * ")[2:]]
    return {name: [float(value) for value in values] for name, *values in rows}


@pytest.mark.parametrize("name", PRECISIONS)
def test_the_table_says_what_is_measured(name: str) -> None:
    assert table().keys() == PRECISIONS.keys()
    for measured, said in zip(BENCHMARK["measure"](*PRECISIONS[name]), table()[name], strict=True):
        assert said / 5 <= measured <= 5 * said
