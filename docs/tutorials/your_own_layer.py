import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import nn

from nflows_woodbury import Chain, InvertibleConv1x1
from nflows_woodbury.checks import check_image_inputs, check_image_shape
from nflows_woodbury.config import MIXINGS, FlowConfig
from nflows_woodbury.data.opening import open_source
from nflows_woodbury.evaluation.likelihood import bits_per_dim
from nflows_woodbury.transforms.base import LinearTransform


# layer
class Butterfly(LinearTransform):
    """Mixes the pixels of each row, then those of each column, in pairs at distance 1, 2, 4, and so on.

    Args:
        shape: ``(c, h, w)`` with ``h`` and ``w`` powers of two, from 2.
    """

    def __init__(self, shape):
        super().__init__()
        self.shape = check_image_shape(shape)
        for side in self.shape[1:]:
            if side < 2 or side & (side - 1):
                raise ValueError(f"shape must have a height and a width that are powers of two, got {self.shape}")
        self.columns, self.rows = (nn.Parameter(self._identity(side)) for side in self.shape[1:])

    @staticmethod
    def _identity(side):
        """One 2 x 2 matrix for each stage and pair, (log2 side, side / 2, 2, 2)."""
        return torch.eye(2).repeat(side.bit_length() - 1, side // 2, 1, 1)

    def check_inputs(self, inputs):
        """Refuse images of another size."""
        check_image_inputs(inputs, self.shape)

    def map_forward(self, inputs):
        """All stages along the rows, then along the columns."""
        outputs = along_last(inputs, self.rows)
        outputs = along_last(outputs.mT, self.columns).mT
        return outputs, self._logabsdet()

    def map_inverse(self, inputs):
        """All stages backwards, with the inverse of each matrix."""
        rows, columns = (torch.linalg.inv_ex(stages).inverse for stages in (self.rows, self.columns))
        outputs = along_last(inputs.mT, columns, backwards=True).mT
        return along_last(outputs, rows, backwards=True), -self._logabsdet()

    def _logabsdet(self):
        c, h, w = self.shape
        rows, columns = (torch.linalg.slogdet(stages).logabsdet.sum() for stages in (self.rows, self.columns))
        return c * h * rows + c * w * columns


def along_last(x, stages, backwards=False):
    """Stage ``k`` maps each pair of entries of the last axis at distance ``2**k`` by a matrix of its own."""
    numbers = range(len(stages))
    for k in reversed(numbers) if backwards else numbers:
        pairs = x.unflatten(-1, (-1, 2, 2**k))
        matrices = stages[k].unflatten(0, (-1, 2**k))
        x = torch.einsum("ijpq,...iqj->...ipj", matrices, pairs).flatten(-3)
    return x


# check
torch.manual_seed(0)
layer = Butterfly((2, 4, 8)).double()
for parameter in layer.parameters():
    nn.init.normal_(parameter)
x = torch.randn(1, 2, 4, 8, dtype=torch.float64)
y, logabsdet = layer(x)
jacobian = torch.autograd.functional.jacobian(lambda x: layer(x)[0], x).reshape(64, 64)
print(f"log-det {logabsdet.item():.6f}, autograd {torch.linalg.slogdet(jacobian).logabsdet.item():.6f}")
print(f"there and back: {(layer.inverse(y)[0] - x).abs().max():.0e}")
print(torch.autograd.gradcheck(lambda x: layer(x)[0], x.requires_grad_()))

# name
MIXINGS["my-butterfly"] = lambda dc, ds: lambda shape: Chain([InvertibleConv1x1(shape), Butterfly(shape)])

# comparison
source = open_source("photos", size=16)


def train(mixing, seed, iterations=150):
    """A small flow with that mixing, trained with Adam."""
    torch.manual_seed(seed)
    flow = FlowConfig(source.shape, levels=2, steps=2, mixing=mixing, hidden_channels=32).build()
    flow.initialize(source.batch(0, 256, seed=seed).images)
    optimizer = torch.optim.Adam(flow.parameters(), 2e-3)
    for iteration in range(iterations):
        loss = flow(source.batch(iteration, 32, seed=seed).images).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return flow


for mixing in ("conv1x1", "my-butterfly"):
    flows = [train(mixing, seed) for seed in (0, 1)]
    parameters = sum(parameter.numel() for parameter in flows[0].parameters())
    results = ", ".join(f"{bits_per_dim(flow, source.test).mean():.3f}" for flow in flows)
    print(f"{mixing:12} {parameters:6} parameters  {results} bits/dim")

# picture
stages = next(part for part in flows[0].modules() if isinstance(part, Butterfly)).rows.detach()
matrices = {}
for k, stage in enumerate(stages):
    alone = Butterfly._identity(8)
    alone[k] = stage
    matrices[f"distance {2**k}"] = along_last(torch.eye(8), alone).mT
matrices["all three"] = along_last(torch.eye(8), stages).mT
figure = Figure(figsize=(4.6, 5.2), layout="constrained")
axes = figure.subplots(2, 2)
for panel, (name, matrix) in zip(axes.flat, matrices.items(), strict=True):
    shown = torch.where(matrix == 0, torch.nan, matrix.abs())  # cells that are zero stay empty
    image = panel.imshow(shown, norm=LogNorm(0.01, 1, clip=True))
    panel.spines[:].set_visible(True)
    panel.set(title=name, xticks=[], yticks=[])
figure.colorbar(image, ax=axes, location="bottom", shrink=0.8)
figure.savefig("stages.svg")
