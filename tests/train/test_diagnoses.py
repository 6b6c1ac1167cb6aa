"""What a run notes of its layers while it learns: complete, right, without effect on it, and shown by a command."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from running import CONFIG, FLOW, LIGHTNING, assert_same, fit, run, state

from nflows_woodbury.checkpoint import find_checkpoint, load_flow
from nflows_woodbury.config import COUPLINGS, MIXINGS, FlowConfig
from nflows_woodbury.data.photos import PhotoSource
from nflows_woodbury.evaluation.diagnosis import LayerReport, diagnose
from nflows_woodbury.evaluation.history import HISTORY, Moment, plot, read_history, table, write_history
from nflows_woodbury.train import diagnoses
from nflows_woodbury.train.callbacks import Pictures
from nflows_woodbury.train.diagnoses import Diagnoses
from nflows_woodbury.train.module import FlowTraining
from nflows_woodbury.train.trainer import make_trainer

pytestmark = LIGHTNING


def test_it_has_the_start_every_tenth_and_the_end(whole: Path) -> None:
    moments = read_history(whole)
    assert [moment.step for moment in moments] == [0, 4, 8, 12]
    assert len({len(moment.reports) for moment in moments}) == 1
    assert 1 <= moments[0].worst.condition < moments[-1].worst.condition < 10


def test_the_last_is_what_diagnose_says_of_the_weights(whole: Path) -> None:
    flow, saved = load_flow(whole)
    batch = PhotoSource(16).batch(0, 8, seed=0)
    torch.manual_seed(saved["training"]["seed"])
    assert tuple(diagnose(flow, batch.images)) == read_history(whole)[-1].reports


def test_a_run_learns_the_same_without_it(whole: Path, tmp_path: Path) -> None:
    module = FlowTraining(FLOW, CONFIG, PhotoSource(16))
    trainer = make_trainer(CONFIG, tmp_path, progress=False)
    trainer.callbacks = [callback for callback in trainer.callbacks if not isinstance(callback, Diagnoses)]
    trainer.fit(module, weights_only=True)
    assert not (tmp_path / HISTORY).exists()
    assert_same(state(tmp_path), state(whole))


def test_a_run_that_goes_on_takes_up_what_there_is(tmp_path: Path) -> None:
    out = tmp_path / "run"
    fit(out, config=replace(CONFIG, max_steps=8))
    first = read_history(out)
    later = Moment(10, first[-1].reports)  # of steps that a kill undid
    write_history(out / HISTORY, [*first[:-1], later])  # and killed between the checkpoint and the look
    fit(out, resume=find_checkpoint(out), config=replace(CONFIG, every=3))
    moments = read_history(out)
    assert [moment.step for moment in moments] == [0, 4, 8, 9, 12]
    assert moments[:2] == first[:2] and moments[2] == first[2]


def test_a_new_run_takes_nothing_from_one_without_a_checkpoint(whole: Path, tmp_path: Path) -> None:
    shutil.copy(whole / HISTORY, tmp_path / HISTORY)
    fit(tmp_path, config=replace(CONFIG, max_steps=1, seed=5))
    assert [moment.step for moment in read_history(tmp_path)] == [0, 1]
    assert read_history(tmp_path)[0] != read_history(whole)[0]


@pytest.mark.parametrize("value", [nan, inf, 0.0])
@pytest.mark.parametrize("mixing", MIXINGS)
def test_any_weights_are_diagnosed_and_come_back_from_the_file(mixing: str, value: float, tmp_path: Path) -> None:
    flow = FlowConfig((3, 16, 16), levels=2, steps=1, hidden_channels=4, mixing=mixing).build()
    images = PhotoSource(16).test.images[:4]
    flow.initialize(images)
    for parameter in flow.parameters():
        torch.nn.init.constant_(parameter, value)
    moment = Moment(3, tuple(diagnose(flow, images)))
    assert value == 0 or not any(report.is_sound for report in moment.ways)
    write_history(tmp_path / HISTORY, [moment])
    json.loads((tmp_path / HISTORY).read_text(), parse_constant=pytest.fail)  # it is JSON, without NaN
    [read] = read_history(tmp_path)
    assert [report.is_sound for report in read.reports] == [report.is_sound for report in moment.reports]
    assert [report.condition for report in read.reports] == [report.condition for report in moment.reports]
    assert table([read]) and plot([read]).axes


@pytest.mark.parametrize("settings", [*({"coupling": name} for name in COUPLINGS), {"dequantize": "variational"}])
def test_any_weights_of_other_parts_are_diagnosed(settings: dict) -> None:
    flow = FlowConfig((3, 8, 8), levels=2, steps=1, hidden_channels=4, **settings).build()
    images = PhotoSource(8).test.images[:4]
    flow.initialize(images)
    for parameter in flow.parameters():
        torch.nn.init.constant_(parameter, nan)
    assert not any(report.is_sound for report in diagnose(flow, images)[-2:])


@pytest.mark.parametrize("mixing", MIXINGS)
def test_a_run_goes_on_with_weights_that_are_not_finite(mixing: str, tmp_path: Path) -> None:
    class Spoil(pl.Callback):
        def on_train_batch_start(self, trainer, module, *_) -> None:
            if trainer.global_step == 1:
                for parameter in module.flow.parameters():
                    torch.nn.init.constant_(parameter, nan)

    flow = FlowConfig((3, 16, 16), levels=2, steps=1, hidden_channels=4, mixing=mixing)
    config = replace(CONFIG, max_steps=2, every=1, skip_limit=0)
    trainer = make_trainer(config, tmp_path, progress=False)
    trainer.callbacks = [callback for callback in trainer.callbacks if not isinstance(callback, Pictures)]
    trainer.callbacks.append(Spoil())
    trainer.fit(FlowTraining(flow, config, PhotoSource(16)), weights_only=True)
    assert trainer.global_step == 2
    sound = [all(report.is_sound for report in moment.ways) for moment in read_history(tmp_path)]
    assert sound == [True, True, False]


def test_the_figure_has_a_colour_for_each_kind_of_layer() -> None:
    kinds = ["LowRankTransform(axes=(0,), rank=4)", "LowRankTransform(axes=(1, 2), rank=4)", "InvertibleConv1x1()"]
    reports = [LayerReport(str(number), kind, 2.0, 0.0, 1e-6) for number, kind in enumerate(kinds * 2)]
    above, _ = plot([Moment(step, tuple(reports)) for step in (0, 5)]).axes
    labels = ["LowRankTransform, axes=(0,)", "LowRankTransform, axes=(1, 2)", "InvertibleConv1x1"]
    assert [text.get_text() for text in above.get_legend().get_texts()] == labels
    colours = [line.get_color() for line in above.get_lines()]
    assert colours[:3] == colours[3:] and len(set(colours)) == 3
    assert all(list(line.get_xdata()) == [0, 5] for line in above.get_lines())


def test_the_figure_shows_what_is_not_finite() -> None:
    values = {0: 2.0, 5: inf, 10: 3.0}
    moments = [Moment(step, (LayerReport("0", "InvertibleConv1x1()", c, 0.0, 1e-6),)) for step, c in values.items()]
    curve, cross = plot(moments).axes[0].get_lines()
    assert list(curve.get_xdata()) == [0, 10] and cross.get_xdata() == [5] and cross.get_marker() == "x"
    above, _ = plot([Moment(5, (LayerReport("0", "InvertibleConv1x1()", inf, 0.0, inf),))]).axes
    assert [text.get_text() for text in above.get_legend().get_texts()] == ["InvertibleConv1x1"]


def test_no_curve_of_the_figure_lies_under_a_legend_and_no_tick_between_steps() -> None:
    reports = [LayerReport(str(n), f"Layer{n}()", 1.0 + n, 0.0, 1e-6) for n in range(6)]
    reports += [LayerReport(f"way {n}", "whole flow", None, 0.0, 1e-6, changed=0.0) for n in range(2)]
    figure = plot([Moment(step, tuple(reports)) for step in (0, 1, 2, 3)])
    figure.draw_without_rendering()
    for axes in figure.axes:
        assert axes.get_legend().get_window_extent().y0 >= axes.get_window_extent().y1
        assert all(step == int(step) for step in axes.get_xticks())
    assert figure.axes[0].get_legend().get_window_extent().x1 <= figure.bbox.x1


def test_the_command_prints_and_draws_it(whole: Path, tmp_path: Path, capsys) -> None:
    assert run("diagnose", whole, "--history", "--png", tmp_path / "history.png") == 0
    header, *lines, picture = capsys.readouterr().out.splitlines()
    assert [int(line.split()[0]) for line in lines] == [0, 4, 8, 12] and "LowRankTransform(" in lines[-1]
    assert header.split() == ["step", "condition", "round", "trip", "changed", "layer", "with", "that", "condition"]
    assert picture == f"picture: {tmp_path / 'history.png'}"
    with Image.open(tmp_path / "history.png") as image:
        assert image.size[0] > 500


WITHOUT_EFFECT = {
    "num": ["--num", 3],
    "data": ["--data", "photos"],
    "temperature": ["--temperature", 0.5],
    "seed": ["--seed", 1],
    "last-weights": ["--last-weights"],
}


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_flags_that_have_no_effect_on_it_are_refused(name: str, whole: Path, capsys) -> None:
    assert run("diagnose", whole, "--history", *WITHOUT_EFFECT[name]) == 2
    assert f"error: {name} must be left out with --history and --png" in capsys.readouterr().err


def test_a_picture_of_another_kind_is_refused_by_the_flag(whole: Path, tmp_path: Path, capsys) -> None:
    for command in ("diagnose", "score"):
        assert run(command, whole, "--png", tmp_path / "h.jpg") == 2
        assert "error: png must be a .png file, got '" in capsys.readouterr().err


def test_it_is_found_from_all_that_names_a_run(whole: Path, tmp_path: Path, capsys) -> None:
    shutil.copytree(whole, tmp_path / "run")
    for place in ("run", "run/checkpoints", "run/checkpoints/last.ckpt"):
        assert run("diagnose", tmp_path / place, "--history") == 0
    (tmp_path / "run" / "checkpoints" / "last.ckpt").unlink()  # or it was killed before the first one
    assert run("diagnose", tmp_path / "run", "--history") == 0
    assert run("diagnose", tmp_path / "elsewhere", "--history") == 2
    assert "elsewhere is neither a checkpoint nor a run's folder" in capsys.readouterr().err


def test_a_run_that_has_none_says_so(whole: Path, tmp_path: Path, capsys) -> None:
    shutil.copytree(whole / "checkpoints", tmp_path / "run" / "checkpoints")
    assert run("diagnose", tmp_path / "run", "--history") == 2
    assert "run/diagnosis.json is not there: a run writes it while it trains" in capsys.readouterr().err
    shutil.copy(whole / "checkpoints" / "last.ckpt", tmp_path / "alone.ckpt")
    for place in (tmp_path / "alone.ckpt", Path(__file__).parents[2] / "docs/weights/photos-woodbury.safetensors"):
        assert run("diagnose", place, "--history") == 2
        assert "diagnosis.json is not there: " in capsys.readouterr().err
    (tmp_path / "run" / HISTORY).write_text("[1]")
    assert run("diagnose", tmp_path / "run", "--history") == 2
    assert "run/diagnosis.json must be what a training run wrote, or be deleted" in capsys.readouterr().err


def test_it_looks_a_hundred_times_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnoses, "diagnose", lambda *_: [])
    module, seen = FlowTraining(FLOW, replace(CONFIG, max_steps=1050, every=2), PhotoSource(16)), Diagnoses(tmp_path)
    trainer = SimpleNamespace(global_step=0, max_steps=1050)
    monkeypatch.setattr(FlowTraining, "is_time", lambda *_: trainer.global_step % 2 == 0)
    seen.on_train_start(trainer, module)
    for trainer.global_step in range(1, 1051):
        seen.on_train_batch_end(trainer, module, None, None, 0)
    seen.on_train_end(trainer, module)
    assert [moment.step for moment in read_history(tmp_path)] == [*range(0, 1051, 10)]
