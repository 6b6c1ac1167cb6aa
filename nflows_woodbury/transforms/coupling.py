"""Coupling layers: one half of the channels sets the parameters of a map of the other half."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn

from nflows_woodbury.checks import check_channel_inputs, check_positive_number, check_shape
from nflows_woodbury.linalg.affine import affine, unaffine
from nflows_woodbury.linalg.precision import in_layer_dtype, parameter_dtype, sum_pixels
from nflows_woodbury.transforms.nets import ConvNet, Net, channel_halves

__all__ = ["AdditiveCoupling", "AffineCoupling", "Coupling"]

MAX_LOG_SCALE = 4.0


class Coupling(Transform, ABC):
    """The frame of a channel coupling: ``(x1, x2) -> (x1, f(x2; net(x1, context)))``.

    A coupling of your own is a subclass with three members:

    * ``num_parameters``: how many numbers ``f`` takes for each entry of ``x2``.
    * ``map_values(values, parameters)``: ``f`` of the entries ``(B, channels, h, w)`` of ``x2``, given ``parameters``
      of shape ``(B, num_parameters, channels, h, w)``, and the logarithms of its derivatives, of the entries' shape.
    * ``unmap_values(values, parameters)``: the inverse of ``f``, and the logarithms of the derivatives of the inverse.

    Args:
        shape: ``(c, h, w)`` with at least 2 channels; the first ``c - c // 2`` condition, the others are transformed.
            Any ``h`` and ``w`` are accepted when called. Also ``(c,)``, ``(c, t)`` or ``(c, d, h, w)``.
        hidden_channels: short for ``net=partial(ConvNet, hidden_channels=hidden_channels, num_axes=...)``, the paper's
            conditioner :class:`nflows_woodbury.transforms.nets.ConvNet` for the axes of ``shape``.
        net: a constructor ``(in_channels, out_channels, context_features) -> Module`` of the conditioner, in the place
            of ``hidden_channels``. The module is called with the inputs ``(B, in_channels, h, w)`` and the context or
            None, and returns ``(B, out_channels, h, w)``. It alone may run in reduced precision, under autocast.
        context_features: features of the context that the conditioner takes, or None to ignore context. A context
            ``(B, F)`` acts on all pixels alike, ``(B, F, h, w)`` pixel by pixel.

    Shapes:
        inputs and outputs ``(B, c, h, w)``, or as in ``shape``; ``logabsdet`` ``(B,)``.

    Raises:
        ValueError, TypeError: for one channel, a bad count, inputs with other channels or of another dtype, a missing
            or wrong context, both or neither of ``hidden_channels`` and ``net``, or a net that returns another shape.

    >>> class Scale(Coupling):
    ...     num_parameters = 1
    ...     def map_values(self, values, parameters):
    ...         return values * parameters[:, 0].exp(), parameters[:, 0]
    ...     def unmap_values(self, values, parameters):
    ...         return values * (-parameters[:, 0]).exp(), -parameters[:, 0]
    >>> import torch
    >>> coupling = Scale((4, 8, 8), hidden_channels=8)
    >>> coupling.inverse(coupling(torch.randn(2, 4, 8, 8))[0])[0].shape
    torch.Size([2, 4, 8, 8])
    """

    num_parameters: int

    def __init__(
        self,
        shape: Sequence[int],
        hidden_channels: int | None = None,
        *,
        net: Net | None = None,
        context_features: int | None = None,
    ) -> None:
        super().__init__()
        shape = check_shape(shape)
        self.num_channels, self.num_axes = shape[0], len(shape) - 1
        self.halves = channel_halves(self.num_channels)
        outputs = self.num_parameters * self.halves[1]
        self.net = _conditioner(net, hidden_channels, self.num_axes)(self.halves[0], outputs, context_features)
        if not isinstance(self.net, nn.Module):
            raise TypeError(f"net must return a torch.nn.Module, got {self.net!r}")

    @abstractmethod
    def map_values(self, values: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """``f`` and the logarithms of its derivatives, both ``(B, channels, h, w)``."""

    @abstractmethod
    def unmap_values(self, values: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of ``f`` and the logarithms of its derivatives, both ``(B, channels, h, w)``."""

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Transform the second half given the first."""
        fixed, values = self._split(inputs)
        outputs, logabsdet = self.map_values(values, self._condition(fixed, context))
        return torch.cat([fixed, outputs], 1), sum_pixels(logabsdet)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo it: the first half came through unchanged."""
        fixed, values = self._split(inputs)
        outputs, logabsdet = self.unmap_values(values, self._condition(fixed, context))
        return torch.cat([fixed, outputs], 1), sum_pixels(logabsdet)

    def reconstruct(
        self, outputs: Tensor, context: Tensor | None = None
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Undo the coupling and apply it again to what comes out, with one call of the conditioner for both.

        Returns:
            Both halves of the inputs, as leaves of a graph, and at its end the outputs and ``logabsdet``.

        >>> import torch
        >>> coupling = AffineCoupling((4, 8, 8), hidden_channels=8)
        >>> outputs, _ = coupling(torch.randn(2, 4, 8, 8))
        >>> halves, (again, logabsdet) = coupling.reconstruct(outputs.detach())
        >>> bool(torch.allclose(again, outputs)), again.requires_grad, halves[0].is_leaf
        (True, True, True)
        """
        fixed, values = self._split(outputs.detach())
        fixed = fixed.requires_grad_()
        parameters = self._condition(fixed, context)
        with torch.no_grad():
            values = self.unmap_values(values, parameters)[0].detach()
        mapped, logabsdet = self.map_values(values.requires_grad_(), parameters)
        return (fixed, values), (torch.cat([fixed, mapped], 1), sum_pixels(logabsdet))

    def _split(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        check_channel_inputs(inputs, self.num_channels, self.num_axes)
        fixed, values = in_layer_dtype(inputs, parameter_dtype(self.net)).split(self.halves, 1)
        return fixed, values

    def _condition(self, fixed: Tensor, context: Tensor | None) -> Tensor:
        parameters = self.net(fixed, context)
        self._check_parameters(parameters, fixed)
        return parameters.to(fixed.dtype).unflatten(1, (self.num_parameters, self.halves[1]))

    def _check_parameters(self, parameters: object, fixed: Tensor) -> None:
        """ValueError for a net that returns anything but the parameters' shape."""
        channels = self.num_parameters * self.halves[1]
        if not isinstance(parameters, Tensor) or parameters.shape != (fixed.shape[0], channels, *fixed.shape[2:]):
            got = tuple(parameters.shape) if isinstance(parameters, Tensor) else type(parameters).__name__
            raise ValueError(
                f"net must return shape {(fixed.shape[0], channels, *fixed.shape[2:])} for inputs of shape "
                f"{tuple(fixed.shape)}, got {got} from {type(self.net).__name__}"
            )


class AffineCoupling(Coupling):
    r"""Affine coupling, :math:`y_2 = e^a \odot (x_2 + t)` with ``(t, r) = net(x1)`` and :math:`a = m \tanh(r / m)`.

    The log-scale is bounded by ``m = max_log_scale``, 4 by default, so no single layer can lose more than two digits,
    and starts at 0: with its zero-initialised net the layer starts as the identity. :math:`\log|\det J| = \sum a`.
    (Glow's :math:`\sigma(r + 2)` moves the scale eight times slower at the start; in short runs on CIFAR-10 it
    ended 0.1 bits/dim higher.)

    Args:
        shape, hidden_channels, net, context_features: as in :class:`Coupling`, with its shapes and errors.
        max_log_scale: ``m``, above 0. What is sampled far out is stretched by up to :math:`e^m` in each layer; a
            smaller one keeps the samples of deep flows on heavy-tailed data in bounds.

    Reference: Dinh, Sohl-Dickstein and Bengio, Real NVP, ICLR 2017; Kingma and Dhariwal, Glow, NeurIPS 2018,
    section 3.3 and its code.

    >>> import torch
    >>> outputs, logabsdet = AffineCoupling((12, 16, 16), hidden_channels=64)(torch.randn(4, 12, 16, 16))
    >>> outputs.shape, logabsdet.shape
    (torch.Size([4, 12, 16, 16]), torch.Size([4]))
    """

    num_parameters = 2

    def __init__(
        self,
        shape: Sequence[int],
        hidden_channels: int | None = None,
        *,
        net: Net | None = None,
        context_features: int | None = None,
        max_log_scale: float = MAX_LOG_SCALE,
    ) -> None:
        super().__init__(shape, hidden_channels, net=net, context_features=context_features)
        self.max_log_scale = check_positive_number("max_log_scale", max_log_scale)

    def map_values(self, values: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """``e^a (x + t)``."""
        return affine(values, parameters, self.max_log_scale)

    def unmap_values(self, values: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """``e^-a y - t``."""
        return unaffine(values, parameters, self.max_log_scale)


class AdditiveCoupling(Coupling):
    r"""Additive coupling, :math:`y_2 = x_2 + \text{net}(x_1)`: volume preserving, log-det 0.

    Args, shapes and errors as in :class:`Coupling`; inputs and outputs ``(B, c, h, w)``, ``logabsdet`` ``(B,)``.

    Reference: Dinh, Krueger and Bengio, NICE, ICLR workshop 2015.

    >>> import torch
    >>> AdditiveCoupling((12, 16, 16), hidden_channels=64)(torch.randn(4, 12, 16, 16))[1]
    tensor([0., 0., 0., 0.])
    """

    num_parameters = 1

    def map_values(self, values: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """``x + t``."""
        return values + parameters.squeeze(1), torch.zeros_like(values)

    def unmap_values(self, values: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """``y - t``."""
        return values - parameters.squeeze(1), torch.zeros_like(values)


def _conditioner(net: Net | None, hidden_channels: int | None, num_axes: int) -> Net:
    """The constructor of the net, from the one of both arguments that is given."""
    if net is not None and not callable(net):
        raise TypeError(f"net must be a constructor (in_channels, out_channels, context_features), got {net!r}")
    if net is not None and hidden_channels is None:
        return net
    if net is None and hidden_channels is not None:
        return partial(ConvNet, hidden_channels=hidden_channels, num_axes=num_axes)
    given = "neither" if net is None else "both"
    raise TypeError(f"hidden_channels must be given, or net in its place; got {given}")
