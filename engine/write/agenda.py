"""What the engine owes: reactions that are to be decided, timers, effects, and what has failed and is parked.

Here: one part of the write side's state. Like the index it is ahead of the log by what is being written, is made anew
after a failure, and is replayed and snapshotted with the models. Not here: deciding what is owed or due (`cascade`),
when a timer is due (`timetable`), and performing an effect (`outside`).

Invariant: the agenda follows from what commits say of it alone. So it can be read from a log without its application.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import msgspec
from msgspec import UNSET

from millstream.engine.application.app import tag_in
from millstream.engine.application.messages import Metadata
from millstream.engine.commits.commit import Head
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.commits.marks import AGENDA_PART
from millstream.engine.commits.record import Body, Failed, Record, Settled, Timed
from millstream.engine.errors import NotOnAgenda, SnapshotMismatch
from millstream.engine.snapshots.pieces import in_pieces, open_piece
from millstream.engine.write.entries import AgendaEntry, Effect, Entry, Name, Outcome, Timer, id_of, outcome_name

__all__ = ["Agenda"]

#: What a snapshot's pieces hold, by name.
_PIECES: Mapping[str, Callable[[bytes | memoryview], Sequence[AgendaEntry]]] = {
    "owed": msgspec.msgpack.Decoder(list[Entry]).decode,
    "parked": msgspec.msgpack.Decoder(list[Entry]).decode,
    "timers": msgspec.msgpack.Decoder(list[Timer]).decode,
    "parked timers": msgspec.msgpack.Decoder(list[Timer]).decode,
    "effects": msgspec.msgpack.Decoder(list[Effect]).decode,
    "parked effects": msgspec.msgpack.Decoder(list[Effect]).decode,
    "outcomes": msgspec.msgpack.Decoder(list[Outcome]).decode,
}
#: How many bytes of a commit's digest go into the id of an attempt.
_DIGEST_BYTES = 8


class Agenda:
    """What is owed, in the order in which it is decided; timers, in the order in which they were set; effects, in the
    order in which they came to be owed; and what is parked, by name.
    """

    __slots__ = ("effects", "head", "news", "owed", "parked", "timers")

    name = AGENDA_PART
    #: The version of its pieces.
    fingerprint = "1"
    has_past: ClassVar = False
    fault = None
    is_sound = True

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Be new again."""
        #: The last commit that is in it, as far as `steps` and `restored` know.
        self.head = Head()
        self.owed: dict[Name, Entry] = {}
        self.timers: dict[Name, Timer] = {}
        self.effects: dict[Name, Effect] = {}
        #: For the runner of effects, if there is one: by number of commit, what came to be owed in it, or was parked of
        #: an effect and is not any more. The runner waits until that commit is durable.
        self.news: deque[tuple[int, Name]] | None = None
        self.parked: dict[Name, AgendaEntry] = {}

    def begin(self, head: Head) -> None:
        """Until there no commit has anything for it, if it has no snapshot that says more."""
        if not self.head.number:
            self.head = head

    def __len__(self) -> int:
        return len(self.owed) + len(self.timers) + len(self.effects) + len(self.parked)

    @property
    def unsettled(self) -> int:
        """How many reactions are owed, and how many of all kinds are parked."""
        return len(self.owed) + len(self.parked)

    @property
    def state(self) -> Agenda:
        """It is its own state."""
        return self

    def enter(self, entry: AgendaEntry) -> None:
        """One more, or one that is there already and failed since. A timer takes the place of one of its name."""
        name = entry.name
        self.strike(name)
        if entry.is_parked:
            self.parked[name] = entry
        elif isinstance(entry, Timer):
            self.timers[name] = entry
        elif isinstance(entry, Effect):
            self.effects[name] = entry
        elif isinstance(entry, Entry):
            self.owed[name] = entry

    def owe(self, effect: Effect) -> None:
        """One more effect, which is new."""
        name = effect.name
        self.effects[name] = effect
        if self.news is not None:
            self.news.append((effect.commit, name))

    @staticmethod
    def seal(effects: Iterable[Effect], digest: bytes) -> None:
        """The commit that holds the events of these effects has its digest."""
        text = digest[:_DIGEST_BYTES].hex()
        for effect in effects:
            effect.digest = text

    def strike(self, name: Name) -> AgendaEntry | None:
        """Take one off. Returns it; None if it is not there."""
        return (
            self.owed.pop(name, None)
            or self.timers.pop(name, None)
            or self.effects.pop(name, None)
            or self.parked.pop(name, None)
        )

    def __iter__(self) -> Iterator[AgendaEntry]:
        yield from self.owed.values()
        yield from self.timers.values()
        yield from self.effects.values()
        yield from self.parked.values()

    def get(self, name: Name) -> AgendaEntry | None:
        """An entry; None if there is none of that name."""
        return self.owed.get(name) or self.timers.get(name) or self.effects.get(name) or self.parked.get(name)

    def find(self, name: Name) -> AgendaEntry:
        """An entry.

        Raises:
            NotOnAgenda: there is none of that name.
        """
        entry = self.get(name)
        if entry is None:
            raise NotOnAgenda(id_of(name), len(self))
        return entry

    def let_go(self, name: Name, number: int) -> None:
        """What was parked of an effect is so no more, in the commit of that number: those behind it may go on."""
        if self.news is not None:
            self.news.append((number, name))

    def settle(self, settled: Settled, number: int) -> None:
        """What became of one, in the commit of that number. One that is not there any more is passed over."""
        entry = self.strike(_name_in(settled))
        if entry is None:
            return
        if entry.is_parked and isinstance(entry, Effect | Outcome):
            self.let_go(entry.name, number)
        if settled.how == "retried":
            again = msgspec.structs.replace(entry, error="", text="")
            if isinstance(again, Effect):
                again.commit, again.attempts = number, 0
            self.enter(again)
        elif settled.how == "parked" and entry.is_parked:
            self.enter(entry)  # it keeps what went wrong
        elif settled.how == "parked":
            self.enter(msgspec.structs.replace(entry, error="Parked", text="parked by request"))

    def steps(self, decoded: DecodedCommit) -> Iterable[None]:
        """Enter the commit that follows, which was read from the log, in one step."""
        if decoded.head.number <= self.head.number:
            return ()
        body = decoded.body
        if body is None:
            raise RuntimeError(f"commit {decoded.head.number:,} was not read from the log")
        self.follow(body, decoded.start, decoded.head)
        self.head = decoded.head
        return ()

    def follow(self, body: Body[object], start: int, head: Head) -> None:
        """Enter what a commit says.

        What was due, or owed, was there before the commit: it is struck first. What the commit sets takes its place.

        Args:
            body: the commit's.
            start: the position before its first event.
            head: the log's head with it.
        """
        number = head.number
        tells = body.failed or body.owed or body.timers or body.fired or body.owes
        if not (body.settled or tells):
            return
        told = _Told(body) if tells else None
        earlier = [None if timed.at is None else self._told_at(timed) for timed in body.timers]
        performed = [self._performed(failed) for failed in body.failed]
        for settled in body.settled:
            self.settle(settled, number)
        if told is None:
            return
        for fired in body.fired:
            scope = told.records[fired.command].key if fired.scope is UNSET else fired.scope
            self.strike((scope, str(fired.timer)))
        for failed, effect in zip(body.failed, performed, strict=True):
            if (entry := self._failed(failed, body, start, told, effect)) is not None:
                self.enter(entry)
        for owed in body.owed:
            position = start + 1 + owed.event
            self.enter(Entry(position, owed.by, body.event_text(owed.event), told.by_event[owed.event]))
        for timed, metadata in zip(body.timers, earlier, strict=True):
            self._time(timed, told, metadata, number)
        if body.owes:
            self._owe(body, start, head, told)

    def _owe(self, body: Body[object], start: int, head: Head, told: _Told) -> None:
        owing = []
        for index, (text, key) in enumerate(zip(body.event_texts(), body.event_keys(), strict=True)):
            for by in body.owes.get(tag_in(text.encode()), ()):
                metadata = told.by_event[index]
                owing.append(Effect(start + 1 + index, by, text, key, head.number, index, metadata=metadata))
                self.owe(owing[-1])
        self.seal(owing, head.digest)

    def _performed(self, failed: Failed) -> AgendaEntry | None:
        """What led to commands that are parked: the effect, which the same commit strikes; or they were before."""
        if not failed.what or failed.effect is None:
            return None
        return self.get((failed.effect, failed.by, "effect")) or self.get(outcome_name(failed.effect, failed.by))

    def _told_at(self, timed: Timed) -> Metadata:
        """What led to a reaction that was owed before the commit in which it sets a timer."""
        entry = self.get((timed.at, timed.by))
        return Metadata() if entry is None else entry.metadata

    def _time(self, timed: Timed, told: _Told, metadata: Metadata | None, number: int) -> None:
        scope = timed.scope
        if scope is UNSET:
            scope = None if timed.command is None else told.records[timed.command].key
        if timed.cancelled is not None:
            self.strike((scope, timed.cancelled))
            return
        if metadata is None:
            metadata = told.by_event[timed.event] if timed.event is not None else told.by_command[timed.command or 0]
        command = bytes(timed.what).decode()
        self.enter(Timer(str(timed.set), scope, str(timed.due), command, number, metadata))

    def _failed(
        self, failed: Failed, body: Body[object], start: int, told: _Told, effect: AgendaEntry | None
    ) -> AgendaEntry | None:
        """The entry of one that has failed; None if it had been on the agenda, and is not there any more."""
        if failed.event is not None:
            event, metadata = body.event_text(failed.event), told.by_event[failed.event]
            position = start + 1 + failed.event
            return Entry(position, failed.by, event, metadata, failed.error, failed.text, failed.decided)
        if failed.effect is not None and failed.what:
            if not isinstance(effect, Effect | Outcome):
                return None
            what = tuple(bytes(each).decode() for each in failed.what)
            return Outcome(failed.effect, failed.by, what, effect.key, effect.metadata, failed.error, failed.text)
        known = self.get(_failed_name(failed))
        if isinstance(known, Entry):
            return msgspec.structs.replace(known, error=failed.error, text=failed.text, decided=failed.decided)
        if isinstance(known, Effect):
            return msgspec.structs.replace(known, error=failed.error, text=failed.text, attempts=failed.attempts)
        return None if known is None else msgspec.structs.replace(known, error=failed.error, text=failed.text)

    def snapshot(self) -> Iterator[bytes]:
        """The agenda in pieces, as a model's state."""
        parked = self.parked.values()
        yield from in_pieces("owed", list(self.owed.values()))
        yield from in_pieces("parked", [each for each in parked if isinstance(each, Entry)])
        yield from in_pieces("timers", list(self.timers.values()))
        yield from in_pieces("parked timers", [each for each in parked if isinstance(each, Timer)])
        if self.effects or any(isinstance(each, Effect | Outcome) for each in parked):  # others need not know of them
            yield from in_pieces("effects", list(self.effects.values()))
            yield from in_pieces("parked effects", [each for each in parked if isinstance(each, Effect)])
            yield from in_pieces("outcomes", [each for each in parked if isinstance(each, Outcome)])

    def notes(self) -> bytes:
        """None."""
        return b""

    def restore(self, piece: bytes) -> None:
        """Take up the next piece.

        Raises:
            msgspec.DecodeError, SnapshotMismatch: it is none of an agenda.
        """
        name, _, data = open_piece(piece)
        if name not in _PIECES:
            raise SnapshotMismatch(AGENDA_PART, f"it has no part {name!r}")
        for entry in _PIECES[name](data):
            self.enter(entry)

    def restored(self, head: Head, _: bytes) -> None:
        """All pieces were taken up."""
        self.head = head

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Agenda)
            and list(self.owed.values()) == list(other.owed.values())
            and list(self.timers.values()) == list(other.timers.values())
            and list(self.effects.values()) == list(other.effects.values())
            and self.parked == other.parked
        )

    __hash__ = None  # type: ignore[assignment]


def _name_in(settled: Settled) -> Name:
    if settled.effect is not None:
        return settled.effect, settled.by, "effect"
    if settled.outcome is not None:
        return outcome_name(settled.outcome, settled.by)
    return (settled.reaction, settled.by) if settled.timer is None else (settled.scope, settled.timer)


def _failed_name(failed: Failed) -> Name:
    if failed.effect is not None:
        return failed.effect, failed.by, "effect"
    return (failed.at or 0, failed.by) if failed.timer is None else (failed.scope, failed.timer)


class _Told:
    """What the callers of a commit's commands gave with them: what it carries on to whatever follows from each."""

    def __init__(self, body: Body[object]) -> None:
        self.records: list[Record[object]] = list(body.records())
        #: All but their own causation.
        self.by_command = [
            Metadata(record.actor, record.correlation, None, record.trace, record.extra) for record in self.records
        ]
        self.by_event = [
            told for record, told in zip(self.records, self.by_command, strict=True) for _ in record.events
        ]
