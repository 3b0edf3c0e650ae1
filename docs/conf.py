"""How `make docs` makes the site: every page of the checkout, and a reference made from the docstrings.

Here: what is a page and in which order, how docstrings are read, and what is checked of the site when it is there. Not
here: any text of a page. Sources are all Markdown files of the checkout, where they lie: a link that works on a code
host works in the site, and one that leads nowhere fails the build, as every warning does (``-W``).
"""

from __future__ import annotations

import re
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

ROOT = Path(__file__).parent.parent

project = "millstream"
author = "the authors of millstream"
release = version = version_of("millstream")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "docs/**/*.md"]
exclude_patterns = [".venv", ".tools", ".git", "out", "build", "dist", "*.egg-info", "tests", "engine", "bench", ".*"]
# `type` in a signature is Python's own, and not one of the fields of that name that messages have.
suppress_warnings = ["ref.python"]
default_role = "code"

myst_heading_anchors = 4
myst_enable_extensions = ["fieldlist"]

autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "undoc-members": False, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
#: A docstring may say when something is raised, as ``Raises (on entering):``.
RAISES_WHEN = re.compile(r"^( *Raises) \(([^)]+)\):$", re.MULTILINE)
napoleon_custom_sections = sorted(
    (f"Raises {when.replace(',', '')}", "params_style")
    for when in {
        when
        for folder in ("engine", "handlers", "views")
        for path in (ROOT / folder).rglob("*.py")
        for _, when in RAISES_WHEN.findall(path.read_text("utf-8"))
    }
)
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"millstream {release}"
html_copy_source = False
html_show_sourcelink = False
html_last_updated_fmt = None
# The reference is long, and each of its pages is loaded by itself.
toc_object_entries_show_parents = "hide"

#: The pages by kind, in the order of the sidebar. A page that is missing here fails the build.
KINDS = {
    "Tutorial": ["docs/tutorial/first-page", "docs/tutorial/ticket-shop", "docs/tutorial/one-page"],
    "How to": [
        "docs/how-to/deciding",
        "docs/how-to/context",
        "docs/how-to/timers",
        "docs/how-to/outside",
        "docs/how-to/answering",
        "docs/how-to/tables",
        "docs/how-to/sql-views",
        "docs/how-to/sql-reading",
        "docs/how-to/testing",
        "docs/how-to/running",
        "docs/how-to/serving",
        "docs/how-to/http",
        "docs/how-to/fastapi",
        "docs/how-to/middleware",
        "docs/how-to/console",
        "docs/how-to/telemetry",
        "docs/how-to/postgres",
        "docs/how-to/standby",
        "docs/how-to/several-logs",
        "docs/how-to/deploying",
        "docs/how-to/changing",
        "docs/how-to/upkeep",
        "docs/how-to/measuring",
    ],
    "Reference": [
        "docs/reference/errors",
        "docs/reference/limits",
        "docs/reference/messages",
        "docs/reference/log-lines",
        "docs/reference/command-line",
        "docs/reference/protocol",
        "docs/reference/http",
        "docs/reference/metrics",
        "docs/reference/log",
        "docs/reference/python/index",
    ],
    "Explanation": [
        "docs/explanation/when-to-use-it",
        "docs/explanation/what-belongs-where",
        "docs/explanation/guarantees",
        "docs/explanation/proofs",
        "ARCHITECTURE",
    ],
    "Measured": ["docs/benchmarks", "docs/figures/*"],
    "Project": ["CONTRIBUTING", "CHANGELOG"],
}

#: What a browser would load by itself from somewhere else; a link that is followed by hand is none of these.
ELSEWHERE = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["'](?:https?:)?//|<link\b[^>]*\brel=["'](?:stylesheet|preconnect|preload|icon)["'][^>]*\bhref=["'](?:https?:)?//|(?:@import|url\()\s*["']?(?:https?:)?//"""
)


def add_contents(_: Sphinx, page: str, source: list[str]) -> None:
    """Append the sidebar's lists to the first page: on a code host their notation would only be noise."""
    if page == root_doc:
        for kind, pages in KINDS.items():
            listed = "\n".join(pages)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:glob:\n:caption: {kind}\n\n{listed}\n```\n"


def prepare(_: Sphinx, what: str, name: str, it: Any, options: Any, lines: list[str]) -> None:
    """Mark what is indented in a docstring as code, or it would be a quotation; and titles of sections as such."""
    marked: list[str] = []
    in_code = False
    for line in lines:
        begins = line.startswith("    ") and marked and not marked[-1].strip() and not in_code
        if begins and len(marked) > 1 and marked[-2].strip() and not marked[-2].startswith(" "):
            marked += ["::", ""]
            in_code = True
        elif line.strip() and not line.startswith(" "):
            in_code = False
        if found := RAISES_WHEN.match(line):
            line = f"{found[1]} {found[2].replace(',', '')}:"
        marked.append(line)
    lines[:] = marked


def finish(app: Sphinx, error: Exception | None) -> None:
    """Lead from ``index.html`` to the first page, and see that nothing is loaded from elsewhere."""
    if error is not None or app.builder.name != "html":
        return
    out = Path(app.outdir)
    (out / "index.html").write_text(
        f'<!doctype html><meta charset="utf-8"><title>{project}</title>'
        f'<meta http-equiv="refresh" content="0; url={root_doc}.html"><a href="{root_doc}.html">{project}</a>\n',
        "utf-8",
    )
    if not (out / "searchindex.js").is_file():
        raise ExtensionError("the site has no index to search in")
    for file in sorted([*out.rglob("*.html"), *out.rglob("*.css")]):
        if found := ELSEWHERE.search(file.read_text("utf-8")):
            raise ExtensionError(f"{file.relative_to(out)} loads something from elsewhere: {found[0]!r}")


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-docstring", prepare, priority=400)  # before what reads `Args:` and the like
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
