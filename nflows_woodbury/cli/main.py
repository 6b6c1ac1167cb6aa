"""The command line: ``nflows-woodbury train | evaluate | sample | presets`` and more."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from nflows_woodbury.cli import (
    compare,
    data,
    diagnose,
    evaluate,
    interpolate,
    nearest,
    presets,
    publish,
    reconstruct,
    sample,
    score,
    train,
)
from nflows_woodbury.cli.flags import Command
from nflows_woodbury.files import explain
from nflows_woodbury.train.allocator import keep_freed_memory
from nflows_woodbury.train.signals import Interrupted, handled, interrupt

__all__ = ["COMMANDS", "main"]

EPILOG = "Each command has its own --help. Start with: nflows-woodbury train"

#: the commands, in the order of the help text
COMMANDS: dict[str, Command] = {
    "train": train.COMMAND,
    "compare": compare.COMMAND,
    "data": data.COMMAND,
    "evaluate": evaluate.COMMAND,
    "sample": sample.COMMAND,
    "reconstruct": reconstruct.COMMAND,
    "interpolate": interpolate.COMMAND,
    "nearest": nearest.COMMAND,
    "score": score.COMMAND,
    "diagnose": diagnose.COMMAND,
    "publish": publish.COMMAND,
    "presets": presets.COMMAND,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0; 2 for a bad argument or file; 130, 143 or 129 after Ctrl-C, TERM or HUP; 141 where nobody
        reads what is printed any more.
    """
    try:
        try:
            return _run(vars(make_parser().parse_args(arguments)))
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _close_output()
        return Interrupted(signal.SIGPIPE).status
    except OSError as error:
        _close_output()
        return _say(f"nflows-woodbury: error: what was printed is lost: {explain(error)}", 2)


def _close_output() -> None:
    """Send what Python still holds to print nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(given: dict[str, Any]) -> int:
    run, debug = given.pop("run"), given.pop("debug", False)
    keep_freed_memory()
    try:
        with handled(interrupt):
            run(**given)
    except Interrupted as end:
        return _say(f"nflows-woodbury: ended by {end}", end.status)
    except BrokenPipeError:
        raise
    except (ValueError, TypeError, OSError, ImportError, NotImplementedError, ArithmeticError) as error:
        if debug:
            raise
        message = explain(error) if isinstance(error, OSError) else str(error)
        return _say(f"nflows-woodbury: error: {' '.join(message.split())}", 2)
    return 0


def _say(line: str, status: int) -> int:
    """Print a line on standard error, if somebody reads it."""
    with suppress(BrokenPipeError):
        print(line, file=sys.stderr, flush=True)
    return status


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; a flag that is not given is no attribute of the result."""
    parser = argparse.ArgumentParser(
        prog="nflows-woodbury", description="Train and use normalizing flows on images.", epilog=EPILOG
    )
    parser.add_argument("--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help="show the version")
    parser.add_argument(
        "--print-completion", action=_Completion, metavar="SHELL", default=argparse.SUPPRESS,
        help="print the script by which bash or zsh completes commands",
    )  # fmt: skip
    added = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        flags = added.add_parser(
            name, help=command.summary, description=command.summary[0].upper() + command.summary[1:] + ".",
            argument_default=argparse.SUPPRESS,
        )  # fmt: skip
        command.add_flags(flags)
        flags.add_argument("--debug", action="store_true", help="show the traceback of an error")
        flags.set_defaults(run=command.run)
    return parser


class _Version(argparse.Action):
    """Look the version up when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        import nflows_woodbury

        print(nflows_woodbury.__version__)
        parser.exit()


class _Completion(argparse.Action):
    """Import what writes the script when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, shell: Any, *_: Any) -> None:
        from nflows_woodbury.cli.completion import SHELLS, completion

        if shell not in SHELLS:
            parser.error(f"--print-completion must be one of {', '.join(SHELLS)}, got {shell!r}")
        print(completion(parser, shell))
        parser.exit()
