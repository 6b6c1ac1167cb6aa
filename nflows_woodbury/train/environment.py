"""What a run needs around it: a folder of its own, a compiler, the other machines, and quiet."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nflows_woodbury.optional import import_extra
from nflows_woodbury.train.config import Running

__all__ = ["alone_in", "check_compiler", "check_extras", "check_launcher", "quieten", "tell"]

#: variables by which Lightning knows who starts the processes of a run
_LAUNCHERS = ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "LSB_JOBID", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MASTER_ADDR")


@contextmanager
def alone_in(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the folder's lock; FileExistsError while another process does, unless it ``wait``s for that one.

    A killed process holds it no longer.
    """
    filelock = import_extra("filelock")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / ".lock", timeout=-1 if wait else 0):
            yield
    except filelock.Timeout as error:
        raise FileExistsError(f"{folder} is in use by another run; wait for it, or --out takes another") from error


def check_extras() -> None:
    """ImportError without what training needs beyond the library, before anything else of the run is looked at."""
    for module in ("pytorch_lightning", "tensorboard"):
        import_extra(module)


def check_compiler() -> None:
    """FileNotFoundError without the C++ compiler that compiled flows need."""
    name = os.environ.get("CXX", "g++")
    if shutil.which(name) is None:
        raise FileNotFoundError(
            f"compile needs a C++ compiler, and there is no {name}: install one, name it in CXX, or leave --compile out"
        )


def check_launcher(running: Running) -> None:
    """Say what a run on several machines waits for; ValueError where nothing starts the others."""
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if not any(name in os.environ and not (interactive and name.startswith("SLURM")) for name in _LAUNCHERS):
        raise ValueError(
            f"num_nodes {running.num_nodes} waits for a process on each machine, and nothing here starts them: run the "
            f"command by torchrun --nnodes {running.num_nodes} or by srun on each, or set MASTER_ADDR, MASTER_PORT and "
            "NODE_RANK there"
        )
    place = f"{os.environ.get('MASTER_ADDR', 'the first')}:{os.environ.get('MASTER_PORT', '')}".rstrip(":")
    tell(f"waiting until {running.num_nodes} machines with {running.devices} processes each meet at {place}")


def tell(line: str) -> None:
    """Print on standard error, if somebody reads it."""
    with suppress(BrokenPipeError):
        print(line, file=sys.stderr, flush=True)


def quieten() -> None:
    """Show what this package logs; leave out Lightning's advice on worker processes, which batches do without."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("nflows_woodbury").setLevel(logging.INFO)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*you're resuming from a checkpoint that ended before the epoch.*")
    warnings.filterwarnings("ignore", message=".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*")
