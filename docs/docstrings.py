"""Docstring paragraphs of this package as fields: ``Shapes`` and ``Reference`` look like ``Parameters`` and ``Raises``."""

from __future__ import annotations

import re
from typing import Any

FIELD = re.compile(r"^(Shapes|Reference):(?= |$)")
SECTION = re.compile(r"^(Args|Returns|Raises):$")


def fields(app: Any, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Rewrite ``lines`` in place, before napoleon sees them."""
    lines[:] = _examples_last(_as_fields(lines))


def _as_fields(lines: list[str]) -> list[str]:
    result: list[str] = []
    inline = False  # inside a paragraph that began as "Reference: ...", whose next lines are not indented
    for line in lines:
        head = FIELD.match(line)
        if head:
            inline = line != head.group(0)
            line = f":{head.group(1)}:{line[head.end() :]}"
            if result and result[-1]:
                result.append("")
        elif not line:
            inline = False
        elif inline:
            line = "    " + line
        result.append(line)
    return result


def _examples_last(lines: list[str]) -> list[str]:
    """Give the doctest that ends a docstring a heading."""
    start = next((i for i, line in enumerate(lines) if line.startswith(">>> ")), None)
    if start is None:
        return lines
    return [*lines[:start], "", ".. rubric:: Example", "", *lines[start:]]
