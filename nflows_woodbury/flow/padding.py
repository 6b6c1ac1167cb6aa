"""Sizes that the levels do not divide, and what fills them up.

>>> from nflows_woodbury import Pad
>>> padding: Padding = Pad
>>> padding((1, 28, 28), (32, 32)).sizes
(32, 32)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nflows.transforms.base import Transform

from nflows_woodbury.checks import check_positive_int
from nflows_woodbury.transforms.squeeze import BlockSqueeze

__all__ = ["Padding", "factors_of", "padding_for"]

Shape = tuple[int, ...]
#: a constructor of a transform from a shape and the larger sizes, such as :class:`Pad`
Padding = Callable[[Any, Any], Transform]


def padding_for(
    shape: Shape, levels: int, squeeze: Callable[[], Transform], pad: Padding | None
) -> tuple[list[Transform], Shape]:
    """What makes all sizes divisible, if that is needed, and the shape behind it; ValueError where it is not given.

    >>> from nflows_woodbury import Pad, Squeeze
    >>> padding_for((1, 28, 28), 3, Squeeze, Pad)
    ([Pad(shape=(1, 28, 28), sizes=(32, 32), scale=0.25)], (1, 32, 32))
    """
    levels = check_positive_int("levels", levels)
    sizes, multiples = shape[1:], [factor**levels for factor in factors_of(squeeze, shape)]
    padded = tuple(-(-size // multiple) * multiple for size, multiple in zip(sizes, multiples, strict=True))
    if padded == sizes:
        return [], shape
    if pad is None:
        what = "height and width" if len(sizes) == 2 else "each size but that of the channels"
        by = f"2^levels = {2**levels}" if {*multiples} == {2**levels} else str(tuple(multiples))
        raise ValueError(
            f"shape must have {what} divisible by {by}, got {' x '.join(map(str, sizes))}; give pad=Pad (--pad on the "
            "command line), use fewer levels or crop the images"
        )
    if not callable(pad):
        raise TypeError(f"pad must be a constructor, such as Pad, or None, got {pad!r}")
    return [pad(shape, padded)], (shape[0], *padded)


def factors_of(squeeze: Callable[[], Transform], shape: Shape) -> tuple[int, ...]:
    """By what a squeeze divides each size; 2 for one that is not ours.

    >>> from nflows_woodbury import Squeeze
    >>> factors_of(lambda: Squeeze((1, 2, 2)), (3, 5, 8, 8))
    (1, 2, 2)
    """
    layer, num_axes = squeeze(), len(shape) - 1
    return layer.factors(num_axes) if isinstance(layer, BlockSqueeze) else (2,) * num_axes
