from functools import partial

import torch

from nflows_woodbury import AffineCoupling, WoodburyTransform, image_flow
from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.data.opening import open_source
from nflows_woodbury.evaluation.likelihood import bits_per_dim, png_bits_per_dim
from nflows_woodbury.evaluation.pictures import image_grid, save_png

# data
torch.manual_seed(0)
source = open_source("photos", size=16)
print("one image:", source.shape, " test images:", len(source.test))

# model
flow = image_flow(
    source.shape,
    levels=2,
    steps=2,
    mixing=partial(WoodburyTransform, ranks=(8, 16)),
    coupling=partial(AffineCoupling, hidden_channels=32),
)
flow.initialize(source.batch(0, 256, seed=0).images)
print("parameters:", sum(parameter.numel() for parameter in flow.parameters()))

# training
steps = 300
optimizer = torch.optim.Adam(flow.parameters(), 2e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
for step in range(steps):
    loss = flow(source.batch(step, 32, seed=0).images).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % 100 == 0 or step == steps - 1:
        print(f"step {step:3}  {loss.item():.2f} bits/dim")

# evaluation
test = source.test.images
shuffled = test.flatten(2)[:, :, torch.randperm(256)].view_as(test)
for name, images in {
    "test images": test,
    "upside down": test.flip(2),
    "colours inverted": 255 - test,
    "pixels shuffled": shuffled,
}.items():
    print(f"{name:17} {bits_per_dim(flow, ImageSet(images)).mean():6.2f} bits/dim")
print(f"PNG, test images  {png_bits_per_dim(test):6.2f} bits/dim")

# samples
flow.eval()
rows = [flow.sample(12, temperature=temperature) for temperature in (0.0, 0.7, 1.0)]
save_png(image_grid(torch.cat([test[:12], *rows]), columns=12), "samples.png", zoom=3)
