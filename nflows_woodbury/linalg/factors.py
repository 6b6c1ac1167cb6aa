r"""The small matrices that linear layers are made of, named by the layers and prepared many at once.

The log-determinant of a linear layer depends on its parameters alone. It is a sum over few small matrices, each as
often as it stands in the Jacobian:

.. math:: \log|\det J| = \sum_i m_i \log|\det A_i|

A layer names its matrices as :class:`Factor`; :func:`prepare` stacks those of equal kind and size, of one layer or of
all layers of a chain, and computes for each what its layer multiplies by, and its log-determinant. So a chain of many
layers factorises, casts and exponentiates as often as a chain of one.

>>> import torch
>>> prepared = prepare([Factor(DENSE, (scale * torch.eye(3),)) for scale in (1.0, 2.0, 4.0)], inverse=True)
>>> [matrix[0, 0].item() for (matrix,), _ in prepared]
[1.0, 0.5, 0.25]
>>> weighted_sum([(10, logabsdet) for _, logabsdet in prepared])
tensor(62.3832, dtype=torch.float64)

A :class:`Kind` says how: a :data:`Preparation` goes from each :data:`Stack` of tensors to the :data:`Matrices`
that layers multiply by.

>>> stack: Stack = (torch.zeros(5, 3),)
>>> prepare_maps: Preparation = DIAGONAL.maps
>>> [(matrices, logabsdets)] = prepare_maps([stack])
>>> isinstance(DIAGONAL, Kind), matrices[0].shape, logabsdets.shape
(True, torch.Size([5, 3]), torch.Size([5]))
>>> same: Matrices = matrices
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nflows_woodbury.linalg import small

__all__ = [
    "DENSE",
    "DIAGONAL",
    "Factor",
    "Kind",
    "Matrices",
    "Preparation",
    "Prepared",
    "Stack",
    "one_by_one",
    "prepare",
    "size_of",
    "sum_of",
    "weighted_sum",
]

#: what a layer multiplies by, such as ``(A,)`` or ``(U, V)``
Matrices = tuple[Tensor, ...]


#: tensors of ``k`` factors of one kind and size, each stacked, (k, ...); those of one alone as they are
Stack = tuple[Tensor, ...]

#: from stacks, of one size each, to the matrices of each, stacked likewise, and ``log |det A|`` of its maps, (k,) or ()
Preparation = Callable[[Sequence[Stack]], Sequence[tuple[Matrices, Tensor]]]


class Kind(NamedTuple):
    """A parametrization of small matrices: what to make of the tensors of many of them, stacked by size.

    Log-dets are those of the map, in float64, in both.

    >>> import torch
    >>> isinstance(DENSE, Kind)
    True
    >>> [((inverses,), logabsdets)] = DENSE.inverses([(2 * torch.eye(3).expand(5, 3, 3),)])
    >>> inverses.shape, logabsdets.shape
    (torch.Size([5, 3, 3]), torch.Size([5]))
    """

    maps: Preparation  # those of the map
    inverses: Preparation  # those of its inverse


def one_by_one(prepare_stack: Callable[..., tuple[Matrices, Tensor]]) -> Preparation:
    """A preparation that takes each stack for itself, by a function of its tensors.

    >>> import torch
    >>> one_by_one(lambda W: ((W,), torch.zeros(len(W))))([(torch.ones(2, 1, 1),), (torch.ones(3, 2, 2),)])[1][1]
    tensor([0., 0., 0.])
    """
    return lambda stacks: [prepare_stack(*stack) for stack in stacks]


class Factor(NamedTuple):
    """A small matrix, named by its kind and by the tensors that it is made from.

    >>> import torch
    >>> Factor(DENSE, (torch.eye(3),)).tensors[0].shape
    torch.Size([3, 3])
    """

    kind: Kind
    tensors: tuple[Tensor, ...]


class Prepared(NamedTuple):
    """What a layer multiplies by, and ``log |det A|`` of the map, a scalar in float64.

    >>> import torch
    >>> Prepared((torch.eye(3),), torch.zeros(())).logabsdet
    tensor(0.)
    """

    matrices: Matrices
    logabsdet: Tensor


def prepare(factors: Sequence[Factor], *, inverse: bool = False) -> list[Prepared]:
    """What each layer multiplies by, or divides by for ``inverse``, and ``log |det A|`` of each map.

    >>> import torch
    >>> [(scale,), logabsdet] = prepare([Factor(DIAGONAL, (torch.zeros(3),))])[0]
    >>> scale, logabsdet
    (tensor([1., 1., 1.]), tensor(0., dtype=torch.float64))
    """
    groups: dict[Kind, dict[object, list[int]]] = {}
    for place, (kind, tensors) in enumerate(factors):
        alike = tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in tensors)
        groups.setdefault(kind, {}).setdefault(alike, []).append(place)
    found: dict[int, Prepared] = {}
    for kind, by_size in groups.items():
        tensors_of = [zip(*(factors[place].tensors for place in places), strict=True) for places in by_size.values()]
        stacks = [tuple(map(_stack, tensors)) for tensors in tensors_of]
        results = (kind.inverses if inverse else kind.maps)(stacks)
        for places, (matrices, logabsdets) in zip(by_size.values(), results, strict=True):
            parts = [tensor.unbind() if len(places) > 1 else [tensor] for tensor in (*matrices, logabsdets)]
            each = ((one[:-1], one[-1]) for one in zip(*parts, strict=True))
            found |= {place: Prepared(*one) for place, one in zip(places, each, strict=True)}
    return [found[place] for place in range(len(factors))]


def size_of(matrices: Matrices) -> int:
    """``n`` of ``(A,)``, (n, n), or of ``(U, V)``, (n, d) and (d, n): how long the vectors are that they map.

    >>> import torch
    >>> size_of((torch.eye(3),)), size_of((torch.ones(3, 1), torch.ones(1, 3)))
    (3, 3)
    """
    return matrices[0].shape[0]


def weighted_sum(terms: Sequence[tuple[int, Tensor]]) -> Tensor:
    """The sum of ``m a`` over pairs ``(m, a)`` of integers and scalars, of which there is one at least.

    >>> import torch
    >>> weighted_sum([(2, torch.tensor(1.0)), (2, torch.tensor(2.0)), (3, torch.tensor(4.0))])
    tensor(18.)
    """
    by_weight: dict[int, list[Tensor]] = {}
    for weight, value in terms:
        by_weight.setdefault(weight, []).append(value)
    first, *others = (weight * sum_of(values) for weight, values in by_weight.items())
    return sum(others, first)


def sum_of(tensors: Sequence[Tensor]) -> Tensor:
    """The sum of tensors of one shape, of which there is one at least, in one pass.

    >>> import torch
    >>> sum_of([torch.ones(2), torch.ones(2), torch.ones(2)])
    tensor([3., 3.])
    """
    return torch.stack(list(tensors)).sum(0) if len(tensors) > 1 else tensors[0]


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(tensors)) if len(tensors) > 1 else tensors[0]  # a batch of one would be slower


def _dense(W: Tensor) -> tuple[Matrices, Tensor]:
    return (W,), small.logabsdet(W)


def _dense_inverse(W: Tensor) -> tuple[Matrices, Tensor]:
    # The inverse meets very many vectors: forming it once, O(n^3), is cheaper than as many solves.
    inverse, logabsdets = small.inverse(W)
    return (inverse,), logabsdets


def _diagonal(log_scale: Tensor) -> tuple[Matrices, Tensor]:
    return (log_scale.exp(),), small.wide(log_scale).sum(-1)


def _diagonal_inverse(log_scale: Tensor) -> tuple[Matrices, Tensor]:
    return ((-log_scale).exp(),), small.wide(log_scale).sum(-1)


#: a matrix ``W`` (n, n): ``(W,)`` and ``(W^-1,)``
DENSE = Kind(one_by_one(_dense), one_by_one(_dense_inverse))

#: a positive diagonal ``e^s``, from its logarithms ``s`` (n,): ``(e^s,)`` and ``(e^-s,)``
DIAGONAL = Kind(one_by_one(_diagonal), one_by_one(_diagonal_inverse))
