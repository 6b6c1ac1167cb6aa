"""What a trained flow is measured by: bits per dimension, and those of PNG beside them."""

from __future__ import annotations

import io
from math import log, prod

import torch
from torch import Tensor
from torch.nn import functional as F

from nflows_woodbury.checks import positive_int, uint8_images
from nflows_woodbury.data import ImageSet, extra
from nflows_woodbury.flow import ImageFlow

__all__ = ["bits_per_dim", "class_context", "png_bits_per_dim", "png_bytes"]

_PNG_FRAME = 57  # bytes of a PNG file that don't depend on the image: signature, header and chunk frames


def class_context(labels: Tensor | None, num_classes: int) -> Tensor | None:
    """The one-hot context of a class-conditional model, or None for one without classes.

    Args:
        labels: int64 ``(B,)``, from 0 to ``num_classes - 1``.
        num_classes: classes of the model, 0 for none.

    Returns:
        ``(B, num_classes)`` of torch's default dtype on the labels' device, or None.

    Raises:
        ValueError: for a model with classes but no labels.

    >>> import torch
    >>> class_context(torch.tensor([2, 0]), 3)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    if not num_classes:
        return None
    if labels is None:
        raise ValueError(f"labels must be given for a model with {num_classes} classes, got None")
    if not ((labels >= 0) & (labels < num_classes)).all():
        raise ValueError(f"labels must be from 0 to {num_classes - 1}, got {labels.min()} to {labels.max()}")
    return F.one_hot(labels, num_classes).to(torch.get_default_dtype())


@torch.no_grad()
def bits_per_dim(
    flow: ImageFlow,
    images: ImageSet,
    *,
    num_classes: int = 0,
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
        images: what to evaluate, at least one image.
        num_classes: classes of a class-conditional model.
        batch_size: images at a time; None for 250, or as many as have the pixels of 250 images of 32 x 32.
        samples: estimates for each image, of which the mean is returned. More of them make it less random and leave
            its expectation where it is.
        importance_samples: ``K``. More of them lower the expectation.
        seed: the noise is the same for the same seed, batch size and device; the global generators are left as they
            were.

    Returns:
        float64 ``(N,)``, on the CPU.

    Raises:
        TypeError: for counts that are not integers.
        ValueError: for counts below 1, no images, images of another shape than the model's, or missing labels.

    Reference: Burda, Grosse and Salakhutdinov, Importance weighted autoencoders, ICLR 2016, theorem 1. For
    dequantization: Ho, Chen, Srinivas, Duan and Abbeel, Flow++, ICML 2019, whose code evaluates with ``K = 4096``;
    Hoogeboom, Cohen and Tomczak, Learning discrete distributions by dequantization, 2020.

    >>> import torch
    >>> from nflows_woodbury.data import ImageSet
    >>> from nflows_woodbury.presets import FlowConfig
    >>> flow = FlowConfig((1, 8, 8), levels=1, steps=1, hidden_channels=8).build()
    >>> images = ImageSet(torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8))
    >>> averaged = bits_per_dim(flow, images, samples=8)
    >>> weighted = bits_per_dim(flow, images, importance_samples=8)  # of the same 8 draws
    >>> averaged.shape, bool((weighted <= averaged).all())
    (torch.Size([5]), True)
    """
    if batch_size is None:
        batch_size = min(250, max(1, 250 * 32**2 // prod(images.images.shape[2:])))
    positive_int("samples", samples), positive_int("batch_size", batch_size)
    positive_int("importance_samples", importance_samples)
    if not len(images):
        raise ValueError("images must hold at least one image, got none")
    device = next(flow.parameters()).device
    context = class_context(images.labels, num_classes)
    mode, means = flow.training, []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        flow.eval()
        try:
            for start in range(0, len(images), batch_size):
                batch = images.images[start : start + batch_size].to(device)
                rows = None if context is None else context[start : start + batch_size].to(device)
                estimates = [_estimate(flow, batch, rows, importance_samples) for _ in range(samples)]
                means.append(torch.stack(estimates).mean(0))
        finally:
            flow.train(mode)
    return torch.cat(means)


def _estimate(flow: ImageFlow, images: Tensor, context: Tensor | None, count: int) -> Tensor:
    """One importance-weighted estimate from ``count`` draws, float64 (B,); of one draw exactly that draw."""
    draws = torch.stack([flow(images, context).double().cpu() for _ in range(count)])
    lowest = draws.amin(0)
    nats = prod(images.shape[1:]) * log(2)  # of one bit/dim
    weighted = lowest - (torch.logsumexp(nats * (lowest - draws), 0) - log(count)) / nats
    return torch.where(lowest.isinf(), lowest, weighted)


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
    uint8_images(images)
    if not len(images):
        raise ValueError("images must hold at least one image, got none")
    return sum(8 * (len(png_bytes(image)) - _PNG_FRAME) for image in images) / images.numel()


def png_bytes(image: Tensor) -> bytes:
    r"""One image as a PNG file, compressed as well as Pillow can.

    Args:
        image: uint8 ``(c, h, w)``, grey or RGB.

    Raises:
        TypeError, ValueError: for other images.
        ImportError: without Pillow.

    >>> import torch
    >>> png_bytes(torch.zeros(3, 8, 8, dtype=torch.uint8))[:4]
    b'\x89PNG'
    """
    if not isinstance(image, Tensor) or image.dtype != torch.uint8:
        raise TypeError(f"image must be a uint8 tensor, got {getattr(image, 'dtype', type(image).__name__)}")
    if image.dim() != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"image must have shape (1, h, w) or (3, h, w), got {tuple(image.shape)}")
    array = image.cpu().squeeze(0).numpy() if image.shape[0] == 1 else image.cpu().movedim(0, -1).numpy()
    buffer = io.BytesIO()
    extra("PIL.Image").fromarray(array).save(buffer, "png", optimize=True)
    return buffer.getvalue()
