"""benchmarks/conditions.py: the condition of a layer's whole map is that of its dense Jacobian."""

from __future__ import annotations

import sys
from math import inf, nan
from pathlib import Path

import pytest
import torch
from registry import dense_jacobian, move

from nflows_woodbury.config import MIXINGS, FlowConfig

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

SHAPE = (4, 3, 5)


@pytest.mark.parametrize("name", [*MIXINGS, "emerging+woodbury"])
def test_the_condition_is_that_of_the_dense_map(name: str) -> None:
    from conditions import condition

    torch.manual_seed(0)
    layer = move(MIXINGS[name](3, 4)(SHAPE), 0.1).double().eval()
    singular_values = torch.linalg.svdvals(dense_jacobian(layer, torch.randn(1, *SHAPE, dtype=torch.float64)))
    expected = float(singular_values[0] / singular_values[-1])
    assert condition(layer, SHAPE) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("value", [0.0, nan, inf])
@pytest.mark.parametrize("name", MIXINGS)
def test_what_has_no_inverse_has_an_infinite_condition(name: str, value: float) -> None:
    from conditions import condition

    torch.manual_seed(0)
    layer = MIXINGS[name](3, 4)(SHAPE).double().eval()
    for parameter in layer.parameters():
        torch.nn.init.constant_(parameter, value)
    dense = dense_jacobian(layer, torch.randn(1, *SHAPE, dtype=torch.float64))
    singular = not dense.isfinite().all() or torch.linalg.matrix_rank(dense) < len(dense)
    assert singular or value == 0
    assert condition(layer, SHAPE) == (inf if singular else pytest.approx(float(torch.linalg.cond(dense)), rel=1e-3))


@pytest.mark.parametrize("settings", [{"first": "nothing"}, {"num_classes": 3}], ids=["fields", "classes"])
def test_the_mixings_of_every_kind_of_flow_are_found(settings: dict) -> None:
    from conditions import mixings

    flow = FlowConfig((3, 8, 8), levels=2, steps=1, hidden_channels=4, **settings).build().double().eval()
    assert [*mixings(flow)] == ["level 0, step 1", "level 1, step 1"]


def test_the_mixings_of_a_flow_are_those_of_its_steps() -> None:
    from conditions import condition, mixings

    flow = (
        FlowConfig((3, 8, 8), levels=2, steps=2, hidden_channels=4, mixing="emerging,woodbury").build().double().eval()
    )
    found = {name: (type(part).__name__, shape) for name, (part, shape) in mixings(flow).items()}
    assert found == {
        "level 0, step 1": ("EmergingConvolution", (12, 4, 4)), "level 0, step 2": ("WoodburyTransform", (12, 4, 4)),
        "level 1, step 1": ("EmergingConvolution", (24, 2, 2)), "level 1, step 2": ("WoodburyTransform", (24, 2, 2)),
    }  # fmt: skip
    layer = mixings(flow)["level 1, step 2"][0]
    with torch.no_grad():  # a direction goes to zero
        layer.transforms[0].U.zero_(), layer.transforms[0].V.zero_()
        layer.transforms[0].U[0, 0], layer.transforms[0].V[0, 0] = -1, 1
    assert condition(layer, (24, 2, 2)) == float("inf")
