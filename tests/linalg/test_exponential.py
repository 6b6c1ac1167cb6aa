"""Exponentials of convolutions against ``matrix_exp`` of the dense float64 matrix: values, bounds and derivatives."""

from __future__ import annotations

from math import factorial, prod

import pytest
import torch
from derivatives import check_all_derivatives, check_vmap
from torch import Tensor

from nflows_woodbury.linalg.exponential import bound_norm, exp_convolve, factors_and_terms, norm_bound, num_terms

# c, h, w, k: one channel, odd sizes, h != w, one row, one pixel, kernels larger than the image
SETTINGS = [(3, 4, 3, 3), (1, 5, 3, 3), (2, 1, 4, 5), (4, 1, 1, 3), (2, 3, 3, 1), (2, 2, 3, 7)]
each_setting = pytest.mark.parametrize("setting", SETTINGS, ids=str)


def make(c: int, k: int, size: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(c, c, k, k, dtype=torch.float64, generator=generator)
    return (size / float(norm_bound(kernel)) * kernel).to(dtype)


def dense(kernel: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """The matrix of the zero-padded convolution, entry by entry from its definition."""
    c, h, w = shape
    k = kernel.shape[-1]
    rows = []
    for i in range(h):
        for j in range(w):
            blocks = torch.zeros(c, c, h, w, dtype=kernel.dtype)
            for a in range(k):
                for b in range(k):
                    row, column = i + a - k // 2, j + b - k // 2
                    if 0 <= row < h and 0 <= column < w:
                        blocks[:, :, row, column] = kernel[:, :, a, b]
            rows.append(blocks.flatten(1))
    return torch.stack(rows, 1).view(prod(shape), prod(shape))


@each_setting
@pytest.mark.parametrize("size", [0.0, 0.1, 1.0, 3.0, 6.0])
def test_series_is_the_matrix_exponential(setting: tuple[int, ...], size: float) -> None:
    c, h, w, k = setting
    kernel, images = make(c, k, size), torch.randn(2, c, h, w, dtype=torch.float64)
    matrix = dense(kernel, (c, h, w))
    series = factors_and_terms(float(norm_bound(kernel)), torch.float64)
    for sign in (1, -1):
        exponential = torch.linalg.matrix_exp(sign * matrix)
        outputs = exp_convolve(images, sign * kernel, *series)
        torch.testing.assert_close(outputs.flatten(1), images.flatten(1) @ exponential.mT, rtol=1e-11, atol=1e-12)
        centre = kernel[:, :, k // 2, k // 2].trace()
        torch.testing.assert_close(torch.linalg.slogdet(exponential).logabsdet, sign * h * w * centre)


@pytest.mark.parametrize("size", [3.0, 9.0, 30.0, 88.0])
def test_rotations_of_any_angle_are_exact_in_float32(size: float) -> None:
    kernel = make(3, 3)
    kernel = kernel - kernel.flip(2, 3).transpose(0, 1)  # M is antisymmetric, e^M orthogonal
    kernel = size / norm_bound(kernel) * kernel
    images = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    expected = images.flatten(1) @ torch.linalg.matrix_exp(dense(kernel, (3, 4, 5))).mT
    series = factors_and_terms(size, torch.float32)
    outputs = exp_convolve(images.float(), kernel.float(), *series)
    assert (outputs.flatten(1) - expected).norm() < 1e-6 * size * expected.norm()


def test_a_cut_series_has_the_terms_asked_for() -> None:
    kernel, image = make(2, 3), torch.randn(1, 2, 3, 4, dtype=torch.float64)
    matrix, vector = dense(kernel, (2, 3, 4)), image.flatten()
    for terms in range(4):
        expected = sum(torch.linalg.matrix_power(matrix, k) @ vector / factorial(k) for k in range(terms + 1))
        torch.testing.assert_close(exp_convolve(image, kernel, 1, terms).flatten(), expected)


@each_setting
def test_bounds_hold(setting: tuple[int, ...]) -> None:
    c, h, w, k = setting
    for size in (0.01, 1.0, 5.0):
        kernel = make(c, k, size)
        norm, spectral = torch.linalg.matrix_norm(dense(kernel, (c, h, w)), 2), torch.linalg.matrix_norm(
            kernel.permute(2, 3, 0, 1), 2).sum()  # fmt: skip
        assert norm <= spectral * (1 + 1e-12) <= norm_bound(kernel) * (1 + 2e-12)
        assert norm_bound(kernel) <= c ** (1 / 8) * spectral + 1e-6
        assert abs(norm_bound(kernel) - size) < 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("norm", [0.0, 0.05, 0.7, 1.0, 3.0, 9.5])
def test_tail_is_below_the_resolution_also_of_two_derivatives_and_no_term_too_many(
    norm: float, dtype: torch.dtype
) -> None:
    m, resolution = num_terms(norm, dtype), torch.finfo(dtype).eps

    def tail(first: int) -> float:
        return sum(norm**k / factorial(k) for k in range(first, first + 60))

    assert tail(m - 1) <= resolution  # the tail of the second derivative: each derivative lowers k by one
    assert m == 2 or tail(m - 2) > resolution / 2  # bounded by a geometric series, which is a little larger


@pytest.mark.parametrize("size", [0.5, 2.0, 20.0])
def test_a_kernel_above_the_bound_is_scaled_down_to_it(size: float) -> None:
    kernel = make(3, 3, size)
    bounded, norm = bound_norm(kernel, 2.0)
    torch.testing.assert_close(bounded, min(1.0, 2.0 / size) * kernel, rtol=1e-6, atol=0)
    torch.testing.assert_close(norm, norm_bound(bounded), rtol=1e-9, atol=1e-9)
    assert norm <= 2.0


@pytest.mark.parametrize("c, k", [(1, 3), (2, 1)])
@pytest.mark.parametrize("size", [0.5, 3.0])
def test_derivatives_of_every_mode_below_and_above_the_bound(c: int, k: int, size: float) -> None:
    def exponential(images: Tensor, kernel: Tensor) -> Tensor:
        return exp_convolve(images, bound_norm(kernel, 2.0)[0], factors=2, terms=8)

    arguments = torch.randn(1, c, 1, 2, dtype=torch.float64), make(c, k, size)
    check_all_derivatives(exponential, arguments)
    check_vmap(exponential, arguments)


def test_derivatives_of_a_cut_series_are_those_of_the_exponential() -> None:
    kernel, images = make(2, 3, 0.8).requires_grad_(), torch.randn(2, 2, 3, 2, dtype=torch.float64)
    results = []
    for terms in (num_terms(0.8, torch.float64), 60):
        outputs = exp_convolve(images, kernel, 1, terms)
        (first,) = torch.autograd.grad(outputs.sin().sum(), kernel, create_graph=True)
        (second,) = torch.autograd.grad(first.sin().sum(), kernel)
        results.append([outputs, first, second])
    torch.testing.assert_close(*results, rtol=1e-14, atol=1e-14)


def test_a_kernel_of_zeros_has_derivatives() -> None:
    kernel = torch.zeros(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(bound_norm(kernel, 2.0)[0].sum(), kernel, create_graph=True)
    assert torch.equal(first, torch.ones_like(first))
    (second,) = torch.autograd.grad(first.sum(), kernel)
    assert second.isfinite().all()


def test_off_the_cpu_the_convolution_is_a_matrix_product(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, images = make(3, 3).to("meta"), torch.randn(2, 3, 4, 5, device="meta", dtype=torch.float64)
    monkeypatch.setattr(torch.nn.functional, "conv2d", None)
    assert exp_convolve(images, kernel, 1, 3).shape == images.shape
