"""A connection in a front process: a `Connection` whose good requests are passed on to the writer's process.

Here: what is passed on, what comes back, and what the writer's process gets of the connection. Not here: the stream
(`uplink`). Whatever bounds one connection by what it has read and not sent is enforced here, by `Connection` itself;
what it shares with others, and what waits for the engine, is bounded in the writer's process (`guest`).
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw

from millstream.engine.errors import LimitReached
from millstream.engine.server.connection import Connection, Host
from millstream.engine.server.connection_life import ConnectionStatus
from millstream.engine.server.fronts.notes import Became, Ending, GivenUp, Took
from millstream.engine.server.fronts.reader import Passing
from millstream.engine.server.fronts.uplink import NUMBER_BITS, PREFIX, Uplink
from millstream.engine.server.intake import LARGE_BYTES
from millstream.engine.server.output import Batch
from millstream.engine.server.queries import NUMBER_BYTES

__all__ = ["FrontConnection"]

_SEQUENCE = (1 << NUMBER_BITS) - 1
#: Replies to these are always taken into a batch: what they ask for is decided.
_COMMANDS = frozenset(("execute", "execute_many", "settle"))
_QUESTIONS = frozenset(("ask", "ask_all"))
_STREAMS = frozenset(("watch", "follow"))
_RESULT = b',"result"'

_encode = msgspec.json.Encoder().encode


class FrontConnection(Connection):
    """One connection.

    Args:
        server: the front.
        uplink: the stream to the writer's process.
        number: by which it is known there.
        is_room: whether it may stay.
        is_tls: as for `Connection`.
    """

    def __init__(self, server: Host, uplink: Uplink, number: int, *, is_room: bool, is_tls: bool) -> None:
        self.number = number
        self.is_room = is_room
        self._uplink = uplink
        self._first = number << NUMBER_BITS
        self._sequence = 0
        #: What was passed on, by its number.
        self._passed: dict[int, tuple[Passing, Batch | None]] = {}
        #: Requests to watch or follow that were passed on and are not over.
        self._streams_open = 0
        #: Bytes that the writer's process counts until it learns that they were taken.
        self._owed_bytes = 0
        #: Why nothing is taken up from it.
        self._holds: set[str] = set()
        self._told_role = server.first_role
        super().__init__(server, is_tls=is_tls)

    @property
    def is_done(self) -> bool:
        """Whether all that was read is answered, and no stream is open."""
        return super().is_done and not self._streams_open

    def become(self, role: str | None) -> None:
        """Do what this role may do, from the next request on; the writer's process learns it, too."""
        super().become(role)
        if role is not self._told_role:
            self._told_role = role
            self._uplink.note(Became(self.number, role))

    # What is passed on.

    def pass_on(self, request: Passing, batch: Batch | None) -> None:
        """Send a request to the writer's process, or wait until that takes more, or until fewer are in flight."""
        if self.in_flight and self.in_flight + request.requests > self._limits.in_flight_max:
            self.go_on(request, batch)
            self.hold_for("in flight", True)
            return
        if self._uplink.is_full:
            self.go_on(request, batch)
            self.hold_for("stream", True)
            self._uplink.wait(self)
            return
        method = request.__class__.__name__
        self._sequence = sequence = (self._sequence + 1) & _SEQUENCE
        self._passed[sequence] = (request, batch)
        self.in_flight += request.requests
        if method in _QUESTIONS:
            self.questions += 1
        elif method in _STREAMS:
            self._streams_open += 1
        line = b'{"jsonrpc":"2.0","method":"%b","id":%d,"params":%b}\n' % (
            method.encode(),
            self._first + sequence,
            bytes(request.params),
        )
        self._uplink.send(line, is_large=len(line) > LARGE_BYTES)

    def hold_for(self, why: str, held: bool) -> None:
        """Take nothing up for this reason, or not for this one any more."""
        (self._holds.add if held else self._holds.discard)(why)
        self.is_held = bool(self._holds)
        if not held:
            self.work()

    def settled(self, requests: int = 1) -> None:
        """So many requests less in flight: one with several commands may fit in by now."""
        super().settled(requests)
        if "in flight" in self._holds:
            self.hold_for("in flight", False)

    # What comes back.

    def relay(self, sequence: int, rest: bytes, owed_bytes: int = 0) -> None:
        """A reply: what follows its id."""
        found = self._passed.pop(sequence, None)
        if found is None:
            return
        request, batch = found
        if owed_bytes and batch is not None:
            self._uplink.note(Took(self.number, owed_bytes))  # what is in a batch waits for all of it, and has a bound
        else:
            self._owed_bytes += owed_bytes
        method = request.__class__.__name__
        if method in _QUESTIONS:
            self.questions -= 1
        self._answer(request.id, rest, batch, method)
        self.settled(request.requests)

    def relay_notification(self, line: bytes, owed_bytes: int) -> None:
        """A notification: a line without its end."""
        self._owed_bytes += owed_bytes
        self._output.deliver(None, Raw(line), len(line), None)

    def over(self) -> None:
        """One of its streams is over."""
        self._streams_open -= 1
        self.task_ended()

    def flush(self) -> None:
        """Give the transport what waits to be written, and say what was taken."""
        super().flush()
        self._tell_taken()

    def resume_writing(self) -> None:
        """The other side takes more."""
        super().resume_writing()
        self._tell_taken()

    def give_up(self) -> None:
        """Its questions have waited long enough."""
        self._uplink.note(GivenUp(self.number))

    def _answer(self, to: Any, rest: bytes, batch: Batch | None, method: str) -> None:
        if to is UNSET:
            self._output.deliver(to, None, 0, batch)
            return
        line = PREFIX + (b"%d" % to if type(to) is int else _encode(to)) + rest
        if batch is None:
            self._output.deliver(to, Raw(line), len(line), None)
            return
        size = 0 if method in _COMMANDS else max(NUMBER_BYTES, len(line))
        most = self._limits.output_bytes_max
        if size and batch.size_bytes + size > most and rest.startswith(_RESULT):
            self.fail(to, LimitReached("output_bytes_max", most), batch)
        else:
            self._output.deliver(to, Raw(line), size, batch)

    def _tell_taken(self) -> None:
        if self._owed_bytes and self.has_room and not self.is_gone:
            self._uplink.note(Took(self.number, self._owed_bytes))
            self._owed_bytes = 0

    def _end_streams_soon(self) -> None:
        self._uplink.note(Ending(self.number, self.reason))

    def is_waiting_since(self, seconds: float, now: float) -> bool:
        """Whether it has sent its last, and its questions wait for so long since then."""
        over = self.ended_at is not None and now - self.ended_at > seconds
        return over and self.status is not ConnectionStatus.OPEN and self.questions > 0
