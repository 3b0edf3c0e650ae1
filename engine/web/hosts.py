"""The names under which a server may be asked for, where whoever can reach it may do everything.

A page of somebody's may have a name that leads to this machine (DNS rebinding), and is then, to a browser, of the same
origin as what is served here. What it can't do is to ask under another name than its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from millstream.engine.web.problems import problem_response

__all__ = ["OnlyHosts"]


class OnlyHosts:
    """Passes on what is asked for under one of these names, with whatever port.

    Args:
        app: what is passed on to.
        names: the names; an IPv6 address is in brackets.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI 3 has it."""
        host = Request(scope).headers.get("host", "").lower()
        name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
        if name in self._names:
            await self._app(scope, receive, send)
            return
        refused = HTTPException(421, f"it is not served under the name {name!r:.80}: give WebServer(hosts=…) its names")
        await problem_response(refused)(scope, receive, send)
