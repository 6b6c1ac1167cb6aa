"""Fields as pictures: a colour for each value, from dark blue over green to light yellow.

>>> COLOURS[0], COLOURS[-1]
((22, 16, 64), (250, 236, 148))
"""

from __future__ import annotations

import torch
from torch import Tensor

from nflows_woodbury.checks import check_floating

__all__ = ["COLOURS", "colour_range", "coloured", "pictured"]

#: red, green and blue of the lowest value, of the highest, and of those between, evenly spread; lightness rises evenly
COLOURS = ((22, 16, 64), (38, 68, 128), (28, 120, 140), (60, 166, 116), (156, 204, 90), (250, 236, 148))


def colour_range(fields: Tensor) -> tuple[float, float]:
    """The values that take the ends of the colours: 0.5 % of the finite ones lie below, and as many above.

    >>> colour_range(torch.linspace(0, 1, 1001))
    (0.005, 0.995)
    """
    values = fields.detach().double().flatten()
    values = values[values.isfinite()].sort().values
    if not len(values):
        return 0.0, 1.0
    ends = [round(share * (len(values) - 1)) for share in (0.005, 0.995)]
    low, high = (round(float(values[i]), 6) for i in ends)
    return (low, high) if low < high else (low - 0.5, low + 0.5)


def coloured(fields: Tensor, ends: tuple[float, float] | None = None) -> Tensor:
    """Pictures of fields: uint8 ``(N, 3, H, W)``, the channels side by side.

    A field of ``(c, t)`` is drawn as ``c`` rows; of one with depth, ``(c, d, h, w)``, its middle slice is drawn. What
    is not finite is white.

    Args:
        fields: floating ``(N, c, ...)``.
        ends: the values of the first and the last colour; by default those of :func:`colour_range`.

    >>> coloured(torch.randn(5, 2, 8, 8)).shape
    torch.Size([5, 3, 8, 16])
    """
    check_floating(fields)
    while fields.dim() > 4:
        fields = fields[:, :, fields.shape[2] // 2]
    wide = fields.detach().double().cpu()
    plane = wide if wide.dim() == 3 else wide.movedim(1, 2).flatten(2)
    low, high = colour_range(fields) if ends is None else ends
    place = ((plane.nan_to_num() - low) / (high - low)).clamp(0, 1) * (len(COLOURS) - 1)
    table = torch.tensor(COLOURS, dtype=torch.float64)
    first = place.floor().clamp_max(len(COLOURS) - 2).long()
    colours = torch.lerp(table[first], table[first + 1], (place - first)[..., None])
    colours = torch.where(plane.isfinite()[..., None], colours, 255.0)
    return colours.round().to(torch.uint8).movedim(-1, 1)


def pictured(*images: Tensor) -> list[Tensor]:
    """Images as they are, on the CPU, and fields :func:`coloured`, all by the colours of the first ones.

    >>> [picture.dtype for picture in pictured(torch.randn(2, 1, 8, 8), torch.randn(2, 1, 8, 8))]
    [torch.uint8, torch.uint8]
    """
    if not images[0].is_floating_point():
        return [part.cpu() for part in images]
    ends = colour_range(images[0])
    return [coloured(part, ends) for part in images]
