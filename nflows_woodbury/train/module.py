"""Training an image flow with PyTorch Lightning: what one step does; the Trainer does the rest."""

from __future__ import annotations

from copy import deepcopy
from functools import cached_property
from math import ceil, prod
from time import perf_counter, process_time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader

from nflows_woodbury.checkpoint import check_kind
from nflows_woodbury.config import FlowConfig
from nflows_woodbury.data.sources import ImageSource
from nflows_woodbury.evaluation.diagnosis import first_not_finite
from nflows_woodbury.evaluation.samples import as_inputs, class_numbers
from nflows_woodbury.flow import GridFlow
from nflows_woodbury.train.batches import Batch, Steps, noise_seed
from nflows_woodbury.train.config import TrainingConfig

__all__ = [
    "FlowTraining",
    "skip_on_device",
]

LOOK = 50  # steps from one look at a device to the next
FUSED = ("cpu", "cuda", "mps", "xpu")  # where torch has a fused Adam


class FlowTraining(pl.LightningModule):
    """One training run of an :class:`~nflows_woodbury.ImageFlow` on an image source.

    A batch is divided into parts, ``accumulate`` for each process. Images and dequantization noise are functions of
    (seed, step, part), so a resumed run goes on as if it had never stopped, and parts give the same gradient whether
    they run one after the other or on devices of their own. The checkpoint holds plain values and tensors only, and
    enough to rebuild the flow.

    Args:
        flow_config: the model.
        config: the run.
        source: the images, of the model's shape and classes; else ValueError.

    >>> from nflows_woodbury.data.photos import PhotoSource
    >>> from nflows_woodbury.config import FlowConfig
    >>> from nflows_woodbury.train.config import TrainingConfig
    >>> training = FlowTraining(FlowConfig((3, 8, 8), levels=1), TrainingConfig(max_steps=100), PhotoSource(8))
    >>> training.flow(training.source.batch(0, 4, seed=0).images).shape
    torch.Size([4])
    """

    def __init__(self, flow_config: FlowConfig, config: TrainingConfig, source: ImageSource) -> None:
        super().__init__()
        if source.shape != flow_config.shape:
            raise ValueError(f"shape must be that of the images, {source.shape}, got {flow_config.shape}")
        check_kind({"flow": flow_config.to_dict()}, source)
        if 0 < flow_config.num_classes < (source.num_classes or 0):
            classes = flow_config.num_classes
            raise ValueError(f"num_classes must be at least the images' {source.num_classes}, got {classes}")
        self.flow_config, self.config, self.source = flow_config, config, source
        torch.manual_seed(config.seed)
        self.flow = flow_config.build(reversible=config.reversible)
        if config.precision == "float64":
            self.flow.double()
        self.average = deepcopy(self.flow).requires_grad_(False) if config.ema_decay else None
        self._clock = 0.0
        self._skipped: int | Tensor = 0  # steps in a row
        self._batch: Batch | None = None  # the last one
        self._seconds, self._started = 0.0, perf_counter()  # of training: before this process, and its start
        self._cpu_seconds, self._cpu_started = 0.0, process_time()

    @property
    def evaluated(self) -> GridFlow:
        """The flow that pictures and likelihoods are of, the averaged one if there is one."""
        return self.flow if self.average is None else self.average

    @property
    def measure(self) -> str:
        """What is minimised, as it is called in the log."""
        return "differential_bits_per_dim" if self.flow_config.is_fields else "bits_per_dim"

    def setup(self, stage: str) -> None:
        """Start ActNorm from the first images, the same on every rank, before Lightning wraps the module."""
        self.to(self.trainer.strategy.root_device)
        size, seed = self.config.batch_size, self.config.seed
        batches = [self.source.batch(step, size, seed=seed) for step in range(ceil(_start_images(self.source) / size))]
        labels = [batch.labels for batch in batches if batch.labels is not None]
        torch.manual_seed(seed)
        images = as_inputs(self.flow, torch.cat([batch.images for batch in batches]))
        self.flow.initialize(images, class_numbers(self.flow, torch.cat(labels) if labels else None))
        if self.average is not None:
            self.average.load_state_dict(self.flow.state_dict())
        if self.config.compile:
            self.flow.compile()
        self._started, self._cpu_started = perf_counter(), process_time()

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches from the step that the run is at."""
        ranks = self.trainer.global_rank, self.trainer.world_size
        return DataLoader(Steps(self.source, self.config, self.trainer.global_step, *ranks), batch_size=None)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Bits per dimension of a batch, or of its part."""
        step, part, images, labels = batch
        images = as_inputs(self.flow, images)
        torch.manual_seed(noise_seed(self.config.seed, step, part))
        self._batch = step, part, images, labels
        loss: Tensor = self.flow(images, class_numbers(self.flow, labels)).mean()
        self.log(f"train_{self.measure}", loss.detach(), prog_bar=True)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Skip a step without a finite gradient, clip it, and log its norm before that and the images per second."""
        gradients = [parameter.grad for parameter in self.flow.parameters() if parameter.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        self.log("gradient_norm", norm)
        if self.config.skip_limit:
            self._skip_unless_finite(norm, optimizer)
        if self.config.clip_value:
            torch.nn.utils.clip_grad_value_(self.flow.parameters(), self.config.clip_value)
        if self.config.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.flow.parameters(), self.config.clip_norm)
        now, before = perf_counter(), self._clock
        self._clock = now
        if before:
            self.log("images_per_second", self.config.batch_size / (now - before))

    def _skip_unless_finite(self, norm: Tensor, optimizer: torch.optim.Optimizer) -> None:
        if norm.device.type != "cpu" and all(group["fused"] for group in optimizer.param_groups):
            self._skipped = skip_on_device(norm, optimizer, self._skipped)
            if self.trainer.global_step % LOOK or not self._skipped:
                return
            self._skipped = int(self._skipped) - 1
        elif norm.isfinite():
            self._skipped = 0
            return
        where = f"step {self.trainer.global_step}: the gradient is not finite{self._origin()}"
        optimizer.zero_grad(set_to_none=True)  # a parameter without gradient stays as it is
        self._skipped += 1
        if self._skipped >= self.config.skip_limit:
            raise FloatingPointError(
                f"{where}, {self._skipped} steps in a row. A lower "
                "learning_rate, a longer warm-up or a clip_norm usually helps"
            )
        rank_zero_warn(f"{where}; the step is skipped")

    def _origin(self) -> str:
        """Where it comes from: a layer that makes such values of the last batch, or else the first such gradient."""
        assert self._batch is not None
        step, part, images, labels = self._batch
        torch.manual_seed(noise_seed(self.config.seed, step, part))
        layer = first_not_finite(self.flow, images, class_numbers(self.flow, labels))
        if layer is not None:
            return f", nor are the values of {layer}"
        for name, parameter in self.flow.named_parameters():
            if parameter.grad is not None and not parameter.grad.isfinite().all():
                return f", first in {name}"
        return ""

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, and average the weights."""
        step = self.trainer.global_step + 1
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            decay = min(self.config.ema_decay, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.average.parameters()), list(self.flow.parameters()), 1 - decay)

    def configure_optimizers(self) -> Any:
        """Adam with warm-up and schedule."""
        config = self.config
        parameters = list(self.flow.parameters())
        fused = all(parameter.device.type in FUSED for parameter in parameters)
        optimizer = torch.optim.Adam(
            parameters, config.learning_rate, config.betas, weight_decay=config.weight_decay, fused=fused
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.config.rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def is_step_end(self, batch_index: int) -> bool:
        """Whether a batch's part was the last before the optimizer's step."""
        return (batch_index + 1) % self.config.accumulate == 0

    def is_time(self, batch_index: int) -> bool:
        """Whether a checkpoint, pictures and likelihoods are due after a batch's part."""
        assert self.config.every is not None
        return self.is_step_end(batch_index) and self.trainer.global_step % self.config.every == 0

    @property
    def seconds(self) -> float:
        """Time spent in training, that of earlier processes of the same run included."""
        return self._seconds + perf_counter() - self._started

    @property
    def cpu_seconds(self) -> float:
        """Those of all threads of this process in training, of earlier processes of the same run included."""
        return self._cpu_seconds + process_time() - self._cpu_started

    @cached_property
    def _kept(self) -> dict[str, Any]:
        """What the source keeps, without names of classes that the model does not know."""
        kept = self.source.kept()
        return kept if self.flow_config.num_classes else {**kept, "class_names": None}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the settings and what the run remembers, as plain values."""
        checkpoint["nflows_woodbury"] = {
            "flow": self.flow_config.to_dict(),
            "training": self.config.to_dict(),
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "skipped": int(self._skipped),
            "data": self._kept,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up what the run remembered."""
        self._seconds = checkpoint["nflows_woodbury"].get("seconds", 0.0)
        self._cpu_seconds = checkpoint["nflows_woodbury"].get("cpu_seconds", 0.0)
        self._skipped = checkpoint["nflows_woodbury"].get("skipped", 0)


def _start_images(source: ImageSource) -> int:
    """As many images as have the pixels of 256 images of 32 x 32, at least 16 and at most 256."""
    return min(256, max(16, 256 * 32**2 // prod(source.shape[1:])))


def skip_on_device(norm: Tensor, optimizer: torch.optim.Optimizer, skipped: int | Tensor) -> Tensor:
    """Let a fused optimizer leave out its next step if ``norm`` is not finite; how many it left out in a row by then.

    The device does so by itself: the host does not wait to know.

    >>> weight = torch.nn.Parameter(torch.ones(()))
    >>> optimizer = torch.optim.Adam([weight], fused=True)
    >>> weight.grad = torch.tensor(float("inf"))
    >>> skip_on_device(weight.grad, optimizer, 1), optimizer.step(), weight.item()
    (tensor(2), None, 1.0)
    """
    finite = norm.isfinite()
    optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
    return torch.where(finite, 0, skipped + 1)
