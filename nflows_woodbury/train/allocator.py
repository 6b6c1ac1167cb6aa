"""What the process does with memory that is freed after each step."""

from __future__ import annotations

import ctypes
import os

__all__ = ["keep_freed_memory"]

#: variables by which a user tells the C library what to do with freed memory
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, in glibc's malloc.h


def keep_freed_memory() -> bool:
    """Have the process keep up to 1 GiB of the memory that it frees for what it needs next; whether it does.

    glibc gives large blocks back to the system, and the same tensors of the next step cost a page fault for every few
    KiB, thousands a step. Blocks above 32 MiB go back all the same: kept, they would break into pieces. Only glibc has
    this switch; elsewhere, and where the environment has settings for it, nothing changes. It lasts as long as the
    process. The command line calls it; a script of your own may.

    >>> keep_freed_memory() in (True, False)
    True
    """
    if any(name in os.environ for name in _SETTINGS):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return False
    return bool(mallopt(_MMAP_THRESHOLD, 2**25) and mallopt(_TRIM_THRESHOLD, 2**30))
