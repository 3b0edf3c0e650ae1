"""What the engine owes: reactions that are to be decided, and those that failed and wait for somebody.

Here: one part of the write side's state. Like the index it is ahead of the log by what is being written, is made anew
after a failure, and is replayed and snapshotted with the models. Not here: deciding what is owed (`cascade`).

Invariant: the agenda follows from what commits say of it alone. So it can be told of a log without its application.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from millstream.engine.application.messages import Metadata
from millstream.engine.commits.commit import Head
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.commits.marks import AGENDA_PART
from millstream.engine.commits.record import Body, Failed, Record, Settled
from millstream.engine.errors import NotOnAgenda, SnapshotMismatch
from millstream.engine.snapshots.pieces import in_pieces, open_piece

__all__ = ["Agenda", "Entry", "Name", "Settlement"]

#: What tells an entry from others: the position of its event, and the reaction's name.
Name = tuple[int, str]


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A reaction to one event that is owed, or that failed and is parked.

    ``position`` is that of the event, ``by`` the reaction's name, ``event`` the event's JSON as it is stored, and
    ``metadata`` that of the command which led to it all. Of a parked one ``error`` is the type of what went wrong,
    ``text`` what that said, and ``decided`` how many commands of the reaction had been decided before: they stand.
    """

    position: int
    by: str
    event: str
    metadata: Metadata = Metadata()
    error: str = ""
    text: str = ""
    decided: int = 0

    @property
    def name(self) -> Name:
        """What tells it from others."""
        return self.position, self.by

    @property
    def is_parked(self) -> bool:
        """Whether it waits for somebody; else it is owed, and decided next."""
        return bool(self.error)


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """What somebody wants to become of an entry, on its way to the writer as a command: ``retried`` or ``dropped``."""

    position: int
    by: str
    how: str
    again: bool = False


_entries = msgspec.msgpack.Decoder(list[Entry]).decode


class Agenda:
    """What is owed, in the order in which it is decided; and what is parked, by name."""

    __slots__ = ("head", "owed", "parked")

    name = AGENDA_PART
    #: The version of its pieces.
    fingerprint = "1"
    fault = None
    is_sound = True

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Be new again."""
        #: The last commit that is in it, as far as `steps` and `restored` know.
        self.head = Head()
        self.owed: dict[Name, Entry] = {}
        self.parked: dict[Name, Entry] = {}

    def begin(self, head: Head) -> None:
        """Until there no commit has anything for it, if it has no snapshot that says more."""
        if not self.head.number:
            self.head = head

    def __len__(self) -> int:
        return len(self.owed) + len(self.parked)

    @property
    def state(self) -> Agenda:
        """It is its own state."""
        return self

    def enter(self, entry: Entry) -> None:
        """One more, or one that is there already and failed since."""
        self.owed.pop(entry.name, None)
        self.parked.pop(entry.name, None)
        (self.parked if entry.is_parked else self.owed)[entry.name] = entry

    def __iter__(self) -> Iterator[Entry]:
        yield from self.owed.values()
        yield from self.parked.values()

    def find(self, name: Name) -> Entry:
        """An entry.

        Raises:
            NotOnAgenda: there is none of that name.
        """
        entry = self.owed.get(name) or self.parked.get(name)
        if entry is None:
            raise NotOnAgenda(*name, len(self))
        return entry

    def settle(self, settled: Settled) -> None:
        """What became of one. One that is not there any more is passed over."""
        name = settled.reaction, settled.by
        entry = self.owed.pop(name, None) or self.parked.pop(name, None)
        if entry is None:
            return
        if settled.how == "retried":
            self.enter(msgspec.structs.replace(entry, error="", text=""))
        elif settled.how == "parked":
            self.enter(msgspec.structs.replace(entry, error="Parked", text="somebody parked it"))

    def steps(self, decoded: DecodedCommit) -> Iterable[None]:
        """Enter the commit that follows, which was read from the log, in one step."""
        if decoded.head.number <= self.head.number:
            return ()
        body = decoded.body
        if body is None:
            raise RuntimeError(f"commit {decoded.head.number:,} was not read from the log")
        self.follow(body, decoded.start)
        self.head = decoded.head
        return ()

    def follow(self, body: Body[object], start: int) -> None:
        """Enter what a commit says.

        Args:
            body: the commit's.
            start: the position before its first event.
        """
        for settled in body.settled:
            self.settle(settled)
        if not (body.failed or body.owed):
            return
        told = list(_metadata_by_event(body.records()))
        for failed in body.failed:
            if (entry := self._failed(failed, body, start, told)) is not None:
                self.enter(entry)
        for owed in body.owed:
            position = start + 1 + owed.event
            self.enter(Entry(position, owed.by, body.event_text(owed.event), told[owed.event]))

    def _failed(self, failed: Failed, body: Body[object], start: int, told: list[Metadata]) -> Entry | None:
        """The entry of one that has failed; None if it had been owed or parked, and is not there any more."""
        outcome = {"error": failed.error, "text": failed.text, "decided": failed.decided}
        if failed.event is not None:
            event, metadata = body.event_text(failed.event), told[failed.event]
            return Entry(start + 1 + failed.event, failed.by, event, metadata, **outcome)  # type: ignore[arg-type]
        name = (failed.at or 0), failed.by
        known = self.owed.get(name) or self.parked.get(name)
        return None if known is None else msgspec.structs.replace(known, **outcome)

    def snapshot(self) -> Iterator[bytes]:
        """The agenda in pieces, as a model's state."""
        yield from in_pieces("owed", list(self.owed.values()))
        yield from in_pieces("parked", list(self.parked.values()))

    def notes(self) -> bytes:
        """None."""
        return b""

    def restore(self, piece: bytes) -> None:
        """Take up the next piece.

        Raises:
            msgspec.DecodeError, SnapshotMismatch: it is none of an agenda.
        """
        name, _, data = open_piece(piece)
        if name not in ("owed", "parked"):
            raise SnapshotMismatch(AGENDA_PART, f"it has no part {name!r}")
        for entry in _entries(data):
            self.enter(entry)

    def restored(self, head: Head, _: bytes) -> None:
        """All pieces were taken up."""
        self.head = head

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Agenda)
            and list(self.owed.values()) == list(other.owed.values())
            and (self.parked == other.parked)
        )

    __hash__ = None  # type: ignore[assignment]


def _metadata_by_event(records: Iterable[Record[object]]) -> Iterator[Metadata]:
    """For each event what its command carries on to what follows from it: all but its own causation."""
    for record in records:
        metadata = Metadata(record.actor, record.correlation, None, record.trace, record.extra)
        for _ in record.events:
            yield metadata
