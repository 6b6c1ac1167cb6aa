"""Sphinx settings.

Build without network, from the repository's root:

    sphinx-build -W -n -b html docs docs/_build/html
    sphinx-build -W -n -b doctest docs docs/_build/doctest
"""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import files, version
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util.nodes import make_refnode

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import docstrings  # noqa: E402
import executed  # noqa: E402
import figures  # noqa: E402
import links  # noqa: E402
import reference  # noqa: E402
import results  # noqa: E402
import stories  # noqa: E402
import training  # noqa: E402
import typesetting  # noqa: E402

project = "nflows-woodbury"
author = "The nflows-woodbury developers"
copyright = f"{author}, MIT licence"
release = version = version("nflows-woodbury")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "myst_parser",  # for CHANGELOG.md only, pages are reStructuredText
]
source_suffix = {".rst": "restructuredtext"}
exclude_patterns = ["_build", "weights"]  # cards of weights are files to download
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(nflows|normflows|pytorch_lightning|pl|npt|numpy)(\..*)?"),  # no inventory is kept for these
    (r"py:.*", r"nflows_woodbury\..*\._\w+"),  # private names in annotations
    (r"py:class", r"nflows_woodbury\.data\.(splits|fingerprints|walking)\.\w+"),  # of readers, which have no pages
    # of nflows and matplotlib, in annotations of files that must not import them, and what stands beside a Figure
    (r"py:class", r"Transform|Figure|Path"),
    (r"py:class", r"Tensor|torch\.utils\._python_dispatch\.TorchDispatchMode"),  # of named tuples; not on torch's pages
]

# The reference: docs/reference.py writes docs/api from each module's __all__, autosummary only fills its tables.
autosummary_generate = False
autodoc_typehints_format = "short"
autodoc_type_aliases = {name: name for name in reference.ALIASES} | {"npt.NDArray": "numpy.ndarray"}
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
maximum_signature_line_length = 90
napoleon_numpy_docstring = False
toc_object_entries_show_parents = "hide"

# Doctests of docstrings run under pytest, with each module's own names; here those of the pages run.
doctest_test_doctest_blocks = ""
doctest_global_setup = "import torch; _ = torch.manual_seed(0)"

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "nflows-woodbury"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sphinx = False
html_domain_indices = False  # the reference's own index lists the modules
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# MathJax 3 comes from the wheel sphinx-mathjax-offline and is served with the pages: readers need no third host, and
# the same formulas show on a laptop without network. Of its 24 MB only the script and its fonts are copied. Without
# JavaScript formulas stay as TeX source between \( and \).
MATHJAX = ("static/mathjax/tex-chtml.js", "static/mathjax/output/chtml/fonts/woff-v2/")
mathjax_path = "mathjax/tex-chtml.js"

# Links to Python and torch come from inventories that links.py writes, so a build asks no other host.
intersphinx_mapping = links.write_inventories(HERE / "_build" / "inventories")


def setup(app: Sphinx) -> None:
    """Write what the pages are made of, and connect what changes and checks them."""
    if missing := reference.without_example():
        raise ExtensionError(f"public names without an example in their docstring: {', '.join(missing)}")
    reference.write_pages(HERE / "api")
    app.connect("builder-inited", _make_results)
    app.connect("autodoc-process-docstring", docstrings.fields, priority=100)  # before napoleon
    app.connect("autodoc-process-signature", docstrings.aliases)
    app.connect("doctree-read", typesetting.finish)
    app.connect("html-page-context", typesetting.link_back)
    app.connect("missing-reference", _by_short_name)
    app.connect("env-check-consistency", _has_every_name)
    app.connect("build-finished", _copy_mathjax)


def _make_results(app: Sphinx) -> None:
    """Figures, results and tutorials: fresh ones for the site, any for other builders, which do not show them."""
    renew = app.builder.format == "html"
    figures.draw(HERE / "_build" / "figures", renew)
    results.write(HERE / "records", HERE / "_build" / "results")
    stories.write(HERE / "records" / "stories", HERE / "_build" / "results" / "stories")
    training.write(HERE / "records" / "training", HERE / "_build" / "results" / "training")
    executed.run(HERE / "tutorials", HERE / "_build" / "tutorials", renew)


def _by_short_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element) -> Any:
    """Link a name of ours that is given without its module, or by its home where the package documents it."""
    target = node["reftarget"]
    name = target.rsplit(".", 1)[-1]
    if node.get("refdomain") != "py" or not (target == name or target.startswith("nflows_woodbury.")):
        return None
    objects = env.domains["py"].objects
    named = [entry for key, entry in objects.items() if key.rsplit(".", 1)[-1] == name]
    named = [entry for entry in named if entry.objtype not in ("method", "attribute")] or named
    if len({entry.node_id for entry in named}) != 1:
        return None
    entry = named[0]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, name)


def _has_every_name(app: Sphinx, env: BuildEnvironment) -> None:
    """The last of the checks of the reference: what is public has an entry on one of the pages."""
    if missing := sorted(reference.public_names() - env.domains["py"].objects.keys()):
        raise ExtensionError(f"public names that are not in the reference: {', '.join(missing)}")


def _copy_mathjax(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        for file in files("sphinx-mathjax-offline") or ():
            _, _, inner = file.as_posix().partition("/")
            if inner.startswith(MATHJAX):
                target = Path(app.outdir, "_static", inner.removeprefix("static/"))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.locate(), target)
