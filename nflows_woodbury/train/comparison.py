"""Training runs that are alike but for their mixing and seed, each in a folder of its own."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import replace
from io import StringIO
from threading import Thread
from typing import Any

from nflows_woodbury.checkpoint import open_images, open_run
from nflows_woodbury.data.opening import open_source, plain_spec
from nflows_woodbury.data.sources import ImageSource
from nflows_woodbury.evaluation.costs import costs
from nflows_woodbury.files import write_json
from nflows_woodbury.train.compared import CLAIMS, RECORD, SETTINGS, Comparison, Pair, read_begun, read_records
from nflows_woodbury.train.config import Running
from nflows_woodbury.train.environment import alone_in, tell
from nflows_woodbury.train.run import resume, start
from nflows_woodbury.train.saved import read_run
from nflows_woodbury.train.signals import Interrupted, handled, interrupt

__all__ = ["begin", "train_all"]


def begin(comparison: Comparison, mixings: Sequence[str], seeds: Sequence[int]) -> Comparison:
    """Build each mixing's flow once, and note settings, mixings and seeds down in the folder.

    Raises:
        FileExistsError: if the folder holds something else.
        ValueError, TypeError, OSError: for bad settings or images, images that changed since the first run, and records
            of other runs.
    """
    out = comparison.out
    if read_begun(out) is None and out.is_dir() and {path.name for path in out.iterdir()} - {CLAIMS}:
        raise FileExistsError(f"{out} holds something else than a comparison; --out takes another folder")
    for number in seeds:
        replace(comparison.training, seed=number)
    source = _images(comparison)
    if comparison.conditional and not source.num_classes:
        raise ValueError(f"conditional needs labelled images; {source.name} has no labels")
    for mixing in mixings:
        replace(comparison.flow_of(mixing), shape=source.shape).build()
    flow = replace(comparison.flow, shape=source.shape)
    training = replace(comparison.training, data=plain_spec(comparison.training.data))
    with alone_in(out / CLAIMS, wait=True):  # another command may begin it, or add to it, at the same time
        there = read_begun(out) or replace(comparison, flow=flow, training=training)
        begun = replace(
            comparison,
            flow=flow,
            training=training,
            mixings=tuple(dict.fromkeys([*there.mixings, *mixings])),
            seeds=tuple(sorted({*there.seeds, *seeds})),
        )
        if (there.flow, replace(there.training, data=training.data), there.conditional) != (
            flow, training, comparison.conditional
        ):  # fmt: skip
            raise ValueError(f"settings must be those of the comparison that another command began in {out}")
        read_records(out)
        values = {name: getattr(begun, name) for name in ("conditional", "mixings", "seeds")}
        write_json(out / SETTINGS, {"flow": flow.to_dict(), "training": training.to_dict(), **values})
    return begun


def _images(comparison: Comparison) -> ImageSource:
    """Those of the runs that there are, or of new ones."""
    training = comparison.training
    run = next(comparison.out.glob("*/checkpoints/last.ckpt"), None)
    if run is None:
        new = open_source(
            training.data, size=training.size, test_images=training.test_images or None,
            skip_broken=training.skip_broken,
        )  # fmt: skip
        if new.is_fields:
            raise ValueError(f"data must be images, whose bits/dim are compared, got fields in {training.data}")
        return new
    source, change = open_images({**read_run(run).saved, "training": training.to_dict()})
    if change is not None:
        raise ValueError(f"the images in {training.data} are not those of the comparison any more: {change}")
    return source


def train_all(comparison: Comparison, pairs: Sequence[Pair], *, jobs: int = 1, quiet: bool = False) -> Iterator[Pair]:
    """Train and measure what is missing, and yield each run of this process when it is done.

    A run that another process is at is passed over, so several commands can share a folder. One that fails is said on
    standard error, and the others go on.

    Args:
        comparison: the settings.
        pairs: mixings and seeds, in their order.
        jobs: processes; a signal that ends this one ends all, and each leaves a checkpoint.
        quiet: show no progress bar.
    """
    with _helpers(comparison, pairs, jobs - 1) as helpers:
        yield from _work(comparison, pairs, quiet or jobs > 1)
        for helper in helpers:
            helper.join()


@contextmanager
def _helpers(comparison: Comparison, pairs: Sequence[Pair], count: int) -> Iterator[list[Any]]:
    """Further processes at the same runs; they end with the block."""
    context = multiprocessing.get_context("spawn")
    helpers = [context.Process(target=_help, args=(comparison, pairs)) for _ in range(count)]
    for helper in helpers:
        helper.start()
    try:
        yield helpers
    finally:
        for helper in helpers:
            helper.terminate()
        for helper in helpers:
            helper.join()


def _help(comparison: Comparison, pairs: Sequence[Pair]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches all, and the parent ends this one
    Thread(target=_end_with_parent, daemon=True).start()
    try:
        with handled(interrupt):
            for _ in _work(comparison, pairs, quiet=True):
                pass
    except Interrupted as end:
        raise SystemExit(end.status) from None


def _end_with_parent() -> None:
    """Wait for the end of the process that started this one, which a kill leaves no time to end it; then end it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _work(comparison: Comparison, pairs: Sequence[Pair], quiet: bool) -> Iterator[Pair]:
    for number, pair in enumerate(pairs, 1):
        with ExitStack() as claim:
            try:
                claim.enter_context(alone_in(comparison.out / CLAIMS / comparison.folder(pair).name))
            except FileExistsError:  # another process is at it
                continue
            if not (comparison.folder(pair) / RECORD).is_file():
                tell(f"run {number} of {len(pairs)}: {pair[0]}, seed {pair[1]}")
                if _is_trained(comparison, pair, quiet):
                    yield pair


def _is_trained(comparison: Comparison, pair: Pair, quiet: bool) -> bool:
    """Train and measure one run; False, and a line on standard error, where it fails by itself."""
    try:
        with redirect_stdout(StringIO()):  # its results are in its folder
            _train(comparison, pair, quiet)
    except (ValueError, TypeError, ArithmeticError, FileExistsError, FileNotFoundError) as error:
        tell(f"{comparison.folder(pair)}: {error}")
        return False
    return True


def _train(comparison: Comparison, pair: Pair, quiet: bool) -> None:
    folder, (mixing, seed) = comparison.folder(pair), pair
    running = Running(out=folder, quiet=quiet)
    if (folder / "result.json").is_file():  # its test images are not looked at again
        pass
    elif (folder / "checkpoints" / "last.ckpt").is_file():
        saved = read_run(folder)
        resume(saved, replace(saved.training, data=comparison.training.data), running)
    else:
        _images(comparison)  # a ValueError if they changed
        training = replace(comparison.training, seed=seed)
        start(comparison.flow_of(mixing), training, running, conditional=comparison.conditional)
    (result,) = json.loads((folder / "result.json").read_text())
    write_json(folder / RECORD, {**result, **costs(open_run(folder, comparison.training.data))})
