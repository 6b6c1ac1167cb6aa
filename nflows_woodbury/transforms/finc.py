"""FInC convolution: four groups of channels, each convolved with a kernel that faces one corner of the image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nflows_woodbury.checks import check_channel_inputs, check_image_shape, check_one_of, check_positive_int
from nflows_woodbury.linalg import small, triangular_conv
from nflows_woodbury.transforms.base import LinearTransform
from nflows_woodbury.transforms.emerging import CORNERS

__all__ = ["FInCConvolution"]


class FInCConvolution(LinearTransform):
    r"""A convolution padded on two sides only, which are others for each group of channels.

    .. math::

        y_{g,ij} = \sum_{a, b < k} K^g_{ab}\, x_{g,\,i \mp a,\, j \mp b}, \qquad
        \log|\det J| = h w \sum_c s_c, \qquad (K^g_{00})_{cc} = e^{s_c}, \qquad s = \tanh(\text{log scale})

    The channels are split into one group for each corner, as even as can be, and each group sees its own channels in
    the ``k x k`` pixels towards its corner. ``K_00``, the tap on the pixel itself, is lower triangular with a positive
    diagonal that cannot vanish. So the Jacobian is triangular, and the inverse is substitution along anti-diagonals,
    ``h + w - 1`` steps for all groups at once: see :mod:`nflows_woodbury.linalg.triangular_conv`. Forward and inverse
    cost ``O(k^2 c^2 h w / 4)`` per image.

    The groups do not mix, and no pixel reaches another that lies farther from its group's corner: a layer that mixes
    channels stands beside it. (The mixing ``"finc"`` of :data:`nflows_woodbury.config.names.MIXINGS` has a 1x1
    convolution before it.) It starts near the identity. With one corner it is the convolution of CInC Flow.

    Args:
        shape: ``(c, h, w)``; only ``c`` matters, any ``h`` and ``w`` are accepted when called.
        kernel_size: ``k``, side of each kernel, the pixel itself included.
        corners: of the groups in order, ``"upper left"``, ``"upper right"``, ``"lower left"`` or ``"lower right"``.
            With fewer channels than corners, the first ones.

    Shapes:
        inputs and outputs ``(B, c, h, w)``, ``logabsdet`` ``(B,)``; parameters ``weight`` ``(c, n, k, k)`` with ``n``
        channels in the largest group, whose last tap is ``K_00``, used in its strict triangle only, and ``log_scale``
        ``(c,)``.

    Raises:
        ValueError, TypeError: for a bad shape, kernel size or corner, no corner, or inputs with other channels.

    Reference: Kallappa, Nagar and Varma, FInC Flow: Fast and Invertible k x k Convolutions for Normalizing Flows,
    VISAPP 2023; Nagar, Dufraisse and Varma, CInC Flow, 2021. There the diagonal is fixed at 1, so the log-det is 0, and
    ``c`` a multiple of four.

    >>> import torch
    >>> layer, images = FInCConvolution((12, 16, 16)), torch.randn(4, 12, 16, 16)
    >>> outputs, logabsdet = layer(images)
    >>> bool(torch.allclose(layer.inverse(outputs)[0], images, atol=1e-5)), logabsdet.shape
    (True, torch.Size([4]))
    """

    def __init__(self, shape: Sequence[int], kernel_size: int = 3, corners: Iterable[str] = tuple(CORNERS)) -> None:
        super().__init__()
        self.num_channels = c = check_image_shape(shape)[0]
        self.kernel_size = k = check_positive_int("kernel_size", kernel_size)
        names = [corners] if isinstance(corners, str) else list(corners)
        if not names:
            raise ValueError(f"corners must be at least one of {', '.join(CORNERS)}, got none")
        self.corners = [check_one_of("corners", name, CORNERS) for name in names[:c]]
        count = len(self.corners)
        self.sizes = [len(range(g, c, count)) for g in range(count)]
        self.weight = nn.Parameter(0.1 / (self.sizes[0] * k * k) ** 0.5 * torch.randn(c, self.sizes[0], k, k))
        self.log_scale = nn.Parameter(torch.zeros(c))

    def extra_repr(self) -> str:
        """Show the arguments in ``print``."""
        return f"num_channels={self.num_channels}, kernel_size={self.kernel_size}, corners={self.corners}"

    def check_inputs(self, inputs: Tensor) -> None:
        """Refuse inputs with other channels."""
        check_channel_inputs(inputs, self.num_channels)

    def map_forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve each group by its kernel, turned to its corner."""
        groups = zip(self._groups(inputs), self._kernels(), self._axes, strict=True)
        outputs = [triangular_conv.convolve(group, kernel, turned=axes) for group, kernel, axes in groups]
        return self._joined(outputs), self._logabsdet(inputs)

    def map_inverse(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Turn each group's corner up and left, substitute in all groups at once, turn back."""
        turned, kernels = self._turned(self._groups(inputs)), self._kernels()
        outputs = triangular_conv.solve(torch.stack(turned), torch.stack(kernels))
        return self._joined(self._turned(outputs.unbind())), -self._logabsdet(inputs)

    @property
    def _axes(self) -> list[tuple[int, ...]]:
        """Those along which an image is flipped for each group's corner to be up and left."""
        return [CORNERS[corner][0] for corner in self.corners]

    def _groups(self, images: Tensor) -> list[Tensor]:
        """The groups' channels, those that the largest group has more as zeros."""
        largest = self.sizes[0]
        return [F.pad(part, (0, 0, 0, 0, 0, largest - part.shape[1])) for part in images.split(self.sizes, 1)]

    def _turned(self, groups: Sequence[Tensor]) -> list[Tensor]:
        return [group.flip(axes) for group, axes in zip(groups, self._axes, strict=True)]

    def _joined(self, groups: Sequence[Tensor]) -> Tensor:
        """The images of :meth:`_groups`."""
        return torch.cat([group[:, :size] for group, size in zip(groups, self.sizes, strict=True)], 1)

    def _kernels(self) -> list[Tensor]:
        """The kernel of each group, as a pixel up and left sees it; channels that are zeros stay so."""
        kernels, largest = [], self.sizes[0]
        scales = self.log_scale.tanh().exp().split(self.sizes)
        for weight, scale in zip(self.weight.split(self.sizes), scales, strict=True):
            more = largest - len(scale)
            weight = F.pad(weight, (0, 0, 0, 0, 0, 0, 0, more))
            own = weight[:, :, -1, -1].tril(-1) + F.pad(scale, (0, more), value=1.0).diag()
            kernels.append(triangular_conv.triangular(weight, own))
        return kernels

    def _logabsdet(self, inputs: Tensor) -> Tensor:
        return inputs.shape[2] * inputs.shape[3] * small.wide(self.log_scale).tanh().sum()
