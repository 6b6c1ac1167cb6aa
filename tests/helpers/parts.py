"""The parts that flows are assembled of in the tests: every mixing, coupling and base, ours and nflows'."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from nflows import distributions, transforms
from nflows.nn.nets import ConvResidualNet
from registry import Case
from torch import Tensor, nn

from nflows_woodbury import (
    AffineCoupling,
    ImageFlow,
    WoodburyTransform,
    image_flow,
)
from nflows_woodbury.config import COUPLINGS, MIXINGS

SHAPE = (3, 8, 8)
GRID_SHAPE = (1, 12, 12)  # levels of 6 x 6 and 3 x 3 pixels: odd, and no smaller than a kernel
AFFINE = partial(AffineCoupling, hidden_channels=8)
WOODBURY = partial(WoodburyTransform, ranks=(3, 4))


def mask(channels: int) -> Tensor:
    return torch.arange(channels) % 2


def conv_net(inputs: int, outputs: int) -> nn.Module:
    return ConvResidualNet(inputs, outputs, hidden_channels=8, num_blocks=1)


NFLOWS_MIXINGS = {"nflows-conv1x1": lambda s: transforms.OneByOneConvolution(s[0])}
NFLOWS_COUPLINGS = {
    "nflows-affine": lambda s: transforms.AffineCouplingTransform(mask(s[0]), conv_net),
    "nflows-spline": lambda s: transforms.PiecewiseRationalQuadraticCouplingTransform(
        mask(s[0]), conv_net, num_bins=4, tails="linear", tail_bound=5.0
    ),
}
BASES: dict[str, Callable[[int], distributions.Distribution]] = {
    "standard-normal": lambda d: distributions.StandardNormal((d,)),
    "diagonal-normal": lambda d: distributions.DiagonalNormal((d,)),
    "made-mog": lambda d: distributions.MADEMoG(d, hidden_features=2 * d, context_features=None),
}
GRID_MIXINGS = {name: lambda s, name=name: Case(name, s, ranks=(3, 4)).make() for name in MIXINGS} | NFLOWS_MIXINGS
GRID_COUPLINGS = {name: lambda s, name=name: Case(name, s).make() for name in COUPLINGS} | NFLOWS_COUPLINGS


def random_images(count: int, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, *shape), dtype=torch.uint8, generator=generator)


def build(context: Tensor | None = None, shape: tuple[int, int, int] = SHAPE, **parts) -> ImageFlow:
    torch.manual_seed(0)
    flow = image_flow(shape, **{"levels": 2, "steps": 1, "mixing": WOODBURY, "coupling": AFFINE, **parts})
    flow.initialize(random_images(64, shape), context)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return flow.eval()
