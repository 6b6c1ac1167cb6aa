"""A conditioner with attention over patches."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from math import gcd, prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from nflows_woodbury.checks import AXES, check_layer_dtype, check_positive_int
from nflows_woodbury.linalg.grids import along_channels, columns
from nflows_woodbury.linalg.modes import is_traced, is_transformed
from nflows_woodbury.transforms.nets import check_context
from nflows_woodbury.transforms.norms import LayerNorm
from nflows_woodbury.transforms.squeeze import Squeeze

__all__ = ["AttentionBlock", "AttentionNet", "positions"]


class AttentionNet(nn.Module):
    """A conditioner in which every patch sees every other: a vision transformer, the last layer zero.

    Each patch of ``patch_size`` pixels along each axis becomes a token, by one matrix; sines and cosines of its place
    are added; then come blocks of attention and a pixelwise network, each on normalised tokens and added to them; and a
    matrix that starts at zero makes each token the outputs of its patch. Sizes that ``patch_size`` does not divide are
    filled up with zeros, which are cut off at the end. The cost is quadratic in the number of patches.

    The attention is ``torch.nn.functional.scaled_dot_product_attention``. On GPUs its fused kernels have no
    derivative of the derivative; who needs one there calls the flow within
    ``torch.nn.attention.sdpa_kernel(SDPBackend.MATH)``. On the CPU and under ``torch.func`` that kernel, which has all,
    is the one that is used.

    Args:
        in_channels: channels of the inputs.
        out_channels: channels of the outputs.
        context_features: as for :class:`nflows_woodbury.transforms.nets.ConvNet`.
        hidden_channels: length of a token.
        num_axes: axes beside the channels, 1 to 3.
        patch_size: pixels of a patch along each axis.
        num_blocks: blocks of attention.
        num_heads: heads of the attention, a divisor of ``hidden_channels``; None for 4, or as many as divide it.

    Shapes and errors are those of :class:`nflows_woodbury.transforms.nets.ConvNet`; also ValueError for vectors, which
    have no patches, and for heads that do not divide the tokens.

    Reference: Kolesnikov, Pinto and Tschannen, Jet: A Modern Transformer-Based Normalizing Flow, 2024; Dosovitskiy et
    al., An Image is Worth 16x16 Words, ICLR 2021. Jet learns its positions; sines work at any size.

    >>> import torch
    >>> AttentionNet(6, 12, 10, hidden_channels=32)(torch.randn(2, 6, 8, 8), torch.randn(2, 10)).shape
    torch.Size([2, 12, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        context_features: int | None = None,
        *,
        hidden_channels: int,
        num_axes: int = 2,
        patch_size: int = 2,
        num_blocks: int = 2,
        num_heads: int | None = None,
    ) -> None:
        super().__init__()
        if num_axes not in range(1, len(AXES)):
            raise ValueError(f"num_axes must be 1, 2 or 3, as attention is among patches, got {num_axes}")
        hidden = check_positive_int("hidden_channels", hidden_channels)
        heads = gcd(4, hidden) if num_heads is None else check_positive_int("num_heads", num_heads)
        if hidden % heads:
            raise ValueError(f"num_heads must divide hidden_channels = {hidden}, got {num_heads}")
        self.patch = Squeeze(check_positive_int("patch_size", patch_size))
        pixels = prod(self.patch.factors(num_axes))
        self.first = nn.Linear(in_channels * pixels, hidden)
        self.context = None
        if context_features is not None:
            features = check_positive_int("context_features", context_features)
            self.context = nn.Linear(features * pixels, hidden, bias=False)
        self.context_features = context_features
        blocks = (AttentionBlock(hidden, heads) for _ in range(check_positive_int("num_blocks", num_blocks)))
        self.blocks = nn.Sequential(*blocks)
        self.norm = LayerNorm(hidden)
        self.last = nn.Linear(hidden, out_channels * pixels)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Parameters for the map of the other half."""
        check_layer_dtype(inputs, self.first.weight.dtype)
        patches = self._patches(inputs)
        tokens = self.first(columns(patches).mT)
        if self.context is not None and self.context_features is not None:
            context = check_context(context, self.context_features, inputs).to(self.context.weight.dtype)
            if context.dim() == 2:
                context = along_channels(context, inputs.dim() - 2).expand(-1, -1, *inputs.shape[2:])
            tokens = tokens + self.context(columns(self._patches(context)).mT)
        tokens = tokens + positions(patches.shape[2:], self.norm.weight).to(tokens.dtype)
        outputs = self.last(self.norm(self.blocks(tokens))).to(inputs.dtype)
        pixels, _ = self.patch.inverse(outputs.mT.unflatten(2, patches.shape[2:]))
        for axis, size in enumerate(inputs.shape[2:], 2):
            pixels = pixels.narrow(axis, 0, size)
        return pixels.contiguous()

    def _patches(self, values: Tensor) -> Tensor:
        """The pixels of each patch as channels, those that are missing as zeros."""
        missing = [-size % self.patch.factors(1)[0] for size in values.shape[2:]]
        return self.patch(F.pad(values, [side for m in reversed(missing) for side in (0, m)]))[0]


class AttentionBlock(nn.Module):
    """Attention of all tokens among each other, then a network at each token, both on normalised tokens and added.

    Args:
        size: length of a token.
        num_heads: heads, a divisor of ``size``.

    Shapes:
        tokens ``(B, T, size)`` in and out.

    >>> import torch
    >>> AttentionBlock(8, num_heads=2)(torch.randn(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm, self.second_norm = LayerNorm(size), LayerNorm(size)
        self.projections, self.joined = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.pixelwise = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, size))

    def forward(self, tokens: Tensor) -> Tensor:
        """``x + attention(x)``, then ``x + network(x)``."""
        heads = self.projections(self.norm(tokens)).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind()
        with _kernels(query):
            attended = F.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.joined(attended.transpose(1, 2).flatten(2))
        outputs: Tensor = tokens + self.pixelwise(self.second_norm(tokens))
        return outputs


def positions(sizes: torch.Size, like: Tensor) -> Tensor:
    """Sines and cosines of each place of a grid, ``(T, n)``, with ``n`` that of ``like``, shared among the axes.

    >>> import torch
    >>> positions(torch.Size([2, 3]), torch.zeros(8)).shape
    torch.Size([6, 8])
    """
    pairs = -(-like.shape[0] // (2 * len(sizes)))
    rates = 100.0 ** -(torch.arange(pairs, device=like.device, dtype=like.dtype) / pairs)
    features = []
    for axis, size in enumerate(sizes):
        angles = torch.arange(size, device=like.device, dtype=like.dtype)[:, None] * rates
        waves = torch.cat([angles.sin(), angles.cos()], 1)
        places = [size if other == axis else 1 for other in range(len(sizes))]
        features.append(waves.view(*places, 2 * pairs).expand(*sizes, -1))
    return torch.cat(features, -1).flatten(0, -2)[:, : like.shape[0]]


def _kernels(query: Tensor) -> AbstractContextManager[object]:
    """The kernel that has a derivative of every kind on the CPU and where one may be asked for, else all of them."""
    plain = not is_traced() and (query.device.type == "cpu" or is_transformed(query))
    return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()
