"""What Sphinx leaves rough: formulas and their punctuation, ends of listings, links from source pages."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def finish(app: Sphinx, doctree: nodes.document) -> None:
    """Handler of ``doctree-read``."""
    for formula in list(doctree.findall(nodes.math)):
        _keep_together(formula)
    for listing in doctree.findall(nodes.literal_block):
        _trim(listing)


def link_back(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Handler of ``html-page-context``: links from a module's source to the names that it alone exports.

    viewcode writes all links of a source page with the module of its first entry, which is the package where the
    package exports that entry; names that the package does not export stand below their own module's.
    """
    if not pagename.startswith("_modules/"):
        return
    module, objects = pagename.removeprefix("_modules/").replace("/", "."), app.env.domains["py"].objects

    def mended(link: re.Match[str]) -> str:
        own = f"{module}.{link[1]}"
        return f'#{own}"' if own in objects and f"nflows_woodbury.{link[1]}" not in objects else link[0]

    context["body"] = re.sub(r'#nflows_woodbury\.([\w.]+)"', mended, context["body"])


def _keep_together(formula: nodes.math) -> None:
    """Put a formula and what touches it, such as a comma, into one element, which custom.css does not break."""
    parent = formula.parent
    at = parent.index(formula)
    before, after = parent[:at][-1:], parent[at + 1 : at + 2]
    head = re.search(r"\S*\Z", before[0])[0] if before and isinstance(before[0], nodes.Text) else ""
    tail = re.match(r"\S*", after[0])[0] if after and isinstance(after[0], nodes.Text) else ""
    if not head and not tail:
        return
    whole = nodes.inline("", "", classes=["together"])
    outer = [nodes.Text(before[0][: len(before[0]) - len(head)])] if head else before
    rest = [nodes.Text(after[0][len(tail) :])] if tail else after
    parent[at - len(before) : at + 1 + len(after)] = [*outer, whole, *rest]
    whole += [*([nodes.Text(head)] if head else []), formula, *([nodes.Text(tail)] if tail else [])]


def _trim(listing: nodes.literal_block) -> None:
    """Leave out the blank lines around what a page quotes from a script."""
    text = listing.astext().strip("\n")
    if listing.rawsource == listing.astext():  # else it has parts of its own
        listing.rawsource = text
        listing[:] = [nodes.Text(text)]
