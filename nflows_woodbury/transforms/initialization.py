"""Layers that start from data, and the call that starts all of those in a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn

from nflows_woodbury.transforms.hosts import to_noise

__all__ = ["DataInitialized", "initialize"]


class DataInitialized(Transform, ABC):
    """A transform that starts from data; :func:`initialize` finds it by this class.

    A layer of your own that starts from data is a subclass with these methods, beside ``forward`` and ``inverse``:

    * ``initialize(inputs)`` sets the parameters from the first batch that ``forward`` is about to get.
    * ``initialize_inverse(inputs)`` sets them from a batch that ``inverse`` is about to get, as for a layer within
      nflows' ``InverseTransform``. A layer that cannot do so leaves it out, and is refused there.

    >>> import torch
    >>> class Center(DataInitialized):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.mean = torch.nn.Parameter(torch.zeros(()))
    ...     def forward(self, inputs, context=None):
    ...         return inputs - self.mean, torch.zeros(inputs.shape[0])
    ...     def inverse(self, inputs, context=None):
    ...         return inputs + self.mean, torch.zeros(inputs.shape[0])
    ...     def initialize(self, inputs):
    ...         self.mean.copy_(inputs.mean())
    >>> layer = Center()
    >>> initialize(layer, torch.tensor([[3.0], [5.0]]))
    >>> layer.mean.item()
    4.0
    """

    @abstractmethod
    def initialize(self, inputs: Tensor) -> None:
        """Set the parameters from what ``forward`` is about to get."""

    def initialize_inverse(self, inputs: Tensor) -> None:
        """Set the parameters from what ``inverse`` is about to get."""
        raise TypeError(f"{type(self).__name__} starts from what its forward gets, but data reach it by its inverse")


@torch.no_grad()
def initialize(module: nn.Module, inputs: Tensor, context: Tensor | None = None) -> None:
    """Start every layer of ``module`` that starts from data (:class:`DataInitialized`), on the data that reach it.

    Takes ``inputs`` from data to noise once. On their way each such layer (our :class:`ActNorm`) sets its parameters
    before it is first applied. Call it once, before training and before wrapping the module for several devices, with
    the same batch on every rank.

    Args:
        module: a transform, a model of nflows or of normflows, or any module that takes data when it is called.
        inputs: a batch of data.
        context: for a conditional model, such as its class numbers; else None.

    Raises:
        ValueError: if such a layer of the module was not reached; the error names all of those.
        TypeError: if data reach a layer by its inverse that starts only from what its forward gets.

    >>> import torch
    >>> from nflows.transforms import CompositeTransform
    >>> from nflows_woodbury.transforms import ActNorm, Squeeze
    >>> transform = CompositeTransform([Squeeze(), ActNorm(12)])
    >>> initialize(transform, 5 + 2 * torch.randn(64, 3, 8, 8))
    >>> bool(transform(5 + 2 * torch.randn(64, 3, 8, 8))[0].mean().abs() < 0.1)
    True
    """
    waiting = {layer: name for name, layer in module.named_modules() if isinstance(layer, DataInitialized)}
    methods = [_Starting(layer, waiting) for layer in waiting]
    try:
        to_noise(module)(*(inputs,) if context is None else (inputs, context))
    finally:
        for method in methods:
            method.remove()
    if waiting:
        names = ", ".join(f"{name or 'itself'} ({type(layer).__name__})" for layer, name in waiting.items())
        raise ValueError(
            f"module must reach all of its layers that start from data on the way from data to noise; "
            f"{type(module).__name__} did not reach {names}"
        )


class _Starting:
    """Stands before both methods of a layer: whichever is called first starts the layer from its inputs."""

    def __init__(self, layer: DataInitialized, waiting: dict[DataInitialized, str]) -> None:
        self.layer, self.waiting = layer, waiting
        self.before: dict[str, Any] = {
            name: layer.__dict__[name] for name in ("forward", "inverse") if name in layer.__dict__
        }
        forward, inverse = layer.forward, layer.inverse
        # Attributes, as hooks know only of calls: the hosts' containers call the method inverse itself.
        layer.__dict__["forward"] = lambda inputs, *rest, **named: forward(self.start(inputs), *rest, **named)
        layer.__dict__["inverse"] = lambda inputs, *rest, **named: inverse(self.start_inverse(inputs), *rest, **named)

    def start(self, inputs: Tensor) -> Tensor:
        if self.waiting.pop(self.layer, None) is not None:
            self.layer.initialize(inputs)
        return inputs

    def start_inverse(self, inputs: Tensor) -> Tensor:
        if self.waiting.pop(self.layer, None) is not None:
            self.layer.initialize_inverse(inputs)
        return inputs

    def remove(self) -> None:
        """Leave the layer with the methods that it had."""
        for name in ("forward", "inverse"):
            del self.layer.__dict__[name]
        self.layer.__dict__.update(self.before)
