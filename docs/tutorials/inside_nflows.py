from math import log, prod

import torch
from nflows.distributions import ConditionalDiagonalNormal, StandardNormal
from nflows.flows import Flow
from nflows.nn.nets import ConvResidualNet
from nflows.transforms import (
    ActNorm,
    AffineCouplingTransform,
    CompositeTransform,
    MultiscaleCompositeTransform,
    OneByOneConvolution,
    RandomPermutation,
    SqueezeTransform,
)

from nflows_woodbury import AffineCoupling, UniformDequantize, WoodburyTransform
from nflows_woodbury.data.opening import open_source
from nflows_woodbury.evaluation.pictures import image_grid, save_png

# data
torch.manual_seed(0)
source = open_source("photos", size=16)
dequantize = UniformDequantize()
D = prod(source.shape)


# model
def coupling(shape):
    """One of nflows' own: it transforms the channels where the mask is 1."""
    mask = torch.arange(shape[0]) % 2
    return AffineCouplingTransform(mask, lambda ins, outs: ConvResidualNet(ins, outs, hidden_channels=32, num_blocks=1))


def build(mixing, coupling, base, levels=2, steps=2):
    """A multiscale flow; after each level but the last half of the channels become noise."""
    multiscale = MultiscaleCompositeTransform(levels)
    shape = source.shape
    for _ in range(levels):
        shape = 4 * shape[0], shape[1] // 2, shape[2] // 2
        level = [SqueezeTransform()]
        for _ in range(steps):
            level += [ActNorm(shape[0]), mixing(shape), coupling(shape)]
        shape = multiscale.add_transform(CompositeTransform(level), shape)
    return Flow(multiscale, base)


mixings = {
    "RandomPermutation": lambda shape: RandomPermutation(shape[0]),
    "OneByOneConvolution": lambda shape: OneByOneConvolution(shape[0]),
    "WoodburyTransform": lambda shape: WoodburyTransform(shape, ranks=(8, 16)),
}


# training
def bits_per_dim(flow, images, context=None):
    """Of each image, (B,)."""
    values, logabsdet = dequantize(images)
    return -(flow.log_prob(values, context) + logabsdet) / (D * log(2))


def train(flow, context_of=lambda images: None, iterations=200):
    """Adam on crops of the left three quarters of each photograph."""
    optimizer = torch.optim.Adam(flow.parameters(), 2e-3)
    for iteration in range(iterations):
        images = source.batch(iteration, 32, seed=0).images
        loss = bits_per_dim(flow, images, context_of(images)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return flow.eval()


test = source.test.images
for name, mixing in mixings.items():
    torch.manual_seed(1)
    flow = train(build(mixing, coupling, StandardNormal([D])))
    parameters = sum(parameter.numel() for parameter in flow.parameters())
    with torch.no_grad():
        bits = bits_per_dim(flow, test).mean()
    print(f"{name:20} {parameters:6} parameters  {bits:.2f} bits/dim")

# log-determinants
with torch.no_grad():
    values, _ = dequantize(test[:1])
    first_level = flow._transform._transforms[0]
    x = values
    for layer in first_level._transforms:
        x, logabsdet = layer(x)
        print(f"{type(layer).__name__:24} {tuple(x.shape[1:])!s:12} {logabsdet.item():9.2f}")
    print(f"{'the whole level':37} {first_level(values)[1].item():9.2f}")

    noise, logabsdet = flow._transform(values)
    base = flow._distribution.log_prob(noise)
    print(f"base {base.item():.2f} + layers {logabsdet.item():.2f} = log_prob {flow.log_prob(values).item():.2f}")
    back, inverse_logabsdet = flow._transform.inverse(noise)
    print(f"there and back: {(back - values).abs().max():.0e}")
    print(f"log-det back: {inverse_logabsdet.item():.2f}")


# context
def mean_colour(images):
    """The context: red, green and blue of each crop, (B, 3), from -2 to 2."""
    return images.float().mean((2, 3)) / 64 - 2


encoder = torch.nn.Linear(3, 2 * D)  # means and log-scales of the noise
for parameter in encoder.parameters():
    torch.nn.init.zeros_(parameter)
conditional = build(
    mixings["WoodburyTransform"],
    coupling=lambda shape: AffineCoupling(shape, 32, context_features=3),
    base=ConditionalDiagonalNormal([D], encoder),
)
train(conditional, mean_colour, iterations=300)
with torch.no_grad():
    for name, context in {"own": mean_colour(test), "another crop's": mean_colour(test.roll(1, 0))}.items():
        print(f"colour: {name:14} {bits_per_dim(conditional, test, context).mean():.2f} bits/dim")

# samples
chosen = test[[0, 2, 4, 8]]
with torch.no_grad():
    samples = conditional.sample(8, context=mean_colour(chosen))  # (4, 8, 3, 16, 16)
print(samples.shape)
images, _ = dequantize.inverse(samples.flatten(0, 1))
rows = torch.cat([chosen[:, None], images.unflatten(0, samples.shape[:2])], 1)
save_png(image_grid(rows.flatten(0, 1), columns=9), "samples.png", zoom=3)
