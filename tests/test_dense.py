"""Every linear layer against the same map as a dense float64 matrix, built and solved with scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from registry import Case

from nflows_woodbury import (
    ActNorm,
    InvertibleConv1x1,
    LowRankTransform,
    MEWoodburyTransform,
    WoodburyTransform,
    lowrank,
)

SHAPES = [(4, 3, 5), (1, 5, 3), (6, 1, 4), (3, 4, 1), (9, 2, 2)]


def update(layer: LowRankTransform) -> np.ndarray:
    """``I + U V`` as a matrix."""
    return np.eye(layer.size) + layer.U.detach().numpy() @ layer.V.detach().numpy()


def woodbury(layer: WoodburyTransform, shape: tuple[int, int, int]) -> np.ndarray:
    """``y = A x B`` on a c x s matrix is ``kron(A, B^T)`` on its entries, row by row."""
    channels, pixels = map(update, layer)
    return np.kron(channels, pixels.T)


def me_woodbury(layer: MEWoodburyTransform, shape: tuple[int, int, int]) -> np.ndarray:
    channels, rows, columns = map(update, layer)
    return np.kron(channels, np.kron(rows.T, columns.T))


def conv1x1(layer: InvertibleConv1x1, shape: tuple[int, int, int]) -> np.ndarray:
    weight, _ = layer.matrix()
    return np.kron(weight.detach().numpy(), np.eye(shape[1] * shape[2]))


def actnorm(layer: ActNorm, shape: tuple[int, int, int]) -> np.ndarray:
    return np.kron(np.diag(layer.log_scale.detach().exp().numpy()), np.eye(shape[1] * shape[2]))


TWINS = {
    "woodbury": (lambda s: WoodburyTransform(s, (2, 3)), woodbury),
    "woodbury-over-rank": (lambda s: WoodburyTransform(s, (11, 30)), woodbury),
    "me-woodbury": (lambda s: MEWoodburyTransform(s, (2, 1, 3)), me_woodbury),
    "me-woodbury-over-rank": (lambda s: MEWoodburyTransform(s, (10, 16, 16)), me_woodbury),
    "conv1x1": (InvertibleConv1x1, conv1x1),
    "conv1x1-plu": (lambda s: InvertibleConv1x1(s, "plu"), conv1x1),
    "actnorm": (lambda s: ActNorm(s[0]), actnorm),
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", TWINS)
def test_agrees_with_its_dense_twin(name: str, shape: tuple[int, int, int]) -> None:
    make, dense = TWINS[name]
    case = Case(name, lambda: make(shape), shape)
    layer, inputs = case.build(), case.inputs(batch=3)
    matrix = dense(layer, shape)
    with torch.no_grad():
        offset = layer(torch.zeros(1, *shape, dtype=torch.float64))[0].flatten().numpy()
        outputs, logabsdet = layer(inputs)
        back, inverse_logabsdet = layer.inverse(inputs)
    flat = inputs.flatten(1).numpy()
    np.testing.assert_allclose(outputs.flatten(1).numpy(), flat @ matrix.T + offset, rtol=0, atol=1e-12)
    np.testing.assert_allclose(back.flatten(1).numpy(), scipy.linalg.solve(matrix, (flat - offset).T).T, atol=1e-10)
    sign_and_log = np.log(abs(scipy.linalg.lu(matrix)[2].diagonal())).sum()
    np.testing.assert_allclose(logabsdet.numpy(), sign_and_log, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(inverse_logabsdet.numpy(), -sign_and_log, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n, d", [(7, 3), (3, 7), (5, 5), (1, 1), (1, 4), (40, 2)])
@pytest.mark.parametrize("m", [1, 6])
def test_lowrank_functions_agree_with_dense_matrices_values_and_gradients(n: int, d: int, m: int) -> None:
    torch.manual_seed(n + d)
    U, V = (torch.randn(size, dtype=torch.float64).requires_grad_() for size in ((n, d), (d, n)))
    inputs = torch.randn(4, n, m, dtype=torch.float64, requires_grad=True)
    dense = torch.eye(n, dtype=torch.float64) + U @ V
    solved_U, solved_V, logabsdet = lowrank.inverse_factors(U, V)
    pairs = [
        (lowrank.apply(inputs, U, V), dense @ inputs),
        (lowrank.apply(inputs, solved_U, solved_V), torch.linalg.solve(dense, inputs)),
        (lowrank.logabsdet(U, V), torch.linalg.slogdet(dense).logabsdet),
        (logabsdet, torch.linalg.slogdet(dense).logabsdet),
    ]
    for fast, slow in pairs:
        torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)
        weights = torch.randn(fast.shape, dtype=torch.float64)
        arguments = (U, V, inputs) if fast.dim() else (U, V)
        ours = torch.autograd.grad((fast * weights).sum(), arguments, retain_graph=True)
        dense_ones = torch.autograd.grad((slow * weights).sum(), arguments, retain_graph=True)
        for gradient, expected in zip(ours, dense_ones, strict=True):
            torch.testing.assert_close(gradient, expected, rtol=1e-7, atol=1e-7)


def test_groups_of_axes_commute() -> None:
    case = Case("", lambda: MEWoodburyTransform((4, 3, 5), (2, 2, 2), "paper"), (4, 3, 5))
    layer, inputs = case.build(), case.inputs()
    outputs = inputs
    for update_ in reversed(list(layer)):
        outputs, _ = update_(outputs)
    torch.testing.assert_close(outputs, layer(inputs)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n, d", [(8, 3), (8, 8), (3, 8), (1, 1), (1, 4), (5, 1), (2, 5), (64, 16)])
def test_starts_are_what_they_say(n: int, d: int) -> None:
    torch.manual_seed(0)
    eye = torch.eye(n)
    U, V = lowrank.reflection_start(n, d)
    matrix = eye + U @ V
    assert U.shape == (n, d) and V.shape == (d, n)
    torch.testing.assert_close(matrix @ matrix.T, eye, rtol=0, atol=1e-5)
    assert abs(lowrank.logabsdet(U, V)) < 1e-5
    assert round(float(matrix.trace())) == n - 2 * min(n, d)
    for scale in (0.3, 1.0):
        U, V = lowrank.cancelling_start(n, d, scale)
        assert U.shape == (n, d) and V.shape == (d, n)
        torch.testing.assert_close(eye + U @ V, eye, rtol=0, atol=1e-6)
        used = 2 * min(n, d // 2)
        norms = torch.cat([U[:, :used].norm(dim=0), V[:used].norm(dim=1)])
        torch.testing.assert_close(norms, torch.full_like(norms, scale))
        assert not V[used:].any() and (U[:, used:].abs() < 0.1).all() and (used == d or U[:, used:].any())
    U, V = lowrank.paper_start(100, 50)
    assert abs(U.std() - 0.01) < 1e-3 and abs(V.std() - 0.01) < 1e-3


def test_singular_update_says_so_in_its_logabsdet() -> None:
    U, V = torch.tensor([[1.0], [0.0]]), torch.tensor([[-1.0, 0.0]])
    assert lowrank.logabsdet(U, V) == -torch.inf
    assert lowrank.inverse_factors(U, V)[2] == -torch.inf
