"""Butterfly products against dense float64 matrices: values, reach, determinants, inverses and derivatives."""

from __future__ import annotations

from itertools import product
from math import prod

import pytest
import torch
from derivatives import check_all_derivatives, check_vmap
from torch import Tensor

from nflows_woodbury.linalg.butterfly import inverses, logabsdet, multiply, multiply_backwards, radices

SIZES = [1, 2, 3, 4, 6, 7, 8, 12, 15, 18, 20]
each_size = pytest.mark.parametrize("n", SIZES)


def make(n: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n)
    return [
        torch.eye(p, dtype=torch.float64) + 0.5 * torch.randn(n // p, p, p, dtype=torch.float64, generator=generator)
        for p in radices(n)
    ]


def dense(blocks: list[Tensor]) -> Tensor:
    """The product of the factors, each entry by entry from the digits of its numbers."""
    n = blocks[0].shape[0] * blocks[0].shape[-1]
    matrix, stride = torch.eye(n, dtype=torch.float64), 1
    for factor in blocks:
        p = factor.shape[-1]
        one = torch.zeros(n, n, dtype=torch.float64)
        for left, r, a, b in product(range(n // (p * stride)), range(stride), range(p), range(p)):
            one[(left * p + a) * stride + r, (left * p + b) * stride + r] = factor[left * stride + r, a, b]
        matrix, stride = one @ matrix, stride * p
    return matrix


def test_radices_are_the_prime_factors() -> None:
    for n in range(1, 200):
        factors = radices(n)
        assert prod(factors) == n and factors == sorted(factors)
        assert n == 1 or all(p > 1 and all(p % q for q in range(2, p)) for p in factors)
    assert radices(64) == [2] * 6


@each_size
def test_product_inverse_and_determinant_are_those_of_the_dense_matrix(n: int) -> None:
    blocks, columns = make(n), torch.randn(n, 3, dtype=torch.float64)
    matrix = dense(blocks)
    torch.testing.assert_close(multiply(blocks, columns), matrix @ columns)
    inverted, forward_logabsdet = inverses(blocks)
    back = multiply_backwards(inverted, columns)
    torch.testing.assert_close(back, torch.linalg.solve(matrix, columns), rtol=1e-9, atol=1e-9)
    for found in (forward_logabsdet, logabsdet(blocks)):
        torch.testing.assert_close(found, torch.linalg.slogdet(matrix).logabsdet)


@each_size
def test_every_output_depends_on_every_input(n: int) -> None:
    assert multiply(make(n), torch.eye(n, dtype=torch.float64)).all()


def test_factors_of_a_power_of_two_pair_entries_that_are_powers_of_two_apart() -> None:
    blocks = make(8)
    for i in range(3):
        alone = [factor if j == i else torch.eye(2, dtype=torch.float64).expand(4, 2, 2)
                 for j, factor in enumerate(blocks)]  # fmt: skip
        rows, columns = multiply(alone, torch.eye(8, dtype=torch.float64)).nonzero(as_tuple=True)
        assert set((rows - columns).abs().tolist()) == {0, 2**i}


@pytest.mark.parametrize("n", [1, 6])
def test_derivatives_of_every_mode(n: int) -> None:
    def all_three(columns: Tensor, *blocks: Tensor) -> Tensor:
        inverted, forward_logabsdet = inverses(blocks)
        return torch.cat([multiply(blocks, columns).flatten(), multiply_backwards(inverted, columns).flatten(),
                          torch.stack([forward_logabsdet, logabsdet(blocks)])])  # fmt: skip

    arguments = [torch.randn(n, 2, dtype=torch.float64), *make(n)]
    check_all_derivatives(all_three, arguments)
    check_vmap(all_three, arguments)


def test_a_singular_block_says_so_in_the_logabsdet() -> None:
    blocks = make(6)
    blocks[1][0] = 1.0
    assert logabsdet(blocks) == inverses(blocks)[1] == -torch.inf
