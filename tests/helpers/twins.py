"""The slow dense truth beside every linear layer: the same map as a matrix, with a graph to the layer's parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import prod
from typing import Any

import torch
from nflows.transforms.base import Transform
from torch import Tensor
from torch.nn import functional as F

from nflows_woodbury import (
    ActNorm,
    AutoregressiveConvolution,
    Chain,
    InvertibleConv1x1,
    LowRankTransform,
    PeriodicConvolution,
    Squeeze,
)

Shape = tuple[int, ...]


def dense(transform: Transform, shape: Shape) -> Tensor:
    """The matrix (D, D) of a linear transform on the entries of one input in order, float64; a chain's is a product."""
    if not isinstance(transform, Chain):
        return TWINS[type(transform)](transform, shape)
    matrix = eye(prod(shape))
    for part in transform:
        matrix, shape = dense(part, shape) @ matrix, part(torch.zeros(1, *shape, dtype=torch.float64))[0].shape[1:]
    return matrix


def has_twin(transform: Transform) -> bool:
    return all(map(has_twin, transform)) if isinstance(transform, Chain) else type(transform) in TWINS


def eye(size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)


def kronecker(*matrices: Tensor) -> Tensor:
    return reduce(torch.kron, [matrix.contiguous() for matrix in matrices])  # others it refuses


def low_rank(layer: LowRankTransform, shape: Shape) -> Tensor:
    """``I + U V`` on its axes from the left where they begin with the channels, transposed from the right elsewhere."""
    update = eye(layer.size) + layer.U @ layer.V
    before, after = prod(shape[: layer.axes[0]]), prod(shape[layer.axes[-1] + 1 :])
    return kronecker(eye(before), update if layer.axes[0] == 0 else update.mT, eye(after))


def conv1x1(layer: InvertibleConv1x1, shape: Shape) -> Tensor:
    weight, _ = layer.matrix()
    return kronecker(weight, eye(shape[1] * shape[2]))


def actnorm(layer: ActNorm, shape: Shape) -> Tensor:
    return kronecker(layer.log_scale.exp().diag(), eye(shape[1] * shape[2]))


def squeeze(layer: Squeeze, shape: Shape) -> Tensor:
    """The permutation of torch."""
    order = F.pixel_unshuffle(torch.arange(prod(shape)).view(1, *shape), layer.factor).flatten()
    return eye(prod(shape))[order]


def autoregressive(layer: AutoregressiveConvolution, shape: Shape) -> Tensor:
    """A convolution whose full window has one quadrant, and a triangle with a bounded diagonal at the pixel itself."""
    taps, reach = layer.weight.clone(), layer.kernel_size - 1
    own = layer.weight[:, :, -1, -1]
    triangle = own.tril(-1) if layer.corner.startswith("upper") else own.triu(1)
    taps[:, :, -1, -1] = triangle + layer.log_scale.tanh().exp().diag()
    axes = [axis for axis, side in [(2, "upper"), (3, "left")] if side not in layer.corner]
    return convolution(F.pad(taps, (0, reach, 0, reach)).flip(axes), shape, reach, zero_padded)


def periodic(layer: PeriodicConvolution, shape: Shape) -> Tensor:
    return convolution(layer.weight, shape, layer.weight.shape[-1] // 2, cyclic)


def convolution(kernel: Tensor, shape: Shape, centre: int, shifted: Callable[[int, int], Tensor]) -> Tensor:
    """``sum over taps (a, b) of kron(K_ab, S^(a - centre), S^(b - centre))``, ``S`` a shift by a pixel."""
    taps = [(a, b) for a in range(kernel.shape[2]) for b in range(kernel.shape[3])]
    _, h, w = shape
    terms = [kronecker(kernel[:, :, a, b], shifted(h, a - centre), shifted(w, b - centre)) for a, b in taps]
    return torch.stack(terms).sum(0)


def zero_padded(size: int, by: int) -> Tensor:
    """Entry i takes that of i + by, or nothing where there is none."""
    entries = torch.arange(size)
    return (entries + by == entries[:, None] + 2 * by).double()


def cyclic(size: int, by: int) -> Tensor:
    return eye(size).roll(by, 1)


#: layer -> its matrix, from the layer and the shape of its inputs
TWINS: dict[type[Transform], Callable[[Any, Shape], Tensor]] = {
    LowRankTransform: low_rank,
    InvertibleConv1x1: conv1x1,
    ActNorm: actnorm,
    Squeeze: squeeze,
    AutoregressiveConvolution: autoregressive,
    PeriodicConvolution: periodic,
}
