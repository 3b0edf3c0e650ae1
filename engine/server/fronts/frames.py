"""The stream between a front and the writer's process: frames of a kind, a length and that many bytes.

Here: from bytes to frames and back, and gathering what goes into one. Not here: what a payload means (`uplink`,
`link`). Invariant: whatever the pieces in which bytes arrive, the same frames come out, in their order.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, NamedTuple

from millstream.engine.server.fronts.notes import Note, write_notes

__all__ = [
    "ANSWER",
    "LARGE",
    "NOTES",
    "NOTIFICATION",
    "REPLIES",
    "REQUESTS",
    "BrokenStream",
    "Frame",
    "Frames",
    "Outgoing",
    "frame",
]

#: Lines, a request each; and one line that is large.
REQUESTS, LARGE = b"R", b"L"
#: Lines, a reply each; and one line that counts as output that waits.
REPLIES, ANSWER = b"P", b"A"
#: The number of a connection, and a line for it.
NOTIFICATION = b"W"
NOTES = b"N"

_KINDS = frozenset((REQUESTS, LARGE, REPLIES, ANSWER, NOTIFICATION, NOTES))
_header = Struct(">cI")
_HEADER_BYTES = _header.size


class BrokenStream(Exception):
    """What came is no frame: the other side is no front of ours, or has gone wrong."""


class Frame(NamedTuple):
    """One frame."""

    kind: bytes
    payload: bytes


def frame(kind: bytes, payload: bytes) -> bytes:
    """A frame as it is sent."""
    return _header.pack(kind, len(payload)) + payload


class Frames:
    """Cuts a stream into frames."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that ``data`` completes.

        Raises:
            BrokenStream: there is a frame of no known kind.
        """
        whole: bytes | bytearray = data
        if self._rest:
            self._rest += data
            whole = self._rest
        found, at, size = list[Frame](), 0, len(whole)
        while size - at >= _HEADER_BYTES:
            kind, length = _header.unpack_from(whole, at)
            if kind not in _KINDS:
                raise BrokenStream(f"a frame of kind {kind!r}")
            end = at + _HEADER_BYTES + length
            if end > size:
                break
            found.append(Frame(kind, bytes(whole[at + _HEADER_BYTES : end])))
            at = end
        self._rest = bytearray(whole[at:])
        return found


class Outgoing:
    """What waits to be sent, in its order: items that go into one frame together, notes, and frames of their own.

    Args:
        kind: of the frames of items.
        encode: writes items.
        flush_soon: is called when something waits, and nothing did before.
    """

    def __init__(self, kind: bytes, encode: Callable[[list[Any]], bytes], flush_soon: Callable[[], None]) -> None:
        self._kind = kind
        self._encode = encode
        self._flush_soon = flush_soon
        self._items: list[Any] = []
        self._notes: list[Note] = []
        self._frames: list[bytes] = []
        self._is_due = False

    def put(self, item: Any) -> None:
        """Let an item wait."""
        if self._notes:
            self._close_notes()
        self._items.append(item)
        if not self._is_due:
            self._is_due = True
            self._flush_soon()

    def note(self, note: Note) -> None:
        """Let a note wait."""
        if self._items:
            self._close_items()
        self._notes.append(note)
        if not self._is_due:
            self._is_due = True
            self._flush_soon()

    def frame(self, kind: bytes, payload: bytes) -> None:
        """Let a frame of its own wait."""
        if self._items:
            self._close_items()
        if self._notes:
            self._close_notes()
        self._frames.append(frame(kind, payload))
        if not self._is_due:
            self._is_due = True
            self._flush_soon()

    def take(self) -> bytes:
        """All that waits."""
        self._is_due = False
        if self._items:
            self._close_items()
        if self._notes:
            self._close_notes()
        frames, self._frames = self._frames, []
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def _close_items(self) -> None:
        items, self._items = self._items, []
        self._frames.append(frame(self._kind, self._encode(items)))

    def _close_notes(self) -> None:
        notes, self._notes = self._notes, []
        self._frames.append(frame(NOTES, write_notes(notes)))
