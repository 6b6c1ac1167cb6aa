"""How far each layer of a trained flow can be trusted: its condition, its round trip, and whether it stays finite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn

from nflows_woodbury.flow import ImageFlow
from nflows_woodbury.transforms import Chain, Multiscale, UniformDequantize
from nflows_woodbury.transforms.base import LinearTransform, SingularError

__all__ = ["LayerReport", "diagnose", "first_not_finite"]


@dataclass(frozen=True)
class LayerReport:
    """What one layer does with a batch.

    Attributes:
        name: the layer's name in the flow.
        kind: its class and arguments.
        condition: the largest 2-norm condition number of the matrices that its inverse solves, in float64; None for
            a layer that solves none. A singular one has ``inf``.
        logabsdet: mean over the batch, in nats per dimension.
        round_trip: largest difference between inputs and what comes back, over the largest input.

    >>> report = LayerReport("0.mixing", "ActNorm(3)", condition=None, logabsdet=0.1, round_trip=1e-6)
    >>> report.is_sound
    True
    """

    name: str
    kind: str
    condition: float | None
    logabsdet: float
    round_trip: float

    @property
    def is_sound(self) -> bool:
        """Whether the layer can be inverted and gives its inputs back to three digits."""
        return self.condition != float("inf") and abs(self.logabsdet) < float("inf") and self.round_trip < 1e-3


@torch.no_grad()
def diagnose(flow: ImageFlow, images: Tensor, context: Tensor | None = None) -> list[LayerReport]:
    """A report on each layer between pixels and noise, in the order in which images go through them.

    Args:
        flow: the model; it runs in eval mode in its own dtype, and gets its mode back.
        images: uint8 ``(B, c, h, w)``.
        context: of a conditional model, or None.

    Raises:
        TypeError, ValueError: for other images, or no context where the model needs one.

    >>> import torch
    >>> from nflows_woodbury.config import FlowConfig
    >>> flow = FlowConfig((3, 8, 8), levels=1, steps=1, hidden_channels=4).build()
    >>> reports = diagnose(flow, torch.randint(256, (5, 3, 8, 8), dtype=torch.uint8))
    >>> [report.kind.split("(")[0] for report in reports]
    ['Squeeze', 'ActNorm', 'LowRankTransform', 'LowRankTransform', 'AffineCoupling', 'TopPrior']
    >>> all(report.is_sound for report in reports)
    True
    """
    reports: list[LayerReport] = []

    def look(name: str, layer: Transform, inputs: Tensor, outputs: Any, context: Tensor | None) -> None:
        reports.append(_report(name, layer, inputs, outputs, context))

    _watch(flow, images, context, look)
    return reports


@torch.no_grad()
def first_not_finite(flow: ImageFlow, images: Tensor, context: Tensor | None = None) -> str | None:
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


def _watch(flow: ImageFlow, images: Tensor, context: Tensor | None, look: Callable[..., None]) -> None:
    """One pass over the images; ``look`` gets each layer's name, itself, its inputs, its outputs and the context."""
    mode, hooks = flow.training, []
    for name, layer in _layers(flow):

        def hook(
            layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], outputs: Any, name: str = name
        ) -> None:
            look(name, layer, args[0], outputs, kwargs.get("context", args[1] if len(args) > 1 else None))

        hooks.append(layer.register_forward_hook(hook, with_kwargs=True))
    flow.eval()
    try:
        flow.log_prob(images, context)
    finally:
        flow.train(mode)
        for handle in hooks:
            handle.remove()


def _layers(flow: ImageFlow) -> list[tuple[str, Transform]]:
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
        wide = matrices.to(torch.complex128 if matrices.is_complex() else torch.float64)
        condition = float(torch.linalg.cond(wide).max())
    per_dimension = float(logabsdet.mean()) / inputs[0].numel()
    return LayerReport(name, _kind(layer), condition, per_dimension, round_trip)


def _kind(layer: nn.Module) -> str:
    return f"{type(layer).__name__}({layer.extra_repr()})"
