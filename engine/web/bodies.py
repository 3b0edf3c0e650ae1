"""Bodies of requests: read while they come in, and never more of them than there may be.

Here: bounds of one and of all, in bytes and in time. Not here: what is in them (`reading`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request

from millstream.engine.errors import LimitReached
from millstream.engine.web.limits import WebLimits

__all__ = ["Bodies"]

#: What is not read to its end can't be followed by another request.
_CLOSE = {"Connection": "close"}


class Bodies:
    """The account of all bodies that are there.

    Args:
        limits: the bounds.
    """

    def __init__(self, limits: WebLimits) -> None:
        self._limits = limits
        #: Bytes of all of them.
        self.size_bytes = 0

    @asynccontextmanager
    async def body_of(self, request: Request) -> AsyncIterator[bytes]:
        """Read a body; it counts for as long as the block lasts.

        Raises:
            HTTPException: 413, it is too long; 408, it took too long; 415, it is not said to be JSON, and so may have
                been sent by any page in a browser.
            LimitReached: all bodies together are as large as they may be.
            ClientDisconnect: the caller is gone.
        """
        kinds = {kind.partition(";")[0].strip().lower() for kind in request.headers.getlist("content-type")}
        if kinds != {"application/json"}:
            raise HTTPException(415, "a message is sent as Content-Type: application/json", _CLOSE)
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > self._limits.body_bytes_max:
            raise self._too_long()
        held = 0
        try:
            parts: list[bytes] = []
            with anyio.move_on_after(self._limits.body_seconds_max) as scope:
                async for part in request.stream():
                    held += len(part)
                    self.size_bytes += len(part)
                    if held > self._limits.body_bytes_max:
                        raise self._too_long()
                    if self.size_bytes > self._limits.bodies_bytes_max:
                        raise LimitReached("bodies_bytes_max", self._limits.bodies_bytes_max)
                    parts.append(part)
            if scope.cancelled_caught:
                raise HTTPException(408, f"the body took longer than {self._limits.body_seconds_max:g} s", _CLOSE)
            yield b"".join(parts)
        finally:
            self.size_bytes -= held

    def _too_long(self) -> HTTPException:
        return HTTPException(413, f"a body has at most body_bytes_max={self._limits.body_bytes_max:,} bytes", _CLOSE)
