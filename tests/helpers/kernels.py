"""What a call asks of a device: how many kernels it launches, and whether the host waits for one of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# what makes or renames memory, or asks for a dtype, and computes nothing
FREE = {
    "aten::detach",
    "aten::_unsafe_view",
    "aten::_reshape_alias",
    "aten::empty_like",
    "aten::new_empty",
    "aten::new_empty_strided",
    "aten::lift_fresh",
    "aten::promote_types",
}


class Kernels(TorchDispatchMode):
    """Counts the operations that are not views, by their names."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if not func.is_view and name not in FREE:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        return self.counts.total()


class NoStalls(TorchDispatchMode):
    """Refuses what makes the host wait for the meta device: reading a value, a shape that depends on values, a copy."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func._schema.name, kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if any(tensor.is_meta for tensor in tensors):
            reads = name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal")
            masks = name == "aten::index" and any(
                index is not None and str(index.dtype) in ("torch.bool", "torch.uint8") for index in args[1]
            )
            copies = name in ("aten::_to_copy", "aten::copy_") and (
                str(kwargs.get("device") or "meta") == "cpu" or (name == "aten::copy_" and not args[0].is_meta)
            )
            if reads or masks or copies:
                raise AssertionError(f"{name} makes the host wait for the device")
        return func(*args, **kwargs)
