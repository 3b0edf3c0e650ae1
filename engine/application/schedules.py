"""What a handler or a reaction yields beside its messages: a command that is due later, and calling one off.

Here: the two values, and what is wrong with one by itself. Not here: when it is due in a commit (`write.timing`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from msgspec import UNSET, UnsetType

from millstream.engine.application.messages import Command
from millstream.engine.errors import InvalidMessage

__all__ = ["NAME_CHARS_MAX", "Schedule", "Timing", "Unschedule"]

#: How long a timer's name may be.
NAME_CHARS_MAX = 200
_ZERO = timedelta()


@dataclass(frozen=True, slots=True)
class Schedule:
    """Send a command later: ``yield Schedule(Release(…), after=timedelta(minutes=10), name="hold/o7")``.

    The timer is set when what yields it is durable, and in the same commit. When it is due its command is decided like
    a caller's, with the actor, correlation, trace and extra of the command that led to the timer; that strikes it.
    It is never sent early, and after a time in which no process had the log open it is sent at the opening.

    Args:
        command: one of the application's. It may be late: what it is about may have changed since it was set.
        after: how long after now; ``timedelta(0)`` is the next commit.
        at: or when, as an aware datetime. One that is past is due at once.
        name: tells it from others with the same key. One that is set again under its name replaces the earlier one.
            By default it has a name of its own, and can't be called off.
        key: what its name belongs to: by default the key of the command that is decided, or of the event that is
            reacted to. None: to no key.

    Raises:
        InvalidMessage: not one of ``after`` and ``at`` is given, or one is none; the name is empty or too long.
    """

    command: Command[Any]
    after: timedelta | None = field(default=None, kw_only=True)
    at: datetime | None = field(default=None, kw_only=True)
    name: str | None = field(default=None, kw_only=True)
    key: str | UnsetType | None = field(default=UNSET, kw_only=True)

    def __post_init__(self) -> None:
        if (self.after is None) == (self.at is None):
            raise InvalidMessage("Schedule", "it says when: either after= or at=")
        after: object = self.after
        if after is not None and not (isinstance(after, timedelta) and after >= _ZERO):
            raise InvalidMessage("Schedule", f"after= is a timedelta of 0 or more, not {self.after!r:.80}")
        at: object = self.at
        if at is not None and not (isinstance(at, datetime) and at.utcoffset() is not None):
            raise InvalidMessage("Schedule", f"at= is an aware datetime, not {self.at!r:.80}")
        _require_name("Schedule", self.name, self.key)


@dataclass(frozen=True, slots=True)
class Unschedule:
    """Call a timer off: ``yield Unschedule("hold/o7")``. One that is not there, or was sent already, is none.

    Args:
        name: the timer's.
        key: what the name belongs to, as for `Schedule`.

    Raises:
        InvalidMessage: the name is empty or too long.
    """

    name: str
    key: str | UnsetType | None = field(default=UNSET, kw_only=True)

    def __post_init__(self) -> None:
        if self.name is None:
            raise InvalidMessage("Unschedule", "it names the timer")
        _require_name("Unschedule", self.name, self.key)


#: Either of them.
Timing: TypeAlias = Schedule | Unschedule


def _require_name(what: str, name: object, key: object) -> None:
    if name is not None and not (isinstance(name, str) and 0 < len(name) <= NAME_CHARS_MAX):
        raise InvalidMessage(what, f"a timer's name is a text of 1 to {NAME_CHARS_MAX} characters, not {name!r:.80}")
    if key is not UNSET and key is not None and not (isinstance(key, str) and key):
        raise InvalidMessage(what, f"a key is a text, or None, not {key!r:.80}")
    for text in (name, key):
        if isinstance(text, str) and ("\0" in text or not _is_unicode(text)):
            raise InvalidMessage(what, f"{text!r:.80} has a NUL, or half of a character")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
