"""The command line: ``nflows-woodbury train | evaluate | sample | presets`` and more."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from nflows_woodbury.cli.commands import COMMANDS as OTHERS
from nflows_woodbury.cli.commands import name_flag, number_flag

__all__ = ["main"]

# Modules that import torch or Lightning are imported by the command that needs them: --help waits for neither.

EPILOG = "Each command has its own --help. Start with: nflows-woodbury train"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status, 2 for a bad argument or file."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="nflows-woodbury", description="Train and use normalizing flows on images.", epilog=EPILOG
    )
    added = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (summary, add_arguments, run) in COMMANDS.items():
        command = added.add_parser(
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
    except (ValueError, TypeError, OSError, ImportError, NotImplementedError, ArithmeticError) as error:
        if debug:
            raise
        print(f"nflows-woodbury: error: {error}", file=sys.stderr)
        return 2
    return 0


def _train_arguments(command: argparse.ArgumentParser) -> None:
    from nflows_woodbury.config import COUPLINGS, DEQUANTIZERS, MIXINGS, FlowConfig
    from nflows_woodbury.train.config import PRECISIONS, SCHEDULES, TrainingConfig

    flow, run = FlowConfig(), TrainingConfig()
    command.add_argument(
        "--preset", metavar="NAME", help="take the settings of one of the paper's experiments, which "
        "nflows-woodbury presets lists; the flags below change single ones"
    )  # fmt: skip
    model = command.add_argument_group("model")
    name_flag(model, "--mixing", flow.mixing, ", ".join(MIXINGS))
    name_flag(model, "--coupling", flow.coupling, ", ".join(COUPLINGS))
    number_flag(model, "--levels", flow.levels, "levels; the image's sides are divisible by 2^levels")
    number_flag(model, "--steps", flow.steps, "flow steps per level: ActNorm, mixing, coupling")
    number_flag(model, "--hidden-channels", flow.hidden_channels, "hidden channels of the couplings' networks")
    for axis, what in (("channel", "channels"), ("pixel", "pixels, or rows and columns")):
        model.add_argument(
            f"--{axis}-ranks", type=int, nargs="+", metavar="N",
            help=f"ranks of a Woodbury mixing on the {what}, one for each level (default: the paper's)",
        )  # fmt: skip
    name_flag(model, "--start", flow.start, "of a Woodbury mixing's factors: default, paper or another")
    number_flag(model, "--bits", flow.bits, "bits kept of each pixel")
    name_flag(model, "--dequantize", flow.dequantize, ", ".join(DEQUANTIZERS))
    model.add_argument("--conditional", action="store_true", help="condition on the classes of the data")
    training = command.add_argument_group("training")
    training.add_argument(
        "--data", metavar="DATA", help="photos (in scikit-image, no download), a folder of images, CIFAR-10 or "
        "ImageNet as downloaded, an .npz, .npy or .parquet file, or hf:NAME (default: photos)"
    )  # fmt: skip
    number_flag(training, "--size", "that of the data, 32 for photos", "side of the images", int)
    number_flag(
        training, "--test-images", "a tenth", "images to hold out of data without a test set; 0 for the data's own", int
    )
    number_flag(training, "--max-steps", run.max_steps, "optimizer steps")
    number_flag(training, "--batch-size", run.batch_size, "images per step, over all devices")
    number_flag(training, "--accumulate", run.accumulate, "parts of a batch, one after the other, to save memory")
    number_flag(training, "--learning-rate", run.learning_rate, "of Adam")
    number_flag(training, "--warmup-steps", run.warmup_steps, "steps of linear warm-up; 0 for none")
    name_flag(training, "--schedule", run.schedule, " or ".join(SCHEDULES))
    number_flag(training, "--clip-norm", run.clip_norm, "clip the gradient's norm; 0 for no clipping")
    number_flag(training, "--skip-limit", run.skip_limit, "bad steps in a row that are skipped before the run ends")
    number_flag(training, "--ema-decay", run.ema_decay, "of a moving average of the weights; 0 for none")
    name_flag(training, "--precision", run.precision, f"{', '.join(PRECISIONS)}; bf16 only in the couplings' networks")
    training.add_argument("--compile", action="store_true", help="compile the flow")
    training.add_argument("--reversible", action="store_true", help="memory that does not grow with --steps, for time")
    number_flag(training, "--seed", run.seed, "of parameters, batches and noise")
    number_flag(training, "--every", run.every, "steps between checkpoints, grids and validations")
    number_flag(training, "--temperature", run.temperature, "of the sample grids")
    running = command.add_argument_group("running")
    number_flag(running, "--devices", 1, "devices of a machine: GPUs where there are any, else CPU processes")
    number_flag(running, "--num-nodes", 1, "machines; start one process on each, with torchrun or SLURM")
    running.add_argument(
        "--out", metavar="FOLDER", help="new folder of the run (default: runs/PRESET or runs/DATA-MIXING)"
    )
    running.add_argument("--resume", metavar="FOLDER", help="continue the run in this folder, or from this checkpoint")
    running.add_argument("--quiet", action="store_true", help="no progress bar")


def _train(options: dict[str, Any]) -> None:
    from nflows_woodbury.optional import import_extra

    import_extra("pytorch_lightning"), import_extra("tensorboard")
    from nflows_woodbury.train.run import train

    train(options)


COMMANDS = {
    "train": ("train an image flow, on photographs that need no download by default", _train_arguments, _train),
    **OTHERS,
}
