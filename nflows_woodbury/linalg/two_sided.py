r"""Low-rank updates of the identity on both sides of each matrix of a batch, in as few passes over it as there can be.

With the thin products :math:`P = V x`, :math:`Q = x U'` and :math:`M = V Q`

.. math::

    y = (I + U V)\, x\, (I + U' V') = x + U P + (Q + U M)\, V'

so that ``x`` is read for ``P``, for ``Q`` and for the sum, and nothing of its size is made but ``y``. The gradients
have the same form. With ``g`` the gradient of ``y``, and ``T``, ``G`` and ``N`` the thin products of the transposed map
on it, :math:`T = U^\top g`, :math:`G = g V'^\top`, :math:`N = U^\top G`:

.. math::

    dx &= (I + U V)^\top g\, (I + U' V')^\top \\
    dU &= g P^\top + G M^\top, \quad dV = T x^\top + N Q^\top, \quad
    dU' = x^\top G + P^\top N, \quad dV' = Q^\top g + M^\top T

so only ``x`` and the thin products are kept for them, where two updates in a row would keep what is between them too.

On a CPU a large batch goes through all of this block by block: each block is read from memory once, and then from the
cache. That writes in place, so it is for plain eager calls, see :mod:`~nflows_woodbury.linalg.modes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from math import prod
from typing import Any

import torch
from torch import Tensor

from nflows_woodbury.linalg.low_rank import Factors
from nflows_woodbury.linalg.modes import is_plain
from nflows_woodbury.linalg.precision import full_precision

__all__ = ["along_axes", "two_sided"]

Maybe = tuple[Tensor | None, ...]
Sides = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]  # U, V, U' and V'
BLOCK_BYTES = 2**22  # stays in the cache of a few cores


def along_axes(inputs: Tensor, groups: Sequence[tuple[int, ...]], factors: Sequence[Factors]) -> Tensor:
    """Multiply every vector along each group of axes by its own ``I + U V``; ``(B, *shape)`` in and out.

    A group that ends at the last axis indexes the columns of matrices, and its update acts on them from the right. The
    group right before it indexes their rows, so both are applied at once. Any other group is a pass of its own.

    Args:
        inputs: shape ``(B, *shape)``.
        groups: consecutive axes of ``shape`` each, by rising axes, such as ``[(0,), (1, 2)]``.
        factors: of each group ``U`` (n, d) and ``V`` (d, n), with ``n`` the product of its sizes.

    >>> import torch
    >>> ones = torch.ones(3, 1), torch.ones(1, 3)
    >>> along_axes(torch.eye(3)[None], [(0,), (1,)], [ones, ones])[0]
    tensor([[6., 5., 5.],
            [5., 6., 5.],
            [5., 5., 6.]])
    """
    shape, outputs = inputs.shape[1:], inputs
    from_left = list(zip(groups, factors, strict=True))
    if groups[-1][-1] == len(shape) - 1:
        last, (U, V) = from_left.pop()
        neighbour = from_left.pop()[1] if from_left and from_left[-1][0][-1] + 1 == last[0] else None
        n = 1 if neighbour is None else neighbour[0].shape[0]
        outputs = two_sided(outputs.reshape(-1, n, U.shape[0]), left=neighbour, right=(V.mT, U.mT))
    for axes, (U, V) in from_left:
        outputs = two_sided(outputs.reshape(-1, U.shape[0], prod(shape[axes[-1] + 1 :])), left=(U, V))
    return outputs.reshape(inputs.shape)


def two_sided(inputs: Tensor, left: Factors | None = None, right: Factors | None = None) -> Tensor:
    """``(I + U V) x (I + U' V')`` for each ``(n, m)`` matrix ``x`` of ``inputs``, shape (B, n, m); the same comes back.

    A side of size ``n`` costs ``2 d`` multiplications per entry, or ``n`` through the dense matrix where that is no
    more (``n <= 2 d``).

    Args:
        inputs: shape (B, n, m).
        left: ``U`` (n, d) and ``V`` (d, n), or None for the identity.
        right: ``U'`` (m, d') and ``V'`` (d', m), or None for the identity.

    >>> import torch
    >>> ones = torch.ones(3, 1), torch.ones(1, 3)  # I + U V has 2 on its diagonal and 1 elsewhere
    >>> two_sided(torch.eye(3)[None], left=ones)[0]
    tensor([[2., 1., 1.],
            [1., 2., 1.],
            [1., 1., 2.]])
    >>> two_sided(torch.eye(3)[None], left=ones, right=ones)[0]
    tensor([[6., 5., 5.],
            [5., 6., 5.],
            [5., 5., 6.]])
    """
    matrices = inputs
    if left is not None and _is_small(left):
        matrices, left = torch.bmm(_dense(*left).expand(inputs.shape[0], -1, -1), inputs), None
    if right is not None and _is_small(right):
        matrices, right = _times(matrices, _dense(*right)), None
    if left is None and right is None:
        return matrices
    x = matrices.contiguous()
    factors = (*(left or (None, None)), *(right or (None, None)))
    if not is_plain(x, *factors):
        return _product(x, factors)[0]
    if torch.is_grad_enabled():
        return _Update.apply(x, *factors)  # type: ignore[no-untyped-call]
    return _product_by_blocks(x, factors, in_place=x is not inputs)[0]  # what was made above may be written over


def _is_small(factors: Factors) -> bool:
    n, d = factors[0].shape
    return n <= 2 * d


def _dense(U: Tensor, V: Tensor) -> Tensor:
    """``I + U V``."""
    return torch.addmm(torch.eye(U.shape[-2], dtype=U.dtype, device=U.device), U, V)


def _product(
    x: Tensor, factors: Sides, *, in_place: bool = False
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """``y = x + U P + (Q + U M) V'`` and its thin products ``P = V x``, ``Q = x U'`` and ``M = V Q``.

    Without ``U`` and ``V``, or without ``U'`` and ``V'``, the terms that they are in vanish, and None stands for the
    thin products. ``in_place`` writes ``y`` over a contiguous ``x``.
    """
    U, V, U_, V_ = factors
    y, P, Q, M = x, None, None, None
    if U_ is not None:
        Q = _times(x, U_)
    scaled = Q
    if U is not None and V is not None:
        each_U, each_V = (factor.expand(x.shape[0], -1, -1) for factor in (U, V))  # matmul by one would copy x
        P = torch.bmm(each_V, x)
        y = torch.baddbmm(x, each_U, P, out=x if in_place else None)
        if Q is not None:
            M = torch.bmm(each_V, Q)
            scaled = torch.baddbmm(Q, each_U, M)
    if scaled is not None and V_ is not None:
        rows = _rows(y)
        y = torch.addmm(rows, _rows(scaled), V_, out=rows if in_place else None).reshape(x.shape)
    return y, P, Q, M


def _rows(matrices: Tensor) -> Tensor:
    """One below the other, (B, n, m) -> (B n, m): a product from the right is one large one instead of B small ones."""
    return matrices.reshape(-1, matrices.shape[-1])


def _times(matrices: Tensor, factor: Tensor) -> Tensor:
    """``x A`` for each matrix ``x``."""
    return (_rows(matrices) @ factor).reshape(*matrices.shape[:-1], factor.shape[-1])


class _Update(torch.autograd.Function):
    """The product in plain eager calls. It keeps ``x`` and the thin products for the gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *factors: Any) -> Tensor:
        outputs, *thin = _product_by_blocks(x, factors)
        ctx.save_for_backward(x, *factors, *thin)
        return outputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Maybe:
        x, U, V, U_, V_, *thin = ctx.saved_tensors
        factors, g = (U, V, U_, V_), gradient.contiguous()
        with full_precision(g):
            if torch.is_grad_enabled() or not is_plain(g):  # whose derivatives need those of the thin products, too
                return _gradients(g, x, factors, _product(x, factors)[1:])
            return _gradients_by_blocks(g, x, factors, thin)


def _product_by_blocks(x: Tensor, factors: Sides, *, in_place: bool = False) -> tuple[Any, ...]:
    """:func:`_product`, with the thin products of all blocks in one."""
    size = _block_size(x)
    if size >= x.shape[0]:
        return _product(x, factors, in_place=in_place)
    outputs, thin = x if in_place else torch.empty_like(x), list[Maybe]()
    for block, own in zip(x.split(size), outputs.split(size), strict=True):
        if not in_place:
            own.copy_(block)  # and in the cache it stays
        thin.append(_product(own, factors, in_place=True)[1:])
    return outputs, *_merged(torch.cat, thin)


def _block_size(x: Tensor) -> int:
    """How many matrices are a block: on a CPU what stays in the cache, elsewhere all."""
    if x.device.type != "cpu":
        return max(1, x.shape[0])
    return max(1, BLOCK_BYTES * x.shape[0] // max(1, x.nbytes))


def _merged(merge: Callable[[list[Tensor]], Tensor], of_blocks: Sequence[Maybe]) -> Maybe:
    """One tensor for what each block has, None for what all lack."""
    merged: list[Tensor | None] = []
    for parts in zip(*of_blocks, strict=True):
        tensors = [part for part in parts if part is not None]
        merged.append(merge(tensors) if len(tensors) > 1 else next(iter(tensors), None))
    return tuple(merged)


def _gradients(g: Tensor, x: Tensor, factors: Sides, thin: Sequence[Tensor | None], own: Tensor | None = None) -> Maybe:
    """Those of ``x``, written to ``own`` if there is one, and of the factors: the formulas at the head of this file."""
    U, V, U_, V_ = factors
    P, Q, M = thin
    transposed = *_transposed(U, V), *_transposed(U_, V_)
    dx, T, G, N = _product(g, transposed) if own is None else _product(own.copy_(g), transposed, in_place=True)
    return dx, _outer(g, P, G, M), _outer(T, x, N, Q), _inner(x, G, P, N), _inner(Q, g, M, T)


def _gradients_by_blocks(g: Tensor, x: Tensor, factors: Sides, thin: Sequence[Tensor | None]) -> Maybe:
    """:func:`_gradients`, of the factors as the sum over the blocks."""
    size = _block_size(x)
    if size >= x.shape[0]:
        return _gradients(g, x, factors, thin)
    dx = torch.empty_like(g)
    blocks = [repeat(None) if tensor is None else tensor.split(size) for tensor in (g, x, dx, *thin)]
    of_factors = []
    for of_block, block, own, *of_thin in zip(*blocks, strict=False):  # None repeats for ever
        of_factors.append(_gradients(of_block, block, factors, of_thin, own)[1:])
    return dx, *_merged(lambda terms: torch.stack(terms).sum(0), of_factors)


def _transposed(U: Tensor | None, V: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """``(I + U V)^T = I + V^T U^T``."""
    return (None, None) if U is None or V is None else (V.mT, U.mT)


def _outer(a: Tensor | None, b: Tensor | None, c: Tensor | None, d: Tensor | None) -> Tensor | None:
    """The sum over the batch of ``a b^T + c d^T``; None where the first term has a factor that is None."""
    if a is None or b is None:
        return None
    total = torch.bmm(a, b.mT).sum(0)
    return total if c is None or d is None else total + torch.bmm(c, d.mT).sum(0)


def _inner(a: Tensor | None, b: Tensor | None, c: Tensor | None, d: Tensor | None) -> Tensor | None:
    """The sum over the batch of ``a^T b + c^T d``; None where the first term has a factor that is None."""
    if a is None or b is None:
        return None
    total = _rows(a).mT @ _rows(b)
    return total if c is None or d is None else torch.addmm(total, _rows(c).mT, _rows(d))
