"""What a trained flow is measured by: bits per dimension, and those of PNG beside them."""

from __future__ import annotations

from math import log, prod

import torch
from torch import Tensor

from nflows_woodbury.checks import check_positive_int, check_uint8_images
from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.evaluation.pictures import png_bytes
from nflows_woodbury.evaluation.samples import as_inputs, class_numbers
from nflows_woodbury.flow import FieldFlow, GridFlow
from nflows_woodbury.linalg import small

__all__ = [
    "bits_per_dim",
    "png_bits_per_dim",
    "usual_batch_size",
]

_PNG_FRAME = 57  # bytes of a PNG file that don't depend on the image: signature, header and chunk frames


@torch.no_grad()
def bits_per_dim(
    flow: GridFlow,
    images: ImageSet,
    *,
    batch_size: int | None = None,
    samples: int = 1,
    importance_samples: int = 1,
    seed: int = 0,
) -> Tensor:
    r"""Bits per dimension of each image, averaged over draws of the dequantization noise.

    With ``D = c h w``, the noise ``u`` in the bins, its density ``q`` (1 where it is uniform) and ``K`` importance
    samples, one estimate for an image ``x`` is

    .. math:: b_K(x) = -\frac{1}{D \log 2} \log \frac{1}{K} \sum_{k=1}^K \frac{p(x, u_k)}{q(u_k | x)},
              \qquad u_k \sim q(\cdot | x).

    Its expectation is an upper bound on the exact :math:`-\log_2 P(x) / D`; it falls as ``K`` grows, towards that
    value. ``K = 1`` gives the bound that training minimises. The ratios are summed in float64; each is as precise as
    the flow's own log-density. The cost is ``samples * importance_samples`` passes of each image; memory grows with
    them by one number for each image of a batch.

    Args:
        flow: the model; it runs on the device of its parameters, in eval mode, and gets its mode back.
        images: what to evaluate, at least one image; with labels if the model has classes.
        batch_size: images at a time; None for 250, or as many as have the pixels of 250 images of 32 x 32.
        samples: estimates for each image, of which the mean is returned. More of them make it less random and leave
            its expectation where it is.
        importance_samples: ``K``. More of them lower the expectation.
        seed: the noise is the same for the same seed, batch size and device; the global generators are left as they
            were.

    Returns:
        float64 ``(N,)``, on the CPU. Of fields the differential bits/dim, which are exact.

    Raises:
        TypeError: for counts that are not integers.
        ValueError: for counts below 1, or above 1 for fields, no images, images of another shape than the model's, or
            missing labels.

    Reference: Burda, Grosse and Salakhutdinov, Importance weighted autoencoders, ICLR 2016, theorem 1. For
    dequantization: Ho, Chen, Srinivas, Duan and Abbeel, Flow++, ICML 2019, whose code evaluates with ``K = 4096``;
    Hoogeboom, Cohen and Tomczak, Learning discrete distributions by dequantization, 2020.

    >>> import torch
    >>> from nflows_woodbury.data.images import ImageSet
    >>> from nflows_woodbury.config import FlowConfig
    >>> flow = FlowConfig((1, 8, 8), levels=1, steps=1, hidden_channels=8).build()
    >>> images = ImageSet(torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8))
    >>> averaged = bits_per_dim(flow, images, samples=8)
    >>> weighted = bits_per_dim(flow, images, importance_samples=8)  # of the same 8 draws
    >>> averaged.shape, bool((weighted <= averaged).all())
    (torch.Size([5]), True)
    """
    batch_size = usual_batch_size(images) if batch_size is None else batch_size
    check_positive_int("samples", samples), check_positive_int("batch_size", batch_size)
    check_positive_int("importance_samples", importance_samples)
    if not len(images):
        raise ValueError("images must hold at least one image, got none")
    if isinstance(flow, FieldFlow) and (samples > 1 or importance_samples > 1):
        raise ValueError(
            f"samples and importance_samples must be 1 for fields, whose likelihood is exact, got {samples} and "
            f"{importance_samples}"
        )
    device = next(flow.parameters()).device
    context = class_numbers(flow, images.labels)
    mode, means = flow.training, []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        flow.eval()
        try:
            for start in range(0, len(images), batch_size):
                batch = as_inputs(flow, images.images[start : start + batch_size])
                rows = None if context is None else context[start : start + batch_size]
                estimates = [_estimate(flow, batch, rows, importance_samples) for _ in range(samples)]
                means.append(torch.stack(estimates).mean(0))
        finally:
            flow.train(mode)
    return torch.cat(means).cpu()  # once, as a copy makes the host wait


def _estimate(flow: GridFlow, images: Tensor, context: Tensor | None, count: int) -> Tensor:
    """One importance-weighted estimate from ``count`` draws, float64 (B,); of one draw exactly that draw."""
    draws = torch.stack([small.wide(flow(images, context)) for _ in range(count)])
    lowest = draws.amin(0)
    nats = prod(images.shape[1:]) * log(2)  # of one bit/dim
    weighted = lowest - (torch.logsumexp(nats * (lowest - draws), 0) - log(count)) / nats
    return torch.where(lowest.isinf(), lowest, weighted)


def usual_batch_size(images: ImageSet) -> int:
    """250 images at a time, or as many as have the pixels of 250 images of 32 x 32.

    >>> import torch
    >>> usual_batch_size(ImageSet(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)))
    62
    """
    return min(250, max(1, 250 * 32**2 // prod(images.images.shape[2:])))


def png_bits_per_dim(images: Tensor) -> float:
    """Bits per dimension of each image as a PNG file of its own, on average.

    The file's 57 bytes of fixed framing (signature, header and chunk frames) don't count: on small images they would
    make PNG look 0.15 bits/dim worse than its compression is.

    Args:
        images: uint8 ``(N, c, h, w)``, at least one, grey or RGB.

    Raises:
        TypeError, ValueError: for other images.
        ImportError: without Pillow.

    >>> import torch
    >>> noise = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    >>> png_bits_per_dim(torch.zeros_like(noise)) < 0.2 < 8 < png_bits_per_dim(noise)
    True
    """
    check_uint8_images(images)
    if not len(images):
        raise ValueError("images must hold at least one image, got none")
    return sum(8 * (len(png_bytes(image)) - _PNG_FRAME) for image in images) / images.numel()
