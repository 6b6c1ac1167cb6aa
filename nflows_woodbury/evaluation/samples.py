"""Images that a flow makes: samples, reconstructions and interpolations, and the training images nearest to them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from nflows_woodbury.checks import check_class_numbers, check_positive_int, check_uint8_images
from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.flow import FieldFlow, GridFlow
from nflows_woodbury.transforms.nets import OneHot

__all__ = ["as_inputs", "class_numbers", "interpolations", "nearest_images", "reconstructions", "sample_classes"]


def as_inputs(flow: GridFlow, images: Tensor) -> Tensor:
    """Images, or fields, on the device of a flow; fields also in its dtype.

    >>> import torch
    >>> from nflows_woodbury.config import FlowConfig
    >>> flow = FlowConfig((1, 8, 8), levels=1, steps=1, hidden_channels=8, first="standardize").build()
    >>> as_inputs(flow, torch.zeros(2, 1, 8, 8).double()).dtype
    torch.float32
    """
    like = next(flow.parameters())
    return images.to(like.device, like.dtype if isinstance(flow, FieldFlow) else images.dtype)


def class_numbers(flow: GridFlow, labels: Tensor | None) -> Tensor | None:
    """The labels of images as context of a flow with classes, on its device; None for a flow without classes.

    Args:
        flow: the model.
        labels: int64 ``(B,)``, from 0, or None.

    Raises:
        ValueError: for a flow with classes but no labels, and labels on the CPU that are none of the classes.

    >>> import torch
    >>> from nflows_woodbury.config import FlowConfig
    >>> labels = torch.tensor([2, 0])
    >>> for num_classes in (3, 0):
    ...     flow = FlowConfig((3, 8, 8), levels=1, steps=1, hidden_channels=8, num_classes=num_classes).build()
    ...     print(class_numbers(flow, labels))
    tensor([2, 0])
    None
    """
    if not flow.num_classes:
        return None
    if labels is None:
        raise ValueError(f"labels must be given for a model with {flow.num_classes} classes, got None")
    return check_class_numbers(labels, flow.num_classes).to(next(flow.parameters()).device)


def sample_classes(flow: GridFlow, count: int, *, label: int | None = None, temperature: float = 1.0) -> Tensor:
    """Samples of a model with or without classes: uint8, or floats, ``(count, *shape)``, on the flow's device.

    Args:
        flow: the model.
        count: images to draw.
        label: the class of all images; None takes the classes in turn.
        temperature: factor on the noise, as in :meth:`~nflows_woodbury.flow.grid.GridFlow.sample`.

    Raises:
        TypeError, ValueError: for a bad count or temperature, or a label that is none of the classes.

    >>> from nflows_woodbury.config import FlowConfig
    >>> flow = FlowConfig((3, 8, 8), levels=1, steps=1, hidden_channels=8, num_classes=10).build()
    >>> sample_classes(flow, 12).shape, sample_classes(flow, 4, label=7).shape
    (torch.Size([12, 3, 8, 8]), torch.Size([4, 3, 8, 8]))
    """
    classes = flow.num_classes
    if label is not None and label not in range(classes):
        raise ValueError(f"label must be one of the model's {classes} classes, from 0, got {label}")
    numbers = torch.arange(check_positive_int("count", count))
    if not classes:
        samples = flow.sample(count, temperature=temperature)
    else:
        labels = numbers % classes if label is None else torch.full_like(numbers, label)
        samples = flow.sample(1, class_numbers(flow, labels), temperature=temperature).flatten(0, 1)
    flow.check_last()
    return samples


@torch.no_grad()
def reconstructions(flow: GridFlow, images: Tensor, context: Tensor | None = None) -> Tensor:
    """Images to noise and back.

    Exact in float64; in float32 a pixel whose dequantized value lies on a bin's edge may move to the next bin. A model
    of fewer than 8 bits clears the lower ones.

    Args:
        flow: the model.
        images: uint8 ``(N, c, h, w)``, on its device, like the result.
        context: ``(N, ...)`` or None.

    Raises:
        TypeError, ValueError: for images that are not uint8 or not of the model's shape.

    >>> import torch
    >>> from nflows_woodbury.config import FlowConfig
    >>> flow = FlowConfig((3, 8, 8), levels=1, steps=1, hidden_channels=8).build().double()
    >>> images = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
    >>> torch.equal(reconstructions(flow, images), images)
    True
    """
    again = flow.transform_from_noise(flow.transform_to_noise(images, context), context)
    flow.check_last()
    return again


@torch.no_grad()
def interpolations(
    flow: GridFlow, first: Tensor, second: Tensor, num: int, context: Tensor | tuple[Tensor, Tensor] | None = None
) -> Tensor:
    r"""Pictures between pairs of images: images to noise, a straight line between the two noises, and back.

    .. math:: x_t = f^{-1}\big( (1 - t) f(x_0) + t f(x_1) \big), \qquad t = 0, \tfrac{1}{n - 1}, \dots, 1

    Between the images themselves a straight line is a fade, one picture showing through the other. In the noise every
    point is some picture, and on a straight line the log-density of a normal base, being concave, is nowhere below
    its lower end. In the middle, noise of unrelated images has half their squared norm, as samples at temperature 0.71
    have: the pictures are plainer there. The ends are the :func:`reconstructions` of ``first`` and, with the noise
    that dequantization draws next, of ``second``. One ``t`` is done at a time: memory does not grow with ``num``.

    Args:
        flow: the model.
        first: uint8 ``(N, c, h, w)``, on the flow's device, at ``t = 0``.
        second: likewise, at ``t = 1``.
        num: pictures on each line, with both ends, at least 2.
        context: ``(N, ...)`` for both images of each pair; or a tuple, one for ``first`` and one for ``second``,
            with a straight line between them, too: class numbers of a flow with classes, else floating.

    Returns:
        uint8 ``(N, num, c, h, w)``; ``image_grid(pictures.flatten(0, 1), columns=num)`` has a row for each pair.

    Raises:
        TypeError: for images that are not uint8, or two contexts that are not floating.
        ValueError: for fewer than 2 pictures, and for images or contexts that differ in shape.

    Reference: Kingma and Dhariwal, Glow, NeurIPS 2018, "Synthesis and interpolation", for the straight line; Fadel,
    Mair, Torres and Brefeld, Principled interpolation in normalizing flows, ECML 2021, for what becomes of the norm.

    >>> import torch
    >>> from nflows_woodbury.config import FlowConfig
    >>> flow = FlowConfig((3, 8, 8), levels=1, steps=1, hidden_channels=8).build().double()
    >>> first, second = torch.randint(256, (2, 5, 3, 8, 8), dtype=torch.uint8)
    >>> pictures = interpolations(flow, first, second, 7)
    >>> pictures.shape, torch.equal(pictures[:, 0], first), torch.equal(pictures[:, -1], second)
    (torch.Size([5, 7, 3, 8, 8]), True, True)
    """
    if check_positive_int("num", num) < 2:
        raise ValueError(f"num must be at least 2, for both ends, got {num}")
    for images in (first, second):
        if isinstance(flow, FieldFlow):
            flow.check_data(images)
        else:
            check_uint8_images(images)
    _same_shape("first and second", first, second)
    if isinstance(context, tuple):
        _same_shape("the two contexts", *context)
        embed = OneHot(flow.num_classes) if flow.num_classes else nn.Identity()
        context = embed(context[0]), embed(context[1])
        if not context[0].is_floating_point():
            raise TypeError(f"context must be floating, such as one-hot, to have steps between, got {context[0].dtype}")
    of_first, of_second = context if isinstance(context, tuple) else (context, context)
    start, end = flow.transform_to_noise(first, of_first), flow.transform_to_noise(second, of_second)
    pictures = []
    for weight in torch.linspace(0, 1, num, dtype=torch.float64).tolist():
        rows = torch.lerp(context[0], context[1], weight) if isinstance(context, tuple) else context
        pictures.append(flow.transform_from_noise(torch.lerp(start, end, weight), rows))
    return torch.stack(pictures, 1)


def nearest_images(images: Tensor, batches: Iterable[ImageSet], num: int) -> tuple[Tensor, Tensor]:
    r"""The training images nearest to each image, to tell new samples from remembered ones.

    By Euclidean distance over pixels from 0 to 255, :math:`\|x - y\|^2 = \|x\|^2 + \|y\|^2 - 2 x^\top y`. The squares
    are exact: float64 adds products of bytes without rounding in images of up to :math:`10^{10}` values, float32 only
    up to 258. Of equals, those that come first in ``batches`` are nearer. A small distance by itself says little, as
    plain images lie near many others: compare with the distances of test images to theirs.

    Only one batch is held at a time, beside the neighbours, so the training set may be larger than memory. The cost
    is ``2 N c h w`` operations a training image.

    Args:
        images: uint8 ``(N, c, h, w)``; all is computed on their device.
        batches: the training images, in parts of any sizes.
        num: neighbours of each image.

    Returns:
        Distances, float64 ``(N, num)``, rising, and the neighbours, uint8 ``(N, num, c, h, w)``.

    Raises:
        TypeError: for images that are not uint8, or batches that are not
            :class:`~nflows_woodbury.data.images.ImageSet`.
        ValueError: for images of different shapes, or fewer than ``num`` in ``batches``.

    >>> import torch
    >>> from nflows_woodbury.data.images import ImageSet
    >>> from nflows_woodbury.evaluation.pictures import image_grid
    >>> training = torch.randint(256, (100, 3, 8, 8), dtype=torch.uint8)
    >>> samples = training[[7, 70]]
    >>> samples[1, 0, 0, 0] ^= 1
    >>> distances, neighbours = nearest_images(samples, map(ImageSet, training.split(30)), 2)
    >>> distances[:, 0], torch.equal(neighbours[:, 0], training[[7, 70]])
    (tensor([0., 1.], dtype=torch.float64), True)
    >>> rows = torch.cat([samples[:, None], neighbours], 1)  # each sample beside its neighbours
    >>> image_grid(rows.flatten(0, 1), columns=3).shape
    torch.Size([3, 22, 32])
    """
    check_uint8_images(images)
    check_positive_int("num", num)
    points = images.flatten(1).double()
    squares, kept = points.new_empty((len(images), 0)), images[:, None][:, :0]
    for batch in batches:
        if not isinstance(batch, ImageSet):
            raise TypeError(f"batches must be ImageSets, got {type(batch).__name__}; ImageSet(images) makes one")
        _same_shape("images and those in batches", images, batch.images, 1)
        others = batch.images.to(images.device)
        found = _squared_distances(points, others.flatten(1).double())
        squares, order = (x[:, :num] for x in torch.cat([squares, found], 1).sort(stable=True))
        kept = _pick(kept, others, order)
    if squares.shape[1] < num:
        raise ValueError(f"batches must hold at least num = {num} images, got {squares.shape[1]}")
    return squares.sqrt(), kept


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Between rows (N, D) and rows (B, D): (N, B)."""
    return x.square().sum(1, keepdim=True) + y.square().sum(1) - 2 * (x @ y.T)


def _pick(kept: Tensor, others: Tensor, order: Tensor) -> Tensor:
    """Images by numbers (N, num) that count each row of ``kept`` (N, held, c, h, w), then ``others`` (B, c, h, w)."""
    count, held = kept.shape[:2]
    own = torch.arange(count, device=kept.device)[:, None] * held + order
    return torch.cat([kept.flatten(0, 1), others])[torch.where(order < held, own, order + (count - 1) * held)]


def _same_shape(names: str, first: Tensor, second: Tensor, start: int = 0) -> None:
    shapes = tuple(first.shape[start:]), tuple(second.shape[start:])
    if shapes[0] != shapes[1]:
        raise ValueError(f"{names} must be alike in shape, got {shapes[0]} and {shapes[1]}")
