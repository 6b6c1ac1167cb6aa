"""The paper's experiments as data: every setting of each, and where its value comes from.

Source of what is marked ``paper``: Lu and Huang, Woodbury Transformations for Deep Generative Flows, NeurIPS 2020,
section 5 and appendix; of what is marked ``authors' code``, where the paper is silent: the defaults of the program that
they published, github.com/yolu1055/WoodburyTransformations.

>>> len(PRESETS), PRESETS[:2]
(49, ('cifar10-conv1x1', 'cifar10-emerging'))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

from nflows_woodbury.checks import check_one_of
from nflows_woodbury.config import FlowConfig, has_ranks, paper_ranks
from nflows_woodbury.train.config import TrainingConfig

__all__ = ["PRESETS", "Setting", "describe", "overview", "preset"]


class Setting(NamedTuple):
    """A value and its source: ``"paper"``, ``"authors' code"``, or ``"ours"`` with the reason.

    >>> Setting(512, "paper").value
    512
    >>> value, source = preset("cifar10-woodbury")["warmup_steps"]
    >>> source
    'ours: the paper names no warm-up; Glow has one'
    """

    value: Any
    source: str


def _paper(**values: Any) -> dict[str, Setting]:
    return {name: Setting(value, "paper") for name, value in values.items()}


def _code(**values: Any) -> dict[str, Setting]:
    return {name: Setting(value, "authors' code") for name, value in values.items()}


def _ours(reason: str, **values: Any) -> dict[str, Setting]:
    return {name: Setting(value, f"ours: {reason}") for name, value in values.items()}


_NO_STEPS = "the paper gives 3 to 5 days a run, no number of steps"
_NO_TEMPERATURE = "the paper gives none for this data"

#: name -> settings that go with the images
_DATA_SETS = {
    "cifar10": _paper(size=32, bits=8, batch_size=64, levels=3, steps=8, hidden_channels=512)
    | _ours(_NO_STEPS, max_steps=500_000)
    | _ours(_NO_TEMPERATURE, temperature=1.0),
    "imagenet32": _paper(size=32, bits=8, batch_size=64, levels=3, steps=8, hidden_channels=512)
    | _ours(_NO_STEPS, max_steps=1_000_000)
    | _ours(_NO_TEMPERATURE, temperature=1.0),
    "imagenet64": _paper(size=64, bits=8, batch_size=32, levels=4, steps=16, hidden_channels=512)
    | _ours(_NO_STEPS, max_steps=1_000_000)
    | _ours(_NO_TEMPERATURE, temperature=1.0),
    "lsun-church96": _paper(size=96, bits=5, batch_size=16, levels=5, steps=16, hidden_channels=256, temperature=0.875)
    | _ours(_NO_STEPS, max_steps=500_000),
    "celeba-hq64": _paper(
        size=64, bits=5, batch_size=8, levels=4, steps=16, hidden_channels=512, temperature=0.7, max_steps=600_000,
        test_images=3000,
    ),
    "celeba-hq128": _paper(
        size=128, bits=5, batch_size=4, levels=5, steps=24, hidden_channels=256, temperature=0.7, max_steps=300_000,
        test_images=3000,
    ),
    "celeba-hq256": _paper(
        size=256, bits=5, batch_size=4, levels=6, steps=16, hidden_channels=256, temperature=0.7, max_steps=300_000,
        test_images=3000,
    ),
}  # fmt: skip

#: name -> mixing and coupling of a step; splines and MaCow go with Glow's 1x1 convolution, as in the paper
_STEPS = {
    "conv1x1": ("conv1x1", "affine"),
    "emerging": ("emerging", "affine"),
    "periodic": ("periodic", "affine"),
    "spline": ("conv1x1", "spline"),
    "macow": ("conv1x1", "macow"),
    "woodbury": ("woodbury", "affine"),
    "me-woodbury": ("me-woodbury", "affine"),
}

#: hidden channels by coupling and size of the images; the paper has them up to 64 pixels
_WIDTHS = {"spline": {32: 256, 64: 224}, "macow": {32: 384, 64: 296}}

#: data sets on which the paper has ME-Woodbury; elsewhere its ranks are Woodbury's
_ME_WOODBURY = ("cifar10", "imagenet32", "imagenet64")

#: data set -> trained parameters with each of _STEPS, in that order; a test compares them with the models
_PARAMETERS = {
    "cifar10": (10_991_916, 11_186_796, 11_185_452, 10_908_924, 8_332_812, 11_068_588, 10_997_932),
    "imagenet32": (10_991_916, 11_186_796, 11_185_452, 10_908_924, 8_332_812, 11_068_588, 10_997_932),
    "imagenet64": (36_970_556, 38_543_036, 38_537_276, 38_310_620, 27_608_060, 37_533_500, 36_912_956),
    "lsun-church96": (26_716_188, 33_013_404, 33_001_500, 37_908_156, 29_163_740, 27_671_580, 26_202_396),
    "celeba-hq64": (36_970_556, 38_543_036, 38_537_276, 38_310_620, 27_608_060, 37_533_500, 36_912_956),
    "celeba-hq128": (40_047_612, 49_493_436, 49_475_580, 56_835_564, 43_718_940, 43_300_476, 39_322_236),
    "celeba-hq256": (51_559_260, 76_743_132, 76_718_940, 77_851_644, 60_891_420, 59_953_756, 49_044_060),
}

_TRAINING = (
    _paper(dequantize="uniform", learning_rate=1e-3, betas=(0.9, 0.999), schedule="constant")
    | _code(weight_decay=2e-7, clip_value=5.0, clip_norm=100.0, flip=False)
    | _ours("the paper names no warm-up; Glow has one", warmup_steps=1000)
    | _ours("a guard, 0 turns it off", skip_limit=10)
    | _ours("the paper names no averaging", ema_decay=0.0)
    | _ours("the paper does not say", precision="float32")
    | _ours("one of three or more, for a spread", seed=0)
    | _ours("steps between checkpoints; the paper tested every 10,000", every=5000)
)

_OF_LOW_RANK = ("channel_ranks", "pixel_ranks", "start")

#: names of all presets, ``DATA-STEP``
PRESETS: tuple[str, ...] = tuple(f"{data}-{step}" for data, step in product(_DATA_SETS, _STEPS))


def preset(name: str) -> dict[str, Setting]:
    """Every setting of an experiment, fields of ``FlowConfig`` and ``TrainingConfig``, with its source.

    The names are in :data:`PRESETS`: a data set (``cifar10``, ``imagenet32``, ``imagenet64``, ``lsun-church96``,
    ``celeba-hq64``, ``celeba-hq128``, ``celeba-hq256``), and what is compared in a flow step (``conv1x1``, which is
    Glow, ``emerging``, ``periodic``, ``spline``, ``macow``, ``woodbury``, ``me-woodbury``).

    Raises:
        ValueError: for another name.

    >>> preset("cifar10-woodbury")["pixel_ranks"]
    Setting(value=(16, 16, 8), source='paper')
    """
    data, step = _parts(name)
    settings = _ours("where the command looks; see the docs on data sets", data=f"data/{data}")
    settings |= _DATA_SETS[data] | _TRAINING
    mixing, coupling = _STEPS[step]
    settings |= _paper(mixing=mixing, coupling=coupling)
    if has_ranks(mixing):
        settings |= _ranks(data, mixing, settings["levels"].value)
    if coupling in _WIDTHS:
        settings |= _width(coupling, settings)
    return settings | _ours("for the record", preset=name)


def _parts(name: str) -> tuple[str, str]:
    """The data set and the step that a preset's name is made of."""
    check_one_of("preset", name, PRESETS)
    return next((data, step) for data, step in product(_DATA_SETS, _STEPS) if f"{data}-{step}" == name)


def _ranks(data: str, mixing: str, levels: int) -> dict[str, Setting]:
    channels, pixels = paper_ranks(levels)
    ranks = _paper(channel_ranks=channels, pixel_ranks=pixels)
    if mixing == "me-woodbury" and data not in _ME_WOODBURY:
        ranks = _ours("Woodbury's, as on the paper's other data", channel_ranks=channels, pixel_ranks=pixels)
    return ranks | _ours("learns faster than 'paper', as measured", start="default")


def _width(coupling: str, settings: dict[str, Setting]) -> dict[str, Setting]:
    """The paper's width, or the share of the affine coupling's that the paper takes at 64 pixels, 512 there."""
    widths = _WIDTHS[coupling]
    if settings["size"].value in widths:
        return _paper(hidden_channels=widths[settings["size"].value])
    affine = settings["hidden_channels"].value
    return _ours("the paper's share of the affine width at 64 pixels", hidden_channels=widths[64] * affine // 512)


def with_changes(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The values of a preset with some changed; another mixing leaves out what belongs to the preset's own."""
    values = {key: setting.value for key, setting in preset(name).items()} | changes
    if not has_ranks(values["mixing"]):
        values = {key: value for key, value in values.items() if key in changes or key not in _OF_LOW_RANK}
    return values


def settings_of(name: str, **changes: Any) -> tuple[FlowConfig, TrainingConfig]:
    """The model and the run of a preset, with some settings changed.

    >>> flow, training = settings_of("cifar10-woodbury", mixing="emerging", max_steps=10)
    >>> flow.mixing, training.max_steps
    ('emerging', 10)
    """
    values = with_changes(name, changes)
    size = values["size"]
    flow = {key: value for key, value in values.items() if key in FlowConfig.__dataclass_fields__}
    training = {key: value for key, value in values.items() if key in TrainingConfig.__dataclass_fields__}
    return FlowConfig(shape=(3, size, size), **flow), TrainingConfig(**training)


def parameters_of(name: str) -> int:
    """How many parameters a preset's model trains."""
    data, step = _parts(name)
    return dict(zip(_STEPS, _PARAMETERS[data], strict=True))[step]


def overview(names: Sequence[str] = PRESETS) -> Iterator[str]:
    """A table of presets with their parameter counts, line by line.

    >>> for line in overview(["cifar10-conv1x1", "cifar10-woodbury"]):
    ...     print(line)
    preset                          images  levels  steps  channels  batch   parameters
    cifar10-conv1x1              32, 8 bit       3      8       512     64   10,991,916
    cifar10-woodbury             32, 8 bit       3      8       512     64   11,068,588
    """
    yield f"{'preset':<28}{'images':>10}{'levels':>8}{'steps':>7}{'channels':>10}{'batch':>7}{'parameters':>13}"
    for name in names:
        flow, training = settings_of(name)
        images = f"{flow.shape[1]}, {flow.bits} bit"
        yield (
            f"{name:<28}{images:>10}{flow.levels:>8}{flow.steps:>7}{flow.hidden_channels:>10}"
            f"{training.batch_size:>7}{parameters_of(name):>13,}"
        )


def describe(name: str) -> str:
    """Every setting of a preset and its source, one a line.

    >>> lines = describe("cifar10-woodbury").splitlines()
    >>> [line.split() for line in lines if line.startswith("pixel_ranks")]
    [['pixel_ranks', '16', '16', '8', 'paper']]
    """
    settings = preset(name)
    width = max(map(len, settings))
    values = {key: " ".join(map(str, v)) if isinstance(v, tuple) else str(v) for key, (v, _) in settings.items()}
    column = max(map(len, values.values()))
    return "\n".join(f"{key:<{width}}  {values[key]:<{column}}  {settings[key].source}" for key in settings)
