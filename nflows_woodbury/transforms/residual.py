"""A conditioner with residual blocks and normalisation over the channels."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from nflows_woodbury.checks import check_layer_dtype, check_positive_int
from nflows_woodbury.transforms.convolutions import CONVOLUTIONS, PIXELWISE, channels_last, zero_conv
from nflows_woodbury.transforms.nets import add_context, context_projection
from nflows_woodbury.transforms.norms import ChannelNorm

__all__ = ["ResidualNet"]


class ResidualNet(nn.Module):
    r"""A conditioner of residual blocks, :math:`x + A\, \mathrm{ReLU}(K * \mathrm{norm}(x))`, the last layer zero.

    A convolution of side 3 makes ``hidden_channels`` of the inputs and adds the context. In each block ``norm``
    normalises the channels at each pixel, ``K`` is a convolution of side 3 and ``A`` one of side 1. After the blocks
    come normalisation, ReLU and a convolution of side 3 that starts at zero. Nothing depends on other inputs of the
    batch.

    Args:
        in_channels: channels of the inputs.
        out_channels: channels of the outputs.
        context_features: as for :class:`nflows_woodbury.transforms.nets.ConvNet`.
        hidden_channels: channels of the blocks.
        num_axes: axes beside the channels, as for :class:`nflows_woodbury.transforms.nets.ConvNet`.
        num_blocks: residual blocks.

    Shapes and errors are those of :class:`nflows_woodbury.transforms.nets.ConvNet`.

    Reference: He, Zhang, Ren and Sun, Identity Mappings in Deep Residual Networks, ECCV 2016; the normalisation is that
    of Ho et al., Flow++, ICML 2019.

    >>> import torch
    >>> ResidualNet(6, 12, 10, hidden_channels=32)(torch.randn(2, 6, 8, 8), torch.randn(2, 10)).shape
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
        num_blocks: int = 2,
    ) -> None:
        super().__init__()
        hidden = check_positive_int("hidden_channels", hidden_channels)
        conv = CONVOLUTIONS[num_axes]
        self.first = conv(in_channels, hidden)
        self.context = context_projection(context_features, hidden, num_axes)
        self.blocks = nn.ModuleList(
            nn.Sequential(ChannelNorm(hidden), conv(hidden, hidden), nn.ReLU(), PIXELWISE[num_axes](hidden, hidden))
            for _ in range(check_positive_int("num_blocks", num_blocks))
        )
        self.norm = ChannelNorm(hidden)
        self.last = zero_conv(hidden, out_channels, num_axes)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Parameters for the map of the other half."""
        check_layer_dtype(inputs, self.first.weight.dtype)
        hidden = add_context(self.first(channels_last(inputs)), self.context, context)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        outputs: Tensor = self.last(F.relu(self.norm(hidden)))
        return outputs.to(inputs.dtype).contiguous()
