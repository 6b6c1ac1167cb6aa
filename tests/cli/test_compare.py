"""A comparison is ordinary runs: it stops and goes on like one, grows, and refuses what would not be alike."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from math import isnan
from pathlib import Path
from time import sleep

import pytest
import pytorch_lightning as pl
from PIL import Image
from running import LIGHTNING, TINY, assert_same, run, state
from scripts import run_script

from nflows_woodbury.checkpoint import open_run, read_checkpoint
from nflows_woodbury.data.walking import find_images
from nflows_woodbury.evaluation import costs, history
from nflows_woodbury.evaluation.ranking import Ranked, plot, ranking, table
from nflows_woodbury.files import to_json
from nflows_woodbury.train import comparison, trainer
from nflows_woodbury.train.compared import read_begun, read_records
from nflows_woodbury.train.environment import alone_in
from nflows_woodbury.transforms import Reversible

pytestmark = LIGHTNING

SETTINGS = [*TINY, "--max-steps", 12, "--every", 4, "--warmup-steps", 2]
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
TURNS = Path(__file__).parents[2] / "benchmarks" / "turns.py"
NAMES = ["conv1x1-0", "conv1x1-1", "woodbury-0", "woodbury-1"]


class Stop(pl.Callback):
    """A signal in the sixth step of one run."""

    def on_train_batch_start(self, trainer, module, *_) -> None:
        if trainer.global_step == 6 and (module.flow_config.mixing, module.config.seed) == ("woodbury", 0):
            signal.raise_signal(signal.SIGTERM)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "comparison.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of 2 mixings x 2 seeds that a signal ended in its second run."""
    out = tmp_path_factory.mktemp("comparisons") / "stopped"
    with pytest.MonkeyPatch.context() as patch:
        callbacks = trainer._callbacks
        patch.setattr(trainer, "_callbacks", lambda *a: [*callbacks(*a), Stop()])
        assert run("compare", "--mixing", "conv1x1", "woodbury", "--seeds", 2, *SETTINGS, "--out", out) == 143
    return out


@pytest.fixture(scope="module")
def complete(stopped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, continued to its end."""
    out = tmp_path_factory.mktemp("comparisons") / "complete"
    shutil.copytree(stopped, out)
    assert run("compare", "--mixing", "conv1x1", "woodbury", "--seeds", 2, *SETTINGS, "--out", out) == 0
    return out


def test_a_signal_leaves_the_table_of_what_is_done(stopped: Path) -> None:
    assert [row["mixing"] for row in rows(stopped)] == ["conv1x1"]
    assert rows(stopped)[0]["runs"] == "1" and rows(stopped)[0]["standard_error"] == ""
    assert read_checkpoint(stopped / "woodbury-0")["global_step"] == 7


def test_the_same_command_goes_on_to_what_runs_alone_give(complete: Path, stopped: Path, whole: Path) -> None:
    assert sorted(path.parent.name for path in complete.glob("*/record.json")) == NAMES
    saved = [read_checkpoint(complete / name)["nflows_woodbury"] for name in NAMES]
    assert [(run["flow"]["mixing"], run["training"]["seed"]) for run in saved] == [
        ("conv1x1", 0), ("conv1x1", 1), ("woodbury", 0), ("woodbury", 1)
    ]  # fmt: skip
    assert_same(state(complete / "woodbury-0"), state(whole))  # although it was stopped
    alone, record = (
        json.loads(path.read_text()) for path in (whole / "result.json", complete / "woodbury-0/record.json")
    )
    assert record["bits_per_dim"] == alone[0]["bits_per_dim"]
    part, total = (read_checkpoint(out / "woodbury-0")["nflows_woodbury"]["cpu_seconds"] for out in (stopped, complete))
    assert 0 < part < total
    assert record["training_cpu_seconds"] == round(total, 1)


def test_the_table_has_means_and_standard_errors_over_seeds(complete: Path, capsys) -> None:
    bits = [json.loads((complete / f"woodbury-{seed}/record.json").read_text())["bits_per_dim"] for seed in (0, 1)]
    (row,) = (row for row in rows(complete) if row["mixing"] == "woodbury")
    assert float(row["bits_per_dim"]) == pytest.approx(sum(bits) / 2)
    assert float(row["standard_error"]) == pytest.approx(abs(bits[0] - bits[1]) / 2)
    assert (
        float(row["sampling_milliseconds"]) > 0 < float(row["step_milliseconds"])
        and 0 < float(row["round_trip"]) < 1e-4
    )
    capsys.readouterr()
    assert run("compare", "--table", "--out", complete) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"mixing +runs +test bits/dim \(se\)", lines[0]) and len(lines) == 5
    assert {line.split()[0] for line in lines[1:3]} == {"conv1x1", "woodbury"}
    with Image.open(complete / "comparison.png") as picture:
        assert picture.size == (1050, 675)


def test_mixings_and_seeds_are_added_and_nothing_is_done_twice(complete: Path, tmp_path: Path, capfd) -> None:
    out = tmp_path / "grown"
    shutil.copytree(complete, out)
    (out / "conv1x1-1" / "record.json").unlink()  # killed before it was measured
    files = [*out.glob("*/checkpoints/last.ckpt"), *out.glob("*/result.json")]
    before = {path: path.stat().st_mtime_ns for path in files}
    assert run("compare", "--mixing", "emerging", "conv1x1", "--seed", 1, "--seeds", 1, "--jobs", 2, "--out", out) == 0
    said = capfd.readouterr().err
    assert len(re.findall("^run ", said, re.MULTILINE)) == 2 and "emerging, seed 1" in said
    assert {row["mixing"]: row["runs"] for row in rows(out)} == {"conv1x1": "2", "woodbury": "2", "emerging": "1"}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert read_checkpoint(out / "emerging-1")["nflows_woodbury"]["training"]["max_steps"] == 12


def test_times_are_measured_in_turn_for_the_folder_or_for_a_file_of_records(complete: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "timed", tmp_path / "records.jsonl"
    shutil.copytree(complete, out)
    kept = [{"flow": {"mixing": mixing}, "step_milliseconds": 1e6} for mixing in ("woodbury", "periodic")]
    file.write_text("".join(json.dumps(record) + "\n" for record in kept))
    before = read_records(out)
    words = [str(out), "--rounds", "1"]
    assert "woodbury" in run_script(TURNS, [*words, "--records", str(file), "--device", "a CPU"], tmp_path)
    assert read_records(out) == before
    woodbury, periodic = map(json.loads, file.read_text().splitlines())
    assert 0 < woodbury["step_milliseconds"] < 1e6 and woodbury["timed_on"] == "a CPU" and periodic == kept[1]
    run_script(TURNS, words, tmp_path)
    after = read_records(out)
    times = {"step_milliseconds": 0, "sampling_milliseconds": 0}
    assert [record | times for record in after] == [record | times for record in before]
    assert len({record["step_milliseconds"] for record in after}) == 2 < len(after) and after != before


def test_no_picture_that_is_drawn_is_taken_for_data(complete: Path, tmp_path: Path) -> None:
    history.draw(tmp_path / "history.png", [])
    shutil.copytree(complete, tmp_path / "comparison")
    assert len([*tmp_path.rglob("*.png")]) > 2 and not find_images(tmp_path).names


NO_RECORDS = ["", "null", "[]", "{}", '{"bits_per_dim": 7.0}', '{"flow": {}, "training": {}}']


@pytest.mark.parametrize("text", NO_RECORDS)
def test_a_broken_record_is_named_before_anything_is_trained(text: str, complete: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "broken"
    shutil.copytree(complete, out)
    (out / "conv1x1-1" / "record.json").write_text(text)
    for words in (["--table"], ["--mixing", "periodic", "--seeds", 1]):
        assert run("compare", "--out", out, *words) == 2
        error = capsys.readouterr().err
        assert "conv1x1-1/record.json must be a run's record" in error and error.count("\n") == 1
    assert not (out / "periodic-0").exists()
    (out / "conv1x1-1" / "record.json").unlink()  # as the message says
    assert run("compare", "--out", out) == 0 and read_records(out)[1]["bits_per_dim"] == bits_of(complete)[1]


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda record: record["training"].update(max_steps=13), "{'max_steps': 13}"),
        (lambda record: record["training"].update(seed=4), "{'seed': 4}"),
        (lambda record: record["flow"].update(mixing="woodbury"), "{'mixing': 'woodbury'"),
        (lambda record: record.update(images=3), "images must be the same in all runs"),
        (lambda record: record["training"].update(batch_size=4), "batch_size must be the same in all runs"),
    ],
)
def test_runs_of_other_settings_are_not_averaged(change, expected: str, complete: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "mixed"
    shutil.copytree(complete, out)
    path = out / "conv1x1-1" / "record.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    assert run("compare", "--out", out, "--table") == 2
    error = capsys.readouterr().err
    assert expected in error and "conv1x1-1" in error


def bits_of(out: Path) -> list[float]:
    return [record["bits_per_dim"] for record in read_records(out)]


def test_only_the_runs_of_the_comparison_count(complete: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "copies"
    shutil.copytree(complete, out)
    shutil.copytree(out / "conv1x1-0", out / "conv1x1-0 (backup)")
    assert bits_of(out) == bits_of(complete)
    shutil.rmtree(out / "woodbury-1")
    assert run("compare", "--out", out, "--table") == 0 and capsys.readouterr().err == "not done: woodbury-1\n"


def test_commands_that_begin_at_the_same_time_leave_what_each_asked_for(complete: Path, tmp_path: Path) -> None:
    out = tmp_path / "twice"
    shutil.copytree(complete, out)
    before = read_begun(out)
    late = replace(before, mixings=(), seeds=())  # as a command that found the folder empty
    assert comparison.begin(late, ["periodic"], [5]).mixings == ("conv1x1", "woodbury", "periodic")
    assert read_begun(out).seeds == (0, 1, 5)
    with pytest.raises(ValueError, match="settings must be those of the comparison that another command began"):
        comparison.begin(replace(late, training=replace(late.training, max_steps=30)), ["conv1x1"], [0])
    for seed, expected in ((-1, "seed must be an integer from 0"), (2**63, r"seed must be below 2\*\*63")):
        with pytest.raises(ValueError, match=expected):
            comparison.begin(before, ["conv1x1"], [seed])
    assert read_begun(out).seeds == (0, 1, 5)


def test_images_that_change_or_move_between_runs(tmp_path: Path, capfd) -> None:
    (pictures := tmp_path / "pictures").mkdir()
    for number in range(24):
        Image.effect_noise((8, 8), 40 + number).save(pictures / f"{number}.png")
    words = ["--seeds", 1, *TINY, "--levels", 1, "--size", 8, "--max-steps", 1, "--out", tmp_path / "out"]
    assert run("compare", "--mixing", "conv1x1", "--data", pictures, *words) == 0
    begun = read_begun(tmp_path / "out")
    shutil.copy(pictures / "0.png", pictures / "new.png")
    assert not [*comparison.train_all(begun, [("woodbury", 0)], quiet=True)]  # they changed after it began
    assert "1 file added" in capfd.readouterr().err and len(bits_of(tmp_path / "out")) == 1
    (pictures / "new.png").unlink()
    pictures.rename(tmp_path / "moved")
    assert run("compare", "--mixing", "woodbury", "--data", tmp_path / "moved", *words) == 0
    assert len(bits_of(tmp_path / "out")) == 2 and read_begun(tmp_path / "out").training.data.endswith("moved")
    (tmp_path / "moved" / "1.png").unlink()
    assert run("compare", "--mixing", "periodic", *words) == 2 and "1 file removed" in capfd.readouterr().err


def test_a_helper_leaves_the_signals_of_the_terminal_to_the_first_process(monkeypatch) -> None:
    monkeypatch.setattr(comparison, "_end_with_parent", lambda: None)
    before = signal.getsignal(signal.SIGINT)
    try:
        comparison._help(None, [])
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_step_is_a_whole_batch_and_reversible_as_in_training(complete: Path, monkeypatch) -> None:
    as_trained, stepped, counts = costs._as_trained, [], set()

    def watch(opened):
        stepped.append(as_trained(opened))
        stepped[-1].register_forward_pre_hook(lambda flow, inputs: counts.add(len(inputs[0])))
        return stepped[-1]

    monkeypatch.setattr(costs, "_as_trained", watch)
    opened = open_run(complete / "woodbury-0")
    for reversible in (False, True):
        opened.saved["training"] |= {"batch_size": 3 * len(opened.source.test), "reversible": reversible}
        costs.costs(opened)
        assert (Reversible in {type(part) for part in stepped[-1].modules()}) == reversible
    assert_same(dict(stepped[1].state_dict()), dict(stepped[0].state_dict()))
    assert counts >= {3 * len(opened.source.test)}


def test_a_flow_whose_samples_are_not_finite_has_a_row(complete: Path, monkeypatch) -> None:
    def fail(*_) -> None:
        raise FloatingPointError("32 of 32 images are not finite")

    monkeypatch.setattr(costs, "sample_classes", fail)
    record = read_records(complete)[0] | json.loads(to_json(costs.costs(open_run(complete / "woodbury-0"))))
    assert record["sampling_milliseconds"] is None and record["step_milliseconds"] > 0
    (row,) = ranking([record | {"bits_per_dim": None, "training_cpu_seconds": None}])
    assert row.runs == 0 and isnan(row.bits_per_dim) and isnan(row.sampling_milliseconds) and isnan(row.cpu_seconds)
    assert "nan" in table([row])[1] and plot([row]).axes


REFUSED = {
    "--max-steps 13 --mixing conv1x1": "--max-steps 13 (the comparison has 12) cannot change in a comparison",
    "--flip": "--flip (the comparison has none) cannot change",
    "--size 8": "--size 8 (the comparison has 16) cannot change",
    "--preset cifar10-woodbury": "--levels 3 (the comparison has 2)",
    "--mixing conv": "mixing must be one of",
    "--mixing periodic --seeds 0": "seeds must be a positive integer, got 0",
    "--seed 2": "seed must come with seeds",
    "--jobs 0": "jobs must be a positive integer, got 0",
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_folder_keeps_its_settings(words: str, complete: Path, capsys) -> None:
    before = sorted(complete.rglob("*"))
    assert run("compare", "--out", complete, *words.split()) == 2
    error = capsys.readouterr().err
    assert REFUSED[words] in error and error.count("\n") == 1 and sorted(complete.rglob("*")) == before


def test_other_folders_and_bad_settings_are_refused_before_anything_is_written(whole: Path, tmp_path: Path, capsys):
    words = ["compare", "--mixing", "conv1x1", "--seeds", 1, *TINY]
    for more, expected in (
        (["--out", whole], "holds something else than a comparison"),
        (["--out", tmp_path / "new", "--levels", 6], "divisible by 2^levels"),
        (["--out", tmp_path / "new", "--conditional"], "conditional needs labelled images"),
    ):
        assert run(*words, *more) == 2
        assert expected in capsys.readouterr().err and not [*tmp_path.iterdir()]
    for words in ([], ["--table"], ["--mixing", "conv1x1"], ["--mixing", "conv1x1", "--seeds", 1, "--table"]):
        assert run("compare", "--out", tmp_path / "new", *words) == 2
        assert "mixing and seeds must say what to compare" in capsys.readouterr().err


def test_a_run_that_fails_is_named_and_the_others_go_on(tmp_path: Path, monkeypatch, capsys) -> None:
    train = comparison._train

    def fail(settings, pair, quiet) -> None:
        if pair[0] == "woodbury":
            raise FloatingPointError("the gradient is not finite")
        train(settings, pair, quiet)

    monkeypatch.setattr(comparison, "_train", fail)
    words = ["--mixing", "woodbury", "conv1x1", "--seeds", 1, *TINY, "--max-steps", 1, "--out", tmp_path / "new"]
    assert run("compare", *words) == 2
    error = capsys.readouterr().err
    assert "woodbury-0: the gradient is not finite\n" in error and "1 of 2 runs are not done" in error
    assert [row["mixing"] for row in rows(tmp_path / "new")] == ["conv1x1"]


def wait_until(is_so) -> None:
    """Look every tenth of a second, a minute long."""
    for _ in range(600):
        if is_so():
            return
        sleep(0.1)
    raise AssertionError("it never came to that")


def is_free(folder: Path) -> bool:
    try:
        with alone_in(folder):
            return True
    except FileExistsError:
        return False


def test_a_kill_ends_all_jobs_with_a_checkpoint_each(tmp_path: Path) -> None:
    out, words = tmp_path / "new", ["--mixing", "conv1x1", "--seeds", 2, "--jobs", 2, *TINY, "--max-steps", 100_000]
    command = [sys.executable, "-W", "ignore", "-m", "nflows_woodbury", "compare", *words, "--every", 20, "--out", out]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL, env={**os.environ, **ONE_THREAD})
    folders = [out / f"conv1x1-{seed}" for seed in (0, 1)]
    try:
        wait_until(lambda: all((folder / "checkpoints" / "last.ckpt").is_file() for folder in folders))
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: all(map(is_free, folders)))
    assert all(0 < read_checkpoint(folder)["global_step"] < 100_000 for folder in folders)


def test_names_in_the_picture_cover_neither_each_other_nor_points() -> None:
    near = [(4.80, 100.0), (4.801, 101.0), (4.802, 100.5), (4.9, 130.0), (4.801, 130.0)]
    rows = [
        Ranked(f"{k} woodbury", 1, bits, 0.0, seconds, 0.0, 1.0, 1, 1.0, 1e-6) for k, (bits, seconds) in enumerate(near)
    ]
    [axes] = plot(rows).axes
    boxes = [text.get_window_extent() for text in axes.texts]
    points = axes.transData.transform([(seconds, bits) for bits, seconds in near])
    assert [text.get_text() for text in axes.texts] == [row.mixing for row in rows]
    assert not any(box.count_overlaps(boxes[:k]) for k, box in enumerate(boxes))
    assert not any(box.contains(*point) for box in boxes for point in points)
    assert all(axes.bbox.fully_containsx(end) for box in boxes for end in (box.x0, box.x1))


def test_without_a_row_the_picture_is_empty() -> None:
    assert not plot([]).axes[0].texts
