"""Low-rank updates of the identity along groups of axes, and the Woodbury transformations that are made of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from math import prod

from torch import Tensor, nn

from nflows_woodbury.checks import AXES, check_axes, check_image_inputs, check_positive_int, check_shape, check_sizes
from nflows_woodbury.linalg.axes import along_axes
from nflows_woodbury.linalg.factors import Factor, Matrices, Prepared
from nflows_woodbury.linalg.low_rank import LOW_RANK, capacitances
from nflows_woodbury.linalg.starts import Start, start_factors
from nflows_woodbury.transforms.base import FactoredTransform, is_watched
from nflows_woodbury.transforms.chain import Chain, Link

__all__ = ["LowRankChain", "LowRankTransform", "MEWoodburyTransform", "WoodburyTransform"]


class _Updates(FactoredTransform):
    """What one update and a chain of them share: a pair of factors each, all applied in few passes."""

    shape: tuple[int, ...]

    @abstractmethod
    def _parts(self) -> list[LowRankTransform]:
        """The updates, by rising axes."""

    def check_inputs(self, inputs: Tensor) -> None:
        """Refuse inputs of another shape than ``(B, *shape)``."""
        check_image_inputs(inputs, self.shape)

    def factors(self) -> list[Factor]:
        """``U`` and ``V`` of each ``I + U V``."""
        return [Factor(LOW_RANK, (part.U, part.V)) for part in self._parts()]

    def multiplicities(self, inputs: Tensor) -> list[int]:
        """As many as there are vectors along each group."""
        return [prod(self.shape) // part.size for part in self._parts()]

    def map_by(self, inputs: Tensor, *matrices: Matrices) -> Tensor:
        """``(I + U V) x`` on channels, ``x (I + U V)`` along any other group; the inverse has the same form."""
        groups = [part.axes for part in self._parts()]
        columns = [
            of_group if axes[0] == 0 else tuple(matrix.mT for matrix in reversed(of_group))
            for axes, of_group in zip(groups, matrices, strict=True)
        ]
        return along_axes(inputs, groups, columns)


class LowRankTransform(_Updates):
    r"""A low-rank update of the identity along one group of axes.

    With ``n`` the product of the group's sizes and ``x`` seen as a matrix, the group whose first axis is axis 0
    (channels) indexes rows and is updated from the left, any other group indexes columns and is updated from the
    right:

    .. math:: y = (I_n + U V)\, x \quad\text{or}\quad y = x\, (I_n + U V), \qquad \log|\det J| = m \log|\det(I_d + V U)|

    where ``m`` is the number of vectors, the product of the other sizes. The inverse has the same form,
    :math:`(I + U V)^{-1} = I - U (I + V U)^{-1} V`. Both ways cost ``O(d)`` per entry of ``x``, plus ``O(d^2 n + d^3)``
    once per call.

    Args:
        shape: sizes of one input without its batch axis, of any length: ``(c, h, w)``, ``(c, t)``, ``(D,)`` or ``D``.
        axes: the group, consecutive axes of ``shape`` in rising order, such as ``0``, ``(1, 2)`` or ``(-2, -1)``.
        rank: ``d``; may exceed ``n``.
        init: a name in :data:`nflows_woodbury.linalg.starts.STARTS` (``"paper"``, ``"reflection"``, ``"cancelling"``,
            ``"cancelling-unit"``), or a function ``(n, d) -> (U, V)``.

    Shapes: inputs and outputs ``(B, *shape)``; ``logabsdet`` ``(B,)``; parameters ``U`` ``(n, d)``, ``V`` ``(d, n)``.

    Raises:
        ValueError, TypeError: for axes that are no group, a rank below 1, a bad start, or inputs of another shape.

    Reference: Lu and Huang, Woodbury Transformations for Deep Generative Flows, NeurIPS 2020, section 3.

    >>> import torch
    >>> mix_pixels = LowRankTransform((3, 4, 5), axes=(1, 2), rank=2)
    >>> outputs, logabsdet = mix_pixels(torch.randn(7, 3, 4, 5))
    >>> mix_pixels.U.shape, outputs.shape, logabsdet.shape
    (torch.Size([20, 2]), torch.Size([7, 3, 4, 5]), torch.Size([7]))
    """

    def __init__(
        self, shape: int | Sequence[int], axes: int | Sequence[int], rank: int, init: Start = "reflection"
    ) -> None:
        super().__init__()
        self.shape = check_sizes("shape", shape)
        self.axes = check_axes(axes, self.shape)
        self.rank = check_positive_int("rank", rank)
        self.size = prod(self.shape[axis] for axis in self.axes)
        self.U, self.V = map(nn.Parameter, start_factors(init, self.size, self.rank))

    def extra_repr(self) -> str:
        """Show the arguments in ``print``."""
        return f"shape={self.shape}, axes={self.axes}, rank={self.rank}"

    def _parts(self) -> list[LowRankTransform]:
        return [self]

    def solved_matrices(self, inputs: Tensor) -> Tensor:
        """The capacitance, ``(1, d, d)``; ``(1, n, n)`` where the rank exceeds the axis."""
        return capacitances(self.U, self.V)[None]


class LowRankChain(Chain, _Updates):
    """Low-rank updates along different groups of axes of the same inputs, which share passes over them.

    The map is that of :class:`~nflows_woodbury.transforms.chain.Chain`. Two updates of neighbouring groups, of which
    the second one ends at the last axis, act on the two sides of a matrix and are applied at once. (With a hook on one
    of the updates they run one after the other, so that the hook sees its inputs and outputs.)

    Args:
        updates: :class:`LowRankTransform` of one ``shape``, by rising axes; else TypeError or ValueError.

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
        self.shape = parts[0].shape

    def links(self) -> list[Link]:
        """The updates as one layer; one by one where somebody watches one of them."""
        return super().links() if any(map(is_watched, self.transforms)) else [Link(self, together=True)]

    def check_each_regular(self, prepared: Sequence[Prepared]) -> None:
        """SingularError for the first update without an inverse."""
        for part, one in zip(self.transforms, prepared, strict=True):
            part.check_regular(-one.logabsdet)

    def _parts(self) -> list[LowRankTransform]:
        return list(self.transforms)


class WoodburyTransform(LowRankChain):
    r"""The Woodbury transformation: mixes every channel with every channel and every pixel with every pixel.

    For one image as a ``c x s`` matrix, ``s = h w``:

    .. math::

        y = (I_c + U_c V_c)\, x\, (I_s + U_s V_s), \qquad
        \log|\det J| = s \log|\det(I_{d_c} + V_c U_c)| + c \log|\det(I_{d_s} + V_s U_s)|

    The inverse is two updates of the same form. Both ways cost ``O((dc + ds) c h w)`` per image;
    ``2 dc c + 2 ds h w`` parameters.

    Args:
        shape: ``(c, h, w)``; or ``(c, t)`` or ``(c, d, h, w)``, whose pixels are all axes but the first.
        ranks: ``(dc, ds)`` of channels and pixels, the paper's ``(8, 16)`` at 32 x 32 pixels; ``(dc,)`` for vectors.
        init: one start for each update, or one for both, see :class:`LowRankTransform`. The default, a reflection on
            the channels and cancelling factors on the pixels, has log-det 0 and learns faster than ``"paper"``.

    Shapes: inputs and outputs ``(B, *shape)``, ``logabsdet`` ``(B,)``. ValueError or TypeError for any other, and for
    bad arguments.

    Reference: Lu and Huang, NeurIPS 2020, section 3.1, equations 3 to 6.

    >>> import torch
    >>> outputs, logabsdet = WoodburyTransform((12, 16, 16), ranks=(8, 16))(torch.randn(4, 12, 16, 16))
    >>> outputs.shape, logabsdet.shape
    (torch.Size([4, 12, 16, 16]), torch.Size([4]))
    """

    def __init__(
        self, shape: Sequence[int], ranks: Sequence[int], init: Start | Sequence[Start] = ("reflection", "cancelling")
    ) -> None:
        shape = check_shape(shape)
        pixels = {"ds": tuple(range(1, len(shape)))} if len(shape) > 1 else {}
        super().__init__(_updates(shape, {"dc": (0,), **pixels}, ranks, init))


class MEWoodburyTransform(LowRankChain):
    r"""Memory-efficient Woodbury: updates of channels, rows and columns, each along its own axis.

    ``(I_c + U_c V_c)`` acts on channels from the left, ``(I_w + U_w V_w)`` from the right on the ``(c h) x w`` view
    and ``(I_h + U_h V_h)`` from the right on the ``(c w) x h`` view; they commute.

    .. math::

        \log|\det J| = h w \log|\det(I + V_c U_c)| + c w \log|\det(I + V_h U_h)| + c h \log|\det(I + V_w U_w)|

    Both ways cost ``O((dc + dh + dw) c h w)`` per image; ``2 dc c + 2 dh h + 2 dw w`` parameters.

    Args:
        shape: ``(c, h, w)``; or ``(c, t)`` or ``(c, d, h, w)``, with an update along each axis.
        ranks: ``(dc, dh, dw)`` of channels, rows and columns, or one for each axis; they may exceed their axis.
        init: one start for each update, one for all, or two: of the channels, by default a reflection, and of all
            others, by default cancelling factors of size one.

    Shapes and errors are those of :class:`WoodburyTransform`.

    Reference: Lu and Huang, NeurIPS 2020, section 3.2; its appendix garbles the shapes and the determinant, the
    lines above are checked against dense matrices.

    >>> import torch
    >>> outputs, logabsdet = MEWoodburyTransform((12, 16, 16), ranks=(8, 16, 16))(torch.randn(4, 12, 16, 16))
    >>> outputs.shape, logabsdet.shape
    (torch.Size([4, 12, 16, 16]), torch.Size([4]))
    """

    def __init__(
        self,
        shape: Sequence[int],
        ranks: Sequence[int],
        init: Start | Sequence[Start] = ("reflection", "cancelling-unit"),
    ) -> None:
        shape = check_shape(shape)
        groups = {f"d{name}": (axis,) for axis, name in enumerate(["c", *AXES[len(shape) - 1]])}
        super().__init__(_updates(shape, groups, ranks, init))


def _updates(
    shape: tuple[int, ...], groups: Mapping[str, tuple[int, ...]], ranks: Sequence[int], init: Start | Sequence[Start]
) -> list[LowRankTransform]:
    """One low-rank update for each group of axes; the names are those of the ranks."""
    names = ", ".join(groups)
    if not isinstance(ranks, Sequence):
        raise TypeError(f"ranks must be a sequence ({names}), got {ranks!r}")
    if len(ranks) != len(groups):
        raise ValueError(f"ranks must be ({names}), got {tuple(ranks)}")
    starts = [init] * len(groups) if isinstance(init, str) or callable(init) else list(init)
    starts = [starts[0], *starts[1:] * (len(groups) - 1)] if len(starts) == 2 else starts
    if len(starts) != len(groups):
        raise ValueError(f"init must be one start or one for each of ({names}), got {init!r}")
    ranks = [check_positive_int(f"rank {name}", rank) for name, rank in zip(groups, ranks, strict=True)]
    return [LowRankTransform(shape, *setting) for setting in zip(groups.values(), ranks, starts, strict=True)]
