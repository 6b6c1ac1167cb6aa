"""What every pure function on tensors must bear: derivatives of both modes and their mixtures, and vmap."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck


def check_all_derivatives(function: Callable[..., Tensor], arguments: Sequence[Tensor]) -> None:
    """First and second derivatives against finite differences, in reverse and forward mode and one over the other."""
    given = [tensor.detach().clone().requires_grad_() for tensor in arguments]
    assert gradcheck(function, given, check_forward_ad=True)
    assert gradgradcheck(function, given, check_fwd_over_rev=True)


def check_vmap(function: Callable[..., Tensor], arguments: Sequence[Tensor]) -> None:
    """A batch of arguments by vmap is each on its own, for all together and for each argument alone."""
    moved = [torch.stack([tensor, 1.1 * tensor, tensor + 0.05]) for tensor in arguments]
    alone = [function(*(many[i] for many in moved)) for i in range(3)]
    torch.testing.assert_close(torch.vmap(function)(*moved), torch.stack(alone))
    for k, many in enumerate(moved):
        dims = tuple(0 if j == k else None for j in range(len(moved)))
        given = [many if j == k else tensor for j, tensor in enumerate(arguments)]
        alone = [function(*(many[i] if j == k else tensor for j, tensor in enumerate(arguments))) for i in range(3)]
        torch.testing.assert_close(torch.vmap(function, dims)(*given), torch.stack(alone))
