"""``nflows-woodbury compare``: several mixings and seeds, trained alike, and a table of what each gives and costs."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nflows_woodbury.checks import check_natural_int, check_one_of, check_positive_int
from nflows_woodbury.cli.flags import Command, add_number
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
from nflows_woodbury.config import LOW_RANK, MIXINGS, FlowConfig
from nflows_woodbury.files import check_writable
from nflows_woodbury.train.config import TrainingConfig
from nflows_woodbury.train.presets import with_changes

if TYPE_CHECKING:
    from nflows_woodbury.train.compared import Comparison

__all__ = ["COMMAND"]

TABLE, PICTURE = "comparison.csv", "comparison.png"


def add_flags(command: argparse.ArgumentParser) -> None:
    """What is compared, the settings that all share, and how it is run."""
    command.add_argument(
        "--mixing", nargs="+", metavar="NAME",
        help=f"{MIXING_NAMES} (default: those of the folder)",
    )  # fmt: skip
    command.add_argument(
        "--seeds", type=int, metavar="N", help="runs of each, with seeds from --seed on (default: those of the folder)"
    )
    add_number(command, "--seed", 0, "the first of them")
    command.add_argument(
        "--out", type=Path, metavar="FOLDER", help="folder of all runs, of the table and of the picture; settings that "
        "are not given are those of the runs in it (default: comparison)"
    )  # fmt: skip
    add_number(command, "--jobs", 1, "runs at a time, each in a process of its own")
    command.add_argument("--table", action="store_true", help="train nothing, show what there is")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    add_preset(command)
    add_model(command.add_argument_group("model"))
    add_images(command.add_argument_group("data"))
    add_training(command.add_argument_group("training"))


def run(
    mixing: Sequence[str] = (), seeds: int | None = None, seed: int | None = None, out: Path = Path("comparison"),
    jobs: int = 1, table: bool = False, quiet: bool = False, **given: Any,
) -> None:  # fmt: skip
    """Train what is missing, and print the table; ValueError names the runs that are not done."""
    for name in mixing:
        check_one_of("mixing", name, MIXINGS)
    check_positive_int("jobs", jobs)
    numbers = _numbers(seeds, seed)
    from nflows_woodbury.train.compared import read_begun
    from nflows_woodbury.train.comparison import begin, train_all
    from nflows_woodbury.train.environment import check_extras, tell

    check_extras()
    begun = read_begun(out)
    if begun is None and not (mixing and numbers and not table):
        raise ValueError(f"mixing and seeds must say what to compare, as {out} holds no comparison yet")
    comparison = _settings(out, given, begun)
    if table:
        _show(out)
        every = [(name, number) for number in comparison.seeds for name in comparison.mixings]
        if missing := comparison.missing(every):
            tell(f"not done: {', '.join(comparison.folder(pair).name for pair in missing)}")
        return
    check_writable(out / TABLE)
    comparison = begin(comparison, mixing, numbers)
    pairs = [(name, number) for number in numbers or comparison.seeds for name in mixing or comparison.mixings]
    try:
        for _ in train_all(comparison, pairs, jobs=jobs, quiet=quiet):
            _write(out)
    except BaseException:
        tell(f"to go on: nflows-woodbury compare --out {shlex.quote(str(out))}")
        raise
    finally:  # a signal, too, leaves what was done
        _show(out)
    if missing := comparison.missing(pairs):
        names = ", ".join(comparison.folder(pair).name for pair in missing)
        raise ValueError(f"{len(missing)} of {len(pairs)} runs are not done, as said above or elsewhere: {names}")


def _numbers(seeds: int | None, first: int | None) -> range:
    """The seeds that are asked for, none for those of the folder."""
    if seeds is None:
        if first is not None:
            raise ValueError(f"seed must come with seeds, how many there are from it on, got seed {first} alone")
        return range(0)
    first = check_natural_int("seed", first or 0)
    return range(first, first + check_positive_int("seeds", seeds))


def _settings(out: Path, given: dict[str, Any], begun: Comparison | None) -> Comparison:
    """Those that are given and, for the rest, those of the runs that there are; ValueError where they differ.

    The place of the images may change.
    """
    from nflows_woodbury.train.compared import Comparison

    values = dict(given)
    if "preset" in values:
        values = with_changes(values.pop("preset"), {**given, "mixing": LOW_RANK[0]})
    values = {name: value for name, value in values.items() if name not in ("preset", "mixing", "seed")}
    if begun is None:
        training = TrainingConfig(**fields_of(TrainingConfig, values))
        return Comparison(out, FlowConfig(**fields_of(FlowConfig, values)), training, "conditional" in values)
    data = values.pop("data", begun.training.data)  # where the images are now; begin sees that they are the same
    there = values_of(begun.flow, begun.training) | {"conditional": begun.conditional}
    if refused := refusals(values, there, "the comparison"):
        raise ValueError(f"{refused} cannot change in a comparison; leave out, or take another --out")
    return replace(begun, training=replace(begun.training, data=data))


def _write(out: Path) -> list[str]:
    """The table and the picture, as files; and the table's lines."""
    from nflows_woodbury.evaluation.ranking import draw, ranking, table, write_csv
    from nflows_woodbury.train.compared import read_records

    rows = ranking(read_records(out))
    if rows:
        write_csv(out / TABLE, rows)
        draw(out / PICTURE, rows)
    return table(rows) if rows else []


def _show(out: Path) -> None:
    lines = _write(out) or ["no run is done yet"]
    print(*lines, *(out / name for name in (TABLE, PICTURE) if (out / name).is_file()), sep="\n")


COMMAND = Command("train several mixings alike, and compare what each gives and costs", add_flags, run)
