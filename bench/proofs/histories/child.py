"""The process that is killed: ``python -m millstream.bench.proofs.histories.child ORDER``, the order being JSON.

It serves the bank from a log, as its writer, as a replica, or as one of two of which one stands by; says on standard
output that it is ready, and goes on until it is killed. A writer that another one has replaced ends itself, with an
exit code of its own. When no process holds its standard input any more it ends itself, so that none outlives its
parent.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from contextlib import AsyncExitStack
from functools import partial

import msgspec
import structlog

from millstream.bench import loops
from millstream.bench.proofs.histories.accounts import accounts
from millstream.engine import App, Engine, Fenced, Limits
from millstream.engine.client import Client
from millstream.engine.observers import Observer
from millstream.engine.replica import Replica
from millstream.engine.server import Server

__all__ = ["READY", "REPLACED", "Order", "main"]

#: The line that says that it answers.
READY = b"ready\n"
#: The exit code of a writer that another one has replaced.
REPLACED = 4

#: Few, so that most processes take several snapshots and the next ones begin with them.
_SNAPSHOT_EVENTS_EVERY = 3_000


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a child is to do."""

    log: str
    #: Where to listen.
    listen: list[str]
    #: The writer's address, for a replica; None for the writer.
    writer: str | None = None
    #: Whether it stands by where another process writes the log.
    standby: bool = False
    loop: str = "asyncio"
    #: How many commands with an id are remembered.
    receipts_max: int = Limits().receipts_max


async def _serve(app: App, order: Order) -> int:
    limits = Limits(snapshot_events_every=_SNAPSHOT_EVENTS_EVERY, receipts_max=order.receipts_max)
    stopped = _Stopped()
    async with AsyncExitStack() as stack:
        backend: Engine | Replica
        if order.standby:
            address, observers = order.listen[0], [stopped]
            engine = Engine(app, log=order.log, limits=limits, standby=True, address=address, observers=observers)
            backend = await stack.enter_async_context(engine)
        elif order.writer is None:
            backend = await stack.enter_async_context(Engine(app, log=order.log, limits=limits))
        else:
            writer = await stack.enter_async_context(Client(order.writer, eager=False))
            backend = await stack.enter_async_context(Replica(app, log=order.log, writer=writer, limits=limits))
        await stack.enter_async_context(Server(backend, listen=order.listen))
        sys.stdout.buffer.write(READY)
        sys.stdout.buffer.flush()
        ended = asyncio.create_task(asyncio.to_thread(sys.stdin.buffer.read))
        await asyncio.wait([ended, asyncio.create_task(stopped.happened.wait())], return_when=asyncio.FIRST_COMPLETED)
        if isinstance(stopped.error, Fenced):
            os._exit(REPLACED)  # its standard input is waited for in a thread
    return 0


class _Stopped(Observer):
    """Notes that the writer has stopped."""

    def __init__(self) -> None:
        self.happened = asyncio.Event()
        self.error: BaseException | None = None

    def fenced(self, *, log: str, commit: int, head: int) -> None:
        self.error = Fenced(log, commit, head)
        self.happened.set()


def main(arguments: list[str], app: App = accounts) -> int:
    """Do what the first argument orders, and return the exit code.

    Args:
        arguments: the order.
        app: what to serve; another one than the bank shows whether the checks find what it does wrong.
    """
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    order = msgspec.json.decode(arguments[0], type=Order)
    return loops.run(partial(_serve, app, order), order.loop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
