"""How far a trained flow and its layers can be trusted: conditions, round trips, and whether values stay finite.

>>> f"a flow that changes more than {MAX_CHANGED:.0%} of the pixels is unsound"
'a flow that changes more than 1% of the pixels is unsound'
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn

from nflows_woodbury.checks import check_natural_number
from nflows_woodbury.flow import FieldFlow, GridFlow
from nflows_woodbury.transforms import Chain, Multiscale, UniformDequantize
from nflows_woodbury.transforms.base import LinearTransform, SingularError

__all__ = ["MAX_CHANGED", "LayerReport", "diagnose", "first_not_finite"]

Map = Callable[[Tensor, Any], tuple[Tensor, Tensor]]

#: the largest share of pixel values that may change on a round trip of the whole flow
MAX_CHANGED = 0.01


@dataclass(frozen=True)
class LayerReport:
    """What one layer, or the whole flow, does with a batch.

    Attributes:
        name: the layer's name in the flow; of the whole flow the way there and back.
        kind: its class and arguments.
        condition: the largest 2-norm condition number of the matrices that its inverse solves, in float64; None for
            a layer that solves none. A singular one, or one that is not finite, has ``inf``.
        logabsdet: mean over the batch, in nats per dimension.
        round_trip: largest difference between inputs and what comes back, over the largest input.
        changed: of the whole flow, the share of pixel values that a round trip changes, or of values of fields that it
            moves by more than a thousandth of their standard deviation; None for a layer.

    >>> report = LayerReport("0.mixing", "ActNorm(3)", condition=None, logabsdet=0.1, round_trip=1e-6)
    >>> report.is_sound
    True
    """

    name: str
    kind: str
    condition: float | None
    logabsdet: float
    round_trip: float
    changed: float | None = None

    @property
    def is_sound(self) -> bool:
        """Whether a layer can be inverted and gives its inputs back to three digits; a flow, 99 of 100 pixel values."""
        comes_back = self.round_trip < 1e-3 if self.changed is None else self.changed <= MAX_CHANGED
        return self.condition != float("inf") and abs(self.logabsdet) < float("inf") and comes_back


@torch.no_grad()
def diagnose(
    flow: GridFlow, images: Tensor, context: Tensor | None = None, *, temperature: float = 1.0
) -> list[LayerReport]:
    """A report on each layer between pixels and noise, in the order of an image's way, and two on the whole flow.

    The last two are of images to noise and back, and of noise to images and back: layers may each be sound where all
    in a row, or the other way, are not. Between the ways images are not rounded to pixels.

    Args:
        flow: the model; it runs in eval mode in its own dtype, and gets its mode back.
        images: uint8 ``(B, c, h, w)``, or fields in the model's dtype.
        context: of a conditional model, or None.
        temperature: factor on the noise, as many draws as there are images. A base that cannot sample has no such
            report, nor has a flow whose transform is no chain that begins with its dequantization.

    Raises:
        TypeError, ValueError: for other images or a bad temperature, or no context where the model needs one.

    >>> import torch
    >>> from nflows_woodbury.config import FlowConfig
    >>> flow = FlowConfig((3, 8, 8), levels=1, steps=1, hidden_channels=4).build()
    >>> reports = diagnose(flow, torch.randint(256, (5, 3, 8, 8), dtype=torch.uint8))
    >>> [report.kind.split("(")[0] for report in reports[:-2]]
    ['Squeeze', 'ActNorm', 'LowRankTransform', 'LowRankTransform', 'AffineCoupling', 'TopPrior']
    >>> [report.name for report in reports[-2:]]
    ['images -> noise -> images', 'noise -> images -> noise, temperature 1']
    >>> all(report.is_sound for report in reports)
    True
    """
    reports: list[LayerReport] = []
    temperature = check_natural_number("temperature", temperature)
    _watch(flow, images, context, lambda *seen: reports.append(_report(*seen)))
    with _evaluated(flow):
        return reports + _both_ways(flow, images, context, temperature)


@torch.no_grad()
def first_not_finite(flow: GridFlow, images: Tensor, context: Tensor | None = None) -> str | None:
    """The name of the first layer that makes values or log-dets that are not finite from finite ones, or None.

    Arguments as for :func:`diagnose`.

    >>> import torch
    >>> from nflows_woodbury.config import FlowConfig
    >>> flow = FlowConfig((3, 8, 8), levels=1, steps=1, hidden_channels=4).build()
    >>> images = torch.randint(256, (5, 3, 8, 8), dtype=torch.uint8)
    >>> first_not_finite(flow, images) is None
    True
    >>> for parameter in flow.parameters():
    ...     _ = torch.nn.init.constant_(parameter, float("nan"))
    >>> first_not_finite(flow, images)
    'transforms.1.levels.0.transforms.1.transforms.0: ActNorm(num_channels=12)'
    """
    found: list[str] = []

    def look(name: str, layer: Transform, inputs: Tensor, outputs: Any, context: Tensor | None) -> None:
        if not found and not all(bool(values.isfinite().all()) for values in outputs):
            found.append(f"{name}: {_kind(layer)}")

    _watch(flow, images, context, look)
    return found[0] if found else None


def _watch(flow: GridFlow, images: Tensor, context: Tensor | None, look: Callable[..., None]) -> None:
    """One pass over the images; ``look`` gets each layer's name, itself, its inputs, its outputs and the context."""
    hooks = []
    for name, layer in _layers(flow):

        def hook(
            layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], outputs: Any, name: str = name
        ) -> None:
            look(name, layer, args[0], outputs, kwargs.get("context", args[1] if len(args) > 1 else None))

        hooks.append(layer.register_forward_hook(hook, with_kwargs=True))
    try:
        with _evaluated(flow):
            flow.log_prob(images, context)
    finally:
        for handle in hooks:
            handle.remove()


@contextmanager
def _evaluated(flow: nn.Module) -> Iterator[None]:
    """Eval mode, and afterwards the mode that each part had."""
    modes = [(part, part.training) for part in flow.modules()]
    flow.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _layers(flow: GridFlow) -> list[tuple[str, Transform]]:
    """The transforms that are no containers of others, dequantization aside."""
    prefix = "_transform."
    return [
        (name.removeprefix(prefix), part)
        for name, part in flow.named_modules()
        if name.startswith(prefix)
        and isinstance(part, Transform)
        and not isinstance(part, Chain | Multiscale | UniformDequantize)
    ]


def _report(
    name: str, layer: Transform, inputs: Tensor, results: tuple[Tensor, Tensor], context: Tensor | None
) -> LayerReport:
    outputs, logabsdet = results
    try:
        back, _ = layer.inverse(outputs, context=context)
        size = inputs.abs().max().clamp_min(torch.finfo(inputs.dtype).tiny)
        round_trip = float((back - inputs).abs().max() / size)
    except SingularError:
        round_trip = float("inf")
    condition = None
    if isinstance(layer, LinearTransform) and (matrices := layer.solved_matrices(inputs)) is not None:
        condition = _condition(matrices.to(torch.complex128 if matrices.is_complex() else torch.float64))
    per_dimension = float(logabsdet.mean()) / inputs[0].numel()
    return LayerReport(name, _kind(layer), condition, per_dimension, round_trip)


def _condition(matrices: Tensor) -> float:
    """The largest 2-norm condition number; inf where a matrix is singular or not finite."""
    inf = float("inf")
    return float(torch.linalg.cond(matrices).nan_to_num(inf, inf).max()) if matrices.isfinite().all() else inf


def _both_ways(flow: GridFlow, images: Tensor, context: Tensor | None, temperature: float) -> list[LayerReport]:
    """Of images to noise and back, and of noise to images and back, the dequantization left out."""
    rows = flow._embedding_net(context)
    if isinstance(flow, FieldFlow):
        what, values, changed = "fields", images, _share_moved
    elif isinstance(flow._transform, Chain) and len(flow._transform):
        dequantize = flow._transform[0]
        what, values, changed = "images", dequantize(images, rows)[0], partial(_share_changed, dequantize)
    else:
        return []
    rest = Chain(flow.floating)
    reports = [_trip(f"{what} -> noise -> {what}", values, rest, rest.inverse, lambda x: x, changed, rows)]
    try:
        noise, rows = flow._noise(len(images) if context is None else 1, context)
    except NotImplementedError:  # a base without samples
        return reports
    way = f"noise -> {what} -> noise, temperature {temperature:g}"
    trip = _trip(way, temperature * noise, rest.inverse, rest, lambda z: rest.inverse(z, rows)[0], changed, rows)
    return [*reports, trip]


def _trip(
    name: str,
    start: Tensor,
    there: Map,
    back: Map,
    decode: Callable[[Tensor], Tensor],
    share_changed: Callable[[Tensor, Tensor], float],
    rows: Any,
) -> LayerReport:
    """There and back; ``decode`` gives the values of pixels for what is there at start and end."""
    try:
        middle, logabsdet = there(start, rows)
        end, _ = back(middle, rows)
        changed = share_changed(decode(start), decode(end))
    except ArithmeticError:  # a layer of it has no inverse
        return LayerReport(name, "whole flow", None, float("nan"), float("inf"), changed=1.0)
    error = (end - start).abs().max() / start.abs().max().clamp_min(torch.finfo(start.dtype).tiny)
    round_trip = float(error) if error.isfinite() else float("inf")
    return LayerReport(name, "whole flow", None, float(logabsdet.mean()) / start[0].numel(), round_trip, changed)


def _share_changed(dequantize: Transform, before: Tensor, after: Tensor) -> float:
    """The share of pixels that differ; all of an image that is not finite."""
    finite = (before.isfinite() & after.isfinite()).flatten(1).all(1)
    first, second = (dequantize.inverse(values.nan_to_num(0.0, 0.0, 0.0))[0] for values in (before, after))
    return float(torch.where(finite, (first != second).flatten(1).double().mean(1), 1.0).mean())


def _share_moved(before: Tensor, after: Tensor) -> float:
    """The share of values that differ by more than a thousandth of the standard deviation of all."""
    return float(1 - ((before - after).abs() <= 1e-3 * before.std()).double().mean())


def _kind(layer: nn.Module) -> str:
    return f"{type(layer).__name__}({layer.extra_repr()})"
