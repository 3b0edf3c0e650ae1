"""All fronts of a server: started with it, started again when one ends by itself, ended with it.

Here: how many there are, what all their connections have together, and the life of each. Not here: the stream (`link`)
and the process (`process`) of one.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import anyio

from millstream.engine.application.app import App
from millstream.engine.errors import DefinitionError
from millstream.engine.loop.clock import elapsed
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.observers import Observer
from millstream.engine.recovery.naming import NamedApp, search_path
from millstream.engine.server.commands import Commands
from millstream.engine.server.fronts.errors import FrontFailed
from millstream.engine.server.fronts.guest import Guest
from millstream.engine.server.fronts.link import Link
from millstream.engine.server.fronts.notes import AcceptFailed, Dropped, Failed, Note, Stop
from millstream.engine.server.fronts.order import Order
from millstream.engine.server.fronts.process import Process
from millstream.engine.server.limits import ServerLimits
from millstream.engine.server.listening import FileTls, Listener
from millstream.engine.server.peer import Handler
from millstream.engine.server.sockets import cancelled, is_meant, keep_sweeping, tell_dropped
from millstream.engine.server.stats import ServerStats
from millstream.engine.server.tokens import Tokens
from millstream.engine.wire import Requests

__all__ = ["Fronts", "Serving"]

#: How much longer than its connections a front may take to end; then it is killed.
_ENDING_SECONDS_MAX = 2.0
_FRONTS_MAX = 256
_INSTEAD = "serve in one process: fronts=0"


class Serving(Protocol):
    """The server whose fronts they are."""

    limits: ServerLimits
    requests: Requests
    first_role: str | None
    handlers: Mapping[str | None, Mapping[type[Any], Handler]]


class _Front:
    """One of them."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.link: Link | None = None
        self.process: Process | None = None
        self.started_at = 0.0


class Fronts:
    """The front processes of one server.

    Args:
        count: how many.
        app: the application.
        server: the server.
        observer: is called with what happens.
        commands: those that wait at the mailbox's door; None where commands are passed on.
        tokens: who may do what.
        tls: made by `tls_context`.

    Raises:
        DefinitionError: there can't be so many; or this system, this program or this application can't have any, or
            this TLS can't be had in another process.
    """

    def __init__(
        self,
        count: int,
        app: App,
        server: Serving,
        observer: Observer,
        commands: Commands | None,
        tokens: Tokens | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        _require_possible(count, tls)
        self.limits = server.limits
        self.requests = server.requests
        self.first_role = server.first_role
        self._server = server
        self._observer = observer
        self._commands = commands
        limits = {name: getattr(server.limits, name) for name in server.limits.__struct_fields__}
        self._order = Order(
            path=search_path(),
            app=NamedApp.of(app, _INSTEAD),
            limits=limits,
            tokens=None if tokens is None else tokens.digests,
            roles={} if tokens is None else dict(tokens.roles),
            tls=tls.files if isinstance(tls, FileTls) else None,
        )
        self._fronts = [_Front(number) for number in range(1, count + 1)]
        self._listeners: Sequence[Listener] = ()
        self._tasks: list[asyncio.Task[None]] = []
        self._is_stopping = False
        self._accepted = 0
        self._lost = 0
        self._dropped: Counter[str] = Counter()
        self._dropped_told: Counter[str] = Counter()

    async def start(self, listeners: Sequence[Listener]) -> None:
        """Start all of them, and wait until they take connections.

        Raises:
            FrontFailed: one could not be started. None is left.
        """
        self._listeners = listeners
        starting = [asyncio.create_task(self._start(each)) for each in self._fronts]
        try:
            await asyncio.gather(*starting)
        except BaseException:
            await cancelled(starting)
            await to_the_end(self._kill_all())
            raise
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._keep(each), name=f"millstream-front-{each.number}") for each in self._fronts
        ]
        self._tasks.append(loop.create_task(keep_sweeping(self.sweep), name="millstream-fronts"))

    async def stop(self) -> tuple[int, int]:
        """Let them answer what was taken, and end; how many connections there were, and how many were lost."""
        self._is_stopping = True
        await cancelled(self._tasks)
        before = sum(len(each.guests) for each in self._links())
        for link in self._links():
            link.note(Stop())
        with anyio.move_on_after(self.limits.drain_seconds_max + _ENDING_SECONDS_MAX):
            await self._all_ended()
        lost = sum(len(each.guests) for each in self._links())
        await self._kill_all()
        return before, lost + self._dropped["drain_seconds_max"]

    def stats(self) -> ServerStats:
        """Figures of this moment, of all of them together."""
        guests = [guest for link in self._links() for guest in link.guests.values()]
        return ServerStats(
            connections=len(guests),
            connections_max=self.limits.connections_max,
            in_flight=sum(guest.in_flight for guest in guests),
            watches=sum(len(guest.streams) for guest in guests),
            accepted=self._accepted,
            dropped=dict(self._dropped),
            fronts=sum(1 for _ in self._links()),
            fronts_lost=self._lost,
        )

    @property
    def pids(self) -> list[int]:
        """Their processes that run, as the system numbers them."""
        processes = [each.process for each in self._fronts if each.process is not None]
        return [each.pid for each in processes if each.pid is not None and not each.ended.done()]

    def sweep(self, now: float) -> None:
        """End fronts that don't take what they are sent; once a second, on the clock `elapsed`."""
        for front in self._fronts:
            link = front.link
            if (
                link is not None
                and link.slow_since is not None
                and now - link.slow_since > self.limits.slow_seconds_max
            ):
                assert front.process is not None
                front.process.kill()
        self._dropped_told = tell_dropped(self._observer, self._dropped, self._dropped_told)

    # What links call.

    def handlers_of(self, role: str | None) -> Mapping[type[Any], Handler]:
        """What a role may do, by class of request."""
        return self._server.handlers[role]

    def failed(self, error: BaseException) -> None:
        """A request failed; worth a line if that was not meant."""
        if not is_meant(error):
            self._observer.request_failed(error=error)

    def arrived(self) -> bool:
        """A connection has arrived at a front, and is among the guests; whether there is room for it."""
        self._accepted += 1
        return sum(len(each.guests) for each in self._links()) <= self.limits.connections_max

    def never_came(self) -> None:
        """It was none after all."""
        self._accepted -= 1

    def left(self, guest: Guest, reason: str | None) -> None:
        """One has left; for a reason, if it was us."""
        if self._commands is not None:
            self._commands.forget(guest)
        if reason is not None:
            self._dropped[reason] += 1

    def told(self, link: Link, note: Note) -> None:
        """A front tells something of itself."""
        if isinstance(note, Dropped):
            self._dropped[note.reason] += note.connections
        elif isinstance(note, Failed):
            self._observer.request_failed(error=FrontFailed(link.front, None, note.problem))
        elif isinstance(note, AcceptFailed):
            error = FrontFailed(link.front, None, note.problem)
            self._observer.accept_failed(error=error, connections=note.connections)

    # Their lives.

    def _links(self) -> list[Link]:
        return [each.link for each in self._fronts if each.link is not None and not each.link.is_closed]

    async def _start(self, front: _Front) -> None:
        """Start one, and wait until it takes connections.

        Raises:
            FrontFailed: it could not be started; it is gone.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        link = front.link = Link(self, front.number)
        process = front.process = Process(self._order, self._listeners, theirs)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: link, ours)
        process.start()
        try:
            problem = await self._problem_of(link)
            if problem is not None:
                with anyio.move_on_after(_ENDING_SECONDS_MAX):
                    await asyncio.wait([process.ended])
                process.kill()
                await asyncio.wait([process.ended])
                code, unstarted = process.ended.result()
                raise FrontFailed(front.number, code, problem or unstarted)
        except BaseException:
            process.kill()
            link.abort()
            raise
        front.started_at = elapsed()
        self._observer.front_started(front=front.number, pid=process.pid or 0)

    async def _problem_of(self, link: Link) -> str | None:
        """Why a front that is being started takes no connections; None once it does."""
        seconds = self.limits.front_start_seconds_max
        with anyio.move_on_after(seconds):
            return await link.ready
        return f"it takes no connections after front_start_seconds_max={seconds:g}"

    async def _keep(self, front: _Front) -> None:
        """Whenever one ends by itself, start it again."""
        limits = self.limits
        wait = limits.front_retry_seconds_min
        while True:
            assert front.process is not None
            assert front.link is not None
            await asyncio.wait([front.process.ended])
            code, problem = front.process.ended.result()
            front.link.abort()
            if elapsed() - front.started_at > limits.front_retry_seconds_max:
                wait = limits.front_retry_seconds_min
            self._lost += 1
            error = FrontFailed(front.number, code, problem)
            while True:
                self._observer.front_lost(front=front.number, error=error, retry_seconds=wait)
                await anyio.sleep(wait)
                wait = min(2 * wait, limits.front_retry_seconds_max)
                try:
                    await self._start(front)
                    break
                except FrontFailed as failed:
                    error = failed

    async def _all_ended(self) -> None:
        processes = [each.process.ended for each in self._fronts if each.process is not None]
        if processes:
            await asyncio.wait(processes)

    async def _kill_all(self) -> None:
        for front in self._fronts:
            if front.process is not None:
                front.process.kill()
        await self._all_ended()
        for front in self._fronts:
            if front.link is not None:
                front.link.abort()


def _require_possible(count: int, tls: ssl.SSLContext | None) -> None:
    if not 0 < count <= _FRONTS_MAX:
        raise DefinitionError(f"there are 0 to {_FRONTS_MAX} front processes, not {count!r}", "Server(fronts=…)")
    if os.name != "posix":
        raise DefinitionError(f"this system can't hand a socket on to a front process: {_INSTEAD}", "Server(fronts=…)")
    if not sys.executable or getattr(sys, "frozen", False):
        raise DefinitionError(
            f"this program has no Python interpreter to start a front process with: {_INSTEAD}", "Server(fronts=…)"
        )
    if tls is not None and not isinstance(tls, FileTls):
        raise DefinitionError(
            "front processes make the TLS context anew: give them one that tls_context has made, of files",
            "Server(fronts=…)",
        )
