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
cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nflows_woodbury.linalg.low_rank import Factors
from nflows_woodbury.linalg.precision import full_precision

__all__ = ["two_sided"]

Maybe = tuple[Tensor | None, ...]
BLOCK_BYTES = 2**22  # stays in the cache of a few cores


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
        matrices, left = torch.bmm(_dense(*left).expand(len(inputs), -1, -1), inputs), None
    if right is not None and _is_small(right):
        matrices, right = _on_rows(matrices, _dense(*right)), None
    if left is None and right is None:
        return matrices
    x, (U, V), (U_, V_) = matrices.contiguous(), left or (None, None), right or (None, None)
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():  # which fuse on their own, or have nothing to save
        return _in_blocks(x, U, V, U_, V_, owned=matrices is not inputs)[0]
    outputs: Tensor = _Update.apply(x, U, V, U_, V_)[0]  # type: ignore[no-untyped-call]
    return outputs


def _is_small(factors: Factors) -> bool:
    n, d = factors[0].shape
    return n <= 2 * d


def _dense(U: Tensor, V: Tensor) -> Tensor:
    return torch.addmm(torch.eye(U.shape[-2], dtype=U.dtype, device=U.device), U, V)


def _product(
    x: Tensor, U: Tensor | None, V: Tensor | None, U_: Tensor | None, V_: Tensor | None, *, owned: bool = False
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """The map, and its thin products ``P``, ``Q`` and ``M``, None where a side is the identity.

    Without a graph it writes on what it has made itself, or on an ``x`` that is ``owned``.
    """
    P = Q = M = None
    y, scaled, owned = x, None, owned and not torch.is_grad_enabled()
    if U_ is not None:
        scaled = Q = _on_rows(x, U_)
    if U is not None and V is not None:
        each_U, each_V = (factor.expand(len(x), -1, -1) for factor in (U, V))  # matmul would transpose x, and copy it
        P = torch.bmm(each_V, x)
        y, owned = (Tensor.baddbmm_ if owned else torch.baddbmm)(x, each_U, P), not torch.is_grad_enabled()
        if Q is not None:
            M = torch.bmm(each_V, Q)
            scaled = torch.baddbmm(Q, each_U, M)
    if scaled is not None and V_ is not None:
        y = (Tensor.addmm_ if owned else torch.addmm)(_rows(y), _rows(scaled), V_).view(x.shape)
    return y, P, Q, M


def _rows(matrices: Tensor) -> Tensor:
    """One below the other, (B, n, m) -> (B n, m): a product from the right is one large one instead of B small ones."""
    return matrices.reshape(-1, matrices.shape[-1])


def _on_rows(matrices: Tensor, factor: Tensor) -> Tensor:
    return (_rows(matrices) @ factor).view(*matrices.shape[:-1], factor.shape[-1])


def _in_blocks(x: Tensor, *factors: Tensor | None, owned: bool = False) -> tuple[Tensor, list[Maybe]]:
    """:func:`_product` block by block: the map of all, and the thin products of each block."""
    size = _block_size(x)
    if size >= len(x):
        y, *thin = _product(x, *factors, owned=owned)
        return y, [tuple(thin)]
    y, products = x if owned else torch.empty_like(x), list[Maybe]()
    for block, own in zip(x.split(size), y.split(size), strict=True):
        if not owned:
            own.copy_(block)
        products.append(_product(own, *factors, owned=True)[1:])
    return y, products


def _forward(*tensors: Tensor) -> Maybe:
    y, products = _in_blocks(*tensors)
    return y, *_merged(torch.cat, products)


def _block_size(x: Tensor) -> int:
    """How many matrices are a block: on a CPU what stays in the cache, elsewhere and for compilers all."""
    if x.device.type != "cpu" or torch.compiler.is_compiling() or torch.is_grad_enabled():
        return max(1, len(x))
    return max(1, BLOCK_BYTES * len(x) // max(1, x.nbytes))


def _merged(merge: Callable[[list[Tensor]], Tensor], of_blocks: Sequence[Maybe]) -> Maybe:
    """What each block has, in one; None where all have None."""
    columns = [[part for part in parts if part is not None] for parts in zip(*of_blocks, strict=True)]
    return tuple(merge(column) if len(column) > 1 else next(iter(column), None) for column in columns)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    ctx.mark_non_differentiable(*(thin for thin in output[1:] if thin is not None))
    ctx.save_for_backward(*inputs, *output[1:])
    ctx.save_for_forward(*inputs, *output[1:])


def _backward(ctx: Any, gradient: Tensor, *_: Any) -> Maybe:
    x, U, V, U_, V_, *thin = ctx.saved_tensors
    factors, g = (U, V, U_, V_), gradient.contiguous()
    with full_precision(g):
        if torch.is_grad_enabled():  # a second derivative follows, and what was saved of the products has no graph
            return _gradients(g, x, factors, _product(x, *factors)[1:])
        size = _block_size(x)
        if size >= len(x):
            return _gradients(g, x, factors, thin)
        dx, rest = torch.empty_like(g), []
        blocks = [[None] * -(-len(x) // size) if t is None else t.split(size) for t in (g, x, dx, *thin)]
        for of_block, block, own, *of_thin in zip(*blocks, strict=True):
            rest.append(_gradients(of_block, block, factors, of_thin, own)[1:])
        return dx, *_merged(lambda terms: torch.stack(terms).sum(0), rest)


def _gradients(g: Tensor, x: Tensor, factors: Maybe, thin: Sequence[Tensor | None], own: Tensor | None = None) -> Maybe:
    """Those of ``x``, which is written into ``own`` if there is one, and of the factors."""
    U, V, U_, V_ = factors
    P, Q, M = thin
    start = g if own is None else own.copy_(g)
    dx, T, G, N = _product(start, *_transposed(U, V), *_transposed(U_, V_), owned=own is not None)
    return dx, _outer(g, P, G, M), _outer(T, x, N, Q), _inner(x, G, P, N), _inner(Q, g, M, T)


def _transposed(U: Tensor | None, V: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
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


def _jvp(ctx: Any, dx: Tensor | None, *tangents: Tensor | None) -> Maybe:
    """The product rule; ``I + U V`` moves by ``dU V + U dV``, which is ``[dU, U] [V; dV]``."""
    x, U, V, U_, V_ = ctx.saved_tensors[:5]
    moved = torch.zeros_like(x) if dx is None else _product(dx, U, V, U_, V_)[0]
    if U is not None:
        scaled = _product(x, None, None, U_, V_)[0]
        moved = moved + _product(scaled, *_moved(U, V, *tangents[:2]), None, None)[0] - scaled
    if U_ is not None:
        scaled = _product(x, U, V, None, None)[0]
        moved = moved + _product(scaled, None, None, *_moved(U_, V_, *tangents[2:]))[0] - scaled
    return moved, None, None, None


def _moved(U: Tensor, V: Tensor, dU: Tensor | None, dV: Tensor | None) -> Factors:
    zero = [torch.zeros_like(U) if dU is None else dU, torch.zeros_like(V) if dV is None else dV]
    return torch.cat([zero[0], U], 1), torch.cat([V, zero[1]], 0)


def _vmap(info: Any, in_dims: tuple[int | None, ...], inputs: Tensor, *factors: Tensor | None) -> Any:
    """The matrices of all samples as one batch, or sample by sample where the factors differ."""
    n = info.batch_size
    x = inputs.expand(n, *inputs.shape) if in_dims[0] is None else inputs.movedim(in_dims[0], 0)
    if all(dim is None for dim in in_dims[1:]):
        results = _Update.apply(x.flatten(0, 1), *factors)  # type: ignore[no-untyped-call]
        results = tuple(None if result is None else result.unflatten(0, (n, -1)) for result in results)
    else:

        def sample(i: int) -> list[Tensor | None]:
            pairs = zip(factors, in_dims[1:], strict=True)
            return [t if t is None or dim is None else t.select(dim, i) for t, dim in pairs]

        each = [_Update.apply(x[i], *sample(i)) for i in range(n)]  # type: ignore[no-untyped-call]
        results = tuple(None if parts[0] is None else torch.stack(parts) for parts in zip(*each, strict=True))
    return results, tuple(None if result is None else 0 for result in results)


class _Update(torch.autograd.Function):
    forward = staticmethod(_forward)
    setup_context = staticmethod(_save)
    backward = staticmethod(_backward)
    jvp = staticmethod(_jvp)
    vmap = staticmethod(_vmap)
