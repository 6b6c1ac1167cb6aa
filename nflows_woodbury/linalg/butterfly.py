r"""Butterfly products: a matrix of side ``n`` as one sparse factor for each prime factor of ``n``.

For ``n = p_1 p_2 ... p_m``, factor ``i`` joins entries that lie ``r_i = p_1 ... p_{i-1}`` apart, ``p_i`` at a time,
each group by a block of its own. For a power of two these are the factors of the fast Fourier transform: factor ``i``
pairs entries ``2^(i-1)`` apart by 2 x 2 blocks. Other sizes have larger blocks, as its mixed-radix form has: 3 x 3 for
a factor 3, and a prime ``n`` is one dense block.

.. math::

    W = B_m \cdots B_2 B_1, \qquad
    (B_i x)_{l, a, r} = \sum_{b < p_i} (K_{l, r})_{ab}\, x_{l, b, r}, \qquad
    \log|\det W| = \sum_{\text{blocks}} \log|\det K|

with ``(l, a, r)`` the digits of an entry's number, ``(l p_i + a) r_i + r``. Whatever their values, the digits of an
output can be reached from those of any input one after the other, so every output depends on every input. The inverse
has the factors in reverse order with inverse blocks. A vector costs ``O(n (p_1 + ... + p_m))``, which is ``O(n log n)``
for powers of two, and there are as many parameters.

Pure functions on tensors of any device; call them with autocast off.

>>> import torch
>>> blocks = [torch.ones(3, 2, 2), torch.ones(2, 3, 3)]  # n = 2 * 3
>>> multiply(blocks, torch.arange(6.0)[:, None]).flatten()
tensor([15., 15., 15., 15., 15., 15.])
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nflows_woodbury.linalg import small

__all__ = ["inverses", "logabsdet", "multiply", "multiply_backwards", "radices"]


def radices(n: int) -> list[int]:
    """The prime factors of ``n`` from the smallest on; of 1, a single 1.

    >>> radices(12), radices(7), radices(1)
    ([2, 2, 3], [7], [1])
    """
    rest, divisor, factors = n, 2, []
    while divisor * divisor <= rest:
        if rest % divisor:
            divisor += 1
        else:
            factors.append(divisor)
            rest //= divisor
    return [*factors, rest] if rest > 1 or not factors else factors


def multiply(blocks: Sequence[Tensor], columns: Tensor) -> Tensor:
    """``B_m … B_2 B_1 x`` for each column ``x``, shape (n, k) as ``columns``.

    Args:
        blocks: of each factor, (n / p, p, p), that of ``(l, r)`` at ``l r_i + r``.
        columns: (n, k).

    >>> import torch
    >>> multiply([torch.full((1, 2, 2), 3.0)], torch.tensor([[1.0], [2.0]])).flatten()
    tensor([9., 9.])
    """
    stride = 1
    for factor in blocks:
        columns = _join(factor, columns, stride)
        stride *= factor.shape[-1]
    return columns


def multiply_backwards(blocks: Sequence[Tensor], columns: Tensor) -> Tensor:
    """``B_1 B_2 … B_m x``: with the blocks of ``inverses`` the inverse of ``multiply``.

    >>> import torch
    >>> multiply_backwards([torch.full((1, 2, 2), 3.0)], torch.tensor([[1.0], [2.0]])).flatten()
    tensor([9., 9.])
    """
    stride = columns.shape[0]
    for factor in reversed(blocks):
        stride //= factor.shape[-1]
        columns = _join(factor, columns, stride)
    return columns


def inverses(blocks: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """The inverse of each block, computed in float64, and ``log |det W|``; -inf where a block is singular.

    >>> import torch
    >>> inverses([torch.full((1, 1, 1), 0.5)])
    ([tensor([[[2.]]])], tensor(-0.6931, dtype=torch.float64))
    """
    pairs = [small.inverse(factor) for factor in blocks]
    return [inverse for inverse, _ in pairs], torch.stack([values.sum() for _, values in pairs]).sum()


def logabsdet(blocks: Sequence[Tensor]) -> Tensor:
    """``log |det W|`` in float64, a scalar; -inf where a block is singular.

    >>> import torch
    >>> logabsdet([torch.eye(2).expand(2, 2, 2), 3 * torch.eye(2).expand(2, 2, 2)]).exp().round()
    tensor(81., dtype=torch.float64)
    """
    return torch.stack([small.logabsdet(factor).sum() for factor in blocks]).sum()


def _join(factor: Tensor, columns: Tensor, stride: int) -> Tensor:
    """One factor, its blocks on entries ``stride`` apart."""
    p, (n, k) = factor.shape[-1], columns.shape
    blocks = factor.unflatten(0, (n // (p * stride), stride))  # (l, r, p, p)
    groups = columns.view(n // (p * stride), p, stride, k).transpose(1, 2)  # (l, r, p, k)
    return torch.matmul(blocks, groups).transpose(1, 2).reshape(n, k)
