r"""The order in which a triangular convolution is undone: wavefronts of pixels that do not depend on each other.

A kernel ``K`` of shape ``(c, c, p, q)`` has its *corner tap*, the one that meets the output's own pixel, in its last
row, and reaches no pixel that comes later in its order:

=============  ==================  =================================================  ==============================
order          corner tap          each pixel depends on                              wavefronts that solve it
=============  ==================  =================================================  ==============================
``quadrant``   last column         pixels above and to the left, its row included     ``h + w - 1`` anti-diagonals
``rows``       ``k = q // 2``      pixels in rows strictly above, to either side      ``h`` rows
=============  ==================  =================================================  ==============================

With ``D`` the corner tap, all pixels of wavefront ``t`` follow at once from earlier wavefronts:

.. math:: x_t = D^{-1} y_t - \sum_{\text{taps}} (D^{-1} K_{ab})\, x_{\text{earlier}}

Both functions that do so see the image as a grid of places ``m`` on a wavefront by wavefronts ``t``, with margins of
zeros for the pixels outside: :func:`substitute` in one piece of memory that it writes over, and
:func:`substitute_plainly`, several times slower, in operations that torch differentiates and batches in every way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nflows_woodbury.checks import check_one_of
from nflows_woodbury.linalg import small

__all__ = ["ORDERS", "Grid", "grid_of", "substitute", "substitute_plainly", "wavefronts"]


class Grid(NamedTuple):
    """Where pixels and taps lie on the grid of places ``m`` by wavefronts ``t``, margins included."""

    size: tuple[int, int]  # places, and entries of each that are not always zero or never read
    origin: tuple[int, int]  # m and t of pixel (0, 0)
    row: tuple[int, int]  # the way from a pixel to the one below it
    column: tuple[int, int]  # and to the one on its right
    steps: list[tuple[int, int]]  # first and last m of each wavefront
    corner: int  # column of the kernel's corner tap
    taps: list[tuple[int, int, tuple[slice, slice]]]  # seen from the origin: m, first t, and where in the kernel


def _quadrant(height: int, width: int, p: int, q: int) -> Grid:
    """Pixel (i, j) on wavefront ``t = i + j`` at place ``m = i``."""
    return Grid(
        size=(height + p - 1, width + q - 1),
        origin=(p - 1, p + q - 2),
        row=(1, 1),
        column=(0, 1),
        steps=[(max(0, t - width + 1), min(height, t + 1)) for t in range(height + width - 1)],
        corner=q - 1,
        taps=[(a, a, (slice(a, a + 1), slice(0, q - (a == p - 1)))) for a in range(p)],
    )


def _rows(height: int, width: int, p: int, q: int) -> Grid:
    """Pixel (i, j) on wavefront ``t = i`` at place ``m = j``."""
    return Grid(
        size=(width + q - 1, height + p - 1),
        origin=(q // 2, p - 1),
        row=(0, 1),
        column=(1, 0),
        steps=[(0, width)] * height,
        corner=q // 2,
        taps=[(b, 0, (slice(0, p - 1), slice(b, b + 1))) for b in range(q)],
    )


#: name of an order -> its grid, from (height, width, p, q)
ORDERS: dict[str, Callable[[int, int, int, int], Grid]] = {"quadrant": _quadrant, "rows": _rows}


def grid_of(kernel: Tensor, order: str, height: int = 1, width: int = 1) -> Grid:
    """The grid of an image of that size; ValueError for an unknown order.

    >>> import torch
    >>> grid_of(torch.ones(1, 1, 2, 2), "quadrant", height=4, width=3).size
    (5, 4)
    """
    p, q = map(int, kernel.shape[-2:])  # to torch.jit.trace they would be tensors
    return ORDERS[check_one_of("order", order, ORDERS)](height, width, p, q)


def wavefronts(height: int, width: int, order: str = "quadrant") -> list[tuple[int, int]]:
    """The sequential steps of the inverse: for each, the pixels ``first <= m < last`` that it solves at once.

    ``m`` counts rows in step ``t = i + j`` of the order ``"quadrant"``, columns in step ``t = i`` of ``"rows"``.

    >>> wavefronts(2, 3)
    [(0, 1), (0, 2), (0, 2), (1, 2)]
    >>> wavefronts(2, 3, "rows")
    [(0, 3), (0, 3)]
    """
    return ORDERS[order](height, width, 1, 1).steps


def substitute(outputs: Tensor, kernel: Tensor, order: str, upper: bool) -> Tensor:
    """``x`` from ``y`` of shape (g, B, c, h, w), each group with its kernel of (g, c, c, p, q), without a graph.

    >>> import torch
    >>> substitute(torch.ones(1, 1, 1, 2, 2), torch.ones(1, 1, 1, 1, 2), "quadrant", upper=False)
    tensor([[[[[1., 0.],
               [1., 0.]]]]])
    """
    groups, batch, channels, height, width = outputs.shape
    grid = grid_of(kernel, order, height, width)
    own, kernel = _divided_by_corner(outputs, kernel, grid.corner, upper)
    # One buffer in the order group, m, image, t, channel. The taps of a pixel on consecutive wavefronts are neighbours,
    # and the pixels of a wavefront in all images equally far apart: a step is a few products and copies nothing.
    # In the order "quadrant" place m uses only the entries t = m, ..., m + size - 1: rows of that length are enough.
    image = grid.size[1] * channels

    def offset(m: int, t: int) -> int:
        return m * batch * image + t * channels

    size = offset(grid.size[0], grid.size[0])
    buffer = outputs.new_zeros(groups * size)
    strides = (size, image, offset(*grid.row), offset(*grid.column), 1)
    pixels = buffer.as_strided((groups, batch, height, width, channels), strides, offset(*grid.origin))
    pixels.copy_(own)
    # a batch of one product would be slower than the product
    batched, jump, multiply = ((groups,), (size,), Tensor.baddbmm_) if groups > 1 else ((), (), Tensor.addmm_)
    taps = [(offset(m, t), _as_rows(kernel, tap)) for m, t, tap in grid.taps]
    taps = [(start, weight if groups > 1 else weight[0]) for start, weight in taps]
    for t, (first, last) in enumerate(grid.steps):
        start, rows = offset(first, t), (last - first) * batch
        unknown = buffer.as_strided((*batched, rows, channels), (*jump, image, 1), start + offset(*grid.origin))
        for tap, weight in taps:
            known = buffer.as_strided((*batched, rows, weight.shape[-2]), (*jump, image, 1), start + tap)
            multiply(unknown, known, weight)
    return pixels.permute(0, 1, 4, 2, 3).contiguous()


def substitute_plainly(outputs: Tensor, kernel: Tensor, order: str, upper: bool) -> Tensor:
    """The same by operations that write over nothing, with a graph.

    >>> import torch
    >>> substitute_plainly(torch.ones(1, 1, 1, 2, 2), torch.ones(1, 1, 1, 1, 2), "quadrant", upper=False)
    tensor([[[[[1., 0.],
               [1., 0.]]]]])
    """
    groups, batch, channels, height, width = outputs.shape
    grid = grid_of(kernel, order, height, width)
    own, kernel = _divided_by_corner(outputs, kernel, grid.corner, upper)
    taps = [(m, t, _as_rows(kernel, tap)) for m, t, tap in grid.taps]
    i, j = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    m_of, t_of = (i * row + j * column for row, column in zip(grid.row, grid.column, strict=True))
    before, (places, _) = grid.origin, grid.size
    solved = [outputs.new_zeros(places, groups, batch, channels)] * before[1]  # by wavefront, the first are margins
    for t, (first, last) in enumerate(grid.steps):
        i, j = (t_of == t).nonzero(as_tuple=True)
        order_of_m = m_of[i, j].argsort()
        unknown = own[:, :, i[order_of_m], j[order_of_m]].movedim(2, 0)  # (places of this wavefront, g, B, c)
        for m, earlier, weight in taps:
            near = [solved[t + earlier + k][first + m : last + m] for k in range(weight.shape[1] // channels)]
            unknown = unknown + torch.cat(near, -1) @ weight if near else unknown
        solved.append(F.pad(unknown, (*[0] * 6, first + before[0], places - last - before[0])))
    return torch.stack(solved)[t_of + before[1], m_of + before[0]].permute(2, 3, 4, 0, 1)


def _divided_by_corner(outputs: Tensor, kernel: Tensor, corner: int, upper: bool) -> tuple[Tensor, Tensor]:
    """``D^-1 y``, pixels first as (g, B, h, w, c), and ``-D^-1 K``: the corner tap inverted in float64."""
    groups, batch, channels, height, width = outputs.shape
    inverse = small.triangular_inverse(small.wide(kernel[..., -1, corner]), upper=upper)
    divided = (inverse @ small.wide(kernel).reshape(groups, channels, -1)).reshape(kernel.shape).to(kernel.dtype)
    columns = outputs.reshape(groups, batch, channels, height * width)
    own = columns.mT @ inverse.mT.to(outputs.dtype)[:, None]
    return own.reshape(groups, batch, height, width, channels), -divided


def _as_rows(kernel: Tensor, tap: tuple[slice, slice]) -> Tensor:
    """Some taps as one matrix that multiplies from the right, (g, taps c, c)."""
    taps = kernel[(..., *tap)].permute(0, 3, 4, 2, 1)
    return taps.reshape(taps.shape[0], -1, taps.shape[4])
