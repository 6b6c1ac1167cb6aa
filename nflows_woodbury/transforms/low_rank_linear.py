"""A low-rank update of the identity for vectors, by the name that nflows' linear layers have."""

from __future__ import annotations

from nflows_woodbury.checks import check_positive_int
from nflows_woodbury.linalg.starts import Start
from nflows_woodbury.transforms.woodbury import LowRankTransform

__all__ = ["LowRankLinear"]


class LowRankLinear(LowRankTransform):
    r"""A linear layer for vectors, :math:`y = (I + U V)\, x` with :math:`\log|\det J| = \log|\det(I_d + V U)|`.

    It stands where ``LULinear(features)`` does, and costs ``O(d D)`` per vector where that costs ``O(D^2)``, with
    ``2 d D`` parameters instead of ``D^2``. It has no shift: a coupling beside it, or an :class:`ActNorm`, has one.

    Args:
        features: ``D``.
        rank: ``d``; may exceed ``D``.
        init: as of :class:`~nflows_woodbury.transforms.woodbury.LowRankTransform`: ``"reflection"`` mixes from the
            start, ``"cancelling"`` is the identity at first.

    Shapes: inputs and outputs ``(B, D)``; ``logabsdet`` ``(B,)``; parameters ``U`` ``(D, d)``, ``V`` ``(d, D)``.

    Raises:
        ValueError, TypeError: for bad numbers, a bad start, or inputs of another shape.

    Reference: see :class:`~nflows_woodbury.transforms.woodbury.LowRankTransform`.

    >>> import torch
    >>> outputs, logabsdet = LowRankLinear(100, rank=8)(torch.randn(5, 100))
    >>> outputs.shape, logabsdet.shape
    (torch.Size([5, 100]), torch.Size([5]))
    """

    def __init__(self, features: int, rank: int, init: Start = "reflection") -> None:
        super().__init__(check_positive_int("features", features), 0, rank, init)
