"""The command line: ``nflows-woodbury train | evaluate | sample``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["main"]

# Modules that import torch or Lightning are imported by the command that needs them: --help waits for neither.

EPILOG = "Each command has its own --help. Start with: nflows-woodbury train"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status, 2 for a bad argument or file."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="nflows-woodbury", description="Train and use normalizing flows on images.", epilog=EPILOG
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (summary, add_arguments, run) in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.ArgumentDefaultsHelpFormatter, argument_default=argparse.SUPPRESS,
        )  # fmt: skip
        command.set_defaults(run=run)
        if name in words[:1]:
            add_arguments(command)
            command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = vars(parser.parse_args(words))
    run, debug = options.pop("run"), options.pop("debug", False)
    try:
        run(options)
    except (ValueError, TypeError, OSError, ImportError, NotImplementedError) as error:
        if debug:
            raise
        print(f"nflows-woodbury: error: {error}", file=sys.stderr)
        return 2
    return 0


def _train_arguments(command: argparse.ArgumentParser) -> None:
    from nflows_woodbury.presets import COUPLINGS, DEQUANTIZERS, MIXINGS, FlowConfig

    flow = FlowConfig()
    model = command.add_argument_group("model")
    model.add_argument("--mixing", metavar="NAME", help=f"{', '.join(MIXINGS)} (default: {flow.mixing})")
    model.add_argument("--coupling", metavar="NAME", help=f"{', '.join(COUPLINGS)} (default: {flow.coupling})")
    _number(model, "--levels", int, flow.levels, "levels; the image's sides are divisible by 2^levels")
    _number(model, "--steps", int, flow.steps, "flow steps per level: ActNorm, mixing, coupling")
    _number(model, "--hidden-channels", int, flow.hidden_channels, "hidden channels of the couplings' networks")
    _number(model, "--bits", int, flow.bits, "bits kept of each pixel")
    model.add_argument("--dequantize", metavar="NAME", help=f"{', '.join(DEQUANTIZERS)} (default: {flow.dequantize})")
    model.add_argument("--conditional", action="store_true", help="condition on the classes of the data")
    training = command.add_argument_group("training")
    training.add_argument(
        "--data", metavar="DATA", help="photos (in scikit-image, no download), a folder of images, CIFAR-10's official "
        "batches, or an .npz of uint8 NHWC images (default: photos)"
    )  # fmt: skip
    _number(training, "--size", int, "that of the data, 32 for photos", "side of the images")
    _number(training, "--max-steps", int, TRAINING["max_steps"], "optimizer steps")
    _number(training, "--batch-size", int, TRAINING["batch_size"], "images per step, over all devices")
    _number(training, "--learning-rate", float, TRAINING["learning_rate"], "of Adam")
    _number(training, "--warmup-steps", int, TRAINING["warmup_steps"], "steps of linear warm-up; 0 for none")
    training.add_argument("--schedule", metavar="NAME", help="cosine or constant (default: cosine)")
    _number(training, "--clip-norm", float, TRAINING["clip_norm"], "clip the gradient's norm; 0 for no clipping")
    _number(training, "--seed", int, TRAINING["seed"], "of parameters, batches and noise")
    _number(training, "--every", int, TRAINING["every"], "steps between checkpoints, grids and validations")
    _number(training, "--temperature", float, TRAINING["temperature"], "of the sample grids")
    running = command.add_argument_group("running")
    _number(running, "--devices", int, 1, "devices to train on: GPUs where there are any, else CPU processes")
    running.add_argument("--out", metavar="FOLDER", help="new folder of the run (default: runs/DATA-MIXING)")
    running.add_argument("--resume", metavar="FOLDER", help="continue the run in this folder, or from this checkpoint")
    running.add_argument("--quiet", action="store_true", help="no progress bar")


#: Defaults of ``training.TrainingConfig`` that the help shows; a test holds them equal.
TRAINING = {
    "max_steps": 2000, "batch_size": 32, "learning_rate": 1e-3, "warmup_steps": 50, "clip_norm": 0.0, "seed": 0,
    "every": 500, "temperature": 1.0,
}  # fmt: skip


def _number(group: Any, flag: str, kind: type, default: object, text: str) -> None:
    group.add_argument(flag, type=kind, metavar="N" if kind is int else "X", help=f"{text} (default: {default})")


def _train(options: dict[str, Any]) -> None:
    from nflows_woodbury.data import extra

    extra("pytorch_lightning"), extra("tensorboard")
    from nflows_woodbury.runs import train

    train(options)


def _evaluate_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("checkpoint", help="a checkpoint, or the folder of a run")
    command.add_argument("--data", metavar="DATA", help="as in train (default: the data of the run)")
    command.add_argument("--samples", type=int, default=1, metavar="N", help="draws of the noise for each image")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise")
    command.add_argument("--limit", type=int, metavar="N", help="only the first N test images")
    command.add_argument("--json", metavar="FILE", help="also write the result to this file")


def _evaluate(options: dict[str, Any]) -> None:
    from nflows_woodbury.runs import evaluate

    print(json.dumps(evaluate(**options), indent=2))


def _sample_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("checkpoint", help="a checkpoint, or the folder of a run")
    command.add_argument("--num", type=int, default=36, metavar="N", help="images")
    command.add_argument("--temperature", type=float, default=1.0, metavar="X", help="factor on the noise")
    command.add_argument("--label", type=int, metavar="N", help="class of all images (default: in turn)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise")
    command.add_argument("--out", default="samples.png", metavar="FILE", help="where the grid goes")


def _sample(options: dict[str, Any]) -> None:
    from nflows_woodbury.runs import sample

    print(f"samples: {sample(**options)}")


Command = tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[dict[str, Any]], None]]
COMMANDS: dict[str, Command] = {
    "train": ("train an image flow, on photographs that need no download by default", _train_arguments, _train),
    "evaluate": ("print a trained flow's test bits per dimension", _evaluate_arguments, _evaluate),
    "sample": ("write a grid of samples of a trained flow as PNG", _sample_arguments, _sample),
}
