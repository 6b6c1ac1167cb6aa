r"""How the factors of :math:`I_n + U V`, and square matrices, begin: drawn from torch's global generator.

>>> U, V = STARTS["reflection"](12, 4)
>>> U.shape, V.shape
(torch.Size([12, 4]), torch.Size([4, 12]))
>>> sorted(SQUARE_STARTS)
['identity', 'rotation']
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from nflows_woodbury.checks import check_one_of

__all__ = [
    "SQUARE_STARTS",
    "STARTS",
    "Start",
    "cancelling_start",
    "paper_start",
    "reflection_start",
    "start_factors",
    "start_matrices",
]

#: a name in :data:`STARTS`, or a function ``(n, d) -> (U, V)``
Start = str | Callable[[int, int], tuple[Tensor, Tensor]]


def start_factors(start: Start, n: int, d: int) -> tuple[Tensor, Tensor]:
    """``U`` (n, d) and ``V`` (d, n) of a start; ValueError for an unknown name, or factors of other shapes.

    >>> U, V = start_factors("paper", 12, 4)
    >>> U.shape, V.shape
    (torch.Size([12, 4]), torch.Size([4, 12]))
    """
    U, V = (start if callable(start) else STARTS[check_one_of("init", start, STARTS)])(n, d)
    if U.shape != (n, d) or V.shape != (d, n):
        raise ValueError(
            f"init must give factors of shapes {(n, d)} and {(d, n)}, got {tuple(U.shape)} and {tuple(V.shape)}"
        )
    return U, V


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


def _orthonormal(n: int, columns: int, *batch: int) -> Tensor:
    return torch.linalg.qr(torch.randn(*batch, n, columns)).Q


def _pad(U: Tensor, V: Tensor, d: int) -> tuple[Tensor, Tensor]:
    """Surplus columns of U are small and random, the matching rows of V zero: they learn, and U V stays what it was."""
    n, used = U.shape
    return torch.cat([U, 0.01 * torch.randn(n, d - used)], 1), torch.cat([V, torch.zeros(d - used, n)])


#: name -> start
STARTS: dict[str, Callable[[int, int], tuple[Tensor, Tensor]]] = {
    "paper": paper_start,
    "reflection": reflection_start,
    "cancelling": cancelling_start,
    "cancelling-unit": partial(cancelling_start, scale=1.0),
}


def start_matrices(start: str, n: int, *batch: int) -> Tensor:
    """Orthogonal matrices of a start in :data:`SQUARE_STARTS`, ``(*batch, n, n)``; ValueError for an unknown name.

    >>> start_matrices("identity", 2)
    tensor([[1., 0.],
            [0., 1.]])
    >>> start_matrices("rotation", 3, 5).shape
    torch.Size([5, 3, 3])
    """
    return SQUARE_STARTS[check_one_of("init", start, SQUARE_STARTS)](n, batch)


def _rotations(n: int, batch: tuple[int, ...]) -> Tensor:
    return _orthonormal(n, n, *batch)


def _identities(n: int, batch: tuple[int, ...]) -> Tensor:
    return torch.eye(n).repeat(*batch, 1, 1)


#: name -> start of square matrices, random rotations (or reflections) or the identity
SQUARE_STARTS: dict[str, Callable[[int, tuple[int, ...]], Tensor]] = {"rotation": _rotations, "identity": _identities}
