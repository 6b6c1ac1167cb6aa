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

>>> U, V = STARTS["reflection"](12, 4)
>>> U.shape, V.shape
(torch.Size([12, 4]), torch.Size([4, 12]))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = [
    "STARTS",
    "Factors",
    "cancelling_start",
    "capacitance",
    "inverse_factors",
    "inverses",
    "logabsdet",
    "logabsdets",
    "paper_start",
    "reflection_start",
]

#: ``U`` (n, d) and ``V`` (d, n) of ``I_n + U V``
Factors = tuple[Tensor, Tensor]


def capacitance(U: Tensor, V: Tensor) -> Tensor:
    """The smaller of ``I_d + V U`` and ``I_n + U V``; both have the same determinant. Shape (m, m), m = min(n, d).

    >>> import torch
    >>> capacitance(torch.ones(3, 1), torch.ones(1, 3))
    tensor([[4.]])
    """
    return _plus_identity(_small_product(U, V))


def logabsdet(U: Tensor, V: Tensor) -> Tensor:
    """``log |det(I_n + U V)|`` by Sylvester's identity, in float64; a scalar, -inf where the update is singular.

    >>> import torch
    >>> logabsdet(torch.ones(3, 1), torch.ones(1, 3))
    tensor(1.3863, dtype=torch.float64)
    """
    return logabsdets([(U, V)])[0]


def logabsdets(pairs: Sequence[Factors]) -> Tensor:
    """:func:`logabsdet` of several updates as one batch, shape (k,).

    >>> import torch
    >>> logabsdets([(torch.ones(3, 1), torch.ones(1, 3)), (torch.zeros(4, 2), torch.ones(2, 4))])
    tensor([1.3863, 0.0000], dtype=torch.float64)
    """
    C = _capacitances([(_wide(U), _wide(V)) for U, V in pairs])
    if torch.is_grad_enabled():
        return torch.linalg.slogdet(C).logabsdet
    return _logabsdet(torch.linalg.lu_factor_ex(C).LU)  # a fifth of slogdet's time, but with slow gradients


def inverse_factors(U: Tensor, V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Factors ``(U', V')`` with ``I + U' V' = (I + U V)^-1``, and ``log |det(I + U V)|``, from one LU factorisation.

    The small solve runs in float64: at a capacitance of condition 100 that cuts the float32 error of the inverse by up
    to a half.
    ``U'`` and ``V'`` come back in the factors' dtype, the log-det in float64.

    >>> import torch
    >>> U, V = torch.ones(3, 1), torch.ones(1, 3)
    >>> back_U, back_V, logabsdet = inverse_factors(U, V)
    >>> (torch.eye(3) + back_U @ back_V) @ (torch.eye(3) + U @ V)
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    ((back_U, back_V),), logabsdets = inverses([(U, V)])
    return back_U, back_V, logabsdets[0]


def inverses(pairs: Sequence[Factors]) -> tuple[list[Factors], Tensor]:
    """:func:`inverse_factors` of several updates as one batch: the factors, and the log-dets of the updates, (k,).

    >>> import torch
    >>> factors, logabsdets = inverses([(torch.ones(3, 1), torch.ones(1, 3)), (torch.zeros(4, 2), torch.ones(2, 4))])
    >>> [U[0].tolist() for U, _ in factors], logabsdets
    ([[-0.25], [0.0, 0.0]], tensor([1.3863, 0.0000], dtype=torch.float64))
    """
    wide = [(_wide(U), _wide(V)) for U, V in pairs]
    C = _capacitances(wide)
    factors, pivots, _ = torch.linalg.lu_factor_ex(C)
    minus_identity = -torch.eye(C.shape[-1], dtype=C.dtype, device=C.device)
    solved = torch.linalg.lu_solve(factors, pivots, minus_identity.expand_as(C))
    backs = []
    for (U, V), (left, _), minus_inverse in zip(pairs, wide, solved.unbind(), strict=True):
        # Push-through: U C^-1 from the right where C = I_d + V U, C^-1 U from the left where C = I_n + U V.
        n, d = left.shape
        back = left @ minus_inverse[:d, :d] if d <= n else minus_inverse[:n, :n] @ left
        backs.append((back.to(U.dtype), V))
    return backs, _logabsdet(factors)


def _capacitances(pairs: Sequence[Factors]) -> Tensor:
    """All in one batch, each in the upper left of an identity: same determinant, and the inverse in the same place."""
    products = [_small_product(U, V) for U, V in pairs]
    size = max(len(product) for product in products)
    padded = [pad(product, [0, size - len(product)] * 2) if len(product) < size else product for product in products]
    return _plus_identity(torch.stack(padded))


def _small_product(U: Tensor, V: Tensor) -> Tensor:
    return V @ U if U.shape[-1] <= U.shape[-2] else U @ V


def _plus_identity(products: Tensor) -> Tensor:
    return products + torch.eye(products.shape[-1], dtype=products.dtype, device=products.device)


def _logabsdet(factors: Tensor) -> Tensor:
    return factors.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)


def _wide(factor: Tensor) -> Tensor:
    return factor if factor.device.type == "mps" else factor.double()  # Apple's GPUs have no float64


# Starts: how the factors begin. Each maps (n, d) to (U, V) in the default dtype, drawn from torch's global generator.


def paper_start(n: int, d: int) -> tuple[Tensor, Tensor]:
    """Entries N(0, 0.01^2), as published (Lu and Huang 2020, appendix).

    Learns slowly: the gradient of ``U V`` is as small as its factors.

    >>> U, V = paper_start(12, 4)
    >>> U.shape, V.shape
    (torch.Size([12, 4]), torch.Size([4, 12]))
    """
    return 0.01 * torch.randn(n, d), 0.01 * torch.randn(d, n)


def reflection_start(n: int, d: int) -> tuple[Tensor, Tensor]:
    """The block reflection ``I - 2 Q Q^T``, ``Q`` random orthonormal: orthogonal, log-det 0, factors of size one.

    >>> import torch
    >>> U, V = reflection_start(12, 4)
    >>> A = torch.eye(12) + U @ V
    >>> bool(torch.allclose(A @ A.mT, torch.eye(12), atol=1e-5))
    True
    """
    Q = _orthonormal(n, min(n, d))
    return _pad(-2 * Q, Q.mT.clone(), d)


def cancelling_start(n: int, d: int, scale: float = 0.3) -> tuple[Tensor, Tensor]:
    """``U = [a Q, a Q]``, ``V = [a Q^T; -a Q^T]``: exactly the identity, but with factors of size ``a = scale``.

    ``Q`` has the largest number of columns that fits, ``min(n, d // 2)``.

    >>> U, V = cancelling_start(12, 4)
    >>> bool((U @ V).abs().max() < 1e-6), bool(U.abs().max() > 0.05)
    (True, True)
    """
    Q = scale * _orthonormal(n, min(n, d // 2))
    return _pad(torch.cat([Q, Q], 1), torch.cat([Q.mT, -Q.mT]), d)


def _orthonormal(n: int, columns: int) -> Tensor:
    return torch.linalg.qr(torch.randn(n, columns)).Q


def _pad(U: Tensor, V: Tensor, d: int) -> tuple[Tensor, Tensor]:
    """Surplus columns of U are small and random, the matching rows of V zero: they learn, and U V stays what it was."""
    n, used = U.shape
    return torch.cat([U, 0.01 * torch.randn(n, d - used)], 1), torch.cat([V, torch.zeros(d - used, n)])


#: name -> start, ``(n, d) -> (U, V)``
STARTS: dict[str, Callable[[int, int], tuple[Tensor, Tensor]]] = {
    "paper": paper_start,
    "reflection": reflection_start,
    "cancelling": cancelling_start,
    "cancelling-unit": partial(cancelling_start, scale=1.0),
}
