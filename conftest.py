"""What pytest is told once for all tests: what to leave out, and the trained run that examples in docstrings read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

collect_ignore = ["tests/mutations"]  # a script with imports of its own


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests marked ``cuda`` where there is no such device."""
    on_cuda = [item for item in items if item.get_closest_marker("cuda")]
    if on_cuda and not torch.cuda.is_available():
        config.hook.pytest_deselected(items=on_cuda)
        items[:] = [item for item in items if not item.get_closest_marker("cuda")]


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one step on tiny images, trained through the command line; for reading only."""
    from nflows_woodbury.cli.main import main

    folder = tmp_path_factory.mktemp("trained") / "run"
    words = "train --size 8 --levels 1 --steps 1 --hidden-channels 8 --max-steps 1 --quiet --out"
    assert main([*words.split(), str(folder)]) == 0
    return folder


@pytest.fixture(autouse=True)
def _run_folder_of_docstrings(request: pytest.FixtureRequest, doctest_namespace: dict[str, object]) -> None:
    """In docstrings ``run_folder`` is that folder: their examples read one run, trained when the first asks for it."""
    examples = request.node.dtest.examples if isinstance(request.node, pytest.DoctestItem) else []
    if any("run_folder" in example.source for example in examples):
        doctest_namespace["run_folder"] = str(request.getfixturevalue("trained_run"))
