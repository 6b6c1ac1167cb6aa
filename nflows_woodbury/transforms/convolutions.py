"""Convolutions by the number of axes: vectors, sequences, images and volumes.

>>> import torch
>>> sequence, volume = torch.randn(2, 3, 8), torch.randn(2, 3, 4, 5, 6)
>>> CONVOLUTIONS[1](3, 7)(sequence).shape, PIXELWISE[3](3, 7)(volume).shape, PROJECTIONS[0](3, 7).bias
(torch.Size([2, 7, 8]), torch.Size([2, 7, 4, 5, 6]), None)
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

__all__ = [
    "CONVOLUTIONS",
    "PIXELWISE",
    "PROJECTIONS",
    "ChannelsLastConv2d",
    "Conv",
    "channels_last",
    "zero_conv",
]

#: any of them; their weight is (out, in, ...)
Conv = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


class ChannelsLastConv2d(nn.Conv2d):
    """``nn.Conv2d`` that computes with the channels of its weight last in memory; the parameter stays as it is.

    Given inputs of that layout the convolution would make such a copy itself, once in the forward and once more in the
    backward pass.

    >>> import torch
    >>> ChannelsLastConv2d(3, 8, 3)(torch.randn(2, 3, 5, 5)).shape
    torch.Size([2, 8, 3, 3])
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(input, channels_last(weight), bias)


#: number of axes -> a convolution of channels, in and out, that keeps sizes, its kernel of side 3; of vectors a matrix
CONVOLUTIONS: tuple[Callable[[int, int], Conv], ...] = (
    nn.Linear,
    lambda inputs, outputs: nn.Conv1d(inputs, outputs, 3, padding=1),
    lambda inputs, outputs: ChannelsLastConv2d(inputs, outputs, 3, padding=1),
    lambda inputs, outputs: nn.Conv3d(inputs, outputs, 3, padding=1),
)

#: number of axes -> the same with a kernel of side 1
PIXELWISE: tuple[Callable[[int, int], Conv], ...] = (
    nn.Linear,
    lambda inputs, outputs: nn.Conv1d(inputs, outputs, 1),
    lambda inputs, outputs: ChannelsLastConv2d(inputs, outputs, 1),
    lambda inputs, outputs: nn.Conv3d(inputs, outputs, 1),
)

#: number of axes -> a matrix over the channels of context, the same at every pixel
PROJECTIONS: tuple[Callable[[int, int], Conv], ...] = (
    lambda inputs, outputs: nn.Linear(inputs, outputs, bias=False),
    lambda inputs, outputs: nn.Conv1d(inputs, outputs, 1, bias=False),
    lambda inputs, outputs: nn.Conv2d(inputs, outputs, 1, bias=False),
    lambda inputs, outputs: nn.Conv3d(inputs, outputs, 1, bias=False),
)


def zero_conv(in_channels: int, out_channels: int, num_axes: int = 2) -> Conv:
    """A convolution of side 3 that starts at zero, so that what it conditions starts as a fixed simple map.

    >>> import torch
    >>> zero_conv(3, 5)(torch.randn(2, 3, 4, 4)).any()
    tensor(False)
    """
    conv = CONVOLUTIONS[num_axes](in_channels, out_channels)
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


def channels_last(values: Tensor) -> Tensor:
    """The same values with the channels of images last in memory; of others, as they are.

    >>> import torch
    >>> channels_last(torch.zeros(2, 3, 4, 5)).stride()
    (60, 1, 15, 3)
    """
    if values.dim() != 4:
        return values
    return values.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # vmap knows no contiguous(memory_format=...)
