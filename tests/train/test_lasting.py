"""Runs that last: averaged weights, a guard against bad steps, precision, and what kills and full disks leave."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from math import cos, inf, nan, pi
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from running import CONFIG, FLOW, LIGHTNING, TINY, assert_same, fit, run, state

from nflows_woodbury.checkpoint import load_flow, read_checkpoint
from nflows_woodbury.data.photos import PhotoSource
from nflows_woodbury.data.sources import ArraySource
from nflows_woodbury.evaluation.diagnosis import diagnose
from nflows_woodbury.evaluation.history import read_history
from nflows_woodbury.evaluation.likelihood import bits_per_dim
from nflows_woodbury.train import callbacks
from nflows_woodbury.train.batches import Steps
from nflows_woodbury.train.module import FlowTraining
from nflows_woodbury.train.trainer import make_trainer
from nflows_woodbury.transforms.nets import ConvNet

pytestmark = LIGHTNING


class Weights(pl.Callback):
    """Copies of the weights after each step."""

    def __init__(self) -> None:
        self.steps: list[list[torch.Tensor]] = []

    def on_train_start(self, trainer, module) -> None:
        self._add(module)

    def on_train_batch_end(self, trainer, module, *_) -> None:
        self._add(module)

    def _add(self, module) -> None:
        self.steps.append([parameter.detach().clone() for parameter in module.flow.parameters()])


def test_killed_runs_end_as_the_run_that_nothing_killed() -> None:
    script = Path(__file__).parents[1] / "helpers" / "killed_runs.py"
    done = subprocess.run([sys.executable, "-W", "ignore", str(script), "--runs", "6"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["runs"] == report["equal"] == 6 and report["kills"] >= 6 and report["while_writing"] >= 1


def test_averaged_weights_are_the_moving_average_and_what_is_evaluated(tmp_path: Path) -> None:
    weights = Weights()
    config = replace(CONFIG, ema_decay=0.6, learning_rate=0.01)
    module = fit(tmp_path / "run", weights, config=config)
    expected = [w.double() for w in weights.steps[0]]
    for step, now in enumerate(weights.steps[1:], 1):
        decay = min(0.6, (1 + step) / (10 + step))
        expected = [decay * average + (1 - decay) * w for average, w in zip(expected, now, strict=True)]
    for ours, theirs in zip(module.average.parameters(), expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=1e-6, rtol=0)
    assert module.evaluated is module.average
    averaged, last = load_flow(tmp_path / "run")[0], load_flow(tmp_path / "run", averaged=False)[0]
    assert_same(averaged.state_dict(), module.average.state_dict())
    assert_same(last.state_dict(), module.flow.state_dict())
    torch.manual_seed(config.seed)  # what the run notes of its layers is of the weights that learn
    reports = diagnose(last, PhotoSource(16).batch(0, 8, seed=0).images)
    assert read_history(tmp_path / "run")[-1].reports == tuple(reports)
    images = PhotoSource(16).test
    assert not torch.equal(bits_per_dim(averaged, images), bits_per_dim(last, images))


def test_a_run_in_parts_with_averaging_and_more_steps_than_planned_ends_as_the_whole_one(tmp_path: Path) -> None:
    config = replace(CONFIG, ema_decay=0.9, accumulate=2, schedule="constant")
    fit(tmp_path / "whole", config=config)
    fit(tmp_path / "run", config=replace(config, max_steps=5))
    fit(tmp_path / "run", config=config, resume=tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert_same(state(tmp_path / "run"), state(tmp_path / "whole"))


def test_validation_and_pictures_are_of_the_averaged_weights(tmp_path: Path, monkeypatch) -> None:
    drawn = []
    for name in ("sample_classes", "reconstructions"):
        draw = getattr(callbacks, name)
        monkeypatch.setattr(callbacks, name, lambda flow, *a, d=draw, **k: drawn.append(flow) or d(flow, *a, **k))
    config = replace(CONFIG, max_steps=4, ema_decay=0.6)
    module = FlowTraining(FLOW, config, ArraySource(PhotoSource(16).test))
    trainer = make_trainer(config, tmp_path, progress=False)
    trainer.fit(module)
    expected = bits_per_dim(module.average, module.source.validation).mean().item()
    (validation,) = (callback for callback in trainer.callbacks if isinstance(callback, callbacks.Validation))
    assert validation.value == pytest.approx(expected)
    assert len(drawn) == 2 and all(flow is module.average for flow in drawn)


def test_rates_rise_linearly_and_fall_along_half_a_cosine() -> None:
    constant = replace(CONFIG, max_steps=100, warmup_steps=4, schedule="constant")
    assert [constant.rate(step) for step in (0, 1, 3, 4, 5, 99)] == pytest.approx([0.2, 0.4, 0.8, 1, 1, 1])
    cosine = replace(constant, schedule="cosine")
    expected = [min(1, (step + 1) / 5) * cos(pi / 2 * step / 100) ** 2 for step in range(101)]
    assert [cosine.rate(step) for step in range(101)] == pytest.approx(expected)
    assert cosine.rate(150) == 0


class Poison(pl.Callback):
    """Makes one entry of the gradient not finite at some steps."""

    def __init__(self, steps: set[int], value: float) -> None:
        self.steps, self.value = steps, value

    def on_after_backward(self, trainer, module) -> None:
        if trainer.global_step in self.steps:
            next(module.flow.parameters()).grad.view(-1)[0] = self.value


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_a_step_without_finite_gradient_is_skipped_with_a_warning(value: float, tmp_path: Path) -> None:
    weights = Weights()
    with pytest.warns(UserWarning, match=r"step 3: the gradient is not finite, first in .*log_scale; .*skipped"):
        fit(tmp_path, weights, Poison({3}, value))
    assert_same(weights.steps[3], weights.steps[4])
    for step in (*range(3), *range(4, 11)):
        assert not torch.equal(weights.steps[step][0], weights.steps[step + 1][0])
    assert all(weight.isfinite().all() for weight in weights.steps[-1])


def test_too_many_bad_steps_in_a_row_end_the_run_with_the_checkpoint_intact(tmp_path: Path) -> None:
    with (
        pytest.warns(UserWarning, match="skipped"),
        pytest.raises(FloatingPointError, match=r"step 8.* 3 steps in a row.*learning_rate"),
    ):
        fit(tmp_path, Poison({5, 6, 7, 8, 9} - {5}, nan), config=replace(CONFIG, skip_limit=3))
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint["global_step"] == 8 and checkpoint["nflows_woodbury"]["skipped"] == 2
    assert all(weight.isfinite().all() for weight in checkpoint["state_dict"].values())


def test_a_good_step_starts_the_count_again(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="skipped"):
        module = fit(tmp_path, Poison({2, 3, 5, 6, 8}, nan), config=replace(CONFIG, skip_limit=3))
    assert module.trainer.global_step == CONFIG.max_steps


def test_a_resumed_run_goes_on_counting_bad_steps(tmp_path: Path) -> None:
    poison, limited = Poison(set(range(6, 12)), nan), replace(CONFIG, skip_limit=3)
    with pytest.warns(UserWarning, match="skipped"), pytest.raises(FloatingPointError):
        fit(tmp_path, poison, config=limited)
    with pytest.raises(FloatingPointError, match="step 8"):
        fit(tmp_path, poison, config=limited, resume=tmp_path / "checkpoints" / "last.ckpt")


def test_the_guard_can_be_turned_off(tmp_path: Path) -> None:
    weights = Weights()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*skipped")
        fit(tmp_path, weights, Poison({10}, nan), config=replace(CONFIG, skip_limit=0, max_steps=11, every=20))
    assert weights.steps[-1][0].isnan().any()


def test_clipping_bounds_the_gradient(tmp_path: Path) -> None:
    class Norms(pl.Callback):
        def __init__(self) -> None:
            self.norms: list[float] = []

        def on_before_zero_grad(self, trainer, module, optimizer) -> None:
            gradients = [p.grad.flatten() for p in module.flow.parameters() if p.grad is not None]
            if gradients:
                self.norms.append(float(torch.cat(gradients).norm()))

    clipped, free = Norms(), Norms()
    fit(tmp_path / "clipped", clipped, config=replace(CONFIG, clip_norm=0.01))
    fit(tmp_path / "free", free)
    assert min(free.norms) > 0.02
    assert max(clipped.norms) < 0.01 * (1 + 1e-5)


def test_entries_are_clipped_before_the_norm(tmp_path: Path) -> None:
    class Gradients(pl.Callback):
        def on_after_backward(self, trainer, module) -> None:
            self.raw = torch.cat([p.grad.flatten() for p in module.flow.parameters()])

        def on_train_batch_end(self, trainer, module, *_) -> None:
            self.used = torch.cat([p.grad.flatten() for p in module.flow.parameters()])

    for clip_norm in (0.0, 0.002):
        gradients = Gradients()
        config = replace(CONFIG, max_steps=1, clip_value=0.001, clip_norm=clip_norm)
        fit(tmp_path / str(clip_norm), gradients, config=config)
        expected = gradients.raw.clamp(-0.001, 0.001)
        assert not torch.equal(expected, gradients.raw)
        if clip_norm:
            expected *= clip_norm / expected.norm()
        torch.testing.assert_close(gradients.used, expected, rtol=1e-4, atol=1e-12)


def test_adam_gets_its_betas_and_weight_decay(tmp_path: Path) -> None:
    config = replace(CONFIG, betas=[0.8, 0.95], weight_decay=0.01)
    optimizer = FlowTraining(FLOW, config, PhotoSource(16)).configure_optimizers()["optimizer"]
    (group,) = optimizer.param_groups
    assert (group["betas"], group["weight_decay"], group["lr"]) == ((0.8, 0.95), 0.01, pytest.approx(5e-3 / 3))
    out = tmp_path / "run"
    flags = ["--betas", 0.8, 0.95, "--weight-decay", 0.01, "--clip-value", 2, "--flip"]
    assert run("train", *TINY, "--max-steps", 1, *flags, "--out", out) == 0
    saved = load_flow(out)[1]["training"]
    assert (saved["betas"], saved["weight_decay"], saved["clip_value"], saved["flip"]) == ((0.8, 0.95), 0.01, 2, True)
    assert run("train", "--resume", out, "--max-steps", 2, *flags, "--quiet") == 0


def test_flips_are_of_the_step_and_the_place_in_the_batch() -> None:
    source, config = PhotoSource(16), replace(CONFIG, flip=True, batch_size=32)
    plain = iter(Steps(source, replace(config, flip=False), 0, 0, 1))
    whole, mirrored = iter(Steps(source, config, 0, 0, 1)), []
    parts = [iter(Steps(source, replace(config, accumulate=2), 0, rank, 2)) for rank in (0, 1)]
    for _ in range(20):
        before, after = next(plain)[2], next(whole)[2]
        of_parts = torch.cat([next(part)[2] for part in (parts[0], parts[0], parts[1], parts[1])])
        assert torch.equal(of_parts, after)
        rows = (after == before.flip(-1)).flatten(1).all(1)
        assert ((after == before).flatten(1).all(1) | rows).all()
        mirrored.append(rows)
    again = iter(Steps(source, config, 19, 0, 1))
    assert torch.equal(next(again)[2], after)
    share = torch.stack(mirrored).double().mean()
    assert abs(share - 0.5) < 5 * (0.25 / 640) ** 0.5 and len({tuple(rows.tolist()) for rows in mirrored}) == 20


def test_bf16_acts_inside_the_networks_alone(tmp_path: Path) -> None:
    seen: dict[str, set[torch.dtype]] = {"inside": set(), "outside": set()}

    def note(where: str, part: torch.nn.Module, results) -> None:
        if part.training:
            seen[where].update(result.dtype for result in results)

    class Spy(pl.Callback):
        def on_train_start(self, trainer, module) -> None:
            for part in module.flow.modules():
                if isinstance(part, ConvNet):
                    part.second.register_forward_hook(lambda m, i, outputs: note("inside", m, [outputs]))
                elif hasattr(part, "inverse"):
                    part.register_forward_hook(lambda m, i, outputs: note("outside", m, outputs))

        def on_train_end(self, trainer, module) -> None:
            for part in module.flow.modules():
                part._forward_hooks.clear()

    module = fit(tmp_path, Spy(), config=replace(CONFIG, precision="bf16", max_steps=2))
    assert seen == {"inside": {torch.bfloat16}, "outside": {torch.float32}}
    assert {parameter.dtype for parameter in module.flow.parameters()} == {torch.float32}


def test_a_float64_run_is_read_back_in_float64(tmp_path: Path) -> None:
    module = fit(tmp_path, config=replace(CONFIG, precision="float64", max_steps=2))
    flow, saved = load_flow(tmp_path)
    assert_same(flow.state_dict(), module.flow.state_dict())
    assert {parameter.dtype for parameter in flow.parameters()} == {torch.float64}
    assert saved["steps"] == 2 and saved["seconds"] > 0


def test_a_compiled_run_trains_alike(tmp_path: Path) -> None:
    config = replace(CONFIG, max_steps=3, every=10)
    plain = fit(tmp_path / "plain", config=config).flow.state_dict()
    with torch._inductor.config.patch(fallback_random=True):  # the noise of the run that is not compiled
        compiled = fit(tmp_path / "compiled", config=replace(config, compile=True)).flow.state_dict()
    assert plain.keys() == compiled.keys()
    for name, weight in plain.items():
        torch.testing.assert_close(compiled[name], weight, atol=2e-4, rtol=0)
    first, same = (read_history(tmp_path / name)[0] for name in ("plain", "compiled"))
    assert first == same  # layers are looked at as they are, not compiled


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch) -> None:
    fit(tmp_path, config=replace(CONFIG, max_steps=4))
    before = state(tmp_path)

    def full(checkpoint, file) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        fit(tmp_path, config=CONFIG, resume=tmp_path / "checkpoints" / "last.ckpt")
    assert_same(state(tmp_path), before)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]


def test_a_batch_that_does_not_divide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"batch_size must be a multiple of accumulate \(3\), got 8"):
        replace(CONFIG, accumulate=3)
    with pytest.raises(ValueError, match=r"devices x num_nodes x accumulate \(3 x 1 x 2\), got 8"):
        make_trainer(replace(CONFIG, accumulate=2), tmp_path, devices=3)


def test_a_preset_trains_with_single_settings_changed(tmp_path: Path, capsys) -> None:
    words = ["--preset", "celeba-hq64-woodbury", "--data", "photos", "--steps", 1, "--hidden-channels", 4]
    assert run("train", *words, "--test-images", 512, "--out", tmp_path / "a", "--max-steps", 1, "--quiet") == 2
    assert "'photos' has a test set of its own, got 512" in capsys.readouterr().err
    words += ["--levels", 4, "--test-images", 0, "--every", 5, "--max-steps", 2, "--warmup-steps", 0, "--quiet"]
    assert run("train", *words, "--out", tmp_path / "run") == 0
    _, saved = load_flow(tmp_path / "run")
    assert saved["training"]["preset"] == "celeba-hq64-woodbury" and saved["training"]["batch_size"] == 8
    assert saved["flow"]["bits"] == 5 and saved["flow"]["pixel_ranks"] == (16, 16, 8, 8)


def test_training_module_refuses_images_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"shape must be that of the images, \(3, 32, 32\)"):
        FlowTraining(FLOW, CONFIG, PhotoSource(32))
