r"""Products of Householder reflections, as one update of the identity.

.. math::

    Q = H_1 H_2 \cdots H_k = I - V T V^\top, \qquad H_j = I - \frac{2}{v_j^\top v_j} v_j v_j^\top, \qquad
    T^{-1} = \tfrac12 \operatorname{diag}(V^\top V) + \operatorname{striu}(V^\top V)

with the vectors ``v_j`` as columns of ``V`` (the compact WY form: Schreiber and Van Loan, SIAM J. Sci. Stat. Comput.
10, 1989). So ``k`` reflections, one after the other by definition, are one triangular solve and two products.

>>> import torch
>>> reflections(torch.tensor([[1.0], [0.0]]))
tensor([[-1.,  0.],
        [ 0.,  1.]])
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["reflections"]


def reflections(vectors: Tensor) -> Tensor:
    """``Q = H_1 … H_k`` of the columns of ``vectors`` (..., n, k), none of them zero; orthogonal, (..., n, n).

    >>> import torch
    >>> Q = reflections(torch.randn(5, 3, dtype=torch.float64))
    >>> bool(torch.allclose(Q @ Q.mT, torch.eye(5, dtype=torch.float64)))
    True
    """
    identity = torch.eye(vectors.shape[-2], dtype=vectors.dtype, device=vectors.device)
    gram = vectors.mT @ vectors
    T_inverse = gram.triu(1) + torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1) / 2)
    return identity - vectors @ torch.linalg.solve_triangular(T_inverse, vectors.mT, upper=True)
