"""Our flows in ``normflows.flows``, for code that finds its layers there by name."""

from __future__ import annotations

import normflows

from nflows_woodbury.normflows import glow, layers

__all__ = ["register"]


def register() -> None:
    """Put our flows into ``normflows.flows`` by their names; calling it again changes nothing.

    Raises:
        ValueError: if normflows has something else by one of the names; then nothing is put there.

    >>> import normflows
    >>> register()
    >>> normflows.flows.Woodbury((12, 8, 8), ranks=(4, 8)).transform[0].rank
    4
    """
    flows = {name: getattr(module, name) for module in (layers, glow) for name in module.__all__}
    for name, flow in flows.items():
        if getattr(normflows.flows, name, flow) is not flow:
            raise ValueError(f"normflows.flows.{name} exists already; use {__package__}.{name} under that name instead")
    for name, flow in flows.items():
        setattr(normflows.flows, name, flow)
