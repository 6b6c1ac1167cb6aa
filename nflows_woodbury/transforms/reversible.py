"""A chain that keeps no activations for the backward pass: it inverts itself to get them back."""

from __future__ import annotations

from collections.abc import Iterable
from threading import RLock
from typing import Any

import torch
from nflows.transforms.base import Transform
from torch import Tensor
from torch.autograd.function import once_differentiable

from nflows_woodbury.checks import check_natural_number, check_positive_int
from nflows_woodbury.linalg.modes import is_plain
from nflows_woodbury.transforms.base import SingularError
from nflows_woodbury.transforms.blocks import Factors, Record, blocks
from nflows_woodbury.transforms.chain import Chain
from nflows_woodbury.transforms.replay import Conditions

__all__ = ["Reversible"]

_TURNS = RLock()  # of threads: a backward pass puts the tensors of then into the modules, for all that look


class Reversible(Chain):
    r"""A :class:`Chain` whose activation memory does not grow with the number of its transforms.

    In the backward pass the inputs of each transform are got back from its outputs by the inverse, last transform
    first, and the transform runs once more to get its gradient (Gomez et al. 2017). Training memory is that of the
    largest transform, one input and one output of the chain; time grows by one inverse and one forward pass of each
    transform, of a coupling's conditioner by one pass. The map, the log-det and, up to rounding, the gradients are
    those of a chain.

    Transforms run again as they ran before: with the parameters and buffers of then (also those that
    ``torch.func.functional_call`` had put there), the same training modes, autocast and random numbers. Running
    statistics of batch norms count one pass. Of a transform that draws random numbers, such as by dropout, the inputs
    are stored, as its inverse may draw them in another order; a :class:`Coupling` with dropout in its conditioner
    stores none. Under the transforms of ``torch.func``, with forward-mode tangents, while a CUDA graph is captured and
    in the copies of ``nn.DataParallel`` it is a plain chain. Threads that train take turns.

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
        RuntimeError: if a transform changes a buffer that is no running statistic as it runs, such as the power
            iteration of spectral norm does in training; in the backward pass, if a parameter was written to since the
            forward pass, as for :class:`Chain`.
        SingularError: in the backward pass, for a transform that cannot be inverted, or a drift above the tolerance.

    Reference: Gomez, Ren, Urtasun and Grosse, The reversible residual network, NeurIPS 2017, section 3.2.

    >>> import torch
    >>> from nflows_woodbury import ActNorm, Reversible, WoodburyTransform, initialize
    >>> steps = [part for _ in range(8) for part in (ActNorm(4), WoodburyTransform((4, 6, 6), ranks=(2, 3)))]
    >>> chain, inputs = Reversible(steps), torch.randn(5, 4, 6, 6)
    >>> initialize(chain, inputs)
    >>> outputs, logabsdet = chain(inputs)
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
        if torch.compiler.is_dynamo_compiling() and torch.is_grad_enabled():  # the recomputation is no part of a graph
            from nflows_woodbury.transforms._uncompiled import call

            return call(self.apply_in_order, inputs, context)
        return self.apply_in_order(inputs, context)

    def apply_in_order(self, inputs: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """:meth:`forward` outside of compiled code."""
        if not torch.is_grad_enabled():
            return super().forward(inputs, context)
        with _TURNS:
            conditions = Conditions(self, inputs.device)
            tensors = conditions.tensors
            trainable = [tensor for tensor in dict.fromkeys(tensors) if tensor.requires_grad]
            needed = trainable or inputs.requires_grad or (context is not None and context.requires_grad)
            captured = inputs.is_cuda and torch.cuda.is_current_stream_capturing()
            if conditions.has_parameters and needed and not captured and is_plain(inputs, context, *tensors):
                outputs: tuple[Tensor, Tensor] = _Recompute.apply(self, conditions, inputs, context, *trainable)  # type: ignore[no-untyped-call]
                return outputs
        return super().forward(inputs, context)

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
        ctx: Any, whole: Reversible, conditions: Conditions, inputs: Tensor, context: Tensor | None, *trainable: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Run the transforms; keep what goes into each segment and what comes out of the last."""
        record = Record(inputs.device)
        outputs, total = record.run(whole, inputs, context, whole.segment or len(whole))
        conditions.note_after_running()
        ctx.whole, ctx.conditions, ctx.trainable, ctx.record = whole, conditions, trainable, record
        ctx.save_for_backward(context, outputs, *record.take())
        return outputs.view_as(outputs), total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_outputs: Any, of_logabsdet: Tensor) -> tuple[Tensor | None, ...]:
        """Walk back through the blocks, with the gradient of everything seen so far."""
        context, outputs, *stored = ctx.saved_tensors
        ctx.conditions.check_unchanged()
        if context is not None:
            context = context.detach().requires_grad_(ctx.needs_input_grad[3])
        copies = [tensor.detach().requires_grad_() for tensor in ctx.trainable]  # without the hooks of the parameters
        gradients: dict[int, Tensor] = {}
        drift = torch.zeros((), device=of_outputs.device, dtype=of_outputs.dtype)
        values, record = outputs.detach(), ctx.record
        with _TURNS, ctx.conditions.restored(dict(zip(map(id, ctx.trainable), copies, strict=True))):
            links = [step.link for step in record.steps]
            factors = Factors(links, record.multiplicities, values)
            for block in reversed(blocks(record.steps)):
                start = stored[block.start] if block.start is not None else None
                with torch.enable_grad(), ctx.conditions.autocast(), record.generators.kept(block.random):
                    inputs, results = block.reconstruct(values, context, start, factors)
                of_results = of_outputs, of_logabsdet
                of_outputs = block.differentiate(inputs, context, results, of_results, gradients, factors)
                values = torch.cat([part.detach() for part in inputs], 1) if len(inputs) > 1 else inputs[0].detach()
                if start is not None:
                    drift, values = torch.maximum(drift, _drift(values, start)), start
            factors.differentiate(of_logabsdet, copies, gradients)
        ctx.whole.note(drift)
        of_context = gradients.get(id(context)) if context is not None else None
        return None, None, of_outputs, of_context, *(gradients.get(id(copy)) for copy in copies)


def _drift(values: Tensor, start: Tensor) -> Tensor:
    """The largest difference relative to the largest input, absolute where that is below 1."""
    if not start.numel():
        return torch.zeros((), device=start.device)
    return (values - start).abs().max() / start.abs().max().clamp_min(1)
