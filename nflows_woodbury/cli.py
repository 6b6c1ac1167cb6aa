"""The command line: ``nflows-woodbury train | evaluate | sample | presets`` and more."""

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
            argument_default=argparse.SUPPRESS,
        )  # fmt: skip
        command.set_defaults(run=run)
        if name in words[:1]:
            add_arguments(command)
            command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = vars(parser.parse_args(words))
    run, debug = options.pop("run"), options.pop("debug", False)
    try:
        run(options)
    except (ValueError, TypeError, OSError, ImportError, NotImplementedError, FloatingPointError) as error:
        if debug:
            raise
        print(f"nflows-woodbury: error: {error}", file=sys.stderr)
        return 2
    return 0


def _train_arguments(command: argparse.ArgumentParser) -> None:
    from nflows_woodbury.presets import COUPLINGS, DEQUANTIZERS, MIXINGS, FlowConfig
    from nflows_woodbury.settings import PRECISIONS, SCHEDULES, TrainingConfig

    flow, run = FlowConfig(), TrainingConfig()
    command.add_argument(
        "--preset", metavar="NAME", help="take the settings of one of the paper's experiments, which "
        "nflows-woodbury presets lists; the flags below change single ones"
    )  # fmt: skip
    model = command.add_argument_group("model")
    _name(model, "--mixing", flow.mixing, ", ".join(MIXINGS))
    _name(model, "--coupling", flow.coupling, ", ".join(COUPLINGS))
    _number(model, "--levels", flow.levels, "levels; the image's sides are divisible by 2^levels")
    _number(model, "--steps", flow.steps, "flow steps per level: ActNorm, mixing, coupling")
    _number(model, "--hidden-channels", flow.hidden_channels, "hidden channels of the couplings' networks")
    for axis, what in (("channel", "channels"), ("pixel", "pixels, or rows and columns")):
        model.add_argument(
            f"--{axis}-ranks", type=int, nargs="+", metavar="N",
            help=f"ranks of a Woodbury mixing on the {what}, one for each level (default: the paper's)",
        )  # fmt: skip
    _name(model, "--start", flow.start, "of a Woodbury mixing's factors: default, paper or another")
    _number(model, "--bits", flow.bits, "bits kept of each pixel")
    _name(model, "--dequantize", flow.dequantize, ", ".join(DEQUANTIZERS))
    model.add_argument("--conditional", action="store_true", help="condition on the classes of the data")
    training = command.add_argument_group("training")
    training.add_argument(
        "--data", metavar="DATA", help="photos (in scikit-image, no download), a folder of images, CIFAR-10 or "
        "ImageNet as downloaded, an .npz, .npy or .parquet file, or hf:NAME (default: photos)"
    )  # fmt: skip
    _number(training, "--size", "that of the data, 32 for photos", "side of the images", int)
    _number(
        training, "--test-images", "a tenth", "images to hold out of data without a test set; 0 for the data's own", int
    )
    _number(training, "--max-steps", run.max_steps, "optimizer steps")
    _number(training, "--batch-size", run.batch_size, "images per step, over all devices")
    _number(training, "--accumulate", run.accumulate, "parts of a batch, one after the other, to save memory")
    _number(training, "--learning-rate", run.learning_rate, "of Adam")
    _number(training, "--warmup-steps", run.warmup_steps, "steps of linear warm-up; 0 for none")
    _name(training, "--schedule", run.schedule, " or ".join(SCHEDULES))
    _number(training, "--clip-norm", run.clip_norm, "clip the gradient's norm; 0 for no clipping")
    _number(training, "--skip-limit", run.skip_limit, "skip steps without a finite gradient, and end the run at this "
            "many in a row; 0 for no guard")  # fmt: skip
    _number(training, "--ema-decay", run.ema_decay, "of a moving average of the weights; 0 for none")
    _name(training, "--precision", run.precision, f"{', '.join(PRECISIONS)}; bf16 only inside the couplings' networks")
    training.add_argument("--compile", action="store_true", help="compile the flow")
    _number(training, "--seed", run.seed, "of parameters, batches and noise")
    _number(training, "--every", run.every, "steps between checkpoints, grids and validations")
    _number(training, "--temperature", run.temperature, "of the sample grids")
    running = command.add_argument_group("running")
    _number(running, "--devices", 1, "devices of a machine: GPUs where there are any, else CPU processes")
    _number(running, "--num-nodes", 1, "machines; start one process on each, with torchrun or SLURM")
    running.add_argument(
        "--out", metavar="FOLDER", help="new folder of the run (default: runs/PRESET or runs/DATA-MIXING)"
    )
    running.add_argument("--resume", metavar="FOLDER", help="continue the run in this folder, or from this checkpoint")
    running.add_argument("--quiet", action="store_true", help="no progress bar")


def _number(group: Any, flag: str, default: Any, text: str, kind: type | None = None) -> None:
    kind = kind or type(default)
    group.add_argument(flag, type=kind, metavar="N" if kind is int else "X", help=f"{text} (default: {default})")


def _name(group: Any, flag: str, default: str, text: str) -> None:
    group.add_argument(flag, metavar="NAME", help=f"{text} (default: {default})")


def _train(options: dict[str, Any]) -> None:
    from nflows_woodbury.data import extra

    extra("pytorch_lightning"), extra("tensorboard")
    from nflows_woodbury.runs import train

    train(options)


def _presets_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "words", nargs="*", default=[], metavar="show NAME", help="every setting of one, and its source"
    )


def _presets(options: dict[str, Any]) -> None:
    from nflows_woodbury.paper import describe, overview

    words = options["words"]
    if not words:
        for line in overview():
            print(line, flush=True)
    elif words[0] == "show" and len(words) == 2:
        print(describe(words[1]))
    else:
        raise ValueError(f"presets must be followed by nothing or by 'show NAME', got {' '.join(words)!r}")


def _checkpoint(command: argparse.ArgumentParser) -> None:
    command.add_argument("checkpoint", help="a checkpoint, or the folder of a run")


def _data(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", metavar="DATA", help="as in train (default: the data of the run)")


def _drawing(command: argparse.ArgumentParser) -> None:
    _number(command, "--temperature", 1.0, "factor on the noise")
    _number(command, "--label", "in turn", "class of all samples", int)
    _number(command, "--seed", 0, "of the noise")


def _out(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument("--last-weights", dest="averaged", action="store_false", help=LAST_WEIGHTS)
    command.add_argument("--out", metavar="FILE", help=f"where the picture goes (default: {default})")


LAST_WEIGHTS = "use the last weights, where the run has averaged ones"


def _evaluate_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("checkpoints", nargs="+", metavar="checkpoint", help="a checkpoint, or the folder of a run")
    _data(command)
    _number(command, "--samples", 1, "estimates for each image, averaged")
    _number(command, "--importance-samples", 1, "draws of the noise for each estimate: a tighter bound")
    _number(command, "--seed", 0, "of the noise")
    _number(command, "--limit", "all", "only the first N test images", int)
    command.add_argument("--last-weights", dest="averaged", action="store_false", help=LAST_WEIGHTS)
    command.add_argument("--json", metavar="FILE", help="also write the records to this file")


def _evaluate(options: dict[str, Any]) -> None:
    from nflows_woodbury.trained import evaluate, spread

    records = evaluate(**options)
    print(json.dumps(records, indent=2))
    if len(records) > 1:
        print(spread(records), file=sys.stderr)


def _sample_arguments(command: argparse.ArgumentParser) -> None:
    _checkpoint(command)
    _number(command, "--num", 36, "images")
    _drawing(command)
    _out(command, "samples.png")


def _sample(options: dict[str, Any]) -> None:
    from nflows_woodbury.trained import sample

    print(f"samples: {sample(**options)}")


def _reconstruct_arguments(command: argparse.ArgumentParser) -> None:
    _checkpoint(command)
    _data(command)
    _number(command, "--num", 18, "test images, each beside what comes back from its noise")
    _number(command, "--seed", 0, "of the dequantization noise")
    _out(command, "reconstructions.png")


def _reconstruct(options: dict[str, Any]) -> None:
    from nflows_woodbury.trained import reconstruct

    print(f"reconstructions: {reconstruct(**options)}")


def _interpolate_arguments(command: argparse.ArgumentParser) -> None:
    _checkpoint(command)
    _data(command)
    _number(command, "--pairs", 4, "pairs of test images, one row each")
    _number(command, "--num", 8, "pictures in a row, the two ends included")
    _number(command, "--seed", 0, "of the dequantization noise")
    _out(command, "interpolations.png")


def _interpolate(options: dict[str, Any]) -> None:
    from nflows_woodbury.trained import interpolate

    print(f"interpolations: {interpolate(**options)}")


def _nearest_arguments(command: argparse.ArgumentParser) -> None:
    _checkpoint(command)
    _data(command)
    _number(command, "--num", 8, "samples, one row each")
    _number(command, "--neighbours", 5, "training images beside each sample, the nearest first")
    _drawing(command)
    _out(command, "nearest.png")


def _nearest(options: dict[str, Any]) -> None:
    from nflows_woodbury.trained import nearest

    path, distances, of_test = nearest(**options)
    print(
        "distance to the nearest training image, root mean square over pixels of 0 to 255\n"
        f"samples:          {' '.join(f'{distance:.1f}' for distance in distances)}\n"
        f"test images:      {of_test:.1f} (median)\n"
        f"nearest images:   {path}"
    )


Command = tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[dict[str, Any]], None]]
COMMANDS: dict[str, Command] = {
    "train": ("train an image flow, on photographs that need no download by default", _train_arguments, _train),
    "evaluate": (
        "print trained flows' test bits per dimension, with all that led to it",
        _evaluate_arguments,
        _evaluate,
    ),
    "sample": ("write a grid of samples of a trained flow as PNG", _sample_arguments, _sample),
    "reconstruct": ("write test images beside what comes back from their noise", _reconstruct_arguments, _reconstruct),
    "interpolate": ("write pictures on the way between test images", _interpolate_arguments, _interpolate),
    "nearest": ("write samples beside the training images nearest to them", _nearest_arguments, _nearest),
    "presets": ("list the paper's experiments, or show one", _presets_arguments, _presets),
}
