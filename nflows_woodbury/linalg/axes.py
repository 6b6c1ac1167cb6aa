"""One matrix for each group of axes of the inputs, all applied in as few passes as there can be."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from nflows_woodbury.linalg.factors import Matrices, size_of
from nflows_woodbury.linalg.two_sided import two_sided

__all__ = ["along_axes"]

MERGED = 64  # entries of vectors for which one product is faster than two with smaller matrices


def along_axes(inputs: Tensor, groups: Sequence[tuple[int, ...]], maps: Sequence[Matrices]) -> Tensor:
    """Multiply every vector along each group of axes by its own matrix; ``(B, *shape)`` in and out.

    A group that ends at the last axis indexes the columns of matrices, and its map acts on them from the right. The
    group right before it indexes their rows, so both are applied at once. Any other group is a pass of its own. Of
    more than two groups the last ones become one where that is small, by the Kronecker product of their matrices.

    Args:
        inputs: shape ``(B, *shape)``.
        groups: consecutive axes of ``shape`` each, by rising axes, such as ``[(0,), (1, 2)]``.
        maps: of each group ``(U, V)``, (n, d) and (d, n), for ``I + U V``, or ``(A,)``, (n, n), for ``A``; with ``n``
            the product of its sizes.

    >>> import torch
    >>> ones = torch.ones(3, 1), torch.ones(1, 3)
    >>> along_axes(torch.eye(3)[None], [(0,), (1,)], [ones, ones])[0]
    tensor([[6., 5., 5.],
            [5., 6., 5.],
            [5., 5., 6.]])
    """
    shape, outputs = inputs.shape[1:], inputs
    from_left = _merged_groups(list(zip(groups, maps, strict=True)))
    if groups[-1][-1] == len(shape) - 1:
        last, of_last = from_left.pop()
        neighbour = from_left.pop()[1] if from_left and from_left[-1][0][-1] + 1 == last[0] else None
        n = 1 if neighbour is None else size_of(neighbour)
        outputs = two_sided(outputs.reshape(-1, n, size_of(of_last)), left=neighbour, right=_transposed(of_last))
    for axes, of_axes in from_left:
        outputs = two_sided(outputs.reshape(-1, size_of(of_axes), prod(shape[axes[-1] + 1 :])), left=of_axes)
    return outputs.reshape(inputs.shape)


def _merged_groups(from_left: list[tuple[tuple[int, ...], Matrices]]) -> list[tuple[tuple[int, ...], Matrices]]:
    """The groups and their maps, the last two as one while there are more than two and that one is small."""
    while len(from_left) > 2:
        (first, of_first), (second, of_second) = from_left[-2:]
        if len(of_first) + len(of_second) > 2 or first[-1] + 1 != second[0]:  # of factors, or not neighbours
            break
        if size_of(of_first) * size_of(of_second) > MERGED:
            break
        from_left[-2:] = [((*first, *second), (_kronecker(*of_first, *of_second),))]
    return from_left


def _kronecker(A: Tensor, B: Tensor) -> Tensor:
    """``A (x) B``, which maps the entries of ``x``, row by row, to those of ``A x B^T``."""
    return (A[:, None, :, None] * B[None, :, None, :]).reshape(2 * [A.shape[0] * B.shape[0]])


def _transposed(side: Matrices) -> Matrices:
    """``(I + U V)^T = I + V^T U^T``."""
    return tuple(matrix.mT for matrix in reversed(side))
