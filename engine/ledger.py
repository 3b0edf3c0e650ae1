"""What the writer remembers of commands beside the models' state: each key's version, and recent receipts by id.

Here: one part of the write side's state. Like a model it changes only by what is in the log, so it is replayed and
snapshot as they are. Not here: when it is asked (`deciding`).

Invariant: after any commit, the ledger holds the version of every key, and the receipts of the last ``receipts_max``
commands that had an id; both follow from the log alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from penstock.engine.commit import Stored
from penstock.engine.errors import CommandIdReused, VersionConflict
from penstock.engine.messages import Receipt
from penstock.engine.snapshots import in_pieces, open_piece

__all__ = ["LEDGER", "LEDGER_FINGERPRINT", "Ledger", "Remembered"]

#: What the ledger is called as a part of a snapshot, and the version of its pieces.
LEDGER = "ledger"
LEDGER_FINGERPRINT = "1"

_versions = msgspec.msgpack.Decoder(dict[str, int]).decode


class Remembered(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A receipt as it is remembered: with the digest of the command that it was given for."""

    command_id: str
    payload: str
    commit: int
    position: int
    events: int
    version: int | None

    def receipt(self) -> Receipt:
        """The receipt for a command that was sent again."""
        return Receipt(self.commit, self.position, self.events, self.command_id, self.version, repeated=True)


_remembered = msgspec.msgpack.Decoder(list[Remembered]).decode


class Ledger:
    """Versions by key, and receipts by command id.

    Args:
        receipts_max: how many receipts are kept; the oldest is forgotten first.
    """

    __slots__ = ("_order", "_receipts", "_receipts_max", "versions")

    def __init__(self, receipts_max: int) -> None:
        #: How many events each key has.
        self.versions: dict[str, int] = {}
        self._receipts: dict[str, Remembered] = {}
        self._order: deque[str] = deque()
        self._receipts_max = receipts_max

    @property
    def receipts(self) -> list[Remembered]:
        """What is remembered, oldest first."""
        return list(self._receipts.values())

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

    def require_version(self, key: str, expected: int) -> None:
        """Raise `VersionConflict` unless ``key`` is at version ``expected``."""
        actual = self.versions.get(key, 0)
        if actual != expected:
            raise VersionConflict(key, expected, actual)

    def recall(self, command_id: str, payload: str, command: str) -> Receipt | None:
        """The receipt of a command that was executed under this id; None if none is remembered.

        Raises:
            CommandIdReused: that command had another payload.
        """
        found = self._receipts.get(command_id)
        if found is None:
            return None
        if found.payload != payload:
            raise CommandIdReused(command_id, command, found.commit)
        return found.receipt()

    def remember(self, remembered: Remembered) -> None:
        """Keep a receipt; forgets the oldest one when there are too many."""
        command_id = remembered.command_id
        if command_id not in self._receipts:
            self._order.append(command_id)
        self._receipts[command_id] = remembered
        if len(self._order) > self._receipts_max:
            del self._receipts[self._order.popleft()]

    def replay(self, number: int, position: int, records: Sequence[Stored[Any]]) -> None:
        """Enter a commit that was read from the log.

        Args:
            number: the commit's.
            position: that of the last event before it.
            records: what it holds.
        """
        count = self.count
        for record in records:
            events = len(record.events)
            position += events
            version = count(record.key, record.keys, events)
            if record.id is not None:
                self.remember(Remembered(record.id, record.payload, number, position, events, version))

    def snapshot(self) -> Iterator[bytes]:
        """The ledger in pieces, as a model's state."""
        yield from in_pieces("versions", self.versions)
        yield from in_pieces("receipts", self.receipts)

    def restore(self, piece: bytes) -> None:
        """Take up the next piece.

        Raises:
            msgspec.DecodeError, SnapshotMismatch: it is none of a ledger.
        """
        name, _, data = open_piece(piece)
        if name == "versions":
            self.versions.update(_versions(data))
        else:
            for remembered in _remembered(data):
                self.remember(remembered)
