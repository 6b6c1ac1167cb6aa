"""A flow over floats on a grid: lattice fields, scans, maps; its density is one, in nats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from nflows.distributions.base import Distribution
from nflows.transforms.base import Transform
from torch import Tensor, nn

from nflows_woodbury.checks import check_fields, check_shape
from nflows_woodbury.flow.grid import GridFlow
from nflows_woodbury.linalg.modes import is_plain
from nflows_woodbury.transforms.dequantize import check_finite

__all__ = ["FieldFlow"]


class FieldFlow(GridFlow):
    r"""An nflows ``Flow`` over floats on a grid: ``log_prob`` is a log-density in nats, samples are floats.

    ``forward`` is the same per dimension and in bits, :math:`-\log p(x) / (D \log 2)`. It is *differential*: in units a
    thousand times smaller the same data have 9.97 bits/dim more, and it may be negative. It is never to be compared
    with the bits/dim of an :class:`ImageFlow`, which count what it takes to store pixels.

    Everything but :meth:`sample` is differentiable, noise, parameters and data alike. Usually made by
    :func:`field_flow`.

    Args:
        transform: floats ``(B, c, ...)`` to flat noise ``(B, D)``.
        distribution: nflows distribution of the flat noise.
        embedding_net: as for :class:`ImageFlow`.
        shape: ``(c, ...)`` of the fields, such as ``(1, 32, 32)``.

    Raises:
        TypeError: for fields that are not float32 or float64.
        ValueError: for fields of another shape, or with NaN or infinity in them, on the CPU in plain eager calls;
            elsewhere a look would stall the device.

    >>> import torch
    >>> from nflows.distributions import StandardNormal
    >>> from nflows_woodbury import ActNorm, Chain, Multiscale, Squeeze
    >>> transform = Multiscale([Chain([Squeeze(), ActNorm(4)])], shapes=[(4, 4, 4)])
    >>> flow = FieldFlow(transform, StandardNormal((64,)), shape=(1, 8, 8))
    >>> fields = torch.zeros(5, 1, 8, 8)
    >>> flow.log_prob(fields)[0].item() == flow.log_prob(fields)[1].item(), round(flow(fields)[0].item(), 3)
    (True, 1.326)
    """

    def __init__(
        self,
        transform: Transform,
        distribution: Distribution,
        embedding_net: nn.Module | None = None,
        *,
        shape: Sequence[int],
    ) -> None:
        super().__init__(transform, distribution, embedding_net, shape=check_shape(shape))

    @property
    def floating(self) -> Sequence[Transform]:
        """All transforms, as the fields themselves are floats."""
        return [self._transform]

    def check_data(self, inputs: Tensor) -> None:
        """Check that fields are floats of the flow's shape, and finite where a look does not stall a device."""
        check_fields(inputs, self.shape)
        if inputs.device.type == "cpu" and is_plain(inputs):
            failed = int((~inputs.isfinite()).flatten(1).any(1).sum())
            if failed:
                raise ValueError(
                    f"fields must be finite, got NaN or infinity in {failed} of {len(inputs)}; leave those out, or "
                    "fill what is missing"
                )

    def check_finite(self, logabsdet: Tensor) -> None:
        """FloatingPointError with how many fields are not finite, given the log-dets ``(B,)`` of their making."""
        check_finite(logabsdet, "fields", "values")

    def forward(self, fields: Tensor, context: Any = None) -> Tensor:
        """Differential bits per dimension of fields: ``-log_prob / (D log 2)``, shape ``(B,)``; may be negative."""
        return super().forward(fields, context)

    def initialize(self, fields: Tensor, context: Any = None) -> None:
        """Start what starts from data (the first transform, ActNorm) on a batch of fields; once, before training."""
        super().initialize(fields, context)

    def transform_from_noise(self, noise: Tensor, context: Any = None) -> Tensor:
        """Fields ``(B, *shape)`` of flat noise ``(B, D)``, with a gradient; FloatingPointError where not finite."""
        fields, logabsdet = self._generate(noise, self._embedding_net(context))
        self.check_made(logabsdet)
        return fields

    def sample_and_log_prob(
        self, num_samples: int, context: Any = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """:meth:`rsample_and_log_prob`: with a gradient, as nflows has it; FloatingPointError where not finite."""
        fields, log_prob = self.rsample_and_log_prob(num_samples, context, generator=generator)
        self.check_made(_nan_unless_finite(fields.reshape(-1, *self.shape), log_prob.flatten()))
        return fields, log_prob

    def _generate(self, noise: Tensor, rows: object) -> tuple[Tensor, Tensor]:
        fields, logabsdet = super()._generate(noise, rows)
        return fields, _nan_unless_finite(fields, logabsdet)


def _nan_unless_finite(fields: Tensor, logabsdet: Tensor) -> Tensor:
    """Log-dets ``(B,)``, NaN for fields with a value that is not finite."""
    return torch.where(fields.isfinite().flatten(1).all(1), logabsdet, float("nan"))
