"""The paper's experiments: their sizes by hand, where their values come from, and how the command line shows them."""

from __future__ import annotations

import re

import pytest
import torch

from nflows_woodbury.cli.main import main
from nflows_woodbury.train.presets import PRESETS, overview, parameters_of, preset, settings_of, with_changes

#: level by level, for sizes 32, 64, 96, 128 and 256: channels after the squeeze, and the side of the image
DATA_SETS = {
    "cifar10": (8, 512, [(12, 16), (24, 8), (48, 4)]),
    "imagenet32": (8, 512, [(12, 16), (24, 8), (48, 4)]),
    "imagenet64": (16, 512, [(12, 32), (24, 16), (48, 8), (96, 4)]),
    "lsun-church96": (16, 256, [(12, 48), (24, 24), (48, 12), (96, 6), (192, 3)]),
    "celeba-hq64": (16, 512, [(12, 32), (24, 16), (48, 8), (96, 4)]),
    "celeba-hq128": (24, 256, [(12, 64), (24, 32), (48, 16), (96, 8), (192, 4)]),
    "celeba-hq256": (16, 256, [(12, 128), (24, 64), (48, 32), (96, 16), (192, 8), (384, 4)]),
}
#: batch size, bits and temperature of the samples, where the paper has one
TABLE = {
    "cifar10": (64, 8, None),
    "imagenet32": (64, 8, None),
    "imagenet64": (32, 8, None),
    "lsun-church96": (16, 5, 0.875),
    "celeba-hq64": (8, 5, 0.7),
    "celeba-hq128": (4, 5, 0.7),
    "celeba-hq256": (4, 5, 0.7),
}
CHANNEL_RANKS = {3: (8, 8, 16), 4: (8, 8, 16, 16), 5: (8, 8, 16, 16, 16), 6: (8, 8, 16, 16, 16, 16)}
PIXEL_RANKS = {3: (16, 16, 8), 4: (16, 16, 8, 8), 5: (16, 16, 16, 8, 8), 6: (16, 16, 16, 16, 8, 8)}
WIDTHS = {  # of spline and MaCow: the paper's at 32 and 64 pixels, 224/512 and 296/512 of 256 above
    "spline": {32: 256, 64: 224, 96: 112, 128: 112, 256: 112},
    "macow": {32: 384, 64: 296, 96: 148, 128: 148, 256: 148},
}


def mixing_parameters(step: str, c: int, side: int, dc: int, ds: int) -> int:
    if step == "woodbury":
        return 2 * dc * c + 2 * ds * side**2
    if step == "me-woodbury":
        return 2 * dc * c + 2 * ds * side + 2 * ds * side
    if step == "emerging":  # a 1x1 convolution and two of 2x2 taps with a diagonal
        return c * c + 2 * (4 * c * c + c)
    if step == "periodic":
        return 9 * c * c
    return c * c


def coupling_parameters(step: str, c: int, hidden: int) -> int:
    if step == "macow":  # 4 couplings, 2x3 then 1x1 convolutions, an ActNorm before each two
        return 4 * ((6 * c + 1) * hidden + (hidden + 1) * 2 * c) + 2 * 2 * c
    per_channel = 4 + 4 + 3 if step == "spline" else 2  # widths, heights and inner slopes of 4 bins; shift and scale
    half = c // 2
    return (9 * half + 1) * hidden + (hidden + 1) * hidden + (9 * hidden + 1) * half * per_channel


@pytest.mark.parametrize("name", PRESETS)
def test_parameter_counts_are_those_computed_by_hand(name: str) -> None:
    step = next(
        s for s in ("me-woodbury", "conv1x1", "emerging", "periodic", "spline", "macow", "woodbury") if s in name
    )
    steps, hidden, levels = DATA_SETS[name.removesuffix(f"-{step}")]
    hidden = WIDTHS[step][2 * levels[0][1]] if step in WIDTHS else hidden
    total = 0
    ranks = zip(CHANNEL_RANKS[len(levels)], PIXEL_RANKS[len(levels)], strict=True)
    for (c, side), (dc, ds) in zip(levels, ranks, strict=True):
        actnorm = 2 * c
        total += steps * (actnorm + mixing_parameters(step, c, side, dc, ds) + coupling_parameters(step, c, hidden))
        last = (c, side) == levels[-1]
        total += 2 * c * side**2 if last else (9 * c // 2 + 1) * c  # mean and scale of the latents
    row = next(line for line in overview([name]) if line.startswith(name))
    assert row.split()[-1] == f"{total:,}"


@pytest.mark.parametrize("name", PRESETS)
def test_stored_parameter_counts_are_those_of_the_models(name: str) -> None:
    with torch.device("meta"):  # shapes only
        flow = settings_of(name)[0].build()
    assert parameters_of(name) == sum(parameter.numel() for parameter in flow.parameters())


def test_every_value_of_the_papers_table_is_marked_as_its_own() -> None:
    for name in PRESETS:
        settings = preset(name)
        for key in ("size", "bits", "batch_size", "levels", "steps", "mixing", "coupling", "learning_rate"):
            assert settings[key].source == "paper"
        sources = {source for _, source in settings.values()}
        assert all(source in ("paper", "authors' code") or source.startswith("ours: ") for source in sources)
    ours = {name for name in PRESETS if preset(name)["hidden_channels"].source != "paper"}
    assert ours == {name for name in PRESETS if re.search("(96|128|256)-(spline|macow)", name)}
    ours = {n for n in PRESETS if "pixel_ranks" in preset(n) and preset(n)["pixel_ranks"].source != "paper"}
    assert ours == {name for name in PRESETS if re.search("(lsun|celeba).*-me-woodbury", name)}
    held_out = {name for name in PRESETS if preset(name).get("test_images", (None,))[0] == 3000}
    assert held_out == {name for name in PRESETS if name.startswith("celeba-hq")}


def test_training_is_that_of_the_papers_table() -> None:
    for name in PRESETS:
        flow, training = settings_of(name)
        batch, bits, temperature = TABLE[next(data for data in TABLE if name.startswith(f"{data}-"))]
        assert (training.batch_size, flow.bits, training.temperature) == (batch, bits, temperature or 1)
        assert (preset(name)["temperature"].source == "paper") == (temperature is not None)
        assert (training.learning_rate, training.schedule, flow.dequantize) == (1e-3, "constant", "uniform")


def test_where_the_paper_is_silent_the_authors_code_is_cited() -> None:
    for name in PRESETS:
        _, training = settings_of(name)
        assert (training.betas, preset(name)["betas"].source) == ((0.9, 0.999), "paper")
        assert (training.clip_value, training.clip_norm, training.weight_decay, training.flip) == (5, 100, 2e-7, False)
        for key in ("clip_value", "clip_norm", "weight_decay", "flip"):
            assert preset(name)[key].source == "authors' code"


def test_every_value_is_a_setting_and_fits() -> None:
    assert len(PRESETS) == 49
    for name in PRESETS:
        flow, training = settings_of(name)
        assert set(preset(name)) - {"size"} <= {*flow.to_dict(), *training.to_dict()}
        assert flow.shape == (3, training.size, training.size) and training.preset == name


def test_changes_win_and_another_mixing_drops_the_ranks() -> None:
    assert with_changes("cifar10-woodbury", {"batch_size": 8})["batch_size"] == 8
    assert "pixel_ranks" not in with_changes("cifar10-woodbury", {"mixing": "conv1x1"})
    assert with_changes("cifar10-woodbury", {"mixing": "me-woodbury"})["pixel_ranks"] == (16, 16, 8)


def test_presets_are_listed_and_shown(capsys) -> None:
    assert main(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["preset", *PRESETS]
    assert main(["presets", "show", "celeba-hq64-woodbury"]) == 0
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert shown["max_steps"].split() == ["600000", "paper"] and shown["pixel_ranks"].startswith("16 16 8 8")
    assert main(["presets", "show"]) == 2
    assert main(["presets", "show", "cifar10-woodbery"]) == 2
    assert "must be one of cifar10-woodbury" in capsys.readouterr().err
