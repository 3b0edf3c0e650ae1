"""The process that is killed: ``python -m millstream.bench.proofs.histories.child ORDER``, the order being JSON.

It serves the bank from a log, as its writer or as a replica, says on standard output that it is ready, and goes on
until it is killed. When no process holds its standard input any more it ends itself, so that none outlives its parent.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import AsyncExitStack
from functools import partial

import msgspec
import structlog

from millstream.bench import loops
from millstream.bench.proofs.histories.accounts import accounts
from millstream.engine import App, Engine, Limits
from millstream.engine.client import Client
from millstream.engine.replica import Replica
from millstream.engine.server import Server

__all__ = ["READY", "Order", "main"]

#: The line that says that it answers.
READY = b"ready\n"

#: Few, so that most processes take several snapshots and the next ones begin with them.
_SNAPSHOT_EVENTS_EVERY = 3_000


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a child is to do."""

    log: str
    #: Where to listen.
    listen: list[str]
    #: The writer's address, for a replica; None for the writer.
    writer: str | None = None
    loop: str = "asyncio"
    #: How many commands with an id are remembered.
    receipts_max: int = Limits().receipts_max


async def _serve(app: App, order: Order) -> int:
    limits = Limits(snapshot_events_every=_SNAPSHOT_EVENTS_EVERY, receipts_max=order.receipts_max)
    async with AsyncExitStack() as stack:
        backend: Engine | Replica
        if order.writer is None:
            backend = await stack.enter_async_context(Engine(app, log=order.log, limits=limits))
        else:
            writer = await stack.enter_async_context(Client(order.writer, eager=False))
            backend = await stack.enter_async_context(Replica(app, log=order.log, writer=writer, limits=limits))
        await stack.enter_async_context(Server(backend, listen=order.listen))
        sys.stdout.buffer.write(READY)
        sys.stdout.buffer.flush()
        await asyncio.to_thread(sys.stdin.buffer.read)
    return 0


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
