"""How a chain ran, and the blocks of it that are undone and differentiated together, for :class:`Reversible`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, chain
from typing import Any, NamedTuple

import torch
from nflows.transforms.base import Transform
from torch import Tensor

from nflows_woodbury.transforms.chain import Link, LogDets, links_of, prepare_links
from nflows_woodbury.transforms.coupling import Coupling
from nflows_woodbury.transforms.replay import Generators

__all__ = ["Block", "Factors", "Record", "Step", "add", "blocks"]


class Step(NamedTuple):
    """A layer that ran.

    >>> from nflows_woodbury import ActNorm
    >>> Step(Link(ActNorm(4), together=True), place=3, random=None, start=0).start
    0
    """

    link: Link
    place: int  # its own among all
    random: tuple[Tensor, ...] | None  # where generators were before it, if it drew random numbers
    start: int | None  # the place of its inputs among those that are stored, if they are


class Record:
    """Runs transforms as a chain does, and notes each step.

    >>> import torch
    >>> from nflows_woodbury import ActNorm, AffineCoupling, Chain
    >>> inputs = torch.randn(5, 4, 6, 6)
    >>> record = Record(inputs.device)
    >>> parts = Chain([ActNorm(4)]), AffineCoupling((4, 6, 6), 8)
    >>> outputs, logabsdet = record.run(parts, inputs, None, segment=2)
    >>> [(type(step.link.layer).__name__, step.start) for step in record.steps]
    [('ActNorm', 0), ('AffineCoupling', None)]
    """

    def __init__(self, device: torch.device) -> None:
        self.generators, self.steps = Generators(device), list[Step]()
        #: how often the factors of all layers, one after the other, stand in the Jacobian
        self.multiplicities: list[int] = []
        self._states, self._stored = self.generators.states(), list[Tensor]()

    def run(
        self, parts: Iterable[Transform], values: Tensor, context: Tensor | None, segment: int
    ) -> tuple[Tensor, Tensor]:
        """The outputs and the sum of the log-dets, as of a chain; inputs are stored after every ``segment`` parts."""
        taken_apart = [links_of(part) for part in parts]
        starts = {0, *list(accumulate(map(len, taken_apart)))[segment - 1 :: segment]}
        links = [link for links in taken_apart for link in links]
        logabsdets = LogDets()
        for place, (link, prepared) in enumerate(zip(links, prepare_links(links), strict=True)):
            inputs, values = values, logabsdets.step(link, prepared, values, context)
            self._note(link, place, inputs, store=place in starts)
        self.multiplicities = [m for m, _ in logabsdets.terms]
        return values, logabsdets.sum(values)

    def take(self) -> list[Tensor]:
        """What is stored, once: the graph holds it from then on."""
        stored, self._stored = self._stored, []
        return stored

    def _note(self, link: Link, place: int, inputs: Tensor, *, store: bool) -> None:
        before = None if link.together else self._states
        after = before and self.generators.states()
        if before is not None and after is not None and all(map(torch.equal, before, after)):
            before = None
        self._states = after or self._states
        store = store or (before is not None and not isinstance(link.layer, Coupling))
        self.steps.append(Step(link, place, before, len(self._stored) if store else None))
        if store:
            self._stored.append(inputs)


class Block:
    """Transforms that are undone, and differentiated, together.

    >>> import torch
    >>> from nflows_woodbury import AffineCoupling
    >>> step = Step(Link(AffineCoupling((4, 6, 6), 8), together=False), place=0, random=None, start=None)
    >>> block, outputs = Block(step), torch.randn(5, 4, 6, 6)
    >>> halves, results = block.reconstruct(outputs, None, None, Factors([step.link], [], outputs))
    >>> block.differentiate(halves, None, results, (torch.ones_like(outputs), torch.zeros(5)), {}).shape
    torch.Size([5, 4, 6, 6])
    """

    def __init__(self, step: Step) -> None:
        self.steps, self.random, self.start = [step], step.random, step.start

    @property
    def layers(self) -> list[Any]:
        """Its transforms."""
        return [step.link.layer for step in self.steps]

    @property
    def is_open(self) -> bool:
        """Whether others may join it: not a coupling, which has a shorter way back, nor what drew random numbers."""
        return self.random is None and not isinstance(self.layers[0], Coupling)

    def reconstruct(
        self, outputs: Tensor, context: Tensor | None, start: Tensor | None, factors: Factors
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, Tensor | None]]:
        """Inputs that are leaves of a graph, and at its end the outputs and the log-det, as a coupling does.

        The log-det is that of layers that were called by themselves. What drew random numbers gets its inputs from
        ``start``, as its inverse may draw them in another order.
        """
        if isinstance(self.layers[0], Coupling):
            return self.layers[0].reconstruct(outputs, context)
        values = outputs if self.random is None or start is None else start
        if self.random is None:
            with torch.no_grad():
                back = LogDets(inverse=True)
                for step in reversed(self.steps):
                    values = back.step(step.link, factors.inverses[step.place], values, context)
        values = inputs = values.detach().requires_grad_(values.is_floating_point())
        logabsdets = LogDets()
        for step in self.steps:
            values = logabsdets.step(step.link, factors.maps[step.place], values, context)
        return (inputs,), (values, logabsdets.total)

    def differentiate(
        self,
        inputs: Sequence[Tensor],
        context: Tensor | None,
        results: tuple[Tensor, Tensor | None],
        of_results: tuple[Tensor, Tensor],
        gradients: dict[int, Tensor],
        factors: Factors | None = None,
    ) -> Tensor | None:
        """The gradient of the inputs; those of all else are added to ``gradients``, by the tensors' ids.

        ``inputs`` and ``results`` are those of :meth:`reconstruct`. None for inputs without gradient, such as images.
        """
        wanted = [*chain.from_iterable(layer.parameters() for layer in self.layers)]
        wanted += [context] if context is not None else []
        wanted += factors.leaves(step.place for step in self.steps) if factors is not None else []
        wanted = [tensor for tensor in dict.fromkeys(wanted) if tensor.requires_grad]
        leaves = [x for x in inputs if x.requires_grad]
        pairs = [(y, of) for y, of in zip(results, of_results, strict=True) if y is not None and y.requires_grad]
        if not pairs:
            return None
        values, of_values = zip(*((y, of.to(y.dtype)) for y, of in pairs), strict=True)
        found = torch.autograd.grad(values, [*leaves, *wanted], of_values, allow_unused=True)
        of_inputs = [torch.zeros_like(x) if of is None else of for x, of in zip(leaves, found, strict=False)]
        add(gradients, wanted, found[len(leaves) :])
        return torch.cat(of_inputs, 1) if len(of_inputs) > 1 else next(iter(of_inputs), None)


class Factors:
    """What is made of the factors of each layer: with leaves of a graph for the map, and for its inverse.

    Args:
        links: the layers.
        multiplicities: of all their factors.
        outputs: of the last layer.

    >>> import torch
    >>> from nflows_woodbury import ActNorm
    >>> layer, gradients = ActNorm(4), {}
    >>> factors = Factors([Link(layer, together=True)], [36], torch.zeros(5, 4, 6, 6))
    >>> factors.differentiate(torch.ones(5), [layer.log_scale], gradients)
    >>> gradients[id(layer.log_scale)].tolist()
    [180.0, 180.0, 180.0, 180.0]
    """

    def __init__(self, links: Sequence[Link], multiplicities: Sequence[int], outputs: Tensor) -> None:
        self._multiplicities = multiplicities
        with torch.enable_grad():
            self._with_graph = prepare_links(links)
        with torch.no_grad():
            self.inverses = prepare_links(links, inverse=True)
        self.maps = [
            [one._replace(matrices=tuple(map(_leaf, one.matrices))) for one in of_layer]
            for of_layer in self._with_graph
        ]

    def leaves(self, places: Iterable[int]) -> list[Tensor]:
        """The matrices of some layers."""
        return [matrix for place in places for one in self.maps[place] for matrix in one.matrices]

    def differentiate(self, of_logabsdet: Tensor, wanted: Sequence[Tensor], gradients: dict[int, Tensor]) -> None:
        """Add the gradients of ``wanted`` through the factors, given that of the log-det and those of the matrices."""
        prepared = [one for of_layer in self._with_graph for one in of_layer]
        leaves = self.leaves(range(len(self.maps)))
        pairs = [
            (matrix, gradients[id(leaf)])
            for matrix, leaf in zip((matrix for one in prepared for matrix in one.matrices), leaves, strict=True)
            if matrix.requires_grad and id(leaf) in gradients
        ]
        of_all = of_logabsdet.sum()
        of_maps = {m: m * of_all for m in set(self._multiplicities)}
        pairs += [
            (one.logabsdet, of_maps[m].to(one.logabsdet.dtype))
            for m, one in zip(self._multiplicities, prepared, strict=True)
            if one.logabsdet.requires_grad
        ]
        if pairs:
            values, of_values = zip(*pairs, strict=True)
            add(gradients, wanted, torch.autograd.grad(values, wanted, of_values, allow_unused=True))


def add(gradients: dict[int, Tensor], tensors: Iterable[Tensor], found: Iterable[Tensor | None]) -> None:
    """Add what was found to the gradients, by the tensors' ids.

    >>> import torch
    >>> gradients, tensor = {}, torch.ones(())
    >>> add(gradients, [tensor, tensor], [torch.ones(()), torch.ones(())])
    >>> gradients[id(tensor)]
    tensor(2.)
    """
    for tensor, gradient in zip(tensors, found, strict=True):
        if gradient is not None:
            gradient = gradient.contiguous()  # or autograd would copy it, and hold all of both at once
            known = gradients.get(id(tensor))
            gradients[id(tensor)] = gradient if known is None else known + gradient


def _leaf(matrix: Tensor) -> Tensor:
    return matrix.detach().requires_grad_(matrix.requires_grad)


def blocks(steps: Iterable[Step]) -> list[Block]:
    """Each coupling, each step with random numbers, and what lies between them, within a segment.

    >>> from nflows_woodbury import ActNorm, AffineCoupling
    >>> links = [Link(layer, together=False) for layer in (ActNorm(4), ActNorm(4), AffineCoupling((4, 6, 6), 8))]
    >>> [len(block.layers) for block in blocks(Step(link, place, None, None) for place, link in enumerate(links))]
    [2, 1]
    """
    found: list[Block] = []
    for step in steps:
        block = Block(step)
        if found and found[-1].is_open and block.is_open and step.start is None:
            found[-1].steps.append(step)
        else:
            found.append(block)
    return found
