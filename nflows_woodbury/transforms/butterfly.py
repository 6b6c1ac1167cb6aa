"""Butterfly layers: sparse factors along a group of axes, that together reach every entry of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nflows_woodbury.checks import check_axes, check_image_inputs, check_shape, check_sizes
from nflows_woodbury.linalg import butterfly, small
from nflows_woodbury.linalg.starts import start_matrices
from nflows_woodbury.transforms.base import LinearTransform
from nflows_woodbury.transforms.chain import Chain
from nflows_woodbury.transforms.dense import DenseAlongAxes

__all__ = ["Butterfly", "ButterflyTransform"]

Product = Callable[[Sequence[Tensor], Tensor], Tensor]

#: size of a group from which on its factors beat the dense product
SPARSE_SIZE = 256


class Butterfly(LinearTransform):
    r"""A butterfly product along one group of axes of size ``n``, the same for each entry of the other axes.

    .. math::

        y = B_m \cdots B_2 B_1 x, \qquad
        \log|\det J| = \frac{\text{size}}{n} \sum_{\text{blocks}} \log|\det K|

    For ``n = 2^m`` factor ``i`` pairs entries ``2^(i-1)`` apart, each pair by a 2 x 2 block of its own. Other sizes
    have one factor for each prime factor ``p`` of ``n``, with ``p x p`` blocks, as the Fourier transform of that size
    has: see :mod:`nflows_woodbury.linalg.butterfly`. So every entry of the group reaches every other, whatever ``n``,
    with ``n (p_1 + ... + p_m)`` parameters. The inverse has the inverse blocks in reverse order, computed in float64.

    Both ways cost ``O(n (p_1 + ... + p_m))`` per vector along the group, ``O(n log n)`` for powers of two. Below 256
    entries the layer multiplies by its dense matrix, formed once per call: ``n^2``, but of faster operations. (On one
    thread of a CPU, float32, that takes a fifth of the time for 64 channels, and as long for 256 or 1024 pixels.)

    Args:
        shape: of one input, such as ``(c, h, w)``.
        axes: consecutive axes of ``shape``: ``(0,)`` the channels, ``(1, 2)`` the pixels, ``(1,)`` the rows, ``(2,)``
            the columns, ``(0, 1, 2)`` all.
        init: ``"rotation"``, blocks are random rotations, or ``"identity"``; either way log-det 0.

    Shapes:
        inputs and outputs ``(B, *shape)``, ``logabsdet`` ``(B,)``; of each factor the parameter ``(n / p, p, p)``.

    Raises:
        SingularError: from ``inverse``, if a block is singular.
        ValueError, TypeError: for a bad shape, axes or start, or inputs of another shape.

    Reference: Meng, Zhou, Choi, Dao and Ermon, ButterflyFlow: Building Invertible Layers with Butterfly Matrices, ICML
    2022. Their implementation flattens the whole image, ``axes=(0, 1, 2)``, and takes the first few factors, of powers
    of two that divide its size.

    >>> import torch
    >>> layer, images = Butterfly((4, 6, 6), axes=(1, 2)), torch.randn(5, 4, 6, 6)
    >>> outputs, logabsdet = layer(images)
    >>> bool(torch.allclose(layer.inverse(outputs)[0], images, atol=1e-5)), logabsdet.shape
    (True, torch.Size([5]))
    """

    def __init__(self, shape: int | Sequence[int], axes: int | Sequence[int] = (0,), init: str = "rotation") -> None:
        super().__init__()
        self.shape = check_sizes("shape", shape)
        self.axes = check_axes(axes, self.shape)
        self.size = prod(self.shape[axis] for axis in self.axes)
        self.blocks = nn.ParameterList(start_matrices(init, p, self.size // p) for p in butterfly.radices(self.size))

    def extra_repr(self) -> str:
        """Show the arguments in ``print``."""
        return f"shape={self.shape}, axes={self.axes}"

    def check_inputs(self, inputs: Tensor) -> None:
        """Refuse inputs of another shape."""
        check_image_inputs(inputs, self.shape)

    def map_forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The factors, from neighbours to entries far apart."""
        blocks = list(self.blocks)
        return self._along(butterfly.multiply, blocks, inputs), self._multiplicity * butterfly.logabsdet(blocks)

    def map_inverse(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse factors, in reverse order."""
        blocks, logabsdet = butterfly.inverses([small.wide(factor) for factor in self.blocks])
        return self._along(butterfly.multiply_backwards, blocks, inputs), -self._multiplicity * logabsdet

    def factored(self) -> DenseAlongAxes | None:
        """The dense matrix that the layer multiplies by, where it does; above that, None."""
        if self.size >= SPARSE_SIZE:
            return None
        blocks = [small.wide(factor) for factor in self.blocks]
        identity = torch.eye(self.size, dtype=blocks[0].dtype, device=blocks[0].device)
        check = partial(check_image_inputs, shape=self.shape)
        return DenseAlongAxes(butterfly.multiply(blocks, identity), self.axes, self.blocks[0].dtype, check)

    @property
    def _multiplicity(self) -> int:
        return prod(self.shape) // self.size

    def _along(self, multiply: Product, blocks: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """The product along the group, with factors or with their matrix."""
        axis = 1 + self.axes[0]
        vectors = inputs.flatten(axis, 1 + self.axes[-1])
        if self.size < SPARSE_SIZE:
            identity = small.wide(torch.eye(self.size, device=inputs.device))
            matrix = multiply([small.wide(factor) for factor in blocks], identity).to(inputs.dtype)
            return _dense_product(matrix, vectors, axis).view(inputs.shape)
        columns = vectors.movedim(axis, 0)
        outputs = multiply([factor.to(inputs.dtype) for factor in blocks], columns.flatten(1))
        return outputs.view(columns.shape).movedim(0, axis).reshape(inputs.shape)


class ButterflyTransform(Chain):
    """A butterfly along the channels, then one along the pixels: every entry of an image reaches every other.

    Args:
        shape: ``(c, h, w)``.
        groups: the axes of each, in order; ``((0,), (1,), (2,))`` for channels, rows and columns, None for channels and
            pixels, ``((0,), (1, 2))``.
        init: start of the first group, ``"rotation"`` or ``"identity"``; the others start as the identity.

    Shapes:
        inputs and outputs ``(B, c, h, w)``, ``logabsdet`` ``(B,)``.

    Raises:
        SingularError: from ``inverse``, if a block is singular.
        ValueError, TypeError: for a bad shape, groups or start, or inputs of another shape.

    Reference: see :class:`Butterfly`.

    >>> import torch
    >>> outputs, logabsdet = ButterflyTransform((12, 8, 8))(torch.randn(4, 12, 8, 8))
    >>> outputs.shape, logabsdet.shape
    (torch.Size([4, 12, 8, 8]), torch.Size([4]))
    """

    def __init__(
        self, shape: Sequence[int], groups: Iterable[Sequence[int]] | None = None, init: str = "rotation"
    ) -> None:
        shape = check_shape(shape)
        pixels = tuple(range(1, len(shape)))
        each = [axes for axes in ((0,), pixels) if axes] if groups is None else list(groups)
        if not each:
            raise ValueError("groups must name at least one group of axes, got none")
        starts = [init, *["identity"] * (len(each) - 1)]
        super().__init__(Butterfly(shape, axes, start) for axes, start in zip(each, starts, strict=True))


def _dense_product(matrix: Tensor, vectors: Tensor, axis: int) -> Tensor:
    """``W`` times the vectors along an axis."""
    if axis == vectors.dim() - 1:
        return F.linear(vectors, matrix)
    columns = vectors.flatten(0, axis - 1).flatten(2)  # bmm, as matmul of a weight that learns would copy the images
    return torch.bmm(matrix.expand(columns.shape[0], -1, -1), columns)
