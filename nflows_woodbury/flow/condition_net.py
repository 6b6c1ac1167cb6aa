"""Networks that make features of a given image for the levels of a flow, and images of other sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from nflows_woodbury.checks import check_positive_int

__all__ = ["ConditionNet", "pointwise", "resized"]

_CONVS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_POOLS: dict[int, Callable[..., Tensor]] = {
    1: F.adaptive_avg_pool1d,
    2: F.adaptive_avg_pool2d,
    3: F.adaptive_avg_pool3d,
}
_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


class ConditionNet(nn.Module):
    """Features of a given image for a level: two convolutions, the first from twice the level's size down to it.

    The image is resized to that size first, so that it may be of any. Called with a level's shape, as
    ``condition=partial(ConditionNet, in_channels=3, features=16)``.

    Args:
        shape: ``(c, ...)`` of the level.
        in_channels: of the given image.
        features: how many to make.
        hidden_channels: between the convolutions.

    >>> import torch
    >>> ConditionNet((12, 16, 16), in_channels=3, features=8)(torch.zeros(2, 3, 7, 9)).shape
    torch.Size([2, 8, 16, 16])
    """

    def __init__(self, shape: Sequence[int], in_channels: int, features: int, hidden_channels: int = 32) -> None:
        super().__init__()
        self.in_channels, self.sizes = check_positive_int("in_channels", in_channels), tuple(2 * n for n in shape[1:])
        hidden, features = (
            check_positive_int("hidden_channels", hidden_channels),
            check_positive_int("features", features),
        )
        conv: Any = _CONVS[len(self.sizes)]
        self.first, self.last = conv(in_channels, hidden, 3, stride=2, padding=1), conv(hidden, features, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """``(B, in_channels, ...)`` to ``(B, features, ...)``."""
        if image.dim() != 2 + len(self.sizes) or image.shape[1] != self.in_channels:
            axes = ", any size" * len(self.sizes)
            raise ValueError(f"context must be an image (B, {self.in_channels}{axes}), got {tuple(image.shape)}")
        features: Tensor = self.last(F.relu(self.first(resized(image, self.sizes))))
        return features


def resized(images: Tensor, sizes: Sequence[int]) -> Tensor:
    """Images of other sizes: averaged over cells along the axes that shrink, then interpolated linearly.

    >>> import torch
    >>> resized(torch.arange(4.0).view(1, 1, 4), (2,)), resized(torch.zeros(2, 3, 8, 4), (4, 16)).shape
    (tensor([[[0.5000, 2.5000]]]), torch.Size([2, 3, 4, 16]))
    """
    sizes, axes = tuple(sizes), len(sizes)
    if tuple(images.shape[2:]) == sizes:
        return images
    pooled = _POOLS[axes](images, [min(pair) for pair in zip(images.shape[2:], sizes, strict=True)])
    if tuple(pooled.shape[2:]) == sizes:
        return pooled
    return F.interpolate(pooled, sizes, mode=_MODES[axes], align_corners=False)


def pointwise(axes: int, in_channels: int, features: int) -> nn.Module:
    """What makes features of a level's image in a pyramid: a convolution of one pixel.

    >>> pointwise(2, 3, 8)
    Conv2d(3, 8, kernel_size=(1, 1), stride=(1, 1))
    """
    conv: Any = _CONVS[axes]
    made: nn.Module = conv(check_positive_int("condition", in_channels), features, 1)
    return made
