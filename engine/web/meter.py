"""What counts requests and says metrics: a port, so that HTTP needs no package of metrics.

Here: the protocol, and noting the status that a request got. Not here: `telemetry.Metrics`, which is one.
"""

from __future__ import annotations

from typing import Protocol

from starlette.types import Message, Send

from millstream.engine.loop.clock import elapsed

__all__ = ["Meter", "Noted"]


class Meter(Protocol):
    """What is called for each request, and asked for metrics."""

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request to one of the addresses was answered, or its stream has ended."""
        ...

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics as text, and its content type, for a request with this ``Accept``."""
        ...


class Noted:
    """Sends what an application sends, and notes the status and the time for a meter."""

    def __init__(self, meter: Meter, method: str, route: str, send: Send) -> None:
        self._meter, self._method, self._route, self._send = meter, method, route, send
        self._began = elapsed()
        #: None until an answer has begun.
        self._status: int | None = None

    async def __call__(self, message: Message) -> None:
        """As ASGI has it."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
        await self._send(message)

    def ended(self) -> None:
        """The request is over. One whose caller went away before an answer is none."""
        if self._status is not None:
            self._meter.answered(self._method, self._route, self._status, elapsed() - self._began)
