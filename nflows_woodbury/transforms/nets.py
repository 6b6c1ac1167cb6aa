"""Conditioner networks: the only place where reduced precision (autocast) acts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nflows_woodbury.checks import check_class_numbers, check_layer_dtype, check_positive_int

__all__ = ["ConvNet", "OneHot"]


class ConvNet(nn.Module):
    """The paper's conditioner: convolutions 3x3, 1x1, 3x3 with ReLU between, the last one starting at zero.

    Args:
        in_channels: channels of the inputs.
        hidden_channels: channels of both hidden layers.
        out_channels: channels of the outputs.
        context_features: features of the context, or None for a network that ignores it. A context ``(B, F)`` acts
            on all pixels alike, a context ``(B, F, h, w)`` pixel by pixel; either is projected linearly and added
            to the first hidden layer.

    Shapes:
        inputs ``(B, in_channels, h, w)``, outputs ``(B, out_channels, h, w)`` in the inputs' dtype, also under
        autocast.

    Raises:
        ValueError: for a network with ``context_features`` called without context, or with another number of them.

    Reference: Lu and Huang, NeurIPS 2020, appendix; Kingma and Dhariwal, Glow, NeurIPS 2018, section 3.3.

    >>> import torch
    >>> ConvNet(6, 32, 12, context_features=10)(torch.randn(2, 6, 8, 8), torch.randn(2, 10)).shape
    torch.Size([2, 12, 8, 8])
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, out_channels: int, context_features: int | None = None
    ) -> None:
        super().__init__()
        hidden_channels = check_positive_int("hidden_channels", hidden_channels)
        self.first = ChannelsLastConv2d(in_channels, hidden_channels, 3, padding=1)
        self.second = PixelwiseReLU(hidden_channels, hidden_channels, 1)
        self.last = zero_conv(hidden_channels, out_channels)
        self.context = context_projection(context_features, hidden_channels)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Parameters for the map of the other half."""
        check_layer_dtype(inputs, self.first.weight.dtype)
        # Convolutions are faster with the channels last in memory; what follows the first one keeps them there.
        hidden = add_context(self.first(_channels_last(inputs)), self.context, context)
        outputs: Tensor = self.last(self.second(F.relu(hidden, inplace=True)))
        return outputs.to(inputs.dtype).contiguous()


class OneHot(nn.Module):
    """Class numbers ``(B,)`` to rows ``(B, num_classes)``, 1 at the class and 0 elsewhere; no parameters.

    The embedding of a flow with classes: a floating context passes through unchanged, and so does None.

    Args:
        num_classes: classes, numbered from 0.

    Raises:
        TypeError: for a context that is neither floating nor of integers.
        ValueError: for another shape, and on the CPU for a number that is no class. On GPUs a check would stall the
            device: there, in compiled code and under ``torch.func``, the row of such a number is nan.

    >>> import torch
    >>> one_hot = OneHot(3)
    >>> one_hot(torch.tensor([2, 0]))
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    >>> one_hot(torch.tensor([[0.5, 0.5, 0.0]]))
    tensor([[0.5000, 0.5000, 0.0000]])
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = check_positive_int("num_classes", num_classes)

    def extra_repr(self) -> str:
        """Show the argument in ``print``."""
        return f"num_classes={self.num_classes}"

    def forward(self, context: Tensor | None) -> Tensor | None:
        """Rows of torch's default dtype, on the numbers' device."""
        if context is None or context.is_floating_point():
            return context
        numbers = check_class_numbers(context, self.num_classes)[:, None]
        rows = (numbers == torch.arange(self.num_classes, device=numbers.device)).to(torch.get_default_dtype())
        return rows.masked_fill((numbers < 0) | (numbers >= self.num_classes), float("nan"))


class ChannelsLastConv2d(nn.Conv2d):
    """``nn.Conv2d`` that computes with the channels of its weight last in memory; the parameter stays as it is.

    Given inputs of that layout the convolution would make such a copy itself, once in the forward and once more in the
    backward pass.

    >>> import torch
    >>> ChannelsLastConv2d(3, 8, 3)(torch.randn(2, 3, 5, 5)).shape
    torch.Size([2, 8, 3, 3])
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(input, _channels_last(weight), bias)


class PixelwiseReLU(ChannelsLastConv2d):
    """The ReLU of a 1x1 convolution.

    On a CPU it is one matrix product over all pixels, which is faster; on GPUs convolutions may use TF32 where matrix
    products do not.

    >>> import torch
    >>> layer, images = PixelwiseReLU(3, 8, 1), torch.randn(2, 3, 5, 5)
    >>> bool(torch.allclose(layer(images), F.conv2d(images, layer.weight, layer.bias).relu(), atol=1e-6))
    True
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu":
            return F.relu(super().forward(input), inplace=True)
        pixels = input.permute(0, 2, 3, 1)
        outputs = F.relu(F.linear(pixels.flatten(0, 2), self.weight.flatten(1), self.bias), inplace=True)
        return outputs.unflatten(0, pixels.shape[:-1]).permute(0, 3, 1, 2)


def _channels_last(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # vmap knows no contiguous(memory_format=...)


def zero_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 3x3 convolution that starts at zero, so that what it conditions starts as a fixed simple map."""
    conv = ChannelsLastConv2d(in_channels, out_channels, 3, padding=1)
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def context_projection(context_features: int | None, out_channels: int) -> nn.Conv2d | None:
    """A 1x1 convolution from context features to channels, or None for a part that ignores context."""
    if context_features is None:
        return None
    return nn.Conv2d(check_positive_int("context_features", context_features), out_channels, 1, bias=False)


def add_context(hidden: Tensor, projection: nn.Conv2d | None, context: Tensor | None) -> Tensor:
    """``hidden`` plus the projected context, ``(B, F)`` or ``(B, F, h, w)``; unchanged without a projection."""
    if projection is None:
        return hidden
    context = check_context(context, projection.in_channels, hidden)
    if context.dim() == 2:
        context = context[:, :, None, None]
    return hidden + projection(context.to(projection.weight.dtype))


def check_context(context: Tensor | None, num_features: int, inputs: Tensor) -> Tensor:
    """Return ``context`` if it has the features that are asked for and fits the images that it is for; ValueError else.

    >>> import torch
    >>> check_context(torch.zeros(2, 3), 3, torch.zeros(2, 4, 8, 8)).shape
    torch.Size([2, 3])
    """
    if context is None:
        raise ValueError(f"context must be given, with {num_features} features; got None")
    got, (batch, _, height, width) = tuple(context.shape), inputs.shape
    if context.dim() == 1 and not context.is_floating_point():
        raise ValueError(
            f"context must have {num_features} features, got class numbers of shape {got}; give the flow an "
            f"embedding_net, such as torch.nn.Embedding(num_classes, {num_features})"
        )
    if context.dim() not in (2, 4) or context.shape[1] != num_features:
        raise ValueError(f"context must have shape (B, {num_features}) or (B, {num_features}, h, w), got {got}")
    if context.shape[0] != batch:
        raise ValueError(f"context must have a row for each input, {batch} as the inputs, got {context.shape[0]}")
    if context.dim() == 4 and (context.shape[2] != height or context.shape[3] != width):
        raise ValueError(f"context must have the height and width of the inputs, {height} x {width}, got shape {got}")
    return context


def channel_halves(num_channels: int) -> tuple[int, int]:
    """Sizes of the half that conditions (the larger one) and of the half that is transformed."""
    if num_channels < 2:
        raise ValueError(f"shape must have at least 2 channels to split, got {num_channels}; put a Squeeze in front")
    return num_channels - num_channels // 2, num_channels // 2
