"""Which events a snapshot was made from, known by their fields: whether today's classes could read them.

Here: what a fingerprint says of events, and whether two go together. Not here: the state's own shape (`shape`).

A snapshot spares the reading of the events before it. So what it was made from must be what today's classes can read:
else a deployment that is rolled back would open with a snapshot and refuse the log without one. What an event may say
when it was stored is every field of its class then, of the type that it had. Today's class reads that if

    a field of the snapshot's       is one of today's, of the same type, or today's class takes unknown ones
    a required field of today's     is one of the snapshot's

Any other snapshot is set aside, which is always right: the log then says whether it can be read.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

__all__ = ["EventField", "go_together", "told"]

#: Characters of a hash for each part of a word, and of the mark after them.
_PART = 6
_REQUIRED, _OPTIONAL, _TOLERANT, _STRICT = "rots"


class EventField(NamedTuple):
    """A field of an event: its name in the log, its type in words, and whether an event has to have it."""

    name: str
    type: str
    required: bool


def told(events: Iterable[tuple[str, bool, Iterable[EventField]]]) -> str:
    """What a fingerprint says of events: a word for each event, and for each of its fields.

    Args:
        events: each one's tag, whether its class takes unknown fields, and its fields.
    """
    words = []
    for tag, takes_unknown, fields in events:
        words.append(_hash(tag) + (_TOLERANT if takes_unknown else _STRICT))
        words += [
            _hash(tag) + _hash(field.name) + _hash(field.type) + (_REQUIRED if field.required else _OPTIONAL)
            for field in fields
        ]
    return " ".join(sorted(words))


def go_together(then: str, now: str) -> bool:
    """Whether what events could say then can be read now.

    Args:
        then: what `told` gave; empty in a snapshot of 0.1, of which nothing is known.
        now: what it gives today.
    """
    if not then:
        return True
    before, today = _fields(then), _fields(now)
    tolerant = {word[:_PART] for word in now.split() if word[_PART:] == _TOLERANT}
    readable = all(
        today[where][0] == kind if where in today else where[:_PART] in tolerant for where, (kind, _) in before.items()
    )
    return readable and all(where in before for where, (_, mark) in today.items() if mark == _REQUIRED)


def _fields(words: str) -> dict[str, tuple[str, str]]:
    """By the hashes of event and field: that of its type, and its mark."""
    name, kind = 2 * _PART, 3 * _PART
    return {word[:name]: (word[name:kind], word[kind:]) for word in words.split() if len(word) > kind}


def _hash(text: str) -> str:
    return blake2b(text.encode("utf-8", "backslashreplace"), digest_size=_PART // 2).hexdigest()
