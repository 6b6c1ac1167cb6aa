r"""Exponentials of zero-padded convolutions, as a series that is cut where floating point would not see the rest.

``M`` is the matrix of a convolution with zero padding, ``K_ij`` the ``c x c`` matrix at tap ``(i, j)`` of its kernel:

.. math::

    e^M x = \sum_k \frac{M^k x}{k!}, \qquad \det e^M = e^{\operatorname{tr} M}, \qquad
    \operatorname{tr} M = h w \operatorname{tr} K_{\text{centre}}

A shift has norm 1 at most, so the convolution's norm is at most the sum of those of its taps, and what a cut after
``m`` terms leaves out is bounded by a geometric series:

.. math::

    \|M\|_2 \le b = \sum_{ij} \|K_{ij}\|_2, \qquad
    \Bigl\| \sum_{k > m} \frac{M^k}{k!} \Bigr\|_2 \le \frac{b^{m + 1}}{(m + 1)!} \Bigm/ \Bigl(1 - \frac{b}{m + 2}\Bigr)

The terms of a large norm may be far larger than their sum, and leave it their rounding, so the map is a product of
``n`` exponentials of small norms, :math:`e^M = (e^{M / n})^n`.

Pure functions on tensors of any device; call them with autocast off.

>>> import torch
>>> kernel = torch.zeros(1, 1, 3, 3)
>>> kernel[..., 1, 1] = 1.0
>>> exp_convolve(torch.ones(1, 1, 1, 2), kernel, *factors_and_terms(1.0, torch.float32))
tensor([[[[2.7183, 2.7183]]]])
"""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor
from torch.nn import functional as F

from nflows_woodbury.linalg import small
from nflows_woodbury.linalg.correlation import correlate

__all__ = ["bound_norm", "exp_convolve", "factors_and_terms", "norm_bound", "num_terms"]

_NORM = 3.0  # of one factor at most; rounding grows by its exponential


def exp_convolve(inputs: Tensor, kernel: Tensor, factors: int, terms: int) -> Tensor:
    """``x + N x + N^2 x / 2 + … + N^m x / m!`` with ``N = M / n``, ``n`` times; shape (B, c, h, w) as ``inputs``.

    Args:
        inputs: ``x``.
        kernel: (c, c, k, k) of ``M``, ``k`` odd.
        factors: ``n``, see :func:`factors_and_terms`.
        terms: ``m`` of each.

    >>> import torch
    >>> exp_convolve(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 3, 3), factors=1, terms=2)
    tensor([[[[5., 5.]]]])
    """
    part, outputs = kernel / factors, inputs
    for _ in range(factors):
        term = outputs
        for k in range(1, terms + 1):
            term = _convolve(term, part) / k
            outputs = outputs + term
    return outputs


def factors_and_terms(norm: float, dtype: torch.dtype) -> tuple[int, int]:
    """How many factors make an exponential of ``|M| <= norm``, each of a norm of 3 at most, and the terms of each.

    A norm that is no number, that of a kernel that is none, gives one factor, whose result is none either.

    >>> import torch
    >>> [factors_and_terms(norm, torch.float32) for norm in (0.1, 3.0, 7.5)]
    [(1, 6), (1, 19), (3, 18)]
    """
    factors = ceil(norm / _NORM) if norm > _NORM else 1
    return factors, num_terms(norm / factors, dtype)


def num_terms(norm: float, dtype: torch.dtype) -> int:
    """The smallest ``m`` for which the tail of a series with ``|M| <= norm`` is below the resolution of ``dtype``.

    Two terms more, so that the same holds for two derivatives of the series in ``M``.

    >>> import torch
    >>> [num_terms(norm, torch.float32) for norm in (0.1, 1.0, 3.0)]
    [6, 12, 19]
    """
    term, m = 1.0, 0
    while m + 2 <= norm or term * norm / (m + 1) / (1 - norm / (m + 2)) > torch.finfo(dtype).eps:
        m += 1
        term *= norm / m
    return m + 2


def norm_bound(kernel: Tensor) -> Tensor:
    r"""An upper bound of the norm of ``M``, a float64 scalar: the sum of a bound of each tap's spectral norm.

    .. math:: \|K\|_2 = \max_l \sigma_l \le \bigl(\textstyle\sum_l \sigma_l^8\bigr)^{1/8} = \|(K^\top K)^2\|_F^{1/4}

    It has all derivatives, where the spectral norm has kinks, and needs two small products instead of a singular value
    decomposition. It is larger by a factor of at most :math:`c^{1/8}`, 1.8 for 100 channels.

    >>> import torch
    >>> round(float(norm_bound(torch.full((1, 1, 3, 3), 0.5))), 6)
    4.5
    """
    taps = small.wide(kernel).permute(2, 3, 0, 1)
    gram = taps.mT @ taps
    powers = (gram @ gram).square().sum((-2, -1))
    return (powers + 1e-64).pow(1 / 8).sum()  # the root of 0 has no derivative


def bound_norm(kernel: Tensor, largest: float) -> tuple[Tensor, Tensor]:
    """``kernel`` if its :func:`norm_bound` is at most ``largest``, else scaled down to it; and its bound.

    >>> import torch
    >>> bound_norm(torch.tensor([[[[5.0]]]]), 2.0)
    (tensor([[[[2.]]]]), tensor(2., dtype=torch.float64))
    """
    scale = largest / norm_bound(kernel).clamp_min(largest)
    return (scale * kernel).to(kernel.dtype), norm_bound(kernel).clamp_max(largest)


def _convolve(inputs: Tensor, kernel: Tensor) -> Tensor:
    """``M x``; on a CPU by ``conv2d`` and its own gradients, which take less time for many small terms."""
    margin = kernel.shape[-1] // 2
    if inputs.device.type == "cpu":
        return F.conv2d(inputs, kernel, padding=margin)
    return correlate(inputs, kernel, (margin, margin, margin, margin))
