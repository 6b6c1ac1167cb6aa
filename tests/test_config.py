"""Names as data: they are those of the library, and their constructors go where classes go."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
import torch

import nflows_woodbury
from nflows_woodbury import Chain, HaarSqueeze, LowRankTransform, Squeeze
from nflows_woodbury.config import (
    COUPLINGS,
    DEQUANTIZERS,
    IDENTITY,
    MIXINGS,
    SQUEEZES,
    START_NAMES,
    FlowConfig,
    compose,
    has_ranks,
)
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


@pytest.mark.parametrize("second", MIXINGS)
@pytest.mark.parametrize("first", ["emerging", "woodbury"])
def test_any_mixings_are_joined_by_plus_and_the_second_starts_as_the_identity(first: str, second: str) -> None:
    name, shape = f"{first}+{second}", (12, 6, 5)
    assert name in MIXINGS and name not in list(MIXINGS) and IDENTITY.keys() == MIXINGS.keys()
    torch.manual_seed(0)
    mixing = pickle.loads(pickle.dumps(MIXINGS[name](4, 6)))
    chain = mixing(shape)
    torch.manual_seed(0)
    alone, inputs = MIXINGS[first](4, 6)(shape), torch.randn(3, *shape)
    assert type(chain) is Chain and [type(part) for part in chain] == [type(alone), type(MIXINGS[second](4, 6)(shape))]
    torch.testing.assert_close(chain[0](inputs), alone(inputs))
    outputs, logabsdet = chain[1](inputs)
    assert (outputs - inputs).norm() < 0.25 * inputs.norm() and (logabsdet.abs() < 0.01 * inputs[0].numel()).all()


def test_mixings_joined_by_a_comma_take_turns_from_step_to_step_of_each_level() -> None:
    name = "emerging,conv1x1+woodbury"
    assert name in MIXINGS and "emerging," not in MIXINGS and has_ranks(name) and not has_ranks("emerging,conv1x1")
    flow = FlowConfig((3, 8, 8), levels=2, steps=3, mixing=name, pixel_ranks=(4, 3), hidden_channels=4).build()
    steps = [step[1] for level in flow._transform[1].levels for step in level if type(step) is Chain]
    assert [type(mixing).__name__ for mixing in steps] == 2 * ["EmergingConvolution", "Chain", "EmergingConvolution"]
    updates = [part for mixing in steps for part in mixing.modules() if isinstance(part, LowRankTransform)]
    assert [update.rank for update in updates] == [8, 4, 8, 3]
    with pytest.raises(ValueError, match="steps must be at least the turns of emerging,woodbury, got 1"):
        FlowConfig(steps=1, mixing="emerging,woodbury")


def test_each_mixing_of_a_chain_gets_its_own_settings() -> None:
    chain = compose("woodbury+conv1x1-plu+me-woodbury", 3, 5, start="paper")((6, 4, 4))
    ranks = [part.rank for part in chain.modules() if isinstance(part, LowRankTransform)]
    assert ranks == [3, 5, 3, 5, 5]
    assert all(part.U.abs().max() < 0.1 for part in chain.modules() if isinstance(part, LowRankTransform))
    config = FlowConfig(
        (1, 8, 8),
        levels=2,
        steps=1,
        mixing="emerging+woodbury",
        channel_ranks=(2, 3),
        pixel_ranks=(4, 1),
        start="paper",
    )
    updates = [part for part in config.build().modules() if isinstance(part, LowRankTransform)]
    assert [update.rank for update in updates] == [2, 4, 3, 1]
    assert FlowConfig.from_dict(config.to_dict()) == config


def test_names_that_are_not_there_are_refused_in_chains_too() -> None:
    for name in ("emerging+", "+woodbury", "emerging+wodbury", "emerging++woodbury", "emerging woodbury"):
        assert name not in MIXINGS
        with pytest.raises(ValueError, match="mixing must be one of butterfly, "):
            FlowConfig(mixing=name)
        with pytest.raises(KeyError):
            MIXINGS[name]
    with pytest.raises(ValueError, match=r"channel_ranks must be None for emerging\+finc, which has no ranks"):
        FlowConfig(mixing="emerging+finc", channel_ranks=(1, 2, 3))
    with pytest.raises(ValueError, match=r"start must be 'default' for emerging\+finc, which has no factors"):
        FlowConfig(mixing="emerging+finc", start="paper")
    assert has_ranks("emerging+me-woodbury") and not has_ranks("emerging+finc")


def test_levels_begin_with_the_squeeze_of_that_name() -> None:
    for name, kind in [("pixels", Squeeze), ("haar", HaarSqueeze)]:
        flow = FlowConfig((1, 8, 8), levels=2, steps=1, mixing="conv1x1", squeeze=name, hidden_channels=4).build()
        assert [type(level[0]) for level in flow._transform[1].levels] == [kind, kind]
        images = torch.randint(256, (8, 1, 8, 8), dtype=torch.uint8)
        flow.initialize(images)
        flow = flow.double()
        assert torch.equal(flow.transform_from_noise(flow.transform_to_noise(images)), images)
    assert list(SQUEEZES) == ["pixels", "haar"] and FlowConfig().squeeze == "pixels"
    with pytest.raises(ValueError, match="squeeze must be one of haar, pixels; got 'wavelet'"):
        FlowConfig(squeeze="wavelet")


LIGHT = ["config", "checks", "files", "optional", "train.config", "train.presets", "cli.main"]


@pytest.mark.parametrize("module", LIGHT)
def test_settings_need_no_torch(module: str) -> None:
    code = f"import sys, nflows_woodbury.{module}\nassert not {{'torch', 'nflows', 'numpy'}} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
