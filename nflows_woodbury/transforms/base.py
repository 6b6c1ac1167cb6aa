"""What linear layers share: autocast off around their arithmetic, and one log-det for the whole batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import isfinite
from typing import Any

from nflows.transforms.base import Transform
from torch import Tensor, nn
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks

from nflows_woodbury.linalg.factors import Factor, Matrices, Prepared, prepare, weighted_sum
from nflows_woodbury.linalg.modes import is_plain
from nflows_woodbury.linalg.precision import at_least_float32, full_precision, in_layer_dtype, parameter_dtype

__all__ = [
    "FactoredTransform",
    "LinearTransform",
    "SingularError",
    "is_watched",
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
        inputs = self.checked(inputs)
        with full_precision(inputs):
            outputs, logabsdet = self.map_forward(inputs)
        return outputs, _per_input(logabsdet, inputs)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map noise towards data; ``context`` is accepted and not used."""
        inputs = self.checked(inputs)
        with full_precision(inputs):
            outputs, logabsdet = self.map_inverse(inputs)
        self.check_regular(logabsdet)
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

    def factored(self) -> FactoredTransform | None:
        """The layer as one that names its matrices, or None: what :func:`nflows_woodbury.freeze` makes constant."""
        return None

    def check_regular(self, logabsdet: Tensor) -> None:
        """SingularError where the log-det of the inverse is not finite; on the CPU in plain eager calls."""
        if logabsdet.device.type == "cpu" and is_plain(logabsdet) and not isfinite(logabsdet.item()):
            raise SingularError(
                f"{type(self).__name__}({self.extra_repr()}) is singular, the log |det| of its inverse is "
                f"{logabsdet.item()}; nflows-woodbury diagnose says where in a model"
            )

    def checked(self, inputs: Tensor) -> Tensor:
        """The inputs that the layer takes, in the dtype of its parameters if it has any."""
        self.check_inputs(inputs)
        dtype = parameter_dtype(self)
        return inputs if dtype is None else in_layer_dtype(inputs, dtype)


class FactoredTransform(LinearTransform):
    r"""A linear map made of small matrices that it names, so that a chain prepares those of all its layers at once.

    .. math:: \log|\det J| = \sum_i m_i \log|\det A_i|

    A layer gives four methods, and its log-det follows from the first two:

    - ``factors()`` names its matrices, see :mod:`nflows_woodbury.linalg.factors`.
    - ``multiplicities(inputs)`` says how often each of them stands in the Jacobian, for such inputs.
    - ``map_by(inputs, *matrices)`` returns the outputs, given what each factor's kind makes of it.
    - ``unmap_by(inputs, *matrices)`` returns those of the inverse map, given what its kind makes of the inverse; where
      that is the same product, as it is by default, it need not be given.

    ``check_inputs`` and errors are those of :class:`LinearTransform`. A layer alone prepares its own factors.

    >>> import torch
    >>> from nflows_woodbury.linalg.factors import DENSE, Factor
    >>> class Mix(FactoredTransform):
    ...     def __init__(self, size):
    ...         super().__init__()
    ...         self.weight = torch.nn.Parameter(2 * torch.eye(size))
    ...     def check_inputs(self, inputs):
    ...         pass
    ...     def factors(self):
    ...         return [Factor(DENSE, (self.weight,))]
    ...     def multiplicities(self, inputs):
    ...         return [1]
    ...     def map_by(self, inputs, matrices):
    ...         return inputs @ matrices[0].mT
    >>> mix = Mix(3)
    >>> mix.inverse(mix(torch.ones(2, 3))[0])[0], mix(torch.ones(2, 3))[1].exp().round()
    (tensor([[1., 1., 1.],
            [1., 1., 1.]], grad_fn=<MmBackward0>), tensor([8., 8.], grad_fn=<RoundBackward0>))
    """

    def factored(self) -> FactoredTransform | None:
        """The layer itself."""
        return self

    @abstractmethod
    def factors(self) -> Sequence[Factor]:
        """The small matrices that the map is made of."""

    @abstractmethod
    def multiplicities(self, inputs: Tensor) -> Sequence[int]:
        """How often each factor stands in the Jacobian."""

    @abstractmethod
    def map_by(self, inputs: Tensor, *matrices: Matrices) -> Tensor:
        """The outputs, given what was made of each factor."""

    def unmap_by(self, inputs: Tensor, *matrices: Matrices) -> Tensor:
        """The outputs of the inverse map, given what was made of the inverse of each factor."""
        return self.map_by(inputs, *matrices)

    def map_forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The map by its own factors, and the sum of ``m log |det A|``."""
        prepared = prepare(self.factors())
        outputs = self.map_by(inputs, *(one.matrices for one in prepared))
        return outputs, weighted_sum(self.terms(inputs, prepared))

    def map_inverse(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse map by its own factors, and minus the sum of ``m log |det A|``."""
        prepared = prepare(self.factors(), inverse=True)
        outputs = self.unmap_by(inputs, *(one.matrices for one in prepared))
        return outputs, -weighted_sum(self.terms(inputs, prepared))

    def check_each_regular(self, prepared: Sequence[Prepared]) -> None:
        """:meth:`check_regular` of each factor."""
        for one in prepared:
            self.check_regular(-one.logabsdet)

    def terms(self, inputs: Tensor, prepared: Sequence[Prepared]) -> list[tuple[int, Tensor]]:
        """The pairs ``(m, log |det A|)``."""
        return [(m, of_map) for m, (_, of_map) in zip(self.multiplicities(inputs), prepared, strict=True)]


def is_watched(module: nn.Module) -> bool:
    """Whether somebody else is to see each call of a module: by a hook, or by a method put before its own.

    >>> import torch
    >>> layer = torch.nn.Linear(2, 2)
    >>> handle = layer.register_forward_hook(lambda module, inputs, outputs: None)
    >>> is_watched(layer), handle.remove(), is_watched(layer)
    (True, None, False)
    """
    own: dict[str, Any] = vars(module)
    before, after = module._forward_pre_hooks, module._forward_hooks
    backward = module._backward_hooks or module._backward_pre_hooks
    everywhere = _global_forward_hooks or _global_forward_pre_hooks
    return bool(before or after or backward or everywhere or "forward" in own or "inverse" in own)


def _per_input(logabsdet: Tensor, inputs: Tensor) -> Tensor:
    """A scalar as (B,), float32 or wider, with memory of its own for hosts that add in place."""
    return logabsdet.to(at_least_float32(inputs.dtype)).expand(inputs.shape[0]).clone()
