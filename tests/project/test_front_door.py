"""What an import of the package loads: no more than torch and nflows, which it stands on."""

from __future__ import annotations

import subprocess
import sys

HOSTS = "import torch, nflows.transforms, nflows.distributions"


def loaded(code: str) -> set[str]:
    code += "\nimport sys; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_layer_loads_nothing_besides_torch_and_nflows() -> None:
    more = loaded("from nflows_woodbury import WoodburyTransform, image_flow") - loaded(HOSTS)
    assert {name.split(".")[0] for name in more} == {"nflows", "nflows_woodbury"}


def test_the_package_alone_loads_nothing() -> None:
    assert not {"torch", "nflows", "normflows", "numpy"} & loaded("import nflows_woodbury")


def test_importing_the_package_pulls_in_no_extra_and_patches_nothing() -> None:
    code = """
import sys, nflows.transforms, normflows.flows
before = {m.__name__: dict(vars(m)) for m in (nflows.transforms, normflows.flows)}
import nflows_woodbury, nflows_woodbury.transforms, nflows_woodbury.flow, nflows_woodbury.config
assert nflows_woodbury.WoodburyTransform is nflows_woodbury.transforms.WoodburyTransform
assert not {"pytorch_lightning", "skimage"} & set(sys.modules)
assert all(vars(sys.modules[name]) == values for name, values in before.items())
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code]).returncode == 0
