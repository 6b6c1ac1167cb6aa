"""Spline couplings: nflows' values where those are sound, and sound where they are not."""

from __future__ import annotations

from math import expm1, log

import pytest
import torch
from nflows.transforms.splines.rational_quadratic import unconstrained_rational_quadratic_spline

from nflows_woodbury.transforms.spline import SplineCoupling

SHAPE = (6, 4, 5)


def parameters(num_bins: int = 4, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    torch.manual_seed(0)
    return scale * torch.randn(20, 3 * num_bins - 1, 3, 4, 5, dtype=dtype)


def nflows_spline(values: torch.Tensor, raw: torch.Tensor, num_bins: int, bound: float, inverse: bool = False):
    widths, heights, slopes = raw.movedim(1, -1).split([num_bins, num_bins, num_bins - 1], -1)
    slopes = slopes + log(expm1(1 - 1e-3))
    return unconstrained_rational_quadratic_spline(values, widths, heights, slopes, inverse=inverse, tail_bound=bound)


@pytest.mark.parametrize(("num_bins", "bound"), [(2, 1.0), (4, 3.0), (8, 5.0)])
def test_values_and_slopes_are_those_of_nflows(num_bins: int, bound: float) -> None:
    coupling = SplineCoupling(SHAPE, 4, num_bins, bound)
    raw = parameters(num_bins)
    values = 0.7 * bound * torch.randn(20, 3, 4, 5, dtype=torch.float64)
    for map_, inverse in [(coupling.map_values, False), (coupling.unmap_values, True)]:
        expected = nflows_spline(values, raw, num_bins, bound, inverse)
        torch.testing.assert_close(map_(values, raw), expected, atol=1e-9, rtol=1e-9)


def test_it_starts_as_the_identity() -> None:
    coupling, inputs = SplineCoupling(SHAPE, 8).double(), 2 * torch.randn(16, *SHAPE, dtype=torch.float64)
    for map_ in (coupling, coupling.inverse):
        outputs, logabsdet = map_(inputs)
        torch.testing.assert_close(outputs, inputs, atol=1e-12, rtol=0)
        torch.testing.assert_close(logabsdet, torch.zeros_like(logabsdet), atol=1e-12, rtol=0)


@pytest.mark.parametrize("direction", ["map_values", "unmap_values"])
def test_tails_are_the_identity_and_everything_is_smooth_across_knots(direction: str) -> None:
    coupling = SplineCoupling((2, 1, 1), 4)
    values = torch.linspace(-3.5, 3.5, 70_001, dtype=torch.float64).view(-1, 1, 1, 1)
    raw = parameters()[:1, :, :1, :1, :1].expand(len(values), -1, 1, 1, 1)
    outputs, slopes = getattr(coupling, direction)(values, raw)
    outside = values.abs() >= 3
    assert torch.equal(outputs[values.abs() > 3], values[values.abs() > 3])
    torch.testing.assert_close(outputs[outside], values[outside], atol=1e-12, rtol=0)
    torch.testing.assert_close(slopes[outside], torch.zeros_like(slopes[outside]), atol=1e-12, rtol=0)
    steps, limits = outputs.diff(dim=0), slopes.exp()
    assert (steps > 0).all()
    assert slopes.diff(dim=0).abs().max() < 0.05  # no jump in the slope at knots and ends
    torch.testing.assert_close(steps / 1e-4, (limits[1:] + limits[:-1]) / 2, atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("edge", [-3.0, 3.0])
def test_the_ends_of_the_interval_have_finite_gradients(edge: float) -> None:
    coupling = SplineCoupling((2, 1, 1), 4)
    for map_ in (coupling.map_values, coupling.unmap_values):
        raw = parameters()[:, :, :1, :1, :1].requires_grad_()
        values = torch.full((20, 1, 1, 1), edge, dtype=torch.float64, requires_grad=True)
        outputs, slopes = map_(values, raw)
        (outputs.sum() + slopes.sum()).backward()
        assert values.grad.isfinite().all()
        assert raw.grad.isfinite().all()


def test_the_inverse_has_the_gradients_of_finite_differences() -> None:
    coupling = SplineCoupling((2, 1, 1), 4)
    raw = parameters()[:3, :, :1, :1, :1].requires_grad_()
    values = torch.tensor([-2.2, 0.3, 1.7], dtype=torch.float64).view(3, 1, 1, 1).requires_grad_()
    torch.autograd.gradcheck(coupling.unmap_values, (values, raw))


def test_steep_splines_stay_sound_in_float32() -> None:
    torch.manual_seed(0)
    coupling, raw = SplineCoupling(SHAPE, 4, 8), 10 * torch.randn(1000, 23, 3, 4, 5)
    values, _ = nflows_spline(1.5 * torch.randn(1000, 3, 4, 5), raw, 8, 3.0)
    with pytest.raises(AssertionError):
        nflows_spline(values, raw, 8, 3.0, inverse=True)
    for map_ in (coupling.map_values, coupling.unmap_values):
        outputs, slopes = map_(values, raw)
        assert outputs.isfinite().all()
        assert slopes.isfinite().all()
        assert (outputs.abs() <= 3 + 1e-5)[values.abs() <= 3].all()


@pytest.mark.parametrize("scale", [1, 3, 10, 30])
@pytest.mark.parametrize(("num_bins", "bound"), [(4, 3.0), (8, 3.0), (8, 0.5), (20, 10.0)])
def test_both_directions_of_steep_splines_solve_their_equation_to_rounding_in_float32(
    num_bins: int, bound: float, scale: float
) -> None:
    """What comes out is exact for inputs and outputs that are off by a few roundings: slopes lose the rest, not we."""
    coupling, eps = SplineCoupling(SHAPE, 4, num_bins, bound), torch.finfo(torch.float32).eps
    raw = parameters(num_bins, scale, torch.float32)
    values = bound * (2 * torch.rand(20, 3, 4, 5) - 1)
    for there in (coupling.map_values, coupling.unmap_values):
        outputs, _ = there(values, raw)
        x, y = (values, outputs) if there == coupling.map_values else (outputs, values)
        expected, log_slope = coupling.map_values(x.double(), raw.double())
        assert ((y - expected).abs() <= 16 * eps * bound * (1 + log_slope.exp())).all()


def test_vmap_and_whole_graph_compile() -> None:
    torch._dynamo.reset()
    coupling, inputs = SplineCoupling(SHAPE, 8), torch.randn(4, 2, *SHAPE)
    torch.nn.init.normal_(coupling.net.last.weight, std=0.1)
    expected = torch.stack([coupling(x)[0] for x in inputs])
    torch.testing.assert_close(torch.vmap(coupling)(inputs)[0], expected)
    compiled = torch.compile(coupling.inverse, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(expected[0].detach())[0], inputs[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"num_bins": 1}, ValueError, "num_bins must be at least 2 and below 1000, got 1"),
        ({"num_bins": 1000}, ValueError, "num_bins must be at least 2"),
        ({"num_bins": 4.0}, TypeError, "num_bins must be a positive integer"),
        ({"tail_bound": 0}, ValueError, "tail_bound must be positive"),
        ({"tail_bound": float("nan")}, ValueError, "tail_bound must be positive"),
        ({"hidden_channels": 0}, ValueError, "hidden_channels must be a positive integer"),
        ({"shape": (1, 4, 4)}, ValueError, "at least 2 channels"),
    ],
)
def test_arguments(arguments: dict[str, object], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        SplineCoupling(**{"shape": SHAPE, "hidden_channels": 4, **arguments})
