"""Images as conditions of whole flows: at every level, of any size, with classes, as a pyramid, and what is refused."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from parts import SHAPE, WOODBURY, random_images
from registry import dense_jacobian, move
from torch import Tensor, nn

from nflows_woodbury import AffineCoupling, ConditionNet, Standardize, field_flow, image_flow
from nflows_woodbury.flow import GridFlow
from nflows_woodbury.flow.condition import ConditionedLevel
from nflows_woodbury.flow.condition_net import resized
from nflows_woodbury.transforms.nets import OneHot

FEATURES = 5
NET = partial(ConditionNet, in_channels=2, features=FEATURES, hidden_channels=8)
COUPLING = partial(AffineCoupling, hidden_channels=8, context_features=FEATURES)


def given(count: int, size: int = 8, channels: int = 2, seed: int = 3) -> Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


#: how a flow is conditioned, and a context of so many rows for it
KINDS: dict[str, tuple[dict[str, Any], Any]] = {
    "an image": ({"condition": NET}, lambda n: given(n)),
    "a smaller one": ({"condition": NET}, lambda n: given(n, 3)),
    "a larger one": ({"condition": NET}, lambda n: given(n, 21)),
    "bytes": ({"condition": partial(NET, in_channels=3)}, lambda n: random_images(n)),
    "image and class": ({"condition": NET, "embedding_net": OneHot(3)}, lambda n: (torch.arange(n) % 3, given(n))),
    "a network each": ({"condition": [NET((12, 4, 4)), NET]}, lambda n: given(n)),
    "one network": ({"condition": nn.Conv2d(2, FEATURES, 1)}, lambda n: given(n)),
    "a pyramid": ({"condition": [2, 4]}, lambda n: [given(n), given(n, 3, 4)]),
    "a pyramid and class": (
        {"condition": [2, 4], "embedding_net": OneHot(3)}, lambda n: (torch.arange(n) % 3, [given(n), given(n, 2, 4)])
    ),
}  # fmt: skip
each_kind = pytest.mark.parametrize("kind", KINDS)


def make(kind: str, **more: Any) -> tuple[GridFlow, Any]:
    torch.manual_seed(0)
    parts, context = deepcopy(KINDS[kind][0]), KINDS[kind][1]
    settings = {"levels": 2, "steps": 1, "mixing": WOODBURY, "coupling": COUPLING, "context_features": FEATURES}
    flow = image_flow(SHAPE, **settings, **parts, **more)
    flow.initialize(random_images(32), context(32))
    return move(flow, 0.3).eval(), context


def rows(context: Any, chosen: list[int]) -> Any:
    """Some rows of a context."""
    if isinstance(context, tuple | list):
        return type(context)(rows(part, chosen) for part in context)
    return context[chosen]


@each_kind
def test_densities_depend_on_the_given_image_row_by_row(kind: str) -> None:
    flow, context = make(kind)
    flow, images = flow.double(), random_images(1).expand(3, *SHAPE)
    torch.manual_seed(1)
    noise = torch.rand(1, *SHAPE).expand(3, *SHAPE).double()
    values, _ = flow._transform[0]._add(images, noise)
    whole = context(3)
    embedded = flow._embedding_net(whole)
    outputs, logabsdet = flow._transform[1](values, embedded)
    assert (logabsdet - logabsdet[0]).abs()[1:].min() > 1e-6
    for i in range(3):
        alone, own = flow._transform[1](values[[i]], flow._embedding_net(rows(whole, [i])))
        torch.testing.assert_close(alone[0], outputs[i])
        torch.testing.assert_close(own[0], logabsdet[i])
    jacobian = dense_jacobian(flow._transform[1], values[:1], flow._embedding_net(rows(whole, [0])))
    torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, logabsdet[0])


@each_kind
def test_images_come_back_and_samples_follow_their_rows(kind: str) -> None:
    flow, context = make(kind)
    flow, images, whole = flow.double(), random_images(3), context(3)
    assert torch.equal(flow.transform_from_noise(flow.transform_to_noise(images, whole), whole), images)
    torch.manual_seed(2)
    samples = flow.sample(4, whole)
    assert samples.shape == (3, 4, *SHAPE) and samples.dtype == torch.uint8
    torch.manual_seed(2)
    noise = torch.randn(12, 192).double()
    again = flow.transform_from_noise(noise, rows(whole, [i for i in range(3) for _ in range(4)]))
    assert torch.equal(samples.flatten(0, 1), again)
    torch.manual_seed(2)
    values, log_prob = flow.rsample_and_log_prob(4, whole)
    assert values.shape == (3, 4, *SHAPE) and log_prob.shape == (3, 4)
    torch.manual_seed(2)
    assert torch.equal(flow.sample_and_log_prob(4, whole)[0], samples)


@each_kind
def test_every_parameter_learns(kind: str) -> None:
    flow, context = make(kind)
    flow(random_images(6), context(6)).mean().backward()
    for name, parameter in flow.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_every_level_and_prior_sees_the_image() -> None:
    flow, _ = make("an image")
    levels = flow._transform[1].levels
    assert all(isinstance(level, ConditionedLevel) for level in levels)
    for level, shape in zip(levels, ((12, 4, 4), (24, 2, 2)), strict=True):
        inputs = torch.randn(2, shape[0] // 4, 2 * shape[1], 2 * shape[2])
        first, second = (level(inputs, flow._embedding_net(given(2, seed=seed)))[0] for seed in (3, 4))
        assert not torch.allclose(first, second)
        prior = level.level[len(level.level) - 1]
        assert prior.context is not None and prior.context.in_channels == FEATURES


def test_a_gradient_reaches_the_given_image() -> None:
    flow, _ = make("an image", reversible=True)
    image = given(2).requires_grad_()
    flow(random_images(2), image).sum().backward()
    assert image.grad is not None and image.grad.any()
    plain, _ = make("an image")
    assert flow.state_dict().keys() == plain.state_dict().keys()


def test_fields_take_images_too() -> None:
    torch.manual_seed(0)
    flow = field_flow((1, 8, 8), levels=2, steps=1, mixing=WOODBURY, coupling=COUPLING, context_features=FEATURES,
                      first=Standardize(1), condition=NET)  # fmt: skip
    fields = torch.randn(16, 1, 8, 8) + 30
    flow.initialize(fields, given(16))
    assert flow.log_prob(fields, given(16)).shape == (16,) and flow.sample(2, given(3)).shape == (3, 2, 1, 8, 8)


def test_a_state_dict_brings_everything_back() -> None:
    flow, context = make("image and class")
    other, _ = make("image and class")
    move(other, 1.0).load_state_dict(flow.state_dict())
    torch.manual_seed(3)
    expected = flow(random_images(2), context(2))
    torch.manual_seed(3)
    assert torch.equal(other(random_images(2), context(2)), expected)


def test_compiled_flows_are_the_same() -> None:
    flow, context = make("image and class")
    compiled = torch.compile(flow.decode, fullgraph=True, backend="eager")
    noise = torch.randn(2, 192)
    torch.testing.assert_close(compiled(noise, context(2)), flow.decode(noise, context(2)))


def test_resizing_keeps_means_when_it_shrinks() -> None:
    image = torch.arange(16.0).view(1, 1, 4, 4)
    assert resized(image, (2, 2)).flatten().tolist() == [2.5, 4.5, 10.5, 12.5] and resized(image, (4, 4)) is image
    assert resized(image, (2, 8)).shape == (1, 1, 2, 8)
    assert resized(torch.ones(1, 2, 5), (8,)).eq(1).all() and resized(torch.ones(1, 2, 5, 4, 3), (2, 8, 3)).eq(1).all()


# fmt: off
BAD_CONTEXTS = {
    "none": ("an image", None, TypeError, r"context must be an image \(B, c, ...\), got None"),
    "rows": ("an image", given(3), ValueError, "context must have a row for each input, 2 as the inputs, got 3"),
    "channels": ("an image", given(2, channels=3), ValueError, r"\(B, 2, any size, any size\), got \(2, 3, 8, 8\)"),
    "one image": ("an image", given(2)[0], ValueError, r"\(B, 2, any size, any size\), got \(2, 8, 8\)"),
    "class numbers": ("an image", torch.arange(2), ValueError, r"none of its sizes 0, got shape \(2,\)"),
    "integers": ("an image", given(2).long(), TypeError, r"uint8 or floating point image, got torch\.int64"),
    "complex": ("an image", given(2) * 1j, TypeError, r"uint8 or floating point image, got torch\.complex64"),
    "no pixels": ("an image", given(2)[:, :, :0], ValueError, r"none of its sizes 0, got shape \(2, 2, 0, 8\)"),
    "an array": ("an image", given(2).numpy(), TypeError, r"an image \(B, c, ...\), got a ndarray"),
    "NaN": ("an image", given(2).log(), ValueError, "context must be finite, got NaN or infinity"),
    "no class": ("image and class", given(2), TypeError, "a tuple of class numbers and an image .* got a tensor"),
    "classes of other rows": (
        "image and class", (torch.arange(3), given(2)), ValueError, r"as many rows in each of its parts, got \[2, 3\]"
    ),
    "no such class": ("image and class", (torch.tensor([0, 3]), given(2)), ValueError, "class numbers must be from 0"),
    "short pyramid": ("a pyramid", [given(2)], TypeError, "a list of 2 images with 2, 4 channels, got a list of 1"),
    "no pyramid": ("a pyramid", given(2), TypeError, "a list of 2 images with 2, 4 channels, got a tensor"),
    "pyramid upside down": ("a pyramid", [given(2, 4, 4), given(2)], ValueError, r"first, got \(4, 2\) channels"),
}
# fmt: on


@pytest.mark.parametrize("name", BAD_CONTEXTS)
def test_bad_contexts_are_refused(name: str) -> None:
    kind, context, error, message = BAD_CONTEXTS[name]
    flow, _ = make(kind)
    for call in (lambda: flow.log_prob(random_images(2), context), lambda: flow.decode(torch.randn(2, 192), context)):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize(
    "parts, error, message",
    [
        ({"condition": NET, "context_features": None}, ValueError, "context_features must be given with condition"),
        ({"condition": [NET]}, ValueError, "or a list of 2, one for each level"),
        ({"condition": 3}, ValueError, "or a list of 2, one for each level: .*; got 3"),
        ({"condition": [NET, 3]}, ValueError, "or a list of 2, one for each level"),
        ({"condition": [2, 0]}, ValueError, "condition must be a positive integer, got 0"),
        ({"condition": lambda shape: 3}, TypeError, r"condition must give a network, a torch\.nn\.Module, got 3"),
        ({"condition": NET, "embedding_net": nn.Identity()}, TypeError, r"embedding_net must be None or OneHot"),
        ({"condition": partial(NET, features=4)}, ValueError, r"condition must give features \(B, 5, ...\)"),
    ],
)
def test_bad_conditions_are_refused(parts: dict[str, Any], error: type[Exception], message: str) -> None:
    settings = {"levels": 2, "steps": 1, "mixing": WOODBURY, "coupling": COUPLING, "context_features": FEATURES}
    with pytest.raises(error, match=message):
        image_flow(SHAPE, **{**settings, **parts}).initialize(random_images(4), given(4))


def test_samples_need_a_given_image() -> None:
    flow, _ = make("an image")
    assert flow.log_prob(random_images(2)[:0], given(2)[:0]).shape == (0,)
    with pytest.raises(ValueError, match="rows of the context must be a positive integer, got 0"):
        flow.sample(2, given(2)[:0])
