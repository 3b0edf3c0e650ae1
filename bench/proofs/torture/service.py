"""The outside world of the bank: a service that outlives its callers, and how each call of it goes.

Here: the file in which the service keeps what it was called for, a line for each call, and the fate of an effect, which
follows from its id alone. Not here: who calls (`application`), and what must hold of the calls (`effects`).

A line is in the file before the call returns, and no kill of the caller takes it out again. All lines have one length,
of which a page holds a whole number, so a kill leaves no half of one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path

import msgspec

__all__ = ["ATTEMPTS_MAX", "LINE_BYTES", "Call", "Fate", "Service", "calls_in", "fate_of", "keep", "service_of"]

ATTEMPTS_MAX = 3
LINE_BYTES = 128


class Fate(StrEnum):
    """How an effect goes. The service does in each attempt what it is asked for; what differs comes after that."""

    DONE = "its first attempt succeeds"
    LATE = "so it does, after a while"
    RETRIED = "its first attempt fails, its second succeeds"
    GIVEN_UP = "all attempts fail, and something else follows"
    PARKED = "all attempts fail, and so does what is to say what follows"
    REFUSED = "its first attempt succeeds, and the command that came of it is refused"
    BROKEN = "its first attempt succeeds, and the handler of the command that came of it fails"


#: Of 32 effects, how many go so; all others are done at once.
_SHARES = {
    Fate.LATE: 5,
    Fate.RETRIED: 4,
    Fate.GIVEN_UP: 2,
    Fate.PARKED: 1,
    Fate.REFUSED: 2,
    Fate.BROKEN: 1,
}
_FATES = [fate for fate, share in _SHARES.items() for _ in range(share)]


def fate_of(effect: str) -> Fate:
    """How the effect goes whose attempts have this id: always the same."""
    (chance,) = blake2b(effect.encode(), digest_size=1).digest()
    return dict(enumerate(_FATES)).get(chance % 32, Fate.DONE)


class Call(msgspec.Struct, frozen=True, gc=False):
    """What the service was given in one call, and by which process."""

    id: str
    number: int
    position: int
    account: str
    generation: int


_LINES = msgspec.json.Decoder(Call)


class Service:
    """The service, as one process calls it.

    Args:
        file: what it keeps.
        generation: the process.
        called: is called for each call, after it is kept, with the attempt's id.
    """

    def __init__(self, file: Path, generation: int, called: Callable[[str], None] = lambda _: None) -> None:
        self._file = file
        self._generation = generation
        self._called = called
        self._descriptor = -1

    def open(self) -> None:
        """Make the file, if it is not there, and be ready for calls."""
        self._descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def close(self) -> None:
        """Take no more calls."""
        os.close(self._descriptor)

    def call(self, effect: str, number: int, position: int, account: str) -> int:
        """Do what is asked for, whether or not it was done before. Returns which call it is, of all that there were.

        Raises:
            ValueError: a line has no room for it.
        """
        os.write(self._descriptor, _line(Call(effect, number, position, account, self._generation)))
        which = os.lseek(self._descriptor, 0, os.SEEK_CUR) // LINE_BYTES
        self._called(effect)
        return which


def service_of(log: Path) -> Path:
    """The file of the service that the bank with this log calls. It is no part of the log, and no copy has it."""
    return log.with_name("service.jsonl")


def calls_in(file: Path) -> list[Call]:
    """All calls that a service had, in order.

    Raises:
        msgspec.DecodeError: it is no file of a service.
    """
    return _LINES.decode_lines(file.read_bytes()) if file.exists() else []


def keep(file: Path, calls: Iterable[Call]) -> None:
    """Make the file of a service that had these calls."""
    file.write_bytes(b"".join(map(_line, calls)))


def _line(call: Call) -> bytes:
    """As it is kept.

    Raises:
        ValueError: it is too long.
    """
    line = msgspec.json.encode(call)
    if len(line) >= LINE_BYTES:
        raise ValueError(f"a line has {LINE_BYTES} bytes, and a call has {len(line)}: {call}")
    return line.ljust(LINE_BYTES - 1) + b"\n"
