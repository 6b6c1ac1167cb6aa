"""Dequantization: uint8 images to floats in [-1/2, 1/2), as the first transform of an image flow."""

from __future__ import annotations

from math import log, prod
from typing import Any

import torch
from nflows.transforms.base import Transform
from torch import Tensor

from nflows_woodbury.checks import check_channels, check_layer_dtype, check_positive_int, check_uint8
from nflows_woodbury.linalg.modes import is_plain

__all__ = ["UniformDequantize", "check_finite"]


class UniformDequantize(Transform):
    r"""Uniform dequantization of uint8 images to ``bits`` bits.

    .. math:: y = (q + u) / 2^b - 1/2, \quad q = \lfloor x / 2^{8 - b} \rfloor, \quad u \sim U[0, 1),
              \qquad \log|\det J| = -D\, b \log 2

    with ``D = c h w``. The flow's log-density of ``y`` plus this log-det is a lower bound on the log-probability of
    the quantized image, ``log P(q)``, in expectation over ``u``. The inverse is the floor:
    ``inverse(forward(x))`` is exactly ``x`` with its lower ``8 - b`` bits cleared; values outside the range go to the
    nearest bin. NaN and infinity are no pixels: an image with such a value has the log-det NaN.

    The noise comes from torch's global generator of the images' device. Outputs have the module's dtype, float32
    or what ``.double()`` and the like made of it.

    Args:
        bits: bits kept, 1 to 8.

    Shapes:
        inputs uint8 ``(B, c, h, w)``; outputs floating ``(B, c, h, w)``; ``logabsdet`` ``(B,)``. Also ``(B, c)``,
        ``(B, c, t)`` and ``(B, c, d, h, w)``.

    Raises:
        TypeError: for images that are not uint8.
        ValueError: for images of another number of axes, or bits outside 1 to 8.
        FloatingPointError: from ``inverse``, for images that are not finite, on the CPU outside compiled code.
            Elsewhere a check would stall the device.

    Reference: Theis, van den Oord and Bethge, A note on the evaluation of generative models, ICLR 2016, section 3.1.

    >>> import torch
    >>> images = torch.randint(256, (2, 3, 4, 4), dtype=torch.uint8)
    >>> dequantize = UniformDequantize()
    >>> values, logabsdet = dequantize(images)
    >>> bool((dequantize.inverse(values)[0] == images).all())
    True
    """

    _like: Tensor

    def __init__(self, bits: int = 8) -> None:
        super().__init__()
        if check_positive_int("bits", bits) > 8:
            raise ValueError(f"bits must be between 1 and 8, got {bits}")
        self.bits = bits
        # An empty buffer follows .double() and .to(device): it says which dtype the flow works in.
        self.register_buffer("_like", torch.empty(0), persistent=False)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Images to floats in [-1/2, 1/2)."""
        return self._add(inputs, torch.rand(inputs.shape, dtype=self._dtype, device=inputs.device))

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Floats to uint8 images by floor; values outside [-1/2, 1/2) go to the nearest bin."""
        check_channels(inputs)
        levels = 2**self.bits
        logabsdet = torch.where(inputs.flatten(1).isfinite().all(1), -self._logabsdet(inputs), float("nan"))
        check_finite(logabsdet)
        bins = (inputs * levels).floor().clamp(-levels // 2, levels // 2 - 1) + levels // 2
        return (bins * 2 ** (8 - self.bits)).to(torch.uint8), logabsdet

    def extra_repr(self) -> str:
        """Show the arguments in ``print``."""
        return f"bits={self.bits}"

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(state_dict, *args, **kwargs)
        if self._like.is_meta:  # and would stay there, where loading assigns the parameters of a flow
            device = next((tensor.device for tensor in state_dict.values()), torch.device("cpu"))
            self._like = torch.empty(0, dtype=self._like.dtype, device=device)

    @property
    def _dtype(self) -> torch.dtype:
        """The dtype of the outputs; TypeError for half precision."""
        check_layer_dtype(self._like, self._like.dtype)
        return self._like.dtype

    def _add(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Put ``noise`` in [0, 1] on the bins; rounding never carries a value into the next bin."""
        check_uint8(images)
        levels = 2**self.bits
        lower = (images >> (8 - self.bits)).to(noise.dtype) / levels - 0.5  # exact
        last = torch.nextafter(lower + 1 / levels, lower)
        return torch.minimum(lower + noise / levels, last), self._logabsdet(images)

    def _logabsdet(self, images: Tensor) -> Tensor:
        value = -prod(images.shape[1:]) * self.bits * log(2)
        return torch.full((images.shape[0],), value, dtype=self._dtype, device=images.device)


def check_finite(logabsdet: Tensor, what: str = "images", parts: str = "pixels") -> None:
    """FloatingPointError with how many images are not finite, given their log-dets ``(B,)``, on the CPU.

    Elsewhere a look would stall the device, and in compiled code it cannot be taken.

    ``what`` and ``parts`` are the words for images and pixels where other data are meant.

    >>> import torch
    >>> try:
    ...     check_finite(torch.tensor([0.5, float("nan")]))
    ... except FloatingPointError as error:
    ...     print(str(error).split(":")[0])
    1 of 2 images are not finite
    """
    if logabsdet.device.type == "cpu" and is_plain(logabsdet) and (failed := int((~logabsdet.isfinite()).sum())):
        raise FloatingPointError(
            f"{failed} of {logabsdet.numel()} {what} are not finite: NaN and infinity are no {parts}; a lower "
            "temperature may help, and nflows-woodbury diagnose says which layer cannot be trusted"
        )
