"""ActNorm: digits far from the mean, its start from data, the warnings around it, and what it shares with nflows'."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from nflows.transforms import ActNorm as OfNflows
from torch import Tensor

from nflows_woodbury import ActNorm, Chain, initialize

UNSTARTED = "ActNorm is trained without a start from data"


def train(layer: torch.nn.Module, inputs: Tensor) -> None:
    outputs, logabsdet = layer.train()(inputs)
    (outputs.square().sum() - logabsdet.sum()).backward()


@pytest.mark.parametrize("shift", [1e2, 1e4])
def test_no_digits_are_lost_far_from_the_mean(shift: float) -> None:
    torch.manual_seed(0)
    layer, inputs = ActNorm(3), shift + torch.randn(64, 3, 8, 8)
    layer.initialize(inputs)
    outputs, _ = layer(inputs)
    expected, _ = copy.deepcopy(layer).double()(inputs.double())
    assert (outputs - expected).abs().max() < 1e-6
    assert outputs.mean((0, 2, 3)).abs().max() < 1e-7 * shift  # the mean itself is rounded
    assert (outputs.std((0, 2, 3)) - 1).abs().max() < 1e-3


def test_a_constant_channel_starts_finite() -> None:
    layer, inputs = ActNorm(2), torch.randn(5, 2, 3, 3)
    inputs[:, 1] = 7
    layer.initialize(inputs)
    assert all(parameter.isfinite().all() for parameter in layer.parameters())
    assert not layer(inputs)[0][:, 1].any()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_inputs_that_are_not_finite_are_refused_by_channel(value: float) -> None:
    layer, inputs = ActNorm(4), torch.randn(5, 4, 3, 3)
    inputs[2, 1, 0, 2] = inputs[0, 3, 1, 1] = value
    for start in (layer.initialize, layer.initialize_inverse):
        with pytest.raises(ValueError, match=r"inputs must be finite .*, got nan or inf in channels \[1, 3\]"):
            start(inputs)
    assert not layer.bias.any() and not layer.log_scale.any()
    layer.initialize(inputs[3:])  # and it counts as not started


@pytest.mark.parametrize("shape", [(4,), (4, 7), (4, 3, 2, 5)], ids=str)
def test_vectors_sequences_and_volumes_have_channels_too(shape: tuple[int, ...]) -> None:
    layer, inputs = ActNorm(4).double(), 3 + 2 * torch.randn(20, *shape, dtype=torch.float64)
    layer.initialize(inputs)
    outputs, logabsdet = layer(inputs)
    columns = outputs.transpose(0, 1).flatten(1)
    torch.testing.assert_close(columns.mean(1), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(columns.std(1, correction=0), torch.ones(4, dtype=torch.float64))
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x)[0], inputs[:1]).reshape([inputs[0].numel()] * 2)
    torch.testing.assert_close(logabsdet[0], torch.linalg.slogdet(jacobian).logabsdet)
    torch.testing.assert_close(layer.inverse(outputs)[0], inputs)


def test_a_second_start_warns() -> None:
    layer, inputs = ActNorm(3), torch.randn(5, 3, 4, 4)
    layer.initialize(inputs)
    fresh = ActNorm(3)
    fresh.load_state_dict(layer.state_dict())
    for started in (layer, copy.deepcopy(layer), fresh):
        with pytest.warns(UserWarning, match="started or loaded before"):
            started.initialize(inputs + 1)
    with pytest.warns(UserWarning, match="started or loaded before"):
        initialize(Chain([layer]), inputs)


def test_training_without_a_start_warns_once() -> None:
    layer, inputs = ActNorm(3), 100 + 30 * torch.randn(5, 3, 4, 4)
    layer(inputs)
    layer.inverse(inputs)[0].sum().backward()
    with torch.no_grad():
        layer(inputs)
    train_in_eval = layer.eval()(inputs)[0]
    train_in_eval.sum().backward()
    with pytest.warns(UserWarning, match=UNSTARTED):
        train(layer, inputs)
    train(layer, inputs)  # once is enough: warnings are errors here
    two = Chain([ActNorm(3), ActNorm(3)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        train(two, inputs)
    assert len(caught) == 1  # of all layers of a model, as Python shows the same warning once


def test_started_loaded_and_set_layers_do_not_warn() -> None:
    inputs = torch.randn(5, 3, 4, 4)
    started, loaded, by_hand, trained = (ActNorm(3) for _ in range(4))
    started.initialize(inputs)
    loaded.load_state_dict(trained.state_dict())
    torch.nn.init.constant_(by_hand.bias, 0.5)
    for layer in (started, loaded, by_hand):
        train(layer, inputs)


def test_compiled_code_asks_for_no_start() -> None:
    torch._dynamo.reset()
    layer = ActNorm(3).train()
    train(torch.compile(layer, fullgraph=True, backend="aot_eager"), torch.randn(5, 3, 4, 4))


@pytest.mark.parametrize("shape", [(3,), (3, 4, 5)], ids=str)
@pytest.mark.parametrize("started", [True, False])
def test_state_dicts_of_nflows_load(shape: tuple[int, ...], started: bool) -> None:
    theirs, ours, inputs = OfNflows(3), ActNorm(3), 2 + 3 * torch.randn(8, *shape)
    if started:
        theirs.train()(inputs)
    state = theirs.state_dict()
    names = list(state)
    ours.load_state_dict(state)
    assert list(state) == names
    for method in ("forward", "inverse"):
        torch.testing.assert_close(getattr(ours, method)(inputs), getattr(theirs.eval(), method)(inputs))
    torch.testing.assert_close(ours.shift, theirs.shift)
    nested = Chain([ActNorm(3)])
    nested.load_state_dict({f"transforms.0.{name}": tensor for name, tensor in state.items()})
    assert torch.equal(nested[0].bias, ours.bias)
    if not started:
        with pytest.warns(UserWarning, match=UNSTARTED):
            train(ours, inputs)
