"""A chain of transforms: the small matrices of all its linear layers are prepared at once, and log-dets summed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn

from nflows_woodbury.linalg.factors import Prepared, prepare, weighted_sum
from nflows_woodbury.linalg.modes import is_plain
from nflows_woodbury.linalg.precision import at_least_float32, full_precision
from nflows_woodbury.transforms.base import FactoredTransform, LinearTransform, is_watched

__all__ = ["Chain", "Link"]


class Chain(Transform):
    """Transforms applied one after the other, forward in the given order.

    It differs from ``nflows.transforms.CompositeTransform`` in three ways: inputs may be uint8 (when the first
    transform dequantizes), log-dets are summed in float32 or wider whatever the inputs' dtype, and it is a sequence
    (``len``, indexing, iteration).

    What linear layers need of their parameters is computed first, for all layers at once, also for those in chains
    within the chain, see :class:`~nflows_woodbury.transforms.base.FactoredTransform`. A layer with a hook is called by
    itself.

    Args:
        transforms: nflows transforms, data to noise, else TypeError. An empty chain is the identity.

    Shapes: whatever the parts accept and return; ``logabsdet`` is ``(B,)``.

    >>> import torch
    >>> from nflows_woodbury.transforms import ActNorm, Chain, Squeeze
    >>> outputs, logabsdet = Chain([Squeeze(), ActNorm(12)])(torch.zeros(5, 3, 8, 8))
    >>> outputs.shape, logabsdet.shape
    (torch.Size([5, 12, 4, 4]), torch.Size([5]))
    """

    def __init__(self, transforms: Iterable[Transform] = ()) -> None:
        super().__init__()
        parts = list(transforms) if isinstance(transforms, Iterable) else transforms
        if not isinstance(parts, list) or not all(isinstance(part, Transform) for part in parts):
            raise TypeError(f"transforms must be nflows Transforms in a sequence, got {transforms!r}")
        self.transforms: Any = nn.ModuleList(parts)

    def __len__(self) -> int:
        return len(self.transforms)

    def __getitem__(self, index: int) -> Transform:
        return self.transforms[index]

    def links(self) -> list[Link]:
        """The parts in order, plain chains taken apart."""
        return [link for part in self.transforms for link in _links(part)]

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply the transforms in order and sum their log-dets."""
        return run(self.links(), inputs, context)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo the transforms in reverse order and sum the log-dets of their inverses."""
        return run(self.links()[::-1], inputs, context, inverse=True)


class Link(NamedTuple):
    """A layer of a chain, and whether its factors are prepared together with those of others.

    >>> from nflows_woodbury import ActNorm, Chain
    >>> [link.together for link in Chain([ActNorm(4), Chain([ActNorm(4)])]).links()]
    [True, True]
    """

    layer: Any
    together: bool


def _links(part: Transform) -> list[Link]:
    if is_watched(part):
        return [Link(part, together=False)]
    methods = type(part).forward, type(part).inverse
    if isinstance(part, Chain) and methods == (Chain.forward, Chain.inverse):
        return part.links()
    plain = methods == (LinearTransform.forward, LinearTransform.inverse)
    return [Link(part, together=isinstance(part, FactoredTransform) and plain)]


def run(
    links: Sequence[Link], inputs: Tensor, context: Tensor | None = None, *, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """The outputs of the layers one after the other, or of their inverses, and the sum of the log-dets.

    >>> import torch
    >>> from nflows_woodbury import ActNorm, Chain
    >>> run(Chain([ActNorm(4), ActNorm(4)]).links(), torch.ones(2, 4))[1]
    tensor([0., 0.], grad_fn=<ExpandBackward0>)
    """
    outputs, total, terms = inputs, None, list[tuple[int, Tensor]]()
    with full_precision(inputs):
        of_layers = _prepared(links, inverse)
    if inverse and any(one.logabsdet.device.type == "cpu" for prepared in of_layers for one in prepared):
        _check_regular(links, of_layers)
    for (layer, together), prepared in zip(links, of_layers, strict=True):
        if together:
            outputs = layer.checked(outputs)
            with full_precision(outputs):
                map_by = layer.unmap_by if inverse else layer.map_by
                terms += layer.terms(outputs, prepared)
                outputs = map_by(outputs, *(one.matrices for one in prepared))
        else:
            outputs, logabsdet = (layer.inverse if inverse else layer)(outputs, context)
            logabsdet = logabsdet.to(at_least_float32(logabsdet.dtype))
            total = logabsdet if total is None else total + logabsdet
    return outputs, _in_all(outputs, total, terms, inverse)


def _prepared(links: Sequence[Link], inverse: bool) -> list[list[Prepared]]:
    """What is made of the factors of each layer; nothing for those that are called by themselves."""
    named = [layer.factors() if together else () for layer, together in links]
    prepared = iter(prepare([factor for factors in named for factor in factors], inverse=inverse))
    return [list(islice(prepared, len(factors))) for factors in named]


def _check_regular(links: Sequence[Link], of_layers: Sequence[Sequence[Prepared]]) -> None:
    """SingularError for the first layer without an inverse, in plain eager calls; one look at all of them."""
    all_of_them = torch.stack([one.logabsdet for prepared in of_layers for one in prepared])
    if is_plain(all_of_them) and not all_of_them.isfinite().all():
        for (layer, together), prepared in zip(links, of_layers, strict=True):
            if together:
                layer.check_each_regular(prepared)


def _in_all(outputs: Tensor, total: Tensor | None, terms: Sequence[tuple[int, Tensor]], inverse: bool) -> Tensor:
    """The sum ``total`` (B,) plus or minus that of ``m log |det A|`` over ``terms``."""
    dtype = at_least_float32(outputs.dtype)
    if not terms:
        return outputs.new_zeros(outputs.shape[0], dtype=dtype) if total is None else total
    of_parameters = weighted_sum(terms).to(dtype)
    of_parameters = -of_parameters if inverse else of_parameters
    return of_parameters.expand(outputs.shape[0]).clone() if total is None else total + of_parameters
