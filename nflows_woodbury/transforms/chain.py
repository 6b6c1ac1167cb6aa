"""A chain of transforms that sums its log-dets in float32 or wider."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn

__all__ = ["Chain"]


class Chain(Transform):
    """Transforms applied one after the other, forward in the given order.

    It differs from ``nflows.transforms.CompositeTransform`` in three ways: inputs may be uint8 (when the first
    transform dequantizes), log-dets are summed in float32 or wider whatever the inputs' dtype, and it is a sequence
    (``len``, indexing, iteration).

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

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply the transforms in order and sum their log-dets."""
        return _cascade(self.transforms, inputs, context)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo the transforms in reverse order and sum the log-dets of their inverses."""
        return _cascade([transform.inverse for transform in reversed(self.transforms)], inputs, context)


def _cascade(
    maps: Iterable[Callable[..., tuple[Tensor, Tensor]]], inputs: Tensor, context: Tensor | None
) -> tuple[Tensor, Tensor]:
    outputs, total = inputs, None
    for apply in maps:
        outputs, logabsdet = apply(outputs, context)
        logabsdet = logabsdet.to(torch.promote_types(logabsdet.dtype, torch.float32))
        total = logabsdet if total is None else total + logabsdet
    if total is None:
        dtype = torch.promote_types(inputs.dtype, torch.float32)
        total = torch.zeros(inputs.shape[0], dtype=dtype, device=inputs.device)
    return outputs, total
