"""What becomes of `execute_many`: the outcomes of its commands in order, and one reply once all are there.

Here: one such request, from its first command that is taken up to its reply. Not here: how commands get into the
mailbox (`commands`).

The writer tells outcomes in the order in which it took commands, so all of them share one promise, as those of
`Engine.execute_many` do.

Invariants: there is one reply, with an outcome for each command; until it is made, every command that was taken up
counts as a request in flight, also those whose outcome is known, as they are kept here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from msgspec import Raw

from millstream.engine.application.messages import Command, Metadata
from millstream.engine.application.options import Terms
from millstream.engine.application.validation import checked_command_ids, checked_metadata
from millstream.engine.errors import DeadlineExceeded, MillstreamError
from millstream.engine.server.output import Batch
from millstream.engine.server.peer import Peer
from millstream.engine.wire.messages import Told, outcome_of
from millstream.engine.write.admission import Admission
from millstream.engine.write.envelope import Envelope

__all__ = ["Many", "ids_of"]

#: Commands that are taken up together, before anybody looks at the clock.
_AT_ONCE = 64


def ids_of(connection: Peer, request: Any) -> Sequence[str | None]:
    """The ids of a request's commands, if it may be taken up at all.

    Raises:
        ProtocolViolated: it has more commands than may be in flight.
        InvalidMessage: it has more or fewer ids.
    """
    connection.server.requests.require_few(len(request.params.commands))
    return checked_command_ids(request.params.command_ids, len(request.params.commands))


class Many:
    """One request: the promise that its commands share.

    Args:
        admission: that of an open engine.
        connection: whose request it is.
        request: the request.
        batch: the one that it is in.

    Raises:
        ProtocolViolated: it has more commands than may be in flight.
        InvalidMessage: it has more or fewer ids, or its metadata is not what it should be.
    """

    __slots__ = (
        "_admission",
        "_batch",
        "_commands",
        "_connection",
        "_ids",
        "_left",
        "_outcomes",
        "_refused",
        "_size_bytes",
        "_terms",
        "_tickets",
        "_timeout",
        "_timer",
        "_to",
        "is_over",
        "taken",
        "waiting",
    )

    def __init__(self, admission: Admission, connection: Peer, request: Any, batch: Batch | None) -> None:
        params = request.params
        metadata: Metadata | None = params.metadata
        self._ids = ids_of(connection, request)
        self._terms = None if metadata is None else Terms(metadata=checked_metadata(metadata))
        self._admission = admission
        self._connection = connection
        self._to = request.id
        self._batch = batch
        self._commands: list[Command | Raw] = params.commands
        #: How many commands were taken up, and how many have no outcome.
        self.taken = 0
        self._left = len(self._commands)
        #: Those that found no room in the mailbox, and by index.
        self.waiting: deque[tuple[int, Envelope]] = deque()
        self._tickets: list[int] = []
        self._outcomes: list[Any] = []
        self._refused: dict[int, Any] = {}
        #: Whether the reply was made.
        self.is_over = False
        self._size_bytes = connection.large_bytes(batch, self._left)
        self._timeout: float | None = params.timeout
        self._timer: asyncio.TimerHandle | None = None
        if self._timeout is not None:
            self._timer = asyncio.get_running_loop().call_later(self._timeout, self._ring)

    # What the writer calls.

    def done(self) -> bool:
        """Whether the caller has gone; a command that was not decided by then never is."""
        return self.is_over or self._connection.is_gone

    def set_result(self, receipt: Any, /) -> None:
        """The outcome of the next command."""
        self._outcomes.append(outcome_of(receipt))
        self._left -= 1
        if not self._left:
            self._reply()

    def set_exception(self, error: BaseException, /) -> None:
        """The next command is refused."""
        self._connection.server.failed(error)
        self.set_result(error)

    # Taking up.

    @property
    def is_taken(self) -> bool:
        """Whether nothing of it is left to be taken up."""
        return self.done() or self.taken == len(self._commands)

    def take(self, most: int) -> None:
        """Take the next commands up, and put them into the mailbox; those for which there is no room wait.

        Args:
            most: how many the connection may have in flight beside those that it has.
        """
        first, last = self.taken, min(self.taken + min(most, _AT_ONCE), len(self._commands))
        self._connection.in_flight += last - first
        self.taken = last
        found = [each for each in map(self._envelope, range(first, last)) if each is not None]
        entered = self._put([envelope for _, envelope in found])
        self.waiting.extend(found[entered:])
        self._look()

    async def enter(self) -> None:
        """Let commands that wait in, the first once there is room for it, and those behind it for which there is."""
        index, envelope = self.waiting.popleft()
        try:
            self._tickets.append(await self._admission.mailbox.put(envelope, self._size_bytes))
        except Exception as error:  # noqa: BLE001 - sent to the caller
            self._refuse(index, error)
        else:
            for _ in range(self._put([each for _, each in self.waiting])):
                self.waiting.popleft()
        self._look()

    def _envelope(self, index: int) -> tuple[int, Envelope] | None:
        command_id, terms = self._ids[index], self._terms
        try:
            command = self._read(index)
            if command_id is not None:
                terms = self._admission.named(command, command_id, terms)
        except Exception as error:  # noqa: BLE001 - sent to the caller, and those that are in are not forgotten
            self._refuse(index, error)
            return None
        return index, (self, command, terms)

    def _read(self, index: int) -> Command:
        """One command; those of a request in which some are none are read when their turn comes."""
        command = self._commands[index]
        if isinstance(command, Raw):
            self._commands[index] = command = self._connection.server.requests.command(bytes(command), index)
        return command

    def _put(self, envelopes: Sequence[Envelope]) -> int:
        """Put the first of some into the mailbox, as many as there is room for; returns how many."""
        mailbox, size_bytes = self._admission.mailbox, self._size_bytes
        if not size_bytes:
            tickets = mailbox.try_put_some(envelopes)
            self._tickets.extend(tickets)
            return len(tickets)
        entered = 0
        with suppress(MillstreamError):  # it is closed, as those that wait learn
            while entered < len(envelopes) and (ticket := mailbox.try_put_sized(envelopes[entered], size_bytes)):
                self._tickets.append(ticket)
                entered += 1
        return entered

    def _look(self) -> None:
        """Those that wait are refused where the mailbox takes nothing any more; the last refusal ends the request."""
        while self.waiting:
            try:
                self._admission.mailbox.require_open()
                break
            except MillstreamError as error:
                self._refuse(self.waiting.popleft()[0], error)
        if not self._left and not self.is_over:
            self._reply()

    # Outcomes.

    def _refuse(self, index: int, error: BaseException) -> None:
        """A command does not get into the mailbox."""
        if self.is_over:
            return
        self._connection.server.failed(error)
        self._refused[index] = outcome_of(error)
        self._left -= 1

    def _ring(self) -> None:
        """The time is over: each command that has no outcome says whether it stands."""
        if not self.done():
            self._reply()

    def _reply(self) -> None:
        self.is_over = True
        if self._timer is not None:
            self._timer.cancel()
        outcomes = self._outcomes
        if len(outcomes) < len(self._commands):
            known, tickets = iter(outcomes), iter(self._tickets)
            outcomes = [self._outcome(index, known, tickets) for index in range(len(self._commands))]
        self._connection.settle_many(self._to, Told(outcomes), self._batch, self.taken)

    def _outcome(self, index: int, known: Iterator[Any], tickets: Iterator[int]) -> Any:
        if index in self._refused:
            return self._refused[index]
        ticket, outcome = next(tickets, 0), next(known, None)
        return self._late(index, ticket) if outcome is None else outcome

    def _late(self, index: int, ticket: int) -> Any:
        try:
            command = self._read(index)
        except MillstreamError as error:
            return outcome_of(error)
        decided = self._admission.mailbox.has_taken(ticket)
        return outcome_of(DeadlineExceeded(type(command).__name__, self._timeout or 0.0, decided=decided))
