"""The table of docs/concepts/numerics.rst, measured again."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from nflows_woodbury import ActNorm, AffineCoupling, Chain, WoodburyTransform

PRECISIONS = {
    "float64": (torch.float64, nullcontext),
    "float32": (torch.float32, nullcontext),
    "float32, autocast to bfloat16": (torch.float32, lambda: torch.autocast("cpu", torch.bfloat16)),
    "float32, autocast to float16": (torch.float32, lambda: torch.autocast("cpu", torch.float16)),
}


def table() -> dict[str, list[float]]:
    page = Path(__file__).parents[1] / "docs" / "concepts" / "numerics.rst"
    text = page.read_text().split(":name: precision-table")[1].split("\n\n", 2)[1]
    rows = [re.findall(r"- (.*)", row) for row in text.split("   * ")[2:]]
    return {name: [float(value) for value in values] for name, *values in rows}


@torch.no_grad()
def measure(dtype: torch.dtype, context) -> list[float]:
    shape = (12, 16, 16)
    torch.manual_seed(0)
    step = [lambda: ActNorm(12), lambda: WoodburyTransform(shape, ranks=(8, 16)), lambda: AffineCoupling(shape, 64)]
    chain = Chain(make() for _ in range(8) for make in step)
    for parameter in chain.parameters():
        parameter += 0.03 * torch.randn(parameter.shape)
    inputs = torch.randn(8, *shape, dtype=torch.float64)
    expected, expected_logabsdet = chain.double()(inputs)
    chain, inputs = chain.to(dtype), inputs.to(dtype)
    with context():
        outputs, logabsdet = chain(inputs)
        back, _ = chain.inverse(outputs)
    assert outputs.dtype == logabsdet.dtype == dtype
    differences = (outputs - expected) / expected.abs().max(), (logabsdet - expected_logabsdet) / inputs[0].numel()
    return [float(d.abs().max()) for d in (*differences, (back - inputs) / inputs.abs().max())]


@pytest.mark.parametrize("name", PRECISIONS)
def test_the_table_says_what_is_measured(name: str) -> None:
    assert table().keys() == PRECISIONS.keys()
    for measured, said in zip(measure(*PRECISIONS[name]), table()[name], strict=True):
        assert said / 5 <= measured <= 5 * said
