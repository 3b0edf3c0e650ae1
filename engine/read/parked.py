"""What a view has left out: events that it could not apply, and those that wait behind them.

Here: keeping them, trying them again, and noting them beside a snapshot. Not here: what a view does about an event that
it can't apply (`state`).

Invariant: events of one key are kept in their order, and one that fails holds up those of its key behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import msgspec

from millstream.engine.application.about import About
from millstream.engine.application.interrupts import INTERRUPTS
from millstream.engine.application.messages import Event
from millstream.engine.application.validation import encode
from millstream.engine.errors.said import said_by

__all__ = ["LeftOut", "Parked", "text_of"]

#: How much is kept of what an error says of itself.
_CAUSE_CHARS_MAX = 1_000


class Parked(msgspec.Struct, frozen=True):
    """An event that a view could not apply, or one that waits behind such a one.

    ``position`` is that of the stored event, which several of today's may come from. ``cause`` is what the view raised,
    empty for one that only waits; ``code_version`` that of the view then. ``about`` is what the log says about it.
    """

    view: str
    position: int
    key: str | None
    event: Event
    cause: str
    code_version: int
    about: About


class _Note(msgspec.Struct, array_like=True):
    """A parked event as a snapshot holds it."""

    position: int
    event: msgspec.Raw
    cause: str
    code_version: int
    about: About


class _Notes(msgspec.Struct, array_like=True):
    skipped: int
    parked: list[_Note]


_read_notes = msgspec.json.Decoder(_Notes).decode


class LeftOut:
    """What one view has left out. False if that is nothing."""

    __slots__ = ("count", "parked", "skipped")

    def __init__(self) -> None:
        #: By key, in order; under None what has no key.
        self.parked: dict[str | None, list[Parked]] = {}
        #: How many are parked.
        self.count = 0
        #: How many were skipped.
        self.skipped = 0

    def __bool__(self) -> bool:
        return bool(self.parked or self.skipped)

    def __iter__(self) -> Iterator[Parked]:
        """What is parked, key by key."""
        return chain.from_iterable(self.parked.values())

    def park(self, parked: Parked) -> None:
        """Keep an event behind the others of its key."""
        self.parked.setdefault(parked.key, []).append(parked)
        self.count += 1

    def skip(self, position: int) -> int:
        """Leave out for good what is parked of the event at a position; returns how many that were: a retired one may
        mean several. Those that waited behind it can be tried again.
        """
        before = self.count
        for key, waiting in list(self.parked.items()):
            left = [each for each in waiting if each.position != position]
            self.count -= len(waiting) - len(left)
            if left:
                self.parked[key] = left
            else:
                del self.parked[key]
        self.skipped += before - self.count
        return before - self.count

    def try_again(self, apply: Callable[[Parked], object], code_version: int) -> int:
        """Apply what is parked, key by key, in order; returns how many events were applied.

        An event that fails again stays, with what was raised this time, and so does what waits behind it.
        """
        before = self.count
        for key, waiting in list(self.parked.items()):
            left = _tried_again(waiting, apply, code_version, in_order=key is not None)
            self.count -= len(waiting) - len(left)
            if left:
                self.parked[key] = left
            else:
                del self.parked[key]
        return before - self.count

    def notes(self) -> bytes:
        """All of it, for a snapshot; empty if that is nothing."""
        if not self:
            return b""
        parked = sorted(self, key=lambda each: each.position)
        notes = [_Note(p.position, msgspec.Raw(encode(p.event)), p.cause, p.code_version, p.about) for p in parked]
        return encode(_Notes(self.skipped, notes))

    @classmethod
    def noted(
        cls, notes: bytes, view: str, read: Callable[[bytes], Event], key_of: Callable[[Event], str | None]
    ) -> LeftOut:
        """What a snapshot has noted.

        Args:
            notes: what `notes` gave.
            view: the name of the view.
            read: decodes an event.
            key_of: says an event's key.

        Raises:
            msgspec.DecodeError: the notes are none, or hold an event that can't be read any more.
        """
        left_out = cls()
        if notes:
            found = _read_notes(notes)
            left_out.skipped = found.skipped
            for note in found.parked:
                event = read(bytes(note.event))
                _, __, cause, code_version, about = msgspec.structs.astuple(note)
                left_out.park(Parked(view, note.position, key_of(event), event, cause, code_version, about))
        return left_out


def _tried_again(
    waiting: Sequence[Parked], apply: Callable[[Parked], object], code_version: int, *, in_order: bool
) -> list[Parked]:
    left: list[Parked] = []
    for parked in waiting:
        if left and in_order:
            left.append(parked)
            continue
        try:
            apply(parked)
        except INTERRUPTS:
            raise
        except BaseException as error:  # noqa: BLE001 - it stays parked, with what it raised this time
            left.append(msgspec.structs.replace(parked, cause=text_of(error), code_version=code_version))
    return left


def text_of(error: BaseException) -> str:
    """What an error says of itself, as text that can be written down."""
    return said_by(error)[:_CAUSE_CHARS_MAX].encode("utf-8", "backslashreplace").decode()
