"""Layer normalisation that is right in every mode of torch."""

from __future__ import annotations

from torch import Tensor, nn

from nflows_woodbury.linalg.modes import is_plain
from nflows_woodbury.linalg.precision import at_least_float32

__all__ = ["ChannelNorm", "LayerNorm"]


class LayerNorm(nn.LayerNorm):
    """``nn.LayerNorm`` over the last axis.

    Torch's own has a wrong derivative backwards over forwards: it takes mean and deviation for constants there. So it
    serves in plain eager calls, and elsewhere stand the operations that it is made of.

    >>> import torch
    >>> values = torch.randn(2, 5, 8)
    >>> bool(torch.allclose(LayerNorm(8)(values), torch.vmap(LayerNorm(8))(values), atol=1e-5))
    True
    """

    def forward(self, input: Tensor) -> Tensor:
        """Mean 0 and standard deviation 1 along the axis, then a scale and a shift for each entry."""
        if is_plain(input):
            outputs: Tensor = super().forward(input)
            return outputs
        values = input.to(at_least_float32(input.dtype))
        centred = values - values.mean(-1, keepdim=True)
        variance = centred.square().mean(-1, keepdim=True)
        return centred * (variance + self.eps).rsqrt() * self.weight + self.bias


class ChannelNorm(LayerNorm):
    """Layer normalisation over the channels at each pixel, ``(B, c, ...)``.

    >>> import torch
    >>> values = ChannelNorm(8)(5 + torch.randn(2, 8, 4, 4))
    >>> bool((values.mean(1).abs() < 1e-5).all())
    True
    """

    def forward(self, input: Tensor) -> Tensor:
        """Mean 0 and standard deviation 1 over the channels, then a scale and a shift for each."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)
