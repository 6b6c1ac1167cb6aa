"""Our layers in normflows, and normflows' flows in nflows.

The two libraries differ in direction: an nflows ``Transform`` maps data to noise in ``forward``, a normflows ``Flow``
noise to data. The adapters swap the two methods; everything else stays what it is. Importing this module changes
nothing in normflows; :func:`register` puts the named classes into ``normflows.flows``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, wraps
from inspect import Parameter, signature
from typing import Any

import normflows
import torch
from nflows.transforms.base import Transform
from torch import Tensor

from nflows_woodbury import transforms
from nflows_woodbury.checks import check_image_shape
from nflows_woodbury.transforms import ActNorm, AffineCoupling, Chain, WoodburyTransform

__all__ = ["NflowsAdapter", "NormflowsAdapter", "WoodburyGlowBlock", "register"]
__all__ += ["EmergingConv", "InvertibleConv1x1", "MEWoodbury", "MaCow", "PeriodicConv", "SplineCoupling", "Woodbury"]

Shape = tuple[int, int, int]


class NormflowsAdapter(normflows.flows.Flow):
    """Any nflows ``Transform``, ours or nflows' own, as a normflows ``Flow``.

    ``forward`` is the transform's inverse (noise to data), ``inverse`` calls the transform (data to noise).
    Layers that start from data start through :func:`nflows_woodbury.initialize`, called with the whole model.

    Args:
        transform: kept as the attribute ``transform``; TypeError for anything but an nflows ``Transform``.

    Shapes: those of the transform; log-dets ``(B,)``.

    >>> import torch
    >>> from nflows.transforms import PointwiseAffineTransform
    >>> flow = NormflowsAdapter(PointwiseAffineTransform(scale=2.0))
    >>> flow(torch.ones(2, 1))[1]
    tensor([-0.6931, -0.6931])
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        if not isinstance(transform, Transform):
            raise TypeError(f"transform must be an nflows Transform, got {type(transform).__name__}")
        self.transform = transform

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map noise to data."""
        return _with_log_det_per_row(z, self.transform.inverse(z, context))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map data to noise; the transform is called as a module, so its hooks run."""
        return _with_log_det_per_row(z, self.transform(z, context))


class NflowsAdapter(Transform):
    """Any normflows ``Flow`` as an nflows ``Transform``: ``forward`` is the flow's inverse, ``inverse`` calls the flow.

    A log-det that normflows gives as a number or a scalar becomes ``(B,)``. Context goes to flows whose ``forward`` and
    ``inverse`` have a parameter for it, ``context`` or ``y``; others do without, as nflows' own layers do.

    Args:
        flow: kept as the attribute ``flow``; TypeError for anything but a normflows ``Flow``. Density needs its
            inverse, which some flows lack.

    Shapes: those of the flow; ``logabsdet`` ``(B,)``.

    >>> import normflows, torch
    >>> squeeze = NflowsAdapter(normflows.flows.Squeeze())
    >>> outputs, logabsdet = squeeze(torch.zeros(2, 3, 4, 4))
    >>> outputs.shape, logabsdet
    (torch.Size([2, 12, 2, 2]), tensor([0., 0.]))
    """

    def __init__(self, flow: normflows.flows.Flow) -> None:
        super().__init__()
        if not isinstance(flow, normflows.flows.Flow):
            raise TypeError(f"flow must be a normflows Flow, got {type(flow).__name__}")
        self.flow = flow
        self._context_names = _context_name(flow.forward), _context_name(flow.inverse)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map data to noise."""
        keywords = self._keywords(self._context_names[1], context)
        return _with_log_det_per_row(inputs, self.flow.inverse(inputs, **keywords))

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map noise to data."""
        keywords = self._keywords(self._context_names[0], context)
        return _with_log_det_per_row(inputs, self.flow(inputs, **keywords))

    def _keywords(self, name: str | None, context: Tensor | None) -> dict[str, Tensor]:
        return {} if name is None or context is None else {name: context}


class Woodbury(NormflowsAdapter):
    """:class:`~nflows_woodbury.transforms.woodbury.WoodburyTransform` as a normflows ``Flow``; the same arguments.

    >>> Woodbury((12, 8, 8), ranks=(4, 8))(torch.randn(4, 12, 8, 8))[0].shape
    torch.Size([4, 12, 8, 8])
    """

    @wraps(transforms.WoodburyTransform.__init__)  # type: ignore[misc]  # their signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(transforms.WoodburyTransform(*args, **kwargs))


class MEWoodbury(NormflowsAdapter):
    """:class:`~nflows_woodbury.transforms.woodbury.MEWoodburyTransform` as a normflows ``Flow``; the same arguments.

    >>> MEWoodbury((12, 8, 8), ranks=(4, 8, 8))(torch.randn(4, 12, 8, 8))[0].shape
    torch.Size([4, 12, 8, 8])
    """

    @wraps(transforms.MEWoodburyTransform.__init__)  # type: ignore[misc]  # their signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(transforms.MEWoodburyTransform(*args, **kwargs))


class InvertibleConv1x1(NormflowsAdapter):
    """:class:`~nflows_woodbury.transforms.conv1x1.InvertibleConv1x1` as a normflows ``Flow``; the same arguments.

    >>> InvertibleConv1x1((12, 8, 8))(torch.randn(4, 12, 8, 8))[0].shape
    torch.Size([4, 12, 8, 8])
    """

    @wraps(transforms.InvertibleConv1x1.__init__)  # type: ignore[misc]  # their signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(transforms.InvertibleConv1x1(*args, **kwargs))


class EmergingConv(NormflowsAdapter):
    """:class:`~nflows_woodbury.transforms.emerging.EmergingConvolution` as a normflows ``Flow``; the same arguments.

    >>> EmergingConv((12, 8, 8))(torch.randn(4, 12, 8, 8))[0].shape
    torch.Size([4, 12, 8, 8])
    """

    @wraps(transforms.EmergingConvolution.__init__)  # type: ignore[misc]  # their signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(transforms.EmergingConvolution(*args, **kwargs))


class PeriodicConv(NormflowsAdapter):
    """:class:`~nflows_woodbury.transforms.periodic.PeriodicConvolution` as a normflows ``Flow``; the same arguments.

    >>> PeriodicConv((12, 8, 8))(torch.randn(4, 12, 8, 8))[0].shape
    torch.Size([4, 12, 8, 8])
    """

    @wraps(transforms.PeriodicConvolution.__init__)  # type: ignore[misc]  # their signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(transforms.PeriodicConvolution(*args, **kwargs))


class MaCow(NormflowsAdapter):
    """:class:`~nflows_woodbury.transforms.macow.MaCowUnit` as a normflows ``Flow``; the same arguments.

    >>> MaCow((12, 8, 8), hidden_channels=16)(torch.randn(4, 12, 8, 8))[0].shape
    torch.Size([4, 12, 8, 8])
    """

    @wraps(transforms.MaCowUnit.__init__)  # type: ignore[misc]  # their signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(transforms.MaCowUnit(*args, **kwargs))


class SplineCoupling(NormflowsAdapter):
    """:class:`~nflows_woodbury.transforms.spline.SplineCoupling` as a normflows ``Flow``; the same arguments.

    >>> SplineCoupling((12, 8, 8), hidden_channels=16)(torch.randn(4, 12, 8, 8))[0].shape
    torch.Size([4, 12, 8, 8])
    """

    @wraps(transforms.SplineCoupling.__init__)  # type: ignore[misc]  # their signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(transforms.SplineCoupling(*args, **kwargs))


class WoodburyGlowBlock(NormflowsAdapter):
    """A block that stands where normflows' ``GlowBlock`` does, with any mixing and coupling.

    Data to noise: ActNorm, the identity until ``nflows_woodbury.initialize(model, images)``; mixing; coupling.

    Args:
        shape: ``(c, h, w)`` at the block's level.
        hidden_channels: of the coupling.
        mixing: ``(c, h, w) -> Transform``, such as ``partial(WoodburyTransform, ranks=(8, 16))``, the default.
        coupling: called as ``coupling(shape, hidden_channels, context_features=...)``, such as ``AffineCoupling``.
        context_features: features of the context that the coupling takes, or None to ignore context.

    Shapes: ``(B, c, h, w)`` both ways; log-dets ``(B,)``. Raises ValueError or TypeError for what the parts refuse.

    Reference: Lu and Huang, NeurIPS 2020, section 4; Kingma and Dhariwal, Glow, NeurIPS 2018, section 3.

    >>> WoodburyGlowBlock((12, 16, 16), hidden_channels=32)(torch.randn(4, 12, 16, 16))[0].shape
    torch.Size([4, 12, 16, 16])
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden_channels: int,
        *,
        mixing: Callable[[Shape], Transform] = partial(WoodburyTransform, ranks=(8, 16)),  # noqa: B008 - never changed
        coupling: Callable[..., Transform] = AffineCoupling,
        context_features: int | None = None,
    ) -> None:
        shape = check_image_shape(shape)
        last = coupling(shape, hidden_channels, context_features=context_features)
        super().__init__(Chain([ActNorm(shape[0]), mixing(shape), last]))


def register() -> None:
    """Put our flows into ``normflows.flows`` by their names; calling it again changes nothing.

    Raises:
        ValueError: if normflows has something else by one of the names; then nothing is put there.

    >>> import normflows
    >>> register()
    >>> normflows.flows.Woodbury((12, 8, 8), ranks=(4, 8)).transform[0].rank
    4
    """
    ours = [Woodbury, MEWoodbury, InvertibleConv1x1, EmergingConv, PeriodicConv, MaCow, SplineCoupling]
    flows = {flow.__name__: flow for flow in (*ours, WoodburyGlowBlock)}
    for name, flow in flows.items():
        if getattr(getattr(normflows.flows, name, flow), "__module__", None) != __name__:
            raise ValueError(f"normflows.flows.{name} exists already; use {__name__}.{name} under that name instead")
    for name, flow in flows.items():
        setattr(normflows.flows, name, flow)


def _with_log_det_per_row(inputs: Tensor, result: tuple[Tensor, Tensor | float]) -> tuple[Tensor, Tensor]:
    """Return the outputs, and the log-det as ``(B,)``: normflows gives int, scalar or ``(B,)``."""
    outputs, log_det = result
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    return outputs, torch.zeros(inputs.shape[0], dtype=dtype, device=inputs.device) + log_det


def _context_name(method: Callable[..., Any]) -> str | None:
    """Return the name of the parameter of a flow's method that takes the context, or None if it has none."""
    parameters = signature(method).parameters
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return "context"
    return next((name for name in ("context", "y") if name in parameters), None)
