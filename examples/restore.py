"""Restore images with a flow as prior: fill a hole, take noise away; beside what scikit-image does without one.

Seen is ``y = mask (x + sigma n)``. With ``x = decode(z)`` the posterior of the noise ``z`` has the energy
``|mask (decode(z) - y)|^2 / (2 sigma^2) + |z|^2 / 2``: MAP is its minimum, and Langevin's chain, started there, walks
over the posterior, whose mean has the least squared error. OUT gets restored.json, the PSNR of each, and a picture.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from skimage.restoration import denoise_tv_chambolle, inpaint_biharmonic
from torch import Tensor

from nflows_woodbury.checkpoint import open_run
from nflows_woodbury.cli.main import main as command
from nflows_woodbury.evaluation.pictures import image_grid, save_png
from nflows_woodbury.files import write_json

SIGMA = {"hole": 0.02, "noise": 0.1}  # of a range of 1
WEIGHTS = np.geomspace(0.02, 0.5, 12)  # of total variation; the best on 16 training images is taken


def energy(flow: torch.nn.Module, z: Tensor, seen: Tensor, mask: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """The sum of the posteriors' energies, and the images."""
    images = flow.decode(z)
    return (mask * (images - seen)).square().sum() / (2 * sigma**2) + z.square().sum() / 2, images


def most_probable(flow: torch.nn.Module, seen: Tensor, mask: Tensor, sigma: float, steps: int) -> Tensor:
    """The noise of least energy that Adam finds from zero on."""
    z = torch.zeros(len(seen), seen[0].numel(), requires_grad=True)
    optimizer = torch.optim.Adam([z], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        energy(flow, z, seen, mask, sigma)[0].backward()
        optimizer.step(), schedule.step()
    return z.detach()


def posterior_mean(flow: torch.nn.Module, z: Tensor, seen: Tensor, mask: Tensor, sigma: float, steps: int) -> Tensor:
    """The mean image of Langevin's chain ``z <- z - e grad + sqrt(2 e) n``, without its first quarter."""
    step, images = 0.02 * sigma**2, []
    for _ in range(steps):
        total, image = energy(flow, z.requires_grad_(), seen, mask, sigma)
        z = z.detach() - step * torch.autograd.grad(total, z)[0] + (2 * step) ** 0.5 * torch.randn_like(z)
        images.append(image.detach())
    return torch.stack(images[steps // 4 :]).mean(0)


def without_prior(seen: Tensor, mask: Tensor, weight: float) -> Tensor:
    """Biharmonic filling of a hole, or total variation where there is none."""
    hole = mask[0].numpy() == 0
    restore = partial(inpaint_biharmonic, mask=hole) if hole.any() else partial(denoise_tv_chambolle, weight=weight)
    return torch.stack([torch.from_numpy(restore(image.numpy(), channel_axis=0)).float() for image in seen])


def psnr(found: Tensor, truth: Tensor, judged: Tensor) -> Tensor:
    """Peak signal to noise ratio of each image in decibels, where ``judged`` is 1."""
    squared = ((found.clamp(-0.5, 0.5) - truth) * judged).square().flatten(1).sum(1)
    return -10 * (squared / (judged.sum() * truth.shape[1])).log10()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="photos", help="as in nflows-woodbury train")
    parser.add_argument("--train", default="--size 32", help="further words for it; a run in OUT/run is used as it is")
    parser.add_argument("--images", type=int, default=32, help="of those that were held out")
    parser.add_argument("--steps", type=int, default=400, help="of the search, and of the chain")
    parser.add_argument("--out", type=Path, default=Path("restored"))
    given = parser.parse_args()
    if not (given.out / "run" / "result.json").exists():
        command(["train", "--data", given.data, *given.train.split(), "--out", str(given.out / "run")])
    run, records = open_run(given.out / "run"), {}
    flow, known = run.flow.requires_grad_(False), run.source.batch(0, 16, seed=0).images
    truth, known = ((x + 0.5) / 256 - 0.5 for x in (run.source.test.images[: given.images], known))
    size, rows = truth.shape[-1], [truth]
    whole, side = torch.ones(1, size, size), size // 3
    mask = torch.constant_pad_nd(torch.zeros(1, side, side), [side, size - 2 * side] * 2, 1.0)
    torch.manual_seed(0)
    for (task, sigma), seen_at, judged in zip(SIGMA.items(), (mask, whole), (1 - mask, whole), strict=True):
        seen, noisy = (seen_at * (x + sigma * torch.randn_like(x)) for x in (truth, known))
        weight = max(WEIGHTS, key=lambda weight: psnr(without_prior(noisy, whole, weight), known, whole).mean())
        z = most_probable(flow, seen, seen_at, sigma, given.steps)
        found = {"as seen": seen, "without prior": without_prior(seen, seen_at, weight), "MAP": flow.decode(z)}
        found["Langevin"] = posterior_mean(flow, z, seen, seen_at, sigma, given.steps)
        records[task] = {name: psnr(images, truth, judged).tolist() for name, images in found.items()}
        print(task, *(f"{name} {np.mean(values):.2f} dB" for name, values in records[task].items()), sep="  ")
        rows += found.values()
    write_json(given.out / "restored.json", records)
    pixels = ((torch.cat([images[:8] for images in rows]) + 0.5) * 256).clamp(0, 255).byte()
    save_png(image_grid(pixels, columns=min(8, len(truth))), given.out / "restored.png", zoom=2)


if __name__ == "__main__":
    main()
