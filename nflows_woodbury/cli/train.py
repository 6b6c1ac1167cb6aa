"""``nflows-woodbury train``: a run in a folder of its own, or its continuation."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from nflows_woodbury.cli.flags import Command, add_name, add_number
from nflows_woodbury.cli.settings import (
    MIXING_NAMES,
    add_images,
    add_model,
    add_preset,
    add_training,
    fields_of,
    refusals,
    values_of,
)
from nflows_woodbury.config import FlowConfig
from nflows_woodbury.train.config import Running, TrainingConfig
from nflows_woodbury.train.presets import with_changes

__all__ = ["COMMAND"]


def add_flags(command: argparse.ArgumentParser) -> None:
    """The settings of the model and of the run, and how it is run."""
    add_preset(command)
    model = command.add_argument_group("model")
    add_name(model, "--mixing", FlowConfig().mixing, MIXING_NAMES)
    add_model(model)
    add_images(command.add_argument_group("data"))
    training = command.add_argument_group("training")
    add_training(training)
    add_number(training, "--seed", TrainingConfig().seed, "of parameters, batches and noise")
    _add_running(command.add_argument_group("running"))


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
    running = Running(**fields_of(Running, given))
    if "resume" in given:
        _resume(given, running)
    else:
        _start(given, running)


def _start(given: dict[str, Any], running: Running) -> None:
    from nflows_woodbury.train.run import start

    values = with_changes(given["preset"], given) if "preset" in given else given
    flow, training = FlowConfig(**fields_of(FlowConfig, values)), TrainingConfig(**fields_of(TrainingConfig, values))
    start(flow, training, running, conditional="conditional" in given)


def _resume(given: dict[str, Any], running: Running) -> None:
    from nflows_woodbury.train.run import CHANGEABLE, resume
    from nflows_woodbury.train.saved import read_run

    saved = read_run(given["resume"], running.out)
    if refused := refusals(given, values_of(saved.flow, saved.training), "the run", CHANGEABLE):
        raise ValueError(f"{refused} cannot change when a run is resumed; leave out, or start a new run")
    changes = {name: given[name] for name in given if name in CHANGEABLE}
    resume(saved, replace(saved.training, **changes), running)


COMMAND = Command("train an image flow, on photographs that need no download by default", add_flags, run)
