"""What the writer remembers of commands beside the models' state: each key's version, and recent receipts by id.

Here: one part of the write side's state. Like a model it is ahead of the log by what is being written, is made anew
after a failure, and is replayed and snapshotted with the models. Not here: when it is asked (`batch`).

Invariant: after any commit, the index holds the version of every key, and the last ``receipts_max`` ids that commands
had, each with its latest receipt, as far as their answers have ``receipts_bytes_max`` bytes together. All follows from
the log and those limits alone: a snapshot that was taken under a smaller limit, and lacks what had to be forgotten for
it, does not fit.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from millstream.engine.application.messages import Receipt
from millstream.engine.application.options import Terms
from millstream.engine.application.promises import Promise
from millstream.engine.commits.commit import Head
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.commits.marks import LEDGER
from millstream.engine.commits.record import Record
from millstream.engine.errors import AnswerUnreadable, CommandIdReused, SnapshotMismatch, VersionConflict
from millstream.engine.limits import Limits
from millstream.engine.snapshots.pieces import in_pieces, open_piece

__all__ = ["WriteIndex"]

_versions = msgspec.msgpack.Decoder(dict[str, int]).decode


class _Kept(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A receipt, the digest of the command that it was given for, that command's actor, and its answer as JSON.

    The receipt is without the answer. The actor is True where it is not known: in a snapshot of 0.1. As a tuple it
    would keep the collector busy.
    """

    payload: str
    receipt: Receipt
    actor: str | bool | None = True
    answer: bytes | None = None


class _Window(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The limits that receipts were remembered under, and what became of some. The last two are younger than 0.1."""

    receipts_max: int
    forgot: int
    receipts_bytes_max: int | None = None
    replaced: int = 0


_window = msgspec.msgpack.Decoder(_Window).decode
_term = msgspec.msgpack.Decoder(tuple[int]).decode
_remembered = msgspec.msgpack.Decoder(list[_Kept]).decode


class WriteIndex:
    """Versions by key, and receipts by command id.

    Args:
        receipts_max: how many receipts are kept; the oldest is forgotten first.
        receipts_bytes_max: how many bytes their answers may have together; the oldest receipt is forgotten first.
        no_agenda: is called with the head of a snapshot from a time when there was no agenda: until there it is empty.
    """

    __slots__ = (
        "_answers_bytes",
        "_forgot",
        "_knew_agenda",
        "_no_agenda",
        "_order",
        "_receipts_bytes_max",
        "_receipts_max",
        "_replaced",
        "head",
        "kept",
        "term",
        "versions",
    )

    name = LEDGER
    #: The version of its pieces.
    fingerprint = "1"
    has_past: ClassVar = False
    fault = None
    is_sound = True

    def __init__(
        self,
        receipts_max: int,
        no_agenda: Callable[[Head], None] | None = None,
        *,
        receipts_bytes_max: int = Limits().receipts_bytes_max,
    ) -> None:
        self._receipts_max = receipts_max
        self._receipts_bytes_max = receipts_bytes_max
        self._no_agenda = no_agenda
        self.reset()

    def reset(self) -> None:
        """Be new again."""
        #: The last commit that is in it, as far as `steps` and `restored` know.
        self.head = Head()
        #: How many openings have written.
        self.term = 0
        #: How many events each key has.
        self.versions: dict[str, int] = {}
        #: By id, what was executed under it.
        self.kept: dict[str, _Kept] = {}
        #: The same ids, oldest first. A dict would look for its first entry behind all those that were deleted before
        #: it: 20 µs among 50,000. An OrderedDict takes 0.3 µs more for each command than these two.
        self._order: deque[str] = deque()
        self._answers_bytes = 0
        self._forgot = False
        #: An answer was replaced by that of the same id, so that there were more bytes once than are known.
        self._replaced = False
        self._knew_agenda = False

    @property
    def state(self) -> WriteIndex:
        """It is its own state."""
        return self

    @property
    def receipts(self) -> list[tuple[str, Receipt]]:
        """What is remembered, oldest first: the digest of the command, and its receipt."""
        return [(kept.payload, kept.receipt) for kept in self.kept.values()]

    def count(self, key: str | None, keys: Sequence[str | None] | None, events: int) -> int | None:
        """Count a command's events to their keys; returns the version of the command's own key.

        Args:
            key: the command's.
            keys: those of its events, or None when all have the command's.
            events: how many there are.
        """
        versions = self.versions
        if keys is None:
            if key is None:
                return None
            version = versions.get(key, 0) + events
            if events:
                versions[key] = version
            return version
        for each in keys:
            if each is not None:
                versions[each] = versions.get(each, 0) + 1
        return None if key is None else versions.get(key, 0)

    def look_back(self, terms: Terms, command: str, key: str | None, promise: Promise | None = None) -> Receipt | None:
        """The receipt of a command that was executed under this id before; else None, if the version is as expected.

        Raises:
            CommandIdReused: the id belongs to another command, or to another actor's.
            VersionConflict: the key is at another version.
            AnswerUnreadable: what was answered then, or that nothing was, is none of what is promised today.
        """
        if terms.command_id is not None and (found := self.kept.get(terms.command_id)) is not None:
            if found.payload != terms.payload or found.actor not in (True, terms.actor):
                raise CommandIdReused(terms.command_id, command, found.receipt.commit)
            return _again(found, command, promise)
        if terms.expected_version is not None and key is not None:
            actual = self.versions.get(key, 0)
            if actual != terms.expected_version:
                raise VersionConflict(key, terms.expected_version, actual)
        return None

    def remember(
        self,
        command_id: str,
        payload: str,
        receipt: Receipt,
        actor: str | bool | None,
        answer: bytes | None = None,
    ) -> None:
        """Keep the receipt of a command with an id as the latest one; forgets the oldest when there are too many.

        Args:
            command_id: the command's id.
            payload: the digest of the command.
            receipt: what it was given.
            actor: who asked; True if that is not known.
            answer: what it answered, as JSON, if it did.
        """
        receipts, order = self.kept, self._order
        before = len(receipts)
        kept = receipts.setdefault(command_id, made := _Kept(payload, receipt, actor, answer))
        if len(receipts) == before:  # it had been forgotten when the command came again, under a smaller limit
            del receipts[command_id]
            receipts[command_id] = made
            order.remove(command_id)
            self._answers_bytes -= len(kept.answer or b"")
            self._replaced |= kept.answer is not None
        order.append(command_id)
        if answer is not None:
            self._answers_bytes += len(answer)
        while len(order) > self._receipts_max or self._answers_bytes > self._receipts_bytes_max:
            forgotten = receipts.pop(order.popleft())
            if forgotten.answer is not None:
                self._answers_bytes -= len(forgotten.answer)
            self._forgot = True

    def steps(self, decoded: DecodedCommit) -> Iterable[None]:
        """Enter the commit that follows, which was read from the log, in one step."""
        number, position = decoded.head.number, decoded.start
        if number <= self.head.number:
            return ()
        body = decoded.body
        if body is None:
            raise RuntimeError(f"commit {number:,} was not read from the log")
        if body.tenure is not None:
            self.term = body.tenure.term
        if body.has_ids:
            caller, parked = None, 0
            for record in body.records():
                if record.origin is None or record.origin.event is None:
                    self._finish(caller, number, parked)
                    caller, parked = (None, 0) if record.id is None else ((record, position + len(record.events)), 0)
                position += len(record.events)
                parked += record.parked
                self.count(record.key, record.keys, len(record.events))
            self._finish(caller, number, parked)
        else:  # one call for all, at a tenth of the time
            Counter.update(self.versions, body.event_keys())  # type: ignore[call-overload]
            self.versions.pop(None, None)  # type: ignore[call-overload]
        self.head = decoded.head
        return ()

    def _finish(self, caller: tuple[Record[Any], int] | None, commit: int, parked: int) -> None:
        """Keep the receipt of a command with an id, when all that followed from it was counted.

        Args:
            caller: the command, and the position of its last event; None for one without an id.
            commit: that it is in.
            parked: how many reactions failed.
        """
        if caller is None:
            return
        record, position = caller
        version = None if record.key is None else self.versions.get(record.key, 0)
        receipt: Receipt = Receipt(commit, position, len(record.events), record.id, version, False, parked)
        self.remember(str(record.id), record.payload or "", receipt, record.actor, record.answer)

    def snapshot(self) -> Iterator[bytes]:
        """The index in pieces, as a model's state."""
        yield from in_pieces(
            "window", [self._receipts_max, int(self._forgot), self._receipts_bytes_max, int(self._replaced)]
        )
        yield from in_pieces("term", [self.term])
        yield from in_pieces("agenda", [True])
        yield from in_pieces("versions", self.versions)
        yield from in_pieces("receipts", list(self.kept.values()))

    def restore(self, piece: bytes) -> None:
        """Take up the next piece.

        Raises:
            msgspec.DecodeError, SnapshotMismatch: it is none of an index, or lacks receipts that are to be remembered.
        """
        name, _, data = open_piece(piece)
        if name == "versions":
            self.versions.update(_versions(data))
        elif name == "receipts":
            for kept in _remembered(data):
                self.remember(str(kept.receipt.command_id), kept.payload, kept.receipt, kept.actor, kept.answer)
        elif name == "term":
            (self.term,) = _term(data)
        elif name == "agenda":
            self._knew_agenda = True
        elif name == "window":
            self._fit(_window(data))
        else:
            raise SnapshotMismatch(LEDGER, f"it has no part {name!r}")

    def restored(self, head: Head, _: bytes) -> None:
        """All pieces were taken up."""
        self.head = head
        if not self._knew_agenda and self._no_agenda is not None:
            self._no_agenda(head)

    def notes(self) -> bytes:
        """None."""
        return b""

    def _fit(self, window: _Window) -> None:
        """See that what is missing is not to be remembered. Where no answers were known, none were kept.

        Where an answer was replaced, a smaller limit might have been met before that, and no more is known of it.
        """
        receipts_max, forgot, bytes_max, replaced = msgspec.structs.astuple(window)
        if forgot and receipts_max < self._receipts_max:
            raise SnapshotMismatch(
                LEDGER, f"it was taken with receipts_max={receipts_max:,}, which is {self._receipts_max:,} now"
            )
        now = self._receipts_bytes_max
        if bytes_max is not None and ((forgot and bytes_max < now) or (replaced and bytes_max != now)):
            raise SnapshotMismatch(LEDGER, f"it was taken with receipts_bytes_max={bytes_max:,}, which is {now:,} now")
        self._forgot, self._replaced = bool(forgot), bool(replaced)


def _again(found: _Kept, command: str, promise: Promise | None) -> Receipt:
    """The receipt of a command that comes again, with the answer as its class promises it today.

    Raises:
        AnswerUnreadable: it is none of that type.
    """
    receipt = replace(found.receipt, repeated=True)
    if promise is None:
        return receipt
    try:
        answer = promise.reread(found.answer)
    except msgspec.DecodeError as error:
        problem = str(error) if found.answer is not None else "there was none then"
        raise AnswerUnreadable(command, problem, receipt) from error
    return replace(receipt, answer=answer)
