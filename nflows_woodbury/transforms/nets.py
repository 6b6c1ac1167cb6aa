"""Conditioner networks: the only place where reduced precision (autocast) acts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nflows_woodbury.checks import AXES, check_class_numbers, check_layer_dtype, check_positive_int
from nflows_woodbury.linalg.grids import along_channels
from nflows_woodbury.transforms.convolutions import CONVOLUTIONS, PIXELWISE, PROJECTIONS, Conv, channels_last, zero_conv

__all__ = ["ConvNet", "Net", "OneHot", "add_context", "channel_halves", "check_context", "context_projection"]

#: ``(in_channels, out_channels, context_features) -> Module``, whose modules are called with inputs and context
Net = Callable[[int, int, int | None], nn.Module]


class ConvNet(nn.Module):
    """The paper's conditioner: convolutions 3x3, 1x1, 3x3 with ReLU between, the last one starting at zero.

    Args:
        in_channels: channels of the inputs.
        out_channels: channels of the outputs.
        context_features: features of the context, or None for a network that ignores it. A context ``(B, F)`` acts
            on all pixels alike, a context ``(B, F, h, w)`` pixel by pixel; either is projected linearly and added
            to the first hidden layer.
        hidden_channels: channels of both hidden layers.
        num_axes: axes beside the channels: 2 for images, 1 for sequences, 3 for volumes, whose convolutions have as
            many; 0 for vectors, whose convolutions are matrices.

    Shapes:
        inputs ``(B, in_channels, h, w)``, outputs ``(B, out_channels, h, w)`` in the inputs' dtype, also under
        autocast; with other axes for another ``num_axes``.

    Raises:
        ValueError: for a network with ``context_features`` called without context, or with another number of them.

    Reference: Lu and Huang, NeurIPS 2020, appendix; Kingma and Dhariwal, Glow, NeurIPS 2018, section 3.3.

    >>> import torch
    >>> ConvNet(6, 12, 10, hidden_channels=32)(torch.randn(2, 6, 8, 8), torch.randn(2, 10)).shape
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
    ) -> None:
        super().__init__()
        hidden_channels = check_positive_int("hidden_channels", hidden_channels)
        self.first = CONVOLUTIONS[num_axes](in_channels, hidden_channels)
        self.second = PIXELWISE[num_axes](hidden_channels, hidden_channels)
        self.last = zero_conv(hidden_channels, out_channels, num_axes)
        self.context = context_projection(context_features, hidden_channels, num_axes)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Parameters for the map of the other half."""
        check_layer_dtype(inputs, self.first.weight.dtype)
        # Convolutions are faster with the channels last in memory; what follows the first one keeps them there.
        hidden = F.relu(add_context(self.first(channels_last(inputs)), self.context, context), inplace=True)
        outputs: Tensor = self.last(F.relu(self.second(hidden), inplace=True))
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


def context_projection(context_features: int | None, out_channels: int, num_axes: int = 2) -> Conv | None:
    """A matrix from context features to channels, as a convolution, or None for a part that ignores context.

    >>> context_projection(None, 8), context_projection(3, 8).weight.shape
    (None, torch.Size([8, 3, 1, 1]))
    """
    if context_features is None:
        return None
    return PROJECTIONS[num_axes](check_positive_int("context_features", context_features), out_channels)


def add_context(hidden: Tensor, projection: Conv | None, context: Tensor | None) -> Tensor:
    """``hidden`` plus the projected context, ``(B, F)`` or ``(B, F, h, w)``; unchanged without a projection.

    >>> import torch
    >>> add_context(torch.zeros(2, 8, 4, 4), context_projection(3, 8), torch.ones(2, 3)).shape
    torch.Size([2, 8, 4, 4])
    """
    if projection is None:
        return hidden
    context = check_context(context, projection.weight.shape[1], hidden)
    if context.dim() == 2:
        context = along_channels(context, hidden.dim() - 2)
    return hidden + projection(context.to(projection.weight.dtype))


def check_context(context: Tensor | None, num_features: int, inputs: Tensor) -> Tensor:
    """Return ``context`` if it has the features that are asked for and fits the inputs that it is for; ValueError else.

    >>> import torch
    >>> check_context(torch.zeros(2, 3), 3, torch.zeros(2, 4, 8, 8)).shape
    torch.Size([2, 3])
    """
    if context is None:
        raise ValueError(f"context must be given, with {num_features} features; got None")
    got, batch, axes = tuple(context.shape), inputs.shape[0], AXES[inputs.dim() - 2]
    if context.dim() == 1 and not context.is_floating_point():
        raise ValueError(
            f"context must have {num_features} features, got class numbers of shape {got}; give the flow an "
            f"embedding_net, such as torch.nn.Embedding(num_classes, {num_features})"
        )
    if context.dim() not in (2, inputs.dim()) or context.shape[1] != num_features:
        pixels = f" or ({', '.join(['B', str(num_features), *axes])})" if axes else ""
        raise ValueError(f"context must have shape (B, {num_features}){pixels}, got {got}")
    if context.shape[0] != batch:
        raise ValueError(f"context must have a row for each input, {batch} as the inputs, got {context.shape[0]}")
    sizes = inputs.shape[2:]
    if context.dim() > 2 and any(own != size for own, size in zip(context.shape[2:], sizes, strict=True)):
        name = "height and width" if len(axes) == 2 else "sizes"
        raise ValueError(f"context must have the {name} of the inputs, {' x '.join(map(str, sizes))}, got shape {got}")
    return context


def channel_halves(num_channels: int) -> tuple[int, int]:
    """Sizes of the half that conditions (the larger one) and of the half that is transformed.

    >>> channel_halves(7)
    (4, 3)
    """
    if num_channels < 2:
        raise ValueError(f"shape must have at least 2 channels to split, got {num_channels}; put a Squeeze in front")
    return num_channels - num_channels // 2, num_channels // 2
