"""Files that are there whole or not at all, and what went wrong with one in words."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

__all__ = ["check_writable", "explain", "to_json", "whole_file", "write_json"]

#: names of the process's own streams -> their descriptors
_OWN = {"/dev/stdout": 1, "/dev/stderr": 2}

_CURES = {
    errno.ENOSPC: "free some space on its disk",
    errno.EDQUOT: "free some of your share of its disk",
    errno.EFBIG: "its disk or the shell's limits allow no such file",
    errno.EACCES: "choose a place that you may read and write, or change its permissions",
    errno.EPERM: "choose a place that you may read and write, or change its permissions",
    errno.EROFS: "choose a place on another disk",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit of open files, as by ulimit -n 4096",
}


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A new, hidden file beside ``path`` to write to, which takes its place when the block ends well.

    Until then whatever stood at ``path`` stays. An error in the block (a full disk, say) removes the new file; a killed
    process leaves it behind, and the next one to write ``path`` removes it. Missing folders are made. A link is
    followed; a pipe or a device such as ``/dev/stdout`` is written to when the block ends.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with whole_file(f"{folder}/note.txt") as new:
    ...         _ = new.write_text("all of it")
    ...     (Path(folder) / "note.txt").read_text()
    'all of it'
    """
    if is_stream(path):
        with TemporaryDirectory() as folder:
            new = Path(folder, "new")
            yield new
            _pour(new, path)
        return
    path = _target(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    stem = f".{path.name}.{platform.node()}-"  # a shared folder may hold other machines' new files
    for left in path.parent.glob(f"{escape(stem)}*.new"):
        if not _is_running(left.name[len(stem) : -len(".new")]):
            left.unlink(missing_ok=True)
    new = path.with_name(f"{stem}{os.getpid()}.new")
    try:
        yield new
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def write_json(path: str | Path, values: Any) -> None:
    """Write plain values as :func:`to_json`, whole or not at all."""
    text = to_json(values)
    with whole_file(path) as new:
        new.write_text(text + "\n")


def to_json(values: Any) -> str:
    """Plain values as indented JSON; a number that JSON does not know, infinite or not a number, is null.

    >>> print(to_json([1.5, float("nan")]))
    [
      1.5,
      null
    ]
    """
    return json.dumps(_finite(values), indent=2, allow_nan=False)


def check_writable(path: str | Path) -> None:
    """OSError unless a file can be written at ``path``, for a look before the work; nothing is left there."""
    if is_stream(path):
        return
    target = _target(path).absolute()
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it")
    place = next(folder for folder in target.parents if folder.exists())
    if not place.is_dir():
        raise NotADirectoryError(f"{path} cannot be written, as {place} is no folder; choose another place")
    try:
        with TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def is_stream(path: str | Path) -> bool:
    """Whether ``path`` is a pipe or a device, which has no content to be replaced."""
    path = Path(path)
    return str(path) in _OWN or (path.exists() and not path.is_file() and not path.is_dir())


def explain(error: OSError) -> str:
    """What the system refused, where, and what would help, in one line.

    >>> explain(OSError(28, "No space left on device", "runs/mine/last.ckpt"))
    'runs/mine/last.ckpt: no space left on device; free some space on its disk'
    """
    if not error.strerror:
        return str(error)
    place = f"{error.filename}: " if error.filename is not None else ""
    return f"{place}{error.strerror[0].lower()}{error.strerror[1:]}{_cure(error)}"


def _cure(error: OSError) -> str:
    return f"; {_CURES[error.errno]}" if error.errno in _CURES else ""


def _target(path: str | Path) -> Path:
    """Where a link points to, whether or not there is something; any other path as it is."""
    path = Path(path)
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _pour(file: Path, stream: str | Path) -> None:
    """Write a file's content into a pipe or device; into an own stream after what was printed so far."""
    descriptor = _OWN.get(str(stream))
    if descriptor is not None:
        (sys.stdout if descriptor == 1 else sys.stderr).flush()
    with file.open("rb") as new, open(stream if descriptor is None else os.dup(descriptor), "wb") as out:
        shutil.copyfileobj(new, out)


def _finite(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _finite(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not isfinite(values) else values


def _is_running(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True
