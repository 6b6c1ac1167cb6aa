r"""Affine maps entry by entry: a coupling's :math:`y = e^a (x + t)` with :math:`a = m \tanh(r / m)`, and a channel's.

In plain eager calls their backward passes take all that they need from what comes out. That of a coupling,

.. math:: dx = dt = g\, e^a, \qquad da = g\, y + g_a, \qquad dr = da\, (1 - (a / m)^2)

with ``g`` and ``g_a`` the gradients of ``y`` and ``a``, keeps two tensors, where operations one by one keep four. That
of a scale per channel, :math:`y = s\, (x + b)`,

.. math:: dx = g\, s, \qquad db = \textstyle\sum dx, \qquad ds = \textstyle\sum g\, y / s

keeps ``y``, which the layer after it keeps as its inputs.

>>> import torch
>>> affine(torch.ones(1, 3), torch.zeros(1, 2, 3), 4.0)[0]
tensor([[1., 1., 1.]])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nflows_woodbury.linalg.modes import is_plain

__all__ = ["affine", "along_channels", "channelwise", "unaffine"]


def affine(values: Tensor, parameters: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """``e^a (x + t)`` and ``a``, of the shape (B, ...) of ``x``; ``t`` and ``r`` are ``parameters``, (B, 2, ...).

    >>> import torch
    >>> affine(torch.ones(1, 2), torch.tensor([[[0.0, 1.0], [1e3, 0.0]]]), 1.0)
    (tensor([[2.7183, 2.0000]]), tensor([[1., 0.]]))
    """
    if not is_plain(values, parameters):
        shift, raw = parameters.unbind(1)
        log_scale = bound * (raw / bound).tanh()
        return (values + shift) * log_scale.exp(), log_scale
    if torch.is_grad_enabled():
        return _Affine.apply(values, parameters, bound)  # type: ignore[no-untyped-call]
    return _affine(values, parameters, bound)


def unaffine(values: Tensor, parameters: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """The inverse map, ``e^-a y - t``, and ``-a``, of the same arguments.

    >>> import torch
    >>> unaffine(torch.ones(1, 2), torch.tensor([[[0.0, 1.0], [-1e3, 0.0]]]), 1.0)
    (tensor([[2.7183, 0.0000]]), tensor([[1., -0.]]))
    """
    shift, raw = parameters.unbind(1)
    backwards = (raw / bound).tanh_() * -bound
    return (values * backwards.exp()).sub_(shift), backwards


def channelwise(inputs: Tensor, bias: Tensor, scale: Tensor) -> Tensor:
    """``s (x + b)`` with a bias and a positive scale for each channel, (c,), of inputs (B, c, ...).

    >>> import torch
    >>> channelwise(torch.ones(1, 2), torch.tensor([0.0, 1.0]), torch.tensor([1.0, 2.0]))
    tensor([[1., 4.]])
    """
    if torch.is_grad_enabled() and is_plain(inputs, bias, scale):
        return _Channelwise.apply(inputs, bias, scale)  # type: ignore[no-untyped-call]
    return (inputs + along_channels(bias, inputs)) * along_channels(scale, inputs)


def along_channels(values: Tensor, inputs: Tensor) -> Tensor:
    """(c,) as (c, 1, ...), so that it broadcasts with ``inputs``.

    >>> import torch
    >>> along_channels(torch.ones(3), torch.ones(2, 3, 4, 4)).shape
    torch.Size([3, 1, 1])
    """
    return values.view(-1, *[1] * (inputs.dim() - 2))


def _affine(values: Tensor, parameters: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """In few passes: each writes over what was made here."""
    shift, raw = parameters.unbind(1)
    log_scale = (raw / bound).tanh_().mul_(bound)
    return (values + shift).mul_(log_scale.exp()), log_scale


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, parameters: Tensor, bound: float) -> tuple[Tensor, Tensor]:
        outputs, log_scale = _affine(values, parameters, bound)
        ctx.save_for_backward(outputs, log_scale)
        ctx.bound = bound
        return outputs, log_scale

    @staticmethod
    def backward(ctx: Any, of_outputs: Tensor, of_log_scale: Tensor) -> tuple[Tensor, Tensor, None]:
        outputs, log_scale = ctx.saved_tensors
        given = of_outputs, of_log_scale, outputs, log_scale, ctx.bound
        if torch.is_grad_enabled() or not is_plain(of_outputs, of_log_scale):
            of_shift, of_raw = _gradients(*given)
            return of_shift, torch.stack([of_shift, of_raw], 1), None
        of_parameters = outputs.new_empty(outputs.shape[0], 2, *outputs.shape[1:])
        of_shift, _ = _gradients(*given, out=of_parameters.unbind(1))
        return of_shift, of_parameters, None


def _gradients(
    of_outputs: Tensor,
    of_log_scale: Tensor,
    outputs: Tensor,
    log_scale: Tensor,
    bound: float,
    out: Sequence[Tensor | None] = (None, None),
) -> tuple[Tensor, Tensor]:
    """Those of ``t``, which is that of ``x`` too, and of ``r``, written to ``out`` if given."""
    of_shift = torch.mul(of_outputs, log_scale.exp(), out=out[0])
    of_log_scale = torch.addcmul(of_log_scale, of_outputs, outputs)
    of_raw = torch.addcmul(of_log_scale, of_log_scale * log_scale, log_scale, value=-(bound**-2), out=out[1])
    return of_shift, of_raw


class _Channelwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, bias: Tensor, scale: Tensor) -> Tensor:
        outputs = (inputs + along_channels(bias, inputs)).mul_(along_channels(scale, inputs))
        ctx.save_for_backward(outputs, scale)
        return outputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs, scale = ctx.saved_tensors
        of_inputs = gradient * along_channels(scale, gradient)
        others = [0, *range(2, gradient.dim())]
        return of_inputs, of_inputs.sum(others), (gradient * outputs).sum(others) / scale
