"""Tables of the results pages, and where a number was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def where(record: dict[str, Any]) -> str:
    """Device, torch and commit of a record, as far as it says them."""
    commit = record.get("commit")
    facts = [record.get("device"), record.get("torch") and f"torch {record['torch']}"]
    facts += [f"commit {commit[:7]}{'+' * commit.endswith('+')}" if commit else None]
    return ", ".join(fact for fact in facts if fact) or "where is not recorded"


def marked(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of measured rows, whose last cells say where; what all of them say is its title."""
    places = {row[-1] for row in rows}
    title = f"Measured: {places.pop()}" if len(places) == 1 else ""
    return list_table(header, [[*row[:-1], "measured" if title else f"measured: {row[-1]}"] for row in rows], title)


def list_table(header: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> str:
    """A ``list-table``."""
    lines = [f".. list-table:: {title}".rstrip(), "   :header-rows: 1", "   :widths: auto", ""]
    for row in (header, *rows):
        lines += [f"   {'* ' if n == 0 else '  '}- {cell}" for n, cell in enumerate(row)]
    return "\n".join(lines) + "\n"
