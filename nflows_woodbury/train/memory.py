"""How much memory a training step takes: counted on the meta device, whose tensors hold no values."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nflows_woodbury.checks import check_positive_int
from nflows_woodbury.config import FlowConfig
from nflows_woodbury.transforms import ActNorm

__all__ = ["Held", "needed_card", "step_memory"]


class Held(TorchDispatchMode):
    """Counts the bytes of the tensors that calls make: those held now, and the most that were held at once.

    >>> with Held() as held:
    ...     for _ in range(3):
    ...         x = torch.zeros(1000)
    >>> held.now, held.peak
    (4000, 8000)
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: dict[int, weakref.finalize[Any, Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(results):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in given:
                self._take(leaf.untyped_storage())
        return results

    def _take(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._known:
            return
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        self._known[storage._cdata] = weakref.finalize(storage, self._release, storage._cdata, storage.nbytes())

    def _release(self, key: int, size: int) -> None:
        del self._known[key]
        self.now -= size


def step_memory(config: FlowConfig, batch_size: int, *, reversible: bool = False) -> int:
    """Bytes that a training step of a flow takes at most, in float32 with Adam, the way that GPUs go.

    Parameters, Adam's averages, gradients and activations. What libraries take to work in comes on top.

    Raises:
        ValueError, TypeError: for a bad batch size.

    >>> config = FlowConfig((3, 16, 16), levels=2, steps=2, hidden_channels=32)
    >>> step_memory(config, 8, reversible=True) < step_memory(config, 8) < step_memory(config, 16)
    True
    """
    check_positive_int("batch_size", batch_size)
    with torch.device("meta"):
        flow = config.build(reversible=reversible)
        images = torch.empty(batch_size, *config.shape, dtype=torch.float32 if config.is_fields else torch.uint8)
        classes = config.num_classes
        labels = torch.empty(batch_size, dtype=torch.int64) if classes else None
    for part in flow.modules():
        if isinstance(part, ActNorm):
            part._started = True  # there are no data to start from, nor values to lose
    parameters = sum(parameter.nbytes for parameter in flow.parameters())
    with Held() as held:
        flow(images, labels).mean().backward()
    return 3 * parameters + held.peak


def needed_card(config: FlowConfig, batch_size: int) -> str:
    """What card a flow needs, in words: the memory of its training step, plain and reversible.

    >>> print(needed_card(FlowConfig((3, 16, 16), levels=2, steps=2, hidden_channels=64), 256))
    a training step of 256 images takes 0.03 GiB, 0.02 GiB with --reversible; what libraries work in comes on top
    """
    plain, reversible = (step_memory(config, batch_size, reversible=kind) / 2**30 for kind in (False, True))
    return (
        f"a training step of {batch_size} images takes {plain:.2f} GiB, {reversible:.2f} GiB with --reversible; what "
        "libraries work in comes on top"
    )
