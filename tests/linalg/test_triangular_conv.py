"""Triangular convolutions against dense float64 matrices: the map, the wavefront solve, its gradients and schedule."""

from __future__ import annotations

from math import prod

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from nflows_woodbury.linalg import triangular_conv
from nflows_woodbury.linalg.triangular_conv import convolve, solve, triangular
from nflows_woodbury.linalg.wavefronts import substitute_plainly, wavefronts

ORDERS = ("quadrant", "rows")
# c, h, w, p, q: one channel, odd sizes, h != w, one row, one column, kernels larger than the image, flat kernels
SETTINGS = [
    (3, 3, 4, 2, 2),
    (1, 5, 3, 3, 3),
    (2, 1, 4, 2, 3),
    (2, 4, 1, 3, 2),
    (2, 2, 2, 3, 5),
    (2, 2, 3, 1, 3),
    (2, 3, 2, 3, 1),
]

each_order = pytest.mark.parametrize("order", ORDERS)
each_triangle = pytest.mark.parametrize("upper", [False, True], ids=["lower", "upper"])
each_setting = pytest.mark.parametrize("setting", SETTINGS, ids=str)


def make_kernel(c: int, p: int, q: int, order: str, upper: bool = False) -> Tensor:
    torch.manual_seed(0)
    corner = 0.3 * torch.randn(c, c, dtype=torch.float64)
    triangle = corner.triu(1) if upper else corner.tril(-1)
    diagonal = torch.linspace(0.8, 1.2, c, dtype=torch.float64).diag()
    return triangular(0.3 * torch.randn(c, c, p, q, dtype=torch.float64), triangle + diagonal, order)


def dense(kernel: Tensor, shape: tuple[int, int, int], order: str) -> Tensor:
    """The matrix of the convolution in the order pixel by pixel, then channels, entry by entry from its definition."""
    c, h, w = shape
    p, q = kernel.shape[2:]
    column = {"quadrant": q - 1, "rows": q // 2}[order]
    matrix = torch.zeros(h, w, c, h, w, c, dtype=kernel.dtype)
    for i, j, a, b in torch.cartesian_prod(*map(torch.arange, (h, w, p, q))).tolist():
        k, m = i + a - (p - 1), j + b - column
        if 0 <= k < h and 0 <= m < w:
            matrix[i, j, :, k, m] = kernel[:, :, a, b]
    return matrix.view(prod(shape), prod(shape))


def pixels_first(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1).flatten(1)


@each_order
@each_triangle
@each_setting
def test_map_and_inverse_are_those_of_a_triangular_matrix(order: str, upper: bool, setting: tuple[int, ...]) -> None:
    c, h, w, p, q = setting
    kernel, images = make_kernel(c, p, q, order, upper), torch.randn(4, c, h, w, dtype=torch.float64)
    matrix = dense(kernel, (c, h, w), order)
    assert not matrix.view(h * w, c, h * w, c).permute(1, 3, 0, 2).triu(1).any()  # no pixel sees a later one
    torch.testing.assert_close(pixels_first(convolve(images, kernel, order)), pixels_first(images) @ matrix.mT)
    expected = torch.linalg.solve(matrix, pixels_first(images).mT).mT
    torch.testing.assert_close(pixels_first(solve(images, kernel, order, upper=upper)), expected)
    plain = substitute_plainly(images[None], kernel[None], order, upper)[0]
    torch.testing.assert_close(pixels_first(plain), expected)


@each_order
@each_setting
@pytest.mark.parametrize("axes", [(), (2,), (3,), (2, 3)], ids=str)
def test_turned_it_is_the_convolution_of_turned_images(
    order: str, setting: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    c, h, w, p, q = setting
    kernel, images = make_kernel(c, p, q, order), torch.randn(4, c, h, w, dtype=torch.float64)
    expected = convolve(images.flip(axes), kernel, order).flip(axes)
    torch.testing.assert_close(convolve(images, kernel, order, turned=axes), expected)


@each_order
@each_triangle
def test_groups_are_solved_at_once_each_with_its_kernel(order: str, upper: bool) -> None:
    kernel = make_kernel(2, 2, 3, order, upper)
    kernels = (kernel * (0.8 + 0.4 * torch.rand(3, *kernel.shape, dtype=torch.float64))).requires_grad_()
    images = torch.randn(3, 4, 2, 5, 3, dtype=torch.float64, requires_grad=True)
    alone = torch.stack([solve(*pair, order, upper=upper) for pair in zip(images, kernels, strict=True)])
    weights = torch.randn_like(alone)
    expected = torch.autograd.grad((alone * weights).sum(), (images, kernels))
    for outputs in (solve(images, kernels, order, upper=upper), substitute_plainly(images, kernels, order, upper)):
        torch.testing.assert_close(outputs, alone)
        torch.testing.assert_close(torch.autograd.grad((outputs * weights).sum(), (images, kernels)), expected)


@each_order
@each_triangle
@each_setting
def test_gradients_of_the_inverse_are_those_of_finite_differences(
    order: str, upper: bool, setting: tuple[int, ...]
) -> None:
    c, h, w, p, q = setting
    kernel, images = make_kernel(c, p, q, order, upper), torch.randn(1, c, h, w, dtype=torch.float64)
    arguments = images.requires_grad_(), kernel.requires_grad_()

    def inverse(outputs: Tensor, kernel: Tensor) -> Tensor:
        return solve(outputs, kernel, order, upper=upper)

    assert gradcheck(inverse, arguments)
    assert gradgradcheck(inverse, arguments)


@each_order
def test_only_one_triangle_and_the_allowed_taps_are_read(order: str) -> None:
    full, images = torch.randn(3, 3, 2, 3), torch.randn(2, 3, 4, 5)
    full[..., -1, :] += torch.eye(3)[..., None]
    column = {"quadrant": 2, "rows": 1}[order]
    masked = triangular(full, full[:, :, -1, column].tril(), order)
    assert torch.equal(solve(images, full, order), solve(images, masked, order))
    full.requires_grad_()
    solve(images, full, order).sum().backward()
    assert not full.grad[masked == 0].any()
    assert full.grad[masked != 0].all()


@each_order
@pytest.mark.parametrize("batched", [(True, False), (False, True), (True, True)], ids=str)
def test_torch_func_sees_through_it(order: str, batched: tuple[bool, bool]) -> None:
    kernels = torch.stack([make_kernel(2, 2, 3, order), make_kernel(2, 2, 3, order) + torch.eye(2)[..., None, None]])
    images = torch.randn(2, 3, 2, 3, 4, dtype=torch.float64)
    arguments = [tensor if many else tensor[0] for tensor, many in zip((images, kernels), batched, strict=True)]
    mapped = torch.vmap(lambda y, k: solve(y, k, order), tuple(0 if many else None for many in batched))(*arguments)
    pairs = [[tensor[i] if many else tensor for tensor, many in zip(arguments, batched, strict=True)] for i in range(2)]
    torch.testing.assert_close(mapped, torch.stack([solve(*pair, order) for pair in pairs]))
    jacobians = torch.func.jacrev(lambda y, k: solve(y, k, order), (0, 1))(images[0], kernels[0])
    expected = torch.autograd.functional.jacobian(lambda y, k: solve(y, k, order), (images[0], kernels[0]))
    torch.testing.assert_close(jacobians, expected)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # opcheck's own
def test_compilers_call_it_as_one_operator_with_the_same_gradients() -> None:
    torch._dynamo.reset()
    kernel, images = make_kernel(2, 2, 2, "quadrant").float(), torch.randn(3, 2, 5, 4)
    results = []
    for inverse in (solve, torch.compile(solve, fullgraph=True, backend="aot_eager")):
        arguments = [images.clone().requires_grad_(), kernel.clone().requires_grad_()]
        outputs = inverse(*arguments)
        results.append([outputs, *torch.autograd.grad(outputs.square().sum(), arguments)])
    torch.testing.assert_close(*results)
    torch.library.opcheck(triangular_conv._operator, (images[None], kernel[None].requires_grad_(), "quadrant", False))


class CountProducts(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten.addmm_.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (6, 1), (4, 9), (16, 16), (32, 32)], ids=str)
def test_steps_grow_with_height_plus_width(size: tuple[int, int]) -> None:
    h, w = size
    for order, steps, taps in [("quadrant", h + w - 1, 2), ("rows", h, 3)]:
        schedule = wavefronts(h, w, order)
        assert len(schedule) == steps
        assert sum(last - first for first, last in schedule) == h * w
        kernel, images = make_kernel(2, 2, 3, order), torch.randn(2, 2, h, w, dtype=torch.float64)
        with CountProducts() as products:
            solve(images, kernel, order)
        assert products.count == taps * steps


@pytest.mark.parametrize(("h", "w", "p", "q"), [(4, 6, 2, 2), (5, 3, 3, 3)])
def test_pixels_of_a_wavefront_depend_on_earlier_ones_only(h: int, w: int, p: int, q: int) -> None:
    for order, pixel in [("quadrant", lambda t, m: (m, t - m)), ("rows", lambda t, m: (t, m))]:
        solved: set[tuple[int, int]] = set()
        for t, (first, last) in enumerate(wavefronts(h, w, order)):
            now = {pixel(t, m) for m in range(first, last)}
            for i, j in now:
                matrix = dense(make_kernel(1, p, q, order), (1, h, w), order).view(h, w, h, w)
                seen = {tuple(position) for position in matrix[i, j].nonzero().tolist()} - {(i, j)}
                assert seen <= solved
            solved |= now
        assert len(solved) == h * w


def test_empty_batches_and_unknown_orders() -> None:
    kernel = make_kernel(2, 2, 2, "quadrant")
    assert solve(torch.zeros(0, 2, 3, 4, dtype=torch.float64), kernel).shape == (0, 2, 3, 4)
    for function in (convolve, solve):
        with pytest.raises(ValueError, match="order must be one of quadrant, rows; got 'raster'"):
            function(torch.zeros(1, 2, 3, 4, dtype=torch.float64), kernel, "raster")
