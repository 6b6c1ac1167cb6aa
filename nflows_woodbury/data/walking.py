"""What a folder holds: the files that are images, and those that are passed over, each with the reason."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nflows_woodbury.optional import import_extra

__all__ = [
    "AFTER_HEADER",
    "BROKEN",
    "DRAWN",
    "Found",
    "find_images",
    "is_run",
    "list_files",
    "readable_suffixes",
    "shown",
]

#: formats that Pillow registers and that are no pictures, or that it reads by running another program
_NO_PICTURES = {"BUFR", "EPS", "FITS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
_FLOATS = {".pfm"}
_UNREAD = (
    ".heic", ".heif", ".hif", ".avif", ".webp", ".jxl", ".jp2", ".svg", ".eps", ".fits", ".exr", ".hdr", ".pfm", ".raw",
    ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".srw", ".pef", ".xcf", ".kra", ".wmf", ".emf",
)  # fmt: skip
_SYSTEM_FILES = {
    "thumbs.db",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "desktop.ini",
    "icon\r",
    "zbthumbnail.info",
    "picasa.ini",
}
_SYSTEM_FOLDERS = {
    "__macosx",
    "$recycle.bin",
    "#recycle",
    "@recycle",
    "system volume information",
    "lost+found",
    "__pycache__",
}
_THUMBNAILS = {"thumbnails", "thumbnail", "thumbs", "_thumbnails", "_thumbs", "@eadir", "@__thumb"}

_SOFTWARE = b"tEXtSoftware\0nflows-woodbury"
#: what a PNG holds after its header if a command of this package drew it: a chunk that names its software
DRAWN = struct.pack(">I", len(_SOFTWARE) - 4) + _SOFTWARE + struct.pack(">I", zlib.crc32(_SOFTWARE))
AFTER_HEADER = 33  # bytes of signature and header

HIDDEN, RUN, THUMBNAIL, SYSTEM = "hidden", "of a run", "in folders of thumbnails", "of the system"
UNREAD, OTHER, NO_FILE = "of formats that Pillow does not read here", "without an image", "that lead nowhere"
BROKEN = "that cannot be read"


@dataclass(frozen=True)
class Found:
    """The files in and below a folder.

    Attributes:
        root: the folder.
        names: the images, as names with slashes relative to it, sorted folder by folder.
        skipped: the others, by the reason why they are passed over.

    >>> found = Found(Path("."), ["1.jpg"], {"hidden": [".DS_Store", "._1.jpg"], "without an image": ["notes.txt"]})
    >>> found.passed_over()
    'skipped 3 files: 2 hidden (.DS_Store, ...), 1 without an image (notes.txt)'
    """

    root: Path
    names: list[str] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=dict)

    def passed_over(self) -> str | None:
        """One line that says how many files are passed over, and why; None without any."""
        if not self.skipped:
            return None
        count = sum(map(len, self.skipped.values()))
        reasons = ", ".join(
            f"{len(names):,} {why} ({shown(names[0])}{', ...' * (len(names) > 1)})"
            for why, names in self.skipped.items()
        )
        return f"skipped {count:,} file{'s' * (count > 1)}: {reasons}"


def find_images(root: Path) -> Found:
    """Return what is in and below ``root``: all that Pillow reads, but nothing hidden, of the system or of a run.

    Names that begin with a dot are hidden, and what is in such folders. Links to folders are followed, but no folder
    is read twice. ValueError for the folder of a run itself, OSError for a folder that cannot be read.
    """
    if is_run(root):
        raise ValueError(f"{root} is the folder of a run, whose pictures are no data; give the folder of the images")
    found, suffixes = Found(root), readable_suffixes()
    for place, inner, files in _walk(root):
        for name in [*inner]:
            if why := _why_not_folder(Path(root, *place, name)):
                inner.remove(name)
                found.skipped.setdefault(why, []).extend(
                    "/".join((*place, name, *below)) for below in _below(Path(root, *place, name))
                )
        for name in sorted(files):
            why = _why_not(name, os.path.join(root, *place, name), suffixes)
            (found.names if why is None else found.skipped.setdefault(why, [])).append("/".join((*place, name)))
    found.names.sort(key=lambda name: name.split("/"))
    return Found(root, found.names, {why: names for why, names in found.skipped.items() if names})


def list_files(root: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Return the files with these suffixes in and below ``root``, hidden ones too, as :func:`find_images` does."""
    names = [
        "/".join((*place, file)) for place, _, files in _walk(root) for file in files if file.lower().endswith(suffixes)
    ]
    names = [name for name in names if os.path.isfile(os.path.join(root, name))]
    return sorted(names, key=lambda name: name.split("/"))


def is_run(folder: Path) -> bool:
    """Whether a training run lives in this folder: its checkpoints, or its log with its lock or its result.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     before = is_run(Path(folder))
    ...     Path(folder, "checkpoints").mkdir()
    ...     Path(folder, "checkpoints", "last.ckpt").touch()
    ...     before, is_run(Path(folder))
    (False, True)
    """
    marks = ((folder / name).exists() for name in (".lock", "result.json"))
    return any(folder.glob("checkpoints/*.ckpt")) or ((folder / "log").is_dir() and any(marks))


def shown(name: object) -> str:
    """A name as text that any terminal or file takes, whatever bytes the name has on disk."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def _walk(root: Path) -> Iterator[tuple[tuple[str, ...], list[str], list[str]]]:
    """Yield each folder's place below ``root``, its folders, which may be removed, and its files."""

    def unreadable(error: OSError) -> None:
        raise error

    seen = set()
    for folder, inner, files in os.walk(root, onerror=unreadable, followlinks=True):
        inner.sort()
        if (real := os.path.realpath(folder)) in seen:  # a link to where it is, or to where it has been
            inner.clear()
            continue
        seen.add(real)
        yield Path(folder).relative_to(root).parts, inner, files


def _below(folder: Path) -> Iterator[tuple[str, ...]]:
    for place, _, files in os.walk(folder):
        yield from ((*Path(place).relative_to(folder).parts, file) for file in files)


def readable_suffixes() -> set[str]:
    """The suffixes of pictures that the Pillow that is installed reads, such as ``.png``."""
    pil = import_extra("PIL.Image")
    return {
        suffix for suffix, kind in pil.registered_extensions().items() if kind in pil.OPEN and kind not in _NO_PICTURES
    } - _FLOATS  # fmt: skip


_FOLDERS: tuple[tuple[str, Callable[[Path], bool]], ...] = (
    (RUN, is_run),
    (SYSTEM, lambda folder: folder.name.lower() in _SYSTEM_FOLDERS),
    (THUMBNAIL, lambda folder: folder.name.lower() in _THUMBNAILS),
    (HIDDEN, lambda folder: folder.name.startswith(".")),
)


def _why_not_folder(folder: Path) -> str | None:
    return next((why for why, holds in _FOLDERS if holds(folder)), None)


def _why_not(name: str, path: str, suffixes: set[str]) -> str | None:
    lower = name.lower()
    suffix = os.path.splitext(lower)[1]
    if suffix == ".png" and os.path.isfile(path) and _is_drawn(path):
        return RUN
    reasons = {
        HIDDEN: name.startswith("."),
        SYSTEM: lower in _SYSTEM_FILES,
        UNREAD: suffix in _UNREAD and suffix not in suffixes,
        OTHER: suffix not in suffixes,
        NO_FILE: not os.path.isfile(path),
    }
    return next((why for why, holds in reasons.items() if holds), None)


def _is_drawn(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(AFTER_HEADER + len(DRAWN))[AFTER_HEADER:] == DRAWN
