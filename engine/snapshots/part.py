"""The port of a state that follows the log, and what is known of a snapshot of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, ClassVar, Protocol

import msgspec

from millstream.engine.commits.commit import DIGEST_BYTES, Head
from millstream.engine.commits.decoded import DecodedCommit

__all__ = ["Part", "Sealing", "Snapshot"]


_encode = msgspec.msgpack.Encoder().encode


class Part(Protocol):
    """A state that follows the log: a write model, the write index, a view.

    It is fed with commits, and put aside and taken up again in pieces. The code that feeds and stores it knows only
    this much of it. A new one is the state before the first event.
    """

    #: Whether callers may ask for an earlier state of it, so that earlier snapshots are worth their room.
    has_past: ClassVar[bool]
    #: The last commit that is in the state. Code that changes a live state by other ways than `steps` keeps this, too.
    head: Head

    @property
    def name(self) -> str:
        """What its snapshots are called: one of the names in `commits.marks`."""
        ...

    @property
    def fingerprint(self) -> str:
        """What must be the same for a snapshot to fit."""
        ...

    @property
    def state(self) -> Any:
        """The state itself, whose collections may be emptied when it is not needed any more."""
        ...

    @property
    def fault(self) -> tuple[int, BaseException] | None:
        """The position of the event at which it stopped, and why; None while it follows."""
        ...

    @property
    def is_sound(self) -> bool:
        """Whether the state is what the events up to `head` make of it, so that it may be stored."""
        ...

    def steps(self, decoded: DecodedCommit) -> Iterable[None]:
        """Apply the commit that follows, some events at each step; between two steps the state is not to be shown.

        A commit that is in the state is passed over.

        Raises:
            ApplyFailed: it could not be applied, and the state is unusable. A view stops instead, with a `fault`.
        """
        ...

    def snapshot(self) -> Iterator[bytes] | None:
        """The state in pieces, each made when it is asked for. None: there are no snapshots of this one."""
        ...

    def notes(self) -> bytes:
        """What belongs to it and is not in its state: for a view, what it has left out."""
        ...

    def restore(self, piece: bytes) -> None:
        """Take up the next piece of a snapshot, on a new state, in the order in which they were made.

        Raises:
            Exception: it does not fit.
        """
        ...

    def restored(self, head: Head, notes: bytes) -> None:
        """All pieces were taken up: the state is that of ``head``.

        Raises:
            msgspec.DecodeError: the notes can't be read.
        """
        ...

    def reset(self) -> None:
        """Be new again, after pieces that did not fit."""
        ...


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
