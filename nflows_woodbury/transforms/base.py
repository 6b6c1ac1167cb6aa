"""What linear layers share: autocast off around their arithmetic, and one log-det for the whole batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import isfinite

import torch
from nflows.transforms.base import Transform
from torch import Tensor

from nflows_woodbury.linalg.modes import is_plain
from nflows_woodbury.linalg.precision import full_precision, in_layer_dtype, parameter_dtype

__all__ = [
    "LinearTransform",
    "SingularError",
]


class SingularError(ArithmeticError):
    """A layer's map has no inverse.

    >>> import torch
    >>> from nflows_woodbury import InvertibleConv1x1
    >>> layer = InvertibleConv1x1((2, 4, 4))
    >>> _ = torch.nn.init.zeros_(layer.matrix.weight)
    >>> try:
    ...     layer.inverse(torch.randn(5, 2, 4, 4))
    ... except SingularError as error:
    ...     print(str(error).split(",")[0])
    InvertibleConv1x1() is singular
    """


class LinearTransform(Transform, ABC):
    """A linear map, or an affine one, whose log-det does not depend on its inputs.

    A layer gives three methods:

    - ``check_inputs(inputs)`` raises a ValueError or TypeError for inputs that the layer cannot take.
    - ``map_forward(inputs)`` returns the outputs, and ``log |det|`` of the map for one input, a scalar.
    - ``map_inverse(inputs)`` returns the same two of the inverse map.

    The class does the rest: it keeps autocast away from them, sees to the dtype, and gives the log-det its shape
    ``(B,)``. A layer whose inverse solves linear systems may name their matrices in :meth:`solved_matrices`, so that
    ``nflows-woodbury diagnose`` knows their condition.

    Raises:
        SingularError: from ``inverse`` of a singular map, on the CPU in plain eager calls. Elsewhere a check would
            stall the device, or cannot be made: there the log-det is infinite.

    >>> import torch
    >>> class Scale(LinearTransform):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.log_scale = torch.nn.Parameter(torch.ones(()))
    ...     def check_inputs(self, inputs):
    ...         pass
    ...     def map_forward(self, inputs):
    ...         return self.log_scale.exp() * inputs, inputs.shape[1:].numel() * self.log_scale
    ...     def map_inverse(self, inputs):
    ...         return (-self.log_scale).exp() * inputs, -inputs.shape[1:].numel() * self.log_scale
    >>> Scale()(torch.zeros(2, 3, 4))[1].tolist()
    [12.0, 12.0]
    """

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map data towards noise; ``context`` is accepted and not used."""
        inputs = self._checked(inputs)
        with full_precision(inputs):
            outputs, logabsdet = self.map_forward(inputs)
        return outputs, _per_input(logabsdet, inputs)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map noise towards data; ``context`` is accepted and not used."""
        inputs = self._checked(inputs)
        with full_precision(inputs):
            outputs, logabsdet = self.map_inverse(inputs)
        if inputs.device.type == "cpu" and is_plain(logabsdet) and not isfinite(logabsdet.item()):
            raise SingularError(
                f"{type(self).__name__}({self.extra_repr()}) is singular, the log |det| of its inverse is "
                f"{logabsdet.item()}; nflows-woodbury diagnose says where in a model"
            )
        return outputs, _per_input(logabsdet, inputs)

    @abstractmethod
    def check_inputs(self, inputs: Tensor) -> None:
        """Raise a ValueError or TypeError for inputs that the layer cannot take."""

    @abstractmethod
    def map_forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs, and ``log |det|`` of the map for one input, a scalar."""

    @abstractmethod
    def map_inverse(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs of the inverse map, and its ``log |det|`` for one input, a scalar."""

    def solved_matrices(self, inputs: Tensor) -> Tensor | None:
        """The matrices ``(..., k, k)`` of the systems that the inverse solves for such inputs, or None."""
        return None

    def _checked(self, inputs: Tensor) -> Tensor:
        """The inputs that the layer takes, in the dtype of its parameters if it has any."""
        self.check_inputs(inputs)
        dtype = parameter_dtype(self)
        return inputs if dtype is None else in_layer_dtype(inputs, dtype)


def _per_input(logabsdet: Tensor, inputs: Tensor) -> Tensor:
    """A scalar as (B,), float32 or wider, with memory of its own for hosts that add in place."""
    return logabsdet.to(torch.promote_types(inputs.dtype, torch.float32)).expand(inputs.shape[0]).clone()
