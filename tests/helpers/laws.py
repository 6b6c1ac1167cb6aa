"""What the laws of transforms share: the cases that they are checked at, and how errors are measured."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from registry import CASES, QUICK, Case


def at(cases: Iterable[Case]) -> pytest.MarkDecorator:
    """Check a law at some cases; ``tox -e quick`` takes those in QUICK, one of each layer."""
    parameters = [pytest.param(c, id=str(c), marks=[pytest.mark.quick] if c in QUICK else []) for c in cases]
    return pytest.mark.parametrize("case", parameters)


each_case = at(CASES)


def relative(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest error relative to the largest expected value; absolute where that is below 1."""
    if not expected.numel():
        return 0.0
    actual, expected = actual.detach(), expected.detach()
    return float((actual - expected).abs().max() / expected.abs().max().clamp_min(1))
