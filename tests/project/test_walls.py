"""The package is a house of rooms: each knows only rooms below it, and nothing in it is large."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "nflows_woodbury"
FILES = sorted(PACKAGE.rglob("*.py"))
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())

#: from below to above; rooms of a line know nothing of each other
ORDER = [
    ["checks", "files", "optional"],
    ["linalg", "data"],
    ["transforms"],
    ["flow", "normflows"],
    ["config"],
    ["checkpoint"],
    ["evaluation"],
    ["train"],
    ["cli"],
]
HEIGHT = {room: height for height, rooms in enumerate(ORDER) for room in rooms}
# the front doors: ``import nflows_woodbury`` finds flows and transforms on first use, ``python -m`` starts the command
HEIGHT |= {"__init__": HEIGHT["flow"] + 0.5, "__main__": len(ORDER)}


def module_of(file: Path) -> str:
    """``nflows_woodbury.linalg.low_rank`` for its file; a package's name for its ``__init__.py``."""
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file): file for file in FILES}


def room_of(module: str) -> str:
    """The file or folder at the package's root that holds a module; of the package itself, its ``__init__``."""
    return module.split(".")[1] if "." in module else "__init__"


@cache
def imports_of(file: Path) -> frozenset[str]:
    """The modules that a file imports, also in functions, for type checkers, and by name with ``import_extra``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are written out in full"
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
            found |= inner if len(inner) == len(node.names) else {*inner, node.module}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("import_extra", "import_module"):
            found |= {node.args[0].value} if isinstance(node.args[0], ast.Constant) else set()
    return frozenset(found)


def inner_imports(file: Path) -> Iterator[str]:
    """The modules of the package that a file imports, itself aside."""
    for name in imports_of(file):
        if name in MODULES and name != module_of(file):
            yield name


@each_file
def test_a_room_knows_only_rooms_below_it(file: Path) -> None:
    room = room_of(module_of(file))
    for name in inner_imports(file):
        assert room_of(name) == room or HEIGHT[room_of(name)] < HEIGHT[room], f"{name} is not below {room}"


def test_every_room_has_its_height() -> None:
    assert {room_of(module) for module in MODULES} == {*HEIGHT}


def test_modules_import_each_other_in_no_circle() -> None:
    graph = {module_of(file): {*inner_imports(file)} for file in FILES}
    while free := [module for module, needed in graph.items() if not needed & graph.keys()]:
        for module in free:
            del graph[module]
    assert not graph


@each_file
def test_lightning_is_known_to_train_alone(file: Path) -> None:
    if file.parent.name != "train":
        assert not {name.split(".")[0] for name in imports_of(file)} & {"pytorch_lightning", "lightning"}


def test_the_root_of_the_package_is_seen_at_a_glance() -> None:
    assert len([path for path in PACKAGE.iterdir() if path.name != "__pycache__"]) <= 16


@each_file
def test_no_file_is_long(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 250


@each_file
def test_no_function_is_long(file: Path) -> None:
    """At most 40 lines from its ``def`` on, its docstring not counted: documentation may take the room it needs."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = node.body[0] if ast.get_docstring(node) is not None else None
            documented = docstring.end_lineno - docstring.lineno + 1 if docstring else 0
            assert node.end_lineno - node.lineno + 1 - documented <= 40, f"line {node.lineno}: {node.name}"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout without ``train`` and ``cli``."""
    copy = tmp_path_factory.mktemp("library")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, copy / "nflows_woodbury", ignore=lambda *_: {*ignored(*_), "train", "cli"})
    for name in ("tests/helpers", "tests/linalg", "tests/transforms"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("pyproject.toml", "conftest.py"):
        shutil.copy(ROOT / name, copy)
    return copy


def python(copy: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_PROFILE": "quick"}
    return subprocess.run([sys.executable, *words], cwd=copy, env=environment, capture_output=True, text=True)


def test_the_library_alone_imports_and_builds_a_flow(library: Path) -> None:
    code = f"""
import importlib, torch
from functools import partial
for module in {[module for module in MODULES if room_of(module) not in ("train", "cli", "__main__")]}:
    importlib.import_module(module)
from nflows_woodbury import AffineCoupling, WoodburyTransform, image_flow
parts = {{"mixing": partial(WoodburyTransform, ranks=(2, 4)), "coupling": partial(AffineCoupling, hidden_channels=8)}}
flow = image_flow((3, 8, 8), levels=2, steps=1, **parts)
print(importlib.import_module("nflows_woodbury").__file__, *flow.sample(5).shape)
"""
    done = python(library, "-W", "ignore", "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(library / "nflows_woodbury" / "__init__.py"), "5", "3", "8", "8"]


def test_the_library_alone_passes_the_tests_of_linalg_and_transforms(library: Path) -> None:
    laws = [f"tests/transforms/test_{name}.py" for name in ("laws", "dense")]
    selection = "(float64 or dense_twin) and 4x4x4 or of_the_dense_matrix or triangular_matrix or fused_chain"
    words = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", selection]
    done = python(library, *words, "tests/linalg", *laws)
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.split(" passed")[0].split()[-1]) > 200
