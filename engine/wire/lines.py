"""Framing: one message is one line. Whatever the pieces in which bytes arrive, the same lines come out.

Invariant: what is kept between two pieces is never longer than ``frame_bytes_max``.
"""

from __future__ import annotations

__all__ = ["FrameTooLarge", "Lines"]


class FrameTooLarge(Exception):
    """A line is longer than allowed: where the next one begins can't be told, so the connection is to be closed."""

    def __init__(self, frame_bytes_max: int) -> None:
        super().__init__(frame_bytes_max)
        self.frame_bytes_max = frame_bytes_max

    def __str__(self) -> str:
        return f"a line is longer than frame_bytes_max={self.frame_bytes_max:,}: split the request"


class Lines:
    """Cuts a stream of bytes at its line ends.

    Args:
        frame_bytes_max: how long a line may be, its end not counted.
    """

    def __init__(self, frame_bytes_max: int) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._rest = b""

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished line are kept."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes, without their ends.

        Raises:
            FrameTooLarge: a line is too long; nothing more can be read from this stream.
        """
        if not self._rest and data.endswith(b"\n") and len(data) <= self.frame_bytes_max:  # whole, as nearly always
            lines = data.split(b"\n")
            lines.pop()
            return lines
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > self.frame_bytes_max or any(len(line) > self.frame_bytes_max for line in lines):
            self._rest = b""
            raise FrameTooLarge(self.frame_bytes_max)
        return lines
