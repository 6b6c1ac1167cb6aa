"""Invertible 1x1 convolution: one matrix over the channels, the same at every pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nflows_woodbury.checks import check_channel_inputs, check_one_of, check_shape
from nflows_woodbury.linalg import small
from nflows_woodbury.linalg.grids import columns, num_pixels
from nflows_woodbury.linalg.householder import reflections
from nflows_woodbury.linalg.starts import start_matrices
from nflows_woodbury.transforms.base import LinearTransform

__all__ = ["InvertibleConv1x1"]


class InvertibleConv1x1(LinearTransform):
    r"""Invertible 1x1 convolution, :math:`y_{:,ij} = W x_{:,ij}` with :math:`\log|\det J| = h w \log|\det W|`.

    It starts as a random rotation, or as the identity. Four parametrizations of ``W``:

    - ``"dense"``: ``W`` itself; the log-det is an LU factorisation, ``O(c^3)`` per call.
    - ``"plu"``: :math:`W = P L (U + \operatorname{diag}(\operatorname{sign} \odot e^{\text{log scale}}))` with a fixed
      permutation ``P``, a unit lower triangular ``L`` and a strictly upper triangular ``U``.
    - ``"qr"``: :math:`W = Q (U + \operatorname{diag}(\operatorname{sign} \odot e^{\text{log scale}}))`, ``Q`` a product
      of ``c - 1`` Householder reflections, whose vectors have a leading 1. ``Q`` takes ``O(c^3)`` per call.
    - ``"exp"``: :math:`W = e^A` with :math:`\log|\det W| = \operatorname{tr} A` and :math:`W^{-1} = e^{-A}`, ``O(c^3)``
      per call. The determinant is positive, so the start is a rotation and no reflection.

    In all but the first the log-det is a sum, and ``W`` cannot become singular. Both ways cost ``O(c^2 h w)`` per
    image. The product is a matrix product, not ``conv2d``, which would round to TF32 on recent GPUs by default.

    Args:
        shape: ``(c, h, w)``; only ``c`` matters, any ``h`` and ``w`` are accepted when called. Also ``(c,)``,
            ``(c, t)`` or ``(c, d, h, w)``: one matrix for vectors, or for each place of a sequence or volume.
        parametrization: ``"dense"``, ``"plu"``, ``"qr"`` or ``"exp"``.
        init: ``"rotation"`` or ``"identity"``.

    Shapes:
        inputs and outputs ``(B, c, h, w)``, or as in ``shape``; ``logabsdet`` ``(B,)``.

    Raises:
        ValueError, TypeError: for a bad shape, an unknown parametrization or start, or inputs with other channels.

    Reference: Kingma and Dhariwal, Glow, NeurIPS 2018, section 3.2. ``"qr"``: Hoogeboom, van den Berg and Welling, ICML
    2019, where the scale itself is the parameter, and the vectors are free and ``c``; so either can vanish. ``"exp"``:
    Xiao and Liu, Generative Flows with Matrix Exponential, ICML 2020.

    >>> import torch
    >>> outputs, logabsdet = InvertibleConv1x1((12, 16, 16), parametrization="plu")(torch.randn(4, 12, 8, 8))
    >>> outputs.shape, logabsdet.shape
    (torch.Size([4, 12, 8, 8]), torch.Size([4]))
    """

    def __init__(self, shape: Sequence[int], parametrization: str = "dense", init: str = "rotation") -> None:
        super().__init__()
        shape = check_shape(shape)
        self.num_channels, self.num_axes = shape[0], len(shape) - 1
        check_one_of("parametrization", parametrization, PARAMETRIZATIONS)
        self.matrix: Any = PARAMETRIZATIONS[parametrization](start_matrices(init, self.num_channels))

    def check_inputs(self, inputs: Tensor) -> None:
        """Refuse inputs with other channels."""
        check_channel_inputs(inputs, self.num_channels, self.num_axes)

    def map_forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """``W x`` at every pixel."""
        weight, logabsdet = self.matrix()
        return _mix(weight, inputs), num_pixels(inputs) * logabsdet

    def map_inverse(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """``W^-1 x`` at every pixel."""
        weight, logabsdet = self.matrix.inverse()
        return _mix(weight, inputs), -num_pixels(inputs) * logabsdet

    def solved_matrices(self, inputs: Tensor) -> Tensor:
        """The matrix, ``(c, c)``."""
        return self.matrix()[0]


class _Dense(nn.Module):
    """``W`` itself. ``forward`` returns ``W``, ``inverse`` its inverse, and both ``log |det W|`` in float64."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(start)

    def forward(self) -> tuple[Tensor, Tensor]:
        return self.weight, small.logabsdet(self.weight)

    def inverse(self) -> tuple[Tensor, Tensor]:
        # The inverse of W meets B h w vectors: forming it once, O(c^3), is cheaper than as many solves.
        return small.inverse(self.weight)


class _Triangular(nn.Module):
    """The upper triangle ``R`` of a product: ``sign e^(log scale)`` on the diagonal, the entries above as a vector."""

    sign: Tensor

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        diagonal = start.diagonal()
        self.register_buffer("sign", diagonal.sign())
        self.log_scale = nn.Parameter(diagonal.abs().log())
        rows, columns = torch.tril_indices(len(start), len(start), -1)
        self.upper = nn.Parameter(start[columns, rows])

    def _upper(self) -> tuple[Tensor, Tensor]:
        """``R`` and ``log |det R|``, in float64."""
        sign, log_scale, above = map(small.wide, (self.sign, self.log_scale, self.upper))
        return _unit_lower(above, len(sign)).mT.triu(1) + (sign * log_scale.exp()).diag(), log_scale.sum()


class _PLU(_Triangular):
    """``W = P L R``, the c (c - 1) / 2 entries of ``L`` below its diagonal as a vector; as :class:`_Dense`."""

    permutation: Tensor

    def __init__(self, start: Tensor) -> None:
        permutation, lower, upper = torch.linalg.lu(start)
        super().__init__(upper)
        self.register_buffer("permutation", permutation)
        rows, columns = torch.tril_indices(len(start), len(start), -1)
        self.lower = nn.Parameter(lower[rows, columns])

    def forward(self) -> tuple[Tensor, Tensor]:
        permutation, lower, (upper, logabsdet) = *self._lower(), self._upper()
        return (permutation @ lower @ upper).to(self.lower.dtype), logabsdet

    def inverse(self) -> tuple[Tensor, Tensor]:
        permutation, lower, (upper, logabsdet) = *self._lower(), self._upper()
        inverse = small.triangular_inverse(upper, upper=True) @ small.triangular_inverse(lower, upper=False)
        return (inverse @ permutation.mT).to(self.lower.dtype), logabsdet

    def _lower(self) -> tuple[Tensor, Tensor]:
        """``P`` and ``L``, in float64."""
        return small.wide(self.permutation), _unit_lower(small.wide(self.lower), len(self.permutation))


class _QR(_Triangular):
    """``W = Q R``, the free entries of the vectors of ``Q`` as a vector; as :class:`_Dense`."""

    def __init__(self, start: Tensor) -> None:
        rows, columns = torch.tril_indices(len(start), len(start), -1)
        factored = torch.empty_like(start) if start.is_meta else torch.geqrf(start)[0]  # which knows no meta tensors
        vectors = factored[rows, columns]
        super().__init__(_reflections(vectors, len(start)).mT @ start)
        self.vectors = nn.Parameter(vectors)

    def forward(self) -> tuple[Tensor, Tensor]:
        Q, (upper, logabsdet) = self._Q(), self._upper()
        return (Q @ upper).to(self.upper.dtype), logabsdet

    def inverse(self) -> tuple[Tensor, Tensor]:
        Q, (upper, logabsdet) = self._Q(), self._upper()
        return (small.triangular_inverse(upper, upper=True) @ Q.mT).to(self.upper.dtype), logabsdet

    def _Q(self) -> Tensor:
        return _reflections(small.wide(self.vectors), len(self.sign))


class _Exponential(nn.Module):
    """``W = e^A``; as :class:`_Dense`."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(_log_of_rotation(start))

    def forward(self) -> tuple[Tensor, Tensor]:
        return self._exponential(1)

    def inverse(self) -> tuple[Tensor, Tensor]:
        return self._exponential(-1)

    def _exponential(self, sign: int) -> tuple[Tensor, Tensor]:
        A = small.wide(self.weight)
        return torch.linalg.matrix_exp(sign * A).to(self.weight.dtype), A.trace()


#: name -> module from the matrix at the start
PARAMETRIZATIONS: dict[str, Callable[[Tensor], nn.Module]] = {
    "dense": _Dense,
    "plu": _PLU,
    "qr": _QR,
    "exp": _Exponential,
}


def _reflections(free: Tensor, n: int) -> Tensor:
    """``n - 1`` reflections, whose vectors are the columns of a triangle with ones on the diagonal."""
    return reflections(_unit_lower(free, n)[:, :-1])


def _unit_lower(below: Tensor, n: int) -> Tensor:
    """A triangle with ones on the diagonal, from the entries below it."""
    rows, columns = torch.tril_indices(n, n, -1, device=below.device)
    return torch.eye(n, dtype=below.dtype, device=below.device).index_put((rows, columns), below)


def _log_of_rotation(rotation: Tensor) -> Tensor:
    """``A`` with ``e^A`` the rotation, by its eigenvalues ``e^(i angle)``; a reflection's first row is turned."""
    matrix = rotation.double()
    matrix[0] *= torch.linalg.det(matrix).sign()
    values, vectors = torch.linalg.eig(matrix)
    logarithm = torch.linalg.solve(vectors, vectors * (1j * values.angle()), left=False)
    return logarithm.real.to(rotation.dtype)


def _mix(weight: Tensor, inputs: Tensor) -> Tensor:
    # matmul by a weight that learns would transpose the images, and copy them
    return torch.bmm(weight.expand(inputs.shape[0], -1, -1), columns(inputs)).view(inputs.shape)
