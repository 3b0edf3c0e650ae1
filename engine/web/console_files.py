"""The console: a page for operators, as three files of a folder beside this module, which load nothing from elsewhere.

Here: how they are served. What the page shows comes from the addresses that programs use, too (`operating`), and is put
into it as text, never as HTML; the policy lets no other script run.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from starlette.responses import Response

__all__ = ["FILES", "console_response"]

#: By address: the file.
FILES: Mapping[str, str] = {
    "/console": "console.html",
    "/console/console.css": "console.css",
    "/console/console.js": "console.js",
}
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def console_response(name: str) -> Response:
    """One of the files."""
    return Response(_read(name), 200, _HEADERS, f"{_TYPES[Path(name).suffix]}; charset=utf-8")


@lru_cache(maxsize=len(FILES))
def _read(name: str) -> bytes:
    return (Path(__file__).parent / "console" / name).read_bytes()
