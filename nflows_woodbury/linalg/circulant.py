r"""Products of circulant and diagonal matrices.

A circulant matrix ``C`` of side ``n`` is a convolution on a circle, so the Fourier matrix ``F`` makes it diagonal. A
real one is given by its eigenvalues at the frequencies ``0 ... n // 2``; those at the others are their conjugates:

.. math::

    C = F^{-1} \operatorname{diag}(\hat c) F, \qquad W = D_1 C_1 D_2 C_2 \cdots C_{m-1} D_m, \qquad
    \log|\det W| = \sum_i \log|\det D_i| + \sum_i \sum_f \log|\hat c_{i, f}|

The inverse is a product of the same kind, the factors in reverse order with reciprocal entries. Multiplying a vector
costs ``O(m n log n)``.

Pure functions on tensors of any device; call them with autocast off.

>>> import torch
>>> spectra = torch.fft.rfft(torch.tensor([[0.0, 1.0, 0.0, 0.0]]))  # one circulant: the shift by 1
>>> multiply(torch.ones(2, 4), spectra, torch.arange(4.0)[:, None]).flatten().round()
tensor([3., 0., 1., 2.])
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["frequencies", "invert", "multiply", "spectrum"]


def multiply(diagonals: Tensor, spectra: Tensor, columns: Tensor) -> Tensor:
    """``W x`` for the columns ``x`` of the second to last axis, shape (..., n, k) as ``columns``.

    Args:
        diagonals: (m, n), the diagonals of ``D_1 ... D_m``.
        spectra: (m - 1, n // 2 + 1), the eigenvalues of ``C_1 ... C_{m-1}``, complex.
        columns: (..., n, k), real.

    >>> import torch
    >>> multiply(torch.full((1, 3), 2.0), torch.empty(0, 2, dtype=torch.complex64), torch.ones(3, 1)).flatten()
    tensor([2., 2., 2.])
    """
    outputs = diagonals[-1][:, None] * columns
    if not outputs.numel():  # oneMKL refuses an empty batch
        return outputs
    for i in reversed(range(diagonals.shape[0] - 1)):
        transformed = spectra[i][:, None] * torch.fft.rfft(outputs, dim=-2)
        outputs = diagonals[i][:, None] * torch.fft.irfft(transformed, n=columns.shape[-2], dim=-2)
    return outputs


def invert(diagonals: Tensor, spectra: Tensor) -> tuple[Tensor, Tensor]:
    """Diagonals and spectra of ``W^-1 = D_m^-1 C_{m-1}^-1 … D_1^-1``.

    >>> import torch
    >>> invert(torch.tensor([[2.0], [4.0]]), torch.tensor([[8.0 + 0j]]))
    (tensor([[0.2500],
            [0.5000]]), tensor([[0.1250+0.j]]))
    """
    return diagonals.flip(0).reciprocal(), spectra.flip(0).reciprocal()


def spectrum(log_modulus: Tensor, phase: Tensor, sign: Tensor) -> Tensor:
    """Eigenvalues ``e^(a + i phi)`` at the frequencies ``0 … n // 2``, shape (m, n // 2 + 1), complex.

    Args:
        log_modulus: ``a``, (m, n // 2 + 1).
        phase: ``phi``, (m, (n - 1) // 2): none at the frequencies 0 and ``n / 2``, where eigenvalues are real.
        sign: of those, (m, 1) for odd ``n``, else (m, 2).

    >>> import torch
    >>> spectrum(torch.zeros(1, 2), torch.zeros(1, 0), torch.tensor([[1.0, -1.0]]))
    tensor([[ 1.+0.j, -1.+0.j]])
    """
    real = torch.cat([sign[:, :1], phase.cos(), sign[:, 1:]], 1)
    imaginary = torch.cat([torch.zeros_like(sign[:, :1]), phase.sin(), torch.zeros_like(sign[:, 1:])], 1)
    return torch.complex(log_modulus.exp() * real, log_modulus.exp() * imaginary)


def frequencies(n: int) -> Tensor:
    """How many of the ``n`` eigenvalues stand behind each at the frequencies ``0 … n // 2``: itself, or a pair.

    >>> frequencies(4), frequencies(5)
    (tensor([1., 2., 1.]), tensor([1., 2., 2.]))
    """
    counts = torch.full((n // 2 + 1,), 2.0)
    counts[0] = 1.0
    counts[(n + 1) // 2 :] = 1.0  # the frequency n / 2 of an even n is its own conjugate
    return counts
