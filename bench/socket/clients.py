"""The Python client beside a bare pipeline: what tasks, promises and types cost on top of msgspec and a socket.

The pipeline is what a program for nothing but speed would be: one asyncio protocol that encodes requests with
msgspec, keeps as many in flight as the client does, and decodes replies with msgspec, typed. It does not know whose a
reply is. Both are put to the same server, a process of its own; what the balances are in the end is compared.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import count, islice
from typing import Any, TypeAlias, cast

import msgspec

from millstream.bench.bank import AllBalances, BalanceOf, Deposit, queries, streams
from millstream.bench.drivers import require_receipts, require_sent, send
from millstream.bench.job import Job, Result
from millstream.bench.socket.children import cpu_seconds, spent
from millstream.bench.socket.contending import bank_server, cores
from millstream.bench.socket.load import NoReply, Target, WrongReply
from millstream.engine import Answered, Command, Receipt
from millstream.engine.client import Client
from millstream.engine.loop.clock import elapsed

__all__ = ["asking", "by_callers", "in_one_call", "piped", "piped_asking", "piped_in_parcels"]

#: As `Client.execute_many` does it: so many commands in a request, and so many requests in flight.
_PARCEL_COMMANDS, _PARCELS = 256, 4

#: Puts some commands, or questions, to a server.
_Put: TypeAlias = Callable[[Sequence[Any]], Awaitable[object]]


async def by_callers(job: Job) -> Result:
    """Commands a second by so many tasks, which each await one receipt at a time on one client."""
    return await _commanded(job, lambda client, _: lambda work: send(client.execute, job.workload.callers, work))


async def in_one_call(job: Job) -> Result:
    """Commands a second by one call of ``execute_many`` on a client."""

    def put(client: Client, _: Target) -> _Put:
        async def all_of(work: Sequence[Any]) -> None:
            require_receipts(await client.execute_many(cast(Sequence[Command], work)))

        return all_of

    return await _commanded(job, put)


async def piped(job: Job) -> Result:
    """Commands a second by the pipeline, one in each request, as many in flight as there would be callers."""
    return await _commanded(
        job, lambda _, server: lambda work: _pipe(server, _single(work), job.workload.callers, _Done)
    )


async def piped_in_parcels(job: Job) -> Result:
    """Commands a second by the pipeline, in requests like those of ``Client.execute_many``."""
    return await _commanded(job, lambda _, server: lambda work: _pipe(server, _parcels(work), _PARCELS, _AllDone))


async def asking(job: Job) -> Result:
    """Questions a second by so many tasks on one client."""
    return await _asked(job, lambda client, _: lambda work: send(client.ask, job.workload.callers, work))


async def piped_asking(job: Job) -> Result:
    """Questions a second by the pipeline."""
    return await _asked(job, lambda _, server: lambda work: _pipe(server, _asks(work), job.workload.callers, _Told))


async def _commanded(job: Job, putting: Callable[[Client, Target], _Put]) -> Result:
    work = streams(job.workload)
    with bank_server(job) as server:
        async with Client(f"tcp://127.0.0.1:{server.port}") as client:
            put = putting(client, server)
            require_receipts(await client.execute_many([*work.opening]))
            await put(work.warmup)
            found = await _timed(server, put, work.measured)
            after = len(work.opening) + len(work.warmup) + len(work.measured)
            state = require_sent(job, await client.ask(AllBalances(), after=after), work.warmup + work.measured)
    return msgspec.structs.replace(found, state=state)


async def _asked(job: Job, putting: Callable[[Client, Target], _Put]) -> Result:
    work, questions = streams(job.workload), queries(job.workload)
    with bank_server(job) as server:
        async with Client(f"tcp://127.0.0.1:{server.port}") as client:
            put = putting(client, server)
            require_receipts(await client.execute_many([*work.opening, *work.warmup]))
            after = len(work.opening) + len(work.warmup)
            state = require_sent(job, await client.ask(AllBalances(), after=after), work.warmup)
            await put(questions[: len(questions) // 10])
            found = await _timed(server, put, questions)
    return msgspec.structs.replace(found, state=state)


async def _timed(server: Target, put: _Put, work: Sequence[Any]) -> Result:
    gc.collect()
    server_before, before, started = cpu_seconds(server.pid), time.process_time(), elapsed()
    await put(work)
    seconds, own = elapsed() - started, time.process_time() - before
    busy = cores(seconds, spent(server_before, cpu_seconds(server.pid)), own)
    return Result(value=len(work) / seconds, details=busy)


# The pipeline.


class _Request(msgspec.Struct, gc=False):
    id: int
    method: str
    params: dict[str, Any]
    jsonrpc: str = "2.0"


class _Done(msgspec.Struct, gc=False):
    """A reply: to a command, to several, or to a question. Anything else, an error too, is none."""

    id: int
    result: Receipt


class _Outcome(msgspec.Struct, gc=False):
    result: Receipt


class _Outcomes(msgspec.Struct, gc=False):
    outcomes: list[_Outcome]


class _AllDone(msgspec.Struct, gc=False):
    id: int
    result: _Outcomes


class _Told(msgspec.Struct, gc=False):
    id: int
    result: Answered[int | None]


def _single(commands: Sequence[Deposit]) -> Iterator[_Request]:
    return (_Request(number, "execute", {"command": each}) for number, each in enumerate(commands))


def _parcels(commands: Sequence[Deposit]) -> Iterator[_Request]:
    for number, start in zip(count(), range(0, len(commands), _PARCEL_COMMANDS)):
        yield _Request(number, "execute_many", {"commands": commands[start : start + _PARCEL_COMMANDS]})


def _asks(questions: Sequence[BalanceOf]) -> Iterator[_Request]:
    return (_Request(number, "ask", {"query": each}) for number, each in enumerate(questions))


async def _pipe(server: Target, requests: Iterator[_Request], in_flight: int, reply: type[Any]) -> None:
    pipeline = _Pipeline(requests, in_flight, reply)
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: pipeline, "127.0.0.1", server.port)
    try:
        await pipeline.done
    finally:
        transport.close()


class _Pipeline(asyncio.Protocol):
    def __init__(self, requests: Iterator[_Request], in_flight: int, reply: type[Any]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._in_flight = in_flight
        self._left = 0
        self._rest = b""
        self._encode = msgspec.json.Encoder().encode_lines
        self._decode = msgspec.json.Decoder(reply).decode
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send(self._in_flight)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        decode = self._decode
        try:
            for line in lines:
                decode(line)
        except msgspec.DecodeError as error:
            if not self.done.done():
                self.done.set_exception(WrongReply(f"{error}"))
            return
        self._left -= len(lines)
        self._send(len(lines))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(NoReply("the server closed the connection"))

    def _send(self, count: int) -> None:
        some = list(islice(self._requests, count))
        self._left += len(some)
        if some:
            self._transport.write(self._encode(some))
        elif not self._left and not self.done.done():
            self.done.set_result(None)
