"""From what a caller gives to what the writer takes: commands are checked, put into the mailbox, and waited for.

Here: the errors that a caller gets before anything is taken, and giving up. `Admission.submit` is the one way in: an
engine and a server differ in the promise alone. Not here: what becomes of a command in the mailbox (`batch`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import anyio

from millstream.engine.application.app import App
from millstream.engine.application.messages import Command, Metadata, Receipt
from millstream.engine.application.options import Deadline, Options, Terms
from millstream.engine.application.validation import (
    checked_command_id,
    checked_command_ids,
    checked_metadata,
    checked_timeout,
    checked_version,
    payload_digest,
)
from millstream.engine.errors import DeadlineExceeded, InvalidMessage, MillstreamError
from millstream.engine.limits import Limits
from millstream.engine.loop.clock import elapsed
from millstream.engine.loop.slices import Slicer
from millstream.engine.write.envelope import Envelope, Promise
from millstream.engine.write.expiry import Expiry
from millstream.engine.write.mailbox import Mailbox
from millstream.engine.write.together import Together

__all__ = ["Admission", "Entering"]

#: Enters a command once there is room; gives its ticket.
Entering: TypeAlias = Callable[[], Awaitable[int]]

#: How many batches of one `execute_many` are under way at most: one that is written, one that is decided, and two that
#: wait, so that the writer never does. More would only stand before the commands of others, and in no cache.
_BATCHES_AHEAD = 4
#: How many commands of one `execute_many` are taken in together, however slow the machine is.
_AT_ONCE = 64


class Admission:
    """Takes commands in for one application.

    Args:
        app: the application.
        mailbox: the writer's.
        limits: the engine's.
    """

    def __init__(self, app: App, mailbox: Mailbox, limits: Limits) -> None:
        self.mailbox = mailbox
        self._try_put = mailbox.try_put
        self._app = app
        #: A private, checked copy of a command; see `App.own_command`.
        self.command: Callable[[Command], Any] = app.own_command
        self._limits = limits
        #: By type of command, where there is one: the function that tells that a command is its own copy already.
        self.checks: Mapping[type[Command], Callable[[Command], object]] = {
            command: entry.exact.check for command, entry in app.commands.items() if entry.exact is not None
        }

    def terms(
        self,
        command: Command,
        command_id: str | None,
        expected_version: int | None = None,
        metadata: Metadata | None = None,
        timeout: float | None = None,
    ) -> Terms:
        """What the writer has to know beside a checked command, from what its caller gives.

        Raises:
            InvalidMessage: an option is not what it should be, or a version is expected of a command without a key.
        """
        payload, deadline = "", None
        if command_id is not None:
            command_id, payload = checked_command_id(command_id), payload_digest(command)
        if metadata is not None:
            metadata = checked_metadata(metadata)
        if expected_version is not None:
            expected_version = checked_version(expected_version)
            if self._app.commands[type(command)].key_of(command) is None:
                raise InvalidMessage("expected_version", f"{type(command).__name__} has no Key field to have a version")
        if timeout is not None:
            deadline = Deadline(elapsed() + timeout, timeout)
        return Terms(command_id, payload, expected_version, metadata, deadline)

    def submit(
        self, command: Command, options: Options | None, promise: Promise, size_bytes: int = 0
    ) -> int | Entering:
        """Put a command into the mailbox: the one way in.

        Args:
            command: a checked copy.
            options: the caller's; None if it asks for nothing.
            promise: is given the outcome.
            size_bytes: of the command, where they are known and many.

        Returns:
            Its ticket; or, if there is no room and its caller waits for some, a function that enters it once there is:
            `Mailbox.put` of this command.

        Raises:
            InvalidMessage: an option is not what it should be, or a version is expected of a command without a key.
            Overloaded: there is no room, and ``wait`` is false.
            EngineClosed, WriterUnavailable, Fenced: nothing is taken.
        """
        if options is None:
            envelope: Envelope = (promise, command, None)
        else:
            command_id, version, metadata = options.command_id, options.expected_version, options.metadata
            terms = None
            if command_id is not None or version is not None or metadata is not None or options.timeout is not None:
                terms = self.terms(command, command_id, version, metadata, options.timeout)
            envelope = (promise, command, terms)
            if not options.wait:
                return self.mailbox.put_nowait(envelope, size_bytes)
        if size_bytes:
            return self.mailbox.try_put_sized(envelope, size_bytes) or partial(self.mailbox.put, envelope, size_bytes)
        return self._try_put(envelope) or partial(self.mailbox.put, envelope)

    async def execute_in_time(self, command: Command, options: Options, seconds: float) -> Receipt[Any]:
        """Submit a command and wait for its outcome for so many seconds; see `Engine.execute`."""
        seconds = checked_timeout(seconds)
        promise: asyncio.Future[Receipt[Any]] = asyncio.get_running_loop().create_future()
        expiry = self.expiry(command, promise, seconds)
        try:
            ticket = self.submit(command, options, promise)
            if not isinstance(ticket, int):
                enter, ticket = ticket, 0
                with anyio.move_on_after(seconds):
                    ticket = await enter()
            expiry.ticket = ticket
            return await promise
        except asyncio.CancelledError as error:
            self.note_cancelled(error, promise, expiry.ticket)
            if promise.done() and not promise.cancelled():
                promise.exception()  # it came in the same turn, and its caller is gone
            raise
        finally:
            expiry.cancel()

    async def execute_many(
        self,
        todo: list[Command],
        command_ids: Iterable[str] | None,
        metadata: Metadata | None,
        timeout: float | None,
    ) -> list[Receipt[Any] | MillstreamError]:
        """Submit commands one after another and wait for all outcomes; see `Engine.execute_many`."""
        if timeout is not None:
            timeout = checked_timeout(timeout)
        ids = checked_command_ids(command_ids, len(todo))
        together = Together()

        def late(index: int, ticket: int) -> MillstreamError:
            decided = self.mailbox.has_taken(ticket)
            return DeadlineExceeded(type(todo[index]).__name__, timeout or 0.0, decided=decided)

        try:
            with anyio.move_on_after(timeout):
                await self._submit_all(todo, ids, metadata, together)
                await together.come_down_to(0)
        except asyncio.CancelledError as error:
            decided = sum(map(self.mailbox.has_taken, together.tickets))
            error.add_note(
                f"millstream: {decided:,} of {len(todo):,} commands were decided before that; those that are not "
                "refused stand once they are durable"
            )
            raise
        finally:
            together.give_up()
        return together.results(len(todo), late)

    def expiry(self, command: Command, promise: Promise, seconds: float) -> Expiry:
        """What gives a command up after so many seconds."""
        return Expiry(self.mailbox, promise, type(command).__name__, seconds)

    def note_cancelled(self, error: asyncio.CancelledError, promise: asyncio.Future[Receipt[Any]], ticket: int) -> None:
        """Say that the command stands, if it was decided before the promise was cancelled.

        The cancellation arrives here a turn of the loop later, and the writer may have passed the command over since.
        """
        if self.mailbox.has_taken(ticket) and promise not in self.mailbox.skipped:
            error.add_note("millstream: the command was decided before it was cancelled; it stands once it is durable")

    async def _submit_all(
        self, todo: Sequence[Command], ids: Sequence[str | None], metadata: Metadata | None, together: Together
    ) -> None:
        """Put all commands into the mailbox, some batches ahead of the writer.

        Raises:
            InvalidMessage: the metadata is not what it should be.
        """
        slicer, batch = Slicer(self._limits.slice_ms_max), self._limits.batch_commands_max
        same = None if metadata is None else Terms(metadata=checked_metadata(metadata))
        for first in range(0, len(todo), _AT_ONCE):
            envelopes: list[Envelope] = []
            places: list[int] = []
            for index in range(first, min(first + _AT_ONCE, len(todo))):
                try:
                    command, command_id = self.command(todo[index]), ids[index]
                    terms = same if command_id is None else self.named(command, command_id, same)
                except MillstreamError as error:
                    together.refuse(index, error)
                else:
                    envelopes.append((together, command, terms))
                    places.append(index)
            await self._put_all(envelopes, places, together)
            if together.underway >= _BATCHES_AHEAD * batch:
                await together.come_down_to((_BATCHES_AHEAD - 1) * batch)
            elif slicer.is_over:
                await slicer.rest()

    async def _put_all(self, envelopes: list[Envelope], places: list[int], together: Together) -> None:
        """Put some of an `execute_many` into the mailbox, in order; those that it does not take are refused."""
        taken = self.mailbox.try_put_some(envelopes)
        together.tickets.extend(taken)
        for later in range(len(taken), len(envelopes)):
            try:
                ticket = await self.mailbox.put(envelopes[later])
            except MillstreamError as error:
                together.refuse(places[later], error)
            else:
                together.tickets.append(ticket)

    @staticmethod
    def named(command: Command, command_id: str, terms: Terms | None) -> Terms:
        """The terms of a command with an id, of several that have other terms in common.

        Raises:
            InvalidMessage: the id is none, or the command holds a set of values that have no order among them.
        """
        metadata = None if terms is None else terms.metadata
        return Terms(checked_command_id(command_id), payload_digest(command), None, metadata)
