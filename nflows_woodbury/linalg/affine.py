r"""The affine map of a coupling, :math:`y = e^a (x + t)` with the bounded log-scale :math:`a = m \tanh(r / m)`.

In plain eager calls its backward pass takes all that it needs from what comes out,

.. math:: dx = dt = g\, e^a, \qquad da = g\, y + g_a, \qquad dr = da\, (1 - (a / m)^2)

with ``g`` and ``g_a`` the gradients of ``y`` and ``a``: two tensors are kept for it, where operations one by one keep
four.

>>> import torch
>>> affine(torch.ones(3), torch.ones(3), torch.zeros(3), 4.0)[0]
tensor([2., 2., 2.])
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nflows_woodbury.linalg.modes import is_plain

__all__ = ["affine", "bounded"]


def bounded(raw: Tensor, bound: float) -> Tensor:
    """``m tanh(r / m)``: between ``-m`` and ``m``, with derivative 1 at 0.

    >>> import torch
    >>> bounded(torch.tensor([-100.0, 0.0, 100.0]), 4.0)
    tensor([-4.,  0.,  4.])
    """
    return bound * (raw / bound).tanh()


def affine(values: Tensor, shift: Tensor, raw: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """``e^a (x + t)`` and ``a``, all of one shape.

    >>> import torch
    >>> affine(torch.ones(3), torch.zeros(3), torch.full((3,), 1e3), 1.0)
    (tensor([2.7183, 2.7183, 2.7183]), tensor([1., 1., 1.]))
    """
    if torch.is_grad_enabled() and is_plain(values, shift, raw):
        return _Affine.apply(values, shift, raw, bound)  # type: ignore[no-untyped-call]
    log_scale = bounded(raw, bound)
    return (values + shift) * log_scale.exp(), log_scale


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, shift: Tensor, raw: Tensor, bound: float) -> tuple[Tensor, Tensor]:
        log_scale = (raw / bound).tanh_().mul_(bound)
        outputs = (values + shift).mul_(log_scale.exp())
        ctx.save_for_backward(outputs, log_scale)
        ctx.bound = bound
        return outputs, log_scale

    @staticmethod
    def backward(ctx: Any, of_outputs: Tensor, of_log_scale: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        outputs, log_scale = ctx.saved_tensors
        of_values = of_outputs * log_scale.exp()
        of_log_scale = torch.addcmul(of_log_scale, of_outputs, outputs)
        of_raw = torch.addcmul(of_log_scale, of_log_scale * log_scale, log_scale, value=-(ctx.bound**-2))
        return of_values, of_values, of_raw, None
