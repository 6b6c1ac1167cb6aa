"""What a GPU makes of the package: mixing against a copy, images/s of a preset, and sampling of every mixing.

1. Woodbury forward at 64 x 96 x 64 x 64 against a plain copy of the tensor, eager and compiled.
2. Training steps of the CIFAR-10 preset in images/s: eager in float32; compiled, and compiled with CUDA graphs, with
   bfloat16 in the networks; and what share its convolutions' multiplications have of the rate at which the card
   multiplies large bfloat16 matrices. With --authors DIRECTORY, a checkout of yolu1055/WoodburyTransformations on
   GitHub, beside the authors' own model at the same sizes and ranks, in float32 as there.
3. Sampling images with every mixing, against the 1x1 convolution.

    python benchmarks/device.py --out device                                   # on a GPU
    python benchmarks/device.py --device cpu --small --out device              # a trial without one
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from mixing import in_turn, versions
from torch import Tensor, nn

from nflows_woodbury import ImageFlow, WoodburyTransform
from nflows_woodbury.config import LOW_RANK, MIXINGS, FlowConfig
from nflows_woodbury.files import write_json
from nflows_woodbury.train.presets import settings_of

Seconds = dict[str, dict[str, float]]


class Authors(nn.Module):
    """The model of a checkout, ``WoodburyGlow``, from uint8 images to bits per dimension."""

    def __init__(self, checkout: Path, config: FlowConfig) -> None:
        super().__init__()
        sys.path.insert(0, str(checkout))
        from models import WoodburyGlow

        settings = argparse.Namespace(
            image_shape=config.shape, hidden_channels=config.hidden_channels, flow_depth=config.steps, is_me=False,
            num_levels=config.levels, ranks=[config.channel_ranks, config.pixel_ranks], learn_top=True, n_bits=8,
        )  # fmt: skip
        # Its factors V are drawn with standard deviations of the transposed shape, which torch refuses today.
        with patch("torch.normal", lambda mean, std: mean + std.view(mean.shape) * torch.randn_like(mean)):
            self.model = WoodburyGlow(settings)

    def forward(self, images: Tensor) -> Tensor:
        """Bits per dimension; the first batch starts its ActNorms."""
        dequantized = (images + torch.rand(images.shape, device=images.device)) / 256 - 0.5
        return self.model(x=dequantized)[1]


def without_graph(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    return torch.no_grad()(partial(function, *args))


def against_a_copy(options: argparse.Namespace) -> Seconds:
    size = (4, 96, 16, 16) if options.small else (64, 96, 64, 64)
    inputs = torch.randn(size, device=options.device)
    layer = WoodburyTransform(size[1:], ranks=(16, 16)).to(options.device)
    calls = {"copy": inputs.clone, "woodbury": without_graph(layer, inputs)}
    calls["woodbury, compiled"] = without_graph(torch.compile(layer, fullgraph=True), inputs)
    return in_turn(calls, seconds=options.seconds, device=options.device)


def matrix_rate(options: argparse.Namespace) -> float:
    """Multiplications with additions a second, of large bfloat16 matrices."""
    n = 256 if options.small else 8192
    a, b = (torch.randn(n, n, device=options.device, dtype=torch.bfloat16) for _ in range(2))
    return (
        n**3 / in_turn({"mm": partial(torch.mm, a, b)}, seconds=options.seconds, device=options.device)["mm"]["median"]
    )


def multiplications(flow: ImageFlow, images: Tensor) -> int:
    """Of all convolutions, in one pass forward."""
    counted = []

    def count(conv: nn.Conv2d, _: Any, outputs: Tensor) -> None:
        counted.append(outputs.numel() * conv.weight[0].numel())

    handles = [m.register_forward_hook(count) for m in flow.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        flow(images)
    for handle in handles:
        handle.remove()
    return sum(counted)


def step(flow: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, dtype: torch.dtype | None) -> None:
    optimizer.zero_grad()
    with torch.autocast(images.device.type, dtype=dtype, enabled=dtype is not None):
        loss = flow(images).mean()
    loss.backward()
    optimizer.step()


def training(options: argparse.Namespace) -> dict[str, Any]:
    config, settings = settings_of("cifar10-woodbury")
    if options.small:
        config, settings = replace(config, steps=1, hidden_channels=16), replace(settings, batch_size=4)
    images = torch.randint(256, (settings.batch_size, *config.shape), dtype=torch.uint8, device=options.device)
    ours = config.build().to(options.device)
    ours.initialize(images)
    flows: dict[str, nn.Module] = {"ours": ours}
    if options.authors:
        flows["authors"] = Authors(options.authors, config).to(options.device)
        flows["authors"](images)
    adam = {name: torch.optim.Adam(flow.parameters()) for name, flow in flows.items()}
    calls = {name: partial(step, flow, adam[name], images, None) for name, flow in flows.items()}
    calls["ours, compiled, bf16"] = partial(step, torch.compile(ours), adam["ours"], images, torch.bfloat16)
    graphs = "ours, CUDA graphs, bf16"
    calls[graphs] = partial(step, torch.compile(ours, mode="reduce-overhead"), adam["ours"], images, torch.bfloat16)
    failed = None
    try:
        for _ in range(3):  # warm-up, recording, replay
            calls[graphs]()
    except RuntimeError as error:  # an operation that cannot be recorded: the others are measured all the same
        failed = str(error)
        del calls[graphs]
    seconds = in_turn(calls, seconds=options.seconds, device=options.device)
    rate = matrix_rate(options)
    work = 3 * multiplications(ours, images)  # the backward pass takes twice those of the forward pass
    return {
        "seconds": seconds,
        "images_per_second": {name: len(images) / times["median"] for name, times in seconds.items()},
        "share_of_matrix_rate": {name: work / times["median"] / rate for name, times in seconds.items()},
        "matrix_multiplications_per_second": rate,
        "why_no_cuda_graphs": failed,
    }


def sampling(options: argparse.Namespace) -> Seconds:
    config, _ = settings_of("cifar10-woodbury")
    if options.small:
        config = replace(config, steps=1, hidden_channels=16)
    calls = {}
    for mixing in MIXINGS:
        ranks = {} if mixing in LOW_RANK else {"channel_ranks": None, "pixel_ranks": None}
        flow = replace(config, mixing=mixing, **ranks).build().to(options.device).eval()
        calls[mixing] = without_graph(flow.sample, 4 if options.small else 1000)
    return in_turn(calls, rounds=3, seconds=options.seconds, device=options.device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda or cpu (default: cuda)")
    parser.add_argument("--small", action="store_true", help="sizes for a trial")
    parser.add_argument("--authors", type=Path, help="checkout of the authors' repository")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each (default: 2)")
    parser.add_argument("--out", type=Path, default=Path("device"), help="folder for device.json")
    options = parser.parse_args()
    results: dict[str, Any] = {"versions": versions()}
    for name, part in {"against a copy": against_a_copy, "training": training, "sampling": sampling}.items():
        results[name] = part(options)
        print(name, json.dumps(results[name], indent=2), flush=True)
        write_json(options.out / "device.json", results)


if __name__ == "__main__":
    main()
