r"""Low-rank updates of the identity on both sides of each matrix of a batch, in as few passes over it as there can be.

The right side comes first, :math:`z = x\, (I + U' V')`, then the left one, with thin products :math:`Q` and :math:`P`:

.. math:: Q = x U', \qquad z = x + Q V', \qquad P = V z, \qquad y = (I + U V)\, z = z + U P

and ``y`` is written over ``z``. The gradients have the same form. With ``g`` the gradient of ``y`` and the thin
products :math:`T = U^\top g`, :math:`G = h V'^\top` and :math:`S = T\, (I + U' V')^\top`:

.. math::

    h &= g + V^\top T, \quad dx = h + G U'^\top \\
    dU &= g P^\top, \quad dV = S x^\top, \quad dU' = x^\top G, \quad dV' = Q^\top h

so only ``x`` and the thin products are kept for them, where two updates in a row would keep what is between them too.

On a CPU a large batch goes through all of this block by block: each block is read from memory once, and then from the
cache. That writes in place, so it is for plain eager calls, see :mod:`~nflows_woodbury.linalg.modes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from nflows_woodbury.linalg.factors import Matrices, size_of
from nflows_woodbury.linalg.low_rank import dense
from nflows_woodbury.linalg.modes import is_plain
from nflows_woodbury.linalg.precision import full_precision

__all__ = ["two_sided"]

Maybe = tuple[Tensor | None, ...]
Sides = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]  # U, V, U' and V'
BLOCK_BYTES = 2**22  # stays in the cache of a few cores


def two_sided(inputs: Tensor, left: Matrices | None = None, right: Matrices | None = None) -> Tensor:
    """``A x A'`` for each ``(n, m)`` matrix ``x`` of ``inputs``, shape (B, n, m); the same comes back.

    A side is ``(U, V)`` for ``A = I + U V``, ``(A,)`` for the matrix itself, or None for the identity. With factors a
    side of size ``n`` costs ``2 d`` multiplications per entry, or ``n`` through the matrix where that is no more
    (``n <= 2 d``).

    Args:
        inputs: shape (B, n, m).
        left: ``U`` (n, d) and ``V`` (d, n), or ``A`` (n, n), or None.
        right: ``U'`` (m, d') and ``V'`` (d', m), or ``A'`` (m, m), or None.

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
    matrices, left, right = inputs, _cheaper(left), _cheaper(right)
    if left is not None and len(left) == 1:
        matrices, left = torch.bmm(left[0].expand(inputs.shape[0], -1, -1), inputs), None
    if right is not None and len(right) == 1:
        matrices, right = _times(matrices, right[0]), None
    if left is None and right is None:
        return matrices
    x = matrices.contiguous()
    factors = (*(left or (None, None)), *(right or (None, None)))
    if not is_plain(x, *factors):
        return _product(x, factors)[0]
    if torch.is_grad_enabled():
        return _Update.apply(x, *factors)  # type: ignore[no-untyped-call]
    return _product_by_blocks(x, factors, in_place=x is not inputs)[0]  # what was made above may be written over


def _cheaper(side: Matrices | None) -> Matrices | None:
    if side is None or len(side) == 1 or size_of(side) > 2 * side[0].shape[1]:
        return side
    return (dense(*side),)


def _product(x: Tensor, factors: Sides, out: Tensor | None = None) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """``y = (I + U V) x (I + U' V')`` and its thin products ``Q = x U'`` and ``P = V x (I + U' V')``.

    Without ``U`` and ``V``, or without ``U'`` and ``V'``, that side is the identity, and None stands for its thin
    product. ``y`` is written to ``out``, which is contiguous and may be ``x``.
    """
    U, V, U_, V_ = factors
    y, Q, P = x, None, None
    if U_ is not None and V_ is not None:
        Q = _times(x, U_)
        y = _plus(x, Q, V_, out)
    if U is not None and V is not None:
        each_U, each_V = (factor.expand(x.shape[0], -1, -1) for factor in (U, V))  # matmul by one would copy x
        P = torch.bmm(each_V, y)
        y = torch.baddbmm(y, each_U, P, out=out)
    return y, Q, P


def _rows(matrices: Tensor) -> Tensor:
    """One below the other, (B, n, m) -> (B n, m): a product from the right is one large one instead of B small ones."""
    return matrices.reshape(-1, matrices.shape[-1])


def _times(matrices: Tensor, factor: Tensor) -> Tensor:
    """``x A`` for each matrix ``x``."""
    return (_rows(matrices) @ factor).reshape(*matrices.shape[:-1], factor.shape[-1])


def _plus(matrices: Tensor, thin: Tensor, factor: Tensor, out: Tensor | None = None) -> Tensor:
    """``x + Q A`` for each matrix ``x``."""
    rows = torch.addmm(_rows(matrices), _rows(thin), factor, out=None if out is None else _rows(out))
    return rows.reshape(matrices.shape)


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
    """:func:`_product` in one piece of memory, with the thin products of all blocks in one."""
    size, outputs = _block_size(x), x if in_place else torch.empty_like(x)
    if size >= x.shape[0]:
        return _product(x, factors, outputs)
    thin = list[Maybe]()
    for block, own in zip(x.split(size), outputs.split(size), strict=True):
        thin.append(_product(block, factors, own)[1:])
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


def _gradients(g: Tensor, x: Tensor, factors: Sides, thin: Sequence[Tensor | None], out: Tensor | None = None) -> Maybe:
    """Those of ``x``, written to ``out`` if given, and of the factors: the formulas at the head of this file."""
    U, V, U_, V_ = factors
    Q, P = thin
    dx, dU, dV, dU_, dV_ = g, None, None, None, None
    if U is not None and V is not None and P is not None:
        T = torch.bmm(U.mT.expand(x.shape[0], -1, -1), g)
        dx = torch.baddbmm(g, V.mT.expand(x.shape[0], -1, -1), T, out=out)
        S = T if U_ is None or V_ is None else _plus(T, _times(T, V_.mT), U_.mT)
        dU, dV = torch.bmm(g, P.mT).sum(0), torch.bmm(S, x.mT).sum(0)
    if U_ is not None and V_ is not None and Q is not None:
        G = _times(dx, V_.mT)
        dU_, dV_ = _rows(x).mT @ _rows(G), _rows(Q).mT @ _rows(dx)
        dx = _plus(dx, G, U_.mT, out)
    return dx, dU, dV, dU_, dV_


def _gradients_by_blocks(g: Tensor, x: Tensor, factors: Sides, thin: Sequence[Tensor | None]) -> Maybe:
    """:func:`_gradients` in one piece of memory, of the factors as the sum over the blocks."""
    size, dx = _block_size(x), torch.empty_like(g)
    if size >= x.shape[0]:
        return _gradients(g, x, factors, thin, dx)
    blocks = [repeat(None) if tensor is None else tensor.split(size) for tensor in (g, x, dx, *thin)]
    of_factors = []
    for of_block, block, own, *of_thin in zip(*blocks, strict=False):  # None repeats for ever
        of_factors.append(_gradients(of_block, block, factors, of_thin, own)[1:])
    return dx, *_merged(lambda terms: torch.stack(terms).sum(0), of_factors)
