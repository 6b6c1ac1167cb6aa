"""What the commands do with a trained flow: likelihoods with a record of how they came about, and pictures."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from statistics import mean, stdev
from time import perf_counter
from typing import Any

import numpy as np
import torch

from nflows_woodbury.checkpoint import load_flow
from nflows_woodbury.checks import check_positive_int
from nflows_woodbury.config import FlowConfig
from nflows_woodbury.data.opening import open_source
from nflows_woodbury.data.sources import ImageSet, ImageSource
from nflows_woodbury.evaluation.diagnosis import LayerReport, diagnose
from nflows_woodbury.evaluation.likelihood import bits_per_dim
from nflows_woodbury.evaluation.pictures import image_grid, save_png
from nflows_woodbury.evaluation.samples import (
    class_context,
    interpolations,
    nearest_images,
    reconstructions,
    sample_classes,
)
from nflows_woodbury.files import write_json
from nflows_woodbury.flow import ImageFlow

__all__ = ["evaluate", "examine", "interpolate", "nearest", "reconstruct", "sample"]


def evaluate(
    checkpoints: Sequence[str], *, data: str | None = None, samples: int = 1, importance_samples: int = 1,
    seed: int = 0, limit: int | None = None, averaged: bool = True, json: str | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Test bits per dimension of trained flows, each on the data of its run or on others of the same shape.

    Args:
        checkpoints: checkpoints or run folders, such as runs with several seeds.
        data: other data than the run's.
        samples: estimates for each image, averaged.
        importance_samples: draws of the noise for each estimate, see
            :func:`~nflows_woodbury.evaluation.likelihood.bits_per_dim`.
        seed: of the noise.
        limit: only the first images of the test set.
        averaged: use the averaged weights where a run keeps them.
        json: also write the records there: a list.

    Returns:
        One record for each checkpoint, with the result and all that it takes to repeat it.

    >>> from tempfile import TemporaryDirectory
    >>> from nflows_woodbury.cli.main import main
    >>> with TemporaryDirectory() as run:  # doctest: +ELLIPSIS
    ...     _ = main([*"train --size 8 --levels 1 --steps 1 --max-steps 1 --quiet --out".split(), run])
    ...     evaluate([run], limit=4)[0]["images"]
    <BLANKLINE>
    1 steps in ...
    4
    """
    records = []
    for checkpoint in checkpoints:
        flow, saved, source = _open(checkpoint, data, averaged=averaged)
        images = source.test
        if limit is not None:
            images = images.take(np.arange(min(check_positive_int("limit", limit), len(images))))
        start = perf_counter()
        bits = bits_per_dim(
            flow, images, num_classes=saved["flow"]["num_classes"], samples=samples,
            importance_samples=importance_samples, seed=seed,
        )  # fmt: skip
        records.append(
            {
                "bits_per_dim": float(bits.mean()),
                "standard_error": float(bits.std() / len(bits) ** 0.5),
                "data": source.name,
                "images": len(images),
                "samples": samples,
                "importance_samples": importance_samples,
                "noise_seed": seed,
                "weights": "averaged" if averaged and saved["training"].get("ema_decay") else "last",
                "parameters": sum(parameter.numel() for parameter in flow.parameters()),
                "steps": saved["steps"],
                "training_seconds": round(saved.get("seconds", 0.0), 1),
                "evaluation_seconds": round(perf_counter() - start, 1),
                **_circumstances(),
                "flow": saved["flow"],
                "training": saved["training"],
            }
        )
    if json is not None:
        write_json(json, records)
    return records


def spread(records: Sequence[dict[str, Any]]) -> str:
    """One line: the mean and standard deviation of the records' bits per dimension."""
    bits = [record["bits_per_dim"] for record in records]
    return f"{len(bits)} runs: {mean(bits):.3f} bits/dim, standard deviation {stdev(bits):.3f}"


def sample(
    checkpoint: str, *, num: int = 36, temperature: float = 1.0, label: int | None = None, seed: int = 0,
    averaged: bool = True, out: str = "samples.png",
) -> Path:  # fmt: skip
    """Write a grid of samples as PNG.

    >>> from tempfile import TemporaryDirectory
    >>> from nflows_woodbury.cli.main import main
    >>> with TemporaryDirectory() as run:  # doctest: +ELLIPSIS
    ...     _ = main([*"train --size 8 --levels 1 --steps 1 --max-steps 1 --quiet --out".split(), run])
    ...     sample(run, num=4, temperature=0.7, out=f"{run}/more.png").name
    <BLANKLINE>
    1 steps in ...
    'more.png'
    """
    _png(out)
    flow, saved = load_flow(checkpoint, averaged=averaged)
    return save_png(image_grid(_samples(flow.to(_device()), saved, num, temperature, label, seed)), out, zoom=2)


def reconstruct(
    checkpoint: str, *, data: str | None = None, num: int = 18, seed: int = 0, averaged: bool = True,
    out: str = "reconstructions.png",
) -> Path:  # fmt: skip
    """Write a grid of test images, each beside what comes back from its noise.

    >>> from tempfile import TemporaryDirectory
    >>> from nflows_woodbury.cli.main import main
    >>> with TemporaryDirectory() as run:  # doctest: +ELLIPSIS
    ...     _ = main([*"train --size 8 --levels 1 --steps 1 --max-steps 1 --quiet --out".split(), run])
    ...     reconstruct(run, num=4, out=f"{run}/pairs.png").name
    <BLANKLINE>
    1 steps in ...
    'pairs.png'
    """
    _png(out)
    flow, saved, source = _open(checkpoint, data, averaged=averaged)
    images = _first(source.test, num)
    torch.manual_seed(seed)
    back = reconstructions(flow, images.images.to(_device()), _context(images, saved)).cpu()
    return save_png(image_grid(torch.stack([images.images, back], 1).flatten(0, 1)), out, zoom=2)


def interpolate(
    checkpoint: str, *, data: str | None = None, pairs: int = 4, num: int = 8, seed: int = 0, averaged: bool = True,
    out: str = "interpolations.png",
) -> Path:  # fmt: skip
    """Write rows of pictures that go from one test image to another along a straight line between their noises.

    >>> from tempfile import TemporaryDirectory
    >>> from nflows_woodbury.cli.main import main
    >>> with TemporaryDirectory() as run:  # doctest: +ELLIPSIS
    ...     _ = main([*"train --size 8 --levels 1 --steps 1 --max-steps 1 --quiet --out".split(), run])
    ...     interpolate(run, pairs=2, num=5, out=f"{run}/lines.png").name
    <BLANKLINE>
    1 steps in ...
    'lines.png'
    """
    _png(out)
    flow, saved, source = _open(checkpoint, data, averaged=averaged)
    images = _first(source.test, 2 * check_positive_int("pairs", pairs))
    first, second = (images.take(np.arange(i, 2 * pairs, 2)) for i in (0, 1))
    torch.manual_seed(seed)
    start, end = _context(first, saved), _context(second, saved)
    context = None if start is None or end is None else (start, end)
    rows = interpolations(flow, first.images.to(_device()), second.images.to(_device()), num, context)
    return save_png(image_grid(rows.cpu().flatten(0, 1), columns=num), out, zoom=2)


def nearest(
    checkpoint: str, *, data: str | None = None, num: int = 8, neighbours: int = 5, temperature: float = 1.0,
    label: int | None = None, seed: int = 0, averaged: bool = True, out: str = "nearest.png",
) -> tuple[Path, list[float], float]:  # fmt: skip
    """Write rows of a sample and the training images nearest to it.

    Returns:
        The picture, each sample's distance to its nearest training image (root mean square over pixels, in 1/255),
        and, to compare with, the median of the same distance for as many test images.

    >>> import numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> from nflows_woodbury.cli.main import main
    >>> with TemporaryDirectory() as run:  # doctest: +ELLIPSIS
    ...     _ = main([*"train --size 8 --levels 1 --steps 1 --max-steps 1 --quiet --out".split(), run])
    ...     np.save(f"{run}/mine.npy", np.random.default_rng(0).integers(256, size=(100, 8, 8, 3), dtype=np.uint8))
    ...     picture, distances, of_test = nearest(run, data=f"{run}/mine.npy", num=4, out=f"{run}/nearest.png")
    <BLANKLINE>
    1 steps in ...
    >>> picture.name, len(distances)
    ('nearest.png', 4)
    """
    _png(out)
    flow, saved, source = _open(checkpoint, data, averaged=averaged)
    samples = _samples(flow, saved, num, temperature, label, seed)
    tests = _first(source.test, num).images
    distances, images = nearest_images(torch.cat([samples, tests]), source.training(1000), neighbours)
    (distances, of_test), images = distances[:, 0].split(num), images[:num]
    scale = float(np.prod(source.shape)) ** -0.5
    path = save_png(
        image_grid(torch.cat([samples[:, None], images], 1).flatten(0, 1), columns=neighbours + 1), out, zoom=2
    )
    return path, (scale * distances).tolist(), float(scale * of_test.median())


def examine(
    checkpoint: str, *, data: str | None = None, num: int = 16, seed: int = 0, averaged: bool = True
) -> tuple[list[LayerReport], int, int]:
    """A report on each layer with test images, and how many of their values a round trip changes, of how many.

    >>> from tempfile import TemporaryDirectory
    >>> from nflows_woodbury.cli.main import main
    >>> with TemporaryDirectory() as run:  # doctest: +ELLIPSIS
    ...     _ = main([*"train --size 8 --levels 1 --steps 1 --max-steps 1 --quiet --out".split(), run])
    ...     reports, changed, total = examine(run, num=4)
    <BLANKLINE>
    1 steps in ...
    >>> all(report.is_sound for report in reports), total == 4 * 3 * 8 * 8
    (True, True)
    """
    flow, saved, source = _open(checkpoint, data, averaged=averaged)
    images = _first(source.test, num)
    batch, context = images.images.to(_device()), _context(images, saved)
    torch.manual_seed(seed)
    reports = diagnose(flow, batch, context)
    kept = 8 - saved["flow"]["bits"]  # a model of fewer bits clears the lower ones
    changed = (reconstructions(flow, batch, context) >> kept) != (batch >> kept)
    return reports, int(changed.sum()), changed.numel()


def _open(checkpoint: str, data: str | None, *, averaged: bool = True) -> tuple[ImageFlow, dict[str, Any], ImageSource]:
    """The flow on the device that is there, what its run saved, and its images or others of the same shape."""
    flow, saved = load_flow(checkpoint, averaged=averaged)
    shape, training = FlowConfig.from_dict(saved["flow"]).shape, saved["training"]
    if data is None:
        source = open_source(training["data"], size=training["size"], test_images=training.get("test_images") or None)
    else:
        source = open_source(data, size=shape[1])
    if source.shape != shape:
        raise ValueError(f"data must have images of shape {shape}, as the model, got {source.shape}")
    return flow.to(_device()), saved, source


def _samples(
    flow: ImageFlow, saved: dict[str, Any], num: int, temperature: float, label: int | None, seed: int
) -> torch.Tensor:
    torch.manual_seed(seed)
    num, classes = check_positive_int("num", num), saved["flow"]["num_classes"]
    return sample_classes(flow, num, classes, label=label, temperature=temperature).cpu()


def _first(images: ImageSet, num: int) -> ImageSet:
    if check_positive_int("num", num) > len(images):
        raise ValueError(f"num must be at most the {len(images)} test images, got {num}")
    return images.take(np.arange(num))


def _context(images: ImageSet, saved: dict[str, Any]) -> torch.Tensor | None:
    context = class_context(images.labels, saved["flow"]["num_classes"])
    return None if context is None else context.to(_device())


def _circumstances() -> dict[str, Any]:
    """Where and with what a result came about."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return {
        "device": device,
        "version": version("nflows-woodbury"),
        "commit": _commit(),
        "torch": torch.__version__,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
    }


def _commit() -> str | None:
    """The commit that the package runs from, with ``+`` for changes beside it; None outside a checkout of its own."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + "+" * bool(changed.stdout)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _png(out: str) -> None:
    if Path(out).suffix.lower() != ".png":
        raise ValueError(f"out must be a .png file, got {out!r}")
