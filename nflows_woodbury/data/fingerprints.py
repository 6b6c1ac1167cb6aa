"""What a run's data were, in 16 bytes an image, so that a change of them is noticed and counted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["Fingerprint", "describe_change", "of_files", "of_rows"]

_END = 2**15  # bytes at a file's start and end that are looked at


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """A digest of each item's name and one of its content.

    Args:
        unit: what the items are, ``"files"`` or ``"images"``.
        items: int64 (N, 2), the digests of names and contents, in any order.

    >>> import numpy as np
    >>> print(Fingerprint.from_dict(Fingerprint("files", np.zeros((1, 2), np.int64)).to_dict()).unit)
    files
    """

    unit: str
    items: npt.NDArray[np.int64]

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain value and a tensor, for a checkpoint."""
        return {"unit": self.unit, "items": torch.from_numpy(self.items)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Fingerprint:
        """The fingerprint that :meth:`to_dict` gave."""
        return cls(values["unit"], values["items"].numpy())


def describe_change(old: Fingerprint, new: Fingerprint) -> str | None:
    """How many items are new, gone or other than they were, as in ``3 files added, 1 removed``; None for no change.

    >>> import numpy as np
    >>> was, now = np.array([[1, 5], [2, 6]]), np.array([[2, 7], [3, 8], [4, 9]])
    >>> describe_change(Fingerprint("files", was), Fingerprint("files", now))
    '2 files added, 1 removed, 1 changed'
    >>> describe_change(Fingerprint("files", was), Fingerprint("files", was[::-1])) is None
    True
    """
    before, after = (dict(x.items.tolist()) for x in (old, new))
    counts = {
        "added": len(after.keys() - before.keys()),
        "removed": len(before.keys() - after.keys()),
        "changed": sum(after[name] != content for name, content in before.items() if name in after),
    }
    parts = [f"{count:,} {kind}" for kind, count in counts.items() if count]
    if not parts:
        return None
    count, kind = parts[0].split(" ")
    unit = new.unit if count != "1" else new.unit.removesuffix("s")
    return ", ".join([f"{count} {unit} {kind}", *parts[1:]])


def of_files(root: Path, names: Iterable[str]) -> Fingerprint:
    """The fingerprint of files: names as they are relative to ``root``; contents by size and by their two ends.

    The whole of a file of up to 64 kB counts; of a larger one its size, first and last 32 kB, so that large sets need
    not be read. Times of change do not count.
    """
    return _fingerprint("files", ((name.encode("utf-8", "surrogateescape"), _ends(root / name)) for name in names))


def of_rows(parts: Mapping[str, torch.Tensor]) -> Fingerprint:
    """The fingerprint of uint8 arrays (N, ...): names are the part and the row's number, contents its values."""
    rows = (
        (f"{part}/{i}".encode(), row.numpy().tobytes())
        for part, images in parts.items()
        for i, row in enumerate(images)
    )
    return _fingerprint("images", rows)


def _fingerprint(unit: str, items: Iterable[tuple[bytes, bytes]]) -> Fingerprint:
    digests = [blake2b(value, digest_size=8).digest() for item in items for value in item]
    return Fingerprint(unit, np.frombuffer(b"".join(digests), "<i8").reshape(-1, 2).astype(np.int64))


def _ends(path: Path) -> bytes:
    with path.open("rb") as file:
        size = os.stat(file.fileno()).st_size
        start = file.read(_END)
        file.seek(max(_END, size - _END))
        return b"%d " % size + start + file.read()
