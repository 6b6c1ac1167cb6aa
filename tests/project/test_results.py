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


def test_records_of_the_scripts_become_records_of_the_page(results, tmp_path):
    import collect

    for seed in (0, 1):
        times = {"train": 1.0, "forward": 1.0, "inverse": 1.0}
        made = {"bits_per_dim": 4.0 + seed, "parameters": 10, **times}
        (tmp_path / f"conv1x1-plu-affine-30-{seed}.json").write_text(json.dumps(made))
    start = {"variant": "woodbury: reflection, cancelling 0.3", "seed": 0, "max_steps": 30, "hidden_channels": 64,
             "data": "cifar", "bits_per_dim": 3.0, "seconds_per_step": 1.0}  # fmt: skip
    (tmp_path / "starts.jsonl").write_text(json.dumps(start) + "\n")

    compared = collect.collect([tmp_path], {"device": "a CPU"})
    starts = collect.collect([tmp_path / "starts.jsonl"], {})
    assert compared[1] == {"mixing": "conv1x1-plu", "coupling": "affine", "max_steps": 30, "seed": 1,
                           "bits_per_dim": 5.0, "parameters": 10, "device": "a CPU"}  # fmt: skip
    assert starts == [{key: value for key, value in start.items() if key != "seconds_per_step"}]
    models = results.compared(compared, results.grouped(starts))
    assert list(models) == [(30, "woodbury", "affine"), (30, "conv1x1-plu", "affine")]
    assert "mixings woodbury, conv1x1-plu" in results.comparison(models)


def test_the_records_in_the_repository_make_a_page(results, tmp_path):
    results.write(DOCS / "records", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "published.rst", "runs.rst", "comparison.rst", "starts.rst", "pictures.rst", "comparison.svg"
    }  # fmt: skip
