"""What was read from one connection and not taken up yet.

Here: from bytes to lines, or to requests where some lines can be read at once; and who is no caller of ours. Not here:
when it is taken up, and whether more is read (`connection`).

Invariant: whatever the pieces in which bytes arrive, the same requests are taken up in the same order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from millstream.engine.errors import ProtocolViolated
from millstream.engine.server.limits import ServerLimits
from millstream.engine.server.output import Batch
from millstream.engine.wire import FrameTooLarge, Lines, stranger_in
from millstream.engine.wire.errors import INVALID_REQUEST, PARSE_ERROR

__all__ = ["LARGE_BYTES", "Intake", "Reader", "Refusal"]

#: Smaller requests are bounded by their number; and so much is read at once.
LARGE_BYTES = 16 * 1024


class Reader(Protocol):
    """What makes requests of lines: `Requests`, or what a front process has for it."""

    def read(self, line: bytes) -> Any:
        """A request, a `Malformed` or `Unread`, a list of them for a batch, or None for an empty line."""
        ...

    def read_lines(self, data: bytes) -> list[Any] | None:
        """The requests of some lines; None where one of them has to be looked at by itself."""
        ...


class Refusal(NamedTuple):
    """Why nothing more is read from a connection: for the log, and for the other side."""

    reason: str
    error: ProtocolViolated


class Intake:
    """What waits on one connection.

    Args:
        limits: the server's.
    """

    def __init__(self, limits: ServerLimits) -> None:
        #: Lines, and requests that were read, with the batch that they are in.
        self.backlog: deque[bytes | tuple[Any, Batch | None]] = deque()
        #: What reads them, by the connection's role.
        self.requests: Reader
        self._lines = Lines(limits.frame_bytes_max)
        self._requests_max = limits.turn_requests_max
        self._is_stranger = True  # nothing but blank lines came so far

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished line are kept."""
        return self._lines.pending

    def become(self, requests: Reader, frame_bytes_max: int) -> None:
        """From now on lines are read by this reader, and may be so long."""
        self.requests = requests
        self._lines.allow(frame_bytes_max)

    def feed(self, data: bytes, is_next: bool) -> Refusal | None:
        """Take in what one receive brought.

        Args:
            data: what came.
            is_next: whether it is taken up now, so that it may be read now.

        Returns:
            Why nothing more is to be read, if that is so. What came before it is there.
        """
        if is_next and not self.backlog and not self._is_stranger and self._read_together(data):
            return None
        try:
            lines: Sequence[bytes] = self._lines.feed(data)
        except FrameTooLarge as error:
            refusal = self._stranger_in(error.lines)
            if refusal is None:
                self.backlog.extend(error.lines)
                refusal = Refusal("frame_bytes_max", ProtocolViolated(INVALID_REQUEST, str(error)))
            return refusal
        if lines:
            if self._is_stranger and (refusal := self._stranger_in(lines)) is not None:
                return refusal
            self.backlog.extend(lines)
        return None

    def _read_together(self, data: bytes) -> bool:
        """Read what one receive brought at once, if it is whole lines, of a few good requests. Returns False if not."""
        if len(data) > LARGE_BYTES or not self._lines.are_whole(data):
            return False
        found = self.requests.read_lines(data)
        if found is None or len(found) > self._requests_max:
            return False
        backlog = self.backlog
        for each in found:
            if each.__class__ is list:
                batch = Batch(len(each))
                backlog.extend([(request, batch) for request in each])
            else:
                backlog.append((each, None))
        return True

    def _stranger_in(self, lines: Sequence[bytes]) -> Refusal | None:
        """A peer that begins another protocol gets the reason and is closed; none that has begun this one."""
        if not self._is_stranger:
            return None
        self._is_stranger = not any(map(bytes.strip, lines))
        problem = stranger_in(lines)
        return None if problem is None else Refusal("no_json", ProtocolViolated(PARSE_ERROR, problem))
