"""Mutation check: break one formula at a time in a copy of the package, and see whether the tests notice.

    python tests/mutations.py [--only TEXT ...] [--jobs N] [--list]

Each row of the table replaces a snippet, which must occur exactly once in its file, and names the tests that should
fail for it. First the same tests pass on an unchanged copy. A mutation survives where they still pass, and then the
exit status is 1: either the change is no fault, and another one should stand in its place, or a law is missing. Nothing
is written to the checkout. pytest does not collect this file: a whole run with two jobs takes ten minutes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 600  # seconds for the tests of one row

# Processes begin as copies of one that has imported what is slow to import; nothing of the package or its tests.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["nflows.flows", "normflows", "pytest", "pytorch_lightning", "scipy.linalg", "skimage"])

CONFTEST = '''
"""See to it that the tests run against this copy, not against the checkout that is installed."""

import sys
from pathlib import Path


def pytest_sessionfinish(session):
    package = Path(sys.modules["nflows_woodbury"].__file__)
    print(f"\\ntested: {package}")
    if not package.is_relative_to(Path(__file__).parent):
        session.exitstatus = 70
'''


class Mutation(NamedTuple):
    """One fault: what becomes of which snippets in a file, and the arguments of pytest that should find it out."""

    file: str
    tests: str
    name: str
    edits: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"

    def mutated(self, text: str) -> str:
        for old, new in self.edits:
            if text.count(old) != 1 or old == new:
                raise ValueError(f"{self}: the snippet must occur once, and occurs {text.count(old)} times: {old!r}")
            text = text.replace(old, new)
        return text


def rows(file: str, tests: str, *faults: tuple[str, ...]) -> Iterator[Mutation]:
    """Mutations of a file that the same tests notice, each as ``(name, old, new)`` or with more pairs of snippets."""
    for name, *snippets in faults:
        yield Mutation(file, tests, name, tuple(zip(snippets[::2], snippets[1::2], strict=True)))


def laws(cases: str, names: str = "round_trip_in_float64 or test_logabsdet or test_inverse_logabsdet") -> str:
    """Some of the laws that the registry's transforms obey, for some of them."""
    return f"transforms/test_laws.py -k '({names}) and ({cases})'"


DENSE, EMERGING, MACOW = (f"transforms/test_{name}.py" for name in ("dense", "emerging", "macow"))
PERIODIC, SPLINE, VARIATIONAL = (f"transforms/test_{name}.py" for name in ("periodic", "spline", "variational"))
MASKED, DATA, NORMFLOWS = "linalg/test_triangular_conv.py", "data/test_sources.py", "test_normflows.py"
EVALUATION = "evaluation/test_likelihood_and_pictures.py -k 'not Pictures'"
FLOW = "test_flow.py -k 'not any_mixing'"
COUPLINGS = "transforms/test_laws.py -k 'couplings_depend'"
BINS = "transforms/test_laws.py -k dequantizers"
PARTS = "train/test_parallel.py -k accumulated"
PROCESSES = "train/test_parallel.py -k 'process'"
AVERAGE = "train/test_lasting.py -k averaged_weights"
DIAGNOSIS = "evaluation/test_diagnosis.py"

# fmt: off
MUTATIONS: list[Mutation] = [
    *rows("linalg/low_rank.py", DENSE,
        ("capacitance minus the identity", "return products + torch.eye(", "return products - torch.eye("),
        ("capacitance transposed", "return V @ U if", "return (V @ U).mT if"),
        ("log-det with the wrong sign", "return torch.linalg.slogdet(", "return -torch.linalg.slogdet("),
        ("log-det without absolute value", "slogdet(C).logabsdet", "det(C).log()"),
        ("log-det without gradients with the wrong sign",
         "return _logabsdet(torch.linalg.lu", "return -_logabsdet(torch.linalg.lu"),
        ("inverse factors with the wrong sign", "minus_identity = -torch.eye(", "minus_identity = torch.eye("),
        ("inverse solves the transposed capacitance",
         "minus_identity.expand_as(C))", "minus_identity.expand_as(C), adjoint=True)"),
        ("inverse in the wrong corner", "left @ minus_inverse[:d, :d]", "left @ minus_inverse[-d:, -d:]"),
        ("LU's log-det without absolute values", "dim2=-1).abs().log()", "dim2=-1).log()"),
        ("LU's log-det is a mean", ".abs().log().sum(-1)", ".abs().log().mean(-1)"),
        ("reflection is a projection", "_pad(-2 * Q,", "_pad(-1 * Q,"),
        ("cancelling factors add up", "torch.cat([Q.mT, -Q.mT])", "torch.cat([Q.mT, Q.mT])"),
        ("cancelling start without its scale", "Q = scale * _orthonormal", "Q = _orthonormal"),
        ("surplus rows do not vanish", "torch.zeros(d - used, n)", "0.01 * torch.randn(d - used, n)"),
        ("surplus columns cannot learn", "0.01 * torch.randn(n, d - used)", "torch.zeros(n, d - used)"),
        ("paper's start ten times too large", "return 0.01 * torch.randn(n, d),", "return 0.1 * torch.randn(n, d),"),
        ("solve in single precision", "else factor.double()", "else factor"),
    ),
    *rows("linalg/two_sided.py", "linalg/test_two_sided.py",
        ("dense matrix I - U V", "device=U.device), U, V)", "device=U.device), U, V, alpha=-1)"),
        ("small on the right is transposed",
         "_on_rows(matrices, _dense(*right))", "_on_rows(matrices, _dense(*right).mT)"),
        ("update of U and V without M", "scaled = torch.baddbmm(Q, each_U, M)", "scaled = Q"),
        ("update without the identity", "(x, each_U, P), not", "(x, each_U, P, beta=0), not"),
        ("written over the inputs", "owned=matrices is not inputs", "owned=True"),
        ("written over in a graph", "None, owned and not torch.is_grad_enabled()", "None, owned"),
        ("second derivatives of constants", "if torch.is_grad_enabled():  # a second", "if False:  # a second"),
        ("autocast acts in the backward pass", "with full_precision(g):", "if True:"),
        ("the transposed map has V for U", "(V.mT, U.mT)\n\n\ndef _outer", "(U, V)\n\n\ndef _outer"),
        ("gradient of U without M", "_outer(g, P, G, M)", "_outer(g, P, None, None)"),
        ("gradient of V without Q", "_outer(T, x, N, Q)", "_outer(T, x, None, None)"),
        ("gradient of U' without P", "_inner(x, G, P, N)", "_inner(x, G, None, None)"),
        ("gradient of V' without M", "_inner(Q, g, M, T)", "_inner(Q, g, None, None)"),
        ("a block is written over the inputs",
         "if not owned:\n            own.copy_(block)", "if True:\n            own = block"),
        ("thin products of the first block only", "merge(column) if", "column[0] if"),
        ("gradients of the last block only", "torch.stack(terms).sum(0)", "terms[-1]"),
        ("gradients of blocks are averaged", "torch.stack(terms).sum(0)", "torch.stack(terms).mean(0)"),
        ("gradient of a block from nothing", "own.copy_(g)", "own.zero_()"),
        ("gradients of the batch's mean", "torch.bmm(a, b.mT).sum(0)\n", "torch.bmm(a, b.mT).mean(0)\n"),
        ("what moves is counted twice", "None, None)[0] - scaled", "None, None)[0]"),
        ("vmap takes the first factors for all", "t.select(dim, i)", "t.select(dim, 0)"),
    ),
    *rows("transforms/woodbury.py", "linalg/test_two_sided.py",
        ("hooks see nothing", "if any(part._forward_hooks or part._forward_pre_hooks for part in self.transforms):",
         "if False:"),
        ("log-det of the first update only", "return sum(others, first)", "return first"),
        ("neighbours that are none", "if rest and rest[-1][0].axes[-1] + 1 == start:", "if rest:"),
    ),
    *rows("transforms/woodbury.py", DENSE,
        ("multiplicity missing", "return prod(self.shape) // self.size", "return 1"),
        ("multiplicity of the own axis", "return prod(self.shape) // self.size", "return self.size"),
        ("log-det with the wrong sign", "inputs), self._multiplicity *", "inputs), -self._multiplicity *"),
        ("chain's log-det with the wrong sign", "inputs), self._total(", "inputs), -self._total("),
        ("chain's inverse log-det with the wrong sign", "inputs), -self._total(", "inputs), self._total("),
        ("inverse's log-det with the wrong sign", "inputs), -self._multiplicity *", "inputs), self._multiplicity *"),
        ("pixels from the left", "(self.axes[0] == 0) else", "(self.axes[0] >= 0) else"),
        ("channels from the right", "(self.axes[0] == 0) else", "(self.axes[0] < 0) else"),
    ),
    *rows("transforms/woodbury.py", DENSE,
        ("rows take the columns' factors", '("dh", (1,)), ("dw", (2,))', '("dh", (2,)), ("dw", (1,))'),
        ("pixels start as a reflection", '= ("reflection", "cancelling"),', '= ("reflection", "reflection"),'),
        ("rows start too small", '"cancelling-unit", "cancelling-unit"),', '"cancelling", "cancelling"),'),
        ("pixels of a row only", '("ds", (1, 2))', '("ds", (2,))'),
    ),
    *rows("transforms/conv1x1.py", DENSE,
        ("log-det of one pixel", "inputs), _pixels(inputs) * logabsdet", "inputs), logabsdet"),
        ("inverse's log-det with the wrong sign", ", -_pixels(inputs) *", ", _pixels(inputs) *"),
        ("as many pixels as a square has", "inputs.shape[2] * inputs.shape[3]", "inputs.shape[2] ** 2"),
        ("matrix transposed both ways", "torch.bmm(weight.expand", "torch.bmm(weight.mT.expand"),
        ("inverse of a rotation", "torch.linalg.inv_ex(self.weight).inverse,", "self.weight.mT,"),
        ("dense log-det with the wrong sign", "weight, torch.linalg.slogdet", "weight, -torch.linalg.slogdet"),
        ("permutation transposed", "return self.permutation @ lower", "return self.permutation.mT @ lower"),
        ("permutation transposed in the inverse", "self.permutation.mT, upper", "self.permutation, upper"),
        ("triangles in the other order", "@ lower @ upper, self", "@ upper @ lower, self"),
        ("log-det of scales, not their logarithms",
         "@ upper, self.log_scale.sum()", "@ upper, self.log_scale.exp().sum()"),
        ("diagonal of L is not 1",
         "torch.ones_like(self.log_scale).diag()", "(2 * torch.ones_like(self.log_scale)).diag()"),
        ("signs of the diagonal lost", "(self.sign * self.log_scale.exp())", "self.log_scale.exp()"),
        ("scales start at their logarithms", "nn.Parameter(diagonal.abs().log())", "nn.Parameter(diagonal.abs())"),
    ),
    *rows("transforms/actnorm.py", DENSE,
        ("log-det of one pixel", "inputs.shape[2] * inputs.shape[3] * self", "self"),
        ("log-det counts the channels", "inputs.shape[2] * inputs.shape[3] * self", "inputs.shape[1] * self"),
        ("inverse's log-det with the wrong sign",
         "return outputs, -self._logabsdet", "return outputs, self._logabsdet"),
        ("shift after the scale", "+ scale * self.bias.view", "+ self.bias.view"),
        ("inverse scales forward", "inputs * (-self.log_scale).exp()", "inputs * self.log_scale.exp()"),
    ),
    *rows("transforms/actnorm.py", "test_flow.py test_normflows.py -k 'initialize or constant_channel'",
        ("starts with the mean added", "self.bias.copy_(-mean)", "self.bias.copy_(mean)"),
        ("starts multiplying by the deviation", "copy_(-std.clamp_min", "copy_(std.clamp_min"),
        ("starts with the sample deviation", "correction=0", "correction=1"),
        ("starts without a floor on the deviation", "std.clamp_min(self.min_std)", "std"),
    ),
    *rows("transforms/coupling.py", DENSE,
        ("affine log-det with the wrong sign", "log_scale.exp(), log_scale", "log_scale.exp(), -log_scale"),
        ("affine shift after the scale", "(values + shift) * log_scale.exp()", "values * log_scale.exp() + shift"),
        ("conditions on the half that it transforms",
         "self._map(values, self._condition(fixed,", "self._map(values, self._condition(values,"),
        ("shift is exponentiated", "shift, MAX_LOG_SCALE * (raw", "shift.exp(), MAX_LOG_SCALE * (raw"),
    ),
    *rows("transforms/coupling.py", laws("additive- or affine-"),
        ("affine inverse adds the shift", "(-log_scale).exp() - shift", "(-log_scale).exp() + shift"),
        ("affine inverse's log-det with the wrong sign", "- shift, -log_scale", "- shift, log_scale"),
        ("additive inverse adds", "values - parameters.squeeze(1)", "values + parameters.squeeze(1)"),
        ("additive coupling claims a log-det",
         "values + parameters.squeeze(1), torch.zeros_like", "values + parameters.squeeze(1), torch.ones_like"),
    ),
    *rows("transforms/coupling.py", DENSE,
        ("log-scale without its bound", "MAX_LOG_SCALE * (raw / MAX_LOG_SCALE).tanh()", "raw"),
        ("log-scale steeper than its parameter", "(raw / MAX_LOG_SCALE).tanh()", "raw.tanh()"),
    ),
    *rows("transforms/nets.py", COUPLINGS,
        ("context ignored", "return hidden + projection(context.to(projection.weight.dtype))", "return hidden"),
    ),
    *rows("linalg/precision.py", laws("additive- or affine-"),
        ("log-det is a mean over pixels", ".sum(1, dtype=", ".mean(1, dtype="),
    ),
    *rows("transforms/nets.py", DENSE,
        ("smaller half conditions",
         "return num_channels - num_channels // 2, num_channels // 2",
         "return num_channels // 2, num_channels - num_channels // 2"),
    ),
    *rows("transforms/nets.py", SPLINE,
        ("couplings do not start at zero", "nn.init.zeros_(conv.weight)", "nn.init.normal_(conv.weight)"),
    ),
    *rows("transforms/spline.py", SPLINE,
        ("slope's square forgotten", "return 2 * (secant /", "return (secant /"),
        ("slopes at the wrong ends",
         "mean = bins.next_slope * t.square() + 2 * secant * t * (1 - t) + bins.slope",
         "mean = bins.slope * t.square() + 2 * secant * t * (1 - t) + bins.next_slope"),
        ("slopes subtracted", "(bins.slope + bins.next_slope)", "(bins.slope - bins.next_slope)"),
        ("inverse's log-det with the wrong sign", "* t, -_log_slope", "* t, _log_slope"),
        ("the other root", "torch.where(p >= 0,", "torch.where(p < 0,"),
        ("tails end at the bound", "torch.where(outside, values, outputs)", "outputs"),
        ("half an interval", "2 * bound * sizes", "bound * sizes"),
        ("bins share more than the interval", "(1 - MIN_SIZE * raw.shape[1])", "(1 - MIN_SIZE)"),
        ("slopes start away from 1", "slopes + log(expm1(1 - MIN_SLOPE))", "slopes"),
        ("inverse searches the inputs' knots", "spline.at(inside, spline.bottom)", "spline.at(inside, spline.left)"),
    ),
    *rows("transforms/prior.py", laws("split-prior or top-prior"),
        ("split prior's log-det with the wrong sign", "exp()], 1), -sum_pixels", "exp()], 1), sum_pixels"),
        ("split prior adds the mean", "(values - mean) *", "(values + mean) *"),
        ("split prior's inverse adds the mean first",
         "noise * log_scale.exp() + mean", "(noise + mean) * log_scale.exp()"),
        ("split prior's inverse log-det with the wrong sign", "mean], 1), sum_pixels", "mean], 1), -sum_pixels"),
        ("top prior's log-det with the wrong sign", "exp(), -sum_pixels", "exp(), sum_pixels"),
        ("top prior's inverse log-det with the wrong sign", "+ mean, sum_pixels", "+ mean, -sum_pixels"),
        ("top prior multiplies by the scale",
         "(inputs - mean) * (-log_scale).exp()", "(inputs - mean) * log_scale.exp()"),
    ),
    *rows("transforms/prior.py", DENSE,
        ("top prior's mean and scale swapped", "[self.mean, self.log_scale]", "[self.log_scale, self.mean]"),
    ),
    *rows("transforms/squeeze.py", DENSE,
        ("columns before rows", "(0, 1, 3, 5, 2, 4)", "(0, 1, 5, 3, 2, 4)"),
        ("columns before rows, both ways",
         "(0, 1, 3, 5, 2, 4)", "(0, 1, 5, 3, 2, 4)", "(0, 1, 4, 2, 5, 3)", "(0, 1, 4, 3, 5, 2)"),
        ("strided blocks, both ways",
         "(0, 1, 3, 5, 2, 4)",
         "(0, 3, 5, 1, 2, 4)",
         "unflatten(1, (-1, self.factor, self.factor))\n",
         "unflatten(1, (self.factor, self.factor, -1)).movedim(3, 1)\n"),
    ),
    *rows("transforms/multiscale.py", DENSE,
        ("the first half leaves", "hidden, latent = hidden.split(", "latent, hidden = hidden.split("),
        ("the first half leaves, both ways",
         "hidden, latent = hidden.split(", "latent, hidden = hidden.split(",
         "torch.cat([hidden, latent], 1)", "torch.cat([latent, hidden], 1)"),
        ("inverse takes the halves in the other order",
         "torch.cat([hidden, latent], 1)", "torch.cat([latent, hidden], 1)"),
        ("deepest latents first", "[*latents, hidden.flatten(1)]", "[hidden.flatten(1), *latents]"),
        ("log-det of the last level only",
         "latent.flatten(1))\n            total = total + logabsdet", "latent.flatten(1))"),
        ("log-det without the last level", "1), total + logabsdet", "1), total"),
        ("inverse's log-det of the last level only",
         "context)\n            total = total + logabsdet\n        return hidden", "context)\n        return hidden"),
    ),
    *rows("transforms/dequantize.py", FLOW,
        ("log-det of 8 bits always", "* self.bits * log(2)", "* 8 * log(2)"),
        ("log-det without the bits", "* self.bits * log(2)", "* log(2)"),
        ("log-det in bits, not nats", "* self.bits * log(2)", "* self.bits"),
        ("log-det with the wrong sign", "value = -prod(", "value = prod("),
        ("log-det without the channels", "prod(images.shape[1:])", "prod(images.shape[2:])"),
        ("inverse rounds", "(inputs * levels).floor()", "(inputs * levels).round()"),
    ),
    *rows("transforms/dequantize.py", BINS,
        ("images not quantized",
         "(images >> (8 - self.bits)).to(noise.dtype) / levels", "images.to(noise.dtype) / levels"),
        ("bins not centred", "/ levels - 0.5  # exact", "/ levels"),
        ("inverse's log-det with the wrong sign", "), -self._logabsdet", "), self._logabsdet"),
        ("inverse forgets the lower bits", "bins.to(torch.uint8) << (8 - self.bits)", "bins.to(torch.uint8)"),
    ),
    *rows("transforms/dequantize.py", VARIATIONAL,
        ("brightest bin wraps around", "levels // 2 - 1)", "levels // 2)"),
        ("darkest bin wraps around", "clamp(-levels // 2,", "clamp(-levels,"),
        ("noise fills half a bin",
         "torch.minimum(lower + noise / levels", "torch.minimum(lower + noise / (2 * levels)"),
        ("noise carries into the next bin", "torch.minimum(lower + noise / levels, last)", "lower + noise / levels"),
    ),
    *rows("transforms/dequantize.py", EVALUATION,
        ("no noise", "torch.rand(inputs.shape,", "torch.zeros(inputs.shape,"),
        ("noise of another density", "device=inputs.device))", "device=inputs.device).square())"),
    ),
    *rows("transforms/variational.py", VARIATIONAL,
        ("log q forgotten", "logabsdet + of_flow + _log_density_ratio(epsilon, normal)", "logabsdet"),
        ("log q without the noise flow's log-det", "logabsdet + of_flow + _log", "logabsdet + _log"),
        ("log q without the densities", "+ of_flow + _log_density_ratio(epsilon, normal)", "+ of_flow"),
        ("densities the other way round", "+ of_flow + _log", "+ of_flow - _log"),
        ("inverse's densities the other way round", "+ of_flow - _log", "+ of_flow + _log"),
        ("half forgotten", "(epsilon + normal)) / 2", "(epsilon + normal))"),
        ("logistic instead of normal noise", "torch.special.ndtr(", "torch.special.expit("),
        ("noise does not see the image",
         "middle = self._lower(images, dtype)", "middle = 0 * self._lower(images, dtype)"),
    ),
    *rows("linalg/triangular_conv.py", MASKED,
        ("quadrant's mask lets later pixels in", "slice(0, q - (a == p - 1))", "slice(0, q)"),
        ("rows' mask lets the own row in", "(slice(0, p - 1), slice(b, b + 1))", "(slice(0, p), slice(b, b + 1))"),
        ("rows' own tap beside the middle", "corner=q // 2,", "corner=q - 1,"),
        ("looks down", "q - 1 - corner, p - 1, 0)", "q - 1 - corner, 0, p - 1)"),
        ("looks right", "(corner, q - 1 - corner, p", "(q - 1 - corner, corner, p"),
        ("the other triangle",
         "corner.triu() if upper else corner.tril()", "corner.tril() if upper else corner.triu()"),
        ("substitution adds", "kernel = -(inverse @", "kernel = (inverse @"),
        ("substitution does not divide by the diagonal",
         "outputs.flatten(2).mT, inverse.mT)", "outputs.flatten(2).mT, identity)"),
        ("last wavefront missing", "for t in range(height + width - 1)]", "for t in range(height + width - 2)]"),
        ("gradient of the kernel with the wrong sign", "return adjoint, -taps.view", "return adjoint, taps.view"),
        ("adjoint of the same triangle", "upper=not ctx.upper", "upper=ctx.upper"),
        ("adjoint without the transposition", "kernel.transpose(0, 1), ctx.order", "kernel, ctx.order"),
        ("adjoint on the unflipped image", "gradient.flip(2, 3), kernel", "gradient, kernel"),
        ("vmap takes the first kernel for all", "kernel.select(in_dims[1], i)", "kernel.select(in_dims[1], 0)"),
    ),
    *rows("linalg/triangular_conv.py", EMERGING,
        ("quadrant's mask is a tap short", "slice(0, q - (a == p - 1))", "slice(0, q - 1)"),
    ),
    *rows("transforms/emerging.py", EMERGING,
        ("lower left looks up", '"lower left": ((2,), True)', '"lower left": ((), True)'),
        ("lower right with its channels in order", '"lower right": ((2, 3), True)', '"lower right": ((2, 3), False)'),
        ("log-det of one pixel", "flip(axes), _pixels(inputs) * logabsdet", "flip(axes), logabsdet"),
        ("inverse's log-det with the wrong sign", "flip(axes), -_pixels(", "flip(axes), _pixels("),
        ("diagonal without bound", "MAX_LOG_SCALE * (self.log_scale / MAX_LOG_SCALE).tanh()", "self.log_scale"),
        ("the other triangle",
         "corner.triu(1) if upper else corner.tril(-1)", "corner.tril(-1) if upper else corner.triu(1)"),
        ("free diagonal beside the scales",
         "corner.triu(1) if upper else corner.tril(-1)", "corner.triu(1) if upper else corner.tril()"),
        ("log-det of scales, not their logarithms", "diag()), log_scale.sum()", "diag()), log_scale.exp().sum()"),
        ("window twice as large", "side = (kernel_size + 1) // 2", "side = kernel_size"),
        ("both convolutions face the same way", '("upper left", "lower right")]', '("upper left", "upper left")]'),
        ("convolutions in the other order", '("upper left", "lower right")]', '("lower right", "upper left")]'),
        ("1x1 convolution comes last", "[InvertibleConv1x1(shape), *facing]", "[*facing, InvertibleConv1x1(shape)]"),
    ),
    *rows("transforms/periodic.py", PERIODIC,
        ("frequencies count once",
         "2 * values[:, 1 : (width + 1) // 2].sum()", "values[:, 1 : (width + 1) // 2].sum()"),
        ("frequencies of half a width missing", "1 : (width + 1) // 2]", "1 : width // 2]"),
        ("widths' parity swapped", "if width % 2 == 0", "if width % 2 == 1"),
        ("first column missing", "once.sum() + 2 *", "2 *"),
        ("kernel not conjugated", ".conj().permute(", ".permute("),
        ("matrices transposed", ".permute(2, 3, 0, 1)\n\n\ndef", ".permute(2, 3, 1, 0)\n\n\ndef"),
        ("image's width from half a spectrum", "0, 1), s=images.shape[2:])", "0, 1))"),
        ("kernel off its centre", "inputs.roll((shift, shift)", "inputs.roll((0, 0)"),
        ("inverse shifts forward", "outputs.roll((-shift, -shift)", "outputs.roll((shift, shift)"),
        ("inverse's log-det with the wrong sign", "(2, 3)), -_logabsdet", "(2, 3)), _logabsdet"),
    ),
    *rows("transforms/macow.py", MACOW,
        ("left looks up", '"left": lambda images: images.mT,', '"left": lambda images: images,'),
        ("right looks left", "images.mT.flip(2, 3)", "images.mT"),
        ("down looks right", '"down": lambda images: images.flip(2)', '"down": lambda images: images.mT.flip(2, 3)'),
        ("mask lets the own row in",
         "F.pad(rows[:, :, :-1], (*self._margins, self.kernel_size[0], 0))",
         "F.pad(rows, (*self._margins, self.kernel_size[0] - 1, 0))"),
        ("log-det with the wrong sign", "log_scale.exp()), sum_pixels", "log_scale.exp()), -sum_pixels"),
        ("inverse's log-det with the wrong sign", "2)), -sum_pixels", "2)), sum_pixels"),
        ("inverse adds the shift", "(-log_scale).exp() - shift", "(-log_scale).exp() + shift"),
        ("inverse sees the outputs", "F.pad(row, self._margins)", "F.pad(rows[:, :, i : i + 1], self._margins)"),
        ("context is not turned",
         "self._condition(earlier, _turned(context, turn))", "self._condition(earlier, context)"),
        ("directions in another order",
         "up, down, ActNorm(channels), left, right]", "up, left, ActNorm(channels), down, right]"),
        ("does not start as the identity", "nn.init.zeros_(parameter)", "nn.init.normal_(parameter)"),
    ),
    *rows("transforms/chain.py", DENSE,
        ("log-det of the last part only", "else total + logabsdet", "else logabsdet"),
        ("log-dets subtracted", "else total + logabsdet", "else total - logabsdet"),
    ),
    *rows("transforms/chain.py", FLOW,
        ("inverse in the same order", "in reversed(self.transforms)", "in self.transforms"),
        ("context ends here", "apply(outputs, context)", "apply(outputs, None)"),
        ("log-dets summed in half precision",
         "logabsdet.to(torch.promote_types(logabsdet.dtype, torch.float32))", "logabsdet"),
        ("parts start from what the whole gets", "layer.initialize(args[0])", "layer.initialize(inputs)"),
    ),
    *rows("flow.py", FLOW,
        ("nats per dimension", "(prod(self.shape) * log(2))", "prod(self.shape)"),
        ("bits per pixel", "(prod(self.shape) * log(2))", "(prod(self.shape[1:]) * log(2))"),
        ("bits with the wrong sign", "return -self.log_prob(images, context)", "return self.log_prob(images, context)"),
        ("context dropped before the density",
         "return -self.log_prob(images, context)", "return -self.log_prob(images)"),
        ("temperature ignored", "inverse(temperature * noise", "inverse(noise"),
        ("temperature as a variance", "inverse(temperature * noise", "inverse(temperature**0.5 * noise"),
        ("samples' log-det added", "context=rows) - logabsdet", "context=rows) + logabsdet"),
        ("samples of a batch in the order of others",
         "rows.repeat_interleave(num_samples, 0)", "rows.repeat(num_samples, 1)"),
        ("samples of contexts mixed up",
         "[images.unflatten(0, (context.shape[0], -1)) for",
         "[images.unflatten(0, (-1, context.shape[0])).transpose(0, 1) for"),
        ("too many samples", "self._noise(min(batch_size, remaining), context)", "self._noise(batch_size, context)"),
        ("mixing before ActNorm",
         "[ActNorm(channels), mixings[level](level_shape),", "[mixings[level](level_shape), ActNorm(channels),"),
        ("priors of the wrong levels",
         "TopPrior if level == levels - 1 else SplitPrior", "SplitPrior if level == levels - 1 else TopPrior"),
        ("priors without context", "prior(level_shape, context_features=context_features)", "prior(level_shape)"),
    ),
    *rows("evaluation/likelihood.py", EVALUATION,
        ("one of the samples", "torch.stack(estimates).mean(0)", "estimates[0]"),
        ("best of the samples", "torch.stack(estimates).mean(0)", "torch.stack(estimates).amin(0)"),
        ("log K missing",
         "(torch.logsumexp(nats * (lowest - draws), 0) - log(count))", "torch.logsumexp(nats * (lowest - draws), 0)"),
        ("log K added", "- log(count)) / nats", "+ log(count)) / nats"),
        ("mean of bits, not of probabilities", "weighted = lowest - (", "weighted = draws.mean(0) - 0 * ("),
        ("weights upside down", "nats * (lowest - draws)", "nats * (draws - lowest)"),
        ("nats of one dimension", "nats = prod(images.shape[1:]) * log(2)", "nats = log(2)"),
        ("contexts of the first batch for all", "context[start : start + batch_size]", "context[:batch_size]"),
        ("noise not from the seed", "torch.manual_seed(seed)\n        flow", "torch.manual_seed(0)\n        flow"),
        ("PNG with its framing", "_PNG_FRAME = 57", "_PNG_FRAME = 0"),
        ("PNG in bytes", "return sum(8 * (", "return sum(("),
        ("PNG per image", "for image in images) / images.numel()", "for image in images) / len(images)"),
    ),
    *rows("data/sources.py", DATA,
        ("every rank gets the first part", "[rank * part : (rank + 1) * part]", "[:part]"),
        ("ranks take turns", "[rank * part : (rank + 1) * part]", "[rank::ranks]"),
        ("every epoch the same",
         "default_rng([BATCHES, seed, epoch]).permutation", "default_rng([BATCHES, seed]).permutation"),
        ("permutation without the seed", "default_rng([BATCHES, seed, epoch])", "default_rng([BATCHES, 0, epoch])"),
        ("draws with repetition", "epoch]).permutation(count)", "epoch]).integers(count, size=count)"),
        ("end of an epoch begins the same one again",
         "_permutation(count, seed, epoch + 1)", "_permutation(count, seed, epoch)"),
        ("held-out images are trained on", "return rows[np.sort(order[:kept])],", "return rows,"),
        ("held-out images by number in the file", "self._train.take(self._rows[indices])", "self._train.take(indices)"),
        ("held-out images differ from run to run",
         "np.random.default_rng(SPLITS).permutation", "np.random.default_rng().permutation"),
        ("labels of other images", "else self.labels[rows])", "else self.labels[: len(rows)])"),
    ),
    *rows("train/trainer.py", PARTS,
        ("a step for every part", "accumulate_grad_batches=config.accumulate", "accumulate_grad_batches=1"),
    ),
    *rows("data/photos.py", DATA,
        ("photos the same in every step", "default_rng([BATCHES, seed, step])", "default_rng([BATCHES, seed])"),
        ("training crops reach the right quarter",
         "photo[:, :, : photo.shape[2] * 3 // 4]", "photo[:, :, : photo.shape[2] * 3 // 4 + 1]"),
        ("test crops reach the left part",
         "photo[:, :, photo.shape[2] * 3 // 4 :]", "photo[:, :, photo.shape[2] * 3 // 4 - 1 :]"),
        ("crops one position short", "panels[number].shape[2] - size + 1)", "panels[number].shape[2] - size)"),
        ("crop from the photo before", 'side="right")) - 1', 'side="left")) - 1'),
    ),
    *rows("train/batches.py", PARTS,
        ("all parts of the same images", "rank=part, world_size", "rank=0, world_size"),
        ("parts of another batch", "rank=part, world_size=self.total)", "rank=part, world_size=2 * self.total)"),
    ),
    *rows("train/batches.py", "train/test_training.py -k noise_differs",
        ("noise without the part", "in (seed, step, part):", "in (seed, step):"),
        ("noise of a sum", "in (seed, step, part):", "in (seed, step + part):"),
    ),
    *rows("train/batches.py", PROCESSES,
        ("all processes get the first one's images", "range(rank * config.accumulate, (rank + 1) *", "range(0, 1 *"),
    ),
    *rows("train/batches.py", "train/test_training.py -k 'signal_ends and SIGTERM'",
        ("a resumed run sees the first images again", "step, size, seed = self.start,", "step, size, seed = 0,"),
    ),
    *rows("train/module.py", PARTS,
        ("noise without the part",
         "noise_seed(self.config.seed, step, part))\n        self",
         "noise_seed(self.config.seed, step, 0))\n        self"),
        ("noise without the step",
         "noise_seed(self.config.seed, step, part))\n        self",
         "noise_seed(self.config.seed, 0, part))\n        self"),
        ("loss is a sum", "self.context(labels)).mean()", "self.context(labels)).sum()"),
        ("rate of the schedule ignored",
         "LambdaLR(optimizer, self.config.rate)", "LambdaLR(optimizer, lambda step: 1.0)"),
    ),
    *rows("train/module.py", AVERAGE,
        ("average without its warm-up",
         "min(self.config.ema_decay, (1 + step) / (10 + step))", "self.config.ema_decay"),
        ("average of the newest weights",
         "list(self.flow.parameters()), 1 - decay)", "list(self.flow.parameters()), decay)"),
        ("average starts before ActNorm does",
         "self.average.load_state_dict(self.flow.state_dict())", "self.average.eval()"),
        ("last weights are evaluated", "self.flow if self.average is None else self.average", "self.flow"),
        ("average a step late", "step = self.trainer.global_step + 1", "step = self.trainer.global_step"),
    ),
    *rows("train/module.py", "train/test_lasting.py -k 'skipped or bad_steps or clipping or in_a_row or good_step'",
        ("gradients clipped one by one", "utils.clip_grad_norm_(", "utils.clip_grad_value_("),
        ("bad steps are taken", "optimizer.zero_grad(set_to_none=True)", "optimizer.zero_grad"),
        ("bad steps anywhere count as in a row", "self._skipped = 0\n            return", "return"),
        ("bad steps of earlier processes forgotten", '.get("skipped", 0)', '.get("nothing", 0)'),
    ),
    *rows("train/callbacks.py", "train/test_lasting.py -k validation",
        ("validation of the last weights", "bits_per_dim(module.evaluated, images", "bits_per_dim(module.flow, images"),
        ("samples of the last weights", "sample_classes(module.evaluated,", "sample_classes(module.flow,"),
        ("reconstructions of the last weights", "reconstructions(module.evaluated,", "reconstructions(module.flow,"),
    ),
    *rows("checkpoint.py", AVERAGE,
        ("averaged weights not read", '"average.") if averaged', '"flow.") if averaged'),
    ),
    *rows("train/config.py", "train/test_lasting.py -k rates",
        ("cosine not halved", "(1 + cos(pi * min(progress, 1.0))) / 2", "1 + cos(pi * min(progress, 1.0))"),
        ("cosine falls half way", "cos(pi * min(progress, 1.0))", "cos(pi / 2 * min(progress, 1.0))"),
        ("warm-up starts at rest", "(step + 1) / (self.warmup_steps + 1)", "step / (self.warmup_steps + 1)"),
    ),
    *rows("normflows.py", NORMFLOWS,
        ("noise goes through the transform", "z, self.transform.inverse(z, context)", "z, self.transform(z, context)"),
        ("directions swapped",
         "z, self.transform.inverse(z, context)", "z, self.transform.forward(z, context)",
         "z, self.transform(z, context)", "z, self.transform.inverse(z, context)"),
        ("log-dets with the wrong sign", "device=inputs.device) + log_det", "device=inputs.device) - log_det"),
        ("other library's log-dets lost", "device=inputs.device) + log_det", "device=inputs.device) + 0 * log_det"),
        ("other library's directions swapped", "inputs, self.flow.inverse(inputs", "inputs, self.flow(inputs"),
        ("context of the other direction", "self._context_names[1], context)", "None, context)"),
        ("context dropped", "z, self.transform.inverse(z, context)", "z, self.transform.inverse(z)"),
        ("block's ActNorm after its mixing",
         "Chain([ActNorm(shape[0]), mixing(shape), last])", "Chain([mixing(shape), ActNorm(shape[0]), last])"),
    ),
    *rows("linalg/precision.py", laws("conv1x1-", "autocast or dtype"),
        ("autocast acts inside", "torch.autocast(device, enabled=False)", "nullcontext()"),
    ),
    *rows("transforms/base.py", laws("conv1x1-", "autocast or dtype"),
        ("log-dets share their memory", ".expand(inputs.shape[0]).clone()", ".expand(inputs.shape[0])"),
    ),
    *rows("transforms/base.py", DIAGNOSIS,
        ("singular maps pass", "and not isfinite(logabsdet.item())", "and logabsdet.isnan()"),
    ),
    *rows("transforms/coupling.py", "transforms/test_reversible.py",
        ("reconstruction without the inverse",
         "values = self._inverse_map(values, parameters)[0].detach()", "values = values.detach()"),
    ),
    *rows("transforms/reversible.py", "transforms/test_reversible.py",
        ("recomputes in the same order", "for block in reversed(_blocks(segment)):", "for block in _blocks(segment):"),
        ("a block is undone in the same order", "for layer in reversed(self.layers):", "for layer in self.layers:"),
        ("a block's log-det is that of its first", "sum(logabsdets[1:], logabsdets[0])", "logabsdets[0]"),
        ("gradient of the log-det lost", "(of_outputs, of_logabsdet), gr", "(of_outputs, 0 * of_logabsdet), gr"),
        ("log-det of the last transform only", "else total + logabsdet", "else logabsdet"),
        ("shared parameters keep one gradient", "gradient if known is None else known + gradient", "gradient"),
        ("drift of the first segment only",
         "drift = torch.maximum(drift, difference / size)", "drift = difference / size"),
    ),
    *rows("evaluation/diagnosis.py", DIAGNOSIS,
        ("best condition of all frequencies", "torch.linalg.cond(wide).max()", "torch.linalg.cond(wide).min()"),
        ("log-det per batch", "/ inputs[0].numel()", "/ inputs.numel()"),
    ),
    *rows("evaluation/samples.py", "evaluation/test_likelihood_and_pictures.py -k 'Nearest or Interpolations'",
        ("distances without the cross term's double", "- 2 * (x @ y.T)", "- (x @ y.T)"),
        ("straight line backwards", "torch.lerp(start, end, weight)", "torch.lerp(end, start, weight)"),
        ("context stays at its start", "torch.lerp(context[0], context[1], weight)", "context[0]"),
    ),
    *rows("evaluation/record.py", "train/test_training.py -k 'evaluate_and_sample or distances or spread'",
        ("standard error is the deviation", "bits.std() / len(bits) ** 0.5", "bits.std()"),
        ("distances in shares of the image",
         "float(np.prod(source.shape)) ** -0.5", "1 / float(np.prod(source.shape))"),
        ("spread of a population", "{stdev(bits):.3f}", "{(stdev(bits) / 2**0.5):.3f}"),
        ("samples at temperature 1", "label=label, temperature=temperature)", "label=label)"),
        ("importance samples as samples", "importance_samples=importance_samples, seed=seed", "seed=seed"),
    ),
    *rows("train/presets.py", "train/test_presets.py",
        ("another batch", "size=96, bits=5, batch_size=16", "size=96, bits=5, batch_size=32"),
        ("another number of bits", "size=128, bits=5", "size=128, bits=8"),
        ("another temperature", "temperature=0.875", "temperature=0.7"),
        ("another learning rate", "learning_rate=1e-3", "learning_rate=1e-4"),
    ),
    *rows("config.py", "train/test_presets.py -k counts",
        ("rows take the channels' rank", "ranks=(dc, ds, ds))", "ranks=(dc, dc, ds))"),
        ("ranks of the last levels", "8 if level < 2 else 16", "16 if level < 2 else 8"),
    ),
]
# fmt: on


class Result(NamedTuple):
    """What the tests of one row said."""

    verdict: str  # "passed", "failed" or what else happened
    seconds: float
    failed: str  # the first test that did, or the last lines where none ran


def snapshot(folder: Path) -> Path:
    """Copy what the tests need, and make them look at the copy."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("nflows_woodbury", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "conftest.py").write_text(CONFTEST)
    return folder


def run_tests(copy: Path, tests: str) -> Result:
    """Run some tests of a copy, up to the first that fails, in a process of their own."""
    words = [f"tests/{word}" if word.endswith(".py") else word for word in shlex.split(tests)]
    log, start = copy / "log", time.perf_counter()
    process = SERVER.Process(target=_pytest, args=(copy, words, log))
    process.start()
    process.join(LIMIT)
    seconds = time.perf_counter() - start
    if process.is_alive():
        process.terminate()
        return Result("too slow", seconds, "")
    lines = log.read_text().splitlines()
    failed = next((line for line in lines if line.startswith(("FAILED tests/", "ERROR tests/"))), "")
    failed = failed.partition("tests/")[2].partition(" - ")[0]
    verdict = {0: "passed", 1: "failed"}.get(process.exitcode or 0, f"exit status {process.exitcode}")
    if f"tested: {copy / 'nflows_woodbury' / '__init__.py'}" not in lines:
        verdict = "did not test the copy"
    if verdict == "failed" and "::" not in failed:
        verdict = "broken"  # could not even be imported, which says nothing about the tests
    return Result(verdict, seconds, failed if verdict in ("passed", "failed") else " | ".join(lines[-5:]))


def _pytest(copy: Path, words: list[str], log: Path) -> None:
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)  # for tests that start Python
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # slow to import, and needed by none of the tests
    sys.dont_write_bytecode = True
    checkout = {str(ROOT), str(ROOT / "tests" / "helpers")}  # of the script, and of an editable install
    sys.path[:] = [str(copy), *(path for path in sys.path if path not in checkout)]
    sys.exit(pytest.main(["-x", "-q", "--tb=no", "-p", "no:cacheprovider", *words]))


def run_copy(base: Path, tests: str, mutation: Mutation | None = None) -> Result:
    """Run some tests on a copy of the snapshot, mutated if so wished."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve() / "copy"
        shutil.copytree(base, copy)
        if mutation is not None:
            path = copy / "nflows_woodbury" / mutation.file
            path.write_text(mutation.mutated(path.read_text()))
            compile(path.read_text(), path, "exec")
        return run_tests(copy, tests)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="mutations with one of these in 'file: name'")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="mutations at a time (default: 1)")
    parser.add_argument("--list", action="store_true", help="check that every snippet is there, and run nothing")
    options = parser.parse_args(arguments)
    for mutation in MUTATIONS:
        mutation.mutated((ROOT / "nflows_woodbury" / mutation.file).read_text())
    twice = [name for name, count in Counter(map(str, MUTATIONS)).items() if count > 1]
    if twice:
        raise ValueError(f"names must differ, got twice: {twice}")
    chosen = [m for m in MUTATIONS if options.only is None or any(text in str(m) for text in options.only)]
    if options.list:
        print(*chosen, f"{len(chosen)} mutations", sep="\n")
        return 0
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        base = snapshot(Path(folder).resolve())
        selections = list(dict.fromkeys(mutation.tests for mutation in chosen))
        bad = 0
        for tests, result in zip(selections, pool.map(lambda tests: run_copy(base, tests), selections), strict=True):
            print(f"{result.verdict:<9}{result.seconds:6.1f} s  unchanged: {tests}  {result.failed}", flush=True)
            bad += result.verdict != "passed"
        if bad:
            print(f"{bad} selections of tests do not pass on the unchanged package")
            return 1
        survived = []
        for mutation, result in zip(chosen, pool.map(lambda m: run_copy(base, m.tests, m), chosen), strict=True):
            verdict = {"passed": "SURVIVED", "failed": "caught"}.get(result.verdict, result.verdict)
            print(f"{verdict:<9}{result.seconds:6.1f} s  {mutation}  {result.failed}", flush=True)
            if verdict != "caught":
                survived.append(str(mutation))
    print(f"{len(chosen) - len(survived)} of {len(chosen)} mutations caught in {time.perf_counter() - start:.0f} s")
    print(*(f"not caught: {name}" for name in survived), sep="\n", end="\n" if survived else "")
    return bool(survived)


if __name__ == "__main__":
    sys.exit(main())
