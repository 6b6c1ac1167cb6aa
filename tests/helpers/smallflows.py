"""Small flows and images for the tests of evaluation: any, and one whose probabilities are known."""

from __future__ import annotations

import torch
from nflows.distributions import StandardNormal

from nflows_woodbury import ActNorm, Chain, ImageFlow, Multiscale, Squeeze, UniformDequantize, VariationalDequantize
from nflows_woodbury.config import FlowConfig

FLOW = FlowConfig(shape=(3, 16, 16), levels=2, steps=1, hidden_channels=8)
DEQUANTIZERS = ["uniform", "variational"]


def random_flow(dequantize: str = "uniform", classes: int = 0) -> ImageFlow:
    """A float64 flow of 1 x 4 x 4 images, away from its start."""
    torch.manual_seed(3)
    config = FlowConfig((1, 4, 4), levels=1, steps=1, hidden_channels=4, dequantize=dequantize, num_classes=classes)
    flow = config.build().double()
    return disturbed(flow)


def disturbed(flow: torch.nn.Module, size: float = 0.1) -> torch.nn.Module:
    for parameter in flow.parameters():
        parameter.data += size * torch.randn_like(parameter)
    return flow


def random_images(count: int, shape: tuple[int, int, int] = (1, 4, 4), seed: int = 0, high: int = 256) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(high, (count, *shape), dtype=torch.uint8, generator=generator)


SCALES, BIASES = torch.tensor([5.0, 4.0, 3.0, 6.0]), torch.tensor([0.1, -0.2, 0.3, 0.0])


def normal_flow(dequantize: str, bits: int = 1) -> ImageFlow:
    """Images of 4 pixels, whose noise is ``z = scale (y + bias)``, pixel by pixel."""
    torch.manual_seed(0)
    norm = ActNorm(4)
    norm.log_scale.data, norm.bias.data = SCALES.log(), BIASES.clone()
    first = (
        UniformDequantize(bits)
        if dequantize == "uniform"
        else VariationalDequantize((1, 2, 2), bits, hidden_channels=4)
    )
    chain = Chain([disturbed(first, 0.05), Multiscale([Chain([Squeeze(), norm])], shapes=[(4, 1, 1)])])
    return ImageFlow(chain, StandardNormal((4,)), shape=(1, 2, 2)).double()


def every_binary_image() -> tuple[torch.Tensor, torch.Tensor]:
    """The 16 images uint8 (16, 1, 2, 2) of two values, and their probabilities under ``normal_flow``, (16,)."""
    images = 128 * torch.cartesian_prod(*[torch.arange(2)] * 4).to(torch.uint8).view(16, 1, 2, 2)
    lower = (images.flatten(1).double() / 128) / 2 - 0.5
    cdf = torch.special.ndtr
    bins = cdf(SCALES * (lower + 0.5 + BIASES)) - cdf(SCALES * (lower + BIASES))
    return images, bins.prod(1)
