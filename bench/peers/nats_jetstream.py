"""NATS JetStream: its own server, one file-backed stream, its own asynchronous client.

With ``sync_interval: always`` the server syncs each message before it acknowledges it
(https://docs.nats.io/running-a-nats-service/configuration#jetstream); by default it would every two minutes. Whether it
does is asked of the server's monitoring before anything is sent. It has no models, so the rule is here, as an
application would have it; each message expects the sequence of the one before
(``Nats-Expected-Last-Sequence``), which is what keeps a second writer from deciding on a stale state.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import msgspec

from millstream.bench import loops
from millstream.bench.job import Job, Result, WorkerFailed
from millstream.bench.peers.driving import NotOpen, Told, by_tasks
from millstream.bench.socket.children import found, running

if TYPE_CHECKING:
    from typing import Any, Protocol

    class Message(Protocol):
        subject: str
        data: bytes

    class JetStream(Protocol):
        async def add_stream(self, *, name: str, subjects: list[str]) -> object: ...
        async def publish(self, subject: str, payload: bytes, *, headers: dict[str, str]) -> object: ...
        async def stream_info(self, name: str) -> Any: ...
        async def subscribe(self, subject: str, *, ordered_consumer: bool) -> Any: ...

    class Connection(Protocol):
        def jetstream(self, *, timeout: float) -> JetStream: ...
        async def close(self) -> None: ...

    async def connect(url: str) -> Connection: ...
else:
    from nats import connect

__all__ = ["CONFIGURATION", "NatsBank", "run", "server"]

#: Only what is beside the durable setting: where to listen, any port, and where to put the files.
CONFIGURATION = """
listen: "127.0.0.1:-1"
http: "127.0.0.1:-1"
jetstream {{ store_dir: {directory}, sync_interval: always }}
"""
_ACKNOWLEDGED_SECONDS_MAX = 60.0
_STREAM = "bank"


class _Recorded(msgspec.Struct):
    type: str
    amount: int = 0


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Recorded).decode


class NatsBank:
    """The bank, on a stream of its own."""

    def __init__(self, stream: JetStream) -> None:
        self.stream = stream
        self._balances: dict[str, int] = {}
        self._sequence = 0

    async def open(self, accounts: Sequence[str]) -> None:
        """Open accounts, one after another: a message is one event."""
        for name in accounts:
            self._balances[name] = 0
            await self._publish(name, _Recorded("Opened"))

    async def deposit(self, account: str, amount: int) -> None:
        """Decide, apply, publish, and wait for the acknowledgement."""
        if account not in self._balances:
            raise NotOpen(account)
        self._balances[account] += amount
        await self._publish(account, _Recorded("Deposited", amount))

    async def _publish(self, account: str, event: _Recorded) -> None:
        headers = {"Nats-Expected-Last-Sequence": str(self._sequence)}
        self._sequence += 1
        await self.stream.publish(f"{_STREAM}.{account}", _encode(event), headers=headers)

    async def history(self) -> AsyncIterator[Told]:
        """What an ordered consumer gets, up to the last message."""
        left: int = (await self.stream.stream_info(_STREAM)).state.last_seq
        subscription = await self.stream.subscribe(f"{_STREAM}.*", ordered_consumer=True)
        while left:
            message: Message = await subscription.next_msg()
            left -= 1
            yield Told(message.subject.removeprefix(f"{_STREAM}."), _decode(message.data).amount)


@asynccontextmanager
async def server(directory: Path) -> AsyncIterator[NatsBank]:
    """A server with its files in ``directory``, and the bank on it.

    Raises:
        WorkerFailed: it does not start, or does not sync each message.
    """
    program = found("nats-server")
    assert program is not None
    configuration = directory / "nats.conf"
    store = msgspec.json.encode(str(directory / "jetstream")).decode()
    configuration.write_text(CONFIGURATION.format(directory=store))
    with running("nats-server", [program, "--config", str(configuration)], "Server is ready", errors_too=True) as child:
        _require_sync(_port("Starting http monitor on", child.said))
        connection = await connect(f"nats://127.0.0.1:{_port('Listening for client connections on', child.said)}")
        try:
            stream = connection.jetstream(timeout=_ACKNOWLEDGED_SECONDS_MAX)
            await stream.add_stream(name=_STREAM, subjects=[f"{_STREAM}.*"])
            yield NatsBank(stream)
        finally:
            await connection.close()


def _port(after: str, said: str) -> int:
    match = re.search(rf"{after} \S*:(\d+)", said)
    if match is None:
        raise WorkerFailed("nats-server", f"it did not say on which port it listens\n{said}")
    return int(match[1])


def _require_sync(monitoring: int) -> None:
    with urlopen(f"http://127.0.0.1:{monitoring}/jsz?config=true") as reply:
        config = msgspec.json.decode(reply.read())["config"]
    if config.get("sync_always") is not True:
        raise WorkerFailed("nats-server", f"it does not sync each message: {config}")


def run(job: Job) -> Result:
    """Commands a second."""
    return loops.run(partial(_run, job), job.loop)


async def _run(job: Job) -> Result:
    async with server(Path(job.directory)) as bank:
        return await by_tasks(bank, job)
