"""MaCow: affine couplings whose conditioner looks at earlier rows, in the four directions in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn
from torch.nn import functional as F

from nflows_woodbury.checks import (
    check_channel_inputs,
    check_image_shape,
    check_one_of,
    check_positive_int,
    check_positive_number,
)
from nflows_woodbury.linalg.affine import affine, unaffine
from nflows_woodbury.linalg.correlation import correlate
from nflows_woodbury.linalg.precision import in_layer_dtype, sum_pixels
from nflows_woodbury.transforms.actnorm import ActNorm
from nflows_woodbury.transforms.chain import Chain
from nflows_woodbury.transforms.coupling import MAX_LOG_SCALE
from nflows_woodbury.transforms.nets import add_context, check_context, context_projection

__all__ = ["MaCowUnit", "MaskedConvCoupling"]

#: where the conditioner looks -> how to turn the image until that is up; each turn undoes itself
DIRECTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "up": lambda images: images,
    "down": lambda images: images.flip(2),
    "left": lambda images: images.mT,
    "right": lambda images: images.mT.flip(2, 3),
}


class MaskedConvCoupling(Transform):
    r"""An affine coupling between rows, :math:`y_i = e^{a_i} \odot (x_i + t_i)` with ``(t, a)`` from the rows above.

    The conditioner is a convolution over the ``kh`` rows strictly above row ``i``, ELU, and a 1x1 convolution that
    starts at zero, so that the layer starts as the identity; the log-scale ``a`` is bounded as in
    :class:`AffineCoupling`. Row by row the Jacobian is triangular, :math:`\log|\det J| = \sum a`. Forward is one pass
    of the conditioner; the inverse takes ``h`` steps (``w`` for ``"left"`` and ``"right"``) that evaluate it at one row
    each, so it costs one pass too. The conditioner may run under autocast; what it makes of a recovered row then
    agrees with what it made of the original to the precision of autocast, not of the inputs.

    Args:
        shape: ``(c, h, w)``; only ``c`` matters, any ``h`` and ``w`` are accepted when called.
        hidden_channels: of the conditioner.
        kernel_size: ``(kh, kw)``, the rows that the conditioner looks back and the columns that it sees of each, ``kw``
            odd; columns and rows for ``"left"`` and ``"right"``.
        direction: where the conditioner looks: ``"up"``, ``"down"``, ``"left"`` or ``"right"``.
        context_features: features of the context that the conditioner takes, or None to ignore context. A context
            ``(B, F)`` acts on all pixels alike, ``(B, F, h, w)`` pixel by pixel.
        max_log_scale: bound of the log-scale, as of :class:`AffineCoupling`.

    Shapes:
        inputs and outputs ``(B, c, h, w)``, ``logabsdet`` ``(B,)``.

    Raises:
        ValueError, TypeError: for a bad shape, kernel size or direction, inputs with other channels, or a missing or
            wrong context.

    Reference: Ma, Kong, Zhang and Hovy, MaCow: Masked Convolutional Generative Flow, NeurIPS 2019.

    >>> import torch
    >>> layer, images = MaskedConvCoupling((3, 8, 6), hidden_channels=16, direction="left"), torch.randn(4, 3, 8, 6)
    >>> outputs, logabsdet = layer(images)
    >>> bool(torch.allclose(layer.inverse(outputs)[0], images, atol=1e-5)), logabsdet.shape
    (True, torch.Size([4]))
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden_channels: int,
        kernel_size: Sequence[int] = (2, 3),
        direction: str = "up",
        *,
        context_features: int | None = None,
        max_log_scale: float = MAX_LOG_SCALE,
    ) -> None:
        super().__init__()
        self.num_channels = check_image_shape(shape)[0]
        self.kernel_size = _kernel_size(kernel_size)
        self.max_log_scale = check_positive_number("max_log_scale", max_log_scale)
        self.direction = check_one_of("direction", direction, DIRECTIONS)
        hidden_channels = check_positive_int("hidden_channels", hidden_channels)
        self.first = nn.Conv2d(self.num_channels, hidden_channels, self.kernel_size)
        self.last = nn.Conv2d(hidden_channels, 2 * self.num_channels, 1)
        self.context = context_projection(context_features, hidden_channels)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def extra_repr(self) -> str:
        """Show the arguments in ``print``."""
        return f"direction={self.direction!r}"

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Transform every row given the rows before it."""
        turn = DIRECTIONS[self.direction]
        rows = turn(self._checked(inputs, context))
        earlier = F.pad(rows[:, :, :-1], (*self._margins, self.kernel_size[0], 0))
        outputs, logabsdet = affine(rows, self._condition(earlier, _turned(context, turn)), self.max_log_scale)
        return turn(outputs), sum_pixels(logabsdet)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo it row by row, the first one first."""
        turn = DIRECTIONS[self.direction]
        rows, context = turn(self._checked(inputs, context)), _turned(context, turn)
        earlier = F.pad(rows[:, :, :0], (*self._margins, self.kernel_size[0], 0))
        solved, logabsdets = [], []
        for i in range(rows.shape[2]):
            here = context[:, :, i : i + 1] if context is not None and context.dim() == 4 else context
            row, logabsdet = unaffine(rows[:, :, i : i + 1], self._condition(earlier, here), self.max_log_scale)
            earlier = torch.cat([earlier[:, :, 1:], F.pad(row, self._margins)], 2)
            solved.append(row)
            logabsdets.append(logabsdet)
        return turn(torch.cat(solved, 2)), sum_pixels(torch.cat(logabsdets, 2))

    def _checked(self, inputs: Tensor, context: Tensor | None) -> Tensor:
        check_channel_inputs(inputs, self.num_channels)
        if self.context is not None:
            check_context(context, self.context.weight.shape[1], inputs)
        return in_layer_dtype(inputs, self.first.weight.dtype)

    @property
    def _margins(self) -> tuple[int, int]:
        return (self.kernel_size[1] // 2,) * 2

    def _condition(self, earlier: Tensor, context: Tensor | None) -> Tensor:
        """Parameters (B, 2, c, h, w) of the rows below each window of ``earlier``, which has its margins."""
        hidden = F.elu(add_context(_convolve(self.first, earlier), self.context, context))
        parameters = _convolve(self.last, hidden).to(earlier.dtype)
        batch, _, height, width = parameters.shape
        return parameters.view(batch, 2, self.num_channels, height, width)


class MaCowUnit(Chain):
    r"""A unit of MaCow: four couplings between rows and columns, which look up, down, left and right.

    ``ActNorm -> up -> down -> ActNorm -> left -> right``, each a :class:`MaskedConvCoupling`. Unlike a coupling of
    channels it transforms every entry, so it works with one channel too; every pixel depends on its neighbours on all
    sides. Costs eight convolutions of the image forward; the inverse as much, in ``2 (h + w)`` sequential steps. It
    starts as the identity.

    Args:
        shape: ``(c, h, w)``; only ``c`` matters, any ``h`` and ``w`` are accepted when called.
        hidden_channels: of each conditioner; the paper on Woodbury transformations takes 384 at 32 x 32 pixels.
        kernel_size: ``(kh, kw)``, rows that each conditioner looks back and columns that it sees of each, ``kw`` odd.
        context_features: features of the context that the conditioners take, or None to ignore context.
        max_log_scale: bound of the log-scale, as of :class:`AffineCoupling`.

    Shapes:
        inputs and outputs ``(B, c, h, w)``, ``logabsdet`` ``(B,)``.

    Raises:
        ValueError, TypeError: as :class:`MaskedConvCoupling`.

    Reference: Ma, Kong, Zhang and Hovy, MaCow: Masked Convolutional Generative Flow, NeurIPS 2019, and its
    code: the same unit, but for weight normalization, which this one does without.

    >>> import torch
    >>> outputs, logabsdet = MaCowUnit((12, 16, 16), hidden_channels=64)(torch.randn(4, 12, 16, 16))
    >>> outputs.shape, logabsdet.shape
    (torch.Size([4, 12, 16, 16]), torch.Size([4]))
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden_channels: int,
        kernel_size: Sequence[int] = (2, 3),
        *,
        context_features: int | None = None,
        max_log_scale: float = MAX_LOG_SCALE,
    ) -> None:
        channels = check_image_shape(shape)[0]
        settings: dict[str, Any] = {"context_features": context_features, "max_log_scale": max_log_scale}
        up, down, left, right = (
            MaskedConvCoupling(shape, hidden_channels, kernel_size, direction, **settings) for direction in DIRECTIONS
        )
        super().__init__([ActNorm(channels), up, down, ActNorm(channels), left, right])


def _convolve(conv: nn.Conv2d, inputs: Tensor) -> Tensor:
    """What ``conv`` does, in full precision on any device, for a whole image and for one row of it."""
    outputs = correlate(inputs, conv.weight)
    return outputs if conv.bias is None else outputs + conv.bias[:, None, None]


def _turned(context: Tensor | None, turn: Callable[[Tensor], Tensor]) -> Tensor | None:
    return turn(context) if context is not None and context.dim() == 4 else context


def _kernel_size(kernel_size: object) -> tuple[int, int]:
    if not isinstance(kernel_size, Sequence) or isinstance(kernel_size, str):
        raise TypeError(f"kernel_size must be a sequence (rows, columns), got {kernel_size!r}")
    if len(kernel_size) != 2:
        raise ValueError(f"kernel_size must be (rows, columns), got {tuple(kernel_size)}")
    rows, columns = (check_positive_int(f"kernel_size[{i}]", size) for i, size in enumerate(kernel_size))
    if columns % 2 == 0:
        raise ValueError(f"kernel_size must have an odd number of columns, as many to either side; got {columns}")
    return rows, columns
