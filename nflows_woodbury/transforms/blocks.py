"""How a chain ran, and the blocks of it that are undone and differentiated together, for :class:`Reversible`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from nflows.transforms.base import Transform
from torch import Tensor

from nflows_woodbury.transforms.chain import Chain
from nflows_woodbury.transforms.coupling import Coupling
from nflows_woodbury.transforms.replay import Generators

__all__ = ["Block", "Record", "Step", "blocks"]


class Step(NamedTuple):
    """A transform that ran.

    >>> from nflows_woodbury import ActNorm
    >>> Step(ActNorm(4), random=None, start=0).start
    0
    """

    layer: Transform
    random: tuple[Tensor, ...] | None  # where generators were before it, if it drew random numbers
    start: int | None  # the place of its inputs among those that are stored, if they are


class Record:
    """Runs transforms, takes plain chains apart, and notes each step.

    >>> import torch
    >>> from nflows_woodbury import ActNorm, AffineCoupling, Chain
    >>> inputs = torch.randn(5, 4, 6, 6)
    >>> record = Record(inputs.device)
    >>> parts = Chain([ActNorm(4)]), AffineCoupling((4, 6, 6), 8)
    >>> outputs, logabsdet = record.run(parts, inputs, None, segment=2)
    >>> [(type(step.layer).__name__, step.start) for step in record.steps]
    [('ActNorm', 0), ('AffineCoupling', None)]
    """

    def __init__(self, device: torch.device) -> None:
        self.generators, self.steps = Generators(device), list[Step]()
        self._states, self._stored, self._store_next = self.generators.states(), list[Tensor](), False

    def run(
        self, parts: Iterable[Transform], values: Tensor, context: Tensor | None, segment: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        """The outputs and the sum of the log-dets, as of a chain; inputs are stored after every ``segment`` parts."""
        total: Tensor | None = None
        for i, part in enumerate(parts):
            self._store_next |= segment > 0 and i % segment == 0
            run = self.run if type(part) is Chain else self._step
            values, logabsdet = run(part, values, context)
            if logabsdet is not None:
                logabsdet = logabsdet.to(torch.promote_types(logabsdet.dtype, torch.float32))
                total = logabsdet if total is None else total + logabsdet
        return values, total

    def take(self) -> list[Tensor]:
        """What is stored, once: the graph holds it from then on."""
        stored, self._stored = self._stored, []
        return stored

    def _step(self, layer: Transform, inputs: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        before, results = self._states, layer(inputs, context)
        after = self.generators.states()
        drew = not all(map(torch.equal, before, after))
        if drew:
            self._states = after
        store = self._store_next or (drew and not isinstance(layer, Coupling))
        self.steps.append(Step(layer, before if drew else None, len(self._stored) if store else None))
        if store:
            self._stored.append(inputs)
            self._store_next = False
        return results


class Block:
    """Transforms that are undone, and differentiated, together.

    >>> import torch
    >>> from nflows_woodbury import AffineCoupling
    >>> layer = AffineCoupling((4, 6, 6), 8)
    >>> block, outputs = Block(Step(layer, random=None, start=None)), torch.randn(5, 4, 6, 6)
    >>> halves, results = block.reconstruct(outputs, None, None)
    >>> block.differentiate(halves, None, results, (torch.ones_like(outputs), torch.zeros(5)), {}).shape
    torch.Size([5, 4, 6, 6])
    """

    def __init__(self, step: Step) -> None:
        self.layers, self.random, self.start = [step.layer], step.random, step.start

    @property
    def is_open(self) -> bool:
        """Whether others may join it: not a coupling, which has a shorter way back, nor what drew random numbers."""
        return self.random is None and not isinstance(self.layers[0], Coupling)

    def parameters(self) -> Iterator[Tensor]:
        """Those of all, each once, also where a transform comes twice."""
        return iter(dict.fromkeys(chain.from_iterable(layer.parameters() for layer in self.layers)))

    def reconstruct(
        self, outputs: Tensor, context: Tensor | None, start: Tensor | None
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, Tensor]]:
        """Inputs that are leaves of a graph, and at its end the outputs and the log-det, as a coupling does.

        What drew random numbers gets its inputs from ``start``, as its inverse may draw them in another order.
        """
        if isinstance(self.layers[0], Coupling):
            return self.layers[0].reconstruct(outputs, context)
        values = outputs if self.random is None or start is None else start
        if self.random is None:
            with torch.no_grad():
                for layer in reversed(self.layers):
                    values, _ = layer.inverse(values, context)
        values = inputs = values.detach().requires_grad_(values.is_floating_point())
        logabsdets = []
        for layer in self.layers:
            values, logabsdet = layer(values, context)
            logabsdets.append(logabsdet)
        return (inputs,), (values, sum(logabsdets[1:], logabsdets[0]))

    def differentiate(
        self,
        inputs: Sequence[Tensor],
        context: Tensor | None,
        results: tuple[Tensor, Tensor],
        of_results: tuple[Tensor, Tensor],
        gradients: dict[int, Tensor],
    ) -> Tensor | None:
        """The gradient of the inputs; that of parameters and context is added to ``gradients``, by their ids.

        ``inputs`` and ``results`` are those of :meth:`reconstruct`. None for inputs without gradient, such as images.
        """
        wanted = [*self.parameters(), *([context] if context is not None else [])]
        wanted = [tensor for tensor in wanted if tensor.requires_grad]
        leaves = [x for x in inputs if x.requires_grad]
        pairs = [(y, of.to(y.dtype)) for y, of in zip(results, of_results, strict=True) if y.requires_grad]
        if not pairs:
            return None
        values, of_values = zip(*pairs, strict=True)
        found = torch.autograd.grad(values, [*leaves, *wanted], of_values, allow_unused=True)
        of_inputs = [torch.zeros_like(x) if of is None else of for x, of in zip(leaves, found, strict=False)]
        for tensor, gradient in zip(wanted, found[len(leaves) :], strict=True):
            if gradient is not None:
                gradient = gradient.contiguous()  # or autograd would copy it, and hold all of both at once
                known = gradients.get(id(tensor))
                gradients[id(tensor)] = gradient if known is None else known + gradient
        return torch.cat(of_inputs, 1) if len(of_inputs) > 1 else next(iter(of_inputs), None)


def blocks(steps: Iterable[Step]) -> list[Block]:
    """Each coupling, each step with random numbers, and what lies between them, within a segment.

    >>> from nflows_woodbury import ActNorm, AffineCoupling
    >>> layers = ActNorm(4), ActNorm(4), AffineCoupling((4, 6, 6), 8), ActNorm(4)
    >>> [len(block.layers) for block in blocks(Step(layer, None, None) for layer in layers)]
    [2, 1, 1]
    """
    found: list[Block] = []
    for step in steps:
        block = Block(step)
        if found and found[-1].is_open and block.is_open and step.start is None:
            found[-1].layers.append(step.layer)
        else:
            found.append(block)
    return found
