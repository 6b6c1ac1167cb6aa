from math import e, log, pi

import torch
from nflows.distributions import StandardNormal
from nflows.flows import Flow
from nflows.nn.nets import ResidualNet
from nflows.transforms import AffineCouplingTransform, CompositeTransform, RandomPermutation

from nflows_woodbury import LowRankTransform

# data
torch.manual_seed(0)
D = 8
rotation = torch.linalg.qr(torch.randn(D, D)).Q


def draw(n):
    """``n`` vectors (n, D)."""
    z = torch.randn(n, D)
    bent = torch.cat([z[:, :4], z[:, 4:] + z[:, :4].square() - 1], 1)
    return bent @ rotation


true_entropy = D / 2 * log(2 * pi * e)


# model
def net(in_features, out_features):
    """The coupling's network."""
    return ResidualNet(in_features, out_features, hidden_features=32, num_blocks=1)


def build(mixing, steps=4):
    """A flow of vectors."""
    layers = []
    for _ in range(steps):
        layers += [mixing(), AffineCouplingTransform(torch.arange(D) % 2, net)]
    return Flow(CompositeTransform(layers), StandardNormal([D]))


mixings = {
    "permutation": lambda: RandomPermutation(D),
    "low rank, 2": lambda: LowRankTransform((D,), axes=(0,), rank=2),
    "low rank, 4": lambda: LowRankTransform((D,), axes=(0,), rank=4),
}

# training
test = draw(5000)
for name, mixing in mixings.items():
    torch.manual_seed(1)
    flow = build(mixing)
    optimizer = torch.optim.Adam(flow.parameters(), 3e-3)
    for _ in range(300):
        loss = -flow.log_prob(draw(256)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        print(f"{name:12} {-flow.log_prob(test).mean():.2f} nats")
print(f"{'best possible':12} {true_entropy:.2f} nats")
