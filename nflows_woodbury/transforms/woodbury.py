"""Low-rank updates of the identity along groups of axes, and the Woodbury transformations that are made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod

from torch import Tensor, nn

from nflows_woodbury.checks import check_image_inputs, check_image_shape, check_one_of, check_positive_int
from nflows_woodbury.linalg import low_rank
from nflows_woodbury.linalg.low_rank import Factors
from nflows_woodbury.linalg.two_sided import two_sided
from nflows_woodbury.transforms.base import LinearTransform, SingularError
from nflows_woodbury.transforms.chain import Chain

__all__ = ["LowRankChain", "LowRankTransform", "MEWoodburyTransform", "WoodburyTransform"]

Start = str | Callable[[int, int], tuple[Tensor, Tensor]]


class LowRankTransform(LinearTransform):
    r"""A low-rank update of the identity along one group of axes.

    With ``n`` the product of the group's sizes and ``x`` seen as a matrix, the group whose first axis is axis 0
    (channels) indexes rows and is updated from the left, any other group indexes columns and is updated from the
    right:

    .. math:: y = (I_n + U V)\, x \quad\text{or}\quad y = x\, (I_n + U V), \qquad
              \log|\det J| = m \log|\det(I_d + V U)|

    where ``m`` is the number of vectors, the product of the other sizes. The inverse has the same form,
    :math:`(I + U V)^{-1} = I - U (I + V U)^{-1} V`. Forward and inverse cost ``O(d)`` per entry of ``x``, plus
    ``O(d^2 n + d^3)`` once per call.

    Args:
        shape: sizes of one input without its batch axis, of any length: ``(c, h, w)``, ``(D,)``, ``(c, t)``.
        axes: the group, consecutive axes of ``shape`` in rising order, such as ``(0,)`` or ``(1, 2)``.
        rank: ``d``; may exceed ``n``.
        init: a name in :data:`nflows_woodbury.linalg.low_rank.STARTS` (``"paper"``, ``"reflection"``, ``"cancelling"``,
            ``"cancelling-unit"``), or a function ``(n, d) -> (U, V)``.

    Shapes:
        inputs and outputs ``(B, *shape)``, of the parameters' dtype; ``logabsdet`` ``(B,)``; parameters ``U``
        ``(n, d)`` and ``V`` ``(d, n)``.

    Raises:
        ValueError, TypeError: for axes that are no consecutive group, a rank below 1, an unknown start, or inputs of
            another shape or dtype.

    Reference: Lu and Huang, Woodbury Transformations for Deep Generative Flows, NeurIPS 2020, section 3.

    >>> import torch
    >>> mix_pixels = LowRankTransform((3, 4, 5), axes=(1, 2), rank=2)
    >>> outputs, logabsdet = mix_pixels(torch.randn(7, 3, 4, 5))
    >>> mix_pixels.U.shape, outputs.shape, logabsdet.shape
    (torch.Size([20, 2]), torch.Size([7, 3, 4, 5]), torch.Size([7]))
    """

    def __init__(self, shape: Sequence[int], axes: Sequence[int], rank: int, init: Start = "reflection") -> None:
        super().__init__()
        self.shape = tuple(check_positive_int(f"shape[{i}]", size) for i, size in enumerate(shape))
        if not isinstance(axes, Sequence):
            raise TypeError(f"axes must be a sequence of consecutive axes, got {axes!r}")
        self.axes = tuple(axes)
        groups = [tuple(range(i, j)) for j in range(1, len(self.shape) + 1) for i in range(j)]
        if self.axes not in groups:
            raise ValueError(f"axes must be consecutive axes of shape {self.shape} in rising order, got {self.axes}")
        self.rank = check_positive_int("rank", rank)
        self.size = prod(self.shape[axis] for axis in self.axes)
        start = init if callable(init) else low_rank.STARTS[check_one_of("init", init, low_rank.STARTS)]
        U, V = start(self.size, self.rank)
        if U.shape != (self.size, self.rank) or V.shape != (self.rank, self.size):
            raise ValueError(
                f"init must give factors of shapes {(self.size, self.rank)} and {(self.rank, self.size)}, "
                f"got {tuple(U.shape)} and {tuple(V.shape)}"
            )
        self.U = nn.Parameter(U)
        self.V = nn.Parameter(V)

    def extra_repr(self) -> str:
        """Show the arguments in ``print``."""
        return f"shape={self.shape}, axes={self.axes}, rank={self.rank}"

    def _check(self, inputs: Tensor) -> None:
        check_image_inputs(inputs, self.shape)

    def _map(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return _apply([self], [(self.U, self.V)], inputs), self._multiplicity * low_rank.logabsdet(self.U, self.V)

    def _inverse_map(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        U, V, logabsdet = low_rank.inverse_factors(self.U, self.V)
        return _apply([self], [(U, V)], inputs), -self._multiplicity * logabsdet

    def solved(self, inputs: Tensor) -> Tensor:
        """The capacitance, ``(d, d)``; ``(n, n)`` where the rank exceeds the axis."""
        return low_rank.capacitance(self.U, self.V)

    @property
    def _multiplicity(self) -> int:
        return prod(self.shape) // self.size

    def _on(self, side: str, factors: Factors) -> Factors:
        """What acts on one side of a matrix; but on the side of its own the map is the transposed one."""
        U, V = factors
        return (U, V) if (side == "left") == (self.axes[0] == 0) else (V.mT, U.mT)


class LowRankChain(LinearTransform, Chain):
    """Low-rank updates along different groups of axes of the same inputs, which share passes over them.

    The map is that of :class:`~nflows_woodbury.transforms.chain.Chain`. Two updates of neighbouring groups, of which
    the second one ends at the last axis, act on the two sides of a matrix and are applied at once. (With a hook on one
    of the updates they run one after the other, so that the hook sees its inputs and outputs.)

    Args:
        updates: :class:`LowRankTransform` of one shape, by rising axes; else TypeError or ValueError.

    Shapes:
        inputs and outputs ``(B, *shape)``, ``logabsdet`` ``(B,)``.

    >>> import torch
    >>> shape = (3, 8, 6, 6)  # channels, time, height, width
    >>> mixing = LowRankChain(LowRankTransform(shape, axes, rank=4) for axes in [(0,), (1,), (2, 3)])
    >>> outputs, logabsdet = mixing(torch.randn(5, *shape))
    >>> outputs.shape, logabsdet.shape
    (torch.Size([5, 3, 8, 6, 6]), torch.Size([5]))
    """

    def __init__(self, updates: Iterable[LowRankTransform]) -> None:
        super().__init__(updates)
        parts = list(self.transforms)
        if not parts or not all(isinstance(part, LowRankTransform) for part in parts):
            raise TypeError(f"updates must be LowRankTransforms, at least one, got {parts!r}")
        axes = [axis for part in parts for axis in part.axes]
        if len({part.shape for part in parts}) > 1 or axes != sorted(set(axes)):
            raise ValueError(f"updates must be of one shape, along different axes in rising order, got {parts!r}")

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map data towards noise; ``context`` is accepted and not used."""
        if any(part._forward_hooks or part._forward_pre_hooks for part in self.transforms):
            return Chain.forward(self, inputs, context)
        return super().forward(inputs, context)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map noise towards data; ``context`` is accepted and not used."""
        try:
            return super().inverse(inputs, context)
        except SingularError:  # one by one, so that the error names the update
            return Chain.inverse(self, inputs, context)

    def _check(self, inputs: Tensor) -> None:
        self.transforms[0]._check(inputs)

    def _map(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        factors = [(part.U, part.V) for part in self.transforms]
        return _apply(self.transforms, factors, inputs), self._total(low_rank.logabsdets(factors))

    def _inverse_map(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        factors, logabsdets = low_rank.inverses([(part.U, part.V) for part in self.transforms])
        return _apply(self.transforms, factors, inputs), -self._total(logabsdets)

    def _total(self, logabsdets: Tensor) -> Tensor:
        pairs = zip(self.transforms, logabsdets.unbind(), strict=True)
        first, *others = (part._multiplicity * logabsdet for part, logabsdet in pairs)
        return sum(others, first)


def _apply(updates: Sequence[LowRankTransform], factors: Sequence[Factors], inputs: Tensor) -> Tensor:
    """Updates with such factors instead of their own, two at once where they act on the two sides of a matrix."""
    outputs, rest, shape = inputs, list(zip(updates, factors, strict=True)), updates[0].shape
    while rest:
        left, right, n = None, None, 1
        start = rest[-1][0].axes[-1] + 1  # of the axes that index columns
        if start == len(shape):
            update, own = rest.pop()
            right, start = update._on("right", own), update.axes[0]
        if rest and rest[-1][0].axes[-1] + 1 == start:
            update, own = rest.pop()
            left, n = update._on("left", own), update.size
        outputs = two_sided(outputs.reshape(-1, n, prod(shape[start:])), left, right)
    return outputs.view(inputs.shape)


class WoodburyTransform(LowRankChain):
    r"""The Woodbury transformation: mixes every channel with every channel and every pixel with every pixel.

    For one image as a ``c x s`` matrix, ``s = h w``:

    .. math::

        y = (I_c + U_c V_c)\, x\, (I_s + U_s V_s), \qquad
        \log|\det J| = s \log|\det(I_{d_c} + V_c U_c)| + c \log|\det(I_{d_s} + V_s U_s)|

    The inverse is two updates of the same form. Both ways cost ``O((dc + ds) c h w)`` per image;
    ``2 dc c + 2 ds h w`` parameters.

    Args:
        shape: ``(c, h, w)``.
        ranks: ``(dc, ds)``, the ranks of the channel and the pixel update; the paper's settings are
            ``(8, 16)`` at 32 x 32 pixels.
        init: one start for each update, or one for both, see :class:`LowRankTransform`. The default, a reflection on
            the channels and cancelling factors on the pixels, has log-det 0 and learns faster than the
            paper's (``"paper"``), see the docs.

    Shapes:
        inputs and outputs ``(B, c, h, w)``, ``logabsdet`` ``(B,)``.

    Raises:
        ValueError, TypeError: for a bad shape, rank or start, or inputs of another shape or dtype.

    Reference: Lu and Huang, NeurIPS 2020, section 3.1, equations 3 to 6.

    >>> import torch
    >>> transform = WoodburyTransform((12, 16, 16), ranks=(8, 16))
    >>> inputs = torch.randn(4, 12, 16, 16)
    >>> outputs, logabsdet = transform(inputs)
    >>> bool(torch.allclose(transform.inverse(outputs)[0], inputs, atol=1e-4))
    True
    """

    def __init__(
        self,
        shape: Sequence[int],
        ranks: Sequence[int],
        init: Start | Sequence[Start] = ("reflection", "cancelling"),
    ) -> None:
        super().__init__(_updates(shape, (("dc", (0,)), ("ds", (1, 2))), ranks, init))


class MEWoodburyTransform(LowRankChain):
    r"""Memory-efficient Woodbury: updates of channels, rows and columns, each along its own axis.

    ``(I_c + U_c V_c)`` acts on channels from the left, ``(I_w + U_w V_w)`` from the right on the ``(c h) x w`` view
    and ``(I_h + U_h V_h)`` from the right on the ``(c w) x h`` view; they commute.

    .. math::

        \log|\det J| = h w \log|\det(I + V_c U_c)| + c w \log|\det(I + V_h U_h)| + c h \log|\det(I + V_w U_w)|

    Both ways cost ``O((dc + dh + dw) c h w)`` per image; ``2 dc c + 2 dh h + 2 dw w`` parameters.

    Args:
        shape: ``(c, h, w)``.
        ranks: ``(dc, dh, dw)`` of channels, rows and columns; they may exceed their axis.
        init: one start for each update, or one for all, see :class:`LowRankTransform`; by default a reflection on the
            channels and cancelling factors of size one on rows and columns.

    Shapes:
        inputs and outputs ``(B, c, h, w)``, ``logabsdet`` ``(B,)``.

    Raises:
        ValueError, TypeError: for a bad shape, rank or start, or inputs of another shape or dtype.

    Reference: Lu and Huang, NeurIPS 2020, section 3.2; its appendix garbles the shapes and the determinant, the
    lines above are checked against dense matrices.

    >>> import torch
    >>> transform = MEWoodburyTransform((12, 16, 16), ranks=(8, 16, 16))
    >>> outputs, logabsdet = transform(torch.randn(4, 12, 16, 16))
    >>> outputs.shape, logabsdet.shape
    (torch.Size([4, 12, 16, 16]), torch.Size([4]))
    """

    def __init__(
        self,
        shape: Sequence[int],
        ranks: Sequence[int],
        init: Start | Sequence[Start] = ("reflection", "cancelling-unit", "cancelling-unit"),
    ) -> None:
        super().__init__(_updates(shape, (("dc", (0,)), ("dh", (1,)), ("dw", (2,))), ranks, init))


def _updates(
    shape: Sequence[int],
    groups: Sequence[tuple[str, tuple[int, ...]]],
    ranks: Sequence[int],
    init: Start | Sequence[Start],
) -> list[LowRankTransform]:
    """One low-rank update for each named group of axes."""
    shape = check_image_shape(shape)
    names = ", ".join(name for name, _ in groups)
    if not isinstance(ranks, Sequence):
        raise TypeError(f"ranks must be a sequence ({names}), got {ranks!r}")
    if len(ranks) != len(groups):
        raise ValueError(f"ranks must be ({names}), got {tuple(ranks)}")
    starts = [init] * len(groups) if isinstance(init, str) or callable(init) else list(init)
    if len(starts) != len(groups):
        raise ValueError(f"init must be one start or one for each of ({names}), got {init!r}")
    return [
        LowRankTransform(shape, axes, check_positive_int(f"rank {name}", rank), start)
        for (name, axes), rank, start in zip(groups, ranks, starts, strict=True)
    ]
