"""What a request has to pass before the application sees it: the size of its head, and the name that it is asked under.

h11 bounds a head while it comes in pieces, and not one that comes at once; so it is measured here.

Where no tokens are wanted the name counts: a page of a stranger may have a name that leads to
this machine (DNS rebinding), and is then, to a browser, of the same origin as what is served here. What it can't do is
to ask under another name than its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millstream.engine.web.problems import problem_response

__all__ = ["Door"]


class Door:
    """Passes on what may come in.

    Args:
        app: what is passed on to.
        head_bytes_max: of a request's address and headers.
        names: under which it may be asked for, with whatever port; an IPv6 address is in brackets. None: any.
    """

    def __init__(self, app: ASGIApp, head_bytes_max: int, names: Iterable[str] | None) -> None:
        self._app = app
        self._head_bytes_max = head_bytes_max
        self._names = None if names is None else frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI 3 has it."""
        refused = self._too_long(scope) or self._misdirected(scope)
        if refused is None:
            is_chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
            await self._app(scope, receive, _closing(send) if is_chunked else send)
        else:
            await problem_response(refused)(scope, receive, send)

    def _too_long(self, scope: Scope) -> HTTPException | None:
        size = len(scope["raw_path"]) + len(scope["query_string"])
        size += sum(len(name) + len(value) for name, value in scope["headers"])
        if size <= self._head_bytes_max:
            return None
        problem = f"a request's address and headers have at most head_bytes_max={self._head_bytes_max:,} bytes"
        return HTTPException(431, problem, {"Connection": "close"})

    def _misdirected(self, scope: Scope) -> HTTPException | None:
        if self._names is None:
            return None
        host = Request(scope).headers.get("host", "").lower()
        name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
        if name in self._names:
            return None
        return HTTPException(421, f"it is not served under the name {name!r:.80}: give WebServer(hosts=…) its names")


def _closing(send: Send) -> Send:
    """What a request with a chunked body is answered by: the connection ends with it. It may have said a length, too,
    which h11 leaves out, and which what stands in front of this server may have believed (RFC 9112, 6.1).
    """

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        await send(message)

    return sending
