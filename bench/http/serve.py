"""A server over HTTP: ``python -m millstream.bench.http.serve bank|nothing|row PATH LOOP``.

It says on standard output where it listens, and ends in good order at SIGTERM.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from millstream.bench import loops
from millstream.bench.bank import bank
from millstream.engine import Engine
from millstream.engine.web import WebApp, WebLimits, WebServer

__all__ = ["main"]

#: So many watch, and so many call.
_CONNECTIONS_MAX = 4_000


async def _bank(path: str) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with Engine(bank, log=path) as engine:
        web = WebApp(bank, engine, limits=WebLimits(connections_max=_CONNECTIONS_MAX))
        async with WebServer(web, listen=["127.0.0.1:0"]) as server:
            _say(server.addresses[0].address.port)
            await stopped.wait()


async def _framework(app: Any) -> None:
    # Said to be TCP, as uvicorn has it by default: asyncio turns off the waiting for acknowledgements for no other.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.bind(("127.0.0.1", 0))
    bound.listen(1024)  # so that no connection is refused before uvicorn listens
    _say(bound.getsockname()[1])
    config = uvicorn.Config(app, http="h11", log_level="warning", access_log=False)
    await uvicorn.Server(config).serve([bound])


def _say(port: int) -> None:
    sys.stdout.write(f"port {port}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> None:
    """Serve what the first argument names, on the file that the second and the event loop that the third names."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    what, path, loop = arguments
    if what == "bank":
        loops.run(partial(_bank, path), loop)
        return
    frameworks: Any = import_module("millstream.bench.http.frameworks")  # who serves the bank needs neither
    app = frameworks.nothing() if what == "nothing" else frameworks.one_row(Path(path))
    loops.run(partial(_framework, app), loop)


if __name__ == "__main__":
    main(sys.argv[1:])
