"""Inventories for intersphinx, from a short table: links to Python and torch that a build needs no network for."""

from __future__ import annotations

import zlib
from pathlib import Path

PYTHON = {
    **{f"py:class {name}": f"library/functions.html#{name}" for name in ("bool", "float", "int", "object", "type")},
    **{f"py:class {name}": f"library/stdtypes.html#{name}" for name in ("bytes", "dict", "list", "str", "tuple")},
    **{
        f"py:exception {name}": f"library/exceptions.html#{name}"
        for name in (
            "AttributeError",
            "FileExistsError",
            "FileNotFoundError",
            "ImportError",
            "NotImplementedError",
            "OSError",
            "RuntimeError",
            "TypeError",
            "ValueError",
        )
    },
    **{
        f"py:class collections.abc.{name}": f"library/collections.abc.html#collections.abc.{name}"
        for name in ("Callable", "Collection", "Iterable", "Iterator", "Mapping", "Sequence")
    },
    "py:class abc.ABC": "library/abc.html#abc.ABC",
    "py:class contextlib.AbstractContextManager": "library/contextlib.html#contextlib.AbstractContextManager",
    "py:class types.FrameType": "library/types.html#types.FrameType",
    "py:class pathlib.Path": "library/pathlib.html#pathlib.Path",
    "py:data typing.Any": "library/typing.html#typing.Any",
    "py:data None": "library/constants.html#None",
    "py:func functools.partial": "library/functools.html#functools.partial",
    "py:class functools.partial": "library/functools.html#functools.partial",
}
TORCH = {
    "py:class torch.Tensor": "tensors.html#torch.Tensor",
    "py:class torch.dtype": "tensor_attributes.html#torch.dtype",
    "py:class torch.device": "tensor_attributes.html#torch.device",
    "py:class torch.autograd.Function": "autograd.html#torch.autograd.Function",
    "py:class torch.optim.Optimizer": "optim.html#torch.optim.Optimizer",
    "py:class torch.optim.optimizer.Optimizer": "optim.html#torch.optim.Optimizer",
    **{
        f"py:class torch.nn.{name}": f"generated/torch.nn.{name}.html#torch.nn.{name}"
        for name in ("Module", "Conv2d", "Embedding", "Parameter")
    },
    "py:class torch.nn.modules.module.Module": "generated/torch.nn.Module.html#torch.nn.Module",
    "py:class torch.nn.modules.conv.Conv1d": "generated/torch.nn.Conv1d.html#torch.nn.Conv1d",
    "py:class torch.nn.modules.conv.Conv2d": "generated/torch.nn.Conv2d.html#torch.nn.Conv2d",
    "py:class torch.nn.modules.conv.Conv3d": "generated/torch.nn.Conv3d.html#torch.nn.Conv3d",
    "py:class torch.nn.modules.linear.Linear": "generated/torch.nn.Linear.html#torch.nn.Linear",
    "py:class torch.nn.modules.normalization.LayerNorm": "generated/torch.nn.LayerNorm.html#torch.nn.LayerNorm",
    "py:class torch._C.Generator": "generated/torch.Generator.html#torch.Generator",
    "py:class torch.Size": "size.html#torch.Size",
    "py:class torch.distributions.transforms.Transform": "distributions.html#torch.distributions.transforms.Transform",
    "py:class torch.utils.data.DataLoader": "data.html#torch.utils.data.DataLoader",
    "py:class torch.utils.data.dataloader.DataLoader": "data.html#torch.utils.data.DataLoader",
    "py:func torch.compile": "generated/torch.compile.html#torch.compile",
    "py:func torch.kron": "generated/torch.kron.html#torch.kron",
}
HEAD = """# Sphinx inventory version 2
# Project: {}
# Version:
# The remainder of this file is compressed using zlib.
"""
SITES = {
    "python": ("https://docs.python.org/3/", PYTHON),
    "torch": ("https://docs.pytorch.org/docs/stable/", TORCH),
}


def write_inventories(folder: Path) -> dict[str, tuple[str, str]]:
    """Write one inventory file for each site, and return what ``intersphinx_mapping`` takes."""
    folder.mkdir(parents=True, exist_ok=True)
    mapping = {}
    for name, (address, table) in SITES.items():
        rows = []
        for key, target in table.items():
            role, title = key.split(" ")
            rows.append(f"{title} {role.replace(':func', ':function')} 1 {target} -\n")
        path = folder / f"{name}.inv"
        path.write_bytes(HEAD.format(name).encode() + zlib.compress("".join(rows).encode()))
        mapping[name] = (address, str(path))
    return mapping
