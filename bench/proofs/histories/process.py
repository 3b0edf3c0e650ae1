"""One server as the harness handles it: a process is begun, says that it is ready, is killed, and another is begun."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from millstream.bench.proofs.histories.child import READY, REPLACED, Order

__all__ = ["PROGRAM", "Served", "ServerFailed"]

#: What is run, with the order as its last argument.
PROGRAM = (sys.executable, "-m", "millstream.bench.proofs.histories.child")

_READY_SECONDS_MAX = 60.0
_ERRORS_CHARS_MAX = 2_000


class ServerFailed(Exception):
    """A server process ended, or did not answer, and was not killed."""

    def __init__(self, name: str, problem: str, errors: str) -> None:
        super().__init__(name, problem, errors)
        self.name = name
        self.problem = problem
        self.errors = errors

    def __str__(self) -> str:
        return f"{self.name} {self.problem}: {self.errors or 'it said nothing'}"


class Served:
    """A server, from one process to the next: `begin`, `ready`, `kill`, `gone`, and from the beginning.

    Args:
        name: what it is called in errors.
        order: what each of its processes is to do.
        errors: the file that their standard errors go to.
        program: what to run.
    """

    def __init__(self, name: str, order: Order, errors: Path, program: Sequence[str] = PROGRAM) -> None:
        self.name = name
        self.order = order
        #: How many of its processes were ended by SIGKILL.
        self.kills = 0
        #: How many of them had ended by themselves, as another one writes.
        self.replaced = 0
        self._errors = errors
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, loop: str) -> None:
        """Begin a process, which runs on this event loop. It is not ready yet."""
        order = msgspec.json.encode(msgspec.structs.replace(self.order, loop=loop)).decode()
        with self._errors.open("ab") as file:
            self._process = subprocess.Popen(
                [*self._program, order], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file
            )

    async def ready(self) -> None:
        """Wait until it answers.

        Raises:
            ServerFailed: it ended before, or took too long.
        """
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(_READY_SECONDS_MAX):
                line = await asyncio.to_thread(self._process.stdout.readline)
        except TimeoutError:
            raise self._failed(f"was not ready after {_READY_SECONDS_MAX:g} s") from None
        if line != READY:
            raise self._failed(f"ended with {await self._end()} before it was ready, saying {line!r}")

    def kill(self) -> None:
        """Send SIGKILL, now."""
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still lives."""
        if self._process is not None:
            self._process.send_signal(number)

    async def gone(self) -> None:
        """Wait until a process that was killed is no more.

        Raises:
            ServerFailed: it had ended before it was killed.
        """
        if self._process is None:
            return
        code = await self._end()
        if code == REPLACED and self.order.standby:
            self.replaced += 1
            return
        if code != -signal.SIGKILL:
            raise self._failed(f"ended with {code}, and was not killed")
        self.kills += 1

    async def _end(self) -> int:
        """Wait for the end of the process, and forget it. Returns its exit code."""
        assert self._process is not None
        process, self._process = self._process, None
        code = await asyncio.to_thread(process.wait)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()
        return code

    def _failed(self, problem: str) -> ServerFailed:
        errors = self._errors.read_text("utf-8", errors="replace")[-_ERRORS_CHARS_MAX:]
        return ServerFailed(self.name, problem, errors)
