"""Bad arguments: each gets an error of the right type that names the argument, what it got and what would do."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from nflows_woodbury import (
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    ImageFlow,
    InvertibleConv1x1,
    LowRankTransform,
    MEWoodburyTransform,
    Multiscale,
    SplitPrior,
    Squeeze,
    TopPrior,
    UniformDequantize,
    WoodburyTransform,
    image_flow,
)
from nflows_woodbury.nets import ConvNet
from nflows_woodbury.pictures import image_grid
from nflows_woodbury.presets import FlowConfig

SHAPE = (4, 6, 6)
FLOW = partial(
    image_flow, levels=1, steps=1, mixing=InvertibleConv1x1, coupling=partial(AffineCoupling, hidden_channels=4)
)


def flow() -> ImageFlow:
    return FLOW((3, 8, 8))


IMAGES = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)

BAD = [
    # constructors
    (lambda: WoodburyTransform((4, 6), (1, 1)), ValueError, r"shape must be \(channels, height, width\), got \(4, 6\)"),
    (lambda: WoodburyTransform(4, (1, 1)), TypeError, "shape must be a sequence"),
    (lambda: WoodburyTransform("446", (1, 1)), TypeError, "shape must be a sequence"),
    (lambda: WoodburyTransform((4, 0, 6), (1, 1)), ValueError, r"shape\[1\] must be a positive integer, got 0"),
    (lambda: WoodburyTransform((4, 6.0, 6), (1, 1)), TypeError, r"shape\[1\] must be a positive integer, got 6.0"),
    (lambda: WoodburyTransform((True, 6, 6), (1, 1)), TypeError, r"shape\[0\] must be a positive integer, got True"),
    (lambda: WoodburyTransform(SHAPE, (0, 1)), ValueError, "rank dc must be a positive integer, got 0"),
    (lambda: WoodburyTransform(SHAPE, (1, -2)), ValueError, "rank ds must be a positive integer, got -2"),
    (lambda: WoodburyTransform(SHAPE, (1, 1.5)), TypeError, "rank ds must be a positive integer, got 1.5"),
    (lambda: WoodburyTransform(SHAPE, (1, 1, 1)), ValueError, r"ranks must be \(dc, ds\), got \(1, 1, 1\)"),
    (lambda: WoodburyTransform(SHAPE, 8), TypeError, r"ranks must be a sequence \(dc, ds\), got 8"),
    (lambda: MEWoodburyTransform(SHAPE, (1, 1)), ValueError, r"ranks must be \(dc, dh, dw\), got \(1, 1\)"),
    (lambda: MEWoodburyTransform(SHAPE, (1, 0, 1)), ValueError, "rank dh must be a positive integer, got 0"),
    (lambda: WoodburyTransform(SHAPE, (1, 1), init="zeros"), ValueError, "init must be one of cancelling, cancelling-unit, paper, reflec"),
    (lambda: WoodburyTransform(SHAPE, (1, 1), init=("paper",)), ValueError, "init must be one start or one for each"),
    (lambda: LowRankTransform(SHAPE, (0,), 0), ValueError, "rank must be a positive integer, got 0"),
    (lambda: LowRankTransform(SHAPE, (0, 2), 1), ValueError, r"axes must be consecutive axes .* got \(0, 2\)"),
    (lambda: LowRankTransform(SHAPE, (2, 1), 1), ValueError, r"axes must be consecutive"),
    (lambda: LowRankTransform(SHAPE, (2, 3), 1), ValueError, r"axes must be consecutive"),
    (lambda: LowRankTransform(SHAPE, (), 1), ValueError, r"axes must be consecutive"),
    (lambda: LowRankTransform(SHAPE, (-1,), 1), ValueError, r"axes must be consecutive"),
    (lambda: InvertibleConv1x1(SHAPE, "lu"), ValueError, "parametrization must be one of dense, plu; got 'lu'"),
    (lambda: ActNorm(0), ValueError, "num_channels must be a positive integer, got 0"),
    (lambda: ActNorm(SHAPE), TypeError, "num_channels must be a positive integer"),
    (lambda: ActNorm(3, min_std=0), ValueError, "min_std must be positive, got 0"),
    (lambda: AffineCoupling((1, 6, 6), 8), ValueError, "at least 2 channels .* put a Squeeze in front"),
    (lambda: AdditiveCoupling((1, 6, 6), 8), ValueError, "at least 2 channels"),
    (lambda: AffineCoupling(SHAPE, 0), ValueError, "hidden_channels must be a positive integer, got 0"),
    (lambda: AffineCoupling(SHAPE, 8, context_features=0), ValueError, "context_features must be a positive integer"),
    (lambda: SplitPrior((1, 6, 6)), ValueError, "at least 2 channels"),
    (lambda: TopPrior((1, 6)), ValueError, "shape must be"),
    (lambda: Squeeze(0), ValueError, "factor must be a positive integer, got 0"),
    (lambda: Squeeze(2.0), TypeError, "factor must be a positive integer, got 2.0"),
    (lambda: UniformDequantize(0), ValueError, "bits must be a positive integer, got 0"),
    (lambda: UniformDequantize(9), ValueError, "bits must be between 1 and 8, got 9"),
    (lambda: UniformDequantize(5.0), TypeError, "bits must be a positive integer, got 5.0"),
    (lambda: Multiscale([], []), ValueError, "levels and shapes must pair up"),
    (lambda: Multiscale([Squeeze()], [SHAPE, SHAPE]), ValueError, "levels and shapes must pair up, .* got 1 and 2"),
    # inputs
    (lambda: WoodburyTransform(SHAPE, (1, 1))(torch.zeros(2, 4, 6, 5)), ValueError, r"inputs must have shape \(B, 4, 6, 6\)"),
    (lambda: WoodburyTransform(SHAPE, (1, 1)).inverse(torch.zeros(4, 6, 6)), ValueError, "inputs must have shape"),
    (lambda: WoodburyTransform(SHAPE, (1, 1))(IMAGES), TypeError, "inputs must be a floating point tensor, got torch.uint8"),
    (lambda: WoodburyTransform(SHAPE, (1, 1))([1.0]), TypeError, "inputs must be a floating point tensor, got list"),
    (lambda: WoodburyTransform(SHAPE, (1, 1))(torch.zeros(2, *SHAPE).double()), TypeError, "inputs must have the layer's dtype"),
    (lambda: InvertibleConv1x1(SHAPE)(torch.zeros(2, 3, 6, 6)), ValueError, r"inputs must have shape \(B, 4, h, w\)"),
    (lambda: ActNorm(4).double()(torch.zeros(2, *SHAPE)), TypeError, "inputs must have the layer's dtype torch.float64"),
    (lambda: AffineCoupling(SHAPE, 4)(torch.zeros(2, 4, 6)), ValueError, r"inputs must have shape \(B, 4, h, w\)"),
    (lambda: AffineCoupling(SHAPE, 4)(torch.zeros(2, *SHAPE).double()), TypeError, "inputs must have the layer's dtype"),
    (lambda: SplitPrior(SHAPE)(torch.zeros(2, *SHAPE).double()), TypeError, "inputs must have the layer's dtype"),
    (lambda: SplitPrior(SHAPE)(torch.zeros(2, 3, 6, 6)), ValueError, "inputs must have shape"),
    (lambda: TopPrior(SHAPE)(torch.zeros(2, 4, 5, 6)), ValueError, "inputs must have shape"),
    (lambda: Squeeze()(torch.zeros(2, 3, 5, 6)), ValueError, "h and w divisible by 2, got"),
    (lambda: Squeeze().inverse(torch.zeros(2, 3, 6, 6)), ValueError, "c divisible by 4, got"),
    (lambda: Multiscale([Squeeze()], [(12, 3, 3)]).inverse(torch.zeros(2, 99)), ValueError, r"latents of shape \(B, 108\)"),
    (lambda: UniformDequantize()(torch.zeros(2, 3, 8, 8)), TypeError, "images must be a uint8 tensor .* got torch.float32"),
    (lambda: UniformDequantize()(IMAGES[0]), ValueError, "images must have shape"),
    (lambda: UniformDequantize().inverse(IMAGES), TypeError, "inputs must be a floating point tensor"),
    (lambda: ConvNet(2, 4, 2, context_features=3)(torch.zeros(1, 2, 4, 4)), ValueError, "context must be given, with 3"),
    # flows
    (lambda: FLOW((3, 9, 8)), ValueError, r"divisible by 2\^levels = 2, got 9 x 8"),
    (lambda: FLOW((3, 8, 8), levels=4), ValueError, r"divisible by 2\^levels = 16"),
    (lambda: FLOW((3, 8, 8), levels=0), ValueError, "levels must be a positive integer, got 0"),
    (lambda: FLOW((3, 8, 8), steps=-1), ValueError, "steps must be a positive integer, got -1"),
    (lambda: FLOW((3, 8, 8), mixing=[InvertibleConv1x1] * 2), ValueError, "mixing must be a constructor or 1 of them"),
    (lambda: FLOW((3, 8, 8), coupling="affine"), ValueError, "coupling must be a constructor or 1 of them"),
    (lambda: flow()(torch.zeros(2, 3, 8, 8)), TypeError, r"uint8 .* \(images \* 255\).round"),
    (lambda: flow()(IMAGES[:, :, :4]), ValueError, r"images must have shape \(B, 3, 8, 8\), got \(2, 3, 4, 8\)"),
    (lambda: flow().log_prob(IMAGES[:, :2]), ValueError, "images must have shape"),
    (lambda: flow().initialize(IMAGES.float()), TypeError, "images must be a uint8 tensor"),
    (lambda: flow().transform_to_noise(IMAGES.float()), TypeError, "images must be a uint8 tensor"),
    (lambda: flow().transform_from_noise(torch.zeros(2, 191)), ValueError, r"latents of shape \(B, 192\)"),
    (lambda: flow().sample(0), ValueError, "num_samples must be a positive integer, got 0"),
    (lambda: flow().sample(2.0), TypeError, "num_samples must be a positive integer, got 2.0"),
    (lambda: flow().sample(2, batch_size=0), ValueError, "batch_size must be a positive integer, got 0"),
    (lambda: flow().sample(2, temperature=-1), ValueError, "temperature must be at least 0, got -1"),
    (lambda: flow().sample(2, temperature=float("nan")), ValueError, "temperature must be at least 0, got nan"),
    # settings
    (lambda: FlowConfig(mixing="conv"), ValueError, "mixing must be one of .*woodbury.* got 'conv'"),
    (lambda: FlowConfig(coupling="Affine"), ValueError, "coupling must be one of .*affine.* got 'Affine'"),
    (lambda: FlowConfig(levels=0), ValueError, "levels must be a positive integer"),
    (lambda: image_grid(torch.zeros(2, 3, 4, 4)), TypeError, "images must be a uint8 tensor"),
    (lambda: image_grid(IMAGES, columns=0), ValueError, "columns must be a positive integer"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(BAD)))
def test_bad_arguments_are_named(case: int) -> None:
    call, error, message = BAD[case]
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
