"""Bad arguments: each gets an error of the right type that names the argument, what it got and what would do."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from nflows_woodbury import (
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    Chain,
    EmergingConvolution,
    HaarSqueeze,
    ImageFlow,
    InvertibleConv1x1,
    LowRankChain,
    LowRankTransform,
    MaCowUnit,
    MEWoodburyTransform,
    Multiscale,
    PeriodicConvolution,
    SplineCoupling,
    SplitPrior,
    Squeeze,
    TopPrior,
    UniformDequantize,
    VariationalDequantize,
    WoodburyTransform,
    image_flow,
    initialize,
)
from nflows_woodbury.checkpoint import load_flow
from nflows_woodbury.config import FlowConfig, paper_ranks
from nflows_woodbury.data.images import ImageSet
from nflows_woodbury.data.opening import load_cifar10, load_folder, load_npz, open_source
from nflows_woodbury.data.photos import PhotoSource
from nflows_woodbury.data.sources import ArraySource
from nflows_woodbury.evaluation.diagnosis import diagnose
from nflows_woodbury.evaluation.likelihood import bits_per_dim, png_bits_per_dim
from nflows_woodbury.evaluation.pictures import image_grid, save_png
from nflows_woodbury.evaluation.samples import (
    class_numbers,
    interpolations,
    nearest_images,
    reconstructions,
    sample_classes,
)
from nflows_woodbury.normflows import NflowsAdapter, NormflowsAdapter, WoodburyGlowBlock
from nflows_woodbury.train.config import Running, TrainingConfig
from nflows_woodbury.train.presets import preset, with_changes
from nflows_woodbury.transforms.coupling import Coupling
from nflows_woodbury.transforms.emerging import AutoregressiveConvolution
from nflows_woodbury.transforms.macow import MaskedConvCoupling
from nflows_woodbury.transforms.nets import ConvNet, OneHot

SHAPE = (4, 6, 6)
FLOW = partial(
    image_flow, levels=1, steps=1, mixing=InvertibleConv1x1, coupling=partial(AffineCoupling, hidden_channels=4)
)


def flow() -> ImageFlow:
    return FLOW((3, 8, 8))


def classes(count: int) -> ImageFlow:
    return FlowConfig((3, 8, 8), levels=1, steps=1, hidden_channels=4, num_classes=count).build()


class Wrong(torch.nn.Conv2d):
    """A net of one convolution."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, 1, stride)

    def forward(self, inputs: torch.Tensor, context: torch.Tensor | None) -> torch.Tensor:
        return super().forward(inputs)


class Nothing(torch.nn.Module):
    def forward(self, inputs: torch.Tensor, context: torch.Tensor | None) -> None:
        pass


IMAGES = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
SOURCE = ArraySource(ImageSet(IMAGES.repeat(3, 1, 1, 1)), ImageSet(IMAGES))

BAD = [
    # constructors
    (lambda: WoodburyTransform((4, 6), (1,)), ValueError, r"ranks must be \(dc, ds\), got \(1,\)"),
    (lambda: WoodburyTransform((4,), (1, 1)), ValueError, r"ranks must be \(dc\), got \(1, 1\)"),
    (lambda: MEWoodburyTransform((4, 2, 6, 6), (1, 1, 1)), ValueError, r"ranks must be \(dc, dd, dh, dw\), got \(1, 1, 1\)"),
    (lambda: WoodburyTransform((), (1,)), ValueError, r"shape must be \(channels,\), \(channels, length\), .* got \(\)"),
    (lambda: EmergingConvolution((4, 6)), ValueError, r"shape must be \(channels, height, width\), got \(4, 6\)"),
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
    (lambda: LowRankTransform(SHAPE, (-4,), 1), ValueError, r"axes must be consecutive"),
    (lambda: LowRankTransform(SHAPE, 3, 1), ValueError, r"axes must be consecutive axes .* got \(3,\)"),
    (lambda: LowRankTransform(SHAPE, 1.0, 1), TypeError, r"axes must be a sequence of consecutive axes, or one axis, got 1\.0"),
    (lambda: LowRankTransform(None, (0,), 1), TypeError, r"shape must be a sequence of positive integers, or one of them, got None"),
    (lambda: InvertibleConv1x1(SHAPE, "lu"), ValueError, "parametrization must be one of dense, exp, plu, qr; got 'lu'"),
    (lambda: ActNorm(0), ValueError, "num_channels must be a positive integer, got 0"),
    (lambda: ActNorm(SHAPE), TypeError, "num_channels must be a positive integer"),
    (lambda: ActNorm(3, min_std=0), ValueError, "min_std must be positive, got 0"),
    (lambda: AffineCoupling((1, 6, 6), 8), ValueError, "at least 2 channels .* put a Squeeze in front"),
    (lambda: AdditiveCoupling((1, 6, 6), 8), ValueError, "at least 2 channels"),
    (lambda: Coupling(SHAPE, 8), TypeError, "abstract.* map_values.* unmap_values"),
    (lambda: AffineCoupling(SHAPE, 0), ValueError, "hidden_channels must be a positive integer, got 0"),
    (lambda: AffineCoupling(SHAPE, 8, context_features=0), ValueError, "context_features must be a positive integer"),
    (lambda: SplitPrior((1, 6, 6)), ValueError, "at least 2 channels"),
    (lambda: TopPrior((1, 2, 3, 4, 5)), ValueError, r"shape must be .* or \(channels, depth, height, width\), got \(1, 2, 3, 4, 5\)"),
    (lambda: AffineCoupling(SHAPE), TypeError, "hidden_channels must be given, or net in its place; got neither"),
    (lambda: AffineCoupling(SHAPE, 8, net=partial(ConvNet, hidden_channels=8)), TypeError, "net in its place; got both"),
    (lambda: AffineCoupling(SHAPE, net=lambda i, o, f: "ConvNet"), TypeError, "net must return a torch.nn.Module, got"),
    (lambda: AffineCoupling(SHAPE, net=3), TypeError, r"net must be a constructor \(in_channels, out_channels, context_features\), got 3"),
    (lambda: AffineCoupling(SHAPE, net=lambda i, o, f: Wrong(i, o + 1))(torch.zeros(2, *SHAPE)), ValueError, r"net must return shape \(2, 4, 6, 6\) for inputs of shape \(2, 2, 6, 6\), got \(2, 5, 6, 6\) from Wrong"),
    (lambda: AdditiveCoupling(SHAPE, net=lambda i, o, f: Wrong(i, o, 2)).inverse(torch.zeros(2, *SHAPE)), ValueError, r"net must return shape \(2, 2, 6, 6\) .* got \(2, 2, 3, 3\) from Wrong"),
    (lambda: SplineCoupling(SHAPE, net=lambda i, o, f: Nothing())(torch.zeros(2, *SHAPE)), ValueError, "net must return shape .* got NoneType from Nothing"),
    (lambda: AffineCoupling(SHAPE, 8, max_log_scale=0), ValueError, "max_log_scale must be above 0 and finite, got 0"),
    (lambda: MaCowUnit(SHAPE, 8, max_log_scale=float("inf")), ValueError, "max_log_scale must be above 0 and finite, got inf"),
    (lambda: AffineCoupling(SHAPE, 8, max_log_scale="4"), TypeError, "max_log_scale must be a number"),
    (lambda: Squeeze(0), ValueError, "factor must be a positive integer, got 0"),
    (lambda: Squeeze(2.0), TypeError, "factor must be a positive integer, got 2.0"),
    (lambda: Squeeze((2, 0)), ValueError, r"factor\[1\] must be a positive integer, got 0"),
    (lambda: Squeeze((2, 2, 2))(torch.zeros(2, 4, 6, 6)), ValueError, r"factor must be one number, or one for each of 2 axes, got \(2, 2, 2\)"),
    (lambda: Squeeze()(torch.zeros(2, 4)), ValueError, r"inputs must be \(B, c, t\), .* got \(2, 4\)"),
    (lambda: Squeeze((2, 3))(torch.zeros(2, 4, 4, 4)), ValueError, r"h and w divisible by \(2, 3\), got"),
    (lambda: HaarSqueeze(3), ValueError, "factor must be 2, or 1 or 2 for each axis, got 3"),
    (lambda: VariationalDequantize((3,)), ValueError, r"shape must have even sizes, at least one, got \(3,\)"),
    (lambda: VariationalDequantize((3, 4, 5)), ValueError, r"shape must have even height and width, got \(3, 4, 5\)"),
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
    (lambda: InvertibleConv1x1((9, 1, 1))(torch.zeros(4, 9)), ValueError, r"inputs must have shape \(B, 9, h, w\), got \(4, 9\); vectors are images of one pixel"),
    (lambda: ActNorm(4)(torch.zeros(SHAPE)), ValueError, r"got \(4, 6, 6\); one image is a batch of one, inputs\[None\]"),
    (lambda: AffineCoupling(SHAPE, 4)(torch.zeros(2, 4, 6)), ValueError, r"inputs must have shape \(B, 4, h, w\)"),
    (lambda: AffineCoupling(SHAPE, 4)(torch.zeros(2, *SHAPE).double()), TypeError, "inputs must have the layer's dtype"),
    (lambda: SplitPrior(SHAPE)(torch.zeros(2, *SHAPE).double()), TypeError, "inputs must have the layer's dtype"),
    (lambda: SplitPrior(SHAPE)(torch.zeros(2, 3, 6, 6)), ValueError, "inputs must have shape"),
    (lambda: TopPrior(SHAPE)(torch.zeros(2, 4, 5, 6)), ValueError, "inputs must have shape"),
    (lambda: Squeeze()(torch.zeros(2, 3, 5, 6)), ValueError, "h and w divisible by 2, got"),
    (lambda: Squeeze().inverse(torch.zeros(2, 3, 6, 6)), ValueError, "c divisible by 4, got"),
    (lambda: Multiscale([Squeeze()], [(12, 3, 3)]).inverse(torch.zeros(2, 99)), ValueError, r"latents of shape \(B, 108\)"),
    (lambda: UniformDequantize()(torch.zeros(2, 3, 8, 8)), TypeError, "images must be a uint8 tensor .* got torch.float32"),
    (lambda: UniformDequantize()(IMAGES[0, 0, 0]), ValueError, "images must have shape"),
    (lambda: UniformDequantize().inverse(IMAGES), TypeError, "inputs must be a floating point tensor"),
    (lambda: ConvNet(2, 2, 3, hidden_channels=4)(torch.zeros(1, 2, 4, 4)), ValueError, "context must be given, with 3"),
    # flows
    (lambda: FLOW((3, 9, 8)), ValueError, r"divisible by 2\^levels = 2, got 9 x 8"),
    (lambda: FLOW((3, 8, 8), levels=4), ValueError, r"divisible by 2\^levels = 16"),
    (lambda: FLOW((3, 8, 8), levels=0), ValueError, "levels must be a positive integer, got 0"),
    (lambda: FLOW((3, 8, 8), steps=-1), ValueError, "steps must be a positive integer, got -1"),
    (lambda: FLOW((3, 8, 8), mixing=[InvertibleConv1x1] * 2), ValueError, "mixing must be a constructor or 1 of them"),
    (lambda: FLOW((3, 8, 8), coupling="affine"), ValueError, "coupling must be a constructor or 1 of them"),
    (lambda: flow()(torch.zeros(2, 3, 8, 8)), TypeError, r"uint8 .* \(images \* 255\).round"),
    (lambda: flow()(IMAGES.float()), TypeError, r"values from 0 to 255 become one by images\.round\(\)\.to\(torch\.uint8\), values from 0 to 1 by \(images \* 255"),
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
    # every other public constructor and function
    (lambda: AutoregressiveConvolution((4, 6)), ValueError, r"shape must be \(channels, height, width\), got \(4, 6\)"),
    (lambda: AutoregressiveConvolution(SHAPE, 0), ValueError, r"kernel_size must be a positive integer, got 0"),
    (lambda: AutoregressiveConvolution(SHAPE, 2.0), TypeError, r"kernel_size must be a positive integer, got 2\.0"),
    (lambda: AutoregressiveConvolution(SHAPE, 2, "left"), ValueError, r"corner must be one of lower left, lower right,"),
    (lambda: EmergingConvolution((4, 6)), ValueError, r"shape must be \(channels, height, width\), got \(4, 6\)"),
    (lambda: EmergingConvolution(SHAPE, 4), ValueError, r"kernel_size must be odd, so that the window has a"),
    (lambda: EmergingConvolution(SHAPE, -3), ValueError, r"kernel_size must be a positive integer, got -3"),
    (lambda: EmergingConvolution(SHAPE, "3"), TypeError, r"kernel_size must be a positive integer, got '3'"),
    (lambda: EmergingConvolution(SHAPE)(torch.zeros(2, 3, 6, 6)), ValueError, r"inputs must have shape \(B, 4, h, w\), got \(2, 3, 6,"),
    (lambda: EmergingConvolution(SHAPE)(IMAGES), TypeError, r"inputs must be a floating point tensor, got"),
    (lambda: EmergingConvolution(SHAPE).inverse(torch.zeros(4, 6, 6)), ValueError, r"inputs must have shape \(B, 4, h, w\), got \(4, 6, 6\);"),
    (lambda: EmergingConvolution(SHAPE).double()(torch.zeros(2, *SHAPE)), TypeError, r"inputs must have the layer's dtype torch\.float64,"),
    (lambda: PeriodicConvolution((4, 6)), ValueError, r"shape must be \(channels, height, width\), got \(4, 6\)"),
    (lambda: PeriodicConvolution(SHAPE, 7), ValueError, r"shape must be at least as high and wide as the"),
    (lambda: PeriodicConvolution(SHAPE, 0), ValueError, r"kernel_size must be a positive integer, got 0"),
    (lambda: PeriodicConvolution(SHAPE, 3.0), TypeError, r"kernel_size must be a positive integer, got 3\.0"),
    (lambda: PeriodicConvolution(SHAPE)(torch.zeros(2, 4, 2, 6)), ValueError, r"inputs must be at least as high and wide as the"),
    (lambda: PeriodicConvolution(SHAPE)(torch.zeros(2, 5, 6, 6)), ValueError, r"inputs must have shape \(B, 4, h, w\), got \(2, 5, 6,"),
    (lambda: PeriodicConvolution(SHAPE).inverse(IMAGES), TypeError, r"inputs must be a floating point tensor, got"),
    (lambda: PeriodicConvolution(SHAPE)(torch.zeros(2, *SHAPE).double()), TypeError, r"inputs must have the layer's dtype torch\.float32,"),
    (lambda: MaskedConvCoupling((4, 6), 8), ValueError, r"shape must be \(channels, height, width\), got \(4, 6\)"),
    (lambda: MaskedConvCoupling(SHAPE, 0), ValueError, r"hidden_channels must be a positive integer, got 0"),
    (lambda: MaskedConvCoupling(SHAPE, 8, (2, 2)), ValueError, r"kernel_size must have an odd number of columns, as"),
    (lambda: MaskedConvCoupling(SHAPE, 8, 3), TypeError, r"kernel_size must be a sequence \(rows, columns\), got"),
    (lambda: MaskedConvCoupling(SHAPE, 8, (0, 3)), ValueError, r"kernel_size\[0\] must be a positive integer, got 0"),
    (lambda: MaskedConvCoupling(SHAPE, 8, direction="north"), ValueError, r"direction must be one of down, left, right, up; got"),
    (lambda: MaskedConvCoupling(SHAPE, 8, context_features=0), ValueError, r"context_features must be a positive integer, got 0"),
    (lambda: MaCowUnit((4, 6), 8), ValueError, r"shape must be \(channels, height, width\), got \(4, 6\)"),
    (lambda: MaCowUnit(SHAPE, 0), ValueError, r"hidden_channels must be a positive integer, got 0"),
    (lambda: MaCowUnit(SHAPE, 8, (2, 4)), ValueError, r"kernel_size must have an odd number of columns, as"),
    (lambda: MaCowUnit(SHAPE, 8, (2, 3, 3)), ValueError, r"kernel_size must be \(rows, columns\), got \(2, 3, 3\)"),
    (lambda: MaCowUnit(SHAPE, 8)(torch.zeros(2, 3, 6, 6)), ValueError, r"inputs must have shape \(B, 4\) or \(B, 4, \.\.\.\), got \(2, 3, 6,"),
    (lambda: MaCowUnit(SHAPE, 8)(IMAGES), TypeError, r"inputs must be a floating point tensor, got"),
    (lambda: MaCowUnit(SHAPE, 8)(torch.zeros(2, *SHAPE).double()), TypeError, r"inputs must have the layer's dtype torch\.float32,"),
    (lambda: MaCowUnit(SHAPE, 8, context_features=3)(torch.zeros(2, *SHAPE)), ValueError, r"context must be given, with 3 features; got None"),
    (lambda: MaCowUnit(SHAPE, 8, context_features=3)(torch.zeros(2, *SHAPE), torch.zeros(2, 4)), ValueError, r"context must have shape \(B, 3\) or \(B, 3, h, w\), got"),
    (lambda: SplineCoupling((1, 6, 6), 8), ValueError, r"shape must have at least 2 channels to split, got"),
    (lambda: SplineCoupling(SHAPE, 0), ValueError, r"hidden_channels must be a positive integer, got 0"),
    (lambda: SplineCoupling(SHAPE, 8, num_bins=0), ValueError, r"num_bins must be a positive integer, got 0"),
    (lambda: SplineCoupling(SHAPE, 8, num_bins=1.5), TypeError, r"num_bins must be a positive integer, got 1\.5"),
    (lambda: SplineCoupling(SHAPE, 8, tail_bound=0), ValueError, r"tail_bound must be positive and finite, got 0"),
    (lambda: SplineCoupling(SHAPE, 8, tail_bound=-1), ValueError, r"tail_bound must be positive and finite, got -1"),
    (lambda: SplineCoupling(SHAPE, 8, tail_bound=float("nan")), ValueError, r"tail_bound must be positive and finite, got nan"),
    (lambda: SplineCoupling(SHAPE, 8, num_bins=2000), ValueError, r"num_bins must be at least 2 and below 1000, got 2000"),
    (lambda: SplineCoupling(SHAPE, 8)(torch.zeros(2, 3, 6, 6)), ValueError, r"inputs must have shape \(B, 4, h, w\), got \(2, 3, 6,"),
    (lambda: SplineCoupling(SHAPE, 8)(torch.zeros(2, *SHAPE).double()), TypeError, r"inputs must have the layer's dtype torch\.float32,"),
    (lambda: SplineCoupling(SHAPE, 8)([1.0]), TypeError, r"inputs must be a floating point tensor, got list;"),
    (lambda: AffineCoupling(SHAPE, 8, context_features=3)(torch.zeros(2, *SHAPE)), ValueError, r"context must be given, with 3 features; got None"),
    (lambda: AffineCoupling(SHAPE, 8, context_features=3)(torch.zeros(2, *SHAPE), torch.zeros(2, 4)), ValueError, r"context must have shape \(B, 3\) or \(B, 3, h, w\), got"),
    (lambda: AffineCoupling(SHAPE, 8, context_features=3)(torch.zeros(2, *SHAPE), torch.zeros(2, 3, 6)), ValueError, r"context must have shape \(B, 3\) or \(B, 3, h, w\), got"),
    (lambda: AdditiveCoupling(SHAPE, 0), ValueError, r"hidden_channels must be a positive integer, got 0"),
    (lambda: AdditiveCoupling(SHAPE, 4).inverse(torch.zeros(2, 4, 6)), ValueError, r"inputs must have shape \(B, 4, h, w\), got \(2, 4, 6\);"),
    (lambda: VariationalDequantize((3, 8, 8), 9), ValueError, r"bits must be between 1 and 8, got 9"),
    (lambda: VariationalDequantize((3, 8, 8), steps=0), ValueError, r"steps must be a positive integer, got 0"),
    (lambda: VariationalDequantize((3, 8, 8), hidden_channels=0), ValueError, r"hidden_channels must be a positive integer, got 0"),
    (lambda: VariationalDequantize((3, 8, 8), mixing="woodbury"), TypeError, r"mixing must be a constructor of a transform, or"),
    (lambda: VariationalDequantize((3, 8, 8))(torch.zeros(2, 3, 8, 8)), TypeError, r"images must be a uint8 tensor with values 0 to 255,"),
    (lambda: VariationalDequantize((3, 8, 8))(IMAGES[:, :, :6]), ValueError, r"images must have shape \(B, 3, 8, 8\), got \(2, 3, 6,"),
    (lambda: VariationalDequantize((3, 7, 8)), ValueError, r"shape must have even height and width, got \(3, 7,"),
    (lambda: Chain([Squeeze, Squeeze]), TypeError, r"transforms must be nflows Transforms in a sequence,"),
    (lambda: Chain(Squeeze()), TypeError, r"transforms must be nflows Transforms in a sequence,"),
    (lambda: Multiscale([Squeeze()], ["abc"]), TypeError, r"shapes\[0\] must be a sequence, such as \(channels, height,"),
    (lambda: Multiscale(Squeeze(), [SHAPE]), TypeError, r"levels and shapes must be sequences, got Squeeze\(factor=2\)"),
    (lambda: ActNorm(4)(torch.zeros(2, 3, 6, 6)), ValueError, r"inputs must have shape \(B, 4\) or \(B, 4, \.\.\.\), got \(2, 3, 6,"),
    (lambda: ActNorm(4)(IMAGES), TypeError, r"inputs must be a floating point tensor, got"),
    (lambda: ActNorm(4, min_std=float("nan")), ValueError, r"min_std must be positive, got nan"),
    (lambda: initialize(ActNorm(4), torch.zeros(2, 3, 6, 6)), ValueError, r"inputs must have shape \(B, 4\) or \(B, 4, \.\.\.\), got \(2, 3, 6,"),
    (lambda: initialize(ActNorm(4), torch.zeros(0, 4, 6, 6)), ValueError, r"inputs must hold at least one value, got shape \(0,"),
    (lambda: initialize(Squeeze(), torch.zeros(2, 3, 5, 5)), ValueError, r"inputs must be \(B, c, h, w\) with h and w divisible"),
    (lambda: Squeeze(True), TypeError, r"factor must be a positive integer, got True"),
    (lambda: Squeeze()(torch.zeros(2, 3, 5)), ValueError, r"inputs must be \(B, c, t\) with t divisible by 2, got \(2, 3, 5\)"),
    (lambda: Squeeze()([1]), TypeError, r"inputs must be a tensor \(B, c, h, w\), got list"),
    (lambda: LowRankChain([]), TypeError, r"updates must be LowRankTransforms, at least one, got \[\]"),
    (lambda: LowRankChain([ActNorm(4)]), TypeError, r"updates must be LowRankTransforms, at least one, got \[ActNorm"),
    (lambda: LowRankChain([LowRankTransform(SHAPE, (0,), 1), LowRankTransform(SHAPE, (0, 1), 1)]), ValueError, r"updates must be of one shape, along different axes in rising order"),
    (lambda: LowRankChain([LowRankTransform(SHAPE, (0,), 1), LowRankTransform((4, 6), (1,), 1)]), ValueError, r"updates must be of one shape, along different"),
    (lambda: LowRankTransform((), (0,), 1), ValueError, r"axes must be consecutive axes of shape \(\) in rising"),
    (lambda: LowRankTransform((4, -6), (0,), 1), ValueError, r"shape\[1\] must be a positive integer, got -6"),
    (lambda: LowRankTransform(SHAPE, (0,), True), TypeError, r"rank must be a positive integer, got True"),
    (lambda: LowRankTransform(SHAPE, (0,), 2, init=3), ValueError, r"init must be one of cancelling, cancelling-unit,"),
    (lambda: LowRankTransform(SHAPE, (0,), 2, init=lambda n, d: (torch.zeros(n, d), torch.zeros(n, d))), ValueError, r"init must give factors of shapes \(4, 2\) and \(2, 4\),"),
    (lambda: LowRankTransform(SHAPE, (0,), 2)(torch.zeros(2, 4, 6, 7)), ValueError, r"inputs must have shape \(B, 4, 6, 6\), got \(2, 4, 6,"),
    (lambda: LowRankTransform("9", 0, 2), TypeError, r"shape must be a sequence of positive integers, or one of them, got '9'"),
    (lambda: WoodburyTransform(SHAPE, None), TypeError, r"ranks must be a sequence \(dc, ds\), got None"),
    (lambda: MEWoodburyTransform(SHAPE, (1, 1, 1), init=("paper",)), ValueError, r"init must be one start or one for each of \(dc, dh,"),
    (lambda: MEWoodburyTransform(SHAPE, (1, 1, 1), init="identity"), ValueError, r"init must be one of cancelling, cancelling-unit,"),
    (lambda: InvertibleConv1x1((0, 6, 6)), ValueError, r"shape\[0\] must be a positive integer, got 0"),
    (lambda: InvertibleConv1x1(SHAPE)(torch.zeros(2, *SHAPE).half()), TypeError, r"inputs must have the layer's dtype torch\.float32,"),
    (lambda: InvertibleConv1x1(SHAPE).inverse(torch.zeros(2, 4, 36)), ValueError, r"inputs must have shape \(B, 4, h, w\), got \(2, 4,"),
    (lambda: FlowConfig(shape=()), ValueError, r"shape must be .* got \(\)"),
    (lambda: FlowConfig(shape="rgb"), TypeError, r"shape must be a sequence, such as \(channels, height, width\), got 'rgb'"),
    (lambda: FlowConfig(dequantize="none"), ValueError, r"dequantize must be one of uniform, variational; got"),
    (lambda: FlowConfig(levels=2.5), TypeError, r"levels must be a positive integer, got 2\.5"),
    (lambda: FlowConfig(steps=0).build(), ValueError, r"steps must be a positive integer, got 0"),
    (lambda: FlowConfig(hidden_channels=0).build(), ValueError, r"hidden_channels must be a positive integer, got 0"),
    (lambda: FlowConfig(bits=0).build(), ValueError, r"bits must be a positive integer, got 0"),
    (lambda: FlowConfig(num_classes=-1), ValueError, r"num_classes must be an integer from 0, got -1"),
    (lambda: FlowConfig(num_classes=2.5), TypeError, r"num_classes must be an integer from 0, got 2\.5"),
    (lambda: FlowConfig(start="identity"), ValueError, r"start must be one of cancelling, cancelling-unit,"),
    (lambda: FlowConfig(mixing="conv1x1", start="paper"), ValueError, r"start must be 'default' for conv1x1, which has no"),
    (lambda: FlowConfig(mixing="periodic", channel_ranks=(1, 2, 3)), ValueError, r"channel_ranks must be None for periodic, which has"),
    (lambda: FlowConfig(channel_ranks=(8, 8)), ValueError, r"channel_ranks must be 3 ranks, one for each level,"),
    (lambda: FlowConfig(channel_ranks=8), ValueError, r"channel_ranks must be 3 ranks, one for each level,"),
    (lambda: FlowConfig(pixel_ranks=(8, 8, 0)), ValueError, r"pixel_ranks\[2\] must be a positive integer, got 0"),
    (lambda: FlowConfig(pixel_ranks=(8, 8, 1.5)), TypeError, r"pixel_ranks\[2\] must be a positive integer, got 1\.5"),
    (lambda: FlowConfig(pixel_ranks="abc"), TypeError, r"pixel_ranks\[0\] must be a positive integer, got 'a'"),
    (lambda: FlowConfig.from_dict({"shape": (3, 8, 8), "depth": 3}), ValueError, r"settings must be among shape, levels, steps,"),
    (lambda: paper_ranks(0), ValueError, r"levels must be a positive integer, got 0"),
    (lambda: paper_ranks(2.5), TypeError, r"levels must be a positive integer, got 2\.5"),
    (lambda: TrainingConfig(max_steps=0), ValueError, r"max_steps must be a positive integer, got 0"),
    (lambda: TrainingConfig(max_steps=1.5), TypeError, r"max_steps must be a positive integer, got 1\.5"),
    (lambda: TrainingConfig(batch_size=-4), ValueError, r"batch_size must be a positive integer, got -4"),
    (lambda: TrainingConfig(accumulate=0), ValueError, r"accumulate must be a positive integer, got 0"),
    (lambda: TrainingConfig(batch_size=9, accumulate=2), ValueError, r"batch_size must be a multiple of accumulate \(2\),"),
    (lambda: TrainingConfig(every=0), ValueError, r"every must be a positive integer, got 0"),
    (lambda: TrainingConfig(learning_rate=0), ValueError, r"learning_rate must be positive, got 0"),
    (lambda: TrainingConfig(learning_rate=float("nan")), ValueError, r"learning_rate must be positive, got nan"),
    (lambda: TrainingConfig(warmup_steps=-1), ValueError, r"warmup_steps must be an integer from 0, got -1"),
    (lambda: TrainingConfig(schedule="linear"), ValueError, r"schedule must be one of constant, cosine; got"),
    (lambda: TrainingConfig(clip_norm=float("nan")), ValueError, r"clip_norm must be at least 0, got nan"),
    (lambda: TrainingConfig(clip_value=-1), ValueError, r"clip_value must be at least 0, got -1"),
    (lambda: TrainingConfig(weight_decay=-0.1), ValueError, r"weight_decay must be at least 0, got -0\.1"),
    (lambda: TrainingConfig(weight_decay="x"), TypeError, r"weight_decay must be a number, at least 0, got 'x'"),
    (lambda: TrainingConfig(betas=(0.9, 1)), ValueError, r"betas must be at least 0 and below 1, got 0\.9 and 1\.0"),
    (lambda: TrainingConfig(betas=(-0.1, 0.9)), ValueError, r"betas\[0\] must be at least 0, got -0\.1"),
    (lambda: TrainingConfig(betas=0.9), TypeError, r"betas must be two numbers, got 0\.9"),
    (lambda: TrainingConfig(betas=(0.9, 0.99, 0.999)), TypeError, r"betas must be two numbers, got \(0\.9, 0\.99, 0\.999\)"),
    (lambda: TrainingConfig(skip_limit=-1), ValueError, r"skip_limit must be an integer from 0, got -1"),
    (lambda: TrainingConfig(ema_decay=1.0), ValueError, r"ema_decay must be at least 0 and below 1, got 1\.0"),
    (lambda: TrainingConfig(ema_decay=-0.1), ValueError, r"ema_decay must be at least 0, got -0\.1"),
    (lambda: TrainingConfig(precision="fp16"), ValueError, r"precision must be one of bf16, float32, float64;"),
    (lambda: TrainingConfig(seed=-1), ValueError, r"seed must be an integer from 0, got -1"),
    (lambda: TrainingConfig(seed=1.5), TypeError, r"seed must be an integer from 0, got 1\.5"),
    (lambda: TrainingConfig(temperature=-0.5), ValueError, r"temperature must be at least 0, got -0\.5"),
    (lambda: TrainingConfig(test_images=-1), ValueError, r"test_images must be an integer from 0, got -1"),
    (lambda: TrainingConfig(size=0), ValueError, r"size must be a positive integer, got 0"),
    (lambda: preset("cifar10"), ValueError, r"preset must be one of cifar10-macow,"),
    (lambda: preset(None), ValueError, r"preset must be one of cifar10-spline,"),
    (lambda: with_changes("mnist-woodbury", {}), ValueError, r"preset must be one of imagenet64-woodbury,"),
    (lambda: class_numbers(classes(3), None), ValueError, r"labels must be given for a model with 3 classes,"),
    (lambda: class_numbers(classes(3), torch.tensor([0, 3])), ValueError, r"class numbers must be from 0 to 2, got 3"),
    (lambda: classes(3)(IMAGES, torch.tensor([4, -1])), ValueError, r"class numbers must be from 0 to 2, got -1, 4"),
    (lambda: classes(3)(IMAGES, torch.zeros(2, 1, dtype=torch.int64)), ValueError, r"class numbers must have shape \(B,\), got \(2, 1\)"),
    (lambda: classes(3)(IMAGES, torch.tensor([True, False])), TypeError, r"context must be class numbers, integers, or a floating point tensor, got torch\.bool"),
    (lambda: classes(3)(IMAGES), ValueError, r"context must be given, with 3 features; got None"),
    (lambda: classes(3).sample(2, torch.tensor([3])), ValueError, r"class numbers must be from 0 to 2, got 3"),
    (lambda: OneHot(0), ValueError, r"num_classes must be a positive integer, got 0"),
    (lambda: Running(devices=0), ValueError, r"devices must be a positive integer, got 0"),
    (lambda: Running(num_nodes=1.5), TypeError, r"num_nodes must be a positive integer, got 1\.5"),
    (lambda: bits_per_dim(flow(), ImageSet(IMAGES), samples=0), ValueError, r"samples must be a positive integer, got 0"),
    (lambda: bits_per_dim(flow(), ImageSet(IMAGES), samples=1.5), TypeError, r"samples must be a positive integer, got 1\.5"),
    (lambda: bits_per_dim(flow(), ImageSet(IMAGES), importance_samples=0), ValueError, r"importance_samples must be a positive integer, got 0"),
    (lambda: bits_per_dim(flow(), ImageSet(IMAGES), batch_size=0), ValueError, r"batch_size must be a positive integer, got 0"),
    (lambda: bits_per_dim(flow(), ImageSet(IMAGES[:0])), ValueError, r"images must hold at least one image, got none"),
    (lambda: bits_per_dim(classes(3), ImageSet(IMAGES)), ValueError, r"labels must be given for a model with 3 classes,"),
    (lambda: bits_per_dim(flow(), ImageSet(IMAGES[:, :, :4])), ValueError, r"images must have shape \(B, 3, 8, 8\), got \(2, 3, 4,"),
    (lambda: png_bits_per_dim(IMAGES.float()), TypeError, r"images must be a uint8 tensor with values 0 to 255,"),
    (lambda: png_bits_per_dim(IMAGES[0]), ValueError, r"images must have shape \(B, channels, height,"),
    (lambda: png_bits_per_dim(IMAGES[:0]), ValueError, r"images must hold at least one image, got none"),
    (lambda: image_grid(IMAGES[:0]), ValueError, r"images must hold at least one image, got shape \(0,"),
    (lambda: image_grid(IMAGES, gap=-1), ValueError, r"gap must be an integer from 0, got -1"),
    (lambda: save_png(IMAGES, "never.png"), ValueError, r"image must have shape \(1, h, w\) or \(3, h, w\), got"),
    (lambda: save_png(IMAGES[0].float(), "never.png"), TypeError, r"image must be a uint8 tensor, got torch\.float32"),
    (lambda: save_png(IMAGES[0], "never.png", zoom=0), ValueError, r"zoom must be a positive integer, got 0"),
    (lambda: interpolations(flow(), IMAGES, IMAGES, 1), ValueError, r"num must be at least 2, for both ends, got 1"),
    (lambda: interpolations(flow(), IMAGES, IMAGES[:1], 3), ValueError, r"first and second must be alike in shape, got \(2, 3,"),
    (lambda: interpolations(flow(), IMAGES.float(), IMAGES.float(), 3), TypeError, r"images must be a uint8 tensor with values 0 to 255,"),
    (lambda: nearest_images(IMAGES, [ImageSet(IMAGES)], 3), ValueError, r"batches must hold at least num = 3 images, got 2"),
    (lambda: nearest_images(IMAGES, [ImageSet(IMAGES)], 0), ValueError, r"num must be a positive integer, got 0"),
    (lambda: nearest_images(IMAGES, [], 1), ValueError, r"batches must hold at least num = 1 images, got 0"),
    (lambda: nearest_images(IMAGES, [ImageSet(IMAGES[:, :, :4])], 1), ValueError, r"images and those in batches must be alike in shape,"),
    (lambda: sample_classes(flow(), 0), ValueError, r"count must be a positive integer, got 0"),
    (lambda: sample_classes(flow(), 2, label=0), ValueError, r"label must be one of the model's 0 classes, from 0,"),
    (lambda: sample_classes(classes(3), 2, label=3), ValueError, r"label must be one of the model's 3 classes, from 0,"),
    (lambda: sample_classes(flow(), 2, temperature=-1), ValueError, r"temperature must be at least 0, got -1"),
    (lambda: reconstructions(flow(), IMAGES.float()), TypeError, r"images must be a uint8 tensor with values 0 to 255,"),
    (lambda: diagnose(flow(), IMAGES.float()), TypeError, r"images must be a uint8 tensor with values 0 to 255,"),
    (lambda: diagnose(flow(), IMAGES[:, :, :4]), ValueError, r"images must have shape \(B, 3, 8, 8\), got \(2, 3, 4,"),
    (lambda: ImageSet(IMAGES.float()), TypeError, r"images must be a uint8 tensor with values 0 to 255,"),
    (lambda: ImageSet(IMAGES[0]), ValueError, r"images must have shape \(B, channels, height,"),
    (lambda: ImageSet(IMAGES, torch.zeros(2)), TypeError, r"labels must be int64, got torch\.float32"),
    (lambda: ImageSet(IMAGES, torch.zeros(3, dtype=torch.int64)), ValueError, r"labels must be 2 integers from 0, got tensor\(\[0, 0,"),
    (lambda: ImageSet(IMAGES, torch.tensor([0, -1])), ValueError, r"labels must be 2 integers from 0, got tensor\(\[ 0,"),
    (lambda: ImageSet(IMAGES.numpy()), TypeError, r"images must be a uint8 tensor with values 0 to 255,"),
    (lambda: ArraySource(ImageSet(IMAGES[:0])), ValueError, r"there must be two or more images to hold a test set"),
    (lambda: ArraySource(ImageSet(IMAGES), ImageSet(IMAGES[:, :, :4])), ValueError, r"train, test \(and validation\) must be alike in shape"),
    (lambda: ArraySource(ImageSet(IMAGES), ImageSet(IMAGES, torch.zeros(2, dtype=torch.int64))), ValueError, r"train, test \(and validation\) must be alike in shape"),
    (lambda: ArraySource(ImageSet(IMAGES), ImageSet(IMAGES), validation_size=2), ValueError, r"validation_size must be below 2, the number of"),
    (lambda: ArraySource(ImageSet(IMAGES), ImageSet(IMAGES), validation_size=-1), ValueError, r"validation_size must be an integer from 0, got -1"),
    (lambda: ArraySource(ImageSet(IMAGES), test_images=2), ValueError, r"test_images must be below 2, the number of images,"),
    (lambda: ArraySource(ImageSet(IMAGES), ImageSet(IMAGES), test_images=1), ValueError, r"test_images must be None where test is given, got 1"),
    (lambda: SOURCE.batch(-1, 2, seed=0), ValueError, r"step must be an integer from 0, got -1"),
    (lambda: SOURCE.batch(0, 0, seed=0), ValueError, r"batch_size must be a positive integer, got 0"),
    (lambda: SOURCE.batch(0, 2, seed=-1), ValueError, r"seed must be an integer from 0, got -1"),
    (lambda: SOURCE.batch(0, 2, seed=0, rank=1), ValueError, r"rank must be below world_size \(1\), got 1"),
    (lambda: SOURCE.batch(0, 2, seed=0, rank=0, world_size=0), ValueError, r"world_size must be a positive integer, got 0"),
    (lambda: SOURCE.batch(0, 2, seed=0, world_size=3), ValueError, r"batch_size must be a multiple of world_size \(3\),"),
    (lambda: SOURCE.batch(1.5, 2, seed=0), TypeError, r"step must be an integer from 0, got 1\.5"),
    (lambda: PhotoSource(0), ValueError, r"size must be a positive integer, got 0"),
    (lambda: PhotoSource(1000), ValueError, r"size must be at most 113 to fit each photo's right"),
    (lambda: PhotoSource(2.5), TypeError, r"size must be a positive integer, got 2\.5"),
    (lambda: open_source("no/such/place"), FileNotFoundError, r"'no/such/place' is not there; give 'photos', a"),
    (lambda: open_source(3), TypeError, r"spec must be a string, 'photos', a folder, an \.npz,"),
    (lambda: open_source("photos", size=-1), ValueError, r"size must be a positive integer, got -1"),
    (lambda: open_source("photos", test_images=10), ValueError, r"test_images must be None, as 'photos' has a test"),
    (lambda: open_source("hf:"), ValueError, r"a data set on the hub must be OWNER/NAME or"),
    (lambda: load_folder("no/such/folder"), FileNotFoundError, r"no/such/folder is not a folder"),
    (lambda: load_cifar10("no/such/folder"), FileNotFoundError, r"no/such/folder holds none of data_batch_1,"),
    (lambda: load_npz("no/such.npz"), FileNotFoundError, r"\[Errno 2\] No such file or directory: 'no/such\.npz'"),
    (lambda: load_flow("no/such/run"), FileNotFoundError, r"no/such/run is neither a checkpoint nor a run's"),
    (lambda: NormflowsAdapter(3), TypeError, r"transform must be an nflows Transform, got int"),
    (lambda: NormflowsAdapter(Chain), TypeError, r"transform must be an nflows Transform, got type"),
    (lambda: NflowsAdapter(Squeeze()), TypeError, r"flow must be a normflows Flow, got Squeeze"),
    (lambda: WoodburyGlowBlock((1, 4, 4), 8), ValueError, r"shape must have at least 2 channels to split, got"),
    (lambda: WoodburyGlowBlock((4, 4, 4), 0), ValueError, r"hidden_channels must be a positive integer, got 0"),
    (lambda: WoodburyGlowBlock((4, 4), 8), ValueError, r"shape must be \(channels, height, width\), got \(4, 4\)"),
    (lambda: FLOW((3, 8, 8), levels=1, base=3), TypeError, r"base must be a function from the number of features"),
    (lambda: FLOW((3, 8, 8), levels=1, context_features=0), ValueError, r"context_features must be a positive integer, got 0"),
    (lambda: FLOW((3, 8, 8, 8, 8), levels=1), ValueError, r"shape must be .* got \(3, 8, 8, 8, 8\)"),
    (lambda: flow().sample(-1), ValueError, r"num_samples must be a positive integer, got -1"),
    (lambda: flow().sample(2, temperature="1"), TypeError, r"temperature must be a number, at least 0, got '1'"),
    (lambda: flow().sample_and_log_prob(0), ValueError, r"num_samples must be a positive integer, got 0"),
    (lambda: flow().transform_from_noise(torch.zeros(2, 192).double()), TypeError, r"inputs must have the layer's dtype torch\.float32,"),
    (lambda: flow().transform_from_noise(IMAGES), ValueError, r"inputs must be latents of shape \(B, 192\), got \(2,"),
]  # fmt: skip


CLEAR = [
    (lambda: LowRankTransform(9, 0, 2), lambda: LowRankTransform((9,), (0,), 2)),
    (lambda: LowRankTransform(SHAPE, 0, 2), lambda: LowRankTransform(SHAPE, (0,), 2)),
    (lambda: LowRankTransform(SHAPE, -1, 2), lambda: LowRankTransform(SHAPE, (2,), 2)),
    (lambda: LowRankTransform(SHAPE, (-1,), 2), lambda: LowRankTransform(SHAPE, (2,), 2)),
    (lambda: LowRankTransform(SHAPE, (-2, -1), 2), lambda: LowRankTransform(SHAPE, [1, 2], 2)),
]


@pytest.mark.parametrize("case", range(len(CLEAR)))
def test_what_is_clear_is_taken(case: int) -> None:
    layers = []
    for make in CLEAR[case]:
        torch.manual_seed(0)
        layers.append(make())
    assert repr(layers[0]) == repr(layers[1])
    inputs = torch.randn(3, *layers[0].shape)
    assert torch.equal(layers[0](inputs)[0], layers[1](inputs)[0])


@pytest.mark.parametrize("case", range(len(BAD)))
def test_bad_arguments_are_named(case: int) -> None:
    call, error, message = BAD[case]
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_table_is_long_enough_to_mean_something() -> None:
    assert len(BAD) >= 200
