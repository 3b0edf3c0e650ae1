"""Another process takes the snapshots: it is started when they are due, and ended with the engine.

Here: starting it, waiting for it, ending it. Not here: what it does (`child`), and when it is due (`snapshotter`).

It is started by a thread, with `subprocess`, which on Linux stops this process for 0.5 to 4 ms however large it is. A
loop's own way need not: uvloop forks, and copying the tables of 800 MB takes 145 ms. It is a fresh interpreter in a
process group of its own, so that a key pressed in a terminal ends the engine, and the engine this process; and in the
same session, as Linux may share out the cores by sessions, and its niceness would count for nothing.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import suppress
from tempfile import TemporaryFile
from threading import Lock, Thread
from typing import BinaryIO

import anyio
import msgspec

from millstream.engine.application.app import App
from millstream.engine.errors import DefinitionError
from millstream.engine.errors.said import said_by
from millstream.engine.limits import Limits
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.observers import Observer
from millstream.engine.recovery.errors import SnapshotProcessFailed
from millstream.engine.recovery.naming import NamedApp, program_of, search_path
from millstream.engine.recovery.orders import END, Ended, Order
from millstream.engine.recovery.taking import Taken, require_reachable
from millstream.engine.stores.port import Log

__all__ = ["SnapshotProcess", "snapshot_process"]

#: How long a process that was asked to end may take. Then it is killed.
_ENDING_SECONDS_MAX = 2.0
#: Of what it writes: the end.
_OUTPUT_BYTES_MAX = 1024 * 1024
#: Of what it writes before it fails, in a log line.
_SHOWN_CHARACTERS_MAX = 2_000

_PROGRAM = program_of("millstream.engine.recovery.child")


class SnapshotProcess:
    """Takes snapshots of one log in other processes, one after another.

    Args:
        app: the application.
        log: its log.
        limits: the engine's.
        observer: is called with what is wrong with snapshots.

    Raises:
        DefinitionError: a class of the application can't be imported by another process, or there is no interpreter.
        LogRefused: no other process can read the log.
    """

    def __init__(self, app: App, log: Log, limits: Limits, observer: Observer) -> None:
        if not sys.executable or getattr(sys, "frozen", False):
            raise DefinitionError(
                "this program has no Python interpreter to start another process with: "
                'take snapshots in this process, Engine(…, snapshots="loop")'
            )
        require_reachable(log)
        self._app = NamedApp.of(app)
        self._path = search_path()
        self._log = log
        self._limits = limits
        self._observer = observer

    async def take(self, without: frozenset[str]) -> Taken:
        """Start a process, and wait until it has taken snapshots. If this is cancelled, it is ended, and gone then.

        Args:
            without: names of parts to leave out.

        Raises:
            SnapshotProcessFailed: it could not be started, failed, or was killed.
        """
        order = Order(
            path=self._path,
            app=self._app,
            log=require_reachable(self._log),
            log_id=self._log.id,
            limits={name: getattr(self._limits, name) for name in self._limits.__struct_fields__},
            without=tuple(sorted(without)),
        )
        child = _Child(order.line)
        try:
            code, said = await child.ended()
        except OSError as error:
            raise SnapshotProcessFailed(self._log.name, None, said_by(error)) from error
        ended, before = _read(said)
        if ended is not None:
            ended.tell(self._observer, self._log.name)
        if ended is None or ended.taken is None or code:
            problem = before if ended is None or ended.problem is None else ended.problem
            raise SnapshotProcessFailed(self._log.name, code, problem)
        return ended.taken


def snapshot_process(where: object, app: App, log: Log, limits: Limits, observer: Observer) -> SnapshotProcess | None:
    """What takes snapshots in another process, if they are to be taken there.

    Args:
        where: True or ``"loop"``, ``"process"``, or False.
        app: the application.
        log: its log.
        limits: the engine's.
        observer: is called with what is wrong with snapshots.

    Raises:
        DefinitionError: it is another word, or what `SnapshotProcess` raises.
        LogRefused: no other process can read the log.
    """
    if where == "process":
        return SnapshotProcess(app, log, limits, observer)
    if where not in (True, False, "loop"):
        raise DefinitionError(
            f'snapshots are taken in a "process", in the "loop", or not at all (False), not {where!r}'
        )
    return None


class _Child:
    """One process, from its start to its end."""

    def __init__(self, order: bytes) -> None:
        self._order = order
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[tuple[int, bytes]] = self._loop.create_future()
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_unwanted = False

    async def ended(self) -> tuple[int, bytes]:
        """Start it, and wait; its exit code, and what it has written.

        Raises:
            OSError: it can't be started.
        """
        Thread(target=self._run, name="millstream-snapshot-process", daemon=True).start()
        try:
            return await asyncio.shield(self._ended)
        except asyncio.CancelledError:
            await to_the_end(self._end())
            raise

    async def _end(self) -> None:
        self._signal(kill=False)
        with anyio.move_on_after(_ENDING_SECONDS_MAX):
            await asyncio.wait([self._ended])
        if not self._ended.done():
            self._signal(kill=True)
            await asyncio.wait([self._ended])
        self._ended.exception()  # whatever it is, nothing waits for it any more

    def _signal(self, *, kill: bool) -> None:
        with self._lock:
            self._is_unwanted = True
            if self._process is not None:
                (self._process.kill if kill else self._process.terminate)()

    # In a thread of its own, which waits as long as the process lives.

    def _run(self) -> None:
        try:
            with TemporaryFile() as output:
                outcome = self._waited(output), _end_of(output)
        except Exception as error:  # noqa: BLE001 - raised on the loop
            self._tell(error)
        else:
            self._tell(outcome)

    def _waited(self, output: BinaryIO) -> int:
        with self._lock:
            if self._is_unwanted:
                return 0
            process = self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM],  # nothing is imported from the working folder
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        with process:  # closes its input, and leaves no zombie
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.write(self._order)
                process.stdin.flush()
            return process.wait()

    def _tell(self, outcome: tuple[int, bytes] | Exception) -> None:
        with suppress(RuntimeError):  # the loop is closed: the engine was never closed, and nothing waits
            self._loop.call_soon_threadsafe(self._settle, outcome)

    def _settle(self, outcome: tuple[int, bytes] | Exception) -> None:
        if self._ended.done():
            return
        if isinstance(outcome, Exception):
            self._ended.set_exception(outcome)
        else:
            self._ended.set_result(outcome)


def _end_of(output: BinaryIO) -> bytes:
    size = output.seek(0, 2)
    output.seek(max(0, size - _OUTPUT_BYTES_MAX))
    return output.read()


def _read(said: bytes) -> tuple[Ended | None, str]:
    """What came of it, if that was said; and the end of what was written before."""
    before, mark, line = said.rpartition(END)
    if not mark:
        before, line = said, b""
    text = before.decode(errors="replace").strip()[-_SHOWN_CHARACTERS_MAX:]
    try:
        return (msgspec.json.decode(line, type=Ended) if mark else None), text
    except msgspec.DecodeError:
        return None, text
