"""The pictures people show of a flow: samples, reconstructions, interpolations, nearest images, and grids of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from nflows_woodbury.checks import check_natural_int, check_positive_int, check_uint8_images
from nflows_woodbury.data.walking import AFTER_HEADER, DRAWN
from nflows_woodbury.files import whole_file
from nflows_woodbury.optional import import_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["captioned", "image_grid", "pair_grid", "png_bytes", "save_figure", "save_png"]


def image_grid(images: Tensor, columns: int | None = None, gap: int = 2) -> Tensor:
    """One image, uint8 ``(c, H, W)``, of all of them, row by row, with white gaps.

    Args:
        images: uint8 ``(N, c, h, w)``.
        columns: images in a row; by default about as many as rows.
        gap: pixels between images and around them.

    Raises:
        TypeError, ValueError: for other images, or columns that are no positive integer.

    >>> import torch
    >>> image_grid(torch.zeros(6, 3, 8, 8, dtype=torch.uint8), columns=3).shape
    torch.Size([3, 22, 32])
    """
    check_uint8_images(images)
    count, channels, height, width = images.shape
    if not count:
        raise ValueError(f"images must hold at least one image, got shape {tuple(images.shape)}")
    gap = check_natural_int("gap", gap)
    columns = ceil(count**0.5) if columns is None else check_positive_int("columns", columns)
    rows = ceil(count / columns)
    cells = images.new_full((rows * columns, channels, height + gap, width + gap), 255)
    cells[:count, :, gap:, gap:] = images
    grid = cells.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    return F.pad(grid, (0, gap, 0, gap), value=255)


def pair_grid(first: Tensor, second: Tensor) -> Tensor:
    """The :func:`image_grid` of images, each with its partner on its right, in rows of whole pairs.

    >>> import torch
    >>> images = torch.zeros(5, 3, 8, 8, dtype=torch.uint8)
    >>> pair_grid(images, images).shape  # 3 rows of 2 pairs
    torch.Size([3, 32, 42])
    """
    columns = ceil((2 * len(first)) ** 0.5)
    return image_grid(torch.stack([first, second], 1).flatten(0, 1), columns=columns + columns % 2)


def captioned(images: Tensor, captions: Sequence[str], columns: int | None = None, width: int = 96) -> Tensor:
    """One image, uint8 ``(3, H, W)``, of all of them, each at least ``width`` pixels wide and over its caption.

    Args:
        images: uint8 ``(N, c, h, w)``.
        captions: one for each image, of any number of lines; a line that is too long is cut.
        columns: images in a row; by default about as many as rows.
        width: images are enlarged by a whole number to have it, at least.

    Raises:
        TypeError, ValueError, ImportError: for other images, another number of captions, or without Pillow.

    >>> import torch
    >>> captioned(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), ["a", "b"], columns=1).shape[0]
    3
    """
    check_uint8_images(images)
    if len(captions) != len(images):
        raise ValueError(f"captions must be {len(images)}, one for each image, got {len(captions)}")
    zoom = ceil(width / images.shape[3])
    large = images.expand(-1, 3, -1, -1).repeat_interleave(zoom, -2).repeat_interleave(zoom, -1)
    lines = max(caption.count("\n") for caption in captions) + 1
    below = [_text(caption, large.shape[3], 13 * lines + 3) for caption in captions]
    return image_grid(torch.cat([large.cpu(), torch.stack(below)], 2), columns)


def _text(caption: str, width: int, height: int) -> Tensor:
    """Black on white, uint8 ``(3, height, width)``."""
    pil = import_extra("PIL.Image")
    picture = pil.new("RGB", (width, height), "white")
    font = import_extra("PIL.ImageFont").load_default(11)
    import_extra("PIL.ImageDraw").Draw(picture).text((0, 0), caption, "black", font)
    return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(height, width, 3).movedim(2, 0)


def save_png(image: Tensor, path: str | Path, zoom: int = 1, *, drawn: bool = False) -> Path:
    """Write an image as PNG, whole or not at all, and return the path.

    Args:
        image: uint8 ``(c, h, w)``, grey or RGB.
        path: where to; missing folders are made, and a file that is there is replaced.
        zoom: how often each pixel is repeated, along both axes.
        drawn: note in the file that it shows what a flow makes, so that it is never taken for data.

    Raises:
        TypeError, ValueError, ImportError: for other images, a zoom that is no positive integer, or without Pillow.

    >>> import torch
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     save_png(torch.zeros(3, 8, 8, dtype=torch.uint8), f"{folder}/black.png", zoom=4).name
    'black.png'
    """
    data = png_bytes(image.repeat_interleave(check_positive_int("zoom", zoom), -2).repeat_interleave(zoom, -1))
    with whole_file(path) as new:
        new.write_bytes(_as_drawn(data) if drawn else data)
    return Path(path)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a matplotlib figure as PNG, whole or not at all, with a note in the file that it is no data.

    >>> from matplotlib.figure import Figure
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     save_figure(Figure(), f"{folder}/empty.png")
    ...     Path(folder, "empty.png").read_bytes()[1:4]
    b'PNG'
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    with whole_file(path) as new:
        new.write_bytes(_as_drawn(buffer.getvalue()))


def _as_drawn(data: bytes) -> bytes:
    return data[:AFTER_HEADER] + DRAWN + data[AFTER_HEADER:]


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
    import_extra("PIL.Image").fromarray(array).save(buffer, "png", optimize=True)
    return buffer.getvalue()
