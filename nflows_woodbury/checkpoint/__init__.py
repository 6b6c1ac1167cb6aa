"""Trained flows, read back from checkpoints and from published weights, with their images."""

from nflows_woodbury.checkpoint.reading import find_checkpoint, load_flow, read_checkpoint
from nflows_woodbury.checkpoint.runs import Run, check_kind, find_device, open_images, open_run
from nflows_woodbury.checkpoint.weights import SUFFIX, read_weights, write_weights

__all__ = [
    "SUFFIX",
    "Run",
    "check_kind",
    "find_checkpoint",
    "find_device",
    "load_flow",
    "open_images",
    "open_run",
    "read_checkpoint",
    "read_weights",
    "write_weights",
]
