"""The tables of docs/concepts/numerics.rst, measured again."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARK = runpy.run_path(str(ROOT / "benchmarks" / "precision.py"))
PRECISIONS = BENCHMARK["precisions"]("cpu")


def table(name: str) -> dict[str, list[list[float]]]:
    """Row -> the numbers of each cell."""
    page = ROOT / "docs" / "concepts" / "numerics.rst"
    text = page.read_text().split(f":name: {name}")[1].split("\n\n", 2)[1]
    rows = [re.findall(r"- (.*)", row) for row in text.split("   * ")[2:]]
    return {name: [[float(value) for value in cell.split(", ")] for cell in cells] for name, *cells in rows}


@pytest.mark.parametrize("name", PRECISIONS)
def test_the_table_of_precisions_says_what_is_measured(name: str) -> None:
    said = table("precision-table")
    assert said.keys() == PRECISIONS.keys()
    for measured, [number] in zip(BENCHMARK["measure"](*PRECISIONS[name]), said[name], strict=True):
        assert number / 5 <= measured <= 5 * number


@pytest.mark.parametrize("name", BENCHMARK["LAYERS"])
def test_the_table_of_conditions_says_what_is_measured(name: str) -> None:
    said = table("condition-table")
    assert said.keys() == BENCHMARK["LAYERS"].keys()
    measured = [BENCHMARK["measure_layer"](name, condition) for condition in BENCHMARK["CONDITIONS"]]
    outputs, inverses, logabsdets, gradients = zip(*measured, strict=True)
    of_outputs, of_inverses, [of_logabsdet], of_gradients = said[name]
    for numbers, found in ((of_outputs, outputs), (of_inverses, inverses), (of_gradients, gradients)):
        for number, value in zip(numbers, found, strict=True):
            assert number / 5 <= value <= 5 * number
    assert max(logabsdets) <= 5 * of_logabsdet  # by luck it may be exact
