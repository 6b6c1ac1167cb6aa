r"""Low-rank updates of the identity, :math:`A = I_n + U V` with :math:`U: n \times d` and :math:`V: d \times n`.

Everything rests on two identities for the capacitance :math:`C = I_d + V U`:

.. math::

    (I_n + U V)^{-1} = I_n - U C^{-1} V, \qquad \det(I_n + U V) = \det C

(Woodbury's matrix identity and Sylvester's determinant identity). Both hold for ranks above ``n`` too, where
:math:`I_n + U V` itself is the smaller matrix, and the push-through identity
:math:`(I_n + U V)^{-1} U = U (I_d + V U)^{-1}` says that either matrix serves for the inverse. So the inverse of
a low-rank update is a low-rank update with the factors :math:`-U C^{-1}` and :math:`V`, and costs what the
forward map costs: ``O(d n)`` per vector after ``O(d^2 n + d^3)`` once.

Pure functions of the factors; :mod:`nflows_woodbury.linalg.two_sided` applies them to data, and the modules that
hold them are in :mod:`nflows_woodbury.transforms`.

>>> import torch
>>> pairs = [(torch.ones(3, 1), torch.ones(1, 3)), (torch.zeros(4, 2), torch.ones(2, 4))]
>>> logabsdets(pairs)
tensor([1.3863, 0.0000], dtype=torch.float64)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from nflows_woodbury.linalg import small

__all__ = ["Factors", "capacitances", "inverses", "logabsdets"]

#: ``U`` (n, d) and ``V`` (d, n) of ``I_n + U V``
Factors = tuple[Tensor, Tensor]


def capacitances(pairs: Sequence[Factors]) -> Tensor:
    """``I_d + V U`` of each pair, or ``I_n + U V`` where that is smaller: both have the same determinant.

    In float64, shape (k, m, m), ``m`` the largest of them. A smaller one stands in the upper left of an identity, which
    changes neither its determinant nor its inverse.

    >>> import torch
    >>> capacitances([(torch.ones(3, 1), torch.ones(1, 3))])
    tensor([[[4.]]], dtype=torch.float64)
    """
    products = [_smaller_product(small.wide(U), small.wide(V)) for U, V in pairs]
    size = max(product.shape[-1] for product in products)
    missing = [size - product.shape[-1] for product in products]
    padded = [pad(product, [0, m] * 2) if m else product for product, m in zip(products, missing, strict=True)]
    return torch.stack(padded) + torch.eye(size, dtype=padded[0].dtype, device=padded[0].device)


def logabsdets(pairs: Sequence[Factors]) -> Tensor:
    """``log |det(I_n + U V)| = log |det C|`` of each pair, in float64, shape (k,); -inf where it is singular.

    >>> import torch
    >>> logabsdets([(torch.ones(3, 1), torch.ones(1, 3)), (torch.zeros(4, 2), torch.ones(2, 4))])
    tensor([1.3863, 0.0000], dtype=torch.float64)
    """
    return small.logabsdet(capacitances(pairs))


def inverses(pairs: Sequence[Factors]) -> tuple[list[Factors], Tensor]:
    """``(I + U V)^-1 = I + U' V`` with ``U' = -U C^-1``: each pair ``(U', V)``, and :func:`logabsdets` of the maps.

    All from one batch of factorisations. ``U'`` comes back in the dtype of its ``U``.

    >>> import torch
    >>> U, V = torch.ones(3, 1), torch.ones(1, 3)
    >>> [(back_U, back_V)], _ = inverses([(U, V)])
    >>> (torch.eye(3) + back_U @ back_V) @ (torch.eye(3) + U @ V)
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    solved, logabsdets = small.inverse(capacitances(pairs))
    backs = []
    for (U, V), C_inverse in zip(pairs, solved.unbind(), strict=True):
        n, d = U.shape
        wide = small.wide(U)  # push-through: U C^-1 where C = I_d + V U, C^-1 U where C = I_n + U V
        back = wide @ C_inverse[:d, :d] if d <= n else C_inverse[:n, :n] @ wide
        backs.append((-back.to(U.dtype), V))
    return backs, logabsdets


def _smaller_product(U: Tensor, V: Tensor) -> Tensor:
    return V @ U if U.shape[-1] <= U.shape[-2] else U @ V
