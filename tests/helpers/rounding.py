"""How exact a result must be: first-order error analysis of a transform at a case, and the dense truth for its log-det.

A case that leaves its dtype no digits is drawn again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from hypothesis import assume, currently_in_test_context
from nflows.transforms.base import Transform
from torch import Tensor

from nflows_woodbury.transforms.base import LinearTransform


def require(condition: Any) -> None:
    """Have another case drawn unless this one is what a law is about; a replayed one is an error then."""
    if currently_in_test_context():
        assume(condition)
    elif not condition:
        raise ValueError("the case is outside of what the law is about")


def jacobians(transform: Transform, inputs: Tensor, context: Tensor | None) -> Tensor:
    """The Jacobian of each input by autograd, (B, D, D): one pass back through D copies of each.

    A case is drawn again if float64 cannot tell one from singular: if its condition is above 1e6.
    """
    require(tame(transform, inputs, context))
    size = inputs[0].numel()
    copies = inputs.detach().repeat_interleave(size, 0).requires_grad_()
    outputs, _ = transform(copies, None if context is None else context.repeat_interleave(size, 0))
    rows = torch.eye(size, dtype=inputs.dtype).repeat(len(inputs), 1)
    (gradient,) = torch.autograd.grad(outputs.flatten(1), copies, rows)
    dense = gradient.reshape(len(inputs), size, size)
    require((torch.linalg.cond(dense) < 1e6).all())
    return dense


def tame(transform: Transform, inputs: Tensor, context: Tensor | None) -> bool:
    """Whether no layer makes numbers above 1e12, as random layers in a row may; a NaN that comes without is a bug.

    Judged in float64: what only float32 makes too large is a bug too.
    """
    sizes = []
    transform = copy.deepcopy(transform).double()
    for part in leaves(transform):
        part.register_forward_hook(lambda _, inputs, results: sizes.append(largest(results[0])))
    with torch.no_grad():
        transform(inputs.double(), None if context is None else context.double())
    return not (torch.stack(sizes) > 1e12).any()


def leaves(transform: Transform) -> list[Transform]:
    """The transforms that are made of no others, or that apply those they are made of at once."""
    if isinstance(transform, LinearTransform):
        return [transform]
    parts = [part for child in transform.children() for part in leaves(child)]
    return parts or [transform] * isinstance(transform, Transform)


def roundings(transform: Transform, inputs: Tensor, context: Tensor | None, direction: str) -> Tensor:
    """How far outputs and log-det of each input can move if all that passes between layers does, by a unit: (B, D + 1).

    First-order error analysis: the derivative by each entry of each layer's in- and outputs, times the largest value
    there or 1, summed. Times the unit roundoff it is what rounding each layer once can do.
    """
    rows, seen = inputs[0].numel() + 1, []

    def moved(values: Tensor) -> Tensor:
        seen.append((torch.zeros_like(values, requires_grad=True), largest(values).clamp_min(1)))
        return values + seen[-1][0]

    def probe(layer: Callable[..., tuple[Tensor, Tensor]], values: Tensor, context: Tensor | None = None) -> Any:
        outputs, logabsdet = layer(moved(values), context)
        return moved(outputs), logabsdet

    probed = copy.deepcopy(transform).double().requires_grad_(False)
    for part in leaves(probed):
        setattr(part, direction, partial(probe, getattr(part, direction)))
    copies = inputs.detach().double().repeat_interleave(rows, 0)
    context = None if context is None else context.double().repeat_interleave(rows, 0)
    outputs, logabsdet = getattr(probed, direction)(copies, context)
    require(not (torch.cat([size for _, size in seen]) > 1e12).any())
    results, each_row = torch.cat([outputs.flatten(1), logabsdet[:, None]], 1), torch.eye(rows, dtype=torch.float64)
    gradients = torch.autograd.grad(results, [move for move, _ in seen], each_row.repeat(len(inputs), 1))
    total = sum(g.abs().flatten(1).sum(1) * size for g, (_, size) in zip(gradients, seen, strict=True))
    return total.view(len(inputs), rows)


def bounds(transform: Transform, inputs: Tensor, context: Tensor | None, direction: str) -> tuple[Tensor, Tensor]:
    """What rounding in the inputs' dtype can do to the outputs of each input, and to its log-det: (B,) and (B,).

    A layer rounds more than once: sums of n terms by about the root of n (Higham and Mary, SIAM J. Sci. Comput. 2019),
    with n up to 72 here, on the way there and on the way back: 2 sqrt(72) < 17 units. A log-det is itself a sum, of D
    terms. A case whose outputs can move by more than 1e-2 is drawn again: it leaves its dtype no digits to speak of.
    """
    units = 17 * torch.finfo(inputs.dtype).eps / 2
    moves = roundings(transform, inputs, context, direction)
    assert not moves.isnan().any()
    of_outputs, of_logabsdet = units * moves[:, :-1].amax(1), units * (moves[:, -1] + moves.shape[1] - 1)
    require((of_outputs < 1e-2).all())
    return of_outputs, of_logabsdet


def agree(results: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], bound: tuple[Tensor, Tensor]) -> None:
    """Outputs and log-dets are those expected, but for rounding."""
    assert (largest(results[0] - expected[0]) <= bound[0]).all()
    assert ((results[1] - expected[1]).abs() <= bound[1]).all()


def each(inputs: Tensor, context: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    return ((inputs[i : i + 1], None if context is None else context[i : i + 1]) for i in range(len(inputs)))


def largest(values: Tensor) -> Tensor:
    """The largest absolute value of each item, (B, ...) -> (B,) in float64."""
    return values.detach().double().abs().flatten(1).amax(1)


def close(values: Tensor, expected: Tensor) -> bool:
    """Within 1e-9: relative, and absolute where what is expected is below 1."""
    return bool(((values - expected).abs() <= 1e-9 * expected.abs().clamp_min(1)).all())


def plain(values: Tensor) -> Tensor:
    """A copy in the usual memory layout."""
    return values.clone(memory_format=torch.contiguous_format)


def one_by_one(call: Callable[..., tuple[Tensor, Tensor]], values: Tensor, context: Tensor | None) -> Any:
    """What a map gives for the items of a batch alone."""
    outputs, logabsdets = zip(*(call(*item) for item in each(values, context)), strict=True)
    return torch.cat(outputs), torch.cat(logabsdets)
