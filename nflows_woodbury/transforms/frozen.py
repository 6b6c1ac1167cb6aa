"""Copies of models for evaluation, whose linear layers hold what they multiply by as constants."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from nflows_woodbury.linalg.factors import Factor, Kind, Matrices, Prepared, prepare
from nflows_woodbury.linalg.precision import in_layer_dtype
from nflows_woodbury.transforms.base import FactoredTransform, LinearTransform

__all__ = ["Frozen", "freeze"]


def freeze(module: nn.Module) -> Any:
    """A copy for evaluation: no parameters, and what linear layers compute of theirs once and for all.

    A linear layer multiplies by small matrices, and its log-det is a sum over their determinants. The copy has the
    matrices, their inverses and the log-dets as buffers, where the layer factorises and inverts in every call. Whatever
    else has parameters has them as buffers. So the copy gives what the model gives in eval mode, in both directions,
    with less work; gradients reach its inputs. ``torch.export`` takes it, and ONNX, which has neither determinants nor
    solutions of linear systems.

    It is not for training: an optimizer finds no parameters. Nor does it take the model's state dict: freeze the model
    again. A frozen copy's own state dict goes into another frozen copy of the same model.

    Args:
        module: a layer, a flow or any module that holds some; it stays as it is.

    Raises:
        TypeError: for what is no module.

    >>> import torch
    >>> from nflows_woodbury import WoodburyTransform, freeze
    >>> layer, images = WoodburyTransform((4, 6, 6), ranks=(2, 3)), torch.randn(5, 4, 6, 6)
    >>> frozen = freeze(layer)
    >>> torch.equal(frozen(images)[0], layer(images)[0]), list(frozen.parameters())
    (True, [])
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    with torch.no_grad():
        frozen = _frozen(deepcopy(module), {}).eval()
    constants: dict[nn.Parameter, Tensor] = {}
    for part in frozen.modules():
        for name, parameter in list(part._parameters.items()):
            del part._parameters[name]
            constant = None if parameter is None else constants.setdefault(parameter, parameter.detach())
            part.register_buffer(name, constant)
    return frozen


class Frozen(FactoredTransform):
    """A layer with the matrices of its map and of its inverse map, and their log-dets, as buffers.

    Args:
        layer: names its matrices; those tensors are taken out of it.

    >>> import torch
    >>> from nflows_woodbury import InvertibleConv1x1
    >>> frozen = Frozen(InvertibleConv1x1((4, 6, 6), parametrization="plu"))
    >>> sorted(frozen.state_dict())
    ['inverse_0_0', 'logabsdets', 'map_0_0']
    """

    logabsdets: Tensor

    def __init__(self, layer: FactoredTransform) -> None:
        super().__init__()
        factors = layer.factors()
        named = [tensor for factor in factors for tensor in factor.tensors]
        self._maps = self._hold("map", prepare(factors))
        self._inverses = self._hold("inverse", prepare(factors, inverse=True))
        logabsdets = torch.stack([one.logabsdet for one in prepare(factors)])
        self.register_buffer("logabsdets", logabsdets.detach().to(self.get_buffer("map_0_0").dtype))
        self.layer = deepcopy(layer, dict.fromkeys(map(id, named)))  # with None for the tensors

    def extra_repr(self) -> str:
        """Show the layer's name in ``print``."""
        return type(self.layer).__name__

    def check_inputs(self, inputs: Tensor) -> None:
        """Refuse what the layer refuses."""
        self.layer.check_inputs(inputs)

    def checked(self, inputs: Tensor) -> Tensor:
        """The inputs that the layer takes, in the dtype of its constants."""
        self.check_inputs(inputs)
        return in_layer_dtype(inputs, self.logabsdets.dtype)

    def factored(self) -> None:
        """Nothing is left to be made constant."""
        return None

    def factors(self) -> list[Factor]:
        """The layer's factors, of which everything is at hand."""
        held = zip(self._held(self._maps), self._held(self._inverses), self.logabsdets.unbind(), strict=True)
        return [Factor(_at_hand(len(maps)), (*maps, *inverses, logabsdet)) for maps, inverses, logabsdet in held]

    def multiplicities(self, inputs: Tensor) -> Sequence[int]:
        """Those of the layer."""
        return self.layer.multiplicities(inputs)

    def map_by(self, inputs: Tensor, *matrices: Matrices) -> Tensor:
        """The layer's map."""
        return self.layer.map_by(inputs, *matrices)

    def unmap_by(self, inputs: Tensor, *matrices: Matrices) -> Tensor:
        """The layer's inverse map."""
        return self.layer.unmap_by(inputs, *matrices)

    def _hold(self, way: str, prepared: Sequence[Prepared]) -> list[list[str]]:
        """Register the matrices of each factor, and return their names."""
        names = [[f"{way}_{i}_{j}" for j in range(len(one.matrices))] for i, one in enumerate(prepared)]
        for of_factor, one in zip(names, prepared, strict=True):
            for name, matrix in zip(of_factor, one.matrices, strict=True):
                self.register_buffer(name, matrix.detach().clone())
        return names

    def _held(self, names: list[list[str]]) -> list[Matrices]:
        return [tuple(self._buffers[name] for name in of_factor) for of_factor in names]

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, metadata: Any, strict: bool, *lists: list[str]
    ) -> None:
        *_, errors = lists
        if f"{prefix}logabsdets" not in state_dict:
            errors.append(
                f"{prefix.strip('.') or 'this'} is a layer of a frozen copy, and holds other tensors than the model; "
                "load the model's state dict into the model, and freeze it again"
            )
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, *lists)


def _at_hand(count: int) -> Kind:
    """Of ``count`` matrices of the map, those of the inverse, and the log-det; a kind of its own, never stacked."""
    return Kind(
        lambda stacks: [(tensors[:count], tensors[-1]) for tensors in stacks],
        lambda stacks: [(tensors[count:-1], tensors[-1]) for tensors in stacks],
    )


def _frozen(module: nn.Module, done: dict[nn.Module, nn.Module]) -> Any:
    """The module with its linear layers frozen; one that comes twice is the same twice."""
    if module not in done and isinstance(module, LinearTransform):
        factored = module.factored()
        done[module] = module if factored is None else Frozen(factored)
    elif module not in done:
        done[module] = module
        for name, child in module._modules.items():
            module._modules[name] = None if child is None else _frozen(child, done)
    return done[module]
