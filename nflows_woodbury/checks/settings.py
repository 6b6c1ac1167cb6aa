"""Checks of settings: numbers, names, shapes and axes, without torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches
from numbers import Integral, Real

__all__ = [
    "AXES",
    "check_axes",
    "check_image_shape",
    "check_natural_int",
    "check_natural_number",
    "check_odd_int",
    "check_one_of",
    "check_positive_int",
    "check_positive_number",
    "check_shape",
    "check_sizes",
]

#: what the axes beside the channels are called
AXES = ((), ("t",), ("h", "w"), ("d", "h", "w"))


def check_positive_int(name: str, value: object) -> int:
    """Return ``value`` as an ``int``; TypeError for anything but an integer, ValueError below 1."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a positive integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value}")
    return int(value)


def check_odd_int(name: str, value: object) -> int:
    """Return ``value`` as an ``int``, the side of a window that has a centre; ValueError for even ones or below 1."""
    number = check_positive_int(name, value)
    if number % 2 == 0:
        raise ValueError(f"{name} must be odd, so that the window has a centre; got {value}")
    return number


def check_natural_int(name: str, value: object) -> int:
    """Return ``value`` as an ``int``; TypeError for anything but an integer, ValueError below 0."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer from 0, got {value!r}")
    if value < 0:
        raise ValueError(f"{name} must be an integer from 0, got {value}")
    return int(value)


def check_natural_number(name: str, value: object) -> float:
    """Return ``value`` as a ``float``; TypeError for anything but a real number, ValueError below 0 and for nan."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, at least 0, got {value!r}")
    number = float(value)
    if not number >= 0:
        raise ValueError(f"{name} must be at least 0, got {value}")
    return number


def check_positive_number(name: str, value: object) -> float:
    """Return ``value`` as a ``float``; TypeError for what is no real number, ValueError unless above 0 and finite."""
    number = check_natural_number(name, value)
    if not 0 < number < float("inf"):
        raise ValueError(f"{name} must be above 0 and finite, got {value}")
    return number


def check_image_shape(shape: object, name: str = "shape") -> tuple[int, int, int]:
    """Return ``shape`` as ``(channels, height, width)`` of positive integers."""
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        raise TypeError(f"{name} must be a sequence (channels, height, width), got {shape!r}")
    if len(shape) != 3:
        raise ValueError(f"{name} must be (channels, height, width), got {tuple(shape)}")
    channels, height, width = (check_positive_int(f"{name}[{i}]", size) for i, size in enumerate(shape))
    return channels, height, width


def check_shape(shape: object, name: str = "shape") -> tuple[int, ...]:
    """Return ``shape`` as ``(channels,)``, or ``(channels, ...)`` with one, two or three sizes, positive integers."""
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        raise TypeError(f"{name} must be a sequence, such as (channels, height, width), got {shape!r}")
    if len(shape) not in range(1, len(AXES) + 1):
        raise ValueError(
            f"{name} must be (channels,), (channels, length), (channels, height, width) or (channels, depth, height, "
            f"width), got {tuple(shape)}"
        )
    return tuple(check_positive_int(f"{name}[{i}]", size) for i, size in enumerate(shape))


def check_sizes(name: str, value: object) -> tuple[int, ...]:
    """Return ``value``, positive integers or one of them, as a tuple."""
    if isinstance(value, Integral):
        return (check_positive_int(name, value),)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{name} must be a sequence of positive integers, or one of them, got {value!r}")
    return tuple(check_positive_int(f"{name}[{i}]", size) for i, size in enumerate(value))


def check_axes(axes: object, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return ``axes``, one or several of ``shape``, as a tuple of consecutive axes in rising order from 0."""
    given = (axes,) if isinstance(axes, Integral) else axes
    if not isinstance(given, Sequence):
        raise TypeError(f"axes must be a sequence of consecutive axes, or one axis, got {axes!r}")
    from_zero = tuple(axis + len(shape) if axis in range(-len(shape), 0) else axis for axis in given)
    groups = [tuple(range(i, j)) for j in range(1, len(shape) + 1) for i in range(j)]
    if from_zero not in groups:
        raise ValueError(f"axes must be consecutive axes of shape {shape} in rising order, got {tuple(given)}")
    return from_zero


def check_one_of(name: str, value: object, choices: Collection[str]) -> str:
    """Return ``value`` if it is one of ``choices``, else raise a ValueError that lists them, or the closest of many."""
    if not isinstance(value, str) or value not in choices:
        listed = sorted(choices) if len(choices) < 20 else [*get_close_matches(str(value), choices, 5, 0), "..."]
        raise ValueError(f"{name} must be one of {', '.join(listed)}; got {value!r}")
    return value
