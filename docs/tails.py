"""Flows of heavy-tailed features, and how far out their samples lie: the figure of the page on tails."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from matplotlib.figure import Figure
from nflows.distributions.base import Distribution
from torch import Tensor, distributions, nn

from nflows_woodbury import AffineCoupling, FieldFlow, InvertibleConv1x1, field_flow

FEATURES = 19


class StudentT(Distribution):
    """Independent Student-t noise (B, D), whose degrees of freedom are learned."""

    def __init__(self, num_features: int, freedom: float = 3.0) -> None:
        super().__init__()
        self.num_features = num_features
        self.log_freedom = nn.Parameter(torch.tensor(freedom).log())

    def _log_prob(self, inputs: Tensor, context: Tensor | None) -> Tensor:
        return distributions.StudentT(self.log_freedom.exp()).log_prob(inputs).sum(1)

    def _sample(self, num_samples: int, context: Tensor | None) -> Tensor:
        return distributions.StudentT(self.log_freedom.exp()).sample((num_samples, self.num_features))


def fit(data: Tensor, steps: int, iterations: int, **parts: Any) -> FieldFlow:
    """A flow of 1x1 convolutions and affine couplings, trained on the data."""
    torch.manual_seed(1)
    bound, base = parts.pop("max_log_scale", 4.0), parts
    coupling = partial(AffineCoupling, hidden_channels=32, max_log_scale=bound)
    flow = field_flow((FEATURES,), levels=1, steps=steps, mixing=InvertibleConv1x1, coupling=coupling, **base)
    flow.initialize(data)
    optimizer = torch.optim.Adam(flow.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    for _ in range(iterations):
        loss = -flow.log_prob(data[torch.randint(len(data), (256,))]).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 10.0)
        optimizer.step()
        schedule.step()
    return flow.eval()


def tails(steps: int = 16, iterations: int = 200, count: int = 5000) -> Figure:
    """How many samples lie farther out than so much, of the data and of flows with other bounds and bases."""
    torch.manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(FEATURES, FEATURES)).Q
    data, test = (distributions.StudentT(2.0).sample((n, FEATURES)) @ rotation for n in (4000, count))
    settings: dict[str, dict[str, Any]] = {
        "bound 4": {},
        "bound 0.5": {"max_log_scale": 0.5},
        "bound 0.5, Student-t base": {"max_log_scale": 0.5, "base": StudentT},
    }
    samples = {name: fit(data, steps, iterations, **parts).sample(count) for name, parts in settings.items()}
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes = figure.subplots()
    share = (torch.arange(count, 0, -1) / count).numpy()
    for name, values in {"data": test, **samples}.items():
        style = {"color": "#808080", "linewidth": 3} if name == "data" else {}
        axes.plot(values.abs().amax(1).sort().values.numpy(), share, label=name, **style)
    axes.set(xscale="log", yscale="log", xlabel="largest of 19 features", ylabel="share of samples above")
    axes.legend(labelcolor="#808080")
    return figure
