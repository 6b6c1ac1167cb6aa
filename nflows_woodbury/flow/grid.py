"""What flows over images and over fields share: densities, samples, and the way back from noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import log, prod
from typing import Any

import torch
from nflows.distributions.base import Distribution
from nflows.transforms.base import Transform
from torch import Tensor, nn

from nflows_woodbury.checks import check_floating, check_natural_number, check_positive_int
from nflows_woodbury.flow.condition import ConditionEmbedding, Given
from nflows_woodbury.linalg.modes import is_plain
from nflows_woodbury.transforms.hosts import LoadableFlow, draw
from nflows_woodbury.transforms.initialization import initialize
from nflows_woodbury.transforms.nets import OneHot

__all__ = ["GridFlow"]


class GridFlow(LoadableFlow, ABC):
    """An nflows ``Flow`` over data on a grid: :class:`ImageFlow` over uint8 images, :class:`FieldFlow` over floats.

    A flow of another kind of data is a subclass with four members:

    * ``check_data(inputs)`` raises a TypeError or ValueError for data that the flow cannot take.
    * ``check_finite(logabsdet)`` raises a FloatingPointError for data from noise that are none, which have no log-det.
    * ``transform_from_noise(noise, context)`` gives the data of noise.
    * ``floating``: the transforms between floats and noise, in order; what stands before them makes floats of data.

    Args:
        transform: data ``(B, *shape)`` to flat noise ``(B, D)``.
        distribution: nflows distribution of the flat noise.
        embedding_net: maps the context that is passed in to the context that the transforms get; None passes it on,
            :class:`~nflows_woodbury.transforms.nets.OneHot` takes class numbers.
        shape: of one image or field, channels first.

    >>> from nflows_woodbury.flow import FieldFlow, ImageFlow
    >>> issubclass(ImageFlow, GridFlow), issubclass(FieldFlow, GridFlow)
    (True, True)
    """

    def __init__(
        self,
        transform: Transform,
        distribution: Distribution,
        embedding_net: nn.Module | None = None,
        *,
        shape: Sequence[int],
    ) -> None:
        super().__init__(transform, distribution, embedding_net)
        self.check_constants(on_meta=True)
        self.shape: tuple[int, ...] = tuple(shape)
        self._last: Tensor | None = None  # log-dets of what was last made of noise

    @property
    def num_classes(self) -> int:
        """Classes whose numbers the flow takes as context; 0 for a flow without classes."""
        return self._embedding_net.num_classes if isinstance(self._embedding_net, OneHot | ConditionEmbedding) else 0

    @property
    @abstractmethod
    def floating(self) -> Sequence[Transform]:
        """The transforms between floats and noise, in order."""

    @abstractmethod
    def check_data(self, inputs: Tensor) -> None:
        """Raise a TypeError or ValueError for data that the flow cannot take."""

    @abstractmethod
    def check_finite(self, logabsdet: Tensor) -> None:
        """Raise a FloatingPointError for data from noise whose log-dets ``(B,)`` are not finite, on the CPU."""

    def check_made(self, logabsdet: Tensor) -> None:
        """:meth:`check_finite` of what was made; on a device, where a look would stall it, in :meth:`check_last`."""
        if is_plain(logabsdet):
            self._last = logabsdet.detach()
            self.check_finite(logabsdet)

    def check_last(self) -> None:
        """FloatingPointError where what was last made of noise is not finite, on any device, for which it waits."""
        if self._last is not None:
            self.check_finite(self._last.cpu())

    def forward(self, inputs: Tensor, context: Any = None) -> Tensor:
        """``-log_prob / (D log 2)``, shape ``(B,)``: bits per dimension, of floats differential ones."""
        return -self.log_prob(inputs, context) / (prod(self.shape) * log(2))

    @torch.no_grad()
    def initialize(self, inputs: Tensor, context: Any = None) -> None:
        """Start the layers that start from data, such as ActNorm, on a batch of data; once, before training."""
        self.check_data(inputs)
        initialize(self, inputs, context)

    def transform_to_noise(self, inputs: Tensor, context: Any = None) -> Tensor:
        """Flat noise ``(B, D)`` of data ``(B, *shape)``; :meth:`transform_from_noise` goes back."""
        self.check_data(inputs)
        noise: Tensor = super().transform_to_noise(inputs, context)
        return noise

    @abstractmethod
    def transform_from_noise(self, noise: Tensor, context: Any = None) -> Tensor:
        """Data ``(B, *shape)`` of flat noise ``(B, D)``."""

    def decode(self, noise: Tensor, context: Any = None) -> Tensor:
        """Floats ``(B, *shape)`` of flat noise ``(B, D)``, with a gradient; the dequantization of images is left out.

        Of images they are the values ``y`` in [-1/2, 1/2) that dequantization makes of pixels and the floor makes
        pixels of: with ``b`` bits the pixel is ``floor((y + 1/2) 2^b) 2^(8 - b)``, at the nearer end for a ``y``
        outside. Of fields they are the fields themselves, and this is :meth:`transform_from_noise` without its check.
        """
        check_floating(noise)
        return self._decode(noise, self._embedding_net(context))[0]

    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        context: Any = None,
        batch_size: int | None = None,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw images, or fields, without a gradient; :meth:`rsample` has one.

        Args:
            num_samples: how many to draw, for each row of the context if there is one.
            context: ``(C, ...)`` or None.
            batch_size: samples per context row that are drawn at a time; None draws all at once.
            temperature: factor on the base's noise, meant for zero-mean bases; below 1 gives likelier, plainer samples.
            generator: of the noise, on the flow's device; None for torch's global one.

        Returns:
            ``(num_samples, *shape)``, or ``(C, num_samples, *shape)`` with context: uint8 images, or floats.

        Raises:
            ValueError, TypeError: for a bad count or temperature, or a generator of another device.
            FloatingPointError: on the CPU, for samples that are not finite, with how many; see :meth:`check_last`.
            NotImplementedError: if the base cannot sample this way (nflows' ``DiagonalNormal`` and ``MADEMoG`` without
                context); its log-density works all the same.
        """
        remaining = check_positive_int("num_samples", num_samples)
        batch_size = remaining if batch_size is None else check_positive_int("batch_size", batch_size)
        temperature = check_natural_number("temperature", temperature)
        batches = []
        while remaining > 0:
            drawn = min(batch_size, remaining)
            noise, rows = self._noise(drawn, context, generator)
            values, logabsdet = self._generate(temperature * noise, rows)
            batches.append((values if context is None else values.unflatten(0, (-1, drawn)), logabsdet))
            remaining -= batch_size
        self.check_made(torch.cat([logabsdet for _, logabsdet in batches]))
        return torch.cat([values for values, _ in batches], 0 if context is None else 1)

    def rsample(
        self,
        num_samples: int,
        context: Any = None,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw floats with a gradient, as :meth:`decode` makes them of noise; arguments as for :meth:`sample`.

        The gradient reaches the flow's parameters and a floating context. The same seed gives what :meth:`sample` draws
        at once, of images before the floor.
        """
        temperature = check_natural_number("temperature", temperature)
        noise, rows = self._noise(check_positive_int("num_samples", num_samples), context, generator)
        values, _ = self._decode(temperature * noise, rows)
        return values if context is None else values.unflatten(0, (-1, num_samples))

    def rsample_and_log_prob(
        self, num_samples: int, context: Any = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """:meth:`rsample`, with the log-density of these floats in nats; both with a gradient.

        ``log p(y) = log p(z) - log |det dy/dz|`` for ``y = decode(z)``: what a reverse Kullback-Leibler divergence
        needs, from one pass.
        """
        noise, rows = self._noise(check_positive_int("num_samples", num_samples), context, generator)
        values, logabsdet = self._decode(noise, rows)
        log_prob = self._base_log_prob(noise, rows) - logabsdet
        if context is None:
            return values, log_prob
        return values.unflatten(0, (-1, num_samples)), log_prob.unflatten(0, (-1, num_samples))

    def log_prob(self, inputs: Tensor, context: Any = None) -> Tensor:
        """Log-density ``(B,)`` in nats, of images of the dequantized ones less the log-volume of their bins."""
        if isinstance(self._embedding_net, ConditionEmbedding):
            return self._log_prob(inputs, context)  # nflows' own makes a tensor of every context
        log_prob: Tensor = super().log_prob(inputs, context)
        return log_prob

    def _log_prob(self, inputs: Tensor, context: Any) -> Tensor:
        self.check_data(inputs)
        rows = self._embedding_net(context)
        noise, logabsdet = self._transform(inputs, context=rows)
        return self._base_log_prob(noise, rows) + logabsdet

    def _base_log_prob(self, noise: Tensor, rows: Any) -> Tensor:
        log_prob: Tensor = self._distribution.log_prob(noise, context=None if isinstance(rows, Given) else rows)
        return log_prob

    def _generate(self, noise: Tensor, rows: Any) -> tuple[Tensor, Tensor]:
        """Data of noise, and the log-det of the way, which is NaN for data that are none."""
        made: tuple[Tensor, Tensor] = self._transform.inverse(noise, context=rows)
        return made

    def _decode(self, noise: Tensor, rows: Any) -> tuple[Tensor, Tensor]:
        """Floats of noise, and the log-det of the way."""
        values, total = noise, torch.zeros((), device=noise.device)
        for transform in reversed(self.floating):
            values, logabsdet = transform.inverse(values, context=rows)
            total = total + logabsdet
        return values, total

    def _noise(self, num_samples: int, context: Any, generator: torch.Generator | None = None) -> tuple[Tensor, Any]:
        """Noise of the base in the flow's dtype, (rows, D), and the embedded context of each row."""
        rows = self._embedding_net(context)
        if isinstance(rows, Given):  # for the levels alone
            check_positive_int("rows of the context", rows.rows)
            noise = draw(self._distribution, num_samples * rows.rows, None, generator)
            rows = rows.repeated(num_samples)
        else:
            noise = draw(self._distribution, num_samples, rows, generator)
        if isinstance(rows, Tensor):
            noise, rows = noise.flatten(0, 1), rows.repeat_interleave(num_samples, 0)
        tensors = [*self._transform.parameters(), *self._transform.buffers()]  # of a frozen flow, buffers alone
        dtypes = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]  # torch 2.4 compiles no next()
        return noise.to(dtypes[0] if dtypes else noise.dtype), rows
