"""From commands to calls, and from replies to receipts.

Here: what `Client.execute` and `Client.execute_many` have in common, and how the latter keeps within bounds.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from msgspec import Raw

from millstream.engine.application.messages import Command, Message, Metadata, Receipt
from millstream.engine.application.options import Deadline
from millstream.engine.application.validation import checked_command_id, checked_metadata, encode
from millstream.engine.client.calls import Call
from millstream.engine.client.outcomes import Outcomes
from millstream.engine.errors import DeadlineExceeded, InvalidMessage, MillstreamError, NotYetVisible, RemoteError
from millstream.engine.loop.clock import elapsed
from millstream.engine.wire.errors import INTERNAL_ERROR

__all__ = ["Executions", "as_asked", "as_told", "deadline_in", "execution", "json_of", "outcome_of", "receipt_of"]

#: Longer timeouts are none: 31 years, which is also the most that a server takes.
_SECONDS_MAX = 1e9
#: How much too early a timer may ring: uvloop's count milliseconds.
_EARLY_SECONDS = 0.002

_read_receipt = msgspec.json.Decoder(Receipt).decode


class Executions(Outcomes):
    """The outcomes of an `execute_many`, which never has more than so many calls under way."""

    __slots__ = ("_calls_max", "_room", "calls")

    def __init__(self, size: int, calls_max: int) -> None:
        super().__init__(size)
        #: Those that were sent and have a deadline.
        self.calls: list[Call] = []
        self._calls_max = calls_max
        self._room: asyncio.Future[None] | None = None

    def settle(self, index: int, outcome: Any) -> None:
        """Note the outcome of one of them."""
        super().settle(index, outcome)
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def is_full(self, sent: int) -> bool:
        """Whether, of so many that were sent, as many as may be are under way."""
        return sent - (len(self.outcomes) - self.left) >= self._calls_max

    async def room(self, sent: int) -> None:
        """Wait until it is not."""
        while self.is_full(sent):
            self._room = asyncio.get_running_loop().create_future()
            try:
                await self._room
            finally:
                self._room = None


def execution(
    command: Command,
    promise: Any,
    command_id: str | None,
    expected_version: int | None,
    metadata: Metadata | None,
    deadline: Deadline | None,
    wait: bool,
) -> Call:
    """The call that executes a command.

    Raises:
        InvalidMessage: command, id, version or metadata are not what they should be, as far as can be told from here.
    """
    params = b'"command":' + json_of(command)
    if command_id is not None:
        params += b',"command_id":' + encode(checked_command_id(command_id))
    if expected_version is not None:
        if type(expected_version) is not int or expected_version < 0:
            raise InvalidMessage("expected_version", f"a whole number from 0 on, not {expected_version!r:.80}")
        params += b',"expected_version":%d' % expected_version
    if metadata is not None:
        params += b',"metadata":' + encode(checked_metadata(metadata))
    if not wait:
        params += b',"wait":false'
    name = type(command).__name__
    return Call(
        b"execute", params, promise, name=name, changes=True, repeatable=command_id is not None, deadline=deadline
    )


def json_of(message: Message) -> bytes:
    """A message as it is sent; whether it is what its class declares, the server finds out, as its classes count.

    Raises:
        InvalidMessage: it can't be written as JSON.
    """
    if not isinstance(message, Message):
        raise InvalidMessage(type(message).__name__, f"a Command or a Query, not {message!r:.80}")
    try:
        written = encode(message)
        return written if b"\n" not in written else msgspec.json.format(written, indent=-1)  # a Raw field may have some
    except Exception as error:
        raise InvalidMessage(type(message).__name__, str(error) or repr(error)) from error


def deadline_in(timeout: float | None) -> Deadline | None:
    """When so many seconds are over from now on."""
    if timeout is None or not timeout < _SECONDS_MAX:
        return None
    return Deadline(elapsed() + timeout, timeout)


def receipt_of(result: Raw) -> Receipt:
    """What `execute` gave.

    Raises:
        RemoteError: it is no receipt.
    """
    try:
        return _read_receipt(result)
    except msgspec.DecodeError as error:
        raise RemoteError(INTERNAL_ERROR, f"what came back is no receipt: {error}") from error


def as_told(error: DeadlineExceeded, command: Command, deadline: Deadline | None) -> DeadlineExceeded:
    """The error in its caller's words: the server knows what was left of the time, and the command by its tag."""
    seconds = error.timeout_seconds if deadline is None else deadline.timeout_seconds
    return DeadlineExceeded(type(command).__name__, seconds, decided=error.decided)


def as_asked(error: NotYetVisible, deadline: Deadline | None) -> NotYetVisible:
    """The same for a question, which may also have waited for as long as the server lets any wait."""
    if deadline is None or elapsed() < deadline.at - _EARLY_SECONDS:
        return error
    return NotYetVisible(error.view, error.position, error.after, deadline.timeout_seconds)


def outcome_of(outcome: Any, command: Command, deadline: Deadline | None) -> Receipt | MillstreamError:
    """What became of one of several commands, as its caller is to see it."""
    if isinstance(outcome, DeadlineExceeded):
        told = as_told(outcome, command, deadline)
        told.__cause__ = outcome.__cause__
        return told
    if isinstance(outcome, MillstreamError):
        return outcome
    try:
        return receipt_of(outcome)
    except RemoteError as error:
        return error
