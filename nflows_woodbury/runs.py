"""What the commands do: a training run in a folder of its own, its evaluation and its samples."""

from __future__ import annotations

import json
import logging
import os
import shlex
import warnings
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from nflows_woodbury.checkpoint import find_checkpoint, load_flow, read_checkpoint
from nflows_woodbury.checks import positive_int
from nflows_woodbury.data import ImageSet, ImageSource
from nflows_woodbury.evaluation import bits_per_dim, image_grid, png_bits_per_dim, sample_classes, save_png
from nflows_woodbury.flow import ImageFlow
from nflows_woodbury.loading import open_source
from nflows_woodbury.presets import FlowConfig

__all__ = ["evaluate", "sample", "train"]

RESUMABLE = {"max_steps", "every", "data", "devices", "quiet"}  # what may differ when a run is continued


def train(options: dict[str, Any]) -> None:
    """Train as the command line says, and print where everything is.

    Args:
        options: fields of ``FlowConfig`` and ``TrainingConfig``, and ``conditional``, ``devices``, ``out``,
            ``resume`` and ``quiet``; what is missing has its default.

    Raises:
        FileExistsError: if ``out`` holds a run already.
        ValueError, TypeError, OSError: for bad settings, data or checkpoints, before training starts.
    """
    # Lightning takes seconds to import
    from pytorch_lightning.utilities import rank_zero_only

    from nflows_woodbury import training

    _quieten()
    devices, quiet = positive_int("devices", options.pop("devices", 1)), options.pop("quiet", False)
    resume, out = options.pop("resume", None), options.pop("out", None)
    conditional = options.pop("conditional", False)
    checkpoint = None
    if resume is not None:
        checkpoint, options, run_folder = _resume(resume, options, out, conditional)
    config = training.TrainingConfig(**_fields(training.TrainingConfig, options))
    source = open_source(config.data, size=config.size)
    if checkpoint is None:
        run_folder = Path(out) if out else Path("runs") / f"{source.name}-{options.get('mixing', FlowConfig.mixing)}"
        is_first = rank_zero_only.rank == 0  # type: ignore[attr-defined]
        if is_first and (run_folder / "checkpoints").exists():  # other ranks find what the first one makes
            raise FileExistsError(f"{run_folder} holds a run; --resume {run_folder} continues it, --out takes another")
        if conditional:
            options["num_classes"] = _num_classes(source)
        options["shape"] = source.shape
    flow_config = FlowConfig(**_fields(FlowConfig, options))
    module = training.FlowTraining(flow_config, config, source)
    trainer = training.make_trainer(config, run_folder, devices=devices, progress=not quiet)
    start = perf_counter()
    trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
    if trainer.is_global_zero:
        print(f"\n{trainer.global_step} steps in {perf_counter() - start:.0f} s")
        if trainer.global_step < config.max_steps:
            print(f"stopped before step {config.max_steps}; what continues it:")
            print(f"  nflows-woodbury train --resume {_quoted(run_folder)}")
        else:
            _finish(module.flow, flow_config, source, run_folder, trainer.global_step)


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
    flow = FlowConfig.from_dict(saved["flow"]).to_dict()
    return checkpoint, {**flow, **saved["training"], **options}, checkpoint.parent.parent


def _finish(flow: ImageFlow, config: FlowConfig, source: ImageSource, folder: Path, step: int) -> None:
    result = _measure(flow, config, source.test)
    size = "x".join(map(str, source.shape))
    print(
        f"test bits/dim  {result['bits_per_dim']:.3f}  ({len(source.test)} images, {size})\n"
        f"PNG bits/dim   {png_bits_per_dim(source.test.images):.3f}  (each image by itself, without the file's header)"
    )
    _write_json(folder / "result.json", {**result, "steps": step})
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


def evaluate(
    checkpoint: str, *, data: str | None = None, samples: int = 1, seed: int = 0, limit: int | None = None,
    json: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Test bits per dimension of a trained flow, on the data of its run or on others of the same shape."""
    flow, settings = load_flow(checkpoint)
    config = FlowConfig.from_dict(settings["flow"])
    training = settings["training"]
    source = open_source(data, size=config.shape[1]) if data else open_source(training["data"], size=training["size"])
    if source.shape != config.shape:
        raise ValueError(f"data must have images of shape {config.shape}, as the model, got {source.shape}")
    images = source.test
    if limit is not None:
        images = images.take(np.arange(min(positive_int("limit", limit), len(images))))
    result = {"data": source.name, **_measure(flow.to(_device()), config, images, samples=samples, seed=seed)}
    if json is not None:
        _write_json(Path(json), result)
    return result


def sample(
    checkpoint: str, *, num: int = 36, temperature: float = 1.0, label: int | None = None, seed: int = 0,
    out: str = "samples.png",
) -> Path:  # fmt: skip
    """Write a grid of samples as PNG."""
    if Path(out).suffix.lower() != ".png":
        raise ValueError(f"out must be a .png file, got {out!r}")
    flow, settings = load_flow(checkpoint)
    classes = FlowConfig.from_dict(settings["flow"]).num_classes
    if label is not None and not 0 <= label < classes:
        raise ValueError(f"label must be one of the model's {classes} classes, from 0, got {label}")
    torch.manual_seed(seed)
    images = sample_classes(flow.to(_device()), positive_int("num", num), classes, label=label, temperature=temperature)
    return save_png(image_grid(images.cpu()), out, zoom=2)


def _measure(
    flow: ImageFlow, config: FlowConfig, images: ImageSet, *, samples: int = 1, seed: int = 0
) -> dict[str, Any]:
    bits = bits_per_dim(flow, images, num_classes=config.num_classes, samples=samples, seed=seed)
    return {
        "bits_per_dim": float(bits.mean()),
        "standard_error": float(bits.std() / len(bits) ** 0.5),
        "images": len(images),
        "dequantization_samples": samples,
        "noise_seed": seed,
        "parameters": sum(parameter.numel() for parameter in flow.parameters()),
        "flow": config.to_dict(),
    }


def _num_classes(source: ImageSource) -> int:
    if not source.num_classes:
        raise ValueError(f"conditional needs labelled images; {source.name} has no labels")
    return source.num_classes


def _fields(config: Any, options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in config.__dataclass_fields__}


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _write_json(path: Path, values: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(values, indent=2) + "\n")
    partial.replace(path)


def _quieten() -> None:
    """Leave out Lightning's advice that does not apply: batches are made in memory, on purpose without workers."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*you're resuming from a checkpoint that ended before the epoch.*")
    warnings.filterwarnings("ignore", message=".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*")
