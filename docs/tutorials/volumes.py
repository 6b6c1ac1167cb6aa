from functools import reduce
from math import log, prod

import matplotlib
import torch
from matplotlib.figure import Figure
from nflows.distributions import StandardNormal
from nflows.flows import Flow

from nflows_woodbury import Chain, LowRankTransform
from nflows_woodbury.loading import open_source


# groups
def grouped(shape, ranks, init="reflection"):
    """A low-rank update for each group of axes."""
    return Chain([LowRankTransform(shape, axes, rank, init) for axes, rank in ranks.items()])


sequence = grouped((3, 64), {(0,): 3, (1,): 8})  # colours, positions
clip = grouped((3, 8, 16, 16), {(0,): 3, (1,): 4, (2, 3): 16})  # colours, time, pixels
for layer in (sequence, clip):
    shape = layer[0].shape
    values = torch.randn(10, *shape)
    outputs, logabsdet = layer(values)
    error = (layer.inverse(outputs)[0] - values).abs().max()
    parameters = sum(parameter.numel() for parameter in layer.parameters())
    print(f"{shape}: {parameters} parameters, round trip within {error:.0e}; a full matrix has {prod(shape) ** 2}")

# check
torch.manual_seed(0)
shape = (2, 3, 3, 3)
ranks = {(0,): 1, (1,): 2, (2, 3): 3}
small = grouped(shape, ranks, init=lambda n, d: (0.7 * torch.randn(n, d), 0.7 * torch.randn(d, n))).double()


def jacobian(layer):
    """The whole matrix of a layer, by autograd."""
    zero = torch.zeros(1, *shape, dtype=torch.float64)
    return torch.autograd.functional.jacobian(lambda x: layer(x)[0], zero).view(prod(shape), prod(shape))


first, *others = (torch.eye(part.size) + part.U @ part.V for part in small)
kronecker = reduce(torch.kron, [first, *(matrix.T.contiguous() for matrix in others)])
_, logabsdet = small(torch.randn(1, *shape, dtype=torch.float64))
print("one Kronecker product:", torch.allclose(jacobian(small), kronecker))
print(f"log-det {logabsdet.item():.6f}, of the whole matrix {torch.linalg.slogdet(jacobian(small)).logabsdet:.6f}")

# figures
GREY = "#808080"
matplotlib.rcParams.update({"axes.titlecolor": GREY, "axes.edgecolor": GREY, "axes.facecolor": "none"})


def heat(path, panels):
    """Matrices side by side, blue above 0 and orange below, the stronger the larger; 0 is transparent."""
    figure = Figure(figsize=(2.1 * len(panels), 2.4), layout="constrained")
    for axes, (title, matrix) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        matrix = matrix.detach().double()[..., None]
        strength = (matrix.abs() / matrix.abs().max()) ** 0.7
        blue, orange = torch.tensor([[0.2, 0.5, 0.9], [0.9, 0.45, 0.1]], dtype=torch.float64)
        axes.imshow(torch.cat([torch.where(matrix > 0, blue, orange), strength], -1), interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, size=11)
    figure.savefig(path, dpi=150, transparent=True)


names = ["colours (0,)", "time (1,)", "pixels (2, 3)"]
heat("groups.png", {name: jacobian(part) for name, part in zip([*names, "all three"], [*small, small], strict=True)})


# clips
def draw(photos, side=8, frames=6):
    """A window passes over each crop (N, 3, 18, 18) in one of nine directions: clips (N, 3, 6, 8, 8), uint8."""
    clips = []
    for photo, (dy, dx) in zip(photos, torch.randint(-1, 2, (len(photos), 2)).tolist(), strict=True):
        corners = [(5 + dy * (t - 2), 5 + dx * (t - 2)) for t in range(frames)]
        clips.append(torch.stack([photo[:, y : y + side, x : x + side] for y, x in corners], 1))
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


def report(name, count, log_prob):
    """Test bits per dimension, of pixels from 0 to 255."""
    bits = log(64, 2) - log_prob.mean() / (prod(shape) * log(2))
    print(f"{name:26}{count:9} parameters  {bits:.2f} bits/dim")


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
        report(name, sum(parameter.numel() for parameter in flow.parameters()), flow.log_prob(floats(test)))
    if name == "colours, time, pixels":
        matrices = [torch.eye(part.size) + part.U @ part.V for part in layer]

vectors = floats(train).flatten(1).double()
normal = torch.distributions.MultivariateNormal(vectors.mean(0), torch.cov(vectors.T))
report("any covariance", prod(shape) * (prod(shape) + 1) // 2, normal.log_prob(floats(test).flatten(1).double()))

# learned
heat("learned.png", {names[0]: matrices[0], names[1]: matrices[1].T, names[2]: matrices[2].T})
