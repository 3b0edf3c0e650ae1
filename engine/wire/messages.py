"""The messages of the protocol, JSON-RPC 2.0 (https://www.jsonrpc.org/specification), as msgspec Structs.

Here: what does not depend on the application, as one side writes it and the other one reads it. Not here: requests as a
server reads them (`requests`), since they hold the application's messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from millstream.engine.application.messages import Receipt
from millstream.engine.wire.errors import INTERNAL_ERROR, ErrorObject, error_object

__all__ = [
    "AnsweredAll",
    "Count",
    "ErrorShape",
    "Failure",
    "Notification",
    "Outcome",
    "Outcomes",
    "Reply",
    "ReplyId",
    "Request",
    "Result",
    "Told",
    "Watching",
    "answer_line",
    "ended_line",
    "events_line",
    "failure_of",
    "outcome_of",
    "rows_line",
]

#: As a server has them, or as JSON.
Answers_co = TypeVar("Answers_co", bound=Sequence[Any], covariant=True)

#: Who a reply is for, as the caller named it. A request without one is a notification, and gets no reply.
ReplyId: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | str | float | None

#: A position, a version, the number of a watch: what any language's integers can hold.
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]

_encode = msgspec.json.Encoder().encode


# What a client writes.


class Request(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="jsonrpc", tag="2.0", gc=False):
    """A request. ``params`` is by name."""

    method: str
    params: Any = UNSET
    id: int | UnsetType = UNSET

    @property
    def line(self) -> bytes:
        """As it is sent."""
        return _encode(self) + b"\n"


# What a client reads.


class ErrorShape(msgspec.Struct, frozen=True, gc=False):
    """An error of JSON-RPC; ``data`` is left as it came."""

    code: int
    message: str
    data: Raw = Raw(b"null")


class Reply(msgspec.Struct, frozen=True, gc=False):
    """Whatever a server sends: an answer (``id`` and ``result`` or ``error``) or a notification (``method`` and
    ``params``).
    """

    id: int | str | float | UnsetType | None = UNSET
    result: Raw | UnsetType = UNSET
    error: ErrorShape | UnsetType = UNSET
    method: str | UnsetType = UNSET
    params: Raw | UnsetType = UNSET


class Notification(msgspec.Struct, frozen=True):
    """What a server sends about a watch: an answer at ``position`` or what has changed in it, events up to it, or the
    error that ended it.
    """

    watch: Count
    answer: Raw | UnsetType = UNSET
    rows: Raw | UnsetType = UNSET
    events: Raw | UnsetType = UNSET
    position: Count = 0
    error: ErrorShape | UnsetType = UNSET


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of one command of ``execute_many``: one of the two, as in a reply."""

    result: Receipt | UnsetType = UNSET
    error: ErrorShape | UnsetType = UNSET


class Outcomes(msgspec.Struct, frozen=True, gc=False):
    """The result of ``execute_many``: what became of each command, in their order."""

    outcomes: list[Outcome]


# What a server writes: as Structs, or as lines without their ends.


class Result(msgspec.Struct, tag_field="jsonrpc", tag="2.0", gc=False):
    """The answer to a request."""

    id: Any
    result: Any


class Failure(msgspec.Struct, tag_field="jsonrpc", tag="2.0", gc=False):
    """The answer to a request that failed; the id is None where that is not known."""

    id: Any
    error: ErrorObject


class Told(msgspec.Struct, gc=False):
    """The same as a server has it: each is what `outcome_of` makes."""

    outcomes: Sequence[Any]


class AnsweredAll(msgspec.Struct, Generic[Answers_co], frozen=True, gc=False):
    """The result of ``ask_all``: an answer to each question, in their order, all true at one position."""

    answers: Answers_co
    position: Count


class _Done(msgspec.Struct, gc=False):
    result: Any


class _Failed(msgspec.Struct, gc=False):
    error: ErrorObject


class Watching(msgspec.Struct, frozen=True, gc=False):
    """The result of ``watch`` and ``follow``: the number that its notifications have."""

    watch: int


class _Note(msgspec.Struct, tag_field="jsonrpc", tag="2.0", gc=False):
    method: str
    params: Any


class _Events(msgspec.Struct, gc=False):
    watch: int
    events: Sequence[Any]
    position: int


class _Ended(msgspec.Struct, gc=False):
    watch: int
    error: ErrorObject


_WATCHED = b'{"jsonrpc":"2.0","method":"watch","params":{"watch":%d,"%b":%b,"position":%d}}'


def failure_of(to: ReplyId, error: BaseException) -> bytes:
    """The answer to a request that failed. Never raises, whatever the error holds."""
    return _encode_with(error, lambda told: Failure(to, told))


def outcome_of(outcome: Receipt | BaseException) -> Any:
    """What a server writes of the outcome of one command of ``execute_many``. Never raises, whatever an error holds."""
    if isinstance(outcome, Receipt):
        return _Done(outcome)
    return Raw(_encode_with(outcome, _Failed))


def answer_line(watch: int, answer: bytes, position: int) -> bytes:
    """The notification of an answer, whose JSON is put in as it is: thousands may be due at once."""
    return _WATCHED % (watch, b"answer", answer, position)


def rows_line(watch: int, changes: bytes, position: int) -> bytes:
    """The notification of what has changed in an answer, whose JSON is put in as it is."""
    return _WATCHED % (watch, b"rows", changes, position)


def events_line(watch: int, events: Sequence[Any], position: int) -> bytes:
    """The notification of events that a log holds, up to a position."""
    return _encode(_Note("follow", _Events(watch, events, position)))


def ended_line(method: str, watch: int, error: BaseException) -> bytes:
    """The last notification of a watch that did not end because it was asked to. Never raises."""
    return _encode_with(error, lambda told: _Note(method, _Ended(watch, told)))


def _encode_with(error: BaseException, message: Callable[[ErrorObject], Any]) -> bytes:
    try:
        return _encode(message(error_object(error)))
    except RecursionError:  # each of its fields could just be written, all of them together could not
        return _encode(message(ErrorObject(INTERNAL_ERROR, f"{type(error).__name__} is nested too deeply")))
