"""Names as data: they are those of the library, and their constructors go where classes go."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
import torch

import nflows_woodbury
from nflows_woodbury.config import COUPLINGS, DEQUANTIZERS, MIXINGS, START_NAMES
from nflows_woodbury.linalg.starts import STARTS


def test_names_of_starts_are_those_of_the_starts() -> None:
    assert set(START_NAMES) == set(STARTS)


@pytest.mark.parametrize("name", MIXINGS)
def test_mixings_are_classes_that_pickle(name: str) -> None:
    mixing = pickle.loads(pickle.dumps(MIXINGS[name](2, 3)))
    layer = mixing((4, 4, 4))
    assert getattr(nflows_woodbury, type(layer).__name__) is type(layer)


@pytest.mark.parametrize("name", COUPLINGS)
def test_couplings_pickle(name: str) -> None:
    coupling = pickle.loads(pickle.dumps(COUPLINGS[name]))
    assert coupling == COUPLINGS[name] and isinstance(coupling((4, 4, 4), 6), torch.nn.Module)


def test_the_variational_dequantizer_pickles() -> None:
    assert pickle.loads(pickle.dumps(DEQUANTIZERS["variational"])) == DEQUANTIZERS["variational"]


LIGHT = ["config", "checks", "files", "optional", "train.config", "train.presets", "cli.main"]


@pytest.mark.parametrize("module", LIGHT)
def test_settings_need_no_torch(module: str) -> None:
    code = f"import sys, nflows_woodbury.{module}\nassert not {{'torch', 'nflows', 'numpy'}} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
