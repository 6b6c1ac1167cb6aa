"""Every linear layer against the same map as a dense float64 matrix, solved with scipy: values and gradients.

Layers that are not linear stand against their formulas written plainly.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import scipy.linalg
import torch
from laws import at
from nflows.transforms.base import Transform
from registry import CASES, PATTERNS, Case, move
from torch import Tensor
from twins import dense, has_twin

from nflows_woodbury import (
    ActNorm,
    Chain,
    InvertibleConv1x1,
    MEWoodburyTransform,
    Multiscale,
    SplitPrior,
    Squeeze,
    WoodburyTransform,
    transforms,
)
from nflows_woodbury.linalg import low_rank, starts

TWINNED = [case for case in CASES if has_twin(case.make())]
each_twinned = at(TWINNED)


def dense_and_offset(transform: Transform, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The matrix and what is added, the image of zero."""
    return dense(transform, shape), transform(torch.zeros(1, *shape, dtype=torch.float64))[0].flatten()


@each_twinned
def test_agrees_with_its_dense_twin(case: Case) -> None:
    layer, inputs = case.build(), case.inputs(batch=3)
    with torch.no_grad():
        matrix, offset = (values.numpy() for values in dense_and_offset(layer, case.shape))
        outputs, logabsdet = layer(inputs)
        back, inverse_logabsdet = layer.inverse(outputs)
    flat, flat_outputs = inputs.flatten(1).numpy(), outputs.flatten(1).numpy()
    np.testing.assert_allclose(flat_outputs, flat @ matrix.T + offset, rtol=0, atol=1e-12)
    solved = scipy.linalg.solve(matrix, (flat_outputs - offset).T).T
    np.testing.assert_allclose(back.flatten(1).numpy(), solved, atol=1e-10)
    log_of_diagonal = np.log(abs(scipy.linalg.lu(matrix)[2].diagonal())).sum()
    np.testing.assert_allclose(logabsdet.numpy(), log_of_diagonal, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(inverse_logabsdet.numpy(), -log_of_diagonal, rtol=1e-9, atol=1e-9)


@each_twinned
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_has_the_gradients_of_its_dense_twin(case: Case, direction: str) -> None:
    layer, inputs = case.build(), case.inputs(batch=3).requires_grad_()
    matrix, offset = dense_and_offset(layer, case.shape)
    if direction == "inverse":
        inputs = layer(inputs)[0].detach().requires_grad_()
        expected = torch.linalg.solve(matrix, (inputs.flatten(1) - offset).mT).mT
    else:
        expected = inputs.flatten(1) @ matrix.mT + offset
    outputs, logabsdet = getattr(layer, direction)(inputs)
    slow = torch.linalg.slogdet(matrix).logabsdet * (1 if direction == "forward" else -1)
    weights = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    arguments = (inputs, *layer.parameters())
    ours = torch.autograd.grad((outputs.flatten(1) * weights).sum() + logabsdet.sum(), arguments)
    theirs = torch.autograd.grad((expected * weights).sum() + len(inputs) * slow, arguments)
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)


def test_every_public_linear_layer_has_a_twin() -> None:
    assert {case.name for case in CASES if case.linear} == {case.name for case in TWINNED}
    of_cases = {type(part) for case in TWINNED for part in case.make().modules()}
    public = [getattr(transforms, name) for name in transforms.__all__]
    linear = {part for part in public if isinstance(part, type) and issubclass(part, transforms.base.LinearTransform)}
    assert linear <= of_cases


@pytest.mark.parametrize("n, d", [(7, 3), (3, 7), (5, 5), (1, 1), (1, 4), (40, 2)])
def test_lowrank_functions_agree_with_dense_matrices_values_and_gradients(n: int, d: int) -> None:
    torch.manual_seed(n + d)
    U, V = (torch.randn(size, dtype=torch.float64).requires_grad_() for size in ((n, d), (d, n)))
    dense = torch.eye(n, dtype=torch.float64) + U @ V
    solved_U, logabsdet = low_rank.inverses(U, V)
    pairs = [
        (torch.eye(n, dtype=torch.float64) + solved_U @ V, torch.linalg.inv(dense)),
        (low_rank.logabsdets(U, V), torch.linalg.slogdet(dense).logabsdet),
        (logabsdet, torch.linalg.slogdet(dense).logabsdet),
    ]
    for fast, slow in pairs:
        torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)
        weights = torch.randn(fast.shape, dtype=torch.float64)
        ours = torch.autograd.grad((fast * weights).sum(), (U, V), retain_graph=True)
        dense_ones = torch.autograd.grad((slow * weights).sum(), (U, V), retain_graph=True)
        torch.testing.assert_close(ours, dense_ones, rtol=1e-7, atol=1e-7)
    with torch.no_grad():
        torch.testing.assert_close(low_rank.logabsdets(U, V), pairs[1][1], rtol=1e-9, atol=1e-9)


def test_groups_of_axes_commute() -> None:
    case = Case("me-woodbury", (4, 3, 5), {"init": "paper"}, (2, 2))
    layer, inputs = case.build(), case.inputs()
    outputs = inputs
    for update_ in reversed(list(layer)):
        outputs, _ = update_(outputs)
    torch.testing.assert_close(outputs, layer(inputs)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", PATTERNS, ids=str)
def test_groups_that_cover_the_axes_are_one_kronecker_product_in_any_order(shape: tuple[int, ...]) -> None:
    case = Case("low-rank-chain", shape, {"groups": PATTERNS[shape]}, (2, 2))
    chain, inputs = case.build(), case.inputs()
    matrix = dense(chain, shape)
    for layers in [chain, *map(Chain, permutations(chain))]:
        outputs, logabsdet = layers(inputs)
        torch.testing.assert_close(outputs.flatten(1), inputs.flatten(1) @ matrix.mT, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(logabsdet, torch.linalg.slogdet(matrix).logabsdet.expand(2), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n, d", [(8, 3), (8, 8), (3, 8), (1, 1), (1, 4), (5, 1), (2, 5), (64, 16)])
def test_starts_are_what_they_say(n: int, d: int) -> None:
    torch.manual_seed(0)
    eye = torch.eye(n)
    U, V = starts.reflection_start(n, d)
    matrix = eye + U @ V
    assert U.shape == (n, d) and V.shape == (d, n)
    torch.testing.assert_close(matrix @ matrix.T, eye, rtol=0, atol=1e-5)
    assert abs(low_rank.logabsdets(U, V)) < 1e-5
    assert round(float(matrix.trace())) == n - 2 * min(n, d)
    for scale in (0.3, 1.0):
        U, V = starts.cancelling_start(n, d, scale)
        assert U.shape == (n, d) and V.shape == (d, n)
        torch.testing.assert_close(eye + U @ V, eye, rtol=0, atol=1e-6)
        used = 2 * min(n, d // 2)
        norms = torch.cat([U[:, :used].norm(dim=0), V[:used].norm(dim=1)])
        torch.testing.assert_close(norms, torch.full_like(norms, scale))
        assert not V[used:].any() and (U[:, used:].abs() < 0.1).all() and (used == d or U[:, used:].any())
    U, V = starts.paper_start(100, 50)
    assert abs(U.std() - 0.01) < 1e-3 and abs(V.std() - 0.01) < 1e-3


def test_singular_update_says_so_in_its_logabsdet() -> None:
    U, V = torch.tensor([[1.0], [0.0]]), torch.tensor([[-1.0, 0.0]])
    assert low_rank.logabsdets(U, V) == -torch.inf
    assert low_rank.inverses(U, V)[1] == -torch.inf


def test_small_matrices_are_worked_in_float64_whatever_the_factors() -> None:
    torch.manual_seed(0)
    U, V = torch.randn(40, 8), torch.randn(8, 40)
    wide = U.double(), V.double()
    assert torch.equal(low_rank.logabsdets(U, V), low_rank.logabsdets(*wide))
    (ours, logabsdet), (expected, expected_logabsdet) = low_rank.inverses(U, V), low_rank.inverses(*wide)
    assert torch.equal(logabsdet, expected_logabsdet)
    assert torch.equal(ours, expected.float())


def test_layers_start_as_the_maps_that_they_say() -> None:
    torch.manual_seed(0)
    for parametrization in ("dense", "plu"):
        weight, logabsdet = InvertibleConv1x1((9, 1, 1), parametrization).matrix()
        torch.testing.assert_close(weight @ weight.mT, torch.eye(9), rtol=0, atol=1e-5)
        assert abs(logabsdet) < 1e-5
    for layer, scale in [
        (WoodburyTransform((9, 4, 4), (3, 6)), 0.3),
        (MEWoodburyTransform((9, 4, 4), (3, 6, 6)), 1.0),
    ]:
        channels, *others = (np.eye(part.size) + (part.U @ part.V).detach().numpy() for part in layer)
        np.testing.assert_allclose(channels @ channels.T, np.eye(9), atol=1e-5)
        assert round(np.trace(channels)) == 9 - 2 * 3
        for other, part in zip(others, list(layer)[1:], strict=True):
            np.testing.assert_allclose(other, np.eye(len(other)), atol=1e-5)
            torch.testing.assert_close(part.U.detach().norm(dim=0), torch.full((6,), scale))


@pytest.mark.parametrize("channels", [2, 4, 7])
def test_affine_coupling_is_its_formula_and_bounds_its_scale(channels: int) -> None:
    case = Case("affine", (channels, 3, 2))
    coupling, inputs = case.build(), case.inputs(batch=3)
    given, values = inputs.split([channels - channels // 2, channels // 2], 1)
    for size in (1, 200):
        with torch.no_grad():
            coupling.net.last.weight.mul_(size)
            shift, raw = coupling.net(given).chunk(2, 1)
            outputs, logabsdet = coupling(inputs)
        log_scale = 4 * (raw / 4).tanh()
        torch.testing.assert_close(outputs, torch.cat([given, log_scale.exp() * (values + shift)], 1))
        torch.testing.assert_close(logabsdet, log_scale.flatten(1).sum(1))
    assert raw.abs().max() > 4


@pytest.mark.parametrize("name", ["split-prior", "top-prior"])
def test_priors_have_the_density_of_the_gaussian_that_they_stand_for(name: str) -> None:
    case = Case(name, (5, 3, 2))
    layer, inputs = case.build(), case.inputs(batch=3)
    splits = isinstance(layer, SplitPrior)
    given, values = inputs.split([3, 2], 1) if splits else (inputs[:, :0], inputs)
    mean, log_scale = layer.conv(given).chunk(2, 1) if splits else (layer.mean, layer.log_scale)
    outputs, logabsdet = layer(inputs)
    noise, normal = outputs[:, given.shape[1] :], torch.distributions.Normal
    expected = normal(mean, log_scale.exp()).log_prob(values).flatten(1).sum(1)
    torch.testing.assert_close(normal(0.0, 1.0).log_prob(noise).flatten(1).sum(1) + logabsdet, expected)
    assert torch.equal(outputs[:, : given.shape[1]], given)


def test_multiscale_keeps_the_first_half_and_emits_the_second_the_finest_first() -> None:
    def levels() -> list[Chain]:
        return [Chain([Squeeze(), ActNorm(channels)]) for channels in (12, 24, 48)]

    torch.manual_seed(0)
    multiscale = move(Multiscale(levels(), [(12, 4, 4), (24, 2, 2), (48, 1, 1)]), 0.2).double()
    hidden = inputs = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    noise, logabsdet = multiscale(hidden)
    expected, total = [], torch.zeros(2, dtype=torch.float64)
    for level in multiscale.levels:
        hidden, of_level = level(hidden)
        half = hidden.shape[1] // 2
        expected.append(hidden[:, half:] if level is not multiscale.levels[-1] else hidden)
        hidden, total = hidden[:, :half], total + of_level
    assert torch.equal(noise, torch.cat([latents.flatten(1) for latents in expected], 1))
    torch.testing.assert_close(logabsdet, total)
    back, inverse_logabsdet = multiscale.inverse(noise)
    torch.testing.assert_close(back, inputs)
    torch.testing.assert_close(inverse_logabsdet, -total)
