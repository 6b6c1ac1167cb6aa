"""What pytest is told once for all tests: what to leave out, and the trained run that examples in docstrings read."""

from __future__ import annotations

import signal
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

collect_ignore = ["tests/mutations"]  # a script with imports of its own
if find_spec("pytorch_lightning"):
    collect_ignore.append("tests/project/test_wheel.py")  # tox -e wheel runs it, where no extras are installed


def pytest_configure() -> None:
    """Listen to Ctrl-C and a lost terminal, which jobs in the background are told to ignore: tests send both."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests marked ``cuda`` where there is no such device."""
    on_cuda = [item for item in items if item.get_closest_marker("cuda")]
    if on_cuda and not torch.cuda.is_available():
        config.hook.pytest_deselected(items=on_cuda)
        items[:] = [item for item in items if not item.get_closest_marker("cuda")]


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 steps on 16 x 16 images that nothing interrupts, through the command line; for reading only."""
    from running import TINY, run  # which needs Lightning

    out = tmp_path_factory.mktemp("runs") / "whole"
    assert run("train", *TINY, "--max-steps", 12, "--every", 4, "--warmup-steps", 2, "--out", out) == 0
    return out


@pytest.fixture(autouse=True)
def _run_folder_of_docstrings(request: pytest.FixtureRequest, doctest_namespace: dict[str, object]) -> None:
    """In docstrings ``run_folder`` is that run's: their examples read it, and so it is trained once."""
    examples = request.node.dtest.examples if isinstance(request.node, pytest.DoctestItem) else []
    if any("run_folder" in example.source for example in examples):
        doctest_namespace["run_folder"] = str(request.getfixturevalue("whole"))
