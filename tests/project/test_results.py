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


def published(value: str | None, **more):
    cell = value and {"bits_per_dim": value}
    return {"title": "T", "text": "", "missing": "unread", "published": {"cifar10": {"woodbury": cell}}, **more}


def first_row(results, *args) -> list[str]:
    """The cells of the first row of the table of all numbers."""
    rows = results.at_a_glance(*args, {}, []).split("\n\n*")[0].split("   * - ")
    return [cell.strip() for cell in rows[2].split("\n     -")]


def test_runs_that_differ_in_the_seed_make_one_row(results):
    groups = results.grouped([record(0, 3.6), record(1, 3.7), record(0, 3.5, precision="bf16")])
    assert [len(group) for group in groups] == [1, 2]
    text = results.evaluations(groups)
    assert "3.650 (0.071)" in text and "20,000 in 2.0 h" in text and "precision bf16" in text
    assert "Measured: some GPU, torch 2.13.0, commit 0123456+" in text


def test_a_measured_number_stands_beside_a_published_one_with_its_setting_seeds_and_place(results):
    runs = results.grouped([record(0, 3.6, clip_norm=1.0)])
    row = ["CIFAR-10", "Woodbury", "T: 3.50, after 10 steps", "3.600", "the preset, 20,000 steps, clip_norm 1.0", "1"]
    where = "some GPU, torch 2.13.0, commit 0123456+"
    assert first_row(results, [published("3.50", steps={"cifar10": 10})], runs) == [*row, where]
    alone = first_row(results, [published("3.50", alone=True)], runs)
    assert alone[2:] == ["T: 3.50, steps not given", "none: its setting is no preset", "", "", ""]


def test_an_empty_cell_says_why(results):
    row = first_row(results, [published(None)], [])
    assert row[2:] == ["T: unread", "none: a run of the preset takes days on a GPU", "", "", ""]
    source = published(None)
    source["published"]["cifar10"]["emerging"] = None
    assert first_row(results, [source], [])[1] == "Woodbury, emerging"  # one row for both
    source["published"]["cifar10"]["emerging"] = {"bits_per_dim": "3.4"}
    assert first_row(results, [source], [])[1] == "Woodbury"


def compared(mixing: str, seed: int, bits: float, coupling: str = "affine", seconds: float = 100.0, **training):
    """What ``compare`` writes of a run at the small setting."""
    flow = {"mixing": mixing, "coupling": coupling, "levels": 2, "steps": 2, "hidden_channels": 32}
    training = {"max_steps": 6000, "seed": seed, "learning_rate": 5e-3, "data": "/home/me/cifar16.npz", **training}
    return {
        "bits_per_dim": bits, "data": "cifar16", "parameters": 10, "training_cpu_seconds": seconds + seed, "flow": flow,
        "step_milliseconds": seconds / 10, "sampling_milliseconds": 0.5, "round_trip": 1e-6,
        "device": "CPU, 1 threads", "commit": "0123456789",
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
    parts = mixings.write(
        [*runs, compared("emerging", 0, 9.0, max_steps=10), compared("emerging", 0, 9.0, learning_rate=1e-3)], tmp_path
    )
    small, *others = parts["mixings"].split("ImageNet at 16 x 16, small")
    assert "- woodbury\n     - 4.600 (0.058)\n     - 3\n     - 10.0\n     - 60\n" in small
    assert "- finc\n     - 4.250\n     - 1\n     - 20.0\n     - 120\n" in small and "9.000" not in small
    assert "Measured: CPU, 1 threads, torch 2.13.0, commit 0123456" in small
    missing, line = small.split("Not measured yet: ")[1].split("The line that goes on")
    assert (
        "finc, " not in missing.split("; ")[0] and "finc, " in missing.split("; ")[1] and "woodbury, me" not in missing
    )
    assert "--data cifar16.npz" in line and " woodbury " not in line and "all mixings" in others[0]
    assert [path.name for path in tmp_path.iterdir()] == ["mixings-cifar16-small.svg"]
    assert [row.split("\n")[0] for row in parts["which-training"].split("     - ")[1:] if row] == [
        "mixing", "test bits/dim", "CPU ms for a training step", "woodbury", "4.600 (0.058)", "10.0", "finc", "4.250",
        "20.0",
    ]  # fmt: skip
    assert "woodbury" not in parts["which-parameters"]  # as finc has no more and is better
    first, *_, last = mixings.at_a_glance(runs)
    assert first[:4] == ("CIFAR-10 at 16 x 16", "finc", "none of this size", "4.250") and first[5] == "1"
    assert last[:2] == ("CIFAR-10 at 32 x 32", "emerging+woodbury") and last[3] == "not measured yet"
    assert last[4:] == ("small: 3 levels of 2, 32 channels, 6,000 steps", "", "")
    assert "--levels 3 --steps 2" in others[0] and "periodic" not in others[0].split("--levels 2")[-1]
    timed = {**runs[0], "timed_on": "another CPU"}
    assert "; times on: another CPU" in mixings.section(mixings.SETTINGS[0], [timed])


def test_the_records_in_the_repository_make_a_page(results, tmp_path):
    results.write(DOCS / "records", tmp_path)
    parts = ["published", "runs", "comparison", "starts", "pictures", "mixings", "variants", "rates"]
    parts += ["layer-memory", "latency", "costs", "floor", "allocator"]
    parts += [f"which-{cost}" for cost in ("training", "sampling", "parameters", "exactness")]
    assert {path.name for path in tmp_path.glob("*.rst")} == {f"{part}.rst" for part in parts}
    assert (tmp_path / "comparison.svg").is_file() and (tmp_path / "sweep.svg").is_file()
