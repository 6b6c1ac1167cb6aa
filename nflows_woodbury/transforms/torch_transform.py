"""Layers as transforms of ``torch.distributions``, with any batch shape, for its distributions and for zuko's flows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.transforms import Transform as TorchTransform

from nflows_woodbury.checks import check_natural_int, check_positive_int

__all__ = ["LayerTransform", "as_torch_transform"]

Apply = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]


def as_torch_transform(
    layer: Transform,
    event_dim: int | tuple[int, int],
    *,
    context: Tensor | None = None,
    context_dim: int = 1,
    cache_size: int = 0,
) -> LayerTransform:
    """A layer as a transform of ``torch.distributions``, data to noise, whose ``inv`` maps noise to data.

    ``TransformedDistribution(base, [as_torch_transform(layer, 3).inv])`` has the layer's density, and zuko's
    ``NormalizingFlow(as_torch_transform(layer, 3), base)`` too, whose transforms map data to noise. The transform holds
    the layer itself: give ``layer.parameters()`` to the optimizer.

    Args:
        layer: any nflows ``Transform``, ours or nflows' own, of floating point inputs; what draws random numbers, as
            dequantization does, is no bijection.
        event_dim: axes of one input, 1 for vectors, 3 for images; or a pair, those of an input and of an output, such
            as ``(3, 1)`` for :class:`Multiscale`.
        context: ``(..., F)`` or None; its leading axes are broadcast with those of the inputs.
        context_dim: axes of one context, 1 for vectors, 3 for pictures.
        cache_size: 1 keeps the last input with its output and log-det, so that the density of a sample, or the
            log-det after a call, costs nothing; 0 keeps nothing.

    Shapes:
        inputs ``(..., *event)``, outputs likewise, log-dets ``(...)``; a layer sees all leading axes as one batch.

    Raises:
        TypeError: for what is no nflows ``Transform``.
        ValueError: for bad numbers, inputs or a context with fewer axes, or leading axes that do not broadcast.

    >>> import torch
    >>> from torch.distributions import Independent, Normal, TransformedDistribution
    >>> from nflows_woodbury import LowRankLinear
    >>> base = Independent(Normal(torch.zeros(9), torch.ones(9)), 1)
    >>> flow = TransformedDistribution(base, [as_torch_transform(LowRankLinear(9, rank=4), event_dim=1).inv])
    >>> flow.log_prob(torch.randn(5, 3, 9)).shape, flow.rsample((2,)).shape
    (torch.Size([5, 3]), torch.Size([2, 9]))
    """
    if not isinstance(layer, Transform):
        raise TypeError(
            f"layer must be an nflows Transform, got {type(layer).__name__}; a flow of normflows becomes one by "
            "nflows_woodbury.normflows.NflowsAdapter(flow)"
        )
    dims = (event_dim, event_dim) if not isinstance(event_dim, tuple) else event_dim
    if len(dims) != 2:
        raise ValueError(f"event_dim must be a number or a pair, axes of an input and of an output, got {event_dim!r}")
    inner, outer = (check_positive_int("event_dim", dim) for dim in dims)
    if context is not None and context.dim() < check_natural_int("context_dim", context_dim):
        raise ValueError(f"context must have at least context_dim = {context_dim} axes, got {tuple(context.shape)}")
    return LayerTransform(layer, (inner, outer), context, context_dim, cache_size)


class LayerTransform(TorchTransform):
    """What :func:`as_torch_transform` returns: a ``torch.distributions`` transform around a layer.

    >>> import torch
    >>> from nflows_woodbury import Squeeze
    >>> transform = as_torch_transform(Squeeze(), event_dim=3)
    >>> isinstance(transform, LayerTransform), transform.inv.inv is transform
    (True, True)
    >>> transform.forward_shape((5, 3, 4, 4)), transform.inv(torch.zeros(2, 5, 12, 2, 2)).shape
    (torch.Size([5, 12, 2, 2]), torch.Size([2, 5, 3, 4, 4]))
    """

    bijective = True

    def __init__(
        self, layer: Transform, dims: tuple[int, int], context: Tensor | None, context_dim: int, cache_size: int
    ) -> None:
        super().__init__(cache_size)
        self.layer, self.context, self.context_dim = layer, context, context_dim
        self.domain, self.codomain = (constraints.independent(constraints.real, dim) for dim in dims)
        self._cached_logabsdet: Tensor | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self.layer).__name__})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LayerTransform) and self._settings() == other._settings()

    def __getstate__(self) -> dict[str, Any]:
        """Without what is cached, whose graph cannot be copied."""
        return {**vars(self), "_inv": None, "_cached_x_y": (None, None), "_cached_logabsdet": None}

    def with_cache(self, cache_size: int = 1) -> LayerTransform:
        """The same transform with another cache."""
        if cache_size == self._cache_size:
            return self
        dims = self.domain.event_dim, self.codomain.event_dim
        return LayerTransform(self.layer, dims, self.context, self.context_dim, cache_size)

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs and the log-det of one pass, as zuko asks for them."""
        if self._cache_size:
            y = self(x)
            return y, self.log_abs_det_jacobian(x, y)
        return self._apply_to_rows(self.layer, x, self.domain.event_dim)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """``log |det|`` of the layer's Jacobian at ``x``; of the last call it is at hand with a cache."""
        if self._cached_logabsdet is not None and x is self._cached_x_y[0] and y is self._cached_x_y[1]:
            return self._cached_logabsdet
        return self._apply_to_rows(self.layer, x, self.domain.event_dim)[1]

    def forward_shape(self, shape: torch.Size) -> torch.Size:
        """The shape of the outputs, found by one pass of zeros through the layer."""
        return self._shape_after(self.layer, shape, self.domain.event_dim)

    def inverse_shape(self, shape: torch.Size) -> torch.Size:
        """The shape of the inputs, likewise."""
        return self._shape_after(self.layer.inverse, shape, self.codomain.event_dim)

    def _call(self, x: Tensor) -> Tensor:
        y, logabsdet = self._apply_to_rows(self.layer, x, self.domain.event_dim)
        self._cached_logabsdet = logabsdet if self._cache_size else None
        return y

    def _inverse(self, y: Tensor) -> Tensor:
        x, logabsdet = self._apply_to_rows(self.layer.inverse, y, self.codomain.event_dim)
        self._cached_logabsdet = -logabsdet if self._cache_size else None
        return x

    def _apply_to_rows(self, apply: Apply, values: Tensor, event_dim: int) -> tuple[Tensor, Tensor]:
        """All leading axes as one batch, with the context of each row."""
        if values.dim() < event_dim:
            raise ValueError(f"inputs must have at least {event_dim} axes, got shape {tuple(values.shape)}")
        context, batch = self.context, values.shape[: values.dim() - event_dim]
        if context is not None:
            own = context.dim() - self.context_dim
            batch = torch.broadcast_shapes(batch, context.shape[:own])
            context = _rows(context.expand(*batch, *context.shape[own:]), len(batch))
            values = values.expand(*batch, *values.shape[values.dim() - event_dim :])
        outputs, logabsdet = apply(_rows(values, len(batch)), context)
        return (outputs[0], logabsdet[0]) if not batch else (outputs.unflatten(0, batch), logabsdet.unflatten(0, batch))

    def _shape_after(self, apply: Apply, shape: torch.Size, event_dim: int) -> torch.Size:
        if len(shape) < event_dim:
            raise ValueError(f"shape must have at least {event_dim} axes, got {tuple(shape)}")
        batch, event = shape[: len(shape) - event_dim], shape[len(shape) - event_dim :]
        tensors = chain(self.layer.parameters(), self.layer.buffers())
        like = next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(0))
        context = None if self.context is None else _rows(self.context, self.context.dim() - self.context_dim)[:1]
        with torch.no_grad(), _evaluating(self.layer):
            outputs, _ = apply(torch.zeros(1, *event, dtype=like.dtype, device=like.device), context)
        return torch.Size([*batch, *outputs.shape[1:]])

    def _settings(self) -> tuple[object, ...]:
        dims = self.domain.event_dim, self.codomain.event_dim
        return id(self.layer), dims, id(self.context), self.context_dim


def _rows(values: Tensor, axes: int) -> Tensor:
    """The leading ``axes`` as one; a batch of one where there are none."""
    return values.flatten(0, axes - 1) if axes else values[None]


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """In eval mode, so that nothing starts from zeros or counts them; afterwards each part is in its own mode again."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
