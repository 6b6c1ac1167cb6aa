"""Products of Householder reflections against the product of the dense ones: values and derivatives."""

from __future__ import annotations

import pytest
import torch
from derivatives import check_all_derivatives, check_vmap
from torch import Tensor

from nflows_woodbury.linalg.householder import reflections

SIZES = [(1, 0), (1, 1), (2, 1), (4, 4), (5, 3), (3, 5)]


@pytest.mark.parametrize("n, k", SIZES)
def test_they_are_the_reflections_one_after_the_other(n: int, k: int) -> None:
    torch.manual_seed(n)
    vectors = torch.randn(n, k, dtype=torch.float64)
    expected = identity = torch.eye(n, dtype=torch.float64)
    for v in vectors.mT:
        expected = expected @ (identity - 2 * torch.outer(v, v) / v.dot(v))
    Q = reflections(vectors)
    torch.testing.assert_close(Q, expected)
    torch.testing.assert_close(Q @ Q.mT, identity)
    torch.testing.assert_close(torch.linalg.det(Q), torch.tensor((-1.0) ** k, dtype=torch.float64))


@pytest.mark.parametrize("n, k", [(2, 1), (4, 3)])
def test_derivatives_of_every_mode(n: int, k: int) -> None:
    torch.manual_seed(n)
    arguments = [torch.randn(n, k, dtype=torch.float64)]

    def product(vectors: Tensor) -> Tensor:
        return reflections(vectors)

    check_all_derivatives(product, arguments)
    check_vmap(product, arguments)
