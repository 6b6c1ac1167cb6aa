"""What torch is doing around a call: compiling or tracing it, or differentiating it in another way than backwards.

Fast code of this package writes in place, looks at values, or has an autograd function of its own. All of that is for
eager calls that are differentiated backwards, if at all. Everywhere else the same maps are plain operations, whose
derivatives of every kind and order, batched and traced, are torch's own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor
from torch.autograd.forward_ad import unpack_dual

__all__ = ["is_plain", "is_traced", "is_transformed"]


def is_plain(*tensors: Tensor | None) -> bool:
    """Whether this is an eager call that is differentiated backwards, if at all.

    >>> import torch
    >>> is_plain(torch.ones(3)), torch.vmap(lambda x: x * is_plain(x))(torch.ones(3))
    (True, tensor([0., 0., 0.]))
    """
    return not is_traced() and not is_transformed(*tensors)


def is_traced() -> bool:
    """Whether ``torch.compile``, ``torch.export`` or ``torch.jit.trace`` records this call.

    >>> is_traced()
    False
    """
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]


def is_transformed(*tensors: Tensor | None) -> bool:
    """Whether ``torch.func`` transforms this call, or one of ``tensors`` has a forward-mode tangent or stands for many.

    ``torch.autograd.grad(..., is_grads_batched=True)`` passes such gradients. False while compiling: a compiler
    transforms what it has recorded.

    >>> import torch
    >>> torch.func.jvp(lambda x: x * is_transformed(x), (torch.ones(3),), (torch.ones(3),))[0]
    tensor([1., 1., 1.])
    """
    if torch.compiler.is_compiling():
        return False
    if torch._C._are_functorch_transforms_active():  # torch.autograd.Function asks the same: there is no public name
        return True
    given = [tensor for tensor in tensors if tensor is not None]
    return any(is_legacy_batchedtensor(tensor) or unpack_dual(tensor).tangent is not None for tensor in given)
