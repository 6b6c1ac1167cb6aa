"""Invertible mixing layers and image flows for nflows and normflows."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nflows_woodbury.flow import *  # noqa: F403
    from nflows_woodbury.transforms import *  # noqa: F403

__version__ = version("nflows-woodbury")


def __getattr__(name: str) -> Any:
    """Find a public name in its module on first use, so that the command line's help does not wait for torch."""
    if name == "__all__":
        return [*_home("flow").__all__, *_home("transforms").__all__]
    if not name.startswith("_"):
        for module in map(_home, ("flow", "transforms")):
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__getattr__("__all__")]


def _home(name: str) -> Any:
    return import_module(f"{__name__}.{name}")
