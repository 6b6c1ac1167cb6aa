r"""Low-rank updates of the identity, :math:`A = I_n + U V` with :math:`U: n \times d` and :math:`V: d \times n`.

Everything rests on two identities for the capacitance :math:`C = I_d + V U`:

.. math::

    (I_n + U V)^{-1} = I_n - U C^{-1} V, \qquad \det(I_n + U V) = \det C

(Woodbury's matrix identity and Sylvester's determinant identity). Both hold for ranks above ``n`` too, where
:math:`I_n + U V` itself is the smaller matrix, and the push-through identity
:math:`(I_n + U V)^{-1} U = U (I_d + V U)^{-1}` says that either matrix serves for the inverse. So the inverse of
a low-rank update is a low-rank update with the factors :math:`-U C^{-1}` and :math:`V`, and costs what the
forward map costs: ``O(d n)`` per vector after ``O(d^2 n + d^3)`` once.

Pure functions of the factors, one pair or many stacked; :mod:`nflows_woodbury.linalg.two_sided` applies them to data,
and the modules that hold them are in :mod:`nflows_woodbury.transforms`.

>>> import torch
>>> logabsdets(torch.ones(3, 1), torch.ones(1, 3))
tensor(1.3863, dtype=torch.float64)
>>> [((U, V), of_maps)] = LOW_RANK.maps([(torch.ones(2, 3, 1), torch.ones(2, 1, 3))])
>>> of_maps
tensor([1.3863, 1.3863], dtype=torch.float64)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from nflows_woodbury.linalg import small
from nflows_woodbury.linalg.factors import Kind, Matrices, Stack

__all__ = ["LOW_RANK", "capacitances", "dense", "inverses", "logabsdets"]


def capacitances(U: Tensor, V: Tensor) -> Tensor:
    """``I_d + V U``, or ``I_n + U V`` where that is smaller: both have the same determinant. In float64.

    >>> import torch
    >>> capacitances(torch.ones(3, 1), torch.ones(1, 3))
    tensor([[4.]], dtype=torch.float64)
    """
    product = _smaller_product(small.wide(U), small.wide(V))
    return product + torch.eye(product.shape[-1], dtype=product.dtype, device=product.device)


def logabsdets(U: Tensor, V: Tensor) -> Tensor:
    """``log |det(I_n + U V)| = log |det C|``, in float64; -inf where it is singular.

    >>> import torch
    >>> logabsdets(torch.ones(2, 3, 1), torch.ones(2, 1, 3))
    tensor([1.3863, 1.3863], dtype=torch.float64)
    """
    return small.logabsdet(capacitances(U, V))


def inverses(U: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
    """The ``U'`` of ``(I + U V)^-1 = I + U' V``, ``U' = -U C^-1``, in the dtype of ``U``; and :func:`logabsdets`.

    >>> import torch
    >>> U, V = torch.ones(3, 1), torch.ones(1, 3)
    >>> back, _ = inverses(U, V)
    >>> (torch.eye(3) + back @ V) @ (torch.eye(3) + U @ V)
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    C_inverse, logabsdets = small.inverse(capacitances(U, V))
    return _back(U, C_inverse), logabsdets


def dense(U: Tensor, V: Tensor) -> Tensor:
    """``I + U V``.

    >>> import torch
    >>> dense(torch.ones(2, 1), torch.ones(1, 2))
    tensor([[2., 1.],
            [1., 2.]])
    """
    identity = torch.eye(U.shape[-2], dtype=U.dtype, device=U.device)
    return torch.addmm(identity, U, V) if U.dim() == 2 else torch.baddbmm(identity, U, V)


def _back(U: Tensor, C_inverse: Tensor) -> Tensor:
    """``-U C^-1``, by the inverse of the capacitance in the upper left of a larger matrix."""
    n, d = U.shape[-2:]
    wide = small.wide(U)  # push-through: U C^-1 where C = I_d + V U, C^-1 U where C = I_n + U V
    back = wide @ C_inverse[..., :d, :d] if d <= n else C_inverse[..., :n, :n] @ wide
    return (-back).to(U.dtype)


def _cheaper(U: Tensor, V: Tensor) -> Matrices:
    """The factors, ``2 d`` multiplications per entry; or the dense matrix where its ``n`` are no more."""
    return (dense(U, V),) if U.shape[-2] <= 2 * U.shape[-1] else (U, V)


def _maps(stacks: Sequence[Stack]) -> list[tuple[Matrices, Tensor]]:
    of_all = _apart(small.logabsdet(_padded(stacks)), stacks)
    return [(_cheaper(U, V), of_maps) for (U, V), of_maps in zip(stacks, of_all, strict=True)]


def _inverses(stacks: Sequence[Stack]) -> list[tuple[Matrices, Tensor]]:
    C_inverses, of_all = small.inverse(_padded(stacks))
    each = zip(stacks, _apart(C_inverses, stacks), _apart(of_all, stacks), strict=True)
    return [(_cheaper(_back(U, C_inverse), V), of_maps) for (U, V), C_inverse, of_maps in each]


def _padded(stacks: Sequence[Stack]) -> Tensor:
    """The capacitances of all, in the upper left of identities: that changes neither determinants nor inverses."""
    products = [_smaller_product(small.wide(U), small.wide(V)) for U, V in stacks]
    size = max(product.shape[-1] for product in products)
    missing = [size - product.shape[-1] for product in products]
    padded = [pad(product, [0, m] * 2) if m else product for product, m in zip(products, missing, strict=True)]
    whole = torch.cat([product.reshape(-1, size, size) for product in padded]) if len(padded) > 1 else padded[0]
    return whole + torch.eye(size, dtype=whole.dtype, device=whole.device)


def _apart(values: Tensor, stacks: Sequence[Stack]) -> list[Tensor]:
    """What was computed of :func:`_padded`, stack by stack."""
    if len(stacks) == 1:
        return [values]
    batches = [U.shape[:-2] for U, _ in stacks]
    if not any(batches):
        return list(values.unbind())
    parts = values.split([batch.numel() for batch in batches])
    return [part.reshape((*batch, *values.shape[1:])) for part, batch in zip(parts, batches, strict=True)]


def _smaller_product(U: Tensor, V: Tensor) -> Tensor:
    return V @ U if U.shape[-1] <= U.shape[-2] else U @ V


#: ``I + U V`` from ``U`` (n, d) and ``V`` (d, n): the factors, or one matrix where that is cheaper
LOW_RANK = Kind(_maps, _inverses)
