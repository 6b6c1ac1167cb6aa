"""The commands that read a run back, and those about presets: their flags, and what they print."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["COMMANDS", "Command", "name_flag", "number_flag"]

Command = tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[dict[str, Any]], None]]

# As in cli: what imports torch is imported by the command that needs it.


def number_flag(group: Any, flag: str, default: Any, text: str, kind: type | None = None) -> None:
    """Add a flag that takes a number, of the default's type unless ``kind`` says which."""
    kind = kind or type(default)
    group.add_argument(flag, type=kind, metavar="N" if kind is int else "X", help=f"{text} (default: {default})")


def name_flag(group: Any, flag: str, default: str, text: str) -> None:
    """Add a flag that takes one of some names."""
    group.add_argument(flag, metavar="NAME", help=f"{text} (default: {default})")


def _presets_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "words", nargs="*", default=[], metavar="show NAME", help="every setting of one, and its source"
    )


def _presets(options: dict[str, Any]) -> None:
    from nflows_woodbury.train.presets import describe, overview

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
    number_flag(command, "--temperature", 1.0, "factor on the noise")
    number_flag(command, "--label", "in turn", "class of all samples", int)
    number_flag(command, "--seed", 0, "of the noise")


def _out(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument("--last-weights", dest="averaged", action="store_false", help=LAST_WEIGHTS)
    command.add_argument("--out", metavar="FILE", help=f"where the picture goes (default: {default})")


LAST_WEIGHTS = "use the last weights, where the run has averaged ones"


def _evaluate_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("checkpoints", nargs="+", metavar="checkpoint", help="a checkpoint, or the folder of a run")
    _data(command)
    number_flag(command, "--samples", 1, "estimates for each image, averaged")
    number_flag(command, "--importance-samples", 1, "draws of the noise for each estimate: a tighter bound")
    number_flag(command, "--seed", 0, "of the noise")
    number_flag(command, "--limit", "all", "only the first N test images", int)
    command.add_argument("--last-weights", dest="averaged", action="store_false", help=LAST_WEIGHTS)
    command.add_argument("--json", metavar="FILE", help="also write the records to this file")


def _evaluate(options: dict[str, Any]) -> None:
    from nflows_woodbury.evaluation.record import evaluate, spread

    records = evaluate(**options)
    print(json.dumps(records, indent=2))
    if len(records) > 1:
        print(spread(records), file=sys.stderr)


def _sample_arguments(command: argparse.ArgumentParser) -> None:
    _checkpoint(command)
    number_flag(command, "--num", 36, "images")
    _drawing(command)
    _out(command, "samples.png")


def _sample(options: dict[str, Any]) -> None:
    from nflows_woodbury.evaluation.record import sample

    print(f"samples: {sample(**options)}")


def _reconstruct_arguments(command: argparse.ArgumentParser) -> None:
    _checkpoint(command)
    _data(command)
    number_flag(command, "--num", 18, "test images, each beside what comes back from its noise")
    number_flag(command, "--seed", 0, "of the dequantization noise")
    _out(command, "reconstructions.png")


def _reconstruct(options: dict[str, Any]) -> None:
    from nflows_woodbury.evaluation.record import reconstruct

    print(f"reconstructions: {reconstruct(**options)}")


def _interpolate_arguments(command: argparse.ArgumentParser) -> None:
    _checkpoint(command)
    _data(command)
    number_flag(command, "--pairs", 4, "pairs of test images, one row each")
    number_flag(command, "--num", 8, "pictures in a row, the two ends included")
    number_flag(command, "--seed", 0, "of the dequantization noise")
    _out(command, "interpolations.png")


def _interpolate(options: dict[str, Any]) -> None:
    from nflows_woodbury.evaluation.record import interpolate

    print(f"interpolations: {interpolate(**options)}")


def _nearest_arguments(command: argparse.ArgumentParser) -> None:
    _checkpoint(command)
    _data(command)
    number_flag(command, "--num", 8, "samples, one row each")
    number_flag(command, "--neighbours", 5, "training images beside each sample, the nearest first")
    _drawing(command)
    _out(command, "nearest.png")


def _nearest(options: dict[str, Any]) -> None:
    from nflows_woodbury.evaluation.record import nearest

    path, distances, of_test = nearest(**options)
    print(
        "distance to the nearest training image, root mean square over pixels of 0 to 255\n"
        f"samples:          {' '.join(f'{distance:.1f}' for distance in distances)}\n"
        f"test images:      {of_test:.1f} (median)\n"
        f"nearest images:   {path}"
    )


def _diagnose_arguments(command: argparse.ArgumentParser) -> None:
    _checkpoint(command)
    _data(command)
    number_flag(command, "--num", 16, "test images to run through the layers")
    number_flag(command, "--seed", 0, "of the dequantization noise")
    command.add_argument("--last-weights", dest="averaged", action="store_false", help=LAST_WEIGHTS)


def _diagnose(options: dict[str, Any]) -> None:
    from nflows_woodbury.evaluation.record import examine

    reports, changed, values = examine(**options)
    width = max(len(report.name) for report in reports)
    print(f"{'layer':<{width}}{'condition':>12}{'log-det/dim':>13}{'round trip':>12}  kind")
    for r in reports:
        condition = "" if r.condition is None else f"{r.condition:.3g}"
        print(f"{r.name:<{width}}{condition:>12}{r.logabsdet:>13.4f}{r.round_trip:>12.1e}  {r.kind}")
    print(f"whole flow: {changed} of {values} pixel values change on their way to noise and back")
    if unsound := [report.name for report in reports if not report.is_sound]:
        raise ArithmeticError(f"{len(unsound)} layers cannot be trusted: {', '.join(unsound)}")


#: name -> summary, what adds its flags, what runs it
COMMANDS: dict[str, Command] = {
    "evaluate": ("print trained flows' test bits/dim, with all that led to it", _evaluate_arguments, _evaluate),
    "sample": ("write a grid of samples of a trained flow as PNG", _sample_arguments, _sample),
    "reconstruct": ("write test images beside what comes back from noise", _reconstruct_arguments, _reconstruct),
    "interpolate": ("write pictures on the way between test images", _interpolate_arguments, _interpolate),
    "nearest": ("write samples beside the training images nearest to them", _nearest_arguments, _nearest),
    "diagnose": ("print how well each layer of a trained flow inverts", _diagnose_arguments, _diagnose),
    "presets": ("list the paper's experiments, or show one", _presets_arguments, _presets),
}
