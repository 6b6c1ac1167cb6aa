"""The Woodbury transformation and its memory-efficient variant: low-rank updates of channels and pixels."""

from __future__ import annotations

from collections.abc import Sequence

from nflows_woodbury.checks import image_shape, positive_int
from nflows_woodbury.transforms.low_rank import LowRankChain, LowRankTransform, Start

__all__ = ["MEWoodburyTransform", "WoodburyTransform"]


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
    shape = image_shape(shape)
    names = ", ".join(name for name, _ in groups)
    if not isinstance(ranks, Sequence):
        raise TypeError(f"ranks must be a sequence ({names}), got {ranks!r}")
    if len(ranks) != len(groups):
        raise ValueError(f"ranks must be ({names}), got {tuple(ranks)}")
    starts = [init] * len(groups) if isinstance(init, str) or callable(init) else list(init)
    if len(starts) != len(groups):
        raise ValueError(f"init must be one start or one for each of ({names}), got {init!r}")
    return [
        LowRankTransform(shape, axes, positive_int(f"rank {name}", rank), start)
        for (name, axes), rank, start in zip(groups, ranks, starts, strict=True)
    ]
