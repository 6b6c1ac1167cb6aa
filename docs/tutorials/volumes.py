from functools import reduce
from math import log, prod

import torch
from matplotlib.figure import Figure
from nflows.distributions import StandardNormal
from nflows.flows import Flow

from nflows_woodbury import LowRankChain, LowRankTransform
from nflows_woodbury.data.opening import open_source


# groups
def grouped(shape, ranks, init="reflection"):
    """A low-rank update for each group of axes."""
    updates = [LowRankTransform(shape, axes, rank, init) for axes, rank in ranks.items()]
    return LowRankChain(updates)


def count(layer):
    """Parameters."""
    return sum(parameter.numel() for parameter in layer.parameters())


torch.manual_seed(0)
sequence = grouped((3, 64), {(0,): 3, (1,): 8})  # colours, positions
clip = grouped((3, 8, 16, 16), {(0,): 3, (1,): 4, (2, 3): 16})  # colours, time, pixels
for layer in (sequence, clip):
    shape = layer[0].shape
    values = torch.randn(10, *shape)
    outputs, logabsdet = layer(values)
    error = (layer.inverse(outputs)[0] - values).abs().max()
    print(f"{shape}: {count(layer)} parameters, a full matrix has {prod(shape) ** 2};")
    print(f"    round trip within {error:.0e}")

# check
torch.manual_seed(0)
shape = (2, 3, 3, 3)
ranks = {(0,): 1, (1,): 2, (2, 3): 3}


def start(n, d):
    """Factors far from the identity."""
    return 0.7 * torch.randn(n, d), 0.7 * torch.randn(d, n)


def jacobian(layer):
    """The whole matrix of a layer, by autograd."""
    zero = torch.zeros(1, *shape, dtype=torch.float64)
    entries = torch.autograd.functional.jacobian(lambda x: layer(x)[0], zero)
    return entries.view(prod(shape), prod(shape))


small = grouped(shape, ranks, start).double()
first, *others = (torch.eye(part.size) + part.U @ part.V for part in small)
kronecker = reduce(torch.kron, [first, *(matrix.T.contiguous() for matrix in others)])
whole = jacobian(small)
_, logabsdet = small(torch.randn(1, *shape, dtype=torch.float64))
print("one Kronecker product:", torch.allclose(whole, kronecker))
print(f"log-det {logabsdet.item():.6f}", end=", ")
print(f"of the whole matrix {torch.linalg.slogdet(whole).logabsdet:.6f}")

# figures
BLUE, ORANGE = torch.tensor([[0.2, 0.5, 0.9], [0.9, 0.45, 0.1]])


def heat(path, panels, columns):
    """Matrices side by side, blue above 0 and orange below, stronger if larger."""
    rows = len(panels) // columns
    figure = Figure(figsize=(2.1 * columns, 2.4 * rows), layout="constrained")
    for place, (title, matrix) in enumerate(panels.items(), 1):
        values = matrix.detach().float()[..., None]
        strength = (values.abs() / values.abs().max()) ** 0.7
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(torch.cat([torch.where(values > 0, BLUE, ORANGE), strength], -1))
        axes.set(title=title, xticks=[], yticks=[])
        axes.spines[:].set_visible(True)
    figure.savefig(path, dpi=200)


names = ["colours (0,)", "time (1,)", "pixels (2, 3)"]
panels = {name: jacobian(update) for name, update in zip(names, small, strict=True)}
heat("groups.svg", {**panels, "all three": whole}, columns=2)


# clips
def draw(photos):
    """A window passes over each crop, (N, 3, 18, 18): clips (N, 3, 6, 8, 8), uint8."""
    clips = []
    for photo in photos:
        dy, dx = torch.randint(-1, 2, (2,)).tolist()
        corners = [(5 + dy * (t - 2), 5 + dx * (t - 2)) for t in range(6)]
        clips.append(torch.stack([photo[:, y : y + 8, x : x + 8] for y, x in corners], 1))
    return torch.stack(clips)


def floats(clips):
    """Dequantized and centred, from -4 to 4 at most."""
    return (clips + torch.rand(clips.shape) - mean) / 64


torch.manual_seed(0)
source = open_source("photos", size=18)
train = torch.cat([draw(source.batch(i, 500, seed=0).images) for i in range(20)])
test = draw(source.test.images)
mean = train.float().mean((0, 2, 3, 4), keepdim=True)
shape = train.shape[1:]
print("clips:", tuple(train.shape), "for training,", len(test), "for testing")

# training
steps = 300


def fit(flow):
    """Maximum likelihood."""
    optimizer = torch.optim.Adam(flow.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        loss = -flow.log_prob(floats(train[torch.randint(len(train), (128,))])).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 100.0)
        optimizer.step()
        schedule.step()


def report(name, parameters, log_prob):
    """Test bits per dimension, of pixels from 0 to 255."""
    bits = log(64, 2) - log_prob.mean() / (prod(shape) * log(2))
    print(f"{name:26}{parameters:9} parameters  {bits:.2f} bits/dim")


colours, time, pixels, few = {(0,): 3}, {(1,): 6}, {(2, 3): 64}, {(2, 3): 16}
for name, ranks in {
    "colours": colours,
    "time": time,
    "pixels": pixels,
    "colours, pixels": colours | pixels,
    "colours, time, pixels": colours | time | pixels,
    "the same, pixels of rank 16": colours | time | few,
}.items():
    torch.manual_seed(1)
    layer = grouped(shape, ranks, "cancelling-unit")
    flow = Flow(layer, StandardNormal(shape))
    fit(flow)
    with torch.no_grad():
        report(name, count(flow), flow.log_prob(floats(test)))
    if name == "colours, time, pixels":
        matrices = [torch.eye(part.size) + part.U @ part.V for part in layer]

vectors = floats(train).flatten(1).double()
normal = torch.distributions.MultivariateNormal(vectors.mean(0), torch.cov(vectors.T))
numbers = prod(shape) * (prod(shape) + 1) // 2
report("any covariance", numbers, normal.log_prob(floats(test).flatten(1).double()))

# learned
first, *others = matrices
learned = [first, *(matrix.T for matrix in others)]
heat("learned.svg", dict(zip(names, learned, strict=True)), columns=3)
