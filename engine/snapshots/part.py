"""A state that follows the log, and what is known of a snapshot of it."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from millstream.engine.commits.commit import DIGEST_BYTES, Head

__all__ = ["Part", "Sealing", "Snapshot"]


_encode = msgspec.msgpack.Encoder().encode


class Part(NamedTuple):
    """One of the states that follow the log, as it is at ``head``."""

    name: str
    #: What must be the same for a snapshot to fit.
    fingerprint: str
    #: Whatever has `snapshot` and `restore`: a write model, a view, the write index.
    state: Any
    head: Head = Head()
    #: What belongs to it and is not in its state: for a view, what it has parked.
    notes: bytes = b""


class Snapshot(msgspec.Struct, frozen=True):
    """What is known of a whole snapshot: which part, where in the log, and what its pieces must come to."""

    part: str
    head: Head
    fingerprint: str
    pieces: int
    #: BLAKE2b over all pieces in order, and all of the above and below.
    checksum: bytes
    notes: bytes = b""


class Sealing:
    """Adds up what a snapshot consists of, piece by piece, while it is taken or taken up."""

    def __init__(self) -> None:
        self.pieces = 0
        self._sum = blake2b(digest_size=DIGEST_BYTES)

    def add(self, piece: bytes) -> None:
        """The next piece."""
        self._sum.update(len(piece).to_bytes(8, "big"))
        self._sum.update(piece)
        self.pieces += 1

    def seal(self, part: str, head: Head, fingerprint: str, notes: bytes) -> Snapshot:
        """The snapshot that these pieces make up."""
        whole = self._sum.copy()
        whole.update(_encode((part, head, fingerprint, self.pieces, notes)))
        return Snapshot(part, head, fingerprint, self.pieces, whole.digest(), notes)
