"""One matrix along a group of axes: what a layer with a structured matrix becomes where it no longer learns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from nflows_woodbury.linalg import small
from nflows_woodbury.linalg.axes import along_axes
from nflows_woodbury.linalg.factors import Factor, Kind, Matrices, one_by_one
from nflows_woodbury.transforms.base import FactoredTransform

__all__ = ["DenseAlongAxes"]


class DenseAlongAxes(FactoredTransform):
    """Multiplies every vector along a group of axes by one matrix that does not learn.

    Args:
        matrix: ``W``, (n, n), in float64.
        axes: the group, consecutive axes of one input, with ``n`` the product of their sizes.
        dtype: of inputs and outputs.
        check: raises a ValueError or TypeError for inputs that the layer cannot take.

    Shapes: inputs and outputs ``(B, ...)``; ``logabsdet`` ``(B,)``.

    >>> import torch
    >>> layer = DenseAlongAxes(2 * torch.eye(4).double(), (0,), torch.float64, lambda inputs: None)
    >>> layer.inverse(torch.ones(1, 4, 2).double())[0].unique()
    tensor([0.5000], dtype=torch.float64)
    """

    matrix: Tensor

    def __init__(
        self, matrix: Tensor, axes: tuple[int, ...], dtype: torch.dtype, check: Callable[[Tensor], object]
    ) -> None:
        super().__init__()
        self.axes, self.dtype, self.check = axes, dtype, check
        self.register_buffer("matrix", matrix)

    def check_inputs(self, inputs: Tensor) -> None:
        """Refuse what the check refuses."""
        self.check(inputs)

    def factors(self) -> list[Factor]:
        """The matrix, to be cast when it is prepared."""
        cast = [one_by_one(partial(prepare_stack, dtype=self.dtype)) for prepare_stack in (_map, _inverse)]
        return [Factor(Kind(*cast), (self.matrix,))]

    def multiplicities(self, inputs: Tensor) -> list[int]:
        """The number of vectors."""
        group = inputs.shape[1 + self.axes[0] : 2 + self.axes[-1]]
        return [inputs.shape[1:].numel() // group.numel()]

    def map_by(self, inputs: Tensor, *matrices: Matrices) -> Tensor:
        """``W x`` for each vector, and ``W^-1 x`` for the inverse."""
        return along_axes(inputs, [self.axes], matrices)


def _map(W: Tensor, dtype: torch.dtype) -> tuple[Matrices, Tensor]:
    return (W.to(dtype),), small.logabsdet(W)


def _inverse(W: Tensor, dtype: torch.dtype) -> tuple[Matrices, Tensor]:
    inverse, logabsdets = small.inverse(W)
    return (inverse.to(dtype),), logabsdets
