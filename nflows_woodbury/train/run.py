"""What the training command does: a run in a folder of its own."""

from __future__ import annotations

import logging
import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any

from nflows_woodbury.checkpoint import find_checkpoint, read_checkpoint
from nflows_woodbury.config import FlowConfig
from nflows_woodbury.data.opening import open_source
from nflows_woodbury.data.sources import ImageSource
from nflows_woodbury.evaluation.likelihood import png_bits_per_dim
from nflows_woodbury.evaluation.record import evaluate
from nflows_woodbury.optional import import_extra
from nflows_woodbury.train.config import TrainingConfig
from nflows_woodbury.train.presets import with_changes

__all__ = ["train"]

#: what may differ when a run is continued
RESUMABLE = {"max_steps", "every", "data", "compile", "reversible", "devices", "num_nodes", "quiet"}


def train(options: dict[str, Any]) -> None:
    """Train as the command line says, and print where everything is.

    Args:
        options: fields of ``FlowConfig`` and ``TrainingConfig``, and ``conditional``, ``devices``, ``num_nodes``,
            ``out``, ``resume`` and ``quiet``; what is missing has the value of the ``preset``, if there is one, or its
            default.

    Raises:
        FileExistsError: if ``out`` holds a run already.
        ValueError, TypeError, OSError: for bad settings, data or checkpoints, before training starts.
    """
    # Lightning takes seconds to import
    from pytorch_lightning.utilities import rank_zero_only

    from nflows_woodbury.train.module import FlowTraining
    from nflows_woodbury.train.trainer import make_trainer

    _quieten()
    running = {name: options.pop(name) for name in ("devices", "num_nodes") if name in options}
    quiet, resume, out = options.pop("quiet", False), options.pop("resume", None), options.pop("out", None)
    conditional = options.pop("conditional", False)
    checkpoint = None
    if resume is not None:
        checkpoint, options, folder = _resume(resume, options, out, conditional)
    elif options.get("preset"):
        options = with_changes(options["preset"], options)
    config = TrainingConfig(**_fields(TrainingConfig, options))
    source = _open(config)
    if checkpoint is None:
        folder = Path(out or Path("runs") / _name(source, options))
        is_first = rank_zero_only.rank == 0  # type: ignore[attr-defined]
        if is_first and any(folder.glob("checkpoints/*.ckpt")):  # other ranks find what the first one makes
            raise FileExistsError(f"{folder} holds a run; --resume {folder} continues it, --out takes another")
        options["shape"] = source.shape
        if conditional:
            options["num_classes"] = _num_classes(source)
    module = FlowTraining(FlowConfig(**_fields(FlowConfig, options)), config, source)
    trainer = make_trainer(config, folder, progress=not quiet, **running)
    with _alone_in(folder) if trainer.is_global_zero else nullcontext():
        start = perf_counter()
        trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
        if trainer.is_global_zero:
            print(f"\n{trainer.global_step} steps in {perf_counter() - start:.0f} s")
            if trainer.global_step < config.max_steps:
                print(f"stopped before step {config.max_steps}; what continues it:")
                print(f"  nflows-woodbury train --resume {_quoted(folder)}")
            else:
                _finish(folder, source)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; FileExistsError while another process does. A killed process holds it no longer."""
    filelock = import_extra("filelock")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / ".lock", timeout=0):
            yield
    except filelock.Timeout as error:
        raise FileExistsError(f"{folder} is in use by another run; wait for it, or --out takes another") from error


def _open(config: TrainingConfig) -> ImageSource:
    try:
        return open_source(config.data, size=config.size, test_images=config.test_images or None)
    except FileNotFoundError as error:
        if not config.preset:
            raise
        raise FileNotFoundError(
            f"{error}; {config.preset} looks for its images in {config.data}, --data takes another place, and the docs "
            "on data sets say what goes there"
        ) from error


def _name(source: ImageSource, options: dict[str, Any]) -> str:
    return options.get("preset") or f"{source.name}-{options.get('mixing', FlowConfig.mixing)}"


def _resume(
    resume: str, options: dict[str, Any], out: str | None, conditional: bool
) -> tuple[Path, dict[str, Any], Path]:
    """The checkpoint, the saved options with what was given anew, and the run's folder."""
    checkpoint = find_checkpoint(resume)
    fixed = sorted({*options, *(["out"] if out else []), *(["conditional"] if conditional else [])} - RESUMABLE)
    if fixed:
        flags = ", ".join("--" + name.replace("_", "-") for name in fixed)
        raise ValueError(f"{flags} cannot change when a run is resumed; leave out, or start a new run")
    saved = read_checkpoint(checkpoint)["nflows_woodbury"]
    try:
        flow, run = FlowConfig.from_dict(saved["flow"]), TrainingConfig.from_dict(saved["training"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{checkpoint} must be of a version whose settings this one knows; {error}") from error
    return checkpoint, {**flow.to_dict(), **run.to_dict(), **options}, checkpoint.parent.parent


def _finish(folder: Path, source: ImageSource) -> None:
    record = evaluate([str(folder)], json=str(folder / "result.json"))[0]
    size = "x".join(map(str, source.shape))
    print(
        f"test bits/dim  {record['bits_per_dim']:.3f}  ({record['images']} images, {size})\n"
        f"PNG bits/dim   {png_bits_per_dim(source.test.images):.3f}  (each image by itself, without the file's header)"
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
    print(f"next: nflows-woodbury sample {_quoted(folder)} --temperature 0.9 --out more.png")


def _num_classes(source: ImageSource) -> int:
    if not source.num_classes:
        raise ValueError(f"conditional needs labelled images; {source.name} has no labels")
    return source.num_classes


def _fields(config: Any, options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in config.__dataclass_fields__}


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _quieten() -> None:
    """Show what this package logs; leave out Lightning's advice on worker processes, which batches do without."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("nflows_woodbury").setLevel(logging.INFO)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*you're resuming from a checkpoint that ended before the epoch.*")
    warnings.filterwarnings("ignore", message=".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*")
