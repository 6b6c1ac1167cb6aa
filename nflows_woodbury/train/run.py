"""A training run in a folder of its own, from its start or from its checkpoint."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from nflows_woodbury.checkpoint import Run, find_device, load_flow, open_images
from nflows_woodbury.config import FlowConfig
from nflows_woodbury.data.opening import open_source, plain_spec
from nflows_woodbury.data.sources import ImageSource
from nflows_woodbury.data.summary import describe_source
from nflows_woodbury.evaluation.likelihood import png_bits_per_dim
from nflows_woodbury.evaluation.record import measure
from nflows_woodbury.files import check_writable, explain, write_json
from nflows_woodbury.train.config import Running, TrainingConfig
from nflows_woodbury.train.environment import alone_in, check_compiler, check_launcher, quieten, tell
from nflows_woodbury.train.saved import SavedRun, check_free
from nflows_woodbury.train.signals import Interrupted

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

    from nflows_woodbury.train.module import FlowTraining

__all__ = ["CHANGEABLE", "resume", "start"]

#: settings that may differ when a run is continued
CHANGEABLE = ("max_steps", "every", "data", "skip_broken", "compile", "reversible")


def start(flow: FlowConfig, training: TrainingConfig, running: Running, *, conditional: bool = False) -> None:
    """Train a new flow in a new folder, and print where everything is.

    Args:
        flow: the model; its shape becomes that of the images.
        training: the run.
        running: where and on what.
        conditional: condition the model on the classes of the images.

    Raises:
        FileExistsError: if the folder holds a run already.
        ValueError, TypeError, OSError: for bad settings or data, before training starts.
    """
    from pytorch_lightning.utilities import rank_zero_only  # Lightning takes seconds to import

    source = _open(training, running)
    summary = describe_source(training.data, source)
    training = replace(training, data=plain_spec(training.data), batch_size=_batch_size(training, source, running))
    folder = running.out or Path("runs") / (training.preset or f"{source.name}-{flow.mixing}")
    check_writable(folder / "checkpoints" / "last.ckpt")
    is_first = running.devices * running.num_nodes == 1 or rank_zero_only.rank == 0  # type: ignore[attr-defined]
    if is_first:  # other ranks find what the first one makes
        check_free(folder)
        print(*summary, sep="\n", flush=True)
    classes = _num_classes(source) if conditional else 0
    flow = replace(flow, shape=source.shape, num_classes=classes, first=_first(flow, source))
    _train(flow, training, source, folder, running)


def _first(flow: FlowConfig, source: ImageSource) -> str | None:
    """What fields meet first; ValueError for one of images."""
    if source.is_fields:
        return flow.first or "standardize"
    if flow.first is not None:
        raise ValueError(f"first must be left out for images, which are dequantized first, got {flow.first!r}")
    return None


def _open(training: TrainingConfig, running: Running) -> ImageSource:
    """The images of a new run, whose folder must be another than theirs."""
    if running.out is not None and running.out.resolve() == Path(training.data).resolve():
        raise ValueError(f"out must be another path than that of the data, it may be a folder in it, got {running.out}")
    with _explained(training):
        return open_source(
            training.data, size=training.size, test_images=training.test_images or None,
            skip_broken=training.skip_broken, say=False,
        )  # fmt: skip


def _batch_size(training: TrainingConfig, source: ImageSource, running: Running) -> int:
    """That of the settings, or what the training images suffice for."""
    parts = running.devices * running.num_nodes * training.accumulate
    most = source.train_size // parts * parts
    if not 0 < most < training.batch_size:
        return training.batch_size
    tell(f"{most} images a step, as there are {source.train_size} to train on")
    return most


def resume(saved: SavedRun, training: TrainingConfig, running: Running) -> None:
    """Go on with a run from its checkpoint, and print where everything is.

    Args:
        saved: the run.
        training: its settings; they may differ in those of :data:`CHANGEABLE`.
        running: on what; its folder is that of the run.

    Raises:
        ValueError, TypeError, OSError: for other changes or bad data, before training starts.
    """
    before, now = saved.training.to_dict(), training.to_dict()
    if changed := sorted(name for name in now if now[name] != before[name] and name not in CHANGEABLE):
        raise ValueError(f"training must be that of the run but for {', '.join(CHANGEABLE)}; {changed} differ")
    if training.data != saved.training.data:
        training = replace(training, data=plain_spec(training.data))
    with _explained(training):
        source, change = open_images({**saved.saved, "training": training.to_dict()})
    if change is not None and not running.changed_data:
        raise ValueError(
            f"the images in {training.data} are not those of the run any more: {change}; --changed-data goes on with "
            "them, --data names another place"
        )
    check_writable(saved.folder / "checkpoints" / "last.ckpt")
    _train(saved.flow, training, source, saved.folder, running, saved.checkpoint)


def _train(
    flow: FlowConfig, training: TrainingConfig, source: ImageSource, folder: Path, running: Running,
    checkpoint: Path | None = None,
) -> None:  # fmt: skip
    from nflows_woodbury.train.module import FlowTraining
    from nflows_woodbury.train.trainer import make_trainer

    quieten()
    if training.compile:
        check_compiler()
    if running.num_nodes > 1:
        check_launcher(running)
    module = FlowTraining(flow, training, source)
    trainer = make_trainer(
        training, folder, devices=running.devices, num_nodes=running.num_nodes, progress=not running.quiet
    )
    with alone_in(folder) if trainer.is_global_zero else nullcontext():
        try:
            _fit(trainer, module, checkpoint)
            if trainer.is_global_zero:
                _finish(folder, source)
        except (Interrupted, BrokenPipeError):
            if trainer.is_global_zero:
                tell(_way_on(trainer, folder))
            raise
        except OSError as error:
            raise OSError(f"{explain(error)}; {_way_on(trainer, folder)}") from error


def _fit(trainer: Trainer, module: FlowTraining, checkpoint: Path | None) -> None:
    """Train to the last step, or until a signal."""
    from nflows_woodbury.train.callbacks import StopOnSignal

    began = perf_counter()
    try:
        trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
    except Interrupted:  # a second signal
        if trainer.strategy.launcher is not None:
            trainer.strategy.launcher.kill(signal.SIGKILL)
        raise
    (stop,) = (callback for callback in trainer.callbacks if isinstance(callback, StopOnSignal))  # type: ignore[attr-defined]
    if stop.number is not None:
        raise Interrupted(stop.number)
    if trainer.is_global_zero:
        print(f"{trainer.global_step} steps in {perf_counter() - began:.0f} s")


def _way_on(trainer: Trainer, folder: Path) -> str:
    """What to do with a run that ended before its results."""
    step = trainer.global_step
    if not (folder / "checkpoints" / "last.ckpt").is_file():
        return f"it ended at step {step}, before its first checkpoint: start it again"
    if step < trainer.max_steps:
        return f"it ended at step {step}; to go on: nflows-woodbury train --resume {_quoted(folder)}"
    return f"all steps are done; for its results: nflows-woodbury evaluate {_quoted(folder)}"


@contextmanager
def _explained(training: TrainingConfig) -> Iterator[None]:
    """Say of images that are not there where a preset looks for them."""
    try:
        yield
    except FileNotFoundError as error:
        if not training.preset:
            raise
        raise FileNotFoundError(
            f"{error}; {training.preset} looks for its images in {training.data}, --data takes another place, and the "
            "docs on data sets say what goes there"
        ) from error


def _finish(folder: Path, source: ImageSource) -> None:
    flow, saved = load_flow(folder)
    record = measure(Run(flow.to(find_device()), saved, source))
    write_json(folder / "result.json", [record])
    size = "x".join(map(str, source.shape))
    if source.is_fields:
        print(
            f"test log-density  {_finite(record['log_density_nats']):.3f} nats  ({record['images']} fields, {size})\n"
            f"the same          {_finite(record['differential_bits_per_dim']):.3f} differential bits/dim  "
            "(in the units of the data; not to be compared with bits/dim of images)"
        )
    else:
        png = png_bits_per_dim(source.test.images)
        print(
            f"test bits/dim  {_finite(record['bits_per_dim']):.3f}  ({record['images']} images, {size})\n"
            f"PNG bits/dim   {png:.3f}  (each image by itself, without the file's header)"
        )
    places = {
        "samples": folder / "samples.png",
        "reconstructions": folder / "reconstructions.png",
        "checkpoint": folder / "checkpoints" / "last.ckpt",
        "log": folder / "log",
        "result": folder / "result.json",
    }
    for name, place in places.items():
        print(f"{name + ':':17}{place}")
    more = "more.npy" if source.is_fields else "more.png"
    print(f"next: nflows-woodbury sample {_quoted(folder)} --temperature 0.9 --out {more}")


def _finite(value: float | None) -> float:
    return float("nan") if value is None else value


def _num_classes(source: ImageSource) -> int:
    if not source.num_classes:
        raise ValueError(f"conditional needs labelled images; {source.name} has no labels")
    return source.num_classes


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
