"""Convolutions by ``conv2d`` and by matrix products against the sum over taps: values, derivatives, memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from derivatives import check_all_derivatives, check_vmap
from torch import Tensor
from torch.nn import functional as F

from nflows_woodbury.linalg.correlation import NONE, Padding, correlate, correlate_by_product, windows

each_way = pytest.mark.parametrize("way", [correlate, correlate_by_product])
# c_in, c_out, h, w, p, q, padding: none, alike on both sides, of a corner, more than the kernel and less than none
SETTINGS = [
    (3, 4, 6, 5, 2, 3, NONE),
    (2, 2, 4, 3, 3, 3, (1, 1, 1, 1)),
    (3, 3, 4, 5, 2, 2, (1, 0, 1, 0)),
    (1, 2, 1, 4, 1, 3, (2, 2, 0, 0)),
    (2, 1, 3, 2, 2, 3, (3, 2, 0, 2)),
    (2, 3, 5, 5, 2, 2, (-1, 1, -2, 0)),
    (2, 2, 3, 3, 3, 3, (1, 1, 2, 0)),
    (2, 2, 3, 3, 3, 3, (0, 2, 1, 1)),
    (2, 3, 3, 4, 1, 1, NONE),
]
each_setting = pytest.mark.parametrize("setting", SETTINGS, ids=str)
Way = Callable[[Tensor, Tensor, Padding], Tensor]


def draw(setting: tuple[int, int, int, int, int, int, Padding], batch: int = 2) -> tuple[Tensor, Tensor, Padding]:
    c_in, c_out, h, w, p, q, padding = setting
    return (
        torch.randn(batch, c_in, h, w, dtype=torch.float64),
        torch.randn(c_out, c_in, p, q, dtype=torch.float64),
        padding,
    )


def tap_by_tap(images: Tensor, kernel: Tensor, padding: Padding) -> Tensor:
    """The definition: each output pixel is a sum over the taps that meet a pixel of the image."""
    (batch, _, h, w), (c_out, _, p, q), (left, right, above, below) = images.shape, kernel.shape, padding
    outputs = images.new_zeros(batch, c_out, h + above + below - p + 1, w + left + right - q + 1)
    for i in range(outputs.shape[2]):
        for j in range(outputs.shape[3]):
            for a in range(p):
                for b in range(q):
                    if 0 <= (y := i + a - above) < h and 0 <= (x := j + b - left) < w:
                        outputs[:, :, i, j] += images[:, :, y, x] @ kernel[:, :, a, b].mT
    return outputs


@each_way
@each_setting
def test_it_is_the_sum_over_the_taps(way: Way, setting: tuple[int, int, int, int, int, int, Padding]) -> None:
    images, kernel, padding = draw(setting)
    torch.testing.assert_close(way(images, kernel, padding), tap_by_tap(images, kernel, padding))
    with torch.no_grad():
        torch.testing.assert_close(way(images, kernel, padding), tap_by_tap(images, kernel, padding))
    assert way(images[:0], kernel, padding).shape == (0, *tap_by_tap(images, kernel, padding).shape[1:])


@each_way
@each_setting
def test_derivatives_of_every_mode(way: Way, setting: tuple[int, int, int, int, int, int, Padding]) -> None:
    images, kernel, padding = draw(setting, batch=1)

    def mapped(images: Tensor, kernel: Tensor) -> Tensor:
        return way(images, kernel, padding)

    check_all_derivatives(mapped, (images, kernel))
    check_vmap(mapped, (images, kernel))


@each_way
def test_many_gradients_at_once_are_each_on_its_own(way: Way) -> None:
    images, kernel, padding = draw((3, 3, 4, 5, 2, 2, (1, 0, 1, 0)))
    given = images.requires_grad_(), kernel.requires_grad_()
    outputs = way(*given, padding)
    weights = torch.randn(3, *outputs.shape, dtype=torch.float64)
    at_once = torch.autograd.grad(outputs, given, weights, is_grads_batched=True, retain_graph=True)
    alone = [torch.autograd.grad(outputs, given, one, retain_graph=True) for one in weights]
    torch.testing.assert_close(at_once, tuple(map(torch.stack, zip(*alone, strict=True))))


def test_inputs_alone_are_kept() -> None:
    images, kernel, padding = draw((3, 3, 4, 5, 2, 2, (1, 0, 1, 0)))
    saved: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    images.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        correlate(images, kernel, padding)
    assert [tensor.data_ptr() for tensor in saved] == [images.data_ptr(), kernel.data_ptr()]


def test_off_the_cpu_it_is_a_matrix_product(monkeypatch: pytest.MonkeyPatch) -> None:
    images, kernel, padding = draw((3, 3, 4, 5, 2, 2, (1, 0, 1, 0)))
    monkeypatch.setattr(F, "conv2d", None)
    assert correlate(images.to("meta"), kernel.to("meta"), padding).shape == images.shape


@each_way
def test_under_autocast_it_rounds_and_is_differentiated_outside(way: Way) -> None:
    images, kernel, padding = draw((3, 3, 4, 5, 2, 2, (1, 0, 1, 0)))
    given = images.float().requires_grad_(), kernel.float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = way(*given, padding)
    exact = tap_by_tap(images, kernel, padding)
    assert outputs.dtype == torch.bfloat16
    torch.testing.assert_close(outputs.double(), exact, rtol=0.02, atol=0.05)
    gradients = torch.autograd.grad(outputs.float().square().sum(), given)
    doubles = images.requires_grad_(), kernel.requires_grad_()
    exact_ones = torch.autograd.grad(way(*doubles, padding).square().sum(), doubles)
    for gradient, expected in zip(gradients, exact_ones, strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient - expected).norm() < 0.03 * expected.norm()


def test_a_backward_pass_under_autocast_keeps_full_precision() -> None:
    images, kernel, padding = draw((3, 3, 4, 5, 2, 2, (1, 0, 1, 0)))
    given = images.float().requires_grad_(), kernel.float().requires_grad_()
    loss = correlate(*given, padding).square().sum()
    outside = torch.autograd.grad(loss, given, retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(torch.autograd.grad(loss, given), outside, rtol=0, atol=0)


def test_gradients_of_kernels_of_large_batches_keep_their_digits() -> None:
    torch.manual_seed(0)
    images, kernel, weights = torch.randn(64, 8, 16, 16), torch.randn(8, 8, 2, 2), torch.randn(64, 8, 15, 15)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        given = kernel.to(dtype).requires_grad_()
        gradients += torch.autograd.grad((correlate(images.to(dtype), given) * weights.to(dtype)).sum(), given)
    error = (gradients[0] - gradients[1]).abs().max() / gradients[1].abs().max()
    assert error < 1e-6


def test_windows_are_what_a_kernel_meets() -> None:
    images, kernel, padding = draw((3, 4, 6, 5, 2, 3, (0, 2, 1, 0)))
    met = windows(images, (2, 3), padding).unflatten(1, (2, 3, 3))
    expected = torch.einsum("oiab,nabij->noj", kernel, met)
    torch.testing.assert_close(expected, tap_by_tap(images, kernel, padding).flatten(2))
