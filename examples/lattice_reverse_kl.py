"""Reverse Kullback-Leibler on a phi^4 lattice: a flow learns the density exp(-S) from the action S alone, without data.

For each coupling kappa two flows of equal size are trained, one that mixes globally, one with 1x1 convolutions, and
judged by the effective sample size of their weights and the acceptance of a Metropolis chain that they propose to.
OUT gets both for each seed as lattice.json, and a picture of samples, a row for each flow.
"""

import argparse
from functools import partial
from itertools import product
from time import process_time

import torch

from nflows_woodbury import AffineCoupling, FieldFlow, InvertibleConv1x1, WoodburyTransform, field_flow
from nflows_woodbury.evaluation.colours import coloured
from nflows_woodbury.evaluation.pictures import image_grid, save_png
from nflows_woodbury.files import write_json

MIXINGS = {"woodbury": partial(WoodburyTransform, ranks=(4, 8)), "conv1x1": InvertibleConv1x1}


def action(field: torch.Tensor, kappa: float, lam: float) -> torch.Tensor:
    """``S = sum_x -2 kappa phi_x (phi_x+right + phi_x+down) + (1 - 2 lambda) phi_x^2 + lambda phi_x^4``, periodic."""
    neighbours = field.roll(-1, 2) + field.roll(-1, 3)
    return (-2 * kappa * field * neighbours + (1 - 2 * lam) * field**2 + lam * field**4).flatten(1).sum(1)


def build(mixing: str, side: int, steps: int, hidden_channels: int) -> FieldFlow:
    coupling = partial(AffineCoupling, hidden_channels=hidden_channels)
    return field_flow((1, side, side), levels=2, steps=steps, mixing=MIXINGS[mixing], coupling=coupling)


def size(flow: FieldFlow) -> int:
    return sum(map(torch.numel, flow.parameters()))


def train(flow: FieldFlow, args: argparse.Namespace, kappa: float) -> None:
    """Minimise ``E_q [log q(phi) + S(phi)]``, by the gradient through the samples."""
    flow.initialize(torch.randn(256, *flow.shape))
    optimizer = torch.optim.Adam(flow.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.iterations)
    for _ in range(args.iterations):
        field, log_prob = flow.rsample_and_log_prob(args.batch_size)
        loss = (log_prob + action(field, kappa, args.lam)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 10.0)
        optimizer.step(), schedule.step()


def effective_share(log_weights: torch.Tensor) -> float:
    """``(sum w)^2 / (N sum w^2)``: 1 for a perfect flow."""
    twice = 2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)
    return float(twice.exp()) / len(log_weights)


def acceptance(log_weights: torch.Tensor) -> float:
    """Of a Metropolis chain whose proposals are the samples, one after the other: accept with ``min(1, w' / w)``."""
    accepted, current = 0, log_weights[0]
    for proposed, threshold in zip(log_weights[1:], torch.rand(len(log_weights) - 1).log(), strict=True):
        if threshold < proposed - current:
            accepted, current = accepted + 1, proposed
    return accepted / (len(log_weights) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--side", type=int, default=8, help="of the lattice")
    parser.add_argument("--kappas", type=float, nargs="+", default=[0.2, 0.27], help="couplings of neighbours")
    parser.add_argument("--lam", type=float, default=0.022, help="of the fourth power")
    parser.add_argument("--steps", type=int, default=4, help="flow steps of each of the two levels")
    parser.add_argument("--hidden-channels", type=int, default=24)
    parser.add_argument("--iterations", type=int, default=1500)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--samples", type=int, default=10_000, help="for the figures")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", default="lattice", help="folder for lattice.json and samples.png")
    args = parser.parse_args()
    runs, pictures, target = [], [], size(build("woodbury", args.side, args.steps, args.hidden_channels))
    for seed, kappa, mixing in product(args.seeds, args.kappas, MIXINGS):
        torch.manual_seed(seed)
        hidden = args.hidden_channels
        while size(flow := build(mixing, args.side, args.steps, hidden)) < target:
            hidden += 1  # what 1x1 convolutions save goes into the couplings
        start = process_time()
        train(flow, args, kappa)
        run = dict(kappa=kappa, mixing=mixing, seed=seed, parameters=size(flow), cpu_seconds=process_time() - start)
        field, log_prob = flow.sample_and_log_prob(args.samples)
        log_weights = (-action(field, kappa, args.lam) - log_prob).detach().double()
        run |= {"effective_sample_size": effective_share(log_weights), "acceptance": acceptance(log_weights)}
        print(*(f"{n.replace('_', ' ')} {v:.3g}" if n != "mixing" else v for n, v in run.items()), sep="  ", flush=True)
        runs.append(run), pictures.append(coloured(field[:16].detach()))
        write_json(f"{args.out}/lattice.json", {"settings": vars(args) | {"torch": torch.__version__}, "runs": runs})
    print("samples:", save_png(image_grid(torch.cat(pictures), columns=16), f"{args.out}/samples.png", zoom=4))


if __name__ == "__main__":
    main()
