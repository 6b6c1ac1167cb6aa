"""The test likelihoods of trained flows, each with a record of how it came about.

>>> BITS["bits_per_dim"]
'bits/dim'
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from math import log, prod
from pathlib import Path
from statistics import mean, stdev
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nflows_woodbury.checkpoint import Run, open_run
from nflows_woodbury.checks import check_positive_int
from nflows_woodbury.evaluation.likelihood import bits_per_dim
from nflows_woodbury.files import write_json

__all__ = ["BITS", "evaluate", "measure", "spread"]

#: key of a record -> the unit of its likelihood, of images and of fields
BITS = {"bits_per_dim": "bits/dim", "differential_bits_per_dim": "differential bits/dim"}


def evaluate(
    checkpoints: Sequence[str], *, data: str | None = None, samples: int = 1, importance_samples: int = 1,
    seed: int = 0, limit: int | None = None, averaged: bool = True, json: str | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Test bits per dimension of trained flows, each on the data of its run or on others of the same shape.

    Of fields the records hold ``log_density_nats`` and ``differential_bits_per_dim`` in place of ``bits_per_dim``.

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

    In the example ``run_folder`` is the folder of a run.

    >>> evaluate([run_folder], limit=4)[0]["images"]
    4
    """
    records = [
        measure(
            open_run(checkpoint, data, averaged=averaged), samples=samples, importance_samples=importance_samples,
            seed=seed, limit=limit, averaged=averaged,
        )
        for checkpoint in checkpoints
    ]  # fmt: skip
    if json is not None:
        write_json(json, records)
    return records


def spread(records: Sequence[dict[str, Any]]) -> str:
    """One line: the mean and standard deviation of the records' bits per dimension.

    >>> spread([{"bits_per_dim": 1.0}, {"bits_per_dim": 2.0}])
    '2 runs: 1.500 bits/dim, standard deviation 0.707'
    """
    names = {name for record in records for name in BITS if name in record}
    if len(names) > 1:
        return f"{len(records)} runs, of images and of fields, whose likelihoods are not to be compared"
    (name,) = names
    bits = [record[name] for record in records if record[name] is not None]
    if len(bits) < 2:
        return f"{len(records)} runs, {len(bits)} with a finite likelihood"
    return f"{len(bits)} runs: {mean(bits):.3f} {BITS[name]}, standard deviation {stdev(bits):.3f}"


def measure(
    run: Run, *, samples: int = 1, importance_samples: int = 1, seed: int = 0, limit: int | None = None,
    averaged: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """The record of one flow on the test images beside it; the arguments are those of :func:`evaluate`.

    >>> from nflows_woodbury.checkpoint import open_run
    >>> record = measure(open_run(run_folder), limit=4)
    >>> record["images"], record["data"]
    (4, 'photos')
    """
    images = run.source.test
    if limit is not None:
        images = images.take(np.arange(min(check_positive_int("limit", limit), len(images))))
    start = perf_counter()
    bits = bits_per_dim(run.flow, images, samples=samples, importance_samples=importance_samples, seed=seed)
    flow, training = run.saved["flow"], run.saved["training"]
    return {
        **(_density(run, bits) if run.source.is_fields else {"bits_per_dim": _number(bits.mean())}),
        "standard_error": _number(bits.std() / len(bits) ** 0.5) if len(bits) > 1 else None,
        "data": run.source.name,
        "data_change": run.change,
        "images": len(images),
        "samples": samples,
        "importance_samples": importance_samples,
        "noise_seed": seed,
        "weights": "averaged" if averaged and training.get("ema_decay") else "last",
        "parameters": sum(parameter.numel() for parameter in run.flow.parameters()),
        "steps": run.saved["steps"],
        "training_seconds": round(run.saved.get("seconds", 0.0), 1),
        "training_cpu_seconds": round(run.saved["cpu_seconds"], 1) if "cpu_seconds" in run.saved else None,
        "evaluation_seconds": round(perf_counter() - start, 1),
        **_circumstances(),
        "flow": flow,
        "training": training,
    }


def _density(run: Run, bits: Tensor) -> dict[str, float | None]:
    """Of fields: the mean log-density in nats, and what stands in place of bits per dimension."""
    nats = -bits * prod(run.source.shape) * log(2)
    return {"log_density_nats": _number(nats.mean()), "differential_bits_per_dim": _number(bits.mean())}


def _number(value: Tensor) -> float | None:
    """A float, or None for what is infinite or no number, which JSON does not know."""
    return float(value) if value.isfinite() else None


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
    root = _checkout(Path(__file__))
    if root is None:
        return None
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + "+" * bool(changed.stdout)


def _checkout(file: Path) -> Path | None:
    """The folder above that is a checkout of this project, with its ``.git`` and ``pyproject.toml``, or None."""
    for folder in file.resolve().parents:
        if (folder / ".git").exists():
            project = folder / "pyproject.toml"
            return folder if project.is_file() and 'name = "nflows-woodbury"' in project.read_text("utf-8") else None
    return None
