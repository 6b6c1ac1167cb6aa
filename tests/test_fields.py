"""Flows over floats: their density, the way back, their first transforms, and what they refuse."""

from __future__ import annotations

from functools import partial
from math import log

import pytest
import torch
from nflows.distributions import StandardNormal
from nflows.transforms import InverseTransform
from parts import AFFINE, WOODBURY, build, random_images
from registry import dense_jacobian, move
from torch import Tensor

from nflows_woodbury import (
    AffineCoupling,
    Chain,
    ConditionNet,
    FieldFlow,
    InvertibleConv1x1,
    Logit,
    Standardize,
    field_flow,
    initialize,
)

SHAPE = (2, 8, 8)
FIRST = {
    "nothing": lambda: None,
    "standardize": lambda: Standardize(2),
    "logit": lambda: Logit(-100, 200),
    "both": lambda: Chain([Logit(-100, 200), Standardize(2)]),
}


def fields(count: int = 4, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    noise = torch.randn(count, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (20 + 5 * noise).to(dtype)


def make(first: str = "standardize", **parts) -> FieldFlow:
    torch.manual_seed(0)
    settings = {"levels": 2, "steps": 1, "mixing": WOODBURY, "coupling": AFFINE, "first": FIRST[first](), **parts}
    flow = field_flow(SHAPE, **settings).double()
    flow.initialize(fields(64))
    return move(flow, 0.2).eval()


@pytest.mark.parametrize("first", FIRST)
def test_log_prob_is_the_change_of_variables(first: str) -> None:
    flow, inputs = make(first), fields()
    logabsdet = torch.stack([torch.linalg.slogdet(dense_jacobian(flow._transform, x[None])).logabsdet for x in inputs])
    noise = flow.transform_to_noise(inputs)
    expected = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1).log_prob(noise).sum(1) + logabsdet
    torch.testing.assert_close(flow.log_prob(inputs), expected, rtol=1e-10, atol=1e-8)
    torch.testing.assert_close(flow(inputs), -expected / (128 * log(2)), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(2, 8), (1, 4, 6), (1, 4, 2, 4)], ids=str)
def test_fields_have_any_number_of_axes_and_so_have_conditions(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    coupling = partial(AffineCoupling, hidden_channels=6, context_features=3)
    first, condition = Standardize(shape[0]), partial(ConditionNet, in_channels=2, features=3)
    flow = field_flow(shape, levels=1, steps=1, mixing=InvertibleConv1x1, coupling=coupling, first=first,
                      condition=condition, context_features=3).double()  # fmt: skip
    inputs, given = 5 + 3 * torch.randn(16, *shape).double(), torch.randn(16, 2, *[3] * (len(shape) - 1))
    flow.initialize(inputs, given)
    flow, rows = move(flow, 0.2).eval(), flow._embedding_net(given[:1])
    noise = flow.transform_to_noise(inputs, given)
    torch.testing.assert_close(flow.decode(noise, given), inputs, rtol=1e-10, atol=1e-10)
    expected = torch.linalg.slogdet(dense_jacobian(flow._transform, inputs[:1], rows)).logabsdet
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1).log_prob(noise[0]).sum()
    torch.testing.assert_close(flow.log_prob(inputs, given)[0], normal + expected)
    assert flow.sample(2, given[:3]).shape == (3, 2, *shape)


@pytest.mark.parametrize("first", FIRST)
def test_fields_come_back(first: str) -> None:
    flow, inputs = make(first), fields()
    noise = flow.transform_to_noise(inputs)
    for back in (flow.transform_from_noise(noise), flow.decode(noise)):
        torch.testing.assert_close(back, inputs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("low, high, first", [(-20.0, 20.0, []), (0.0, 1.0, [Logit(margin=0)])], ids=["", "logit"])
def test_the_density_of_two_numbers_integrates_to_one(low: float, high: float, first: list[Logit]) -> None:
    """By the midpoint rule over the square that holds all of it, or nearly so."""
    torch.manual_seed(0)
    parts = [InvertibleConv1x1((2, 1, 1)), AffineCoupling((2, 1, 1), 4), InvertibleConv1x1((2, 1, 1))]
    flow = FieldFlow(move(Chain([*first, *parts]), 0.3), StandardNormal((2, 1, 1)), shape=(2, 1, 1)).double()
    ends = torch.linspace(low, high, 801, dtype=torch.float64)
    middles = (ends[1:] + ends[:-1]) / 2
    with torch.no_grad():
        density = flow.log_prob(torch.cartesian_prod(middles, middles)[:, :, None, None]).exp()
    assert density.max() > 1.01 * density.median()
    assert abs(float(density.sum()) * ((high - low) / 800) ** 2 - 1) < 1e-7


def test_samples_are_floats_of_the_flows_dtype_and_seed() -> None:
    flow = make()
    torch.manual_seed(3)
    whole = flow.sample(5)
    torch.manual_seed(3)
    assert torch.equal(whole, flow.transform_from_noise(torch.randn(5, 128).double()))
    assert whole.dtype == torch.float64 and not whole.requires_grad and flow.float().sample(2).dtype == torch.float32


def test_the_first_transform_starts_from_data() -> None:
    torch.manual_seed(0)
    flow = field_flow(SHAPE, levels=1, steps=1, mixing=WOODBURY, coupling=AFFINE, first=Standardize(2))
    inputs = torch.stack([300 + 20 * torch.randn(200, 8, 8), 1e-6 * torch.randn(200, 8, 8)], 1)
    flow.initialize(inputs)
    outputs, _ = flow._transform[0](inputs)
    for channel in range(2):
        assert outputs[:, channel].mean().abs() < 1e-4 and (outputs[:, channel].std() - 1).abs() < 1e-4


def test_a_constant_channel_keeps_its_scale() -> None:
    layer = Standardize(2)
    layer.initialize(torch.stack([torch.full((5, 3), 7.0), torch.arange(15.0).view(5, 3)], 1))
    assert layer.scale[0] == 1 and layer.mean.tolist() == [7.0, 7.0]


def test_standardization_starts_where_data_reach_it_by_its_inverse() -> None:
    inverse = InverseTransform(Standardize(2))
    inputs = torch.randn(50, 2, 4) * 3 + 5
    initialize(inverse, inputs)
    assert inverse(inputs)[0].mean().abs() < 1e-5 and (inverse(inputs)[0].std(correction=0) - 1).abs() < 0.1


IMAGES = random_images(3, SHAPE)
VALUES = fields(3, dtype=torch.float32)
BROKEN = VALUES.clone()
BROKEN[1, 0, 2, 3], BROKEN[2, 1, 0, 0] = torch.nan, torch.inf
FLOAT = make().float()
CALLS = {
    "log_prob": lambda flow, x: flow.log_prob(x),
    "forward": lambda flow, x: flow(x),
    "initialize": lambda flow, x: flow.initialize(x),
    "transform_to_noise": lambda flow, x: flow.transform_to_noise(x),
}
BAD = {
    "images": (IMAGES, TypeError, "fields must be a float32 or float64 tensor, got torch.uint8; .*image_flow"),
    "integers": (VALUES.long(), TypeError, r"got torch\.int64; fields\.to\(torch\.float32\)"),
    "complex": (VALUES.to(torch.complex64), TypeError, r"got torch\.complex64; torch\.view_as_real"),
    "half": (VALUES.half(), TypeError, r"got torch\.float16; fields\.to\(torch\.float32\)"),
    "one field": (VALUES[0], ValueError, r"got \(2, 8, 8\); one field is a batch of one, fields\[None\]"),
    "channels": (VALUES[:, :1], ValueError, r"fields must have shape \(B, 2, 8, 8\), got \(3, 1, 8, 8\)"),
    "channels last": (VALUES.movedim(1, 3), ValueError, r"got \(3, 8, 8, 2\)"),
    "not finite": (BROKEN, ValueError, "fields must be finite, got NaN or infinity in 2 of 3; leave those out"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", BAD)
def test_bad_fields_are_refused_with_what_would_do(name: str, call: str) -> None:
    inputs, error, message = BAD[name]
    with pytest.raises(error, match=message):
        CALLS[call](FLOAT, inputs)


def test_arrays_are_told_to_become_tensors() -> None:
    with pytest.raises(TypeError, match=r"got ndarray; torch\.as_tensor\(fields, dtype=torch\.float32\) makes one"):
        FLOAT.initialize(VALUES.numpy())


def test_a_start_needs_a_field() -> None:
    with pytest.raises(ValueError, match="at least one value, got shape"):
        FLOAT.initialize(VALUES[:0])
    assert FLOAT.log_prob(VALUES[:0]).shape == (0,)


def test_an_image_flow_says_what_to_do_with_floats() -> None:
    with pytest.raises(TypeError, match=r"ToTensor divided by 255.*field_flow"):
        build().log_prob(torch.rand(2, 3, 8, 8))


def test_samples_that_are_not_finite_are_counted() -> None:
    flow = make().float()
    with torch.no_grad():
        flow._transform[0].scale[1] = 1e38
        torch.nn.init.constant_(flow._transform[1].levels[0][1][0].bias, 1e4)
    for call in (flow.sample, lambda count: flow.sample_and_log_prob(count)[0]):
        with pytest.raises(FloatingPointError, match=r"^4 of 4 fields are not finite: NaN and infinity are no values"):
            call(4)


def test_compiled_and_vmapped_code_does_not_look_at_values() -> None:
    compiled = torch.compile(FLOAT.log_prob, fullgraph=True, backend="eager")
    assert compiled(BROKEN).isnan().tolist() == [False, True, True]
    assert torch.vmap(lambda x: FLOAT.log_prob(x[None]))(BROKEN).isnan().flatten().tolist() == [False, True, True]


@pytest.mark.parametrize(
    "make_it, error, message",
    [
        (lambda: Logit(1, 1), ValueError, "low must be below high, both finite, got 1 and 1"),
        (lambda: Logit(0, float("inf")), ValueError, "low must be below high, both finite"),
        (lambda: Logit("0", 1), TypeError, "low must be a number, got '0'"),
        (lambda: Logit(margin=0.5), ValueError, "margin must be at least 0 and below 1/2, got 0.5"),
        (lambda: Logit()(torch.full((2, 3), 1.5)), ValueError, "from 0 to 1, got values from 1.5 to 1.5; give"),
        (lambda: Logit(margin=0)(torch.zeros(2, 3)), ValueError, "from 0 to 1, the ends left out, got"),
        (lambda: Standardize(0), ValueError, "num_channels must be a positive integer, got 0"),
        (lambda: Standardize(2)(torch.zeros(2, 3, 4)), ValueError, r"inputs must have shape \(B, 2\)"),
        (lambda: Standardize(2)(torch.zeros(2, 2, 4).double()), TypeError, "the layer's dtype torch.float32"),
        (lambda: field_flow(3, levels=1, steps=1, mixing=WOODBURY, coupling=AFFINE), TypeError, "shape must be a seq"),
        (lambda: field_flow((8,) * 5, levels=1, steps=1, mixing=WOODBURY, coupling=AFFINE), ValueError, "shape must"),
        (lambda: make(levels=4), ValueError, "divisible by 2.levels = 16, got 8 x 8"),
        (lambda: make(base=None), TypeError, "base must be a function"),
        (lambda: field_flow(SHAPE, levels=1, steps=1, mixing=WOODBURY, coupling=AFFINE, first="logit"),
         TypeError, r"first must be a transform, such as Standardize\(2\), or None, got 'logit'"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(make_it, error, message) -> None:
    with pytest.raises(error, match=message):
        make_it()
