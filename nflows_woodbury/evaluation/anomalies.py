"""The images of a folder, scored by the flow of a run beside the images that the run held out."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nflows_woodbury.checkpoint import find_device, load_flow, open_run
from nflows_woodbury.checks import check_one_of, check_positive_int
from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.data.opening import all_images
from nflows_woodbury.data.walking import shown
from nflows_woodbury.evaluation.scores import STRANGENESS, auroc, quantiles, score_images
from nflows_woodbury.flow import FieldFlow

__all__ = ["ScoredImages", "score_data"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ScoredImages:
    """Images with their scores, the strangest first.

    Attributes:
        rows: of each image its ``file``, ``class`` (empty without classes), ``bits_per_dim``, ``standard_error``,
            ``png_bits_per_dim``, ``difference``, ``norm_distance`` and ``quantile``, the share of the run's held-out
            images that are at most as strange by the score that the rows are sorted by; numbers are rounded texts.
        images: uint8 ``(N, c, h, w)``, in the order of the rows.
        scores: what the rows round, float64 ``(N,)`` by the names of scores, in the same order.
        references: how many held-out images the quantiles are of.
    """

    rows: list[dict[str, str]]
    images: Tensor
    scores: dict[str, Tensor]
    references: int

    @property
    def columns(self) -> list[str]:
        """The names of the rows' values."""
        return list(self.rows[0])

    def separation(self, normal: str) -> list[str]:
        """Lines with the AUROC of each score, of images of other classes against those of the class ``normal``.

        None where there is no such class or no other.
        """
        positive = torch.tensor([row["class"] != normal for row in self.rows])
        if not 0 < int(positive.sum()) < len(positive):
            return []
        return [f"AUROC of {name}: {auroc(values, positive):.3f}" for name, values in self.scores.items()]


def score_data(
    checkpoint: str,
    data: str | None = None,
    *,
    sort: str = "bits_per_dim",
    samples: int = 4,
    limit: int = 1000,
    seed: int = 0,
    averaged: bool = True,
    skip_broken: bool = False,
) -> ScoredImages:
    """Score all images of ``data`` by a run's flow.

    Args:
        checkpoint: the checkpoint, or the folder of a run.
        data: a folder of images, of which all count whatever part of a split they are; one image; or other data as in
            :func:`~nflows_woodbury.data.opening.open_source`. None for the images that the run held out.
        sort: the score that says what is strange, one of :data:`~nflows_woodbury.evaluation.scores.STRANGENESS`.
        samples: draws of the dequantization noise for each image.
        limit: held-out images to compare with, at most.
        seed: of the noise.
        averaged: use the averaged weights where the run keeps them.
        skip_broken: leave out images that cannot be read.

    Raises:
        FileNotFoundError: for no checkpoint or no data.
        ValueError: for images that do not fit the model, and for bad arguments.

    In the example ``run_folder`` is the folder of a run of 12 steps on 16 x 16 images.

    >>> scored = score_data(run_folder, samples=2, limit=16)
    >>> scored.references, scored.columns[:3]
    (16, ['file', 'class', 'bits_per_dim'])
    """
    check_one_of("sort", sort, STRANGENESS), check_positive_int("limit", limit)
    flow, saved = _load(checkpoint, averaged)
    flow, options = flow.to(find_device()), {"samples": samples, "seed": seed, "bits": saved["flow"].get("bits", 8)}
    held_out = _held_out(checkpoint, data, limit)
    if data is None:
        images, names = held_out, None
    else:
        images, names, notes = all_images(data, size=flow.shape[1:], skip_broken=skip_broken)
        for note in notes:
            _log.warning("%s: %s", data, note)
    reference = None if held_out is None else score_images(flow, held_out, **options)
    typical = 1.0 if reference is None else float(reference.norm.median())
    found = score_images(flow, images, typical_norm=typical, **options)
    values = {
        "bits_per_dim": found.bits_per_dim, "standard_error": found.standard_error, "png_bits_per_dim": found.png,
        "difference": found.difference, "norm_distance": found.norm_distance,
    }  # fmt: skip
    if reference is not None:
        usual = {**vars(reference), "norm_distance": (reference.norm - typical).abs()}[sort]
        values["quantile"] = quantiles(values[sort], usual)
    order = values[sort].argsort(descending=True, stable=True)
    rows = _rows(images, names, values)
    return ScoredImages(
        [rows[i] for i in order.tolist()],
        images.images[order],
        {name: values[name][order] for name in (*STRANGENESS, "png_bits_per_dim")},
        0 if held_out is None else len(held_out),
    )


def _load(checkpoint: str, averaged: bool) -> tuple[Any, dict[str, Any]]:
    """The model of a run and what it saved; ValueError for one of fields."""
    flow, saved = load_flow(checkpoint, averaged=averaged)
    if isinstance(flow, FieldFlow):
        raise ValueError("checkpoint must be of a model of images, which are set beside PNG; got one of fields")
    return flow, saved


def _held_out(checkpoint: str, data: str | None, limit: int) -> Any:
    """The images that the run held out, or None where its data are gone and others are to be scored."""
    try:
        test = open_run(checkpoint).source.test
    except FileNotFoundError as error:
        if data is None:
            raise
        _log.warning("no quantiles, as the images of the run are not there: %s", error)
        return None
    return test.take(torch.arange(min(limit, len(test))).numpy())


def _rows(images: ImageSet, names: tuple[str, ...] | None, values: dict[str, Tensor]) -> list[dict[str, str]]:
    files = range(len(images)) if images.names is None else images.names
    labels = [None] * len(images) if images.labels is None else images.labels.tolist()
    rows = []
    for number, (file, label) in enumerate(zip(files, labels, strict=True)):
        kind = "" if label is None else names[label] if names else str(label)
        numbers = {name: f"{float(column[number]):.6f}" for name, column in values.items()}
        rows.append({"file": shown(file), "class": shown(kind), **numbers})
    return rows
