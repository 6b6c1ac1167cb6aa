"""Time the same Glow in this package, in nflows, normflows and torchflows: a training step, evaluation and sampling.

All have levels x steps of ActNorm, an invertible 1x1 convolution (LU) and an affine coupling with convolutions
3x3, 1x1, 3x3, factor out half of the channels after each level, and have a standard normal base without learned
priors. The parts are each library's own; where nflows has no such conditioner it takes plain torch layers. They run in
turn, in float32, on the same images; the table gives medians, and times as multiples of that of the faster one of
nflows and normflows.

torchflows is optional (``pip install torchflows``). What its own ``AffineGlow`` has does not fit: couplings in
checkerboards, networks that resize each half to 4 x 32 x 32 and end in one matrix, and 1x1 convolutions with a matrix
from such a network. So its parts are put together as above. They differ in this: its ActNorm has a scale and a shift
for each entry, set by the first batch and not trained; its 1x1 convolution has no permutation beside L and U; its
coupling has no bound on the log-scale, and splits by an index.

    python benchmarks/glow.py --threads 2 --rounds 30 --json glow.json
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from math import log, prod
from pathlib import Path
from typing import Any

import normflows
import torch
from mixing import in_turn, peak_memory, write_results
from nflows import distributions, flows, transforms
from torch import Tensor, nn

from nflows_woodbury import ActNorm, AffineCoupling, Chain, InvertibleConv1x1, Multiscale, Squeeze, WoodburyTransform

warnings.filterwarnings("ignore", category=FutureWarning)  # nflows: triangular_solve; normflows: torch.lu
Shape = tuple[int, int, int]


class Ours(nn.Module):
    """From the package's parts, without learned priors, as the hosts have none."""

    def __init__(self, shape: Shape, levels: int, steps: int, hidden: int, mixing: Callable[[Shape], Any]) -> None:
        super().__init__()
        parts, shapes = [], []
        c, h, w = shape
        for _ in range(levels):
            c, h, w = level = 4 * c, h // 2, w // 2
            chain = [Squeeze()]
            for _ in range(steps):
                chain += [ActNorm(c), mixing(level), AffineCoupling(level, hidden)]
            parts.append(Chain(chain))
            shapes.append(level)
            c //= 2
        self.flow = flows.Flow(Multiscale(parts, shapes), distributions.StandardNormal((prod(shape),)))

    def forward(self, images: Tensor) -> Tensor:
        return self.flow.log_prob(images)

    def sample(self, count: int) -> Tensor:
        return self.flow.sample(count)


class Net(nn.Sequential):
    """nflows passes a context, which may be None."""

    def __init__(self, ins: int, outs: int, hidden: int) -> None:
        last = nn.Conv2d(hidden, outs, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        super().__init__(nn.Conv2d(ins, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, hidden, 1), nn.ReLU(), last)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        return super().forward(inputs)


class Nflows(nn.Module):
    """With its own Squeeze, ActNorm, 1x1 convolution, coupling and multiscale architecture."""

    def __init__(self, shape: Shape, levels: int, steps: int, hidden: int) -> None:
        super().__init__()
        multiscale = transforms.MultiscaleCompositeTransform(levels)
        c, h, w = shape
        for _ in range(levels):
            c, h, w = 4 * c, h // 2, w // 2
            chain = [transforms.SqueezeTransform()]
            for _ in range(steps):
                mask, net = torch.arange(c) >= c // 2, partial(Net, hidden=hidden)
                chain += [transforms.ActNorm(c), transforms.OneByOneConvolution(c, identity_init=False)]
                chain += [transforms.AffineCouplingTransform(mask, net)]
            c = (multiscale.add_transform(transforms.CompositeTransform(chain), (c, h, w)) or (c,))[0]
        self.flow = flows.Flow(multiscale, distributions.StandardNormal((prod(shape),)))

    def forward(self, images: Tensor) -> Tensor:
        return self.flow.log_prob(images)

    def sample(self, count: int) -> Tensor:
        return self.flow.sample(count)


class Normflows(nn.Module):
    """With its own MultiscaleFlow, GlowBlock, Squeeze, Merge and base; lists run deepest level first."""

    def __init__(self, shape: Shape, levels: int, steps: int, hidden: int) -> None:
        super().__init__()
        bases, merges, blocks = [], [], []
        c, h, w = shape
        for level in range(levels):
            c, h, w = 4 * c, h // 2, w // 2
            glow = [normflows.flows.GlowBlock(c, hidden) for _ in range(steps)]
            blocks.insert(0, [*glow, normflows.flows.Squeeze()])
            last = level == levels - 1
            latents = (c, h, w) if last else (c // 2, h, w)
            bases.insert(0, normflows.distributions.DiagGaussian(latents, trainable=False))
            if not last:
                merges.insert(0, normflows.flows.Merge())
                c //= 2
        self.flow = normflows.MultiscaleFlow(bases, blocks, merges, class_cond=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.flow.log_prob(images, None)

    def sample(self, count: int) -> Tensor:
        return self.flow.sample(count)[0]


def torchflows_glow(shape: Shape, levels: int, steps: int, hidden: int) -> nn.Module:
    """With its own Squeeze, ActNorm, 1x1 convolution, coupling and base; what is put together as it does is here."""
    from torchflows import flows as host
    from torchflows.bijections.base import Bijection, BijectiveComposition
    from torchflows.bijections.finite.autoregressive import layers_base
    from torchflows.bijections.finite.autoregressive.conditioning.transforms import TensorConditionerTransform
    from torchflows.bijections.finite.autoregressive.layers import ActNorm as Normalization
    from torchflows.bijections.finite.autoregressive.transformers.linear.affine import Affine
    from torchflows.bijections.finite.autoregressive.transformers.linear.convolution import (
        Invertible1x1ConvolutionTransformer,
    )
    from torchflows.bijections.finite.multiscale.base import Squeeze as Squeezed
    from torchflows.bijections.finite.multiscale.coupling import ChannelWiseHalfSplit

    class Conditioner(TensorConditionerTransform):
        """The same network, whose outputs are a pair for each entry."""

        def __init__(self, input_event_shape: Shape, parameter_shape: tuple[int, ...], **kwargs: Any) -> None:
            super().__init__(input_event_shape, parameter_shape, **kwargs)
            self.network = Net(input_event_shape[0], 2 * parameter_shape[0], hidden)

        def predict_theta_flat(self, x: Tensor, context: Tensor | None = None) -> Tensor:
            return self.network(x).unflatten(1, (2, -1)).movedim(1, -1).flatten(1)

    class Level(Bijection):
        """Half of the channels go on to the next level, as in its MultiscaleBijection."""

        def __init__(self, event_shape: Shape, levels: int) -> None:
            super().__init__(event_shape)
            self.squeeze = Squeezed(event_shape)
            c, h, w = inner = tuple(self.squeeze.transformed_event_shape)
            layers = []
            for _ in range(steps):
                layers += [Normalization(inner)]
                layers += [layers_base.ElementwiseBijection(inner, Invertible1x1ConvolutionTransformer, fill_value=0.0)]
                layers += [layers_base.CouplingBijection(
                    inner, Affine, coupling=ChannelWiseHalfSplit(inner), conditioner_transform_class=Conditioner
                )]  # fmt: skip
            self.steps = BijectiveComposition(layers)
            self.rest = Level((c // 2, h, w), levels - 1) if levels > 1 else None

        def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            x, _ = self.squeeze.forward(x)
            x, log_det = self.steps.forward(x)
            if self.rest is not None:
                kept, rest = x.chunk(2, -3)
                rest, of_rest = self.rest.forward(rest)
                x, log_det = torch.cat([kept, rest], -3), log_det + of_rest
            return self.squeeze.inverse(x)[0], log_det

        def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            z, _ = self.squeeze.forward(z)
            log_det: Any = 0.0
            if self.rest is not None:
                kept, rest = z.chunk(2, -3)
                rest, log_det = self.rest.inverse(rest)
                z = torch.cat([kept, rest], -3)
            z, of_steps = self.steps.inverse(z)
            return self.squeeze.inverse(z)[0], log_det + of_steps

    class Torchflows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flow = host.Flow(Level(shape, levels))

        def forward(self, images: Tensor) -> Tensor:
            return self.flow.log_prob(images)

        def sample(self, count: int) -> Tensor:
            return self.flow.sample(count)

    return Torchflows()


def conv1x1(shape: Shape) -> InvertibleConv1x1:
    return InvertibleConv1x1(shape, "plu")


MODELS: dict[str, Callable[..., nn.Module]] = {
    "ours": partial(Ours, mixing=conv1x1),
    "nflows": Nflows,
    "normflows": Normflows,
    "torchflows": torchflows_glow,
    "ours, Woodbury": partial(Ours, mixing=partial(WoodburyTransform, ranks=(8, 16))),
}
OPTIONAL = ("torchflows",)


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor) -> None:
    optimizer.zero_grad()
    (-model(images).mean() / (images[0].numel() * log(2))).backward()
    optimizer.step()


def compare(
    run: int, models: dict[str, nn.Module], calls: dict[str, dict[str, Callable[[], Any]]], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """One run: every call of every model in turn."""
    rows = []
    for what, by_name in calls.items():
        for model in models.values():
            model.train(what == "training step")
        seconds = in_turn(by_name, rounds=options.rounds, device=options.device)
        best = min(seconds[name]["median"] for name in ("nflows", "normflows"))
        for name, times in seconds.items():
            row = {"run": run, "what": what, "model": name, **times, "ratio": times["median"] / best}
            row["images_per_second"] = options.batch_size / times["median"]
            row["parameters"] = sum(p.numel() for p in models[name].parameters())
            row["peak_bytes"] = peak_memory(by_name[name], options.device)
            rows.append(row)
            print(f"{run}  {what:14} {name:15} {1e3 * times['median']:8.1f} ms (quartiles {1e3 * times['low']:.1f} "
                  f"to {1e3 * times['high']:.1f})  {row['images_per_second']:7.1f} images/s  "
                  f"{row['ratio']:.2f} of the faster host", flush=True)  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32, help="side of the images (default: 32)")
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="per level (default: 4)")
    parser.add_argument("--hidden-channels", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=30, help="of each, in turn (default: 30)")
    parser.add_argument("--runs", type=int, default=3, help="the whole comparison as often (default: 3)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    shape = (3, options.size, options.size)
    images = torch.rand(options.batch_size, *shape, device=options.device) - 0.5
    calls: dict[str, dict[str, Callable[[], Any]]] = {"training step": {}, "evaluation": {}, "sampling": {}}
    models = {}
    missing = [name for name in OPTIONAL if find_spec(name) is None]
    for name in missing:
        print(f"{name} is not installed and left out; pip install {name} brings it")
    for name, make in MODELS.items():
        if name in missing:
            continue
        model = models[name] = make(shape, options.levels, options.steps, options.hidden_channels).to(options.device)
        optimizer = torch.optim.Adam(model.parameters(), 1e-4)
        for _ in range(3):  # the hosts' ActNorm starts from the first batch
            train_step(model, optimizer, images)
        calls["training step"][name] = partial(train_step, model, optimizer, images)
        calls["evaluation"][name] = torch.no_grad()(partial(model, images))
        calls["sampling"][name] = torch.no_grad()(partial(model.sample, options.batch_size))
    rows = [row for run in range(options.runs) for row in compare(run, models, calls, options)]
    write_results(options.json, options, rows)


if __name__ == "__main__":
    main()
