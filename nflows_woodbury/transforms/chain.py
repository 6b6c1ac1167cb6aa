"""A chain of transforms: the small matrices of all its linear layers are prepared at once, and log-dets summed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn

from nflows_woodbury.linalg.factors import Prepared, prepare, sum_of, weighted_sum
from nflows_woodbury.linalg.modes import is_plain
from nflows_woodbury.linalg.precision import at_least_float32, full_precision
from nflows_woodbury.transforms.base import FactoredTransform, LinearTransform, is_watched

__all__ = ["Chain", "Link", "LogDets", "links_of", "prepare_links", "run"]


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
        return [link for part in self.transforms for link in links_of(part)]

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply the transforms in order and sum their log-dets."""
        return run(self.links(), inputs, context)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo the transforms in reverse order and sum the log-dets of their inverses."""
        return run(self.links()[::-1], inputs, context, inverse=True)


class Link(NamedTuple):
    """A layer of a chain, and whether its factors are prepared together with those of others.

    >>> from nflows_woodbury import ActNorm, Chain
    >>> [link.together for link in Chain([ActNorm(4), Chain([ActNorm(4)])]).links()], Link(ActNorm(4), True).together
    ([True, True], True)
    """

    layer: Any
    together: bool


def links_of(part: Transform) -> list[Link]:
    """A part of a chain as layers: taken apart if it is a chain and nobody watches it.

    >>> from nflows_woodbury import ActNorm, Chain
    >>> len(links_of(Chain([ActNorm(4), ActNorm(4)])))
    2
    """
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
    >>> run(Chain([ActNorm(4), ActNorm(4)]).links(), torch.ones(2, 4))[1].tolist()
    [0.0, 0.0]
    """
    outputs, logabsdets = inputs, LogDets(inverse=inverse)
    for link, prepared in zip(links, prepare_links(links, inverse=inverse), strict=True):
        outputs = logabsdets.step(link, prepared, outputs, context)
    return outputs, logabsdets.sum(outputs)


def prepare_links(links: Sequence[Link], *, inverse: bool = False) -> list[list[Prepared]]:
    """What is made of the factors of each layer; nothing for those that are called by themselves.

    Raises:
        SingularError: for the first layer without an inverse, on the CPU in plain eager calls; one look at all of them.

    >>> import torch
    >>> from nflows_woodbury import ActNorm, Chain
    >>> [[((scale,), logabsdet)]] = prepare_links(Chain([ActNorm(2)]).links())
    >>> scale.tolist(), logabsdet.item()
    ([1.0, 1.0], 0.0)
    """
    named = [layer.factors() if together else () for layer, together in links]
    factors = [factor for of_layer in named for factor in of_layer]
    if not factors:
        return [[] for _ in links]
    with full_precision(factors[0].tensors[0]):
        every = prepare(factors, inverse=inverse)
        values = [one.logabsdet for one in every]
        look = inverse and any(value.device.type == "cpu" for value in values) and is_plain(*values)
        remaining = iter(every)
        of_links = [list(islice(remaining, len(of_layer))) for of_layer in named]
        if look and not torch.stack(values).isfinite().all():
            for (layer, together), prepared in zip(links, of_links, strict=True):
                if together:
                    layer.check_each_regular(prepared)
    return of_links


class LogDets:
    """The sum of the log-dets of layers, as one after the other is applied.

    >>> import torch
    >>> from nflows_woodbury import Squeeze
    >>> logabsdets = LogDets()
    >>> outputs = logabsdets.step(Link(Squeeze(), together=False), [], torch.ones(2, 1, 4, 4), None)
    >>> logabsdets.sum(outputs)
    tensor([0., 0.])
    """

    def __init__(self, *, inverse: bool = False) -> None:
        self.inverse = inverse
        #: those of layers that are called by themselves, (B,) each
        self.given: list[Tensor] = []
        #: the pairs ``(m, log |det A|)`` of all other layers
        self.terms: list[tuple[int, Tensor]] = []

    def step(self, link: Link, prepared: Sequence[Prepared], inputs: Tensor, context: Tensor | None) -> Tensor:
        """Apply a layer, or its inverse, and take in its log-det."""
        layer, together = link
        if together:
            inputs = layer.checked(inputs)
            self.terms += layer.terms(inputs, prepared)
            with full_precision(inputs):
                outputs = (layer.unmap_by if self.inverse else layer.map_by)(
                    inputs, *(one.matrices for one in prepared)
                )
            return outputs
        outputs, logabsdet = (layer.inverse if self.inverse else layer)(inputs, context)
        logabsdet = logabsdet.to(at_least_float32(logabsdet.dtype))
        self.given.append(logabsdet)
        return outputs

    @property
    def total(self) -> Tensor | None:
        """Of layers that are called by themselves, (B,); None if there are none."""
        return sum_of(self.given) if self.given else None

    def sum(self, outputs: Tensor) -> Tensor:
        """All of them, (B,)."""
        dtype = at_least_float32(outputs.dtype)
        total = self.total
        if not self.terms:
            return outputs.new_zeros(outputs.shape[0], dtype=dtype) if total is None else total
        of_parameters = weighted_sum(self.terms).to(dtype)
        of_parameters = -of_parameters if self.inverse else of_parameters
        return of_parameters.expand(outputs.shape[0]).clone() if total is None else total + of_parameters
