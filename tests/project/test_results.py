"""The results page says of each number what it is: published or measured, after how many steps and where."""

import json
import sys
from pathlib import Path

import pytest

from nflows_woodbury.train.presets import settings_of

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def results(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(DOCS), *sys.path])
    import results

    return results


def record(seed: int, bits: float, steps: int = 20_000, preset: str = "cifar10-woodbury", **training):
    """What ``evaluate`` writes of a run of a preset."""
    flow, config = settings_of(preset)
    settings = json.loads(json.dumps({"flow": flow.to_dict(), "training": config.to_dict()}))
    settings["training"] |= {"seed": seed, **training}
    return {
        "bits_per_dim": bits, "standard_error": 0.01, "data": "cifar10", "images": 10_000, "samples": 10,
        "importance_samples": 1, "noise_seed": 0, "weights": "last", "parameters": 11_111_111, "steps": steps,
        "training_seconds": 7200.0 + seed, "evaluation_seconds": 9.0, "device": "some GPU", "version": "0.1.0",
        "commit": "0123456789+", "torch": "2.13.0", "date": "2026-01-01", **settings,
    }  # fmt: skip


def published(value: str | None):
    cell = value and {"bits_per_dim": value}
    return {"title": "T", "text": "", "missing": "nothing", "published": {"cifar10": {"woodbury": cell}}}


def test_runs_that_differ_in_the_seed_make_one_row(results):
    groups = results.grouped([record(0, 3.6), record(1, 3.7), record(0, 3.5, precision="bf16")])
    assert [len(group) for group in groups] == [1, 2]
    text = results.evaluations(groups)
    assert "3.650 (0.071)" in text and "20,000 in 2.0 h" in text and "precision bf16" in text
    assert "Measured: some GPU, torch 2.13.0, commit 0123456+" in text


def test_a_measured_number_beside_a_published_one_names_its_steps(results):
    text = results.beside(published("3.50"), results.grouped([record(0, 3.6, clip_norm=1.0)]))
    assert "CIFAR-10: published, number of steps not given" in text and "CIFAR-10: measured" in text
    assert "- 3.50\n" in text and "- 3.600, runs: 1, after 20,000 steps, clip_norm 1.0\n" in text


def test_a_number_that_was_not_read_is_not_shown(results):
    assert "nothing" in results.beside(published(None), [])
    text = results.beside(published(None), results.grouped([record(0, 3.6)]))
    assert "published" not in text and "3.600" in text


def compared(mixing: str, seed: int, bits: float, coupling: str = "affine", seconds: float = 100.0, **training):
    """What ``compare`` writes of a run at the small setting."""
    flow = {"mixing": mixing, "coupling": coupling, "levels": 2, "steps": 2, "hidden_channels": 32}
    training = {"max_steps": 6000, "seed": seed, "data": "/home/me/cifar16.npz", **training}
    return {
        "bits_per_dim": bits, "data": "cifar16", "parameters": 10, "training_cpu_seconds": seconds + seed, "flow": flow,
        "sampling_milliseconds": 0.5, "round_trip": 1e-6, "device": "CPU, 1 threads", "commit": "0123456789",
        "torch": "2.13.0", "training": training,
    }  # fmt: skip


def keep(folder: Path, *records) -> None:
    """As ``compare`` keeps them."""
    for made in records:
        path = folder / f"{made['flow']['mixing']}-{made['training']['seed']}" / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(made))


def test_records_of_runs_and_scripts_become_records_of_the_page(results, tmp_path):
    import collect

    keep(tmp_path, *(compared("conv1x1-plu", seed, 4.0 + seed, max_steps=30) for seed in (0, 1)))
    start = {"variant": "woodbury: reflection, cancelling 0.3", "seed": 0, "max_steps": 30, "hidden_channels": 64,
             "data": "cifar", "bits_per_dim": 3.0, "seconds_per_step": 1.0}  # fmt: skip
    (tmp_path / "starts.jsonl").write_text(json.dumps(start) + "\n")

    made = collect.collect([tmp_path], {"device": "a CPU"})
    starts = collect.collect([tmp_path / "starts.jsonl"], {})
    due = {
        "mixing": "conv1x1-plu",
        "coupling": "affine",
        "max_steps": 30,
        "seed": 1,
        "bits_per_dim": 5.0,
        "device": "a CPU",
    }
    assert due.items() <= made[1].items() and "/home" not in json.dumps(made)
    assert starts == [{key: value for key, value in start.items() if key != "seconds_per_step"}]
    models = results.compared(made, results.grouped(starts))
    assert list(models) == [(30, "woodbury", "affine"), (30, "conv1x1-plu", "affine")]
    assert "mixings woodbury, conv1x1-plu" in results.comparison(models)


def test_the_comparison_has_standard_errors_and_names_what_is_missing(results, tmp_path):
    import mixings

    runs = [compared("woodbury", seed, 4.5 + 0.1 * seed) for seed in range(3)] + [
        compared("finc", 0, 4.25, seconds=200)
    ]
    parts = mixings.write([*runs, compared("emerging", 0, 9.0, max_steps=10)], tmp_path)
    small, *others = parts["mixings"].split("ImageNet at 16 x 16, small")
    assert "- woodbury\n     - 4.600 (0.058)\n     - 3\n     - 101 (1)\n" in small
    assert "- finc\n     - 4.250\n     - 1\n     - 200\n" in small and "9.000" not in small
    assert "Measured: CPU, 1 threads, torch 2.13.0, commit 0123456" in small
    missing, line = small.split("Not measured yet: ")[1].split("The line that goes on")
    assert (
        "finc, " not in missing.split("; ")[0] and "finc, " in missing.split("; ")[1] and "woodbury, me" not in missing
    )
    assert "--data cifar16.npz" in line and " woodbury " not in line and "all mixings" in others[0]
    assert [path.name for path in tmp_path.iterdir()] == ["mixings-cifar16-small.svg"]
    assert [row.split("\n")[0] for row in parts["which-training"].split("     - ")[1:] if row] == [
        "mixing", "test bits/dim", "CPU seconds of training", "woodbury", "4.600 (0.058)", "101", "finc", "4.250", "200"
    ]  # fmt: skip
    assert "woodbury" not in parts["which-parameters"]  # as finc has no more and is better


def test_the_records_in_the_repository_make_a_page(results, tmp_path):
    results.write(DOCS / "records", tmp_path)
    parts = ["published", "runs", "comparison", "starts", "pictures", "mixings"]
    parts += [f"which-{cost}" for cost in ("training", "sampling", "parameters", "exactness")]
    assert {path.name for path in tmp_path.glob("*.rst")} == {f"{part}.rst" for part in parts}
    assert (tmp_path / "comparison.svg").is_file()
