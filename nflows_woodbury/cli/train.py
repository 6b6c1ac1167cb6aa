"""``nflows-woodbury train``: a run in a folder of its own, or its continuation."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nflows_woodbury.cli.flags import Command, add_name, add_number, add_picking
from nflows_woodbury.config import (
    COUPLINGS,
    DEQUANTIZERS,
    MIXINGS,
    SQUEEZES,
    START_NAMES,
    FlowConfig,
    has_ranks,
    paper_ranks,
)
from nflows_woodbury.train.config import PRECISIONS, SCHEDULES, Running, TrainingConfig
from nflows_woodbury.train.presets import with_changes

if TYPE_CHECKING:
    from nflows_woodbury.train.saved import SavedRun

__all__ = ["COMMAND"]


def add_flags(command: argparse.ArgumentParser) -> None:
    """The settings of the model and of the run, and how it is run."""
    command.add_argument(
        "--preset", metavar="NAME", help="take the settings of one of the paper's experiments, which "
        "nflows-woodbury presets lists; the flags below change single ones"
    )  # fmt: skip
    _add_model(command.add_argument_group("model"))
    _add_data(command.add_argument_group("data"))
    _add_training(command.add_argument_group("training"))
    _add_running(command.add_argument_group("running"))


def _add_model(group: Any) -> None:
    flow = FlowConfig()
    add_name(group, "--mixing", flow.mixing, ", ".join(MIXINGS) + ", or several in order, as in emerging+woodbury")
    add_name(group, "--coupling", flow.coupling, ", ".join(COUPLINGS))
    add_number(group, "--levels", flow.levels, "levels; the image's sides are divisible by 2^levels")
    add_number(group, "--steps", flow.steps, "flow steps per level: ActNorm, mixing, coupling")
    add_number(group, "--hidden-channels", flow.hidden_channels, "hidden channels of the couplings' networks")
    for axis, what in (("channel", "channels"), ("pixel", "pixels, or rows and columns")):
        group.add_argument(
            f"--{axis}-ranks", type=int, nargs="+", metavar="N",
            help=f"ranks of a Woodbury mixing on the {what}, one for each level (default: the paper's)",
        )  # fmt: skip
    add_name(group, "--start", flow.start, f"of a Woodbury mixing's factors: default, {', '.join(START_NAMES)}")
    add_number(group, "--bits", flow.bits, "bits kept of each pixel")
    add_name(group, "--dequantize", flow.dequantize, ", ".join(DEQUANTIZERS))
    add_name(group, "--squeeze", flow.squeeze, ", ".join(SQUEEZES))
    group.add_argument("--conditional", action="store_true", help="condition on the classes of the data")


def _add_data(group: Any) -> None:
    group.add_argument(
        "--data", metavar="DATA", help="photos (in scikit-image, no download), a folder of images, CIFAR-10 or "
        "ImageNet as downloaded, an .npz, .npy or .parquet file, or hf:NAME (default: photos)"
    )  # fmt: skip
    add_picking(group)


def _add_training(group: Any) -> None:
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
    add_number(group, "--seed", run.seed, "of parameters, batches and noise")
    add_number(group, "--every", run.every, "steps between checkpoints, grids and validations")
    add_number(group, "--temperature", run.temperature, "of the sample grids")


def _add_running(group: Any) -> None:
    running = Running()
    add_number(group, "--devices", running.devices, "devices of a machine: GPUs where there are any, else processes")
    add_number(group, "--num-nodes", running.num_nodes, "machines; start one process on each, with torchrun or SLURM")
    group.add_argument(
        "--out", type=Path, metavar="FOLDER", help="new folder of the run (default: runs/PRESET or runs/DATA-MIXING)"
    )
    group.add_argument(
        "--resume", metavar="RUN", help="continue the run in this folder, or from this checkpoint of it, with its "
        "settings; --max-steps and what does not change the result may be given anew"
    )  # fmt: skip
    group.add_argument(
        "--changed-data", action="store_true", help="resume although the images are not those of the run any more"
    )
    group.add_argument("--quiet", action="store_true", help="no progress bar")


def run(**given: Any) -> None:
    """Start a run, or resume one."""
    from nflows_woodbury.train.environment import check_extras

    check_extras()
    running = Running(**_of(Running, given))
    if "resume" in given:
        _resume(given, running)
    else:
        _start(given, running)


def _start(given: dict[str, Any], running: Running) -> None:
    from nflows_woodbury.train.run import start

    values = with_changes(given["preset"], given) if "preset" in given else given
    flow, training = FlowConfig(**_of(FlowConfig, values)), TrainingConfig(**_of(TrainingConfig, values))
    start(flow, training, running, conditional="conditional" in given)


def _resume(given: dict[str, Any], running: Running) -> None:
    from nflows_woodbury.train.run import CHANGEABLE, resume
    from nflows_woodbury.train.saved import read_run

    saved = read_run(given["resume"], running.out)
    values = _values(saved)
    refused = [
        f"{_written(name, given[name])} (the run has {_written('', values[name]) or 'none'})"
        for name in given
        if name in values and name not in CHANGEABLE and _plain(given[name]) != _plain(values[name])
    ]
    if refused:
        raise ValueError(f"{', '.join(refused)} cannot change when a run is resumed; leave out, or start a new run")
    changes = {name: given[name] for name in given if name in CHANGEABLE}
    resume(saved, replace(saved.training, **changes), running)


def _values(saved: SavedRun) -> dict[str, Any]:
    """What the flags of a run would be if all were given."""
    flow = saved.flow
    channels, pixels = paper_ranks(flow.levels) if has_ranks(flow.mixing) else (None, None)
    return {
        **flow.to_dict(),
        **saved.training.to_dict(),
        "channel_ranks": flow.channel_ranks or channels,
        "pixel_ranks": flow.pixel_ranks or pixels,
        "size": saved.training.size or (flow.shape[1] if flow.shape[1] == flow.shape[2] else flow.shape[1:]),
        "test_images": saved.training.test_images or 0,
        "conditional": flow.num_classes > 0,
    }


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _written(name: str, value: Any) -> str:
    """A flag as it is given, or its value alone."""
    words = [f"--{name.replace('_', '-')}"] if name else []
    if not isinstance(value, bool):
        words += map(str, value if isinstance(value, list | tuple) else [value])
    return " ".join(words)


def _of(settings: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Those of the values that are fields of a class of settings."""
    return {field.name: given[field.name] for field in fields(settings) if field.name in given}


COMMAND = Command("train an image flow, on photographs that need no download by default", add_flags, run)
