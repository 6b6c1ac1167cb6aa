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
"""

from __future__ import annotations

import torch
from torch import Tensor

from nflows_woodbury.linalg import small
from nflows_woodbury.linalg.factors import Kind, Matrices

__all__ = ["LOW_RANK", "capacitances", "dense", "inverses", "logabsdets"]


def capacitances(U: Tensor, V: Tensor) -> Tensor:
    """``I_d + V U``, or ``I_n + U V`` where that is smaller: both have the same determinant. In float64.

    >>> import torch
    >>> capacitances(torch.ones(3, 1), torch.ones(1, 3))
    tensor([[4.]], dtype=torch.float64)
    """
    U, V = small.wide(U), small.wide(V)
    return dense(U, V) if U.shape[-1] > U.shape[-2] else dense(V, U)


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
    wide = small.wide(U)  # push-through: U C^-1 where C = I_d + V U, C^-1 U where C = I_n + U V
    back = C_inverse @ wide if U.shape[-1] > U.shape[-2] else wide @ C_inverse
    return (-back).to(U.dtype), logabsdets


def dense(U: Tensor, V: Tensor) -> Tensor:
    """``I + U V``.

    >>> import torch
    >>> dense(torch.ones(2, 1), torch.ones(1, 2))
    tensor([[2., 1.],
            [1., 2.]])
    """
    identity = torch.eye(U.shape[-2], dtype=U.dtype, device=U.device)
    return torch.addmm(identity, U, V) if U.dim() == 2 else torch.baddbmm(identity, U, V)


def _cheaper(U: Tensor, V: Tensor) -> Matrices:
    """The factors, ``2 d`` multiplications per entry; or the dense matrix where its ``n`` are no more."""
    return (dense(U, V),) if U.shape[-2] <= 2 * U.shape[-1] else (U, V)


def _maps(U: Tensor, V: Tensor) -> tuple[Matrices, Tensor]:
    return _cheaper(U, V), logabsdets(U, V)


def _inverses(U: Tensor, V: Tensor) -> tuple[Matrices, Tensor]:
    back, of_maps = inverses(U, V)
    return _cheaper(back, V), of_maps


#: ``I + U V`` from ``U`` (n, d) and ``V`` (d, n): the factors, or one matrix where that is cheaper
LOW_RANK = Kind(_maps, _inverses)
