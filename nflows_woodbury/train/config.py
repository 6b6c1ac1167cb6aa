"""The settings of a training run as data, and how it is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi
from numbers import Real
from pathlib import Path

from nflows_woodbury.checks import check_natural_int, check_natural_number, check_one_of, check_positive_int
from nflows_woodbury.config import Settings

__all__ = ["Running", "TrainingConfig"]

SCHEDULES = {
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: (1 + cos(pi * min(progress, 1.0))) / 2,
}

PRECISIONS = ("float32", "bf16", "float64")


@dataclass(frozen=True)
class TrainingConfig(Settings):
    """A run as data; together with the code and the images it determines the result.

    Args:
        data: what :func:`nflows_woodbury.data.opening.open_source` takes.
        size: side of the images, or (height, width), or None for that of the data.
        test_images: images held out as the test set of data that has none of its own; None or 0 for its own, or
            a tenth.
        skip_broken: leave out images that cannot be read.
        max_steps: optimizer steps.
        batch_size: images per step, over all devices and parts together.
        accumulate: parts that each device's share of a batch is divided into, one after the other, to save memory;
            the gradient is that of the whole batch.
        flip: mirror each training image left to right with probability 1/2. The model is then one of both kinds: its
            likelihood of images that are never mirrored can be worse by up to one bit an image, for what it has learnt
            from twice as many.
        learning_rate: of Adam, after the warm-up.
        betas: of Adam, the decays of its averages of gradients and of their squares; the default is the paper's.
        weight_decay: of Adam: this times each parameter is added to its gradient.
        warmup_steps: steps over which the learning rate rises linearly from 0; 0 turns it off.
        schedule: ``"cosine"`` (falls to 0 at ``max_steps``) or ``"constant"`` (as in the paper).
        clip_value: each entry of the gradient is clipped to this size; 0 turns it off.
        clip_norm: the gradient's norm, after that, is clipped to this; 0 turns it off.
        skip_limit: a step whose gradient is not finite is skipped with a warning, and this many of them in a row
            end the run; 0 turns the guard off.
        ema_decay: decay of an exponential moving average of the weights, which is then what pictures, validation and
            evaluation use; after step ``n`` it is ``min(ema_decay, (1 + n) / (10 + n))``. 0 turns it off.
        precision: ``"float32"``; ``"bf16"``, in which the conditioner networks alone run in bfloat16; or
            ``"float64"``.
        compile: compile the flow with ``torch.compile``.
        reversible: get activations back by inverting the flow, so that memory does not grow with its steps.
        seed: of the parameters, the batches and the noise.
        every: steps between checkpoints, sample grids and validations; None for a tenth of ``max_steps``, rounded up.
        temperature: of the sample grids.
        preset: the name in :data:`nflows_woodbury.train.presets.PRESETS` that the settings come from, for the record.

    Raises:
        ValueError, TypeError: for a value that is out of range.

    >>> TrainingConfig(warmup_steps=4, schedule="constant").rate(1)
    0.4
    """

    data: str = "photos"
    size: int | tuple[int, int] | None = None
    test_images: int | None = None
    skip_broken: bool = False
    max_steps: int = 500
    batch_size: int = 32
    accumulate: int = 1
    flip: bool = False
    learning_rate: float = 5e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    warmup_steps: int = 20
    schedule: str = "cosine"
    clip_value: float = 0.0
    clip_norm: float = 10.0
    skip_limit: int = 10
    ema_decay: float = 0.0
    precision: str = "float32"
    compile: bool = False
    reversible: bool = False
    seed: int = 0
    every: int | None = None
    temperature: float = 1.0
    preset: str = ""

    def __post_init__(self) -> None:
        """Check each value."""
        for name in ("max_steps", "batch_size", "accumulate"):
            check_positive_int(name, getattr(self, name))
        every = -(-self.max_steps // 10) if self.every is None else check_positive_int("every", self.every)
        object.__setattr__(self, "every", every)
        for name in ("warmup_steps", "seed", "skip_limit"):
            check_natural_int(name, getattr(self, name))
        if self.seed >= 2**63:
            raise ValueError(f"seed must be below 2**63, got {self.seed}")
        if self.test_images is not None:
            check_natural_int("test_images", self.test_images)
        object.__setattr__(self, "size", _size(self.size))
        for name in ("clip_value", "clip_norm", "weight_decay", "temperature", "ema_decay"):
            check_natural_number(name, getattr(self, name))
        if not isinstance(self.learning_rate, Real):
            raise TypeError(f"learning_rate must be a positive number, got {self.learning_rate!r}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if self.ema_decay >= 1:
            raise ValueError(f"ema_decay must be at least 0 and below 1, got {self.ema_decay}")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size must be a multiple of accumulate ({self.accumulate}), got {self.batch_size}")
        object.__setattr__(self, "betas", _betas(self.betas))
        check_one_of("schedule", self.schedule, SCHEDULES)
        check_one_of("precision", self.precision, PRECISIONS)

    def rate(self, step: int) -> float:
        """The factor on the learning rate at a step."""
        return min(1.0, (step + 1) / (self.warmup_steps + 1)) * SCHEDULES[self.schedule](step / self.max_steps)


def _size(size: object) -> int | tuple[int, int] | None:
    if not isinstance(size, Sequence) or isinstance(size, str):
        return None if size is None else check_positive_int("size", size)
    if len(size) != 2:
        raise ValueError(f"size must be one side or (height, width), got {tuple(size)}")
    return check_positive_int("size[0]", size[0]), check_positive_int("size[1]", size[1])


def _betas(betas: object) -> tuple[float, float]:
    if not isinstance(betas, Sequence) or len(betas) != 2:
        raise TypeError(f"betas must be two numbers, got {betas!r}")
    first, second = (check_natural_number(f"betas[{i}]", beta) for i, beta in enumerate(betas))
    if max(first, second) >= 1:
        raise ValueError(f"betas must be at least 0 and below 1, got {first} and {second}")
    return first, second


@dataclass(frozen=True)
class Running:
    """How a run is run, on which its result does not depend.

    Args:
        devices: devices of each machine: GPUs where there are any, else processes on the CPU.
        num_nodes: machines; torchrun or SLURM starts a process on each.
        out: the run's folder, or None for ``runs/PRESET`` or ``runs/DATA-MIXING``.
        quiet: show no progress bar.
        changed_data: go on with images that are not those that the run began with.

    Raises:
        ValueError, TypeError: for counts that are no positive integers.

    >>> Running(devices=2).num_nodes
    1
    """

    devices: int = 1
    num_nodes: int = 1
    out: Path | None = None
    quiet: bool = False
    changed_data: bool = False

    def __post_init__(self) -> None:
        """Check both counts."""
        check_positive_int("devices", self.devices), check_positive_int("num_nodes", self.num_nodes)
