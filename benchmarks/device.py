"""What a GPU makes of the package, part by part.

- correctness: log-dets of every mixing and coupling beside those of the CPU, in float64, in float32, and in float32
  with TF32, where they may differ by more. An exit status of 1 says that one of the first two differs by over 1e-5.
- copy: Woodbury forward at 64 x 96 x 64 x 64 against a plain copy of the tensor, eager and compiled.
- training: steps of the CIFAR-10 preset in images/s: eager in float32; compiled, and compiled with CUDA graphs, with
  bfloat16 in the networks; how often each hands work to the device; and what share its convolutions' multiplications
  have of the rate at which the card multiplies large bfloat16 matrices. With --authors DIRECTORY, a checkout of
  yolu1055/WoodburyTransformations on GitHub, beside the authors' own model at the same sizes and ranks, in float32.
- sampling: images of every mixing, against the 1x1 convolution.
- memory: the peak of a training step of each preset at its batch size, parameters and Adam's averages included.

    python benchmarks/device.py --out device                                          # on a GPU
    python benchmarks/device.py copy sampling --device cpu --small --out device       # a trial without one
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
from mixing import in_turn, peak_memory, versions
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from nflows_woodbury import ImageFlow, WoodburyTransform
from nflows_woodbury.config import COUPLINGS, LOW_RANK, MIXINGS, FlowConfig
from nflows_woodbury.files import write_json
from nflows_woodbury.train.presets import PRESETS, settings_of

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


# --- correctness


@torch.no_grad()
def largest_difference(mixing: str, coupling: str, dtype: torch.dtype, device: str) -> float:
    """Of the log-dets of a small flow, both ways, on the device and on the CPU, relative to their size."""
    torch.manual_seed(0)
    flow = FlowConfig((3, 16, 16), levels=2, steps=2, hidden_channels=32, mixing=mixing, coupling=coupling).build()
    for parameter in flow.parameters():  # off the start, where couplings do nothing
        parameter += 0.02 * torch.randn_like(parameter)
    flow.to(dtype)
    _, multiscale = flow._transform
    values = torch.rand(32, 3, 16, 16, dtype=dtype) - 0.5
    results = []
    for place in ("cpu", device):
        multiscale.to(place)
        noise, forward = multiscale(values.to(place))
        _, inverse = multiscale.inverse(noise)
        results.append(torch.cat([forward, inverse]).double().cpu())
    expected, got = results
    return float(((got - expected).abs() / expected.abs().clamp_min(1)).max())


PRECISIONS = {"float64": (torch.float64, False), "float32": (torch.float32, False), "TF32": (torch.float32, True)}


def correctness(options: argparse.Namespace) -> dict[str, Any]:
    pairs = [(mixing, "affine") for mixing in MIXINGS] + [("conv1x1", coupling) for coupling in COUPLINGS]
    rows = []
    for mixing, coupling in dict.fromkeys(pairs[-2:] if options.small else pairs):
        for name, (dtype, tf32) in PRECISIONS.items():
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
            difference = largest_difference(mixing, coupling, dtype, options.device)
            rows.append({"mixing": mixing, "coupling": coupling, "precision": name, "difference": difference})
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = True, False  # torch's own settings
    wrong = [row for row in rows if row["precision"] != "TF32" and not row["difference"] <= 1e-5]
    return {"rows": rows, "wrong": wrong}


# --- times


def without_graph(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    return torch.no_grad()(partial(function, *args))


def against_a_copy(options: argparse.Namespace) -> Seconds:
    size = (4, 96, 16, 16) if options.small else (64, 96, 64, 64)
    inputs = torch.randn(size, device=options.device)
    layer = WoodburyTransform(size[1:], ranks=(16, 16)).to(options.device)
    calls = {"copy": inputs.clone, "woodbury": without_graph(layer, inputs)}
    if options.compile:
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
    if options.compile:
        calls["ours, compiled, bf16"] = partial(step, torch.compile(ours), adam["ours"], images, torch.bfloat16)
        graphs = torch.compile(ours, mode="reduce-overhead")
        calls["ours, CUDA graphs, bf16"] = partial(step, graphs, adam["ours"], images, torch.bfloat16)
    failed = {}
    for name in list(calls):
        try:
            for _ in range(3):  # warm-up, recording, replay
                calls[name]()
        except RuntimeError as error:  # such as an operation that cannot be recorded: the others are measured
            failed[name] = str(error)
            del calls[name]
    seconds = in_turn(calls, seconds=options.seconds, device=options.device)
    rate = matrix_rate(options)
    work = 3 * multiplications(ours, images)  # the backward pass takes twice those of the forward pass
    return {
        "seconds": seconds,
        "images_per_second": {name: len(images) / times["median"] for name, times in seconds.items()},
        "share_of_matrix_rate": {name: work / times["median"] / rate for name, times in seconds.items()},
        "matrix_multiplications_per_second": rate,
        "launches": {name: launches(call, options.device) for name, call in calls.items()},
        "failed": failed,
    }


def launches(call: Callable[[], Any], device: str) -> int:
    """How often one call hands work to a GPU, or on a CPU how many operations it has."""
    activities = [ProfilerActivity.CPU] if device == "cpu" else [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with profile(activities=activities) as profiled:
        call()
    names = [event.name for event in profiled.events()]
    if device == "cpu":
        return sum(name.startswith("aten::") for name in names)
    return sum("Launch" in name for name in names)  # cudaLaunchKernel, cuLaunchKernelEx, cudaGraphLaunch


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


def memory(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for name in PRESETS[:1] if options.small else PRESETS:
        config, settings = settings_of(name)
        if options.small:
            config, settings = replace(config, steps=1, hidden_channels=16), replace(settings, batch_size=4)
        images = torch.randint(256, (settings.batch_size, *config.shape), dtype=torch.uint8, device=options.device)
        row: dict[str, Any] = {"preset": name, "batch_size": settings.batch_size}
        try:
            row["peak_bytes"] = peak_memory(partial(first_step, config, images), options.device)
        except torch.OutOfMemoryError as error:
            row["out_of_memory"] = str(error)
        rows.append(row)
    return rows


def first_step(config: FlowConfig, images: Tensor) -> None:
    flow = config.build().to(images.device)
    step(flow, torch.optim.Adam(flow.parameters()), images, None)


PARTS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "correctness": correctness,
    "copy": against_a_copy,
    "training": training,
    "sampling": sampling,
    "memory": memory,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave out what is compiled")
    parser.add_argument("--device", default="cuda", help="cuda or cpu (default: cuda)")
    parser.add_argument("--small", action="store_true", help="sizes for a trial")
    parser.add_argument("--authors", type=Path, help="checkout of the authors' repository")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each (default: 2)")
    parser.add_argument("--out", type=Path, default=Path("device"), help="folder for device.json")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"PART must be among {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
    results: dict[str, Any] = {"versions": versions()}
    for name in options.parts or PARTS:
        results[name] = PARTS[name](options)
        print(name, json.dumps(results[name], indent=2), flush=True)
        write_json(options.out / "device.json", results)
    return 1 if results.get("correctness", {}).get("wrong") else 0


if __name__ == "__main__":
    sys.exit(main())
