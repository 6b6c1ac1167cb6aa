"""Invertible 1x1 convolution: one matrix over the channels, the same at every pixel."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nflows_woodbury.checks import check_channel_inputs, check_one_of, check_shape
from nflows_woodbury.linalg import small
from nflows_woodbury.linalg.factors import DENSE, Factor, Kind, Matrices, one_by_one, prepare
from nflows_woodbury.linalg.grids import columns, num_pixels
from nflows_woodbury.linalg.householder import reflections
from nflows_woodbury.linalg.starts import start_matrices
from nflows_woodbury.transforms.base import FactoredTransform

__all__ = ["InvertibleConv1x1"]


class InvertibleConv1x1(FactoredTransform):
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

    def factors(self) -> list[Factor]:
        """The matrix."""
        return [self.matrix.factor()]

    def multiplicities(self, inputs: Tensor) -> list[int]:
        """The number of pixels."""
        return [num_pixels(inputs)]

    def map_by(self, inputs: Tensor, *matrices: Matrices) -> Tensor:
        """``W x`` at every pixel, and ``W^-1 x`` for the inverse."""
        [(weight,)] = matrices
        # matmul by a weight that learns would transpose the images, and copy them
        return torch.bmm(weight.expand(inputs.shape[0], -1, -1), columns(inputs)).view(inputs.shape)

    def solved_matrices(self, inputs: Tensor) -> Tensor:
        """The matrix, ``(c, c)``."""
        return self.matrix()[0]


class _Matrix(nn.Module):
    """The parameters of ``W``; called, it returns ``W``, and ``log |det W|`` in float64."""

    @abstractmethod
    def factor(self) -> Factor:
        """What it is made from, and how."""

    def forward(self) -> tuple[Tensor, Tensor]:
        [((weight,), logabsdet)] = prepare([self.factor()])
        return weight, logabsdet


class _Dense(_Matrix):
    """``W`` itself."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(start)

    def factor(self) -> Factor:
        return Factor(DENSE, (self.weight,))


class _Triangular(_Matrix):
    """A product with a triangle ``R``: ``sign e^(log scale)`` on its diagonal, the entries above as a vector."""

    sign: Tensor

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        diagonal = start.diagonal()
        self.register_buffer("sign", diagonal.sign())
        self.log_scale = nn.Parameter(diagonal.abs().log())
        rows, columns = torch.tril_indices(len(start), len(start), -1)
        self.upper = nn.Parameter(start[columns, rows])


class _PLU(_Triangular):
    """``W = P L R``, the c (c - 1) / 2 entries of ``L`` below its diagonal as a vector."""

    permutation: Tensor

    def __init__(self, start: Tensor) -> None:
        permutation, lower, upper = torch.linalg.lu(start)
        super().__init__(upper)
        self.register_buffer("permutation", permutation)
        rows, columns = torch.tril_indices(len(start), len(start), -1)
        self.lower = nn.Parameter(lower[rows, columns])

    def factor(self) -> Factor:
        return Factor(PLU, (self.permutation, self.lower, self.sign, self.log_scale, self.upper))


class _QR(_Triangular):
    """``W = Q R``, the free entries of the vectors of ``Q`` as a vector."""

    def __init__(self, start: Tensor) -> None:
        rows, columns = torch.tril_indices(len(start), len(start), -1)
        factored = torch.empty_like(start) if start.is_meta else torch.geqrf(start)[0]  # which knows no meta tensors
        vectors = factored[rows, columns]
        super().__init__(_reflections(vectors, len(start)).mT @ start)
        self.vectors = nn.Parameter(vectors)

    def factor(self) -> Factor:
        return Factor(QR, (self.vectors, self.sign, self.log_scale, self.upper))


class _Exponential(_Matrix):
    """``W = e^A``."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(_log_of_rotation(start))

    def factor(self) -> Factor:
        return Factor(EXPONENTIAL, (self.weight,))


#: name -> module from the matrix at the start
PARAMETRIZATIONS: dict[str, Callable[[Tensor], nn.Module]] = {
    "dense": _Dense,
    "plu": _PLU,
    "qr": _QR,
    "exp": _Exponential,
}


# --- of stacked parameters (k, ...): W or its inverse, and log |det W|


def _plu(permutation: Tensor, lower: Tensor, *of_upper: Tensor) -> tuple[Matrices, Tensor]:
    (P, L), (R, logabsdets) = _P_and_L(permutation, lower), _R(*of_upper)
    return ((P @ L @ R).to(lower.dtype),), logabsdets


def _plu_inverse(permutation: Tensor, lower: Tensor, *of_upper: Tensor) -> tuple[Matrices, Tensor]:
    (P, L), (R, logabsdets) = _P_and_L(permutation, lower), _R(*of_upper)
    inverse = small.triangular_inverse(R, upper=True) @ small.triangular_inverse(L, upper=False) @ P.mT
    return (inverse.to(lower.dtype),), logabsdets


def _qr(vectors: Tensor, *of_upper: Tensor) -> tuple[Matrices, Tensor]:
    Q, (R, logabsdets) = _reflections(small.wide(vectors), of_upper[0].shape[-1]), _R(*of_upper)
    return ((Q @ R).to(vectors.dtype),), logabsdets


def _qr_inverse(vectors: Tensor, *of_upper: Tensor) -> tuple[Matrices, Tensor]:
    Q, (R, logabsdets) = _reflections(small.wide(vectors), of_upper[0].shape[-1]), _R(*of_upper)
    return ((small.triangular_inverse(R, upper=True) @ Q.mT).to(vectors.dtype),), logabsdets


def _exponential(weight: Tensor) -> tuple[Matrices, Tensor]:
    A = small.wide(weight)
    return (torch.linalg.matrix_exp(A).to(weight.dtype),), A.diagonal(dim1=-2, dim2=-1).sum(-1)


def _exponential_inverse(weight: Tensor) -> tuple[Matrices, Tensor]:
    inverses, of_inverses = _exponential(-weight)
    return inverses, -of_inverses


PLU, QR, EXPONENTIAL = (
    Kind(one_by_one(maps), one_by_one(inverses))
    for maps, inverses in ((_plu, _plu_inverse), (_qr, _qr_inverse), (_exponential, _exponential_inverse))
)


def _P_and_L(permutation: Tensor, lower: Tensor) -> tuple[Tensor, Tensor]:
    """In float64."""
    return small.wide(permutation), _unit_lower(small.wide(lower), permutation.shape[-1])


def _R(*of_upper: Tensor) -> tuple[Tensor, Tensor]:
    """``R`` from its sign, log-scale and the entries above, and ``log |det R|``, in float64."""
    sign, log_scale, above = map(small.wide, of_upper)
    strict = _unit_lower(above, sign.shape[-1]).mT.triu(1)
    return strict + torch.diag_embed(sign * log_scale.exp()), log_scale.sum(-1)


def _reflections(free: Tensor, n: int) -> Tensor:
    """``n - 1`` reflections, whose vectors are the columns of a triangle with ones on the diagonal."""
    return reflections(_unit_lower(free, n)[..., :-1])


def _unit_lower(below: Tensor, n: int) -> Tensor:
    """A triangle with ones on the diagonal, from the entries below it."""
    rows, columns = torch.tril_indices(n, n, -1, device=below.device)
    identity = torch.eye(n, dtype=below.dtype, device=below.device).flatten().expand(*below.shape[:-1], -1)
    return identity.scatter(-1, (rows * n + columns).expand_as(below), below).unflatten(-1, (n, n))


def _log_of_rotation(rotation: Tensor) -> Tensor:
    """``A`` with ``e^A`` the rotation, by its eigenvalues ``e^(i angle)``; a reflection's first row is turned."""
    matrix = rotation.double()
    matrix[0] *= torch.linalg.det(matrix).sign()
    values, vectors = torch.linalg.eig(matrix)
    logarithm = torch.linalg.solve(vectors, vectors * (1j * values.angle()), left=False)
    return logarithm.real.to(rotation.dtype)
