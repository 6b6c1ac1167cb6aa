"""Flags for the settings of a model and of a run, and whether those that are given go with what there is."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from nflows_woodbury.cli.flags import add_name, add_number, add_picking
from nflows_woodbury.config import (
    COUPLINGS,
    DEQUANTIZERS,
    FIRSTS,
    MIXINGS,
    NETS,
    SQUEEZES,
    START_NAMES,
    FlowConfig,
    has_ranks,
    paper_ranks,
)
from nflows_woodbury.train.config import PRECISIONS, SCHEDULES, TrainingConfig

__all__ = [
    "MIXING_NAMES",
    "add_images",
    "add_model",
    "add_preset",
    "add_training",
    "fields_of",
    "refusals",
    "values_of",
]


#: what a mixing may be called, for help texts
MIXING_NAMES = (
    f"{', '.join(MIXINGS)}; several in order, as in emerging+woodbury, or in turn from step to step, as in "
    "emerging,woodbury"
)


def add_preset(command: argparse.ArgumentParser) -> None:
    """The settings that others start from."""
    command.add_argument(
        "--preset", metavar="NAME", help="take the settings of one of the paper's experiments, which "
        "nflows-woodbury presets lists; the flags below change single ones"
    )  # fmt: skip


def add_model(group: Any) -> None:
    """The model, but for its mixing."""
    flow = FlowConfig()
    add_name(group, "--coupling", flow.coupling, ", ".join(COUPLINGS))
    add_number(group, "--levels", flow.levels, "levels; the image's sides are divisible by 2^levels, or --pad")
    add_number(group, "--steps", flow.steps, "flow steps per level: ActNorm, mixing, coupling")
    add_number(group, "--hidden-channels", flow.hidden_channels, "hidden channels of the couplings' networks")
    add_name(group, "--net", flow.net, f"the couplings' networks: {', '.join(NETS)}")
    for axis, what in (("channel", "channels"), ("pixel", "pixels, or rows and columns")):
        group.add_argument(
            f"--{axis}-ranks", type=int, nargs="+", metavar="N",
            help=f"ranks of a Woodbury mixing on the {what}, one for each level (default: the paper's)",
        )  # fmt: skip
    add_name(group, "--start", flow.start, f"of a Woodbury mixing's factors: default, {', '.join(START_NAMES)}")
    add_number(group, "--bits", flow.bits, "bits kept of each pixel")
    add_name(group, "--dequantize", flow.dequantize, ", ".join(DEQUANTIZERS))
    group.add_argument(
        "--first", metavar="NAME", help=f"what fields of floats meet first: {', '.join(FIRSTS)} (default: standardize)"
    )
    group.add_argument("--bounds", type=float, nargs=2, metavar="X", help="of the logit of fields (default: 0 1)")
    add_name(group, "--squeeze", flow.squeeze, ", ".join(SQUEEZES))
    group.add_argument("--pad", action="store_true", help="fill up sides that 2^levels does not divide with noise")
    group.add_argument("--conditional", action="store_true", help="condition on the classes of the data")


def add_images(group: Any) -> None:
    """The images of a run."""
    group.add_argument(
        "--data", metavar="DATA", help="photos (in scikit-image, no download), a folder of images, CIFAR-10 or "
        "ImageNet as downloaded, an .npz, .npy or .parquet file, or hf:NAME (default: photos)"
    )  # fmt: skip
    add_picking(group)


def add_training(group: Any) -> None:
    """The training, but for its seed."""
    run = TrainingConfig()
    add_number(group, "--max-steps", run.max_steps, "optimizer steps")
    add_number(group, "--batch-size", run.batch_size, "images per step, over all devices")
    add_number(group, "--accumulate", run.accumulate, "parts of a batch, one after the other, to save memory")
    group.add_argument("--flip", action="store_true", help="mirror each training image half of the time")
    add_number(group, "--learning-rate", run.learning_rate, "of Adam")
    group.add_argument("--betas", type=float, nargs=2, metavar="X", help="of Adam (default: {} {})".format(*run.betas))
    add_number(group, "--weight-decay", run.weight_decay, "of Adam: times a parameter, added to its gradient")
    add_number(group, "--warmup-steps", run.warmup_steps, "steps of linear warm-up; 0 for none")
    add_name(group, "--schedule", run.schedule, " or ".join(SCHEDULES))
    add_number(group, "--clip-value", run.clip_value, "clip each entry of the gradient; 0 for no clipping")
    add_number(group, "--clip-norm", run.clip_norm, "then clip the gradient's norm; 0 for no clipping")
    add_number(group, "--skip-limit", run.skip_limit, "bad steps in a row that are skipped before the run ends")
    add_number(group, "--ema-decay", run.ema_decay, "of a moving average of the weights; 0 for none")
    add_name(group, "--precision", run.precision, f"{', '.join(PRECISIONS)}; bf16 only in the couplings' networks")
    group.add_argument("--compile", action="store_true", help="compile the flow")
    group.add_argument("--reversible", action="store_true", help="memory that does not grow with --steps, for time")
    add_number(group, "--every", "a tenth of them", "steps between checkpoints, grids and validations", int)
    add_number(group, "--temperature", run.temperature, "of the sample grids")


def fields_of(settings: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that are fields of a class of settings."""
    return {field.name: given[field.name] for field in fields(settings) if field.name in given}


def values_of(flow: FlowConfig, training: TrainingConfig) -> dict[str, Any]:
    """What the flags would be if all were given; the flow has the shape of its images."""
    channels, pixels = paper_ranks(flow.levels) if has_ranks(flow.mixing) else (None, None)
    return {
        **flow.to_dict(),
        **training.to_dict(),
        "channel_ranks": flow.channel_ranks or channels,
        "pixel_ranks": flow.pixel_ranks or pixels,
        "size": training.size or (flow.shape[1] if len({*flow.shape[1:]}) == 1 else flow.shape[1:]),
        "test_images": training.test_images or 0,
        "conditional": flow.num_classes > 0,
    }


def refusals(given: Mapping[str, Any], values: Mapping[str, Any], owner: str, changeable: Collection[str] = ()) -> str:
    """The given flags that differ from the values that ``owner`` has, in words, or nothing."""
    refused = [
        f"{_written(name, given[name])} ({owner} has {_written('', values[name]) or 'none'})"
        for name in given
        if name in values and name not in changeable and _plain(given[name]) != _plain(values[name])
    ]
    return ", ".join(refused)


def _plain(value: Any) -> Any:
    """A value whose lists are tuples."""
    return tuple(value) if isinstance(value, list) else value


def _written(name: str, value: Any) -> str:
    """A flag as it is given, or its value alone."""
    words = [f"--{name.replace('_', '-')}"] if name else []
    if not isinstance(value, bool):
        words += map(str, value if isinstance(value, list | tuple) else [value])
    return " ".join(words)
