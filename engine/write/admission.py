"""From what a caller gives to what the writer takes: commands are checked, put into the mailbox, and waited for.

Here: the errors that a caller hears before anything is taken, and giving up. Not here: the short way of one command
without a timeout, which `Engine.execute` goes by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

import anyio

from millstream.engine.application.app import App
from millstream.engine.application.messages import Command, Metadata, Receipt
from millstream.engine.application.options import Deadline, Options
from millstream.engine.application.validation import (
    checked_command_id,
    checked_command_ids,
    checked_metadata,
    payload_digest,
)
from millstream.engine.errors import DeadlineExceeded, InvalidMessage, MillstreamError, UnknownMessage
from millstream.engine.limits import Limits
from millstream.engine.loop.clock import elapsed
from millstream.engine.loop.slices import Slicer
from millstream.engine.write.envelope import Envelope
from millstream.engine.write.mailbox import Mailbox
from millstream.engine.write.outcomes import Outcomes

__all__ = ["Admission"]

#: How many batches of one `execute_many` are under way at most: one that is written, one that is decided, and two that
#: wait, so that the writer never does. More would only stand before the commands of others, and in no cache.
_BATCHES_AHEAD = 4


class Admission:
    """Takes commands in for one application.

    Args:
        app: the application.
        mailbox: the writer's.
        limits: the engine's.
    """

    def __init__(self, app: App, mailbox: Mailbox, limits: Limits) -> None:
        self.mailbox = mailbox
        self._app = app
        self._limits = limits
        #: By type of command: the function that reads and checks it.
        self.readers: Mapping[type[Command], Callable[[bytes], Command]] = {
            command: entry.read for command, entry in app.commands.items()
        }

    def command(self, command: Command) -> Command:
        """A private, checked copy.

        Raises:
            UnknownMessage, InvalidMessage: it is none of this application, or not what its class declares.
        """
        try:
            return self.readers[type(command)](self._app.encode_command(command))
        except Exception as error:
            raise self.refusal(command, error) from error

    def refusal(self, command: Command, error: Exception) -> MillstreamError:
        """What the caller hears when checking a command failed with ``error``."""
        if type(command) not in self.readers:
            known = tuple(entry.tag for entry in self._app.commands.values())
            return UnknownMessage("command", type(command).__name__, self._app.name, known)
        return InvalidMessage(type(command).__name__, str(error) or repr(error))

    def options(
        self,
        command: Command,
        command_id: str | None,
        expected_version: int | None,
        metadata: Metadata | None,
    ) -> Options:
        """The caller's options, checked.

        Args:
            command: the checked copy, which the id will stand for.
            command_id: as in `Engine.execute`, and so are the others.
            expected_version: None if any will do.
            metadata: None if there is none.

        Raises:
            InvalidMessage: one of them is not what it should be, or a version is expected of a command without a key.
        """
        payload = ""
        if command_id is not None:
            command_id, payload = checked_command_id(command_id), payload_digest(command)
        if metadata is not None:
            metadata = checked_metadata(metadata)
        if expected_version is not None:
            if type(expected_version) is not int or expected_version < 0:
                raise InvalidMessage("expected_version", f"a whole number from 0 on, not {expected_version!r:.80}")
            if self._app.commands[type(command)].key_of(command) is None:
                raise InvalidMessage("expected_version", f"{type(command).__name__} has no Key field to have a version")
        return Options(command_id, payload, expected_version, metadata)

    async def execute_many(
        self,
        todo: list[Command],
        command_ids: Iterable[str] | None,
        metadata: Metadata | None,
        timeout: float | None,
    ) -> list[Receipt | MillstreamError]:
        """Put commands into the mailbox one after another and wait for all outcomes; see `Engine.execute_many`."""
        if metadata is not None:
            metadata = checked_metadata(metadata)
        ids = checked_command_ids(command_ids, len(todo))
        outcomes = Outcomes()

        def late(index: int, ticket: int) -> MillstreamError:
            return DeadlineExceeded(type(todo[index]).__name__, timeout or 0.0, decided=self.is_decided(ticket))

        try:
            with anyio.move_on_after(timeout):
                await self._put_all(todo, ids, metadata, outcomes)
                await outcomes.come_down_to(0)
        finally:
            outcomes.end(late)
        return [*outcomes.outcomes, *(late(index, 0) for index in range(len(outcomes.outcomes), len(todo)))]

    async def execute_in_time(
        self, envelope: Envelope, promise: asyncio.Future[Receipt], deadline: Deadline, wait: bool
    ) -> Receipt:
        """Put a command into the mailbox and wait for its outcome until its deadline; see `Engine.execute`."""
        name, seconds, ticket = type(envelope[1]).__name__, deadline.timeout_seconds, 0

        def expire() -> None:
            if not promise.done():
                promise.set_exception(DeadlineExceeded(name, seconds, decided=self.is_decided(ticket)))

        if not wait:
            ticket = self.mailbox.put_nowait(envelope)
        else:
            with anyio.move_on_after(seconds):
                ticket = await self.mailbox.put(envelope)
        if not ticket:
            raise DeadlineExceeded(name, seconds, decided=False)
        timer = asyncio.get_running_loop().call_later(deadline.at - elapsed(), expire)
        try:
            return await promise
        except asyncio.CancelledError as error:
            self.note_cancelled(error, promise, ticket)
            raise
        finally:
            timer.cancel()

    def is_decided(self, ticket: int) -> bool:
        """Whether the writer has taken the command with this ticket."""
        return 0 < ticket <= self.mailbox.taken_out

    def note_cancelled(self, error: asyncio.CancelledError, promise: asyncio.Future[Receipt], ticket: int) -> None:
        """Say that the command stands, if it was decided before the promise was cancelled.

        The cancellation arrives here a turn of the loop later, and the writer may have passed the command over since.
        """
        if self.is_decided(ticket) and promise not in self.mailbox.skipped:
            error.add_note("millstream: the command was decided before it was cancelled; it stands once it is durable")

    async def _put_all(
        self, todo: Sequence[Command], ids: Sequence[str | None], metadata: Metadata | None, outcomes: Outcomes
    ) -> None:
        slicer, new_promise = Slicer(self._limits.slice_ms_max), asyncio.get_running_loop().create_future
        batch, shared = self._limits.batch_commands_max, None if metadata is None else Options(metadata=metadata)
        for index, command in enumerate(todo):
            promise: asyncio.Future[Receipt] = new_promise()
            options, ticket = shared, 0
            try:
                command = self.command(command)
                if ids[index] is not None:
                    options = self.options(command, ids[index], None, metadata)
                envelope: Envelope = (promise, command, options)
                ticket = self.mailbox.try_put(envelope) or await self.mailbox.put(envelope)
            except MillstreamError as error:
                promise.set_exception(error)
            outcomes.add((promise, ticket))
            if index & 63 == 63:  # up to 64 are taken in together, however slow the machine is
                if outcomes.underway >= _BATCHES_AHEAD * batch:
                    await outcomes.come_down_to((_BATCHES_AHEAD - 1) * batch)
                elif slicer.is_over:
                    await slicer.rest()
