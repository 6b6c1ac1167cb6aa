"""How strange images are to a flow: by likelihood, by what PNG needs beside it, and by how far out the noise lies.

>>> STRANGENESS
('bits_per_dim', 'difference', 'norm_distance')
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, prod

import torch
from torch import Tensor

from nflows_woodbury.checks import check_positive_int, check_uint8_images
from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.evaluation.likelihood import bits_per_dim, png_bits_per_dim, usual_batch_size
from nflows_woodbury.flow import GridFlow

__all__ = ["STRANGENESS", "Scores", "auroc", "quantiles", "score_images"]

#: the scores of which more means stranger
STRANGENESS = ("bits_per_dim", "difference", "norm_distance")


@dataclass(frozen=True, eq=False)
class Scores:
    r"""What a flow says of each image, float64 ``(N,)``, on the CPU.

    With ``D = c h w`` and the image's noise ``z``:

    Attributes:
        bits_per_dim: mean over draws of the dequantization noise; in bits/dim, as the others.
        standard_error: of that mean, over the draws; nan for one draw.
        png: of the image as a PNG file of its own.
        difference: ``bits_per_dim - png``; the input complexity score of Serra et al. (2020), over ``D``.
        norm: :math:`\|z\| / \sqrt D`, about 1 for samples of a standard normal base.
        norm_distance: how far ``norm`` is from the median of the reference images, or from 1 without any.

    >>> import torch
    >>> scores = Scores(*torch.rand(6, 5, dtype=torch.float64))
    >>> scores.difference.shape
    torch.Size([5])
    """

    bits_per_dim: Tensor
    standard_error: Tensor
    png: Tensor
    difference: Tensor
    norm: Tensor
    norm_distance: Tensor


def score_images(
    flow: GridFlow,
    images: ImageSet,
    *,
    bits: int = 8,
    typical_norm: float = 1.0,
    samples: int = 4,
    seed: int = 0,
    batch_size: int | None = None,
) -> Scores:
    r"""Score images by a flow, without looking at their labels.

    A flow with ``K`` classes is taken as the mixture :math:`p(x) = \frac{1}{K} \sum_k p(x | k)`, which costs ``K``
    passes of each draw, and the noise is that of the likeliest class. Images of a model of fewer than 8 bits are cut to
    those bits before they are compressed, too.

    Args:
        flow: the model.
        images: what to score, at least one image; their labels do not count.
        bits: of the model.
        typical_norm: what ``norm_distance`` is measured from, such as the median ``norm`` of images that were held out.
        samples: draws for each image; the noise is the same for the same seed and batch size.
        seed: of the noise.
        batch_size: images at a time, as in :func:`~nflows_woodbury.evaluation.likelihood.bits_per_dim`.

    Raises:
        TypeError, ValueError: for counts below 1, no images, or images of another shape than the model's.
        ImportError: without Pillow.

    References: Serra, Alvarez, Gomez, Slizovskaia, Nunez and Luque, Input complexity and out-of-distribution detection
    with likelihood-based generative models, ICLR 2020. Nalisnick, Matsukawa, Teh and Lakshminarayanan, Detecting
    out-of-distribution inputs to deep generative models using typicality, 2019, for the norm.

    >>> import torch
    >>> from nflows_woodbury.config import FlowConfig
    >>> flow = FlowConfig((3, 8, 8), levels=1, steps=1, hidden_channels=8).build()
    >>> scores = score_images(flow, ImageSet(torch.randint(256, (5, 3, 8, 8), dtype=torch.uint8)))
    >>> torch.equal(scores.difference, scores.bits_per_dim - scores.png), bool((scores.standard_error > 0).all())
    (True, True)
    """
    check_uint8_images(images.images)
    size = usual_batch_size(images) if batch_size is None else check_positive_int("batch_size", batch_size)
    draws, likeliest = zip(
        *(_mixture(flow, images, seed + draw, size) for draw in range(check_positive_int("samples", samples))),
        strict=True,
    )
    norm = _norms(flow, images, likeliest[0], seed, size)
    png = [png_bits_per_dim((image >> (8 - bits))[None]) for image in images.images]
    complexity, mean = torch.tensor(png, dtype=torch.float64), torch.stack(draws).mean(0)
    error = torch.stack(draws).std(0) / samples**0.5 if samples > 1 else torch.full_like(mean, float("nan"))
    return Scores(mean, error, complexity, mean - complexity, norm, (norm - typical_norm).abs())


def quantiles(values: Tensor, reference: Tensor) -> Tensor:
    """The share of ``reference`` that is at most each of the values, float64 from 0 to 1.

    >>> quantiles(torch.tensor([0.5, 2.0, 9.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return torch.searchsorted(reference.sort().values, values, right=True).double() / len(reference)


def auroc(values: Tensor, positive: Tensor) -> float:
    r"""The probability that a positive has a larger value than a negative, ties counting half.

    With average ranks ``r`` among all, :math:`\big( \sum_{i \in P} r_i - |P| (|P| + 1) / 2 \big) / (|P| |N|)`, the
    statistic of Mann and Whitney. ValueError where all or none are positive.

    >>> auroc(torch.tensor([1.0, 2.0, 2.0, 3.0]), torch.tensor([False, True, False, True]))
    0.875
    """
    count, total = int(positive.sum()), len(positive)
    if not 0 < count < total:
        raise ValueError(f"positive must hold true and false values, got {count} of {total} true")
    _, place, ties = torch.unique(values, return_inverse=True, return_counts=True)
    ranks = (ties.cumsum(0) - (ties - 1) / 2)[place].double()
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (total - count)))


def _mixture(flow: GridFlow, images: ImageSet, seed: int, batch_size: int) -> tuple[Tensor, Tensor]:
    """Bits/dim of one draw, ``-log2 mean_k p(x | k) / D``, and the likeliest class, of which there may be none."""
    classes: list[Tensor | None] = [torch.full((len(images),), label) for label in range(flow.num_classes)]
    classes = classes or [None]
    bits = torch.stack(
        [bits_per_dim(flow, ImageSet(images.images, labels), seed=seed, batch_size=batch_size) for labels in classes]
    )
    nats = prod(images.images.shape[1:]) * log(2)  # of one bit/dim
    lowest, likeliest = bits.min(0)
    weighted = lowest - (torch.logsumexp(nats * (lowest - bits), 0) - log(len(classes))) / nats
    return torch.where(lowest.isinf(), lowest, weighted), likeliest


@torch.no_grad()
def _norms(flow: GridFlow, images: ImageSet, classes: Tensor, seed: int, batch_size: int) -> Tensor:
    device, mode, norms = next(flow.parameters()).device, flow.training, []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        flow.eval()
        try:
            for batch, labels in zip(images.images.split(batch_size), classes.split(batch_size), strict=True):
                noise = flow.transform_to_noise(batch.to(device), labels.to(device) if flow.num_classes else None)
                norms.append(noise.double().square().mean(1).sqrt().cpu())
        finally:
            flow.train(mode)
    return torch.cat(norms)
