"""Runs tests on a copy of the package, mutated or not, in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from table import Mutation

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 600  # seconds for the tests of one row
COPIED = ("nflows_woodbury", "tests", "conftest.py", "pyproject.toml")  # what the tests of any row need

# Processes begin as copies of one that has imported what is slow to import; nothing of the package or its tests.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["nflows.flows", "normflows", "pytest", "pytorch_lightning", "scipy.linalg", "skimage"])


class Result(NamedTuple):
    """What the tests of one row said."""

    verdict: str  # "passed", "failed" or what else happened
    seconds: float
    failed: str  # the first test that did, or the last lines where none ran


class Tested:
    """A plugin for pytest that fails a session whose tests ran against another package than the copy's."""

    def __init__(self, copy: Path) -> None:
        self.copy = copy

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        package = Path(sys.modules["nflows_woodbury"].__file__)
        print(f"\ntested: {package}")
        if not package.is_relative_to(self.copy):
            session.exitstatus = 70


def snapshot(folder: Path) -> Path:
    """Copy what the tests need."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, folder)
    return folder


def run_copy(base: Path, tests: str, mutation: Mutation | None = None) -> Result:
    """Run some tests on a copy of the snapshot, mutated if so wished."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve() / "copy"
        shutil.copytree(base, copy)
        if mutation is not None:
            path = copy / "nflows_woodbury" / mutation.file
            path.write_text(mutation.mutated(path.read_text()))
            compile(path.read_text(), path, "exec")
        return _run_tests(copy, tests)


def _run_tests(copy: Path, tests: str) -> Result:
    """Run some tests of a copy, up to the first that fails, in a process of their own."""
    words = [f"tests/{word}" if word.endswith(".py") else word for word in shlex.split(tests)]
    log, start = copy / "log", time.perf_counter()
    process = SERVER.Process(target=_pytest, args=(copy, words, log))
    process.start()
    process.join(LIMIT)
    seconds = time.perf_counter() - start
    if process.is_alive():
        process.terminate()
        return Result("too slow", seconds, "")
    lines = log.read_text().splitlines()
    failed = next((line for line in lines if line.startswith(("FAILED tests/", "ERROR tests/"))), "")
    failed = failed.partition("tests/")[2].partition(" - ")[0]
    verdict = {0: "passed", 1: "failed"}.get(process.exitcode or 0, f"exit status {process.exitcode}")
    if f"tested: {copy / 'nflows_woodbury' / '__init__.py'}" not in lines:
        verdict = "did not test the copy"
    if verdict == "failed" and "::" not in failed:
        verdict = "broken"  # could not even be imported, which says nothing about the tests
    return Result(verdict, seconds, failed if verdict in ("passed", "failed") else " | ".join(lines[-5:]))


def _pytest(copy: Path, words: list[str], log: Path) -> None:
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)  # for tests that start Python
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # slow to import, and needed by none of the tests
    sys.dont_write_bytecode = True
    here = Path(__file__).parent
    checkout = {str(ROOT), str(ROOT / "tests" / "helpers"), str(here)}  # of the tables, and of an editable install
    sys.path[:] = [str(copy), *(path for path in sys.path if path not in checkout)]
    sys.exit(pytest.main(["-x", "-q", "--tb=no", "-p", "no:cacheprovider", *words], plugins=[Tested(copy)]))
