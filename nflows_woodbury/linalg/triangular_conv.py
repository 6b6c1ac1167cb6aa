r"""Triangular 2-d convolutions, and their inverse by substitution.

A kernel ``K`` of shape ``(c_out, c_in, p, q)`` has its *corner tap*, the one that meets the output's own pixel, in
column ``k`` of its last row, and reaches no pixel that comes later in its order, ``"quadrant"`` or ``"rows"``, see
``nflows_woodbury.linalg.wavefronts``:

.. math:: y_{ij} = \sum_{a < p,\, b < q} K_{ab}\, x_{i + a - (p - 1),\; j + b - k}, \qquad x = 0 \text{ outside}

With a triangular corner matrix ``D`` (so ``c_out = c_in = c``) the map is triangular in the order of pixels and
channels, and

.. math:: \log|\det J| = h w \sum_c \log|D_{cc}|

Convolution and inverse cost ``O(p q c^2 h w)`` per image. A kernel that faces another way is the same for a flipped
image.

Pure functions on tensors of any device; call them with autocast off.

>>> import torch
>>> kernel = triangular(torch.randn(3, 3, 2, 3), torch.eye(3), order="rows")
>>> convolve(torch.randn(2, 3, 8, 6), kernel, order="rows").shape
torch.Size([2, 3, 8, 6])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nflows_woodbury.linalg.correlation import Padding, correlate, windows
from nflows_woodbury.linalg.modes import is_traced, is_transformed
from nflows_woodbury.linalg.wavefronts import grid_of, substitute, substitute_plainly

__all__ = ["convolve", "solve", "triangular"]


def convolve(inputs: Tensor, kernel: Tensor, order: str = "quadrant", turned: Sequence[int] = ()) -> Tensor:
    """The convolution in the first line of this module, (B, c_in, h, w) -> (B, c_out, h, w).

    It takes ``kernel`` as it is: which entries are zero is the caller's affair, see :func:`triangular`. What flips the
    image along the axes ``turned``, 2 or 3, convolves it and flips it back is the convolution by the flipped kernel.

    >>> import torch
    >>> convolve(torch.ones(1, 1, 2, 3), torch.ones(1, 1, 2, 2))
    tensor([[[[1., 2., 2.],
              [2., 4., 4.]]]])
    >>> convolve(torch.ones(1, 1, 2, 3), torch.ones(1, 1, 2, 2), turned=(3,))
    tensor([[[[2., 2., 1.],
              [4., 4., 2.]]]])
    """
    left, right, above, below = _padding(kernel, order)
    if 2 in turned:
        above, below = below, above
    if 3 in turned:
        left, right = right, left
    return correlate(inputs, kernel.flip(*turned) if turned else kernel, (left, right, above, below))


def triangular(kernel: Tensor, corner: Tensor, order: str = "quadrant") -> Tensor:
    """``kernel`` (..., p, q) with ``corner`` (...) as its corner tap, and zeros where ``order`` allows no tap.

    >>> import torch
    >>> triangular(torch.ones(1, 1, 2, 3), torch.full((1, 1), 5.0), order="rows")
    tensor([[[[1., 1., 1.],
              [0., 5., 0.]]]])
    """
    grid, (p, q) = grid_of(kernel, order), kernel.shape[-2:]
    allowed = torch.zeros(p, q, dtype=torch.bool, device=kernel.device)
    for *_, tap in grid.taps:
        allowed[tap] = True
    alone = F.pad(corner[..., None, None], (grid.corner, q - 1 - grid.corner, p - 1, 0))
    return torch.where(allowed, kernel, alone)


def solve(outputs: Tensor, kernel: Tensor, order: str = "quadrant", *, upper: bool = False) -> Tensor:
    """The inverse of :func:`convolve` for a triangular kernel, by substitution along wavefronts.

    Differentiable any number of times in both arguments: the gradient of a triangular solve is the transposed one,
    the same substitution on the flipped image with the transposed kernel.

    Args:
        outputs: ``y``, shape (B, c, h, w); or groups that are solved at once, (g, B, c, h, w).
        kernel: shape (c, c, p, q), or that of each group, (g, c, c, p, q). Of its corner tap only one triangle is read,
            and of the last row of a kernel in the order ``"rows"`` only the corner tap.
        order: a name in ``ORDERS``.
        upper: whether the corner tap is upper instead of lower triangular.

    Returns:
        ``x``, of the shape of ``outputs``.

    >>> import torch
    >>> kernel = triangular(0.1 * torch.randn(3, 3, 2, 2), torch.eye(3))
    >>> images = torch.randn(4, 3, 8, 6)
    >>> bool(torch.allclose(solve(convolve(images, kernel), kernel), images, atol=1e-4))
    True
    """
    if kernel.dim() == 4:
        return solve(outputs[None], kernel[None], order, upper=upper)[0]
    corner = kernel[..., -1, grid_of(kernel, order).corner]
    kernel = triangular(kernel, corner.triu() if upper else corner.tril(), order)
    if is_traced():
        return _operator(outputs, kernel, order, upper)
    if is_transformed(outputs, kernel):
        return substitute_plainly(outputs, kernel, order, upper)
    return _Solve.apply(outputs, kernel, order, upper)  # type: ignore[no-untyped-call]


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, str, bool], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1], output)
    ctx.order, ctx.upper = inputs[2:]


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
    """The transposed solve for ``outputs``; for ``kernel`` what it meets in the convolution of the solution."""
    kernel, inputs = ctx.saved_tensors
    groups, batch, c, height, width = inputs.shape
    adjoint = solve(gradient.flip(3, 4), kernel.transpose(1, 2), ctx.order, upper=not ctx.upper).flip(3, 4)
    met = windows(inputs.flatten(0, 1), kernel.shape[-2:], _padding(kernel, ctx.order)).unflatten(0, (groups, batch))
    columns = adjoint.reshape(groups, batch, c, height * width)  # as vmap cannot flatten here
    taps = torch.matmul(columns, met.mT).sum(1)
    return adjoint, -taps.view(groups, c, *kernel.shape[3:], c).permute(0, 1, 4, 2, 3), None, None


class _Solve(torch.autograd.Function):
    forward = staticmethod(substitute)
    setup_context = staticmethod(_save)
    backward = staticmethod(_backward)


# The same as an operator, for compilers and tracers, which would unroll the loop of a Function for minutes.
_operator = torch.library.custom_op(
    "nflows_woodbury::substitute",
    substitute,
    mutates_args=(),
    schema="(Tensor outputs, Tensor kernel, str order, bool upper) -> Tensor",  # torch 2.4 cannot read it off strings
)
_operator.register_fake(lambda outputs, *_: torch.empty_like(outputs, memory_format=torch.contiguous_format))
_operator.register_autograd(_backward, setup_context=_save)


def _padding(kernel: Tensor, order: str) -> Padding:
    p, q = kernel.shape[-2:]
    corner = grid_of(kernel, order).corner
    return (corner, q - 1 - corner, p - 1, 0)
