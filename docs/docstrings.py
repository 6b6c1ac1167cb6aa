"""Docstring paragraphs as fields: ``Shapes`` and ``Reference`` look like ``Parameters`` and ``Raises``."""

from __future__ import annotations

import re
from inspect import getdoc
from typing import Any

FIELD = re.compile(r"^(Shapes|Reference):(?= |$)")
SECTION = re.compile(r"^(Args|Returns|Raises):$")


def fields(app: Any, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Rewrite ``lines`` in place, before napoleon sees them."""
    if what == "data" and "\n".join(lines).strip() == (getdoc(type(obj)) or "").strip():
        lines.clear()  # it has no comment of its own, only what Python says of every dict
    lines[:] = _examples_last(_as_fields(lines))


def aliases(
    app: Any, what: str, name: str, obj: object, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Show ``Part`` where Sphinx 9 shows the placeholder that it puts for an alias inside a union."""
    clean = [text and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text) for text in (signature, returns)]
    return clean[0], clean[1]


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
