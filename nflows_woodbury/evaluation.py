"""What a trained flow is judged by: bits per dimension, and pictures."""

from __future__ import annotations

import io
import os
from math import ceil, prod
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from nflows_woodbury.checks import positive_int, uint8_images
from nflows_woodbury.data import ImageSet, extra
from nflows_woodbury.flow import ImageFlow

__all__ = [
    "bits_per_dim",
    "class_context",
    "image_grid",
    "png_bits_per_dim",
    "reconstructions",
    "sample_classes",
    "save_png",
]


def class_context(labels: Tensor | None, num_classes: int) -> Tensor | None:
    """The one-hot context ``(B, num_classes)`` of a class-conditional model, or None for one without classes."""
    if not num_classes:
        return None
    if labels is None:
        raise ValueError(f"labels must be given for a model with {num_classes} classes, got None")
    return F.one_hot(labels, num_classes).to(torch.get_default_dtype())


@torch.no_grad()
def bits_per_dim(
    flow: ImageFlow, images: ImageSet, *, num_classes: int = 0, batch_size: int = 250, samples: int = 1, seed: int = 0
) -> Tensor:
    """Bits per dimension of each image, averaged over draws of the dequantization noise.

    Args:
        flow: the model; it runs on the device of its parameters, in eval mode, and keeps its mode.
        images: what to evaluate.
        num_classes: classes of a class-conditional model.
        batch_size: images at a time.
        samples: draws of the noise for each image.
        seed: the noise is the same for the same seed, batch size and device; the global generators are left as they
            were.

    Returns:
        float64 ``(N,)``, on the CPU.
    """
    positive_int("samples", samples), positive_int("batch_size", batch_size)
    device = next(flow.parameters()).device
    context = class_context(images.labels, num_classes)
    mode = flow.training
    flow.eval()
    totals = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for start in range(0, len(images), batch_size):
            batch = images.images[start : start + batch_size].to(device)
            rows = None if context is None else context[start : start + batch_size].to(device)
            draws = [flow(batch, rows).double().cpu() for _ in range(samples)]
            totals.append(torch.stack(draws).mean(0))
    flow.train(mode)
    return torch.cat(totals)


def png_bits_per_dim(images: Tensor) -> float:
    """Bits per dimension of each image of uint8 ``(N, c, h, w)`` as a PNG file of its own, on average.

    The file's 57 bytes of fixed framing (signature, header and chunk frames) don't count: on small images they would
    make PNG look 0.15 bits/dim worse than its compression is.
    """
    uint8_images(images)
    return sum(8 * (len(_png(image)) - 57) for image in images) / (len(images) * prod(images.shape[1:]))


@torch.no_grad()
def reconstructions(flow: ImageFlow, images: Tensor, context: Tensor | None = None) -> Tensor:
    """Images to noise and back, uint8 ``(N, c, h, w)``.

    Exact in float64; in float32 a pixel whose dequantized value lies on a bin's edge may move to the next bin.
    """
    return flow.transform_from_noise(flow.transform_to_noise(images, context), context)


def sample_classes(
    flow: ImageFlow, count: int, num_classes: int = 0, *, label: int | None = None, temperature: float = 1.0
) -> Tensor:
    """Samples, uint8 ``(count, c, h, w)``; of a class-conditional model of one class, or of the classes in turn."""
    device = next(flow.parameters()).device
    labels = torch.arange(count, device=device) % num_classes if num_classes else None
    if label is not None:
        labels = torch.full((count,), label, device=device)
    context = class_context(labels, num_classes)
    if context is None:
        return flow.sample(count, temperature=temperature)
    return flow.sample(1, context, temperature=temperature).flatten(0, 1)


def image_grid(images: Tensor, columns: int | None = None, gap: int = 2) -> Tensor:
    """One uint8 image ``(c, H, W)`` of all of ``(N, c, h, w)``, row by row, with white gaps."""
    uint8_images(images)
    count, channels, height, width = images.shape
    columns = ceil(count**0.5) if columns is None else positive_int("columns", columns)
    rows = ceil(count / columns)
    cells = images.new_full((rows * columns, channels, height + gap, width + gap), 255)
    cells[:count, :, gap:, gap:] = images
    grid = cells.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    return F.pad(grid, (0, gap, 0, gap), value=255)


def save_png(image: Tensor, path: str | Path, zoom: int = 1) -> Path:
    """Write one uint8 image ``(c, h, w)`` as PNG, whole or not at all; ``zoom`` repeats each pixel."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(_png(image.repeat_interleave(zoom, 1).repeat_interleave(zoom, 2)))
    partial.replace(path)
    return path


def _png(image: Tensor) -> bytes:
    array = image.cpu().squeeze(0).numpy() if image.shape[0] == 1 else image.cpu().movedim(0, -1).numpy()
    buffer = io.BytesIO()
    extra("PIL.Image").fromarray(array).save(buffer, "png", optimize=True)
    return buffer.getvalue()
