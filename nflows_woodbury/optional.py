"""Modules of an optional extra: imported, or an error that says how to install them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["import_extra"]


def import_extra(module: str, name: str = "train") -> Any:
    """Import a module that only some uses need; ImportError says that the extra ``name`` brings it.

    >>> import_extra("PIL.Image").new("RGB", (8, 8)).size
    (8, 8)
    >>> import_extra("no_such_module")
    Traceback (most recent call last):
    ImportError: no_such_module is missing: pip install nflows-woodbury[train]
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} is missing: pip install nflows-woodbury[{name}]") from error
