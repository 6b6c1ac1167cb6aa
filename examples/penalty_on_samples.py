"""A law that data obey is held up to samples, too: the likelihood of few fields, and a penalty on what the flow draws.

The fields are smooth, and each has a mean near zero, as where a quantity is conserved. A flow that learns from few of
them spreads the means of its samples. ``rsample`` has a gradient, so the penalty teaches the flow itself.
"""

import argparse
from functools import partial

import torch

from nflows_woodbury import AffineCoupling, FieldFlow, Standardize, WoodburyTransform, field_flow
from nflows_woodbury.evaluation.colours import coloured
from nflows_woodbury.evaluation.pictures import image_grid, save_png


def smooth_fields(count: int, side: int, spread: float, seed: int) -> torch.Tensor:
    """Periodic Gaussian fields ``(count, 1, side, side)`` of deviation 1, whose means have the deviation ``spread``."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, 1, side, side, generator=generator)
    frequency = torch.fft.fftfreq(side).abs() * side
    weight = 1 / (1 + frequency[:, None] ** 2 + frequency[None] ** 2)
    fields = torch.fft.ifft2(torch.fft.fft2(noise) * weight).real
    fields = (fields - fields.mean((2, 3), keepdim=True)) / fields.std()
    return fields + spread * torch.randn(count, 1, 1, 1, generator=generator)


def train(fields: torch.Tensor, weight: float, args: argparse.Namespace) -> FieldFlow:
    """Minimise ``E[-log p(x)] / D + weight * E[mean(sample)^2] / spread^2``."""
    torch.manual_seed(args.seed)
    coupling = partial(AffineCoupling, hidden_channels=args.hidden_channels)
    mixing = partial(WoodburyTransform, ranks=(4, 8))
    flow = field_flow(
        fields.shape[1:], levels=2, steps=args.steps, mixing=mixing, coupling=coupling, first=Standardize(1)
    )
    flow.initialize(fields)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.iterations)
    for _ in range(args.iterations):
        loss = flow(fields[torch.randint(len(fields), (32,))]).mean()
        if weight:
            loss = loss + weight * (flow.rsample(32).mean((1, 2, 3)) / args.spread).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 10.0)
        optimizer.step()
        schedule.step()
    return flow.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--side", type=int, default=16, help="of a field")
    parser.add_argument("--fields", type=int, default=200, help="to learn from")
    parser.add_argument("--spread", type=float, default=0.01, help="deviation of the fields' means")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 0.001, 0.01], help="of the penalty")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--hidden-channels", type=int, default=24)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="penalty.png")
    args = parser.parse_args()
    fields = smooth_fields(args.fields, args.side, args.spread, seed=1)
    test, rows = smooth_fields(1000, args.side, args.spread, seed=2), [coloured(fields[:16], (-3, 3))]
    print(f"fields          means of deviation {float(test.mean((1, 2, 3)).std()):.3f}")
    for weight in args.weights:
        flow = train(fields, weight, args)
        with torch.no_grad():
            samples, bits = flow.sample(1000), flow(test).mean()
        of_means = float(samples.mean((1, 2, 3)).square().mean().sqrt())
        print(
            f"weight {weight:<7g}  {of_means:18.3f}   {float(bits):.3f} differential bits/dim of test fields",
            flush=True,
        )
        rows.append(coloured(samples[:16], (-3, 3)))
    print("fields, then samples:", save_png(image_grid(torch.cat(rows), columns=16), args.output, zoom=3))


if __name__ == "__main__":
    main()
