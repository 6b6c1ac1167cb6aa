"""Constructors of layers that import nothing until they are called, so that help texts need no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

import nflows_woodbury

if TYPE_CHECKING:
    from nflows.transforms.base import Transform

    from nflows_woodbury.flow import Shape

__all__ = ["Exported", "InOrder", "InTurn", "Joined"]


@dataclass(frozen=True)
class Exported:
    """A class that the package exports, called by its name.

    >>> Exported("Squeeze")(factor=3).factor
    3
    """

    name: str

    def __call__(self, *args: Any, **kwargs: Any) -> Transform:
        """What the class makes of the arguments."""
        made: Transform = getattr(nflows_woodbury, self.name)(*args, **kwargs)
        return made


@dataclass(frozen=True)
class InOrder:
    """Constructors ``(c, h, w) -> Transform`` as one: a chain of their layers. Settings go to the first.

    >>> chain = InOrder((Exported("InvertibleConv1x1"), Exported("FInCConvolution")))((12, 8, 8), init="identity")
    >>> len(chain)
    2
    """

    parts: tuple[Callable[..., Transform], ...]

    def __call__(self, shape: Shape, **settings: Any) -> Transform:
        """A chain of the parts' layers for that shape."""
        first, *others = self.parts
        chain: Transform = nflows_woodbury.Chain([first(shape, **settings), *(part(shape) for part in others)])
        return chain


class InTurn:
    """Constructors ``(c, h, w) -> Transform`` in turn: each call makes the next one's layer, after the last the first.

    >>> mixing = InTurn([Exported("InvertibleConv1x1"), Exported("FInCConvolution")])
    >>> [type(mixing((12, 8, 8))).__name__ for step in range(3)]
    ['InvertibleConv1x1', 'FInCConvolution', 'InvertibleConv1x1']
    """

    def __init__(self, parts: Sequence[Callable[..., Transform]]) -> None:
        self._turns = cycle(parts)

    def __call__(self, shape: Shape) -> Transform:
        """The layer of the one whose turn it is."""
        return next(self._turns)(shape)


class Joined(dict[str, Any]):
    """A dictionary that also has what its names joined with ``+`` and ``,`` stand for, as ``join(names)``.

    It iterates over the plain names alone.

    >>> letters = Joined({"a": 1, "b": 2}, join=lambda names: f"<{names}>")
    >>> letters["b"], letters["b+a"], "b+a" in letters, "b+c" in letters, list(letters)
    (2, '<b+a>', True, False, ['a', 'b'])
    """

    def __init__(self, entries: dict[str, Any], join: Callable[[str], Any]) -> None:
        super().__init__(entries)
        self.join = join

    def __contains__(self, names: object) -> bool:
        return isinstance(names, str) and all(map(super().__contains__, re.split("[+,]", names)))

    def __missing__(self, names: str) -> Any:
        if names not in self:
            raise KeyError(names)
        return self.join(names)
