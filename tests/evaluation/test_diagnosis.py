"""Singular and almost singular layers: found, named, and within the stated bounds."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import pytorch_lightning as pl
import torch
from nflows.distributions import DiagonalNormal, StandardNormal
from nflows.transforms.base import Transform
from registry import dense_jacobian, move
from running import CONFIG, LIGHTNING, fit, run

from nflows_woodbury import (
    ActNorm,
    Chain,
    ImageFlow,
    InvertibleConv1x1,
    LowRankTransform,
    PeriodicConvolution,
    SplineCoupling,
    WoodburyTransform,
    image_flow,
)
from nflows_woodbury.checkpoint import read_checkpoint
from nflows_woodbury.config import MIXINGS, FlowConfig
from nflows_woodbury.data.photos import PhotoSource
from nflows_woodbury.evaluation.diagnosis import diagnose, first_not_finite
from nflows_woodbury.linalg import low_rank
from nflows_woodbury.transforms.base import SingularError

pytestmark = LIGHTNING

IMAGES = PhotoSource(16).test.images[:6]


def flow_of(mixing: str = "woodbury", dtype: torch.dtype = torch.float64):
    torch.manual_seed(0)
    config = FlowConfig((3, 16, 16), levels=2, steps=1, hidden_channels=8, mixing=mixing)
    flow = config.build().to(dtype)
    flow.initialize(IMAGES)
    return flow


@torch.no_grad()
def make_singular(layer: torch.nn.Module) -> None:
    """A map that sends one direction to exactly zero."""
    if isinstance(layer, LowRankTransform):
        layer.U.zero_(), layer.V.zero_()
        layer.U[0, 0], layer.V[0, 0] = -1, 1
    else:
        weight = layer.matrix.weight if isinstance(layer, InvertibleConv1x1) else layer.weight
        weight.zero_()


SINGULAR = {
    "low-rank": lambda: LowRankTransform((4, 5, 6), (0,), 2),
    "low-rank above the axis": lambda: LowRankTransform((4, 5, 6), (0,), 7),
    "conv1x1": lambda: InvertibleConv1x1((4, 5, 6)),
    "periodic": lambda: PeriodicConvolution((4, 5, 6)),
}


@pytest.mark.parametrize("name", SINGULAR)
def test_a_singular_layer_says_so_by_name_and_has_log_det_minus_infinity(name: str) -> None:
    layer = SINGULAR[name]()
    make_singular(layer)
    outputs, logabsdet = layer(torch.randn(2, 4, 5, 6))
    assert (logabsdet == -torch.inf).all()
    with pytest.raises(SingularError, match=re.escape(f"{type(layer).__name__}({layer.extra_repr()}) is singular")):
        layer.inverse(outputs)


def test_compiled_code_is_not_stopped_by_a_check() -> None:
    layer = SINGULAR["low-rank"]()
    make_singular(layer)
    inverse = torch.compile(layer.inverse, fullgraph=True, backend="eager")
    assert (inverse(torch.randn(2, 4, 5, 6))[1] == torch.inf).all()


@pytest.mark.parametrize("mixing", MIXINGS)
def test_reports_cover_every_layer_with_its_log_det_and_round_trip(mixing: str) -> None:
    flow = flow_of(mixing)
    flow.train()
    torch.manual_seed(1)
    *reports, _, _ = diagnose(flow, IMAGES)
    assert flow.training and not any(part._forward_hooks for part in flow.modules())
    assert all(report.is_sound and report.round_trip < 1e-12 for report in reports)
    torch.manual_seed(1)
    _, logabsdet = flow._transform.transforms[1](flow._transform.transforms[0](IMAGES)[0])
    sizes = [3 * 16 * 16 if ".levels.0." in report.name else 3 * 16 * 16 // 2 for report in reports]
    total = sum(report.logabsdet * size for report, size in zip(reports, sizes, strict=True))
    assert total == pytest.approx(logabsdet.mean().item(), rel=1e-9)
    parts = dict(flow._transform.named_modules())
    assert all(type(parts[report.name]).__name__ == report.kind.split("(")[0] for report in reports)
    for report in reports:
        side = 8 if ".levels.0." in report.name else 4
        solved = getattr(parts[report.name], "solved_matrices", lambda inputs: None)(torch.zeros(1, 1, side, side))
        worst = None if solved is None else pytest.approx(torch.linalg.cond(solved).max().item())
        assert report.condition == worst


@pytest.mark.parametrize("name", ["low-rank above the axis", "conv1x1", "periodic"])
def test_the_condition_is_that_of_the_dense_map(name: str) -> None:
    layer = SINGULAR[name]().double()
    inputs = torch.randn(1, 4, 5, 6, dtype=torch.float64)
    if name == "periodic":
        expected = torch.linalg.cond(dense_jacobian(layer, inputs))
        values = torch.linalg.svdvals(
            layer.solved_matrices(inputs)
        )  # of one frequency each; the dense map has all of them
        assert (values.max() / values.min()).item() == pytest.approx(float(expected), rel=1e-9)
    else:
        expected = torch.linalg.cond(dense_jacobian(layer, inputs))
        assert torch.linalg.cond(layer.solved_matrices(inputs)).item() == pytest.approx(float(expected), rel=1e-9)


def test_a_singular_layer_of_a_flow_is_reported_and_named(tmp_path, capsys) -> None:
    flow = flow_of()
    name = "transforms.1.levels.1.transforms.1.transforms.1.transforms.0"
    assert first_not_finite(flow, IMAGES) is None
    make_singular(flow._transform.get_submodule(name))
    assert first_not_finite(flow, IMAGES) == f"{name}: LowRankTransform(shape=(24, 4, 4), axes=(0,), rank=8)"
    report, *whole = [report for report in diagnose(flow, IMAGES) if not report.is_sound]
    assert report.name == name and report.condition == report.round_trip == torch.inf
    assert [way.changed for way in whole] == [1, 1]


def test_the_guard_names_the_layer_that_became_singular(tmp_path) -> None:
    class Break(pl.Callback):
        def on_train_batch_start(self, trainer, module, *_) -> None:
            if trainer.global_step == 3:
                make_singular(next(part for part in module.flow.modules() if isinstance(part, LowRankTransform)))

    with (
        pytest.warns(
            UserWarning, match=r"step 3: the gradient is not finite, nor are the values of transforms.*LowRank"
        ),
        pytest.raises(FloatingPointError, match=r"step 4: .*LowRankTransform.*2 steps in a row"),
    ):
        fit(tmp_path, Break(), config=replace(CONFIG, skip_limit=2))


def test_the_command_prints_a_line_for_each_layer_and_fails_for_a_singular_one(tmp_path, capsys) -> None:
    fit(tmp_path / "sound", config=replace(CONFIG, max_steps=2))
    assert run("diagnose", tmp_path / "sound", "--num", 4, "--temperature", 0.5) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 2 * 4 + 2 + 2 + 2 + 1
    ways = ["images -> noise -> images", "noise -> images -> noise, temperature 0.5"]
    for line, way in zip(lines[-2:], ways, strict=True):
        assert re.fullmatch(rf"whole flow: \d+ of 3072 pixel values change, {way}", line)
    assert [line.split("  ")[0] for line in lines[-4:-2]] == ways

    checkpoint = read_checkpoint(tmp_path / "sound")
    name = next(name for name in checkpoint["state_dict"] if name.endswith(".U")).removesuffix(".U")
    layer = LowRankTransform((12, 8, 8), (0,), 8)
    make_singular(layer)
    checkpoint["state_dict"] |= {f"{name}.{factor}": getattr(layer, factor).detach() for factor in "UV"}
    torch.save(checkpoint, tmp_path / "broken.ckpt")
    assert run("diagnose", tmp_path / "broken.ckpt") == 2
    error = capsys.readouterr().err
    assert re.search(
        r"1 layers cannot be trusted: .*; the whole flow changes more than 1% of pixel values: images", error
    )


@torch.no_grad()
def test_the_whole_flow_is_reported_in_both_directions() -> None:
    flow = move(flow_of(), 0.1)  # so that log-dets depend on the noise
    torch.manual_seed(2)
    there, back = diagnose(flow, IMAGES, temperature=0.7)[-2:]
    torch.manual_seed(2)
    dequantize, rest = flow._transform
    flow.log_prob(IMAGES)  # the pass over the layers draws noise, too
    values, _ = dequantize(IMAGES)
    noise, logabsdet = rest(values)
    assert there.logabsdet == pytest.approx(logabsdet.mean().item() / 768, rel=1e-9)
    assert there.round_trip == pytest.approx(float((rest.inverse(noise)[0] - values).abs().max() / values.abs().max()))
    start = 0.7 * flow._distribution.sample(6).double()
    images, logabsdet = rest.inverse(start)
    assert back.logabsdet == pytest.approx(logabsdet.mean().item() / 768, rel=1e-9)
    assert back.round_trip == pytest.approx(float((rest(images)[0] - start).abs().max() / start.abs().max()))
    assert there.changed == back.changed == 0 and there.is_sound and back.is_sound
    assert (there.name, back.name) == ("images -> noise -> images", "noise -> images -> noise, temperature 0.7")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_each_layer_hides_the_whole_flow_shows(dtype: torch.dtype) -> None:
    """Channels of very different size, then a rotation: each is sound, and in a row float32 loses the small ones."""
    flow = flow_of("conv1x1", dtype)
    layer = next(layer for layer in flow.modules() if isinstance(layer, ActNorm))
    with torch.no_grad():
        layer.log_scale += torch.tensor([8.0, -8.0], dtype=dtype).repeat(6)
    *reports, there, back = diagnose(flow, IMAGES)
    assert all(report.is_sound for report in reports)
    assert back.is_sound  # noise is large where the channels are
    assert there.is_sound == (dtype == torch.float64)
    assert there.changed > 0.2 if dtype == torch.float32 else there.changed == 0


def test_steep_splines_are_seen() -> None:
    flow = flow_of("woodbury", torch.float32)
    coupling = SplineCoupling((12, 8, 8), 8)
    torch.nn.init.normal_(coupling.net.last.bias, std=6.0)
    flow._transform[1].levels[0].transforms[1] = Chain([coupling])
    unsound = [report.kind.split("(")[0] for report in diagnose(flow, IMAGES) if not report.is_sound]
    assert unsound[0] == "SplineCoupling" and "whole flow" in unsound


def test_the_share_of_changed_pixels_counts_images_that_are_not_finite() -> None:
    flow = flow_of()
    flow._transform[1].levels[1].transforms[2] = Breaks()
    *_, there, back = diagnose(flow, IMAGES)
    assert there.changed == pytest.approx(2 / 6) and there.round_trip == torch.inf and not there.is_sound
    assert back.changed == pytest.approx(2 / 6) and not back.is_sound


class Breaks(Transform):
    """Two images go to NaN on the way back."""

    def forward(self, inputs: torch.Tensor, context=None) -> tuple[torch.Tensor, torch.Tensor]:
        return inputs, torch.zeros(len(inputs), dtype=inputs.dtype)

    def inverse(self, inputs: torch.Tensor, context=None) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = inputs.clone()
        outputs[:2, 0, 0, 0] = torch.nan
        return outputs, torch.zeros(len(inputs), dtype=inputs.dtype)


def test_flows_that_cannot_sample_or_skip_their_dequantization_have_fewer_reports() -> None:
    make = {"levels": 1, "steps": 1, "mixing": InvertibleConv1x1, "coupling": lambda shape: ActNorm(shape[0])}
    flow = image_flow((3, 16, 16), **make, base=lambda d: DiagonalNormal((d,)))
    assert [report.name for report in diagnose(flow, IMAGES) if report.changed is not None] == [
        "images -> noise -> images"
    ]
    flow = ImageFlow(NotAChain(flow._transform), StandardNormal((768,)), shape=(3, 16, 16))
    assert not [report for report in diagnose(flow, IMAGES) if report.changed is not None]


class NotAChain(Transform):
    """Another container."""

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, inputs: torch.Tensor, context=None) -> tuple[torch.Tensor, torch.Tensor]:
        return self.transform(inputs, context)

    def inverse(self, inputs: torch.Tensor, context=None) -> tuple[torch.Tensor, torch.Tensor]:
        return self.transform.inverse(inputs, context)


def test_a_conditional_flow_goes_both_ways_with_its_context() -> None:
    config = FlowConfig((3, 16, 16), levels=1, steps=1, hidden_channels=8, num_classes=3)
    flow = config.build().double()
    *_, there, back = diagnose(flow, IMAGES, torch.arange(6) % 3)
    assert there.changed == back.changed == 0


def with_condition(n: int, d: int, condition: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors whose capacitance has exactly this condition number, in float64."""
    U = torch.linalg.qr(torch.randn(n, d, dtype=torch.float64)).Q
    left, right = (torch.linalg.qr(torch.randn(d, d, dtype=torch.float64)).Q for _ in range(2))
    exponents = torch.linspace(0, 1, d, dtype=torch.float64) if d > 1 else torch.zeros(1, dtype=torch.float64)
    C = left @ torch.diag(condition**-exponents) @ right
    return U, (C - torch.eye(d, dtype=torch.float64)) @ U.mT


@pytest.mark.parametrize("exponent", range(9))
@pytest.mark.parametrize(("n", "d"), [(12, 4), (64, 16), (1024, 16), (256 * 256, 16)])
def test_float32_error_stays_within_the_bound_of_the_condition(n: int, d: int, exponent: int) -> None:
    """The bound of docs/concepts/numerics: 4 eps (1 + a) (1 + a k / |C|), a = |U| |V|, k the condition of C."""
    torch.manual_seed(exponent)
    U, V = with_condition(n, d, 10.0**exponent)
    C = low_rank.capacitances(U, V)
    condition = float(torch.linalg.cond(C))
    assert condition == pytest.approx(10.0**exponent, rel=1e-6)
    norms = float(torch.linalg.matrix_norm(U, 2) * torch.linalg.matrix_norm(V, 2))
    layer = LowRankTransform((n,), (0,), d)
    with torch.no_grad():
        layer.U.copy_(U), layer.V.copy_(V)
    inputs = torch.randn(20, n)
    back, _ = layer.inverse(layer(inputs)[0])
    error = ((back - inputs).norm(dim=1) / inputs.norm(dim=1)).max()
    bound = 4 * torch.finfo(torch.float32).eps * (1 + norms) * (1 + norms * condition / torch.linalg.matrix_norm(C, 2))
    assert error <= bound


@pytest.mark.parametrize(("n", "d"), [(12, 8), (48, 16), (256, 16), (1024, 16)])
def test_random_factors_invert_as_well_as_a_dense_solve(n: int, d: int) -> None:
    errors = {"ours": [], "dense": []}
    for seed in range(20):
        torch.manual_seed(seed)
        U, V = torch.randn(n, d) / n**0.5, torch.randn(d, n) / n**0.5
        layer = LowRankTransform((n,), (0,), d, init=lambda *_, factors=(U, V): factors)
        inputs = torch.randn(10, n)
        dense = torch.eye(n) + U @ V
        errors["ours"].append(float((layer.inverse(layer(inputs)[0].detach())[0] - inputs).detach().norm()))
        errors["dense"].append(float((torch.linalg.solve(dense, dense @ inputs.mT).mT - inputs).norm()))
    assert sum(errors["ours"]) <= 10 * sum(errors["dense"])


def test_large_images_and_long_chains_come_back() -> None:
    torch.manual_seed(0)
    layer, inputs = WoodburyTransform((12, 256, 256), ranks=(8, 16)), torch.randn(1, 12, 256, 256)
    outputs, logabsdet = layer(inputs)
    back, there = layer.inverse(outputs)
    assert (back - inputs).abs().max() < 1e-4 and torch.equal(logabsdet, -there)
    values, layers = torch.randn(2, 6, 8, 8), [WoodburyTransform((6, 8, 8), ranks=(4, 8)) for _ in range(200)]
    outputs = values
    for layer in layers:
        outputs = layer(outputs)[0]
    for layer in reversed(layers):
        outputs = layer.inverse(outputs)[0]
    assert (outputs - values).abs().max() < 1e-3
