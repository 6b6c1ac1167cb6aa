"""Small matrices in float64: inverses, solutions and log-determinants, whatever the precision around them.

A matrix over channels or ranks costs little beside the images that it meets, and float32 would lose as many digits of
its inverse and log-determinant as its condition number has. Matrices are real or complex, of shape ``(..., n, n)``;
inverses and solutions come back in the dtype of the arguments, log-determinants in float64.

>>> import torch
>>> inverses, logabsdets = inverse(torch.eye(3).expand(5, 3, 3) / 2)
>>> inverses.dtype, inverses.shape, logabsdets.dtype, logabsdets.shape
(torch.float32, torch.Size([5, 3, 3]), torch.float64, torch.Size([5]))
"""

from __future__ import annotations

import torch
from torch import Tensor

from nflows_woodbury.linalg.modes import is_transformed

__all__ = ["inverse", "logabsdet", "solve", "triangular_inverse", "wide"]


def wide(tensor: Tensor) -> Tensor:
    """In float64 or complex128; unchanged on Apple's GPUs, which have neither.

    >>> import torch
    >>> wide(torch.ones(2)).dtype, wide(torch.ones(2) * 1j).dtype
    (torch.float64, torch.complex128)
    """
    if tensor.device.type == "mps":
        return tensor
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def logabsdet(matrices: Tensor) -> Tensor:
    """``log |det A|``, shape (...); -inf where ``A`` is singular.

    >>> import torch
    >>> logabsdet(torch.tensor([[0.0, 2.0], [2.0, 0.0]]))
    tensor(1.3863, dtype=torch.float64)
    """
    matrices = wide(matrices)
    if torch.is_grad_enabled() and not is_transformed(matrices):
        return torch.linalg.slogdet(matrices).logabsdet  # gradients in 2/3 of the time, but wrong ones in forward mode
    # with the bits of slogdet, which factors the transposed where that saves a copy
    swapped = matrices.is_contiguous() and not matrices.is_complex()
    return _of_factors(torch.linalg.lu_factor_ex(matrices.mT if swapped else matrices).LU)


def inverse(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """``A^-1`` and ``log |det A|``, of one factorisation.

    >>> import torch
    >>> inverse(torch.tensor([[0.0, 2.0], [2.0, 0.0]]))[0]
    tensor([[0.0000, 0.5000],
            [0.5000, 0.0000]])
    """
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    return solve(matrices, identity.expand_as(matrices))


def solve(matrices: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """``A^-1 B`` for ``columns`` ``B`` (..., n, k), and ``log |det A|``, of one factorisation.

    Nothing is raised for a singular ``A``: its log-determinant is -inf, and its solution not finite.

    >>> import torch
    >>> solve(2 * torch.eye(2), torch.ones(2, 1))
    (tensor([[0.5000],
            [0.5000]]), tensor(1.3863, dtype=torch.float64))
    """
    factors, pivots, _ = torch.linalg.lu_factor_ex(wide(matrices))
    return torch.linalg.lu_solve(factors, pivots, wide(columns)).to(columns.dtype), _of_factors(factors)


def triangular_inverse(matrices: Tensor, *, upper: bool) -> Tensor:
    """``A^-1`` of triangular matrices, of which only that triangle is read.

    >>> import torch
    >>> triangular_inverse(torch.full((2, 2), 2.0), upper=True)
    tensor([[ 0.5000, -0.5000],
            [ 0.0000,  0.5000]])
    """
    triangles = wide(matrices)
    identity = torch.eye(matrices.shape[-1], dtype=triangles.dtype, device=triangles.device)
    return torch.linalg.solve_triangular(triangles, identity.expand_as(triangles), upper=upper).to(matrices.dtype)


def _of_factors(LU: Tensor) -> Tensor:
    """``log |det A|`` is the sum over the diagonal of its factor ``U``."""
    return LU.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)
