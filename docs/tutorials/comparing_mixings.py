from statistics import mean, stdev
from time import perf_counter

import torch
from matplotlib.figure import Figure

from nflows_woodbury.config import FlowConfig
from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.data.opening import open_source
from nflows_woodbury.evaluation.likelihood import bits_per_dim

MIXINGS, SEEDS, STEPS, EVERY = ("conv1x1", "periodic", "woodbury", "me-woodbury"), (0, 1, 2), 80, 10
source = open_source("photos", size=16)
held_out = ImageSet(source.test.images[:64])


# one run
def run(mixing, seed):
    """Train; every so often note the steps, the seconds of training and the held-out bits/dim."""
    torch.manual_seed(seed)
    flow = FlowConfig(source.shape, levels=2, steps=2, mixing=mixing, hidden_channels=32).build()
    flow.initialize(source.batch(0, 256, seed=seed).images)
    optimizer = torch.optim.Adam(flow.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    curve, seconds = [], 0.0
    for step in range(STEPS):
        start = perf_counter()
        loss = flow(source.batch(step, 32, seed=seed).images).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        seconds += perf_counter() - start
        if (step + 1) % EVERY == 0:
            curve.append((step + 1, seconds, bits_per_dim(flow, held_out).mean().item()))
    return curve, sum(parameter.numel() for parameter in flow.parameters())


# all runs
curves = {mixing: [] for mixing in MIXINGS}
parameters = {}
for seed in SEEDS:
    for mixing in MIXINGS:  # in turn, so that a busy hour of the machine hits all of them
        curve, parameters[mixing] = run(mixing, seed)
        curves[mixing].append(curve)

# table
print("             bits/dim (sd)   lowest  highest  parameters  ms/step")
for mixing, runs in curves.items():
    last = [curve[-1][2] for curve in runs]
    milliseconds = min(curve[-1][1] for curve in runs) / STEPS * 1e3
    print(
        f"{mixing:12} {mean(last):.3f} ({stdev(last):.3f})   {min(last):.3f}   {max(last):.3f}"
        f"  {parameters[mixing]:10}  {milliseconds:7.0f}"
    )
for mixing, runs in list(curves.items())[1:]:
    differences = [curve[-1][2] - other[-1][2] for curve, other in zip(runs, curves["conv1x1"], strict=True)]
    print(f"{mixing:12} minus conv1x1, seed by seed: ", *(f"{difference:+.3f}" for difference in differences))

# picture
figure = Figure(figsize=(5.2, 6), layout="constrained")
panels = figure.subplots(2, 1, sharey=True)
for mixing, runs in curves.items():
    steps, seconds, bits = torch.tensor(runs).unbind(-1)  # each (seeds, points)
    for panel, x in zip(panels, (steps.mean(0), seconds.mean(0)), strict=True):
        (line,) = panel.plot(x, bits.mean(0), marker="o", markersize=4, label=mixing)
        panel.fill_between(x, bits.min(0).values, bits.max(0).values, color=line.get_color(), alpha=0.2, linewidth=0)
panels[0].set(xlabel="optimizer steps", ylabel="bits/dim")
panels[1].set(xlabel="seconds of training", ylabel="bits/dim")
panels[0].legend()
figure.savefig("curves.svg")
