"""What users declare and what the engine hands back: plain immutable values.

Here: the bases of commands, events and queries, the marker for keys, receipts, metadata, context. Not here: any
behaviour, and any check (`validation` checks values, `app` checks definitions).

A message is a msgspec Struct: frozen, tagged with its class name in the JSON field ``type``, and strict about unknown
fields. It is not checked when it is constructed in process (msgspec never does), but where it enters the engine.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Generic, TypeAlias, dataclass_transform

import msgspec

from millstream.engine.errors import (
    AnswerUnreadable,
    CommandIdReused,
    InvalidMessage,
    Rejected,
    VersionConflict,
    ViewIncomplete,
)

if sys.version_info >= (3, 13):
    from typing import TypeVar
else:
    from typing_extensions import TypeVar

__all__ = [
    "KEY",
    "PERSONAL",
    "Answered",
    "At",
    "Command",
    "Context",
    "Event",
    "Key",
    "Message",
    "Metadata",
    "Personal",
    "Preview",
    "Query",
    "Receipt",
    "Token",
    "position_of",
]

T = TypeVar("T")
Answer_co = TypeVar("Answer_co", covariant=True)
#: What a command promises. By default nothing is known of it, so that ``Command`` and ``Receipt`` mean any of them.
Promised_co = TypeVar("Promised_co", covariant=True, default=object)

#: What marks a field as the message's key. Use `Key`, or ``Annotated[str, KEY, Meta(max_length=40)]`` for more bounds.
KEY = msgspec.Meta(extra={"millstream": "key"})

#: The stream that a command addresses or an event belongs to: a non-empty string, at most one field per message.
Key = Annotated[str, KEY, msgspec.Meta(min_length=1)]

#: What marks a field as personal. Use `Personal`, or ``Annotated[str, PERSONAL, Meta(max_length=40)]`` for bounds.
PERSONAL = msgspec.Meta(extra={"millstream": "personal"})

#: A field that holds data of a person, of whatever type: ``name: Personal[str]``. It changes nothing yet. What is to be
#: forgotten one day must be marked before the first such event is written, as the log does not change. A `Key` can't be
#: personal, and ids, actors, correlations and the like are public: name persons there by a number of your own.
Personal = Annotated[T, PERSONAL]

#: What SQLite, and the protocol, can hold.
_POSITION_MAX = 2**63 - 1
#: A number of something, or a place in an order: nothing that comes from elsewhere is believed to be below 0.
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=_POSITION_MAX)]


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True, tag_field="type", gc=False):
    """The common base of `Command`, `Event` and `Query`; not to be used directly.

    Without the collector's header: what can be written as JSON has no cycles, and a million messages cost it nothing.
    """


class Command(Message, Generic[Promised_co]):
    """A request to change state; named in the imperative. Handled by exactly one write model.

    It may promise an answer: ``class Hold(Command[tuple[int, ...]])``. Its handler is then a generator that returns it,
    and it is ``receipt.answer``. ``class Deposit(Command)`` promises none.
    """


class Event(Message):
    """Something that happened; named in the past tense. Applied by any write models and any views.

    An event that holds what can change, a list say, is copied for each model and view that applies it. One that is
    immutable is shared by all, and costs nothing: ``tuple[str, ...]`` for lists, ``frozen=True`` for classes.
    """


class Query(Message, Generic[Answer_co]):
    """A question, typed by its answer: ``class BalanceOf(Query[int | None])``. Answered by exactly one view."""


class Preview(list[Event]):
    """The events that a command would yield, in order. ``reactions`` names those that would follow, ``effects`` those
    that would be owed; none was run. ``timings`` are what it would yield of `Schedule` and `Unschedule`.
    """

    def __init__(
        self,
        events: Iterable[Event],
        reactions: Iterable[str] = (),
        timings: Iterable[Any] = (),
        effects: Iterable[str] = (),
    ) -> None:
        super().__init__(events)
        self.reactions: tuple[str, ...] = tuple(reactions)
        self.timings: tuple[Any, ...] = tuple(timings)
        self.effects: tuple[str, ...] = tuple(effects)


class Receipt(msgspec.Struct, Generic[Promised_co], frozen=True, gc=False, repr_omit_defaults=True):
    """What a durable command returns, and the token that makes its effect visible: ``ask(query, after=receipt)``.

    ``commit`` is the number of the commit that holds the command. ``position`` is that of its last event or, when it
    had none, of the last event before it. ``events`` says how many it had, so they are ``position - events + 1`` to
    ``position``. ``command_id`` is the caller's, if one was given. ``version`` is that of the command's key after it,
    None for a command without a key: the next ``expected_version``. ``repeated`` says that the command was there
    already, under this id: the receipt is the first one, and nothing happened now. What followed by reactions counts
    in ``version`` and in nothing else. ``parked`` says how many of those reactions failed; what was decided stands.
    ``answer`` is what the command promises, None if that is nothing: the caller's own copy. A repeat gets it, too.
    """

    commit: _Count
    position: _Count
    events: _Count
    command_id: str | None = None
    version: _Count | None = None
    repeated: bool = False
    parked: _Count = 0
    answer: Promised_co = None  # type: ignore[assignment]  # of a command that promises none


class Answered(msgspec.Struct, Generic[Answer_co], frozen=True, gc=False):
    """An answer, and the position at which it is true: it reflects every event up to there, and none after it.

    It is a token, too: a caller that asks again with ``after=answered`` never sees an older state.
    """

    answer: Answer_co
    position: _Count


#: What ``after=`` takes: a write, a refusal or an answer whose state is to be seen, or a position.
Token: TypeAlias = (
    Receipt[Any]
    | Answered[Any]
    | Rejected
    | VersionConflict
    | CommandIdReused
    | AnswerUnreadable
    | ViewIncomplete
    | int
)

#: What an earlier answer is asked of: a position, a token, or a time.
At: TypeAlias = Token | datetime


def position_of(token: Token | None, name: str = "after") -> int:
    """The position that a token stands for; 0 for none.

    Args:
        token: what the caller gave.
        name: what the caller gave it as.

    Raises:
        InvalidMessage: it is no token, a position above what any log can have, or a refusal that has no position, as
            that of a preview.
    """
    if token is None:
        return 0
    if isinstance(token, int):
        if token > _POSITION_MAX:
            raise InvalidMessage(name, f"no log comes to a position above {_POSITION_MAX:,}")
        if isinstance(token, bool):
            raise InvalidMessage(name, f"{token!r} is no receipt, no answer and no position")
        return token
    try:
        position = token.position
    except AttributeError as error:
        raise InvalidMessage(name, f"{token!r:.80} is no receipt, no answer and no position") from error
    if position is None:
        problem = f"this {type(token).__name__} has no position: take one that execute raised, not a preview's"
        raise InvalidMessage(name, problem)
    return position


class Metadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a caller may tell about a command, kept with it in the log and handed to handlers that ask for it.

    ``actor`` is who asked, ``correlation`` the conversation it belongs to, ``causation`` the message that led to it.
    ``trace`` is where it stands in a distributed trace, as in W3C's ``traceparent``
    (https://www.w3.org/TR/trace-context/), ``extra`` whatever else the application wants kept, by name. All of it as
    JSON has at most `METADATA_BYTES_MAX` bytes.
    """

    actor: str | None = None
    correlation: str | None = None
    causation: str | None = None
    trace: str | None = None
    extra: dict[str, str] | None = None


class Context(msgspec.Struct, frozen=True):
    """What a handler may know besides state and command: ask for it with a second parameter.

    ``now`` is the UTC time that is recorded with the commit; the same for every command of a commit. ``version`` says
    how many events the command's key has before it: 0 if it has none yet, None if the command has no key.
    """

    now: datetime
    command_id: str | None = None
    metadata: Metadata = Metadata()
    version: int | None = None
