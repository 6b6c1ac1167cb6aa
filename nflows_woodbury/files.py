"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any

__all__ = ["whole_file", "write_json"]


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A new, hidden file beside ``path`` to write to, which takes its place when the block ends well.

    Until then whatever stood at ``path`` stays. An error in the block (a full disk, say) removes the new file; a killed
    process leaves it behind, and the next one to write ``path`` removes it. Missing folders are made.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with whole_file(f"{folder}/note.txt") as new:
    ...         _ = new.write_text("all of it")
    ...     (Path(folder) / "note.txt").read_text()
    'all of it'
    """
    path = Path(path)
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
    """Write plain values as indented JSON, whole or not at all."""
    with whole_file(path) as new:
        new.write_text(json.dumps(values, indent=2) + "\n")


def _is_running(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True
