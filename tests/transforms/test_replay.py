"""Running again as before: a reversible chain has the gradients of a chain, whatever else its parts depend on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from nflows import transforms
from nflows.nn.nets import ConvResidualNet
from registry import QUICK, Case, move
from torch import Tensor, nn

from nflows_woodbury import ActNorm, AffineCoupling, Chain, Reversible, Squeeze, UniformDequantize
from nflows_woodbury.transforms.coupling import Coupling

SHAPE = (4, 6, 6)
INPUTS = torch.linspace(-1, 1, 3 * 4 * 36, dtype=torch.float64).view(3, *SHAPE)
KINDS = [Chain, Reversible, lambda parts: Reversible(parts, segment=2)]
Parts = Callable[[], Sequence[transforms.Transform]]


def built(kind: Callable[..., Chain], parts: Parts) -> Chain:
    torch.manual_seed(0)
    return move(kind(parts()), 0.2).double()


def loss_of(outputs: Tensor, logabsdet: Tensor) -> Tensor:
    weights = torch.linspace(0, 1, outputs.numel(), dtype=outputs.dtype).view(outputs.shape)
    return (weights * outputs.square()).sum() - logabsdet.sum()


def with_net(make: Callable[[int], nn.Module]) -> AffineCoupling:
    """An affine coupling with something between the layers of its conditioner."""
    coupling = AffineCoupling(SHAPE, 8)
    coupling.net.second = nn.Sequential(coupling.net.second, make(8))
    return coupling


def of_nflows(**settings: object) -> transforms.Transform:
    mask = torch.arange(4) % 2
    return transforms.AffineCouplingTransform(
        mask, lambda inputs, outputs: ConvResidualNet(inputs, outputs, hidden_channels=8, num_blocks=1, **settings)
    )


class TwoCouplings(transforms.CompositeTransform):
    """Its inverse draws the random numbers of its parts in reverse order."""

    def __init__(self) -> None:
        super().__init__([with_net(lambda channels: nn.Dropout(0.3)), of_nflows(dropout_probability=0.3)])


#: what draws random numbers, or keeps running statistics, when it is trained
PARTS: dict[str, Parts] = {
    "dropout": lambda: [ActNorm(4), with_net(lambda channels: nn.Dropout(0.3)), ActNorm(4), AffineCoupling(SHAPE, 8)],
    "dropout of channels": lambda: [Chain([with_net(lambda channels: nn.Dropout2d(0.5)), ActNorm(4)]), ActNorm(4)],
    "several in a row": lambda: [with_net(lambda channels: nn.Dropout(0.3)) for _ in range(4)],
    "dropout in nflows' coupling": lambda: [ActNorm(4), of_nflows(dropout_probability=0.3), ActNorm(4)],
    "dropout in a composition": lambda: [ActNorm(4), TwoCouplings(), ActNorm(4)],
    "dropout in a chain within": lambda: [ActNorm(4), Reversible([TwoCouplings(), ActNorm(4)]), ActNorm(4)],
    "batch norm": lambda: [with_net(nn.BatchNorm2d), ActNorm(4), with_net(nn.BatchNorm2d)],
    "batch norm and dropout": lambda: [
        with_net(lambda channels: nn.Sequential(nn.BatchNorm2d(channels, momentum=None), nn.Dropout(0.3)))
    ],
    "batch norm in nflows' coupling": lambda: [ActNorm(4), of_nflows(use_batch_norm=True), ActNorm(4)],
    "instance norm": lambda: [with_net(lambda channels: nn.InstanceNorm2d(channels, track_running_stats=True))],
}  # fmt: skip


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", PARTS)
def test_random_numbers_are_replayed_and_running_statistics_count_once(name: str, mode: str) -> None:
    results = []
    for kind in KINDS:
        chain = getattr(built(kind, PARTS[name]), mode)()
        inputs = INPUTS.clone().requires_grad_()
        torch.manual_seed(1)
        for _ in range(2):
            loss = loss_of(*chain(inputs))
            chain.train(mode == "eval")  # the recomputation has the mode of the forward pass
            loss.backward()
            getattr(chain, mode)()
        results.append(
            [loss.detach(), inputs.grad, *(p.grad for p in chain.parameters()), *chain.buffers(), torch.rand(5)]
        )
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-9, atol=1e-11)


def test_the_whole_from_images_on_may_be_reversible() -> None:
    def parts() -> list[transforms.Transform]:
        return [UniformDequantize(), Squeeze(), ActNorm(4), with_net(lambda channels: nn.Dropout(0.3))]

    images, results = torch.randint(256, (3, 1, 12, 12), dtype=torch.uint8), []
    for kind in KINDS:
        chain = built(kind, parts)
        torch.manual_seed(1)
        loss_of(*chain(images)).backward()
        results.append([parameter.grad for parameter in chain.parameters()])
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-9, atol=1e-11)


def test_the_generator_is_afterwards_where_it_was() -> None:
    loss = loss_of(*built(Reversible, PARTS["dropout"])(INPUTS))
    before = torch.get_rng_state()
    loss.backward()
    assert torch.equal(torch.get_rng_state(), before)


def saved(chain: Chain) -> int:
    """How many tensors autograd keeps for the backward pass."""
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        outputs = chain(INPUTS)
    del outputs
    return len(kept)


def test_a_coupling_with_dropout_stores_nothing_and_another_layer_its_inputs() -> None:
    assert saved(built(Reversible, PARTS["several in a row"])) == 2  # inputs and outputs of the whole
    assert saved(built(Reversible, PARTS["dropout in nflows' coupling"])) == 3


#: layers without parameters, and those whose outputs have another shape
NO_STEPS = (
    "chain-empty", "squeeze", "squeeze-haar", "squeeze-sides", "chain-squeezed", "multiscale-squeezed", "standardize",
    "logit",
)  # fmt: skip
CASES = [case for case in QUICK if case.name not in NO_STEPS]
each_layer = pytest.mark.parametrize("case", CASES, ids=str)


def around(kind: Callable[..., Chain], case: Case) -> Chain:
    """A chain of two of a layer, off their start."""
    torch.manual_seed(0)
    return move(kind([case.make(), case.make()] if case.name != "multiscale" else [case.make()]), 0.1).double()


def others(chain: Chain) -> dict[str, Tensor]:
    """Other parameters by their names."""
    generator = torch.Generator().manual_seed(3)
    return {
        name: (p.detach() + 0.05 * torch.randn(p.shape, dtype=p.dtype, generator=generator)).requires_grad_()
        for name, p in chain.named_parameters()
    }


@each_layer
def test_functional_call_has_the_gradients_of_a_chain(case: Case) -> None:
    results = []
    for kind in (Chain, Reversible):
        chain = around(kind, case)
        leaves = others(chain)
        inner = {name: 1.1 * leaf for name, leaf in leaves.items()}  # as the inner step of meta-learning computes them
        inputs = case.inputs().requires_grad_()
        loss = loss_of(*torch.func.functional_call(chain, inner, (inputs,)))
        gradients = torch.autograd.grad(loss, [inputs, *leaves.values()])
        assert all(parameter.grad is None for parameter in chain.parameters())
        assert all(torch.equal(a, b) for a, b in zip(chain.parameters(), around(kind, case).parameters(), strict=True))
        results.append([loss.detach(), *gradients])
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-10)


@each_layer
def test_transforms_of_torch_func_have_the_derivatives_of_a_chain(case: Case) -> None:
    results = []
    for kind in (Chain, Reversible):
        chain, inputs = around(kind, case), case.inputs()
        parameters = {name: p.detach() for name, p in chain.named_parameters()}

        def loss(parameters: dict[str, Tensor], inputs: Tensor, chain: Chain = chain) -> Tensor:
            return loss_of(*torch.func.functional_call(chain, parameters, (inputs,)))

        of_parameters, of_inputs = torch.func.grad(loss, (0, 1))(parameters, inputs)
        per_input = torch.vmap(torch.func.grad(loss, 1), (None, 0))(parameters, inputs[:, None])
        results.append([of_parameters, of_inputs, per_input])
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-10)


def step_between(chain: Chain, inputs: Tensor) -> None:
    """Two losses, and a step of the optimizer between their backward passes."""
    optimizer = torch.optim.SGD(chain.parameters(), 1e-3)
    first, second = loss_of(*chain(inputs)), loss_of(*chain(2 * inputs))
    first.backward()
    optimizer.step()
    second.backward()


@each_layer
def test_parameters_changed_before_the_backward_pass_are_an_error(case: Case) -> None:
    chain, inputs = around(Reversible, case), case.inputs().requires_grad_()
    with pytest.raises(RuntimeError, match="needed for gradient computation has been modified by an inplace operation"):
        step_between(chain, inputs)


def test_that_error_is_the_one_of_a_chain() -> None:
    for kind in KINDS:
        with pytest.raises(
            RuntimeError, match="needed for gradient computation has been modified by an inplace operat"
        ):
            step_between(built(kind, lambda: [ActNorm(4), AffineCoupling(SHAPE, 8)]), INPUTS)


def test_the_error_names_what_was_changed() -> None:
    chain = Reversible([ActNorm(4), AffineCoupling(SHAPE, 8)])
    loss = loss_of(*chain(INPUTS.float()))
    with torch.no_grad():
        chain[1].net.first.bias.zero_()
    with pytest.raises(RuntimeError, match=r"transforms\.1\.net\.first\.bias of Reversible;"):
        loss.backward()


def test_what_changes_buffers_as_it_runs_is_refused_by_name() -> None:
    def parts() -> list[transforms.Transform]:
        coupling = AffineCoupling(SHAPE, 8)
        coupling.net.first = nn.utils.parametrizations.spectral_norm(coupling.net.first)
        return [coupling]

    chain = built(Reversible, parts)
    with pytest.raises(
        RuntimeError, match=r"transforms\.0\.net\.first\.parametrizations\.weight\.0\._u of Reversible ch"
    ):
        chain(INPUTS)
    results = []
    for kind in KINDS:
        chain = built(kind, parts).eval()
        loss_of(*chain(INPUTS)).backward()
        results.append([parameter.grad for parameter in chain.parameters()])
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-9, atol=1e-11)


def test_hooks_of_parameters_see_each_gradient_once() -> None:
    results = []
    for kind in KINDS:
        chain = built(kind, lambda: [ActNorm(4), AffineCoupling(SHAPE, 8)])
        for parameter in chain.parameters():
            parameter.register_hook(lambda gradient: 2 * gradient)
        loss_of(*chain(INPUTS)).backward()
        results.append([parameter.grad for parameter in chain.parameters()])
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-9, atol=1e-11)


def replicated(module: nn.Module) -> nn.Module:
    """A copy as nn.DataParallel makes them: its tensors are computed from the parameters, and are none themselves."""
    copy = module._replicate_for_data_parallel()
    for name, child in module.named_children():
        copy._modules[name] = replicated(child)
    for name, parameter in module.named_parameters(recurse=False):
        setattr(copy, name, 1 * parameter)
    return copy


@pytest.mark.parametrize("inside", [True, False], ids=["backward inside", "backward outside"])
@pytest.mark.parametrize("enabled", [True, False], ids=["bfloat16", "switched off"])
def test_autocast_is_replayed(inside: bool, enabled: bool) -> None:
    results = []
    for kind in KINDS:
        chain = built(kind, lambda: [of_nflows(), AffineCoupling(SHAPE, 8), of_nflows()]).float()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = loss_of(*chain(INPUTS.float()))
            if inside:
                loss.backward()
        if not inside:
            with torch.autocast("cpu", torch.bfloat16, enabled=not enabled):
                loss.backward()
        results.append([parameter.grad for parameter in chain.parameters()])
    scale = max(gradient.abs().max() for gradient in results[0])
    for result in results[1:]:
        for gradient, expected in zip(result, results[0], strict=True):
            assert (gradient - expected).abs().max() < (5e-2 if enabled else 1e-4) * scale


def test_a_copy_that_holds_no_parameters_is_a_chain() -> None:
    results = []
    for kind in KINDS:
        chain, inputs = built(kind, PARTS["batch norm and dropout"]), INPUTS.clone().requires_grad_()
        replica = replicated(chain)
        assert not list(replica.parameters())
        torch.manual_seed(1)
        results.append(torch.autograd.grad(loss_of(*replica(inputs)), [inputs, *chain.parameters()]))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-9, atol=1e-11)


def test_couplings_of_ones_own_with_dropout_are_replayed() -> None:
    class Shift(Coupling):
        num_parameters = 1

        def map_values(self, values: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
            return values + parameters[:, 0], torch.zeros_like(values)

        def unmap_values(self, values: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
            return values - parameters[:, 0], torch.zeros_like(values)

    def parts() -> list[transforms.Transform]:
        couplings = [Shift(SHAPE, 8) for _ in range(3)]
        for coupling in couplings:
            coupling.net.second = nn.Sequential(coupling.net.second, nn.Dropout(0.5))
        return couplings

    results = []
    for kind in KINDS:
        chain = built(kind, parts)
        torch.manual_seed(1)
        loss_of(*chain(INPUTS)).backward()
        results.append([parameter.grad for parameter in chain.parameters()])
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-9, atol=1e-11)
