"""An image as condition, at every level of a flow: what each level sees of it, and how it gets there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn

from nflows_woodbury.flow.condition_net import pointwise, resized
from nflows_woodbury.linalg.modes import is_plain
from nflows_woodbury.transforms.nets import OneHot

__all__ = ["ConditionEmbedding", "ConditionedLevel", "Conditions", "Given"]

#: what the methods of a flow take as context: a tensor; with image conditions also a list of images, and a tuple of
#: class numbers and one or the other
Context = Any

#: what ``image_flow`` takes as ``condition``: a function from a level's shape to its network, or for each level such a
#: function, a network, or the number of channels that the level's image has in a pyramid
Condition = Callable[[Any], nn.Module] | Sequence[Callable[[Any], nn.Module] | nn.Module | int]


class Given(NamedTuple):
    """What levels are conditioned on, a row of each tensor for each input.

    >>> given = Given((torch.zeros(2, 3, 8, 8),), None)
    >>> given.rows, given.repeated(5).rows
    (2, 10)
    """

    images: tuple[Tensor, ...]  # one for all levels, or one for each
    classes: Tensor | None  # one-hot rows

    @property
    def rows(self) -> int:
        """How many."""
        return self.images[0].shape[0]

    def repeated(self, times: int) -> Given:
        """Each row so many times, one after the other."""
        images = tuple(image.repeat_interleave(times, 0) for image in self.images)
        return Given(images, None if self.classes is None else self.classes.repeat_interleave(times, 0))


class ConditionEmbedding(nn.Module):
    """The embedding of a flow with image conditions: looks at what is given, and makes floats of uint8 images.

    Args:
        pyramid: channels of the images of a pyramid, one for each level, the finest first; None for one image.
        num_classes: classes beside the images, or 0.

    Shapes:
        the context is one image ``(B, c, ...)``, of any size; or a list of them, one for each level. With classes it is
        a tuple, their numbers ``(B,)`` first. Images are floats, or uint8, which become ``(x + 1/2) / 256 - 1/2``, the
        middle of what a dequantization makes of them.

    Raises:
        TypeError, ValueError: for a context that is not so, with rows of different number, or on the CPU in plain eager
            calls with values that are not finite.

    >>> import torch
    >>> given = ConditionEmbedding(num_classes=10)((torch.tensor([3, 1]), torch.zeros(2, 3, 8, 8)))
    >>> given.classes.shape, len(given.images)
    (torch.Size([2, 10]), 1)
    """

    def __init__(self, pyramid: Sequence[int] | None = None, num_classes: int = 0) -> None:
        super().__init__()
        self.pyramid = None if pyramid is None else tuple(pyramid)
        self.num_classes = num_classes
        self.one_hot = OneHot(num_classes) if num_classes else None

    def forward(self, context: Context) -> Given:
        """The images as floats, and one-hot rows of the classes."""
        numbers = None
        if self.one_hot is not None:
            if not isinstance(context, tuple) or len(context) != 2:
                raise TypeError(f"context must be a tuple of class numbers and {self._expected}, got {_kind(context)}")
            numbers, context = context
        images = [context] if self.pyramid is None else context
        count = 1 if self.pyramid is None else len(self.pyramid)
        if not isinstance(images, list) or len(images) != count or not all(isinstance(x, Tensor) for x in images):
            raise TypeError(f"context must be {self._expected}, got {_kind(context)}")
        floats = tuple(map(_as_floats, images))
        classes = None if self.one_hot is None else self.one_hot(numbers)
        self._check(floats, classes)
        return Given(floats, classes)

    def extra_repr(self) -> str:
        """Show the arguments in ``print``."""
        return f"pyramid={self.pyramid}, num_classes={self.num_classes}"

    @property
    def _expected(self) -> str:
        if self.pyramid is None:
            return "an image (B, c, ...)"
        return f"a list of {len(self.pyramid)} images with {', '.join(map(str, self.pyramid))} channels"

    def _check(self, images: Sequence[Tensor], classes: Tensor | None) -> None:
        rows = {len(part) for part in (*images, *(() if classes is None else (classes,)))}
        if len(rows) > 1:
            raise ValueError(f"context must have as many rows in each of its parts, got {sorted(rows)}")
        channels = tuple(image.shape[1] for image in images)
        if self.pyramid is not None and channels != self.pyramid:
            raise ValueError(f"context must be {self._expected}, the finest first, got {channels} channels")
        for image in images:
            if image.device.type == "cpu" and is_plain(image) and not image.isfinite().all():
                raise ValueError(f"context must be finite, got NaN or infinity in an image {tuple(image.shape)}")


class ConditionedLevel(Transform):
    """A level whose layers get features of the given image as their context, ``(B, features, ...)`` of its own size.

    Args:
        level: the transform that takes them.
        net: the network that makes them of the image, or of the level's own image in a pyramid. They may be of another
            size: they are averaged where they are larger, and interpolated where they are smaller.
        sizes: of the level, such as ``(h, w)``.
        index: the level's number in a pyramid, 0 for one image.
        features: how many there are.
        num_classes: classes, whose learned vector is added to the features of every pixel, or 0.

    Raises:
        ValueError, TypeError: for another number of features than were announced; the layers look at the rows.

    >>> import torch
    >>> from nflows_woodbury import TopPrior
    >>> prior = TopPrior((4, 8, 8), context_features=5)
    >>> level = ConditionedLevel(prior, torch.nn.Conv2d(3, 5, 1), (8, 8), features=5)
    >>> level(torch.zeros(2, 4, 8, 8), Given((torch.zeros(2, 3, 16, 16),), None))[0].shape
    torch.Size([2, 4, 8, 8])
    """

    def __init__(
        self,
        level: Transform,
        net: nn.Module,
        sizes: Sequence[int],
        *,
        index: int = 0,
        features: int,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(net, nn.Module):
            raise TypeError(f"condition must give a network, a torch.nn.Module, got {net!r}")
        self.level, self.net, self.sizes, self.index, self.features = level, net, tuple(sizes), index, features
        self.classes = nn.Linear(num_classes, features, bias=False) if num_classes else None

    def forward(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        """The level, given the features."""
        outputs: tuple[Tensor, Tensor] = self.level(inputs, self.features_of(context, inputs))
        return outputs

    def inverse(self, inputs: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        """The level's inverse, given the features."""
        outputs: tuple[Tensor, Tensor] = self.level.inverse(inputs, self.features_of(context, inputs))
        return outputs

    def features_of(self, context: Given, inputs: Tensor) -> Tensor:
        """What the level's layers get: ``(B, features, *sizes)`` in the inputs' dtype."""
        made: Tensor = self.net(context.images[self.index].to(inputs.dtype))
        if made.dim() != 2 + len(self.sizes) or made.shape[1] != self.features:
            raise ValueError(
                f"condition must give features (B, {self.features}, ...), as many as context_features, got shape "
                f"{tuple(made.shape)} from {type(self.net).__name__}"
            )
        made = resized(made, self.sizes)
        if self.classes is not None and context.classes is not None:
            of_class: Tensor = self.classes(context.classes.to(inputs.dtype))
            made = made + of_class.reshape(*of_class.shape, *[1] * len(self.sizes))
        return made.to(inputs.dtype)


class Conditions:
    """What the assembly does for a flow's condition: the embedding of the whole, and levels that see their features.

    Without a condition it leaves levels and the embedding as they are.

    Args:
        condition: as for :func:`image_flow`, or None.
        levels: how many there are.
        features: what :func:`image_flow` calls ``context_features``.
        embedding_net: as for :func:`image_flow`; with a condition None, or a :class:`OneHot` for classes.

    >>> Conditions(None, levels=2, features=None, embedding_net=None).embedding is None
    True
    """

    def __init__(
        self, condition: Condition | None, levels: int, features: int | None, embedding_net: nn.Module | None
    ) -> None:
        self.embedding, self.parts, self.num_classes = embedding_net, None, 0
        if condition is None:
            return
        if features is None:
            raise ValueError("context_features must be given with condition: how many features its networks make")
        if embedding_net is not None and not isinstance(embedding_net, OneHot):
            raise TypeError(
                f"embedding_net must be None or OneHot(num_classes) beside condition, got {embedding_net!r}"
            )
        self.features, self.num_classes = features, 0 if embedding_net is None else embedding_net.num_classes
        if callable(condition):
            condition = [condition] * levels
        self.parts = parts = list(condition) if isinstance(condition, Sequence) else []
        counts = [part for part in parts if isinstance(part, int)]
        if len(parts) != levels or not all(map(callable, parts) if not counts else (part in counts for part in parts)):
            raise ValueError(
                f"condition must be a function from a level's shape to a network, or a list of {levels}, one for each "
                f"level: such functions, networks, or the channels of a pyramid's images; got {condition!r}"
            )
        self.is_pyramid = bool(counts)
        self.embedding = ConditionEmbedding(counts if counts else None, self.num_classes)

    def apply(self, level: Transform, index: int, shape: Sequence[int]) -> Transform:
        """The level of that number and shape, given its features."""
        if self.parts is None:
            return level
        part = self.parts[index]
        if isinstance(part, int):
            net = pointwise(len(shape) - 1, part, self.features)
        else:
            net = part if isinstance(part, nn.Module) else part(shape)
        options = {"features": self.features, "num_classes": self.num_classes}
        return ConditionedLevel(level, net, shape[1:], index=index if self.is_pyramid else 0, **options)


def _as_floats(image: Tensor) -> Tensor:
    """Floats as they are, uint8 in [-1/2, 1/2); TypeError for others."""
    if image.dim() < 3 or not image[:1].numel() >= min(1, len(image)):
        raise ValueError(f"context must be an image (B, c, ...), none of its sizes 0, got shape {tuple(image.shape)}")
    if image.dtype == torch.uint8:
        return (image.to(torch.get_default_dtype()) + 0.5) / 256 - 0.5
    if not image.is_floating_point():
        raise TypeError(f"context must be a uint8 or floating point image, got {image.dtype}")
    return image


def _kind(context: Context) -> str:
    if isinstance(context, Tensor):
        return f"a tensor of shape {tuple(context.shape)}"
    if isinstance(context, tuple | list):
        return f"a {type(context).__name__} of {len(context)}"
    return "None" if context is None else f"a {type(context).__name__}"
