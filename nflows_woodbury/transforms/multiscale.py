"""The multiscale architecture: after each level half of the channels become latents, the other half go on."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn

from nflows_woodbury.checks import check_shape
from nflows_woodbury.transforms.nets import channel_halves

__all__ = ["Multiscale"]


class Multiscale(Transform):
    """Levels one after the other; the second half of each one's channels leaves as latents, the last leaves whole.

    Glow keeps the first half and factors out the second; nflows' ``MultiscaleCompositeTransform`` emits the first.
    Here the half that goes on is the first, the one that :class:`SplitPrior` and the couplings condition on.

    Args:
        levels: transforms, the finest level first.
        shapes: the output shape of each level, before it is split: ``(c, h, w)``, ``(c,)``, ``(c, t)`` or
            ``(c, d, h, w)``.

    Shapes:
        inputs: what the first level takes, such as ``(B, c, H, W)``; outputs: flat latents ``(B, D)``, those of the
        finest level first; ``logabsdet`` ``(B,)``.

    Raises:
        ValueError, TypeError: if levels and shapes do not pair up, a level but the last has fewer than 2 channels, or
            the latents have another size.

    Reference: Dinh, Sohl-Dickstein and Bengio, Real NVP, ICLR 2017, section 3.6.

    >>> import torch
    >>> from nflows_woodbury.transforms import Squeeze
    >>> levels = [Squeeze(), Squeeze()]
    >>> multiscale = Multiscale(levels, shapes=[(12, 4, 4), (24, 2, 2)])
    >>> noise, logabsdet = multiscale(torch.randn(5, 3, 8, 8))
    >>> noise.shape, multiscale.inverse(noise)[0].shape
    (torch.Size([5, 192]), torch.Size([5, 3, 8, 8]))
    """

    def __init__(self, levels: Sequence[Transform], shapes: Sequence[Sequence[int]]) -> None:
        super().__init__()
        if not isinstance(levels, Sequence) or not isinstance(shapes, Sequence):
            raise TypeError(f"levels and shapes must be sequences, got {levels!r} and {shapes!r}")
        if not levels or len(levels) != len(shapes):
            raise ValueError(f"levels and shapes must pair up, at least one, got {len(levels)} and {len(shapes)}")
        self.levels: Any = nn.ModuleList(levels)
        self.shapes = [check_shape(shape, f"shapes[{i}]") for i, shape in enumerate(shapes)]
        self.latents = [(channel_halves(c)[1], *sizes) for c, *sizes in self.shapes[:-1]] + [self.shapes[-1]]
        self.num_features = sum(prod(shape) for shape in self.latents)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Images to flat latents."""
        latents, hidden, total = [], inputs, torch.zeros((), device=inputs.device)
        for level, (channels, *_) in zip(self.levels[:-1], self.shapes[:-1], strict=True):
            hidden, logabsdet = level(hidden, context)
            hidden, latent = hidden.split(channel_halves(channels), 1)
            latents.append(latent.flatten(1))
            total = total + logabsdet
        hidden, logabsdet = self.levels[-1](hidden, context)
        return torch.cat([*latents, hidden.flatten(1)], 1), total + logabsdet

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Flat latents to images."""
        if inputs.dim() != 2 or inputs.shape[1] != self.num_features:
            raise ValueError(f"inputs must be latents of shape (B, {self.num_features}), got {tuple(inputs.shape)}")
        flat = inputs.split([prod(shape) for shape in self.latents], 1)
        *latents, hidden = [z.unflatten(1, shape) for z, shape in zip(flat, self.latents, strict=True)]
        hidden, total = self.levels[-1].inverse(hidden, context)
        for level, latent in zip(reversed(self.levels[:-1]), reversed(latents), strict=True):
            hidden, logabsdet = level.inverse(torch.cat([hidden, latent], 1), context)
            total = total + logabsdet
        return hidden, total
