"""The process of a front, as the writer's process sees it: started, waited for, ended.

It is started by a thread, with `subprocess`, for the reasons that `recovery.process` gives. It is a fresh interpreter
in a process group of its own, so that a key pressed in a terminal ends the writer's process, and that one its fronts.
Beside the standard streams it has the sockets that are listened to and its end of the stream, and nothing else.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock, Thread

from msgspec.structs import replace

from millstream.engine.errors.said import said_by
from millstream.engine.recovery.naming import program_of
from millstream.engine.server.fronts.order import Listening, Order
from millstream.engine.server.listening import Listener

__all__ = ["Process"]

_PROGRAM = program_of("millstream.engine.server.fronts.child")


class Process:
    """One process, from its start to its end.

    Args:
        order: what it is to do, but for its sockets.
        listeners: what is listened to.
        stream: its end of the stream, which is closed here once it has it.
    """

    def __init__(self, order: Order, listeners: Sequence[Listener], stream: socket.socket) -> None:
        listening = [Listening(each.fileno(), str(of.address)) for of in listeners for each in of.sockets]
        self._order = replace(order, stream=stream.fileno(), listening=listening).line
        self._descriptors = [stream.fileno(), *(each.descriptor for each in listening)]
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        #: Its exit code, and what went wrong where it could not be started.
        self.ended: asyncio.Future[tuple[int | None, str]] = self._loop.create_future()
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_unwanted = False

    @property
    def pid(self) -> int | None:
        """Its number in the system; None where it is not started."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Begin to start it; whatever comes of that is known by `ended`, and by the stream."""
        Thread(target=self._run, name="millstream-front-process", daemon=True).start()

    def kill(self) -> None:
        """End it at once."""
        with self._lock:
            self._is_unwanted = True
            if self._process is not None:
                self._process.kill()

    # In a thread of its own, which waits as long as the process lives.

    def _run(self) -> None:
        try:
            outcome: tuple[int | None, str] = self._waited(), ""
        except Exception as error:  # noqa: BLE001 - handed to the loop
            outcome = None, said_by(error)
        finally:
            self._stream.close()
        with suppress(RuntimeError):  # the loop is closed: the server was never left, and no task waits
            self._loop.call_soon_threadsafe(self._settle, outcome)

    def _waited(self) -> int:
        with self._lock:
            if self._is_unwanted:
                return 0
            process = self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM],  # nothing is imported from the working folder
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,  # where programs read what the writer's process says
                pass_fds=self._descriptors,
                process_group=0,
            )
        self._stream.close()
        with process:  # closes its input, and leaves no zombie
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.write(self._order)
                process.stdin.close()
            return process.wait()

    def _settle(self, outcome: tuple[int | None, str]) -> None:
        if not self.ended.done():
            self.ended.set_result(outcome)
