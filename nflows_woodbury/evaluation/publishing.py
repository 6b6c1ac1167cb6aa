"""A trained flow as one file to be given to others, and a card that says what it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nflows_woodbury.checkpoint import SUFFIX, find_checkpoint, load_flow, write_weights
from nflows_woodbury.evaluation.record import BITS
from nflows_woodbury.files import whole_file

__all__ = ["card", "publish"]


def publish(run: str | Path, out: str | Path, *, licence: str, averaged: bool = True) -> Path:
    """Write the weights of a finished run as ``out``, and a card in Markdown beside it.

    The file holds what it takes to use the flow: weights, settings, how the images were split and their fingerprint,
    names of classes, and the run's result. Of the images' place only the last name is kept. Optimizer state stays
    behind, so training does not go on from it.

    Args:
        run: the folder of a run, with its ``result.json``.
        out: a file whose name ends in ``.safetensors``.
        licence: of the images, in words; who uses the weights needs it.
        averaged: publish the averaged weights where the run keeps some.

    Returns:
        Where the card is.

    Raises:
        FileNotFoundError: for a folder without a run, or one without its result.
        ValueError: for another ending, or no licence.

    In the example ``run_folder`` is the folder of a run.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = publish(run_folder, f"{folder}/tiny.safetensors", licence="CC0")
    ...     print(path.name, path.read_text().splitlines()[0], load_flow(f"{folder}/tiny.safetensors")[1]["steps"])
    tiny.md # tiny 12
    """
    out = Path(out)
    if out.suffix != SUFFIX:
        raise ValueError(f"out must end in {SUFFIX}, got {str(out)!r}")
    if not licence.strip():
        raise ValueError("licence must say what the images may be used for, as in 'CC0' or 'research only'")
    flow, saved = load_flow(find_checkpoint(run), averaged=averaged)
    result = Path(run) / "result.json"
    if not result.is_file():
        raise FileNotFoundError(f"{result} is missing: train the run to its end, or name the run's folder")
    (record,) = json.loads(result.read_text())
    kept = dict(saved.get("data") or {})
    fingerprint = dict(kept.pop("fingerprint", None) or {})
    tensors = {f"flow.{name}": tensor for name, tensor in flow.state_dict().items()}
    if "items" in fingerprint:
        tensors["fingerprint"] = fingerprint.pop("items")
    values = {
        "flow": saved["flow"],
        "training": {**saved["training"], "data": Path(saved["training"]["data"]).name},
        "data": {**kept, "fingerprint": fingerprint or None},
        "global_step": saved["steps"],
        "result": {name: value for name, value in record.items() if name not in ("flow", "training")},
        "licence": licence,
    }
    write_weights(out, tensors, values)
    place = out.with_suffix(".md")
    with whole_file(place) as new:
        new.write_text(card(out.stem, values))
    return place


def card(name: str, values: Mapping[str, Any]) -> str:
    """What the weights are, in Markdown: images, their licence, model, training, result, and how to use them.

    In the example ``run_folder`` is the folder of a run.

    >>> from nflows_woodbury.checkpoint import open_run
    >>> from nflows_woodbury.evaluation.record import measure
    >>> run = open_run(run_folder)
    >>> values = {**run.saved, "result": measure(run, limit=4), "licence": "CC0"}
    >>> card("tiny", values).splitlines()[0]
    '# tiny'
    """
    flow, training, result = values["flow"], values["training"], values["result"]
    channels, *sizes = flow["shape"]
    rows = {
        "data": f"{training['data']}, {' x '.join(map(str, sizes))}, {channels} channels",
        "licence of the data": values["licence"],
        "model": f"{flow['mixing']} mixing, {flow['coupling']} coupling, {flow['levels']} levels x {flow['steps']} "
        f"steps, {flow['hidden_channels']} hidden channels, {result['parameters']:,} parameters",
        "training": f"{result['steps']:,} steps of {training['batch_size']} images, seed {training['seed']}, "
        f"{result['training_seconds']:.0f} s on {result['device']}",
        "result": _result(result),
        "made by": f"nflows-woodbury {result['version']}, torch {result['torch']}, {result['date']}",
    }
    if flow["num_classes"]:
        names = values["data"].get("class_names") or range(flow["num_classes"])
        rows["classes"] = ", ".join(map(str, names))
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return _CARD.format(name=name, table=table, file=name + SUFFIX)


def _result(record: Mapping[str, Any]) -> str:
    key, unit = next((key, unit) for key, unit in BITS.items() if key in record)
    if record[key] is None:
        return "no finite likelihood"
    error = "" if record["standard_error"] is None else f", standard error {record['standard_error']:.3f}"
    return (
        f"{record[key]:.3f} {unit}{error}, over {record['images']:,} held out, seed of the noise {record['noise_seed']}"
    )


_CARD = """\
# {name}

A normalizing flow; {file} holds its weights and settings.

| | |
|---|---|
{table}

```sh
nflows-woodbury sample {file} --temperature 0.9 --out samples.png
```

```python
from nflows_woodbury.checkpoint import load_flow

flow, settings = load_flow("{file}")
samples = flow.sample(16)
```
"""
