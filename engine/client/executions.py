"""From commands to calls, and from replies to receipts.

Here: what a single call needs; what several commands in one need beside it is in `parcels`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from millstream.engine.application.messages import Command, Message, Receipt
from millstream.engine.application.options import Deadline, Options
from millstream.engine.application.promises import Promise, promise_of
from millstream.engine.application.validation import (
    checked_command_id,
    checked_metadata,
    checked_timeout,
    checked_version,
    encode,
)
from millstream.engine.client.calls import Call
from millstream.engine.errors import (
    AnswerUnreadable,
    DeadlineExceeded,
    InvalidMessage,
    MillstreamError,
    NotYetVisible,
    RemoteError,
)
from millstream.engine.loop.clock import elapsed
from millstream.engine.wire.errors import INTERNAL_ERROR

__all__ = [
    "as_asked",
    "as_told",
    "deadline_in",
    "execution",
    "json_of",
    "mended",
    "promised",
    "receipt_of",
    "require_promise",
]

#: Longer timeouts are none: 31 years, which is also the most that a server takes.
_SECONDS_MAX = 1e9
#: How much too early a timer may ring: uvloop's count milliseconds.
_EARLY_SECONDS = 0.002

_read_receipt = msgspec.json.Decoder(Receipt).decode
#: What a class promises: to find out takes longer than a call.
_promise_of: Callable[[type[Command[Any]]], Promise | None] = lru_cache(maxsize=1_024)(promise_of)


def execution(command: Command, options: Options | None, promise: Any, deadline: Deadline | None) -> Call:
    """The call that executes a command.

    Args:
        command: the command.
        options: the caller's; None if it asks for nothing.
        promise: is given the receipt as JSON, or the error.
        deadline: when its caller gives up.

    Raises:
        DefinitionError: its class does not say what it promises.
        InvalidMessage: command, id, version or metadata are not what they should be, as far as a client can know.
    """
    params, name = b'"command":' + json_of(command), type(command).__name__
    require_promise(command)
    if options is None:
        return Call(b"execute", params, promise, name=name, changes=True, repeatable=False, deadline=deadline)
    if options.command_id is not None:
        params += b',"command_id":' + encode(checked_command_id(options.command_id))
    if options.expected_version is not None:
        params += b',"expected_version":%d' % checked_version(options.expected_version)
    if options.metadata is not None:
        params += b',"metadata":' + encode(checked_metadata(options.metadata))
    if not options.wait:
        params += b',"wait":false'
    repeatable = options.command_id is not None
    return Call(b"execute", params, promise, name=name, changes=True, repeatable=repeatable, deadline=deadline)


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
    """When so many seconds are over from now on.

    Raises:
        InvalidMessage: they are no number.
    """
    if timeout is None or not checked_timeout(timeout) < _SECONDS_MAX:
        return None
    return Deadline(elapsed() + timeout, timeout)


def receipt_of(command: Command[Any], result: Raw) -> Receipt[Any]:
    """What `execute` gave.

    Raises:
        RemoteError: it is no receipt.
        AnswerUnreadable: its answer is none of the type that the command promises here.
    """
    try:
        return promised(command, _read_receipt(result))
    except msgspec.DecodeError as error:
        raise RemoteError(INTERNAL_ERROR, f"what came back is no receipt: {error}") from error


def require_promise(command: Command[Any]) -> None:
    """See that what a command promises can be read, before it is sent.

    Raises:
        DefinitionError: it can't, or that can't be known.
    """
    _promise_of(type(command))


def promised(command: Command[Any], receipt: Receipt[Any]) -> Receipt[Any]:
    """A receipt whose answer is as JSON has it, with what the command promises.

    Raises:
        AnswerUnreadable: it is none of that type.
    """
    promise = _promise_of(type(command))
    if promise is None:
        return receipt
    try:
        answer = promise.read(encode(receipt.answer))
    except (msgspec.DecodeError, RecursionError) as error:
        raise AnswerUnreadable(type(command).__name__, str(error), replace(receipt, answer=None)) from error
    return replace(receipt, answer=answer)


def mended(error: MillstreamError) -> MillstreamError:
    """An error that holds a receipt, with one: over the wire it is what JSON has."""
    if isinstance(error, AnswerUnreadable) and not isinstance(error.receipt, Receipt):
        try:
            error.receipt = msgspec.convert(error.receipt, Receipt)
        except msgspec.ValidationError as problem:
            return RemoteError(INTERNAL_ERROR, f"what came back is no receipt: {problem}")
    return error


def as_told(error: DeadlineExceeded, command: Command, deadline: Deadline | None) -> DeadlineExceeded:
    """The error in its caller's words: the server knows what was left of the time, and the command by its tag."""
    seconds = error.timeout_seconds if deadline is None else deadline.timeout_seconds
    return DeadlineExceeded(type(command).__name__, seconds, decided=error.decided)


def as_asked(error: NotYetVisible, deadline: Deadline | None) -> NotYetVisible:
    """The same for a question, which may also have waited for as long as the server lets any wait."""
    if deadline is None or elapsed() < deadline.at - _EARLY_SECONDS:
        return error
    return NotYetVisible(error.view, error.position, error.after, deadline.timeout_seconds)
