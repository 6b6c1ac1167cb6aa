r"""Triangular 2-d convolutions: the map, and its inverse by substitution along wavefronts of independent pixels.

A kernel ``K`` of shape ``(c_out, c_in, p, q)`` has its *corner tap*, the one that meets the output's own pixel, in its
last row, and reaches no pixel that comes later in its order:

.. math:: y_{ij} = \sum_{a < p,\, b < q} K_{ab}\, x_{i + a - (p - 1),\; j + b - k}, \qquad x = 0 \text{ outside}

=============  ==================  =================================================  ==============================
order          corner tap          each pixel depends on                              wavefronts that solve it
=============  ==================  =================================================  ==============================
``quadrant``   last column         pixels above and to the left, its row included     ``h + w - 1`` anti-diagonals
``rows``       ``k = q // 2``      pixels in rows strictly above, to either side      ``h`` rows
=============  ==================  =================================================  ==============================

With a triangular corner matrix ``D`` (so ``c_out = c_in = c``) the map is triangular in the order of pixels and
channels, :math:`\log|\det J| = h w \sum_c \log|D_{cc}|`, and the pixels of a wavefront depend on earlier wavefronts
only. Substitution then takes one small matrix product per kernel row for a whole wavefront,

.. math:: x_t = D^{-1} y_t - \sum_{\text{taps}} (D^{-1} K_{ab})\, x_{\text{earlier}}

with both products by :math:`D^{-1}` taken once, ahead of the loop. Convolution and inverse cost ``O(p q c^2 h w)`` per
image. Kernels that face another way are handled by flipping the image.

Pure functions on tensors of any device; call them with autocast off. They multiply by ``bmm``, not ``conv2d``,
which would round to TF32 on recent GPUs by default.

>>> import torch
>>> kernel = triangular(torch.randn(3, 3, 2, 3), torch.eye(3), order="rows")
>>> {order: convolve(torch.randn(2, 3, 8, 6), kernel, order).shape for order in ORDERS}
{'quadrant': torch.Size([2, 3, 8, 6]), 'rows': torch.Size([2, 3, 8, 6])}
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nflows_woodbury.checks import check_one_of

__all__ = ["ORDERS", "convolve", "correlate", "solve", "triangular", "wavefronts"]


def correlate(inputs: Tensor, kernel: Tensor) -> Tensor:
    """Convolution without padding, (B, c_in, H, W) -> (B, c_out, H - p + 1, W - q + 1), as one matrix product.

    >>> import torch
    >>> correlate(torch.randn(2, 3, 8, 6), torch.randn(5, 3, 2, 2)).shape
    torch.Size([2, 5, 7, 5])
    """
    height, width = inputs.shape[2] - kernel.shape[2] + 1, inputs.shape[3] - kernel.shape[3] + 1
    taps = kernel.permute(0, 2, 3, 1).flatten(1)
    outputs = torch.bmm(taps.expand(len(inputs), -1, -1), _windows(inputs, height, width))
    return outputs.view(inputs.shape[0], kernel.shape[0], height, width)


def convolve(inputs: Tensor, kernel: Tensor, order: str = "quadrant") -> Tensor:
    """The convolution in the first line of this module, (B, c_in, h, w) -> (B, c_out, h, w).

    It takes ``kernel`` as it is: which entries are zero is the caller's affair, see :func:`triangular`.

    >>> import torch
    >>> convolve(torch.ones(1, 1, 2, 3), torch.ones(1, 1, 2, 2))
    tensor([[[[1., 2., 2.],
              [2., 4., 4.]]]])
    """
    return correlate(_pad(inputs, kernel, order), kernel)


def triangular(kernel: Tensor, corner: Tensor, order: str = "quadrant") -> Tensor:
    """``kernel`` (c, c, p, q) with ``corner`` (c, c) as its corner tap, and zeros where ``order`` allows no tap.

    >>> import torch
    >>> triangular(torch.ones(1, 1, 2, 3), torch.full((1, 1), 5.0), order="rows")
    tensor([[[[1., 1., 1.],
              [0., 5., 0.]]]])
    """
    skew = _skew(kernel, order)
    masked = torch.zeros_like(kernel)
    for *_, tap in skew.taps:
        masked[(..., *tap)] = kernel[(..., *tap)]
    masked[:, :, -1, skew.corner] = corner
    return masked


def solve(outputs: Tensor, kernel: Tensor, order: str = "quadrant", *, upper: bool = False) -> Tensor:
    """The inverse of :func:`convolve` for a triangular kernel, by substitution along wavefronts.

    Differentiable any number of times in both arguments: the gradient of a triangular solve is the transposed one,
    the same substitution on the flipped image with the transposed kernel.

    Args:
        outputs: ``y``, shape (B, c, h, w).
        kernel: shape (c, c, p, q). Of its corner tap only one triangle is read, and of the last row of a kernel in
            the order ``"rows"`` only the corner tap.
        order: a name in :data:`ORDERS`.
        upper: whether the corner tap is upper instead of lower triangular.

    Returns:
        ``x``, shape (B, c, h, w).

    >>> import torch
    >>> kernel = triangular(0.1 * torch.randn(3, 3, 2, 2), torch.eye(3))
    >>> images = torch.randn(4, 3, 8, 6)
    >>> bool(torch.allclose(solve(convolve(images, kernel), kernel), images, atol=1e-4))
    True
    """
    corner = kernel[:, :, -1, _skew(kernel, order).corner]
    triangle = corner.triu() if upper else corner.tril()
    apply = _operator if torch.compiler.is_compiling() else _Solve.apply
    inputs: Tensor = apply(outputs, triangular(kernel, triangle, order), order, upper)  # type: ignore[no-untyped-call]
    return inputs


def wavefronts(height: int, width: int, order: str = "quadrant") -> list[tuple[int, int]]:
    """The sequential steps of ``solve``: for each, the pixels ``first <= m < last`` that it solves at once.

    ``m`` counts rows in step ``t = i + j`` of the order ``"quadrant"``, columns in step ``t = i`` of ``"rows"``.

    >>> wavefronts(2, 3)
    [(0, 1), (0, 2), (0, 2), (1, 2)]
    >>> wavefronts(2, 3, "rows")
    [(0, 3), (0, 3)]
    """
    return ORDERS[order](height, width, 1, 1).steps


class _Skew(NamedTuple):
    """Where pixels and taps lie in a buffer over (position on a wavefront ``m``, wavefront ``t``), margins included."""

    size: tuple[int, int]  # positions, and entries of each that are not always zero or never read
    origin: tuple[int, int]  # m and t of pixel (0, 0)
    row: tuple[int, int]  # the way from a pixel to the one below it
    column: tuple[int, int]  # and to the one on its right
    steps: list[tuple[int, int]]  # first and last m of each wavefront
    corner: int  # column of the kernel's corner tap
    taps: list[tuple[int, int, tuple[slice, slice]]]  # seen from the origin: m, first t, and where in the kernel


def _quadrant(height: int, width: int, p: int, q: int) -> _Skew:
    return _Skew(
        size=(height + p - 1, width + q - 1),
        origin=(p - 1, p + q - 2),
        row=(1, 1),
        column=(0, 1),
        steps=[(max(0, t - width + 1), min(height, t + 1)) for t in range(height + width - 1)],
        corner=q - 1,
        taps=[(a, a, (slice(a, a + 1), slice(0, q - (a == p - 1)))) for a in range(p)],
    )


def _rows(height: int, width: int, p: int, q: int) -> _Skew:
    return _Skew(
        size=(width + q - 1, height + p - 1),
        origin=(q // 2, p - 1),
        row=(0, 1),
        column=(1, 0),
        steps=[(0, width)] * height,
        corner=q // 2,
        taps=[(b, 0, (slice(0, p - 1), slice(b, b + 1))) for b in range(q)],
    )


#: name of an order -> where its pixels lie, from (height, width, p, q)
ORDERS: dict[str, Callable[[int, int, int, int], _Skew]] = {"quadrant": _quadrant, "rows": _rows}


def _substitute(outputs: Tensor, kernel: Tensor, order: str, upper: bool) -> Tensor:
    batch, channels, height, width = outputs.shape
    skew = _skew(kernel, order, height, width)
    identity = torch.eye(channels, dtype=kernel.dtype, device=kernel.device)
    inverse = torch.linalg.solve_triangular(kernel[:, :, -1, skew.corner], identity, upper=upper)
    kernel = -(inverse @ kernel.flatten(1)).view(kernel.shape)
    # Memory in the order m, image, t, channel: the taps on consecutive wavefronts are one contiguous row of a matrix,
    # and the pixels of a wavefront in all images are consecutive rows, so that a step copies nothing. Position m holds
    # its entries from t = m on (or from 0), so the next one starts where it ends, shifted by as much.
    image = skew.size[1] * channels

    def offset(m: int, t: int) -> int:
        return m * batch * image + t * channels

    buffer = outputs.new_zeros(offset(skew.size[0], skew.size[0]))
    strides = (image, offset(*skew.row), offset(*skew.column), 1)
    pixels = buffer.as_strided((batch, height, width, channels), strides, offset(*skew.origin))
    pixels.copy_(torch.matmul(outputs.flatten(2).mT, inverse.mT).view(batch, height, width, channels))
    taps = [(offset(m, t), kernel[(..., *tap)].permute(2, 3, 1, 0).reshape(-1, channels)) for m, t, tap in skew.taps]
    for t, (first, last) in enumerate(skew.steps):
        start, rows = offset(first, t), (last - first) * batch
        unknown = buffer.as_strided((rows, channels), (image, 1), start + offset(*skew.origin))
        for tap, weight in taps:
            unknown.addmm_(buffer.as_strided((rows, len(weight)), (image, 1), start + tap), weight)
    return pixels.permute(0, 3, 1, 2).contiguous()


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, str, bool], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1], output)
    ctx.order, ctx.upper = inputs[2:]


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
    """The transposed solve for ``outputs``; for ``kernel`` what it meets in the convolution of the solution."""
    kernel, inputs = ctx.saved_tensors
    c, _, p, q = kernel.shape
    adjoint = solve(gradient.flip(2, 3), kernel.transpose(0, 1), ctx.order, upper=not ctx.upper).flip(2, 3)
    windows = _windows(_pad(inputs, kernel, ctx.order), *inputs.shape[2:])
    taps = torch.matmul(adjoint.flatten(2), windows.mT).sum(0)
    return adjoint, -taps.view(c, p, q, c).permute(0, 3, 1, 2), None, None


def _vmap(
    info: Any, in_dims: tuple[int | None, ...], outputs: Tensor, kernel: Tensor, order: str, upper: bool
) -> tuple[Tensor, int]:
    """The images of all samples as one batch, or sample by sample where the kernels differ."""
    n = info.batch_size
    y = outputs.expand(n, *outputs.shape) if in_dims[0] is None else outputs.movedim(in_dims[0], 0)
    if in_dims[1] is None:
        return solve(y.flatten(0, 1), kernel, order, upper=upper).view(y.shape), 0
    return torch.stack([solve(y[i], kernel.select(in_dims[1], i), order, upper=upper) for i in range(n)]), 0


class _Solve(torch.autograd.Function):
    forward = staticmethod(_substitute)
    setup_context = staticmethod(_save)
    backward = staticmethod(_backward)
    vmap = staticmethod(_vmap)


# The same as an operator, which torch.compile calls as one, where it would unroll the loop of a Function for minutes.
# (A Function is what torch.func can differentiate.)
_operator = torch.library.custom_op(
    "nflows_woodbury::substitute",
    _substitute,
    mutates_args=(),
    schema="(Tensor outputs, Tensor kernel, str order, bool upper) -> Tensor",  # torch 2.4 cannot read it off strings
)
_operator.register_fake(lambda outputs, *_: torch.empty_like(outputs, memory_format=torch.contiguous_format))
_operator.register_autograd(_backward, setup_context=_save)


def _skew(kernel: Tensor, order: str, height: int = 1, width: int = 1) -> _Skew:
    return ORDERS[check_one_of("order", order, ORDERS)](height, width, *kernel.shape[2:])


def _pad(inputs: Tensor, kernel: Tensor, order: str) -> Tensor:
    p, q = kernel.shape[2:]
    corner = _skew(kernel, order).corner
    return F.pad(inputs, (corner, q - 1 - corner, p - 1, 0))


def _windows(inputs: Tensor, height: int, width: int) -> Tensor:
    """What each output pixel meets, tap by tap: (B, c, H, W) -> (B, p q c, height width)."""
    rows, columns = inputs.shape[2] - height + 1, inputs.shape[3] - width + 1
    shifted = [inputs[:, :, a : a + height, b : b + width] for a in range(rows) for b in range(columns)]
    return (torch.cat(shifted, 1) if len(shifted) > 1 else inputs).flatten(2)
