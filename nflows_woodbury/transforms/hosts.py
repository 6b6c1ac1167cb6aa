"""How we meet nflows' and normflows' own classes: what takes data to noise, samples of a base, constants put back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import log, pi, prod
from typing import TYPE_CHECKING, Any

import torch
from nflows.distributions.base import Distribution
from nflows.distributions.normal import ConditionalDiagonalNormal, DiagonalNormal, StandardNormal
from nflows.flows.base import Flow
from torch import Tensor, nn

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LoadableFlow", "draw", "to_noise"]

NORMALS = (StandardNormal, ConditionalDiagonalNormal, DiagonalNormal)


def to_noise(module: nn.Module) -> Callable[..., Any]:
    """What takes data to noise: calling a transform, but not every model, nor what wraps one.

    >>> from nflows.distributions import StandardNormal
    >>> base = StandardNormal((2,))
    >>> to_noise(base) == base.log_prob
    True
    """
    if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return to_noise(module.module)
    compiler: Any = sys.modules.get("torch._dynamo")  # of which the same holds as of normflows below
    if compiler is not None and isinstance(module, compiler.OptimizedModule):
        return to_noise(module._orig_mod)
    if isinstance(module, Distribution):
        return module.log_prob
    normflows: Any = sys.modules.get("normflows")  # whoever has one of its models has imported it
    if normflows is not None and isinstance(module, normflows.flows.Flow):
        return module.inverse
    if normflows is not None and isinstance(module, (normflows.NormalizingFlow, normflows.ClassCondFlow)):
        return module.log_prob
    return module


class LoadableFlow(Flow):
    """An nflows ``Flow`` that is right after ``to_empty`` and loading, and when it is loaded on the meta device.

    nflows' normal distributions hold a constant, ``log Z = D / 2 log(2 pi)``, as a buffer that no state dict has:
    ``to_empty`` loses its value, and on the meta device it has none. Loading puts it back. Of other such buffers
    nothing is known, so that losing them is a RuntimeError.

    >>> from nflows.distributions import StandardNormal
    >>> from nflows_woodbury import ActNorm
    >>> flow = LoadableFlow(ActNorm(2), StandardNormal((2, 1, 1)))
    >>> state = flow.state_dict()
    >>> _ = flow.to("meta").to_empty(device="cpu").load_state_dict(state)
    >>> round(flow._distribution._log_z.item(), 4)
    1.8379
    """

    def check_constants(self, *, on_meta: bool) -> None:
        """RuntimeError where a part holds a buffer that loading does not give back; ``on_meta``: only those on meta."""
        lost = [
            f"{prefix}.{name}".strip(".")
            for prefix, part in self.named_modules()
            for name, buffer in part.named_buffers(recurse=False)
            if name in part._non_persistent_buffers_set and buffer.numel() and (buffer.is_meta or not on_meta)
            if not isinstance(part, NORMALS)
        ]
        if lost:
            raise RuntimeError(
                f"no state dict gives back the buffers {', '.join(lost)}; build the flow on the device that it is for, "
                "or register them as persistent"
            )

    def to_empty(self, *, device: Any, recurse: bool = True) -> Self:
        """As of any module, to be loaded afterwards; RuntimeError where loading does not give back all."""
        self.check_constants(on_meta=False)
        super().to_empty(device=device, recurse=recurse)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(state_dict, *args, **kwargs)
        loaded = next((tensor.device for tensor in state_dict.values()), torch.device("cpu"))
        for part in self.modules():
            if isinstance(part, NORMALS):
                before = part._log_z
                device = loaded if before.is_meta else before.device
                part._log_z = torch.full((), prod(part._shape) / 2 * log(2 * pi), dtype=before.dtype, device=device)


def draw(
    base: Distribution, num_samples: int, context: Tensor | None, generator: torch.Generator | None = None
) -> Tensor:
    """Samples of a base, for each row of the context if there is one; NotImplementedError where it gives none.

    A ``generator`` gives what a global generator of its state would, and goes on from there; the global one is left as
    it was. TypeError or ValueError for one that is none, or of another device than the base.

    >>> from nflows.distributions import StandardNormal
    >>> draw(StandardNormal((2,)), 5, None).shape
    torch.Size([5, 2])
    """
    try:
        with _drawing_from(generator, _device(base, context)):
            samples: Tensor = base.sample(num_samples, context)
    except (NotImplementedError, AttributeError) as error:
        raise NotImplementedError(
            f"the base {type(base).__name__} cannot sample {'without' if context is None else 'with'} context; its "
            "log_prob works, and StandardNormal samples either way (the learned priors already give mean and scale)"
        ) from error
    return samples


def _device(base: nn.Module, context: Tensor | None) -> torch.device:
    """Where a base draws: nflows' do so where their context is, else where their constants and parameters are."""
    if context is not None:
        return context.device
    return next((tensor.device for tensor in (*base.buffers(), *base.parameters())), torch.device("cpu"))


@contextmanager
def _drawing_from(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """Put the generator's state into the global one of its device, as nflows' bases take no generator, and back."""
    if generator is None:
        yield
        return
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator or None, got {generator!r}")
    if generator.device.type not in ("cpu", "cuda") or generator.device.type != device.type:
        raise ValueError(
            f"generator must be of the device that the noise is drawn on, {device}, and that a CPU or a CUDA device, "
            f"got one of {generator.device}; torch.Generator(device) makes one, torch.manual_seed seeds all devices"
        )
    on_cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_cuda else []):
        if on_cuda:
            torch.cuda.set_rng_state(generator.get_state(), device)
        else:
            torch.set_rng_state(generator.get_state())
        try:
            yield
        finally:
            generator.set_state(torch.cuda.get_rng_state(device) if on_cuda else torch.get_rng_state())
