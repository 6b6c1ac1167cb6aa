r"""Convolutions of invertible layers, in full precision on any device.

.. math::

    y_{ij} = \sum_{a < p,\, b < q} K_{ab}\, x_{i + a - \text{above},\; j + b - \text{left}}, \quad x = 0 \text{ outside}

On a CPU that is ``conv2d``. Elsewhere ``conv2d`` rounds to TF32 on recent GPUs by default, so there it is one product
with the windows of all pixels. In plain eager calls the gradients are

.. math:: dx = K' * g, \qquad dK = g\, \text{windows}(x)^\top

with ``g`` that of ``y`` and ``K'`` the kernel turned by 180 degrees and transposed. So the inputs alone are kept for
them, not their windows, which are ``p q`` times as large; and ``dK`` has the errors of a product, a tenth of those of
``conv2d`` on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nflows_woodbury.linalg.modes import is_plain
from nflows_woodbury.linalg.precision import full_precision, is_autocast

__all__ = ["Padding", "correlate", "correlate_by_product", "windows"]

#: zeros around an image: left, right, above and below
Padding = tuple[int, int, int, int]
NONE: Padding = (0, 0, 0, 0)


def correlate(inputs: Tensor, kernel: Tensor, padding: Padding = NONE) -> Tensor:
    """The convolution at the head of this module, (B, c_in, h, w) -> (B, c_out, h', w').

    Under autocast it rounds as ``conv2d`` and ``bmm`` do there.

    Args:
        inputs: ``x``.
        kernel: ``K``, shape (c_out, c_in, p, q).
        padding: how many zeros there are around ``x``.

    >>> import torch
    >>> padding: Padding = (1, 0, 1, 0)
    >>> correlate(torch.ones(1, 1, 2, 3), torch.ones(1, 1, 2, 2), padding)
    tensor([[[[1., 2., 2.],
              [2., 4., 4.]]]])
    """
    if torch.is_grad_enabled() and is_plain(inputs, kernel) and not is_autocast(inputs.device.type):
        return _Correlation.apply(inputs, kernel, padding)  # type: ignore[no-untyped-call]
    return _plainly(inputs, kernel, padding)


def correlate_by_product(inputs: Tensor, kernel: Tensor, padding: Padding = NONE) -> Tensor:
    """The same map of the same arguments as one matrix product.

    >>> import torch
    >>> correlate_by_product(torch.randn(2, 3, 8, 6), torch.randn(5, 3, 2, 2)).shape
    torch.Size([2, 5, 7, 5])
    """
    (c_out, _, p, q), (left, right, above, below) = kernel.shape, padding
    height, width = inputs.shape[2] + above + below - p + 1, inputs.shape[3] + left + right - q + 1
    taps = kernel.permute(0, 2, 3, 1).flatten(1).expand(inputs.shape[0], -1, -1)
    return taps.bmm(windows(inputs, (p, q), padding)).view(inputs.shape[0], c_out, height, width)


def windows(inputs: Tensor, size: tuple[int, int], padding: Padding = NONE) -> Tensor:
    """What each output pixel meets of a kernel of that size, tap by tap: (B, c, h, w) -> (B, p q c, h' w').

    >>> import torch
    >>> windows(torch.tensor([[[[1.0, 2.0, 3.0]]]]), (1, 2))
    tensor([[[1., 2.],
             [2., 3.]]])
    """
    (p, q), inputs = size, F.pad(inputs, padding)
    height, width = inputs.shape[2] - p + 1, inputs.shape[3] - q + 1
    shifted = [inputs[:, :, a : a + height, b : b + width] for a in range(p) for b in range(q)]
    return torch.cat(shifted, 1).reshape(inputs.shape[0], p * q * inputs.shape[1], height * width)


def _plainly(inputs: Tensor, kernel: Tensor, padding: Padding) -> Tensor:
    if inputs.device.type != "cpu":
        return correlate_by_product(inputs, kernel, padding)
    left, right, above, below = padding
    if (left, above) == (right, below):
        return F.conv2d(inputs, kernel, padding=(above, left))
    return F.conv2d(F.pad(inputs, padding), kernel)


class _Correlation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, kernel: Tensor, padding: Padding) -> Tensor:
        ctx.save_for_backward(inputs, kernel)
        ctx.padding = padding
        return _plainly(inputs, kernel, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        inputs, kernel = ctx.saved_tensors
        (c_out, c_in, p, q), (left, right, above, below) = kernel.shape, ctx.padding
        around = (q - 1 - left, q - 1 - right, p - 1 - above, p - 1 - below)
        columns = gradient.reshape(*gradient.shape[:2], gradient.shape[2] * gradient.shape[3])
        with full_precision(gradient):
            of_inputs = correlate(gradient, kernel.flip(2, 3).transpose(0, 1), around)
            of_taps = columns.bmm(windows(inputs, (p, q), ctx.padding).mT).sum(0)
        return of_inputs, of_taps.view(c_out, p, q, c_in).permute(0, 3, 1, 2), None
