"""Adapters between nflows' transforms and normflows' flows: the two methods swapped, everything else as it is."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

import normflows
import torch
from nflows.transforms.base import Transform
from torch import Tensor

__all__ = ["NflowsAdapter", "NormflowsAdapter"]


class NormflowsAdapter(normflows.flows.Flow):
    """Any nflows ``Transform``, ours or nflows' own, as a normflows ``Flow``.

    ``forward`` is the transform's inverse (noise to data), ``inverse`` calls the transform (data to noise).
    Layers that start from data start through :func:`nflows_woodbury.initialize`, called with the whole model.

    Args:
        transform: kept as the attribute ``transform``; TypeError for anything but an nflows ``Transform``.

    Shapes: those of the transform; log-dets ``(B,)``.

    >>> import torch
    >>> from nflows.transforms import PointwiseAffineTransform
    >>> flow = NormflowsAdapter(PointwiseAffineTransform(scale=2.0))
    >>> flow(torch.ones(2, 1))[1]
    tensor([-0.6931, -0.6931])
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        if not isinstance(transform, Transform):
            raise TypeError(f"transform must be an nflows Transform, got {type(transform).__name__}")
        self.transform = transform

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map noise to data."""
        return _with_log_det_per_row(z, self.transform.inverse(z, context))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map data to noise; the transform is called as a module, so its hooks run."""
        return _with_log_det_per_row(z, self.transform(z, context))


class NflowsAdapter(Transform):
    """Any normflows ``Flow`` as an nflows ``Transform``: ``forward`` is the flow's inverse, ``inverse`` calls the flow.

    A log-det that normflows gives as a number or a scalar becomes ``(B,)``. Context goes to flows whose ``forward`` and
    ``inverse`` have a parameter for it, ``context`` or ``y``; others do without, as nflows' own layers do.

    Args:
        flow: kept as the attribute ``flow``; TypeError for anything but a normflows ``Flow``. Density needs its
            inverse, which some flows lack.

    Shapes: those of the flow; ``logabsdet`` ``(B,)``.

    >>> import normflows, torch
    >>> squeeze = NflowsAdapter(normflows.flows.Squeeze())
    >>> outputs, logabsdet = squeeze(torch.zeros(2, 3, 4, 4))
    >>> outputs.shape, logabsdet
    (torch.Size([2, 12, 2, 2]), tensor([0., 0.]))
    """

    def __init__(self, flow: normflows.flows.Flow) -> None:
        super().__init__()
        if not isinstance(flow, normflows.flows.Flow):
            raise TypeError(f"flow must be a normflows Flow, got {type(flow).__name__}")
        self.flow = flow
        self._context_names = _context_name(flow.forward), _context_name(flow.inverse)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map data to noise."""
        keywords = self._keywords(self._context_names[1], context)
        return _with_log_det_per_row(inputs, self.flow.inverse(inputs, **keywords))

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map noise to data."""
        keywords = self._keywords(self._context_names[0], context)
        return _with_log_det_per_row(inputs, self.flow(inputs, **keywords))

    def _keywords(self, name: str | None, context: Tensor | None) -> dict[str, Tensor]:
        return {} if name is None or context is None else {name: context}


def _with_log_det_per_row(inputs: Tensor, result: tuple[Tensor, Tensor | float]) -> tuple[Tensor, Tensor]:
    """Return the outputs, and the log-det as ``(B,)``: normflows gives int, scalar or ``(B,)``."""
    outputs, log_det = result
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    return outputs, torch.zeros(inputs.shape[0], dtype=dtype, device=inputs.device) + log_det


def _context_name(method: Callable[..., Any]) -> str | None:
    """Return the name of the parameter of a flow's method that takes the context, or None if it has none."""
    parameters = signature(method).parameters
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return "context"
    return next((name for name in ("context", "y") if name in parameters), None)
