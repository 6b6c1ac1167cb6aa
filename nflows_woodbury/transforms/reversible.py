"""A chain that keeps no activations for the backward pass: it inverts itself to get them back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain, groupby
from typing import Any, cast

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nflows_woodbury.checks import check_natural_number, check_positive_int
from nflows_woodbury.transforms.base import SingularError
from nflows_woodbury.transforms.chain import Chain
from nflows_woodbury.transforms.coupling import Coupling

__all__ = ["Reversible"]


class Reversible(Chain):
    r"""A :class:`Chain` whose activation memory does not grow with the number of its transforms.

    In the backward pass the inputs of each transform are got back from its outputs by the inverse, last transform
    first, and the transform runs once more to get its gradient (Gomez et al. 2017). Training memory is that of the
    largest transform, one input and one output of the chain; time grows by one inverse and one forward pass of each
    transform, of a coupling's conditioner by one pass. The map, the log-det and, up to rounding, the gradients are
    those of a chain.

    Rounding adds up on the way back: the inputs that come back drift away from those that went in. The drift is
    measured in each backward pass, as the largest difference relative to the largest input (absolute where that is
    below 1: inputs may be all zero), and kept in ``drift``. Restarting from stored values every ``segment`` transforms
    bounds it, at the cost of one stored tensor for each segment.

    Args:
        transforms: as for :class:`Chain`.
        segment: transforms between stored values; None for the whole chain.
        tolerance: largest drift; on the CPU a larger one raises an error in the backward pass. Elsewhere the check
            would stall the device, look at ``drift`` there.

    Shapes: as for :class:`Chain`. Gradients reach inputs, context and parameters; they cannot be differentiated again.

    Raises:
        TypeError, ValueError: for a bad segment or tolerance.
        SingularError: in the backward pass, for a transform that cannot be inverted, or a drift above the tolerance.

    Reference: Gomez, Ren, Urtasun and Grosse, The reversible residual network, NeurIPS 2017, section 3.2.

    >>> import torch
    >>> from nflows_woodbury import ActNorm, Reversible, WoodburyTransform
    >>> steps = [part for _ in range(8) for part in (ActNorm(4), WoodburyTransform((4, 6, 6), ranks=(2, 3)))]
    >>> chain = Reversible(steps)
    >>> outputs, logabsdet = chain(torch.randn(5, 4, 6, 6))
    >>> (outputs.square().sum() - logabsdet.sum()).backward()
    >>> bool(chain.drift < 1e-5), all(parameter.grad is not None for parameter in chain.parameters())
    (True, True)
    """

    drift: Tensor | None = None

    def __init__(
        self, transforms: Iterable[Transform] = (), *, segment: int | None = None, tolerance: float = 1e-2
    ) -> None:
        super().__init__(transforms)
        self.segment = None if segment is None else check_positive_int("segment", segment)
        self.tolerance = check_natural_number("tolerance", tolerance)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply the transforms in order and sum their log-dets."""
        if torch.compiler.is_compiling():  # the recomputation is no part of a graph
            from nflows_woodbury.transforms._uncompiled import call

            return call(self.apply_in_order, inputs, context)
        return self.apply_in_order(inputs, context)

    def apply_in_order(self, inputs: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """:meth:`forward` outside of compiled code."""
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        needed = any(x is not None and x.requires_grad for x in (inputs, context, *parameters))
        if not (needed and torch.is_grad_enabled() and len(self)):
            return super().forward(inputs, context)
        outputs: tuple[Tensor, Tensor] = _Recompute.apply(self, inputs, context, *parameters)  # type: ignore[no-untyped-call]
        return outputs

    def note(self, drift: Tensor) -> None:
        """Keep the drift of a backward pass; SingularError where it is too large."""
        self.drift = drift
        if drift.device.type == "cpu" and not drift <= self.tolerance:
            raise SingularError(
                f"Reversible of {len(self)} transforms does not get its inputs back: they drift by {float(drift):.1e}, "
                f"above the tolerance {self.tolerance}; a smaller segment or float64 helps"
            )


class _Recompute(torch.autograd.Function):
    """The chain and its parameters in, outputs and log-dets out, without what lies between."""

    @staticmethod
    def forward(
        ctx: Any, whole: Reversible, inputs: Tensor, context: Tensor | None, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run the segments; keep what goes into each and what comes out of the last."""
        layers = list(whole)
        size = whole.segment or len(layers)
        ctx.whole, ctx.segments = whole, [layers[start : start + size] for start in range(0, len(layers), size)]
        ctx.parameters, ctx.autocast = parameters, _autocast(inputs)
        stored, total = [inputs], cast(Any, None)
        for segment in ctx.segments:
            values = stored[-1]
            for layer in segment:
                values, logabsdet = layer(values, context)
                logabsdet = logabsdet.to(torch.promote_types(logabsdet.dtype, torch.float32))
                total = logabsdet if total is None else total + logabsdet
            stored.append(values)
        ctx.save_for_backward(context, *stored)
        return stored[-1].view_as(stored[-1]), total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_outputs: Tensor, of_logabsdet: Tensor) -> tuple[Tensor | None, ...]:
        """Walk back through the segments, with the gradient of everything seen so far."""
        context, *stored = ctx.saved_tensors
        if context is not None:
            context = context.detach().requires_grad_(ctx.needs_input_grad[2])
        gradients: dict[int, Tensor] = {}
        drift = torch.zeros((), device=of_outputs.device, dtype=of_outputs.dtype)
        for segment, start, outputs in zip(reversed(ctx.segments), stored[-2::-1], stored[:0:-1], strict=True):
            values = outputs.detach()
            for block in reversed(_blocks(segment)):
                with torch.enable_grad(), ctx.autocast():
                    inputs, results = block.reconstruct(values, context)
                of_outputs = _through(block, inputs, context, results, (of_outputs, of_logabsdet), gradients)
                values = torch.cat([part.detach() for part in inputs], 1) if len(inputs) > 1 else inputs[0].detach()
            size = start.abs().max().clamp_min(1) if start.numel() else 1
            difference = (values - start).abs().max() if start.numel() else drift
            drift = torch.maximum(drift, difference / size)
        ctx.whole.note(drift)
        of_context = gradients.get(id(context)) if context is not None else None
        return None, of_outputs, of_context, *(gradients.get(id(parameter)) for parameter in ctx.parameters)


class _Block:
    """Transforms that are undone, and differentiated, together."""

    def __init__(self, layers: list[Transform]) -> None:
        self.layers = layers

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those of all, each once, also where a transform comes twice."""
        return iter(dict.fromkeys(chain.from_iterable(layer.parameters() for layer in self.layers)))

    def reconstruct(self, outputs: Tensor, context: Tensor | None) -> tuple[tuple[Tensor, ...], tuple[Tensor, Tensor]]:
        """Like :meth:`Coupling.reconstruct`, with the inputs in one part."""
        values = outputs
        with torch.no_grad():
            for layer in reversed(self.layers):
                values, _ = layer.inverse(values, context)
        values = inputs = values.detach().requires_grad_()
        logabsdets = []
        for layer in self.layers:
            values, logabsdet = layer(values, context)
            logabsdets.append(logabsdet)
        return (inputs,), (values, sum(logabsdets[1:], logabsdets[0]))


def _blocks(parts: Iterable[Transform]) -> list[Coupling | _Block]:
    """Each coupling, which has a shorter way back, and what lies between them; plain chains are taken apart."""
    blocks: list[Coupling | _Block] = []
    for coupling, group in groupby(_flat(parts), lambda part: isinstance(part, Coupling)):
        layers = list(group)
        blocks += layers if coupling else [_Block(layers)]
    return blocks


def _flat(parts: Iterable[Transform]) -> Iterator[Transform]:
    for part in parts:
        if type(part) is Chain:
            yield from _flat(part)
        else:
            yield part


def _through(
    block: Coupling | _Block,
    inputs: Sequence[Tensor],
    context: Tensor | None,
    results: tuple[Tensor, Tensor],
    of_results: tuple[Tensor, Tensor],
    gradients: dict[int, Tensor],
) -> Tensor:
    """The gradient of a block's inputs; that of its parameters and the context is added to ``gradients``, by id."""
    wanted = [p for p in block.parameters() if p.requires_grad]
    wanted += [context] if context is not None and context.requires_grad else []
    pairs = [(value, of.to(value.dtype)) for value, of in zip(results, of_results, strict=True) if value.requires_grad]
    values, of_values = zip(*pairs, strict=True)
    found = torch.autograd.grad(values, [*inputs, *wanted], of_values, allow_unused=True)
    of_inputs = [torch.zeros_like(x) if of is None else of for x, of in zip(inputs, found, strict=False)]
    for tensor, gradient in zip(wanted, found[len(inputs) :], strict=True):
        if gradient is not None:
            gradient = gradient.contiguous()  # or autograd would copy it, and hold all of both at once
            known = gradients.get(id(tensor))
            gradients[id(tensor)] = gradient if known is None else known + gradient
    return torch.cat(of_inputs, 1) if len(of_inputs) > 1 else of_inputs[0]


def _autocast(inputs: Tensor) -> Any:
    """A function to the autocast context of now, for the backward pass, which has another."""
    device = inputs.device.type
    if not torch.amp.is_autocast_available(device):
        return nullcontext
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def context() -> AbstractContextManager[object]:
        return torch.autocast(device, dtype=dtype, enabled=enabled)

    return context
