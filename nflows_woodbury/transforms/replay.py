"""Running a module again as it ran before: what its results depend on beside its inputs, kept and put back.

Those are its parameters and buffers, which optimizers change and ``torch.func.functional_call`` swaps for the time of a
call; the training mode of its parts; autocast; and the random numbers that are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

__all__ = ["Conditions", "Generators"]


class _Slot(NamedTuple):
    """Where a module holds a tensor: in its table of parameters or of buffers, by a name."""

    module: nn.Module
    table: dict[str, Any]
    name: str
    is_statistic: bool  # a running statistic, which a batch norm updates as it runs but does not use in training

    def path(self, whole: nn.Module) -> str:
        """Its name in the state dict of a module."""
        return next(f"{prefix}.{self.name}" for prefix, part in whole.named_modules() if part is self.module)


class Conditions:
    """What the results of a module depend on beside its inputs: its tensors, the modes of its parts, and autocast.

    Args:
        whole: the module.
        device: where it runs.

    >>> import torch
    >>> layer, inputs = torch.nn.Linear(2, 2), torch.ones(1, 2)
    >>> conditions = Conditions(layer, inputs.device)
    >>> with torch.no_grad(), conditions.restored({id(layer.weight): torch.ones(2, 2), id(layer.bias): torch.ones(2)}):
    ...     layer(inputs)
    tensor([[3., 3.]])
    """

    def __init__(self, whole: nn.Module, device: torch.device) -> None:
        self._whole, self._modules = whole, list(whole.modules())
        self._slots = [
            _Slot(module, table, name, table is module._buffers and isinstance(module, _NormBase))
            for module in self._modules
            for table in (module._parameters, module._buffers)
            for name, tensor in table.items()
            if tensor is not None
        ]
        kinds = [kind for kind in {device.type, "cpu"} if torch.amp.is_autocast_available(kind)]
        self._autocast = [(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)) for kind in kinds]
        #: False for copies of nn.DataParallel, whose tensors come from parameters but are none
        self.has_parameters = any(slot.table is slot.module._parameters for slot in self._slots)
        self._note()

    def _note(self) -> None:
        #: of each slot, those that parts share more than once
        self.tensors: list[Tensor] = [slot.table[slot.name] for slot in self._slots]
        self._versions = [tensor._version for tensor in self.tensors]
        self._modes = [module.training for module in self._modules]

    def note_after_running(self) -> None:
        """Take what is now for what was then. RuntimeError where running it changed a buffer, and would do so again.

        Running statistics of batch norms may change, and what counts or switches, which is not floating.

        >>> import torch
        >>> layer = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(2, 2))
        >>> conditions, _ = Conditions(layer, torch.device("cpu")), layer(torch.ones(1, 2))
        >>> try:
        ...     conditions.note_after_running()
        ... except RuntimeError as error:
        ...     print(str(error).split(";")[0])
        parametrizations.weight.0._u of ParametrizedLinear changes as it runs, so that it runs otherwise again
        """
        for slot in self._changed():
            if slot.table is slot.module._buffers and slot.table[slot.name].is_floating_point():
                raise RuntimeError(
                    f"{slot.path(self._whole)} of {type(self._whole).__name__} changes as it runs, so that it runs "
                    "otherwise again; eval mode or a Chain helps"
                )
        self._note()

    def check_unchanged(self) -> None:
        """RuntimeError, in the words of autograd's own, where a tensor was written to since."""
        for slot in self._changed():
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an inplace operation: "
                f"{slot.path(self._whole)} of {type(self._whole).__name__}; take the step of an optimizer after all "
                "backward passes"
            )

    def _changed(self) -> list[_Slot]:
        noted = zip(self._slots, self.tensors, self._versions, strict=True)
        return [slot for slot, tensor, version in noted if tensor._version != version and not slot.is_statistic]

    @contextmanager
    def restored(self, copies: Mapping[int, Tensor]) -> Iterator[None]:
        """The modes and tensors of then, or copies by the tensors' ids; afterwards all is as it was before.

        Running statistics are always copied, so that running again does not move them.
        """
        now = [slot.table[slot.name] for slot in self._slots]
        switched = [part for part, mode in zip(self._modules, self._modes, strict=True) if part.training != mode]
        try:
            for slot, tensor in zip(self._slots, self.tensors, strict=True):
                slot.table[slot.name] = tensor.clone() if slot.is_statistic else copies.get(id(tensor), tensor)
            for part in switched:
                part.training = not part.training
            yield
        finally:
            for slot, tensor in zip(self._slots, now, strict=True):
                slot.table[slot.name] = tensor
            for part in switched:
                part.training = not part.training

    def autocast(self) -> ExitStack:
        """Autocast of then, of the device and of the CPU."""
        stack = ExitStack()
        for kind, dtype, enabled in self._autocast:
            stack.enter_context(torch.autocast(kind, dtype=dtype, enabled=enabled))
        return stack


class Generators:
    """torch's global generators of random numbers that code on a device draws from: the CPU's, and the device's.

    >>> import torch
    >>> generators = Generators(torch.device("cpu"))
    >>> states, first = generators.states(), torch.rand(3)
    >>> with generators.kept(states):
    ...     torch.equal(torch.rand(3), first)
    True
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def states(self) -> tuple[Tensor, ...]:
        """Their states; the host knows them, no device is asked."""
        if self._device.type in ("cpu", "meta"):
            return (torch.get_rng_state(),)
        return torch.get_rng_state(), getattr(torch, self._device.type).get_rng_state(*self._index)

    def set(self, states: tuple[Tensor, ...]) -> None:
        """Put them into states of before."""
        torch.set_rng_state(states[0])
        for state in states[1:]:
            getattr(torch, self._device.type).set_rng_state(state, *self._index)

    @contextmanager
    def kept(self, states: tuple[Tensor, ...] | None) -> Iterator[None]:
        """Draw from these states on, and afterwards from those of now; None changes nothing."""
        if states is None:
            yield
            return
        now = self.states()
        self.set(states)
        try:
            yield
        finally:
            self.set(now)

    @property
    def _index(self) -> tuple[torch.device, ...]:
        return () if self._device.type == "mps" else (self._device,)  # Apple's GPU is the only one
