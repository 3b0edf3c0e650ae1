"""Framing: one message is one line. Whatever the pieces in which bytes arrive, the same lines come out.

Invariants: what is kept between two pieces is never longer than ``frame_bytes_max``; a byte costs the same whether it
comes alone or with many, so a line that arrives in crumbs makes no process busy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["Cut", "FrameTooLarge", "Lines", "stranger_in"]

#: How much of a line that is too long is kept: enough to tell whose it is.
_CUT_BYTES = 256
_HTTP = re.compile(rb"[!-~]+ [!-~]+ HTTP/[0-9]")


class FrameTooLarge(Exception):
    """A line is longer than allowed: where the next one begins can't be known, so the connection is to be closed.

    ``lines`` are those that were complete before it, and not returned yet.
    """

    def __init__(self, frame_bytes_max: int, lines: Sequence[bytes] = ()) -> None:
        super().__init__(frame_bytes_max, lines)
        self.frame_bytes_max = frame_bytes_max
        self.lines = lines

    def __str__(self) -> str:
        return f"a line is longer than frame_bytes_max={self.frame_bytes_max:,}: split the request"


class Cut(bytes):
    """The first bytes of a line that is too long. The others are not kept."""

    __slots__ = ()


class Lines:
    """Cuts a stream of bytes at its line ends.

    Args:
        frame_bytes_max: how long a line may be, its end not counted.
        cuts: a line that is too long becomes a `Cut`, and the next one is read, instead of `FrameTooLarge`.
    """

    def __init__(self, frame_bytes_max: int, *, cuts: bool = False) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._cuts = cuts
        #: The line that is begun is too long: what is kept are its first bytes.
        self._is_over = False
        self._rest = bytearray()
        #: Up to here no line of a piece can be too long; -1 once the stream is broken.
        self._whole_bytes_max = frame_bytes_max

    def allow(self, frame_bytes_max: int) -> None:
        """From now on a line may be so long, unless the stream is broken."""
        if self._whole_bytes_max >= 0:
            self.frame_bytes_max = self._whole_bytes_max = frame_bytes_max

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished line are kept."""
        return len(self._rest)

    def are_whole(self, data: bytes) -> bool:
        """Whether ``data`` begins and ends with a line, and none in it can be too long: it need not be fed."""
        return not self._rest and data.endswith(b"\n") and len(data) <= self._whole_bytes_max

    def joined(self, data: bytes) -> bytes | None:
        """The lines that ``data`` completes, with their ends, in one piece.

        None where one of them may be too long: then nothing is taken, and it is to be fed.
        """
        if self._is_over or len(self._rest) + len(data) > self._whole_bytes_max:
            return None
        end = data.rfind(b"\n") + 1
        if not end:
            self._rest += data
            return b""
        if not self._rest and end == len(data):
            return data
        whole = self._rest + data[:end]
        self._rest = bytearray(data[end:])
        return bytes(whole)

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes, without their ends.

        Raises:
            FrameTooLarge: a line is too long; nothing more can be read from this stream. Not with ``cuts``.
        """
        if self.are_whole(data):  # as nearly always
            lines = data.split(b"\n")
            lines.pop()
            return lines
        return self._cut(data)

    def _cut(self, data: bytes) -> list[bytes]:
        if self._whole_bytes_max < 0:
            raise FrameTooLarge(self.frame_bytes_max)
        begun, *more = data.split(b"\n")
        if self._cuts:
            return self._shortened(begun, more)
        if len(self._rest) + len(begun) > self.frame_bytes_max:
            raise self._broken([])
        self._rest += begun
        if not more:
            return []
        lines = [bytes(self._rest), *more]
        for index, line in enumerate(lines):
            if len(line) > self.frame_bytes_max:
                raise self._broken(lines[:index])
        self._rest = bytearray(lines.pop())
        return lines

    def _shortened(self, begun: bytes, more: list[bytes]) -> list[bytes]:
        self._begin(begun)
        lines: list[bytes] = []
        for each in more:
            lines.append(Cut(self._rest) if self._is_over else bytes(self._rest))
            self._rest, self._is_over = bytearray(), False
            self._begin(each)
        return lines

    def _begin(self, piece: bytes) -> None:
        """One more piece of the line that is begun."""
        if self._is_over:
            return
        if len(self._rest) + len(piece) <= self.frame_bytes_max:
            self._rest += piece
        else:
            self._rest, self._is_over = (self._rest[:_CUT_BYTES] + piece[:_CUT_BYTES])[:_CUT_BYTES], True

    def _broken(self, lines: list[bytes]) -> FrameTooLarge:
        self._whole_bytes_max = -1
        self._rest = bytearray()
        return FrameTooLarge(self.frame_bytes_max, lines)


def stranger_in(lines: Sequence[bytes]) -> str | None:
    """Why the first lines of a connection don't begin the protocol; None where they do, and where all are blank.

    A web page can make a browser send lines to any address: first HTTP's own, or those of TLS, then what it likes. So
    nothing is read from a connection that begins with anything but JSON.
    """
    first = next((line.lstrip() for line in lines if line.strip()), b"{")
    if first[:1] in (b"{", b"["):
        return None
    if _HTTP.match(first):
        return "this is HTTP, and here JSON-RPC is spoken, one message a line: nothing of it is read"
    return "the first line is no JSON object: nothing that comes after it is read"
