"""How far a WAL file is written, read from its bytes, and how such a file is torn.

The format: a header of 32 bytes, then frames, each a header of 24 bytes and a page; a frame whose header names the size
of the database ends a transaction; frames with other salts than the file's header are left from before the file was
last begun anew (https://www.sqlite.org/fileformat2.html#walformat). Checksums are not computed here: the last
transaction may not be whole, which makes what `lost_transactions` counts too many, never too few.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import StrEnum
from random import Random

import msgspec

__all__ = ["HEADER_BYTES", "Damage", "Tear", "lost_transactions", "torn", "transactions"]

HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_MAGIC = (0x377F0682, 0x377F0683)


class Damage(StrEnum):
    """What becomes of everything from a byte on."""

    CUT = "cut off"
    ZEROED = "zeroed"
    GARBAGE = "garbage"


class Tear(msgspec.Struct, frozen=True):
    """How a WAL is to be torn.

    ``share`` says where: between the file's begin (0) and the end of its last transaction (1), or, if ``late``, between
    the end of the last transaction but two and the end of the file. ``snapshots_too``: tear that of the snapshots as
    well; else they may be ahead of what is left of the log.
    """

    damage: Damage
    share: float
    late: bool
    snapshots_too: bool = False

    def place(self, ends: Sequence[int], size: int) -> int:
        """The first byte that is damaged, in a WAL of ``size`` bytes whose transactions end where ``ends`` says."""
        first, last = (ends[-3] if len(ends) > 2 else 0, size) if self.late else (0, ends[-1] if ends else size)
        return min(first + int(self.share * (last - first)), size)


def transactions(wal: bytes) -> list[int]:
    """Where the transactions in a WAL end, in bytes from its begin; of those that count today."""
    if len(wal) < HEADER_BYTES:
        return []
    magic, _, page_bytes, _, salt, other_salt = struct.unpack_from(">6I", wal)
    if magic not in _MAGIC:
        return []
    ends: list[int] = []
    frame_bytes = _FRAME_HEADER_BYTES + page_bytes
    for begin in range(HEADER_BYTES, len(wal) - frame_bytes + 1, frame_bytes):
        _, database_pages, *salts = struct.unpack_from(">4I", wal, begin)
        if salts != [salt, other_salt]:
            break
        if database_pages:
            ends.append(begin + frame_bytes)
    return ends


def lost_transactions(ends: Sequence[int], place: int) -> int:
    """How many transactions a tear at ``place`` may destroy."""
    return sum(end > place for end in ends)


def torn(wal: bytes, place: int, damage: Damage, random: Random) -> bytes:
    """The bytes of a WAL that is damaged from ``place`` on."""
    lost = len(wal) - place
    rest = {Damage.CUT: b"", Damage.ZEROED: bytes(lost), Damage.GARBAGE: random.randbytes(lost)}
    return wal[:place] + rest[damage]
