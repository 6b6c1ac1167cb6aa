from math import log, prod

import normflows as nf
import torch

from nflows_woodbury import UniformDequantize, initialize
from nflows_woodbury.data.opening import open_source
from nflows_woodbury.evaluation.pictures import image_grid, save_png
from nflows_woodbury.normflows import NormflowsAdapter, register

# one layer
torch.manual_seed(0)
register()
layer = nf.flows.Woodbury((12, 8, 8), ranks=(8, 16))
noise = torch.randn(5, 12, 8, 8)
with torch.no_grad():
    images, log_det = layer(noise)  # noise to data
    back, inverse_log_det = layer.inverse(images)  # data to noise
print(isinstance(layer, nf.flows.Flow), images.shape, log_det.shape)
print(f"there and back: {(back - noise).abs().max():.0e}")

# crops
source = open_source("photos", size=16)
D = prod(source.shape)


# model
def glow(shape):
    """One step of normflows' own: affine coupling, 1x1 convolution, ActNorm."""
    return [nf.flows.GlowBlock(shape[0], 32)]


def glow_and_woodbury(shape):
    """The same, with a mixing of all pixels beside it."""
    return [nf.flows.GlowBlock(shape[0], 32), nf.flows.Woodbury(shape, ranks=(8, 16))]


def woodbury(shape):
    """Our block in place of theirs."""
    return [nf.flows.WoodburyGlowBlock(shape, 32)]


def build(step, steps=2):
    """Two levels, the deep one first; Squeeze comes last in each, as noise becomes data."""
    deep, fine = (24, 4, 4), (12, 8, 8)
    levels = []
    for shape in (deep, fine):
        levels.append([flow for _ in range(steps) for flow in step(shape)] + [nf.flows.Squeeze()])
    return nf.MultiscaleFlow(
        q0=[nf.distributions.GlowBase(deep), nf.distributions.GlowBase((6, 8, 8))],
        flows=levels,
        merges=[nf.flows.Merge()],
        transform=NormflowsAdapter(UniformDequantize()),
        class_cond=False,
    )


# training
def bits_per_dim(model, images):
    """Mean over the images."""
    return model.forward_kld(images) / (D * log(2))


def train(model, iterations=200):
    """Adam on crops of the left three quarters of each photograph."""
    initialize(model, source.batch(0, 256, seed=0).images)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for iteration in range(iterations):
        loss = bits_per_dim(model, source.batch(iteration, 32, seed=0).images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


test, samples = source.test.images, [source.test.images[:12]]
for step in (glow, glow_and_woodbury, woodbury):
    torch.manual_seed(1)
    model = train(build(step))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    with torch.no_grad():
        print(f"{step.__name__:17} {parameters:6} parameters  {bits_per_dim(model, test):.2f} bits/dim")
        samples.append(model.sample(12, temperature=0.8)[0])

# samples
save_png(image_grid(torch.cat(samples), columns=12), "samples.png", zoom=3)
