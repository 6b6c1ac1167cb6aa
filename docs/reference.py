"""The reference's pages, one for each module, from its ``__all__``: a new public name needs no line here."""

from __future__ import annotations

import contextlib
import io
import pkgutil
import re
from doctest import SKIP, DocTestParser
from importlib import import_module
from inspect import getdoc, isclass, isfunction, isroutine
from pathlib import Path
from types import ModuleType

import nflows_woodbury
from nflows_woodbury.cli.main import COMMANDS, main

#: the command line has a page of its own, readers are in data.opening
INTERNAL = {
    *("checks", "cli", "files", "optional", "precision", "constructors"),
    *("batches", "run", "saved", "environment", "signals", "compared", "comparison"),
    *("replay", "blocks"),  # of Reversible
    *("wavefronts", "anomalies", "condition"),
    *("arrays", "cache", "cifar10", "decoding", "folder", "huggingface", "imagenet"),
    *("fingerprints", "layout", "splits", "tables", "walking"),
}
#: names of types, which the index explains
ALIASES = {"Base", "Condition", "Conv", "Factors", "Net", "Padding", "Part", "Shape", "Start"}
UNLISTED_METHODS = {"extra_repr"}

CLASS = """
.. autoclass:: {name}
   :show-inheritance:
   :members: {members}
   :member-order: bysource
"""
FUNCTION = """
.. autofunction:: {name}
"""
DATA = """
.. autodata:: {name}
   :no-value:
"""
PAGE = """{title}
{line}

.. automodule:: {module}
   :no-members:

.. currentmodule:: {module}

{entries}
"""
INDEX = """API reference
=============

Every public name of every module. What the package exports itself is imported from ``nflows_woodbury``, the rest from
its module. Layers keep one contract, that of an nflows ``Transform``: ``forward(inputs, context=None)`` maps data to
noise, ``inverse(inputs, context=None)`` noise to data, and both return ``(outputs, logabsdet)`` with ``logabsdet`` of
shape ``(B,)``, in natural units (nats), float32 or wider.

Shapes are written as in ``(B, c, h, w)``: batch, channels, height, width. These names stand for types in signatures:

.. py:module:: nflows_woodbury
.. py:module:: nflows_woodbury.flow
.. py:module:: nflows_woodbury.transforms
.. py:module:: nflows_woodbury.normflows
.. py:module:: nflows_woodbury.config
.. py:currentmodule:: None

.. py:data:: Shape
   :module:
   :no-contents-entry:

   ``tuple[int, ...]``: channels, height and width of one image, ``(c, h, w)``, or channels and sizes of one field.

.. py:data:: Part
   :module:
   :no-contents-entry:

   ``Callable[[Shape], Transform]``: what makes a mixing or a coupling for a shape, such as
   ``partial(WoodburyTransform, ranks=(8, 16))``.

.. py:data:: Base
   :module:
   :no-contents-entry:

   ``Callable[[int], Distribution]``: what makes a distribution of so many features.

.. py:data:: Net
   :module:
   :no-contents-entry:

   ``Callable[[int, int, int | None], Module]``: what makes a conditioner for channels in, channels out and features of
   the context, such as ``partial(ResidualNet, hidden_channels=64)``.

.. py:data:: Padding
   :module:
   :no-contents-entry:

   ``Callable[[Shape, Sequence[int]], Transform]``: what makes a padding from a shape to larger sizes, such as ``Pad``.

.. py:data:: Conv
   :module:
   :no-contents-entry:

   ``Linear``, ``Conv1d``, ``Conv2d`` or ``Conv3d`` of ``torch.nn``.

.. py:data:: Condition
   :module:
   :no-contents-entry:

   What makes features of a given image for each level; see ``condition`` of :func:`~nflows_woodbury.flow.image_flow`.

.. py:data:: Start
   :module:
   :no-contents-entry:

   A name in :data:`nflows_woodbury.linalg.starts.STARTS`, or a function ``(n, d) -> (U, V)``.

.. py:data:: Factors
   :module:
   :no-contents-entry:

   ``tuple[Tensor, Tensor]``: ``U`` (n, d) and ``V`` (d, n) of ``I_n + U V``.

{tables}

.. toctree::
   :hidden:

{pages}
   cli
"""
COMMAND_LINE = """Command line
============

The command ``nflows-woodbury`` comes with the package, and ``python -m nflows_woodbury`` is the same; ``train`` needs
the extra ``nflows-woodbury[train]``. It exits with 0, or with 2 and one line on standard error for a bad argument or
file; ``--debug`` shows the traceback instead.

{commands}
"""


def modules() -> list[ModuleType]:
    """The documented modules that have an ``__all__``: the flow first, then the layers, then the rest."""
    found = pkgutil.walk_packages(nflows_woodbury.__path__, "nflows_woodbury.")
    last = {info.name: info.name.rsplit(".", 1)[1] for info in found if not info.ispkg}
    kept = [name for name, short in last.items() if INTERNAL.isdisjoint(name.split(".")) and not short.startswith("_")]

    def place(name: str) -> tuple[bool, bool, str]:
        return not name.startswith("nflows_woodbury.flow."), not name.startswith("nflows_woodbury.transforms."), name

    return [import_module(name) for name in sorted(kept, key=place)]


def public_name(module: ModuleType, name: str) -> str:
    """Where readers import it from: the package if that exports it, else its module."""
    exported = name in nflows_woodbury.__all__ and getattr(nflows_woodbury, name) is getattr(module, name)
    return f"{'nflows_woodbury' if exported else module.__name__}.{name}"


def entries(module: ModuleType) -> list[str]:
    """What the page of a module lists, in the order of ``__all__``."""
    return [name for name in module.__all__ if name not in ALIASES]


def own_methods(cls: type) -> list[str]:
    """Public methods with a docstring that the class has from this package, ``forward`` and ``inverse`` first."""
    names = [
        name
        for base in reversed(cls.__mro__)
        if base.__module__.startswith("nflows_woodbury")
        for name, value in vars(base).items()
        if not name.startswith("_") and name not in UNLISTED_METHODS
        and (isroutine(value) or isinstance(value, property)) and getdoc(value)
    ]  # fmt: skip
    return sorted(set(names), key=lambda name: (name != "forward", name != "inverse", name))


def write_pages(folder: Path) -> None:
    """Write the index, a page for each module and one for the command line; what stays the same is not touched."""
    folder.mkdir(exist_ok=True)
    texts = {"cli": _command_line()}
    tables = []
    for module in modules():
        page = _short(module)
        texts[page] = _page(module)
        summary = (getdoc(module) or "").split("\n\n")[0].replace("\n", " ")
        head = f":doc:`{page} <{page}>`"
        tables.append(f".. rubric:: {head}\n\n{summary}\n\n{_table(module)}")
    pages = "\n".join(f"   {_short(module)}" for module in modules())
    texts["index"] = INDEX.format(tables="\n\n".join(tables), pages=pages)
    for file in folder.glob("*.rst"):
        if file.stem not in texts:
            file.unlink()
    for name, text in texts.items():
        file = folder / f"{name}.rst"
        if not file.exists() or file.read_text() != text:
            file.write_text(text)


def public_names() -> set[str]:
    """Every name that the reference has to have: those of the modules' pages, and what the package exports."""
    exported = {f"nflows_woodbury.{name}" for name in nflows_woodbury.__all__}
    return exported | {public_name(module, name) for module in modules() for name in entries(module)}


def without_example() -> list[str]:
    """Public names that no doctest uses: of their own docstring or, for data, which has none, of their module's."""
    return [
        public_name(module, name) for module in modules() for name in entries(module) if not _has_example(module, name)
    ]


def _has_example(module: ModuleType, name: str) -> bool:
    value = getattr(module, name)
    examples = DocTestParser().get_examples((module if _is_data(value) else value).__doc__ or "")
    return any(re.search(rf"\b{name}\b", example.source) for example in examples if SKIP not in example.options)


def _is_data(value: object) -> bool:
    return not (isclass(value) or isfunction(value))


def _short(module: ModuleType) -> str:
    return module.__name__.removeprefix("nflows_woodbury.")


def _page(module: ModuleType) -> str:
    title = _short(module)
    body = "\n".join(_entry(module, name) for name in entries(module))
    return PAGE.format(title=title, line="=" * len(title), module=module.__name__, entries=body)


def _table(module: ModuleType) -> str:
    names = "\n".join(f"   ~{public_name(module, name)}" for name in entries(module))
    return f".. autosummary::\n   :nosignatures:\n\n{names}\n"


def _entry(module: ModuleType, name: str) -> str:
    value, full = getattr(module, name), public_name(module, name)
    if isclass(value):
        return CLASS.format(name=full, members=", ".join(own_methods(value)))
    return (DATA if _is_data(value) else FUNCTION).format(name=full)


def _command_line() -> str:
    parts = []
    for name in COMMANDS:
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            main([name, "--help"])
        body = "\n".join(f"   {line}".rstrip() for line in text.getvalue().splitlines())
        parts.append(f"{name}\n{'-' * len(name)}\n\n.. code-block:: text\n\n{body}\n")
    return COMMAND_LINE.format(commands="\n".join(parts))


if __name__ == "__main__":
    print("public names without an example:", *without_example(), sep="\n  ")
