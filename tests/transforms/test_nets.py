"""Conditioners as parts: ours start at zero, one of your own does its work, and sizes are any."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from laws import relative
from registry import HIDDEN, move
from torch import Tensor, nn

from nflows_woodbury import (
    AdditiveCoupling,
    AffineCoupling,
    AttentionNet,
    ConvNet,
    MaCowUnit,
    ResidualNet,
    SplineCoupling,
)
from nflows_woodbury.config import NETS
from nflows_woodbury.transforms.attention import positions

SHAPES = [(5,), (4, 3), (4, 4, 4), (2, 3, 2, 5)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NETS)
def test_couplings_start_as_the_identity_with_every_net(name: str, shape: tuple[int, ...]) -> None:
    if name == "attention" and len(shape) == 1:
        with pytest.raises(ValueError, match="num_axes must be 1, 2 or 3, as attention is among patches, got 0"):
            AffineCoupling(shape, net=NETS[name](HIDDEN, 0))
        return
    inputs = torch.randn(3, *shape)
    for kind in (AffineCoupling, AdditiveCoupling, SplineCoupling):
        outputs, logabsdet = kind(shape, net=NETS[name](HIDDEN, len(shape) - 1))(inputs)
        torch.testing.assert_close(outputs, inputs, atol=1e-5, rtol=0)
        torch.testing.assert_close(logabsdet, torch.zeros(3), atol=1e-5, rtol=0)


def test_hidden_channels_are_short_for_the_net_of_the_paper() -> None:
    made = []
    for arguments in ({"hidden_channels": 7}, {"net": partial(ConvNet, hidden_channels=7)}):
        torch.manual_seed(0)
        made.append(AffineCoupling((4, 5, 5), **arguments, context_features=3).state_dict())
    assert list(made[0]) == [
        *("net.first.weight", "net.first.bias", "net.second.weight", "net.second.bias"),
        *("net.last.weight", "net.last.bias", "net.context.weight"),
    ]
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])


class Halved(nn.Module):
    """A net of your own: its numbers come in half precision, and it has no parameters."""

    def __init__(self, in_channels: int, out_channels: int, context_features: int | None) -> None:
        super().__init__()
        self.out_channels = out_channels

    def forward(self, inputs: Tensor, context: Tensor | None) -> Tensor:
        return inputs.mean(1, keepdim=True).expand(-1, self.out_channels, -1, -1).bfloat16()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_net_of_ones_own_may_work_in_another_precision(dtype: torch.dtype) -> None:
    coupling, inputs = AffineCoupling((4, 3, 3), net=Halved), torch.randn(2, 4, 3, 3, dtype=dtype)
    outputs, logabsdet = coupling(inputs)
    assert outputs.dtype == logabsdet.dtype == dtype and not torch.allclose(outputs, inputs)
    assert relative(coupling.inverse(outputs)[0], inputs) < 1e-6


@pytest.mark.parametrize("name", NETS)
def test_nets_see_their_context_and_every_input_that_they_reach(name: str) -> None:
    torch.manual_seed(0)
    net = move(NETS[name](HIDDEN, 2)(2, 3, 4), 0.5).double()
    inputs, context = torch.randn(1, 2, 5, 5).double().requires_grad_(), torch.randn(1, 4).double()
    outputs = net(inputs, context)
    assert outputs.shape == (1, 3, 5, 5)
    pixels = context[:, :, None, None].expand(-1, -1, 5, 5)
    torch.testing.assert_close(net(inputs, pixels), outputs)
    assert not torch.allclose(net(inputs, -context), outputs)
    outputs[0, 0, 0, 0].backward()
    seen = inputs.grad.abs().amax((0, 1)) > 0
    reach = {"conv": 2, "residual": 4, "attention": 4}[name]  # rows beyond its own
    assert seen[: reach + 1, : reach + 1].all() and not seen[reach + 1 :].any()


def test_attention_knows_the_places_of_its_patches() -> None:
    torch.manual_seed(0)
    net = move(AttentionNet(2, 2, hidden_channels=8, patch_size=1), 0.5).double()
    inputs = torch.ones(1, 2, 3, 4, dtype=torch.float64)
    assert len(net(inputs)[0, 0].flatten().unique()) == 12
    assert len(positions(torch.Size([3, 4, 5]), torch.zeros(16, dtype=torch.float64)).unique(dim=0)) == 60


def test_attention_is_that_of_its_formula() -> None:
    """softmax(Q K^T / sqrt(n)) V in each head, by hand."""
    torch.manual_seed(0)
    block = move(AttentionNet(2, 2, hidden_channels=8).blocks[0], 1.0).double()
    tokens = torch.randn(2, 5, 8, dtype=torch.float64)
    Q, K, V = block.projections(block.norm(tokens)).chunk(3, -1)
    heads = [
        torch.softmax(q @ k.mT / 2**0.5, -1) @ v
        for q, k, v in zip(Q.split(2, -1), K.split(2, -1), V.split(2, -1), strict=True)
    ]
    hidden = tokens + block.joined(torch.cat(heads, -1))
    expected = hidden + block.pixelwise(block.second_norm(hidden))
    torch.testing.assert_close(block(tokens), expected)


@pytest.mark.parametrize("bound", [0.5, 4.0])
def test_log_scales_stay_within_their_bound(bound: float) -> None:
    affine, unit = AffineCoupling((2, 4, 4), 8, max_log_scale=bound), MaCowUnit((2, 4, 4), 8, max_log_scale=bound)
    for layer, last, entries in ((affine, affine.net.last, 16), (unit[1], unit[1].last, 32)):
        for raw, expected in ((100.0, bound), (-100.0, -bound), (0.01, 0.01)):
            nn.init.constant_(last.bias, raw)
            _, logabsdet = layer(torch.zeros(3, 2, 4, 4))
            torch.testing.assert_close(logabsdet, torch.full((3,), entries * expected), rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", [ResidualNet, AttentionNet])
def test_bad_arguments_of_nets(kind: type) -> None:
    with pytest.raises(ValueError, match="hidden_channels must be a positive integer, got 0"):
        kind(2, 2, hidden_channels=0)
    with pytest.raises(ValueError, match="num_blocks must be a positive integer, got 0"):
        kind(2, 2, hidden_channels=4, num_blocks=0)
    with pytest.raises(ValueError, match="context must be given, with 3 features"):
        kind(2, 2, 3, hidden_channels=4)(torch.zeros(1, 2, 4, 4))
    with pytest.raises(ValueError, match="num_heads must divide hidden_channels = 4, got 3"):
        AttentionNet(2, 2, hidden_channels=4, num_heads=3)
