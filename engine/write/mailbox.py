"""The writer's mailbox: bounded, in order, with a place in the queue for those who wait to get in.

Here: taking commands in and waking the one reader. Not here: deciding (`batch`), and who reads (`writer`).

`try_put` is the primitive; the others wrap it. A command has left the queue if and only if its ticket is not above
`taken_out`: it is first in, first out, so one number tells it for all, and no command needs a flag.

Bytes are counted of commands whose size is given, the large ones that come over a socket: a caller in process
holds the command itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from millstream.engine.errors import EngineClosed, MillstreamError, Overloaded
from millstream.engine.write.envelope import Envelope, Promise

__all__ = ["Mailbox"]


class Mailbox:
    """A bounded queue of commands with one reader.

    Args:
        commands_max: how many commands may wait.
        entering_max: how many callers may wait to get in.
        bytes_max: how many bytes the commands whose size is given may have together; one alone may have more.
    """

    def __init__(self, commands_max: int, entering_max: int, bytes_max: int) -> None:
        #: The commands that wait. The reader takes them from the left.
        self.queue: deque[Envelope] = deque()
        self.commands_max = commands_max
        self.entering_max = entering_max
        self.bytes_max = bytes_max
        #: What the commands have that wait, or were promised a place, and whose size was given.
        self.size_bytes = 0
        #: The last ones that had given up when they were taken out: their commands were never decided.
        self.skipped: deque[Promise] = deque(maxlen=commands_max)
        #: How many commands were taken in, ever: the ticket of the last one.
        self.taken_in = 0
        #: It is open, its reader is awake, and no other command is to come in before: code that looks at this and
        #: at the queue's length, appends to it and counts `taken_in` up does what `try_put` does.
        self.is_free = False
        self._reserved = 0
        self._entering: deque[tuple[asyncio.Future[None], int]] = deque()
        self._sizes: deque[tuple[int, int]] = deque()  # by ticket, of those that wait
        self._reader: asyncio.Future[None] | None = None
        self._closed: Callable[[], MillstreamError] | None = lambda: EngineClosed("not open yet")

    @property
    def taken_out(self) -> int:
        """How many commands have left the queue, ever."""
        return self.taken_in - len(self.queue)

    def has_taken(self, ticket: int) -> bool:
        """Whether the reader has taken the command with this ticket. 0 is the ticket of none."""
        return 0 < ticket <= self.taken_out

    @property
    def entering(self) -> int:
        """How many callers wait to get in."""
        return len(self._entering)

    def try_put(self, envelope: Envelope) -> int:
        """Take a command in; returns its ticket, or 0 if the mailbox is full, or others wait to get in or were let
        in and have not come yet. No exception: it would be most of what a full mailbox costs.

        Raises:
            EngineClosed: or what `close` was given; nothing is taken.
        """
        if self._closed is not None:
            raise self._closed()
        queue = self.queue
        if self._entering or self._reserved or len(queue) >= self.commands_max:
            return 0
        queue.append(envelope)
        self.taken_in = ticket = self.taken_in + 1
        if self._reader is not None:
            self.wake()
        return ticket

    def try_put_some(self, envelopes: Sequence[Envelope]) -> range:
        """Take the first of some commands in, as many as there is room for; returns their tickets. None is taken where
        `try_put` would take none, or would raise.
        """
        queue = self.queue
        takes_none = self._closed is not None or self._entering or self._reserved
        taken = 0 if takes_none else min(len(envelopes), max(0, self.commands_max - len(queue)))
        queue.extend(envelopes if taken == len(envelopes) else envelopes[:taken])
        first = self.taken_in + 1
        self.taken_in += taken
        if taken and self._reader is not None:
            self.wake()
        return range(first, first + taken)

    def try_put_sized(self, envelope: Envelope, size_bytes: int) -> int:
        """The same for a command whose size is known, where that is not 0: it finds no room, too, where there is none
        for its bytes.

        Raises:
            EngineClosed: or what `close` was given; nothing is taken.
        """
        if not size_bytes:
            return self.try_put(envelope)
        if not self._has_room_for(size_bytes):
            self.require_open()
            return 0
        ticket = self.try_put(envelope)
        if ticket:
            self.size_bytes += size_bytes
            self._sizes.append((ticket, size_bytes))
        return ticket

    def hand_in(self, envelope: Envelope) -> None:
        """Take in what the engine itself has to be decided, also where no caller gets in: the engine's part has a
        bound of its own, and knows that the reader goes on.
        """
        self.queue.append(envelope)
        self.taken_in += 1
        self.wake()

    def put_nowait(self, envelope: Envelope, size_bytes: int = 0) -> int:
        """Take a command in; returns its ticket.

        Raises:
            Overloaded: there is no room, as `try_put_sized` says.
            EngineClosed: or what `close` was given; nothing is taken.
        """
        ticket = self.try_put_sized(envelope, size_bytes)
        if ticket:
            return ticket
        if self._has_room_for(size_bytes):
            raise Overloaded(len(self.queue), self.commands_max)
        raise Overloaded(len(self.queue), self.commands_max, self.size_bytes, self.bytes_max)

    async def put(self, envelope: Envelope, size_bytes: int = 0) -> int:
        """Take a command in once there is room, in the order of asking; returns its ticket.

        Args:
            envelope: the command.
            size_bytes: of the command, if they count.

        Raises:
            Overloaded: as many callers as may wait to get in.
            EngineClosed: or what `close` was given; nothing is taken, perhaps since the caller began to wait.
        """
        ticket = self.try_put_sized(envelope, size_bytes)
        if ticket:
            return ticket
        if len(self._entering) >= self.entering_max:
            raise Overloaded(len(self.queue), self.commands_max)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._entering.append((turn, size_bytes))
        self._look()
        try:
            await turn
        except asyncio.CancelledError:
            if (turn, size_bytes) in self._entering:
                self._entering.remove((turn, size_bytes))
            elif turn.done() and not turn.cancelled() and turn.exception() is None:
                self._reserved -= 1
                self.size_bytes -= size_bytes
                self.admit()
            raise
        self._reserved -= 1
        self._look()
        self.require_open()  # it may have closed since the place was promised, and is not read any more
        self.queue.append(envelope)
        self.taken_in += 1
        if size_bytes:
            self._sizes.append((self.taken_in, size_bytes))
        self.wake()
        return self.taken_in

    def admit(self) -> None:
        """Let in as many of those who wait as there is room for now. The reader calls it after it took commands."""
        sizes = self._sizes
        while sizes and sizes[0][0] <= self.taken_out:
            self.size_bytes -= sizes.popleft()[1]
        while self._entering and len(self.queue) + self._reserved < self.commands_max:
            turn, size_bytes = self._entering[0]
            if not turn.done() and not self._has_room_for(size_bytes):
                break
            self._entering.popleft()
            if not turn.done():
                self._reserved += 1
                self.size_bytes += size_bytes
                turn.set_result(None)
        self._look()

    @property
    def is_waited_for(self) -> bool:
        """Whether the reader waits for something to be taken in."""
        return self._reader is not None

    async def wait(self) -> None:
        """Wait until something is taken in, or `wake` is called. Only the reader may."""
        self._reader = reader = asyncio.get_running_loop().create_future()
        self.is_free = False
        try:
            await reader
        finally:
            self._reader = None
            self._look()

    def wake(self) -> None:
        """Wake the reader, if it waits."""
        reader, self._reader = self._reader, None
        self._look()
        if reader is not None and not reader.done():
            reader.set_result(None)

    def require_open(self) -> None:
        """Raise what a command that came now would get, if nothing is taken."""
        if self._closed is not None:
            raise self._closed()

    def open(self) -> None:
        """Take commands from now on."""
        self._closed = None
        self._look()

    def close(self, reason: Callable[[], MillstreamError]) -> None:
        """Take nothing any more: callers get the error that ``reason`` makes, also those who wait to get in.

        What is queued stays for the reader.
        """
        self._closed = reason
        while self._entering:
            turn, _ = self._entering.popleft()
            if not turn.done():
                turn.set_exception(reason())
        self.wake()

    def _look(self) -> None:
        others = self._entering or self._reserved
        self.is_free = self._closed is None and self._reader is None and not others

    def _has_room_for(self, size_bytes: int) -> bool:
        return not size_bytes or not self.size_bytes or self.size_bytes + size_bytes <= self.bytes_max
