"""The folder of a comparison: its settings, and the records of its runs, which are alike but for mixing and seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nflows_woodbury.config import FlowConfig, has_ranks
from nflows_woodbury.train.config import TrainingConfig
from nflows_woodbury.train.run import CHANGEABLE

__all__ = ["CLAIMS", "RECORD", "SETTINGS", "Comparison", "Pair", "read_begun", "read_records"]

#: in the folder of a comparison, its settings; in that of a run, its record with what its use costs
SETTINGS, RECORD = "comparison.json", "record.json"
#: what processes hold while they are at a run, or at the settings
CLAIMS = ".claims"
#: settings of a run that may be others than those of the comparison
_OWN = {"batch_size", *CHANGEABLE} - {"max_steps"}
#: what a record is read for
_COLUMNS = {
    "bits_per_dim", "images", "parameters", "round_trip", "sampling_milliseconds", "step_milliseconds",
    "training_cpu_seconds",
}  # fmt: skip

Pair = tuple[str, int]  # a mixing and a seed


@dataclass(frozen=True)
class Comparison:
    """Runs of several mixings and seeds, and the settings that they share.

    Args:
        out: the folder of all of them.
        flow: the model, but for the mixing; ranks and start are those of the mixings that have some.
        training: the run, but for the seed.
        conditional: whether the models are conditioned on the classes of the images.
        mixings: their names.
        seeds: of each mixing's runs.
    """

    out: Path
    flow: FlowConfig
    training: TrainingConfig
    conditional: bool = False
    mixings: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()

    def folder(self, pair: Pair) -> Path:
        """Where a run is."""
        return self.out / "{}-{}".format(*pair)

    def flow_of(self, mixing: str) -> FlowConfig:
        """The model with a mixing."""
        own: dict[str, Any] = {"channel_ranks": None, "pixel_ranks": None, "start": "default"}
        return replace(self.flow, mixing=mixing, **({} if has_ranks(mixing) else own))

    def missing(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Those of the runs that are not done."""
        return [pair for pair in pairs if not (self.folder(pair) / RECORD).is_file()]


def read_begun(out: Path) -> Comparison | None:
    """The comparison in a folder, or None; ValueError for settings that this version does not know."""
    path = out / SETTINGS
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text())
        flow, training = FlowConfig.from_dict(values["flow"]), TrainingConfig.from_dict(values["training"])
        mixings, seeds = tuple(values["mixings"]), tuple(values["seeds"])
        return Comparison(out, flow, training, values["conditional"], mixings, seeds)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} must be the settings of a comparison of this version; {error}") from error


def read_records(out: Path) -> list[dict[str, Any]]:
    """The records of a comparison's runs that are done, in the order of their names.

    ValueError for one that cannot be read, or is of other settings or images than the rest.
    """
    comparison = read_begun(out)
    if comparison is None:
        return []
    pairs = sorted((mixing, seed) for mixing in comparison.mixings for seed in comparison.seeds)
    done = [pair for pair in pairs if not comparison.missing([pair])]
    records = [_record(comparison, pair) for pair in done]
    for name in ("images", "batch_size"):
        found = [(record | record["training"])[name] for record in records]
        if len(set(found)) > 1:
            names = ", ".join(f"{comparison.folder(pair).name} {of}" for pair, of in zip(done, found, strict=True))
            raise ValueError(f"{name} must be the same in all runs of {out}, got {names}")
    return records


def _record(comparison: Comparison, pair: Pair) -> dict[str, Any]:
    path = comparison.folder(pair) / RECORD
    try:
        record = json.loads(path.read_text())
        flow, training = FlowConfig.from_dict(record["flow"]), TrainingConfig.from_dict(record["training"])
        if missing := sorted(_COLUMNS - record.keys()):
            raise ValueError(f"{missing} missing")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} must be a run's record, which it is not: {error!r}; without it the run is measured again"
        ) from error
    mine = {**training.to_dict(), **replace(flow, num_classes=0).to_dict()}
    due = {**replace(comparison.training, seed=pair[1]).to_dict(), **comparison.flow_of(pair[0]).to_dict()}
    if changed := {name: mine[name] for name in due if mine[name] != due[name] and name not in _OWN}:
        raise ValueError(
            f"{path} must be of a run with the comparison's settings, got {changed}; move {path.parent} elsewhere"
        )
    return record
