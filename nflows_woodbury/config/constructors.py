"""Constructors of layers that import nothing until they are called, so that help texts need no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nflows_woodbury

if TYPE_CHECKING:
    from nflows.transforms.base import Transform

    from nflows_woodbury.flow import Shape

__all__ = ["Exported", "InOrder", "Joined"]


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


class Joined(dict[str, Any]):
    """A dictionary that also has what several of its names joined with ``+`` stand for, as ``join(names)``.

    It iterates over the plain names alone.

    >>> letters = Joined({"a": 1, "b": 2}, join=lambda names: f"<{names}>")
    >>> letters["b"], letters["b+a"], "b+a" in letters, "b+c" in letters, list(letters)
    (2, '<b+a>', True, False, ['a', 'b'])
    """

    def __init__(self, entries: dict[str, Any], join: Callable[[str], Any]) -> None:
        super().__init__(entries)
        self.join = join

    def __contains__(self, names: object) -> bool:
        return isinstance(names, str) and all(super(Joined, self).__contains__(name) for name in names.split("+"))

    def __missing__(self, names: str) -> Any:
        if names not in self:
            raise KeyError(names)
        return self.join(names)
