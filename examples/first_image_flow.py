"""A Woodbury image flow in plain PyTorch: train on photographs, print test bits per dimension, draw samples.

Run it with: python examples/first_image_flow.py
"""

import argparse
from functools import partial

import torch
from nflows.distributions import StandardNormal
from tqdm import trange

from nflows_woodbury import AffineCoupling, WoodburyTransform, image_flow
from nflows_woodbury.data.photos import PhotoSource
from nflows_woodbury.evaluation.likelihood import bits_per_dim, png_bits_per_dim
from nflows_woodbury.evaluation.pictures import image_grid, save_png

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=800, help="optimizer steps (default: 800)")
parser.add_argument("--seed", type=int, default=0, help="of parameters, batches and noise (default: 0)")
parser.add_argument("--out", default="first_image_flow.png", help="where the samples go")
options = parser.parse_args()
torch.manual_seed(options.seed)

# Crops of four photographs that come with scikit-image; the test crops are from their right quarters.
photos = PhotoSource(size=32)

# Three levels of four steps; each step is ActNorm, a Woodbury transformation and an affine coupling.
flow = image_flow(
    photos.shape,
    levels=3,
    steps=4,
    mixing=partial(WoodburyTransform, ranks=(8, 16)),
    coupling=partial(AffineCoupling, hidden_channels=48),
    base=lambda num_features: StandardNormal((num_features,)),
)

# ActNorm starts from data, once and explicitly.
flow.initialize(photos.batch(0, 256, seed=options.seed).images)

optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
progress = trange(options.steps)
for step in progress:
    images = photos.batch(step, 32, seed=options.seed).images  # uint8 (32, 3, 32, 32)
    loss = flow(images).mean()  # bits per dimension
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    progress.set_postfix(bits_per_dim=f"{loss.detach():.3f}")

bits = bits_per_dim(flow, photos.test)
print(f"test bits/dim {bits.mean():.3f}, PNG {png_bits_per_dim(photos.test.images):.3f}")
print("samples:", save_png(image_grid(flow.sample(36, temperature=0.9)), options.out, zoom=2))
