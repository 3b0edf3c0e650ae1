"""The load: many connections, some requests in flight on each, as cheaply as Python can do it.

Here: sending what was encoded before, noting what comes and when. Not here: what it means (`calls`, `redis`).

A connection is a generator that is resumed when there is something to read: that costs about 5 µs for a request that
travels alone, system calls included. With an object for each connection instead it was a fifth more, with `selectors`
in place of epoll a third.
"""

from __future__ import annotations

import gc
import select
import socket
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self

from millstream.bench.job import BenchError
from millstream.bench.socket.children import cpu_seconds, spent
from millstream.engine.loop.clock import elapsed

__all__ = ["Burst", "Exchange", "Load", "NoReply", "Target", "WrongReply", "allow_connections"]

_REPLY_SECONDS_MAX = 60.0
_TOO_MUCH = "a connection that has all its replies has more to read, or was closed"
_CHUNK_BYTES = 1 << 16
#: Files that a process needs beside its connections.
_FILES_BESIDE = 200


class NoReply(BenchError):
    """The other side closed a connection, or says nothing any more."""


class WrongReply(BenchError):
    """A reply that is not what its request must get."""


class Burst(NamedTuple):
    """Requests that are sent at once, and how many ends (the load's `end`) their replies have together."""

    data: bytes
    ends: int


class Target(NamedTuple):
    """A server on the loopback interface, and its process, whose time is taken."""

    port: int
    pid: int


class Exchange(NamedTuple):
    """What came of sending some bursts."""

    seconds: float
    #: Of this process, and of the servers with all their threads; the latter None where the system does not tell.
    cpu_seconds: float
    servers_cpu_seconds: float | None
    #: In seconds, one for each end that came.
    latencies: list[float]
    #: By connection: the numbers of the bursts that it sent, and everything that it received.
    said: list[list[int]]
    heard: list[bytes]


class Load:
    """Connections to one server, or to several that do the same. Leaving the context closes them.

    Args:
        targets: the servers.
        connections: how many to each.
        end: the byte that replies are counted by: a line's end; over HTTP, where a body has none, what ends it.
    """

    def __init__(self, targets: Sequence[Target], connections: int, end: bytes = b"\n") -> None:
        self._targets = targets
        self._connections = connections
        self._end = end
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        try:
            for number in range(self._connections * len(self._targets)):
                port = self._targets[number % len(self._targets)].port
                connection = socket.create_connection(("127.0.0.1", port), _REPLY_SECONDS_MAX)
                self._sockets.append(connection)
                # Blocking from here on: what is read is there, and what is sent, a burst, always fits the buffer.
                connection.settimeout(None)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        for connection in self._sockets:
            connection.close()

    def exchange(self, bursts: Sequence[Burst]) -> Exchange:
        """Send all bursts, each on the connection that has its replies first.

        Raises:
            NoReply: the server ended a connection, or was silent for a minute.
            WrongReply: a connection has more to read while others wait for their replies.
        """
        latencies: list[float] = []
        end = self._end
        ends: list[int] = []
        said: list[list[int]] = [[] for _ in self._sockets]
        heard: list[list[bytes]] = [[] for _ in self._sockets]
        turns = enumerate(bursts)  # one for all: no connection is done before the others
        talks = {
            connection.fileno(): _talk(connection, end, turns, said[number], heard[number], ends, latencies).__next__
            for number, connection in enumerate(self._sockets)
        }
        wait = _watch(self._sockets)
        gc.collect()
        gc.disable()  # what this process keeps is not what is measured
        try:
            servers_before, before, started = self._servers_seconds(), time.process_time(), elapsed()
            try:
                _converse(talks, wait)
            except ConnectionError as error:
                raise NoReply(f"the server closed a connection: {error}") from error
            seconds, own, servers_after = elapsed() - started, time.process_time() - before, self._servers_seconds()
        finally:
            gc.enable()
        each = [latency for latency, count in zip(latencies, ends, strict=True) for _ in range(count)]
        return Exchange(
            seconds, own, spent(servers_before, servers_after), each, said, [b"".join(chunks) for chunks in heard]
        )

    def _servers_seconds(self) -> float | None:
        used = [cpu_seconds(target.pid) for target in self._targets]
        known = [each for each in used if each is not None]
        return sum(known) if len(known) == len(used) else None


def allow_connections(count: int) -> None:
    """Let this process, and those that it starts, have so many open."""
    import resource  # noqa: PLC0415 - not on Windows, where there is nothing to be measured here either

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _FILES_BESIDE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


def _talk(
    connection: socket.socket,
    end: bytes,
    turns: Iterator[tuple[int, Burst]],
    said: list[int],
    heard: list[bytes],
    ends: list[int],
    latencies: list[float],
) -> Generator[None, None, None]:
    """One connection, resumed whenever it has something to read."""
    receive, send, clock = connection.recv, connection.sendall, elapsed
    note_said, note_heard, note_ends, note_latency = said.append, heard.append, ends.append, latencies.append
    for number, (data, left) in turns:
        note_said(number)
        sent = clock()
        send(data)
        while left > 0:
            yield
            chunk = receive(_CHUNK_BYTES)
            now = clock()
            if not chunk:
                raise NoReply("the server closed a connection")
            count = chunk.count(end)
            left -= count
            note_heard(chunk)
            note_ends(count)
            note_latency(now - sent)
        if left:
            raise WrongReply(_TOO_MUCH)


def _watch(connections: Sequence[socket.socket]) -> Callable[[], list[tuple[int, int]]]:
    """What waits until some of them have something to read: epoll, and poll where there is none."""
    if epoll := getattr(select, "epoll", None):
        watched, timeout = epoll(), _REPLY_SECONDS_MAX
    else:
        watched, timeout = select.poll(), _REPLY_SECONDS_MAX * 1e3
    for connection in connections:
        watched.register(connection.fileno(), select.POLLIN)
    wait: Callable[[], list[tuple[int, int]]] = partial(watched.poll, timeout)
    return wait


def _converse(talks: dict[int, Callable[[], None]], wait: Callable[[], list[tuple[int, int]]]) -> None:
    live = len(talks)
    for talk in talks.values():
        try:
            talk()
        except StopIteration:
            live -= 1
    while live:
        ready = wait()
        if not ready:
            raise NoReply(f"nothing came for {_REPLY_SECONDS_MAX:g} seconds")
        for file, _ in ready:
            try:
                talks[file]()
            except StopIteration:
                talks[file] = _too_much
                live -= 1


def _too_much() -> None:
    raise WrongReply(_TOO_MUCH)
