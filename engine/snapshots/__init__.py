"""States put aside: as pieces, in a store of their own beside the log, so that opening need not replay all of it."""

from millstream.engine.snapshots.drain import drained
from millstream.engine.snapshots.memory import MemorySnapshots
from millstream.engine.snapshots.part import Part, Sealing, Snapshot
from millstream.engine.snapshots.pieces import add_piece, in_pieces, open_piece, pieces_of
from millstream.engine.snapshots.port import SnapshotStore
from millstream.engine.snapshots.shape import fingerprint_of
from millstream.engine.snapshots.sqlite import SqliteSnapshots

__all__ = [
    "MemorySnapshots",
    "Part",
    "Sealing",
    "Snapshot",
    "SnapshotStore",
    "SqliteSnapshots",
    "add_piece",
    "drained",
    "fingerprint_of",
    "in_pieces",
    "open_piece",
    "pieces_of",
]
