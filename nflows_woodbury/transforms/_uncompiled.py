"""The pass of ``Reversible`` that no graph takes in; a module of its own, as ``disable`` loads the compiler."""

from __future__ import annotations

import torch

from nflows_woodbury.transforms.reversible import Reversible

__all__ = ["apply"]

#: what ``Reversible.forward`` does in compiled code
apply = torch.compiler.disable(Reversible.apply_in_order)
