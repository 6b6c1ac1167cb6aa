"""Convolution exponentials: what they reach, how many terms they take, and kernels of any size."""

from __future__ import annotations

import pytest
import torch
from registry import dense_jacobian
from torch.autograd import forward_ad

from nflows_woodbury.linalg import exponential
from nflows_woodbury.linalg.exponential import norm_bound, num_terms
from nflows_woodbury.transforms.exponential import ConvolutionExponential

Shape = tuple[int, int, int]


def make(shape: Shape, kernel_size: int = 3, max_norm: float = 3.0, size: float = 1.0) -> ConvolutionExponential:
    """With a random kernel whose bound is ``size``."""
    torch.manual_seed(0)
    layer = ConvolutionExponential(shape, kernel_size, max_norm).double()
    with torch.no_grad():
        layer.weight.mul_(size / norm_bound(layer.weight))
    return layer


@pytest.mark.parametrize("size", [1e-6, 1e-3])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_it_reaches_as_many_pixels_as_its_terms(kernel_size: int, size: float) -> None:
    reach = num_terms(size, torch.float64) * (kernel_size // 2)
    shape = (2, 3, reach + 4)
    jacobian = dense_jacobian(make(shape, kernel_size, size=size), torch.zeros(1, *shape, dtype=torch.float64))
    seen = jacobian.view(*shape, *shape).abs()
    for i in range(shape[1]):
        for j in range(shape[2]):
            window = torch.zeros(shape[1:], dtype=torch.bool)
            window[max(i - reach, 0) : i + reach + 1, max(j - reach, 0) : j + reach + 1] = True
            assert seen[:, i, j][..., window].all() and not seen[:, i, j][..., ~window].any()


def terms_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of terms that layers go on to take."""
    taken: list[int] = []
    plain = exponential.exp_convolve

    def record(inputs: torch.Tensor, kernel: torch.Tensor, factors: int, terms: int) -> torch.Tensor:
        taken.append(terms)
        return plain(inputs, kernel, factors, terms)

    monkeypatch.setattr(exponential, "exp_convolve", record)
    return taken


def test_terms_are_those_of_the_kernel_where_it_can_be_read_and_else_of_the_largest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken, inputs = terms_of(monkeypatch), torch.randn(2, 2, 3, 4, dtype=torch.float64)
    small, large = make((2, 3, 4), size=0.01), make((2, 3, 4), size=50.0)
    fewest, most = num_terms(0.01, torch.float64), num_terms(3.0, torch.float64)
    for layer in (small, large):
        layer(inputs), layer.inverse(inputs)
    assert taken == [fewest, fewest, most, most]
    taken.clear()
    with forward_ad.dual_level():
        small(forward_ad.make_dual(inputs, torch.ones_like(inputs)))
    torch.vmap(small.map_forward)(inputs[None])
    small.to("meta")(inputs.to("meta"))
    assert taken == [most] * 3
    taken.clear()
    make((2, 3, 4), size=0.01).float()(inputs.float())
    assert taken == [num_terms(0.01, torch.float32)] and taken[0] < fewest


@pytest.mark.parametrize("size", [0.1, 3.0, 1e3])
@pytest.mark.parametrize("shape", [(3, 3, 4), (1, 1, 5), (4, 1, 1)], ids=str)
def test_the_logabsdet_is_exact_for_any_kernel(shape: Shape, size: float) -> None:
    layer, inputs = make(shape, size=size), torch.randn(2, *shape, dtype=torch.float64)
    with torch.no_grad():
        layer.weight[:, :, 1, 1] += size * torch.eye(shape[0])
    jacobian = dense_jacobian(layer, inputs[:1])
    outputs, logabsdet = layer(inputs)
    torch.testing.assert_close(logabsdet, torch.linalg.slogdet(jacobian).logabsdet.expand(2), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(layer.inverse(outputs)[0], inputs, rtol=1e-10, atol=1e-10)
    assert torch.linalg.cond(jacobian).log() <= 2 * layer.max_norm


@pytest.mark.parametrize("size", [3.0, 20.0, 80.0])
def test_rotations_come_back_in_float32_whatever_their_angle(size: float) -> None:
    layer, inputs = make((2, 4, 4), 1, max_norm=88.0).float(), torch.randn(2, 2, 4, 4)
    with torch.no_grad():
        layer.weight[:, :, 0, 0] = size / 2 * torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    outputs, logabsdet = layer(inputs)
    assert norm_bound(layer.weight) > size / 2 and not logabsdet.any()
    torch.testing.assert_close(outputs.norm(), inputs.norm(), rtol=1e-4, atol=0)
    torch.testing.assert_close(layer.inverse(outputs)[0], inputs, rtol=0, atol=1e-4)


def test_it_starts_near_the_identity() -> None:
    torch.manual_seed(0)
    for shape in [(3, 8, 8), (48, 8, 8)]:
        inputs = torch.randn(2, *shape)
        outputs, logabsdet = ConvolutionExponential(shape)(inputs)
        assert (outputs - inputs).norm() < 0.2 * inputs.norm()
        assert (logabsdet.abs() < 0.01 * inputs[0].numel()).all()


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="kernel_size must be odd, so that the window has a centre; got 4"):
        ConvolutionExponential((3, 8, 8), 4)
    for norm in (0, 89, float("inf")):
        with pytest.raises(ValueError, match=f"max_norm must be above 0 and at most 88, got {norm}"):
            ConvolutionExponential((3, 8, 8), max_norm=norm)
    with pytest.raises(TypeError, match="max_norm must be a number"):
        ConvolutionExponential((3, 8, 8), max_norm="3")
    for map_ in (layer := ConvolutionExponential((3, 8, 8)), layer.inverse):
        with pytest.raises(ValueError, match=r"inputs must have shape \(B, 3, h, w\)"):
            map_(torch.zeros(2, 4, 8, 8))
