"""What the use of a trained flow costs, in time and exactness."""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from time import process_time

import torch

from nflows_woodbury.checkpoint import Run
from nflows_woodbury.config import FlowConfig
from nflows_woodbury.evaluation.diagnosis import diagnose
from nflows_woodbury.evaluation.samples import class_numbers, sample_classes
from nflows_woodbury.flow import GridFlow

__all__ = ["costs"]

_BATCH, _ROUNDS = 32, 20  # samples at a time, and how often


def costs(run: Run) -> dict[str, float]:
    """What a trained flow costs: CPU milliseconds for a training step and for a sample, and the error of a round trip.

    A step is a batch of the run's size forward and backward, of test images, and again from the first where they are
    fewer; reversible as the run's, but neither compiled nor under autocast. The fastest of twenty counts, which depends
    least on what else the machine does. Samples that are not finite have no time.

    >>> from nflows_woodbury.checkpoint import open_run
    >>> sorted(costs(open_run(run_folder)))
    ['round_trip', 'sampling_milliseconds', 'step_milliseconds']
    """
    images, labels = run.source.test.images.to(run.device), run.source.test.labels
    context = class_numbers(run.flow, labels)
    batch = torch.arange(run.saved["training"]["batch_size"]) % len(images)
    rows = None if context is None else context[batch]
    flow = _as_trained(run)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        few = None if context is None else context[:100]
        there_and_back = diagnose(run.flow, images[:100], few)[-2]
        step = _fastest(lambda: flow(images[batch], rows).mean().backward())
        flow.zero_grad(set_to_none=True)
        try:
            with torch.no_grad():
                sampling = _fastest(lambda: sample_classes(run.flow, _BATCH).cpu())
        except ArithmeticError:  # no sample of a flow that diverged is finite
            sampling = nan
    return {
        "step_milliseconds": 1e3 * step,
        "sampling_milliseconds": 1e3 * sampling / _BATCH,
        "round_trip": there_and_back.round_trip,
    }


def _as_trained(run: Run) -> GridFlow:
    """The flow, whose layers keep their inputs or find them again as in its training."""
    if not run.saved["training"]["reversible"]:
        return run.flow
    flow = FlowConfig.from_dict(run.saved["flow"]).build(reversible=True).to(next(run.flow.parameters()))
    flow.load_state_dict(run.flow.state_dict())
    return flow.train(run.flow.training)


def _fastest(call: Callable[[], object]) -> float:
    """CPU seconds of the fastest call, after one that does not count."""
    seconds = []
    for _ in range(1 + _ROUNDS):
        start = process_time()
        call()
        seconds.append(process_time() - start)
    return min(seconds[1:])
