"""Flows with a context: it reaches every part, and each row of it has its own samples."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from parts import (
    SHAPE,
    WOODBURY,
    build,
    random_images,
)
from torch import Tensor, nn

from nflows_woodbury import (
    AffineCoupling,
    ImageFlow,
    image_flow,
)
from nflows_woodbury.config import FlowConfig


def conditional(**parts) -> ImageFlow:
    coupling = partial(AffineCoupling, hidden_channels=8, context_features=5)
    return build(torch.eye(5).repeat(13, 1)[:64], coupling=coupling, context_features=5, **parts)


def test_context_reaches_every_part_and_sampling_is_per_row() -> None:
    flow = conditional().double()
    images, context = random_images(4), torch.eye(5, dtype=torch.float64)[:4]
    flow(images, context).sum().backward()
    touched = [name for name, p in flow.named_parameters() if "context" in name and p.grad is not None and p.grad.any()]
    assert len(touched) == 2 + 2  # two couplings, a split prior, the top prior
    samples = flow.sample(3, context, batch_size=2)
    assert samples.shape == (4, 3, *SHAPE) and samples.dtype == torch.uint8
    torch.manual_seed(0)
    one = flow.sample(1, context[:1])
    torch.manual_seed(0)
    other = flow.sample(1, context[1:2])
    assert not torch.equal(one, other)
    assert flow.sample_and_log_prob(2, context)[1].shape == (4, 2)
    noise = flow.transform_to_noise(images, context)
    assert torch.equal(flow.transform_from_noise(noise, context), images)
    with pytest.raises(ValueError, match="context must be given"):
        flow(images)


def test_samples_are_those_of_their_row_of_the_context() -> None:
    flow, context = conditional(), torch.eye(5)[:4]
    samples = flow.sample(3, context, batch_size=2, temperature=0.0)
    for row, images in zip(context, samples, strict=True):
        assert torch.equal(images, flow.transform_from_noise(torch.zeros(3, 192), row.expand(3, -1)))
    assert not torch.equal(samples[0], samples[1])
    torch.manual_seed(0)
    samples = flow.sample(3, context)
    torch.manual_seed(0)
    images, log_prob = flow.sample_and_log_prob(3, context)
    assert torch.equal(images, samples)
    torch.manual_seed(0)
    noise = torch.randn(12, 192)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum(1)
    _, logabsdet = flow._transform.inverse(noise, context.repeat_interleave(3, 0))
    torch.testing.assert_close(log_prob.flatten(), normal - logabsdet)


def test_embedding_net_maps_labels_to_context() -> None:
    torch.manual_seed(0)
    coupling = partial(AffineCoupling, hidden_channels=8, context_features=5)
    flow = image_flow(
        SHAPE, levels=1, steps=1, mixing=WOODBURY, coupling=coupling, context_features=5,
        embedding_net=nn.Embedding(10, 5),
    )  # fmt: skip
    labels = torch.tensor([1, 7])
    flow.initialize(random_images(2), labels)
    flow(random_images(2), labels).sum().backward()
    assert flow._embedding_net.weight.grad[7].any() and not flow._embedding_net.weight.grad[3].any()
    assert flow.sample(3, labels).shape == (2, 3, *SHAPE)


def test_a_flow_with_classes_takes_their_numbers_as_context() -> None:
    torch.manual_seed(0)
    config = FlowConfig((3, 8, 8), levels=1, steps=1, hidden_channels=4, num_classes=3)
    flow, plain = config.build(), FlowConfig((3, 8, 8), levels=1, steps=1, hidden_channels=4).build()
    for parameter in flow.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    images, labels = random_images(4, (3, 8, 8)), torch.tensor([2, 0, 1, 1])
    rows = torch.eye(3)[labels]
    for call in (flow, flow.log_prob, flow.transform_to_noise):
        results = []
        for context in (labels, labels.int(), rows):
            torch.manual_seed(1)
            results.append(call(images, context))
        assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    assert flow.sample(4, context=labels).shape == (4, 4, 3, 8, 8)
    torch.manual_seed(1)
    drawn = flow.sample(2, context=labels)
    torch.manual_seed(1)
    assert torch.equal(drawn, flow.sample(2, context=rows))
    assert (flow.num_classes, plain.num_classes) == (3, 0) and not any(
        "embedding" in name for name in flow.state_dict()
    )
    assert flow(images, 0.5 * rows + 0.5 / 3).shape == (4,)


def test_class_numbers_out_of_range_are_nan_where_no_check_can_look() -> None:
    flow = FlowConfig((3, 8, 8), levels=1, steps=1, hidden_channels=4, num_classes=3).build()
    images, labels = random_images(2, (3, 8, 8)), torch.tensor([1, 3])

    def bits(image: Tensor, label: Tensor) -> Tensor:
        return flow(image[None], label[None])[0]

    for values in (
        torch.vmap(bits, randomness="different")(images, labels),
        torch.compile(flow, fullgraph=True, backend="eager")(images, labels),
    ):
        assert values.isnan().tolist() == [False, True]
