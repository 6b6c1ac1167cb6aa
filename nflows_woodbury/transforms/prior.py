"""Learned priors as transforms: what a Gaussian prior would say of the latents, done to the latents instead.

``log N(z; mean, scale) = log N((z - mean) / scale; 0, 1) - log scale``, so a flow with these transforms and a standard
normal base has the density of Glow's learned priors; the base stays any distribution, and temperature scales noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn

from nflows_woodbury.checks import check_channel_inputs, check_image_inputs, check_shape
from nflows_woodbury.linalg.precision import in_layer_dtype, sum_pixels
from nflows_woodbury.transforms.convolutions import zero_conv
from nflows_woodbury.transforms.nets import add_context, channel_halves, context_projection

__all__ = ["SplitPrior", "TopPrior"]


class SplitPrior(Transform):
    r"""Normalizes the half that is factored out given the half that goes on.

    .. math:: z_2 \mapsto (z_2 - \mu(z_1)) / \sigma(z_1)

    ``mu`` and ``log sigma`` come from one 3x3 convolution that starts at zero, so the layer starts as the identity.
    :math:`\log|\det J| = -\sum \log \sigma`. :class:`Multiscale` then takes the second half out.

    Args:
        shape: ``(c, h, w)``, at least 2 channels; the first ``c - c // 2`` go on. Any ``h`` and ``w`` when called. Also
            ``(c,)``, ``(c, t)`` or ``(c, d, h, w)``.
        context_features: features of the context that mean and scale also depend on, or None to ignore context.

    Shapes:
        inputs and outputs ``(B, c, h, w)``, or as in ``shape``; ``logabsdet`` ``(B,)``.

    Raises:
        ValueError, TypeError: for one channel, inputs with other channels or of another dtype, a missing or wrong
            context.

    Reference: Kingma and Dhariwal, Glow, NeurIPS 2018, code; Dinh et al., Real NVP, ICLR 2017, section 3.6.

    >>> import torch
    >>> SplitPrior((12, 16, 16))(torch.randn(4, 12, 16, 16))[0].shape
    torch.Size([4, 12, 16, 16])
    """

    def __init__(self, shape: Sequence[int], *, context_features: int | None = None) -> None:
        super().__init__()
        shape = check_shape(shape)
        self.num_channels, self.num_axes = shape[0], len(shape) - 1
        self.halves = channel_halves(self.num_channels)
        self.conv = zero_conv(self.halves[0], 2 * self.halves[1], self.num_axes)
        self.context = context_projection(context_features, 2 * self.halves[1], self.num_axes)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Subtract the mean of the second half and divide by its scale."""
        given, values = self._split(inputs)
        mean, log_scale = self._mean_and_log_scale(given, context)
        return torch.cat([given, (values - mean) * (-log_scale).exp()], 1), -sum_pixels(log_scale)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Multiply by the scale of the second half and add its mean."""
        given, noise = self._split(inputs)
        mean, log_scale = self._mean_and_log_scale(given, context)
        return torch.cat([given, noise * log_scale.exp() + mean], 1), sum_pixels(log_scale)

    def _split(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        check_channel_inputs(inputs, self.num_channels, self.num_axes)
        given, values = in_layer_dtype(inputs, self.conv.weight.dtype).split(self.halves, 1)
        return given, values

    def _mean_and_log_scale(self, given: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        parameters = add_context(self.conv(given), self.context, context).to(given.dtype)
        mean, log_scale = parameters.chunk(2, 1)
        return mean, log_scale


class TopPrior(Transform):
    r"""The learned prior of the last level: an elementwise affine map, :math:`z \mapsto (z - \mu) / \sigma`.

    ``mu`` and ``log sigma`` have one value per latent and start at zero; with ``context_features`` a linear function
    of the context is added per channel. :math:`\log|\det J| = -\sum \log \sigma`.

    Args:
        shape: ``(c, h, w)``, ``(c,)``, ``(c, t)`` or ``(c, d, h, w)``.
        context_features: features of the context, or None to ignore context.

    Shapes:
        inputs and outputs ``(B, c, h, w)``, or as in ``shape``; ``logabsdet`` ``(B,)``.

    Raises:
        ValueError, TypeError: for inputs of another shape or dtype, a missing or wrong context.

    Reference: Kingma and Dhariwal, Glow, NeurIPS 2018, code (``prior``).

    >>> import torch
    >>> TopPrior((48, 4, 4), context_features=10)(torch.randn(2, 48, 4, 4), torch.eye(10)[:2])[1].shape
    torch.Size([2])
    """

    def __init__(self, shape: Sequence[int], *, context_features: int | None = None) -> None:
        super().__init__()
        self.shape = check_shape(shape)
        self.mean = nn.Parameter(torch.zeros(self.shape))
        self.log_scale = nn.Parameter(torch.zeros(self.shape))
        self.context = context_projection(context_features, 2 * self.shape[0], len(self.shape) - 1)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Subtract the mean and divide by the scale."""
        inputs = self._checked(inputs)
        mean, log_scale = self._mean_and_log_scale(inputs, context)
        return (inputs - mean) * (-log_scale).exp(), -sum_pixels(log_scale)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Multiply by the scale and add the mean."""
        inputs = self._checked(inputs)
        mean, log_scale = self._mean_and_log_scale(inputs, context)
        return inputs * log_scale.exp() + mean, sum_pixels(log_scale)

    def _checked(self, inputs: Tensor) -> Tensor:
        check_image_inputs(inputs, self.shape)
        return in_layer_dtype(inputs, self.mean.dtype)

    def _mean_and_log_scale(self, inputs: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        parameters = torch.cat([self.mean, self.log_scale]).expand(inputs.shape[0], *[-1] * len(self.shape))
        mean, log_scale = add_context(parameters, self.context, context).to(inputs.dtype).chunk(2, 1)
        return mean, log_scale
