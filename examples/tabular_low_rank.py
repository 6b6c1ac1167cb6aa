"""An nflows model of long vectors, mixed by LowRankTransform, by nflows' LULinear or by permutations.

The vectors are grey patches of photographs, pixel by pixel; the model does not know that they are images.
"""

import argparse
import warnings
from math import log
from time import perf_counter

import torch
from nflows.distributions import StandardNormal
from nflows.flows import Flow
from nflows.nn.nets import ResidualNet
from nflows.transforms import ActNorm, AffineCouplingTransform, CompositeTransform, LULinear, RandomPermutation

from nflows_woodbury import LowRankTransform
from nflows_woodbury.data.opening import open_source
from nflows_woodbury.evaluation.pictures import image_grid, save_png

MIXINGS = {
    "permutation": RandomPermutation,
    "LULinear": LULinear,
    "low rank, 32": lambda size: LowRankTransform((size,), axes=(0,), rank=32),
    "low rank, 64": lambda size: LowRankTransform((size,), axes=(0,), rank=64),
}


def vectors(images: torch.Tensor) -> torch.Tensor:
    """Colour images, uint8 (N, 3, h, w), as grey values from 0 to 255, (N, h w)."""
    return images.float().mean(1).floor().flatten(1)


def build(mixing: str, size: int, steps: int, hidden_features: int) -> Flow:
    """ActNorm, mixing, coupling, and so on; the couplings change the even and the odd entries in turn."""
    layers = []
    for step in range(steps):
        mask = (torch.arange(size) + step) % 2
        coupling = AffineCouplingTransform(mask, lambda i, o: ResidualNet(i, o, hidden_features, num_blocks=1))
        layers += [ActNorm(size), MIXINGS[mixing](size), coupling]
    return Flow(CompositeTransform(layers), StandardNormal([size]))


def bits_per_dim(flow: Flow, values: torch.Tensor) -> torch.Tensor:
    noisy = (values + torch.rand_like(values)) / 256 - 0.5
    return 8 - flow.log_prob(noisy).mean() / (values.shape[1] * log(2))


def cost(layer: torch.nn.Module, size: int) -> tuple[int, float]:
    """Parameters, and seconds of the shortest of 20 training passes: forward, log-det and gradients of 128 vectors."""
    inputs, times = torch.randn(128, size, requires_grad=True), []
    for _ in range(20):
        start = perf_counter()
        outputs, logabsdet = layer(inputs)
        (outputs.sum() + logabsdet.sum()).backward()
        times.append(perf_counter() - start)
    return sum(parameter.numel() for parameter in layer.parameters()), min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--side", type=int, default=16, help="of a patch; a vector has side * side entries")
    parser.add_argument("--steps", type=int, default=4, help="flow steps")
    parser.add_argument("--hidden-features", type=int, default=128)
    parser.add_argument("--iterations", type=int, default=600)
    parser.add_argument("--sizes", type=int, nargs="*", default=[256, 512, 1024], help="at which layers are timed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="tabular_low_rank.png")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", "torch.triangular_solve")  # nflows' LULinear calls it
    source = open_source("photos", size=args.side)
    test = vectors(source.test.images)
    rows = [test[:16]]
    for mixing in MIXINGS:
        torch.manual_seed(args.seed)
        flow = build(mixing, args.side**2, args.steps, args.hidden_features)
        optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.iterations)
        for step in range(args.iterations):
            loss = bits_per_dim(flow, vectors(source.batch(step, 128, seed=args.seed).images))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(flow.parameters(), 10.0)
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            print(f"{mixing:12}  {bits_per_dim(flow.eval(), test):.2f} test bits/dim", flush=True)
            rows.append(((flow.sample(16) + 0.5) * 256).clamp(0, 255))
    patches = torch.cat(rows).byte().view(-1, 1, args.side, args.side)
    print("test patches, then samples of each:", save_png(image_grid(patches, columns=16), args.output, zoom=3))
    for size in args.sizes:
        for name in ("low rank, 32", "low rank, 64"):
            (lu, of_lu), (own, of_own) = (cost(MIXINGS[mixing](size), size) for mixing in ("LULinear", name))
            print(f"vectors of {size:4}  LULinear / {name}  {lu / own:5.1f} parameters  {of_lu / of_own:5.1f} time")


if __name__ == "__main__":
    main()
