"""Circulant-diagonal products against dense float64 matrices: values, eigenvalues, inverses and derivatives."""

from __future__ import annotations

import pytest
import scipy.linalg
import torch
from derivatives import check_all_derivatives, check_vmap
from torch import Tensor

from nflows_woodbury.linalg.circulant import frequencies, invert, multiply, spectrum

SIZES = [(1, 1), (1, 2), (2, 2), (5, 2), (6, 3), (7, 4), (4, 1)]  # n, m
each_size = pytest.mark.parametrize("n, m", SIZES)


def make(n: int, m: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Diagonals, and log modulus, phase and signs of the circulants' eigenvalues."""
    generator = torch.Generator().manual_seed(n + m)

    def draw(*size: int) -> Tensor:
        return torch.randn(size, dtype=torch.float64, generator=generator)

    sign = draw(m - 1, 2 - n % 2).sign()
    return draw(m, n), 0.5 * draw(m - 1, n // 2 + 1), draw(m - 1, (n - 1) // 2), sign


def dense(diagonals: Tensor, spectra: Tensor) -> Tensor:
    """The product of ``diag`` and scipy's ``circulant`` of the eigenvalues' inverse Fourier transform."""
    n = diagonals.shape[1]
    matrix = diagonals[0].diag()
    for diagonal, eigenvalues in zip(diagonals[1:], spectra, strict=True):
        column = torch.fft.irfft(eigenvalues, n=n)
        matrix = matrix @ torch.from_numpy(scipy.linalg.circulant(column.numpy())) @ diagonal.diag()
    return matrix


@each_size
def test_product_inverse_and_determinant_are_those_of_the_dense_matrix(n: int, m: int) -> None:
    diagonals, log_modulus, *others = make(n, m)
    spectra = spectrum(log_modulus, *others)
    matrix, columns = dense(diagonals, spectra), torch.randn(3, n, 4, dtype=torch.float64)
    torch.testing.assert_close(multiply(diagonals, spectra, columns), matrix @ columns)
    torch.testing.assert_close(multiply(*invert(diagonals, spectra), columns), torch.linalg.solve(matrix, columns))
    logabsdet = diagonals.abs().log().sum() + (log_modulus * frequencies(n)).sum()
    torch.testing.assert_close(logabsdet, torch.linalg.slogdet(matrix).logabsdet)


@pytest.mark.parametrize("n, m", [size for size in SIZES if size[1] > 1])
def test_eigenvalues_are_those_of_a_real_circulant(n: int, m: int) -> None:
    _, log_modulus, phase, sign = make(n, m)
    spectra = spectrum(log_modulus, phase, sign)
    torch.testing.assert_close(torch.fft.rfft(torch.fft.irfft(spectra, n=n)), spectra)
    torch.testing.assert_close(spectra.abs().log(), log_modulus)
    turned = spectra[:, 1 : (n + 1) // 2]
    torch.testing.assert_close(turned / turned.abs(), torch.polar(torch.ones_like(phase), phase))
    assert frequencies(n).sum() == n
    for column in torch.fft.irfft(spectra, n=n):
        found = torch.linalg.eigvals(torch.from_numpy(scipy.linalg.circulant(column.numpy()))).abs().sort().values
        expected = torch.fft.fft(column).abs().sort().values
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("n, m", [(1, 2), (4, 2), (3, 3)])
def test_derivatives_of_every_mode(n: int, m: int) -> None:
    *parameters, sign = make(n, m)

    def both(diagonals: Tensor, log_modulus: Tensor, phase: Tensor, columns: Tensor) -> Tensor:
        spectra = spectrum(log_modulus, phase, sign)
        factors = (diagonals, spectra), invert(diagonals, spectra)
        return torch.stack([multiply(*pair, columns) for pair in factors])

    arguments = [*parameters, torch.randn(n, 2, dtype=torch.float64)]
    check_all_derivatives(both, arguments)
    check_vmap(both, arguments)
