"""A call that no graph takes in; a module of its own, as ``disable`` loads the compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["call"]


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


#: what the function returns for the arguments, run outside of compiled code
call = torch.compiler.disable(_call)
