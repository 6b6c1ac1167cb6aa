"""benchmarks/memory.py: a count of what autograd keeps, and the layers that keep no more than they must."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from torch import nn

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from memory import count, rows_of

AT_LEAST = (
    "ActNorm", "woodbury", "conv1x1", "conv1x1-plu", "conv1x1-qr", "conv1x1-exp", "emerging", "finc", "circulant",
    "butterfly", "affine", "additive", "a step: ActNorm, woodbury, affine",
)  # fmt: skip


def test_a_convolution_keeps_its_inputs_and_tanh_its_outputs() -> None:
    assert count(nn.Conv2d(4, 4, 1), (4, 6, 6)) == (1, 0)
    assert count(nn.Sequential(nn.Conv2d(4, 2, 1), nn.Tanh()), (4, 6, 6)) == (1.5, 0)


def test_layers_keep_what_they_must() -> None:
    rows = {row["layer"]: row for row in rows_of((48, 8, 8), hidden=16)}
    for name in AT_LEAST:
        assert rows[name]["kept"] == pytest.approx(rows[name]["must"]), name
    assert all(row["must"] is None or row["kept"] > row["must"] - 1e-6 for row in rows.values())
