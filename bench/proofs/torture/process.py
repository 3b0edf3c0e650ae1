"""One child process as its parent handles it: begin, listen, stop, go on, kill. No threads: the parent listens in turn.

Not here: what is asked of it, and what is made of what it says.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from millstream.bench.proofs.torture.child import Order
from millstream.bench.proofs.torture.reports import Report, parse
from millstream.engine.loop.clock import elapsed

__all__ = ["PROGRAM", "Child", "hold", "listen"]

#: What is run, with the order as its last argument.
PROGRAM = (sys.executable, "-m", "millstream.bench.proofs.torture.child")

_CHUNK_BYTES = 1 << 16
_KILLED_SECONDS_MAX = 30.0


class Child:
    """A process that was given an order. Leaving the context kills it, if it still lives.

    Args:
        order: what it is to do.
        errors: the file that its standard error goes to.
        program: what to run.
    """

    def __init__(self, order: Order, errors: Path, program: Sequence[str] = PROGRAM) -> None:
        self.order = order
        self.errors = errors
        #: How far it has said that it is.
        self.marks: set[str] = set()
        #: How many calls of the service it has said that it made.
        self.calls = 0
        #: Whether it has said all that it will ever say.
        self.ended = False
        self._lines: list[bytes] = []
        self._rest = b""
        self._pipe, theirs = os.pipe()
        os.set_blocking(self._pipe, False)
        arguments = [*program, msgspec.json.encode(order).decode()]
        try:
            with errors.open("wb") as file:
                self._process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=theirs, stderr=file)
        finally:
            os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        os.close(self._pipe)

    def fileno(self) -> int:
        """The pipe, for select."""
        return self._pipe

    @property
    def said(self) -> int:
        """How many reports it has made so far."""
        return len(self._lines)

    def reports(self) -> list[Report]:
        """All reports that it has made so far."""
        return parse(self._lines)

    def hear(self) -> None:
        """Take what it has said by now, without waiting. The end of a line that was never written whole is dropped."""
        while not self.ended:
            try:
                chunk = os.read(self._pipe, _CHUNK_BYTES)
            except BlockingIOError:
                return
            self.ended = not chunk
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            self._lines += (line for line in lines if not line.startswith((b"= ", b"* ")))
            self.marks.update(line[2:].decode() for line in lines if line.startswith(b"= "))
            self.calls += sum(line.startswith(b"* ") for line in lines)

    def stop(self) -> bool:
        """Stop it, wherever it is, and take all that it had said; False if it had ended before."""
        self.signal(signal.SIGSTOP)
        if self._process.returncode is None:
            _, status = os.waitpid(self._process.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                self._process.returncode = os.waitstatus_to_exitcode(status)
        self.hear()
        return self._process.returncode is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still lives."""
        self._process.send_signal(number)

    def kill(self) -> int:
        """Send SIGKILL, if it still lives; take the rest of what it had said. Returns its exit code."""
        self.signal(signal.SIGKILL)
        return self.wait(_KILLED_SECONDS_MAX)

    def wait(self, seconds: float) -> int:
        """Listen until it has ended by itself. Returns its exit code, negative for a signal.

        Raises:
            TimeoutError: it has not.
        """
        if not listen([self], lambda: self.ended, seconds):
            raise TimeoutError(f"process {self.order.generation} has not ended within {seconds:g} s")
        return self._process.wait(seconds)


def listen(children: Sequence[Child], done: Callable[[], bool], seconds: float) -> bool:
    """Listen to children until ``done``, all of them have ended, or the time is over. Returns ``done()``."""
    until = elapsed() + seconds
    while not done():
        talking, left = [child for child in children if not child.ended], until - elapsed()
        if not talking or left <= 0:
            return done()
        for child in select.select(talking, (), (), left)[0]:
            child.hear()
    return True


def hold(children: Sequence[Child], milliseconds: float) -> None:
    """Let so much time pass, listening, or less if all of them end."""
    listen(children, lambda: False, milliseconds / 1e3)
