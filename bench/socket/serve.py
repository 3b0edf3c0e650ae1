"""The bank behind a socket: ``python -m millstream.bench.socket.serve LOG LOOP [replica|alone|FRONTS]``.

It says on standard output where it listens, and ends in good order at SIGTERM.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from functools import partial

import structlog

from millstream.bench import loops
from millstream.bench.bank import bank
from millstream.engine import Engine, Replica, SqliteLog
from millstream.engine.server import Server

__all__ = ["main"]


async def _serve(path: str, role: str) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    log = SqliteLog(path, alone_ms_max=4.0 if role == "alone" else None)
    backend: Engine | Replica = Replica(bank, log=log) if role == "replica" else Engine(bank, log=log)
    fronts = int(role) if role.isdecimal() else 0
    async with backend, Server(backend, listen=["tcp://127.0.0.1:0"], fronts=fronts) as server:
        sys.stdout.write(f"port {server.addresses[0].port}\n")
        sys.stdout.flush()
        await stopped.wait()


def main(arguments: list[str]) -> None:
    """Serve the bank on the log that the first argument names, on the event loop that the second names."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    log, loop, *role = arguments
    loops.run(partial(_serve, log, "".join(role)), loop)


if __name__ == "__main__":
    main(sys.argv[1:])
