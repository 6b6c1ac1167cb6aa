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
    Butterfly,
    Chain,
    CirculantDiagonal,
    ConvolutionExponential,
    FInCConvolution,
    HaarSqueeze,
    InvertibleConv1x1,
    LowRankLinear,
    LowRankTransform,
    MEWoodburyTransform,
    PeriodicConvolution,
    Squeeze,
    Standardize,
    WoodburyTransform,
)
from nflows_woodbury.transforms.conv1x1 import PARAMETRIZATIONS

Shape = tuple[int, ...]


def dense(transform: Transform, shape: Shape) -> Tensor:
    """The matrix (D, D) of a linear transform on the entries of one input in order, float64; a chain's is a product."""
    if type(transform) in TWINS or not isinstance(transform, Chain):
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


def woodbury(layer: WoodburyTransform, shape: Shape) -> Tensor:
    """``A x B`` of a c x s matrix x is ``kron(A, B^T)`` on its entries, row by row."""
    channels, *pixels = _updates(layer, shape[0], *[prod(shape[1:])] * (len(shape) > 1))
    return kronecker(channels, *(matrix.mT for matrix in pixels))


def me_woodbury(layer: MEWoodburyTransform, shape: Shape) -> Tensor:
    channels, *others = _updates(layer, *shape)
    return kronecker(channels, *(matrix.mT for matrix in others))


def _updates(layer: Chain, *sizes: int) -> list[Tensor]:
    """``I + U V`` of each part, whose sizes must be these."""
    return [eye(size) + part.U @ part.V for size, part in zip(sizes, layer, strict=True)]


def conv1x1(layer: InvertibleConv1x1, shape: Shape) -> Tensor:
    name = next(name for name, kind in PARAMETRIZATIONS.items() if type(layer.matrix) is kind)
    return kronecker(MATRICES[name](layer.matrix), eye(prod(shape[1:])))


def plu(matrix: Any) -> Tensor:
    lower = triangle(matrix.lower) + eye(len(matrix.sign))
    return matrix.permutation @ lower @ scaled_upper(matrix)


def qr(matrix: Any) -> Tensor:
    """The reflections one after the other; each vector has a 1 in its first place, and zeros before."""
    vectors, Q = triangle(matrix.vectors) + eye(len(matrix.sign)), eye(len(matrix.sign))
    for v in vectors[:, :-1].unbind(1):
        Q = Q - 2 * torch.outer(Q @ v, v) / v.dot(v)
    return Q @ scaled_upper(matrix)


def scaled_upper(matrix: Any) -> Tensor:
    return (matrix.sign * matrix.log_scale.exp()).diag() + triangle(matrix.upper).mT


def triangle(entries: Tensor) -> Tensor:
    """Entries below a diagonal, row by row, and zeros elsewhere; of no entries, one zero."""
    rows, row, size = [], 0, round((0.25 + 2 * len(entries)) ** 0.5 + 0.5)
    for i in range(size):
        rows.append(F.pad(entries[row : row + i], (0, size - i)))
        row += i
    return torch.stack(rows)


#: parametrization -> the matrix of a 1x1 convolution
MATRICES: dict[str, Callable[[Any], Tensor]] = {
    "dense": lambda matrix: matrix.weight,
    "plu": plu,
    "qr": qr,
    "exp": lambda matrix: torch.linalg.matrix_exp(matrix.weight),
}


def circulant_diagonal(layer: CirculantDiagonal, shape: Shape) -> Tensor:
    """Circulants from their first columns, which are sums of cosines."""
    n = shape[0]
    diagonals = (layer.diagonal_sign * layer.log_scale.exp()).unbind()
    matrix, entries = diagonals[0].diag(), torch.arange(n)
    for diagonal, modulus, phase, sign in zip(
        diagonals[1:], layer.log_modulus.exp(), layer.phase, layer.real_sign, strict=True
    ):
        column = modulus[0] * sign[0] * torch.ones(n, dtype=torch.float64)
        for f in range(1, (n + 1) // 2):
            column = column + 2 * modulus[f] * (2 * torch.pi * f * entries.double() / n + phase[f - 1]).cos()
        if n % 2 == 0:
            column = column + modulus[n // 2] * sign[1] * (-1.0) ** entries.double()
        matrix = matrix @ (column / n)[(entries[:, None] - entries) % n] @ diagonal.diag()
    return kronecker(matrix, eye(prod(shape[1:])))


def butterfly(layer: Butterfly, shape: Shape) -> Tensor:
    """The product of its factors: factor i holds blocks on entries whose numbers differ in one digit."""
    matrix, stride = eye(layer.size), 1
    for blocks in layer.blocks:
        p, entries = blocks.shape[-1], torch.arange(layer.size)
        digits, others = entries // stride % p, entries // (stride * p) * stride + entries % stride
        factor = blocks[others[:, None], digits[:, None], digits] * (others[:, None] == others)
        matrix, stride = factor @ matrix, stride * p
    before, after = prod(shape[: layer.axes[0]]), prod(shape[layer.axes[-1] + 1 :])
    return kronecker(eye(before), matrix, eye(after))


def exponential(layer: ConvolutionExponential, shape: Shape) -> Tensor:
    """The exponential of the convolution's matrix, its kernel scaled down to the bound where it exceeds that."""
    singular = torch.linalg.svdvals(layer.weight.permute(2, 3, 0, 1))
    bound = singular.pow(8).sum(-1).pow(1 / 8).sum()
    kernel = layer.weight * (layer.max_norm / bound).clamp(max=1)
    return torch.linalg.matrix_exp(convolution(kernel, shape, layer.kernel_size // 2, zero_padded))


def haar(layer: HaarSqueeze, shape: Shape) -> Tensor:
    """Sums and differences of neighbours along each halved axis, those of all channels together."""
    pair = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / 2**0.5
    c, *sizes = shape
    factors, n = layer.factors(len(sizes)), len(sizes)
    axes = [kronecker(eye(size // f), pair if f == 2 else eye(1)) for size, f in zip(sizes, factors, strict=True)]
    pairs = [number for size, f in zip(sizes, factors, strict=True) for number in (size // f, f)]
    rows = kronecker(eye(c), *axes).view(c, *pairs, -1)
    return rows.permute(*range(2, 2 * n + 1, 2), 0, *range(1, 2 * n, 2), 2 * n + 1).reshape(prod(shape), -1)


def actnorm(layer: ActNorm, shape: Shape) -> Tensor:
    return kronecker(layer.log_scale.exp().diag(), eye(prod(shape[1:])))


def standardize(layer: Standardize, shape: Shape) -> Tensor:
    return kronecker((1 / layer.scale).diag(), eye(prod(shape[1:])))


def squeeze(layer: Squeeze, shape: Shape) -> Tensor:
    """A permutation: a block's number is the place of its pixels, and their numbers in it count the channels on."""
    _, *sizes = shape
    factors = layer.factors(len(sizes))
    places = torch.cartesian_prod(*map(torch.arange, shape)).view(-1, len(shape))
    channel = places[:, 0]
    for factor, place in zip(factors, places[:, 1:].unbind(1), strict=True):
        channel = channel * factor + place % factor
    for size, factor, place in zip(sizes, factors, places[:, 1:].unbind(1), strict=True):
        channel = channel * (size // factor) + place // factor
    return eye(prod(shape))[channel].mT


def autoregressive(layer: AutoregressiveConvolution, shape: Shape) -> Tensor:
    return one_cornered(layer.weight, layer.log_scale, layer.corner, shape, layer.corner.startswith("lower"))


def finc(layer: FInCConvolution, shape: Shape) -> Tensor:
    matrices, start = [], 0
    for corner, size in zip(layer.corners, layer.sizes, strict=True):
        own = slice(start, start + size)
        matrices.append(one_cornered(layer.weight[own, :size], layer.log_scale[own], corner, (size, *shape[1:])))
        start += size
    return torch.block_diag(*matrices)


def one_cornered(weight: Tensor, log_scale: Tensor, corner: str, shape: Shape, upper: bool = False) -> Tensor:
    """A convolution whose full window has one quadrant, and a triangle with a bounded diagonal at the pixel itself."""
    taps, own, reach = weight.clone(), weight[:, :, -1, -1], weight.shape[-1] - 1
    taps[:, :, -1, -1] = (own.triu(1) if upper else own.tril(-1)) + log_scale.tanh().exp().diag()
    axes = [axis for axis, side in [(2, "upper"), (3, "left")] if side not in corner]
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
    LowRankLinear: low_rank,
    WoodburyTransform: woodbury,
    MEWoodburyTransform: me_woodbury,
    InvertibleConv1x1: conv1x1,
    ActNorm: actnorm,
    Standardize: standardize,
    Squeeze: squeeze,
    AutoregressiveConvolution: autoregressive,
    PeriodicConvolution: periodic,
    Butterfly: butterfly,
    CirculantDiagonal: circulant_diagonal,
    ConvolutionExponential: exponential,
    FInCConvolution: finc,
    HaarSqueeze: haar,
}
