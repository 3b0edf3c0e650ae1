"""A server in a process of its own, which a test can kill: ``python -m tests.engine.client.serving LOG ADDRESS``."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import anyio
import anyio.to_thread
import structlog

from millstream.engine import Engine
from millstream.engine.server import Server
from tests.shop import shop

__all__ = ["Served", "served"]

ROOT = Path(__file__).resolve().parents[3]


class Served:
    """The shop, served from a log, always at the same address, which nobody else gets while it is down."""

    def __init__(self, log: Path, address: str) -> None:
        self.log = log
        self.address = address
        self._process: subprocess.Popen[str] | None = None

    async def start(self) -> None:
        """Start, and wait until it listens."""
        command = [sys.executable, "-m", "tests.engine.client.serving", str(self.log), self.address]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        said = await anyio.to_thread.run_sync(_line, self._process.stdout)
        if not said:
            import pytest

            pytest.fail(f"the server ended with exit code {self._process.wait()}")

    def freeze(self) -> None:
        """Let it do nothing any more until it is killed; its connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """End it as a crash does: at once, whatever it was doing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None


def _line(stream: IO[str]) -> str:
    return stream.readline().strip()


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """A server that can be started, and is killed with the block."""
    with TemporaryDirectory() as place:  # the path of a socket must be short
        server = Served(folder / "shop.db", f"unix://{place}/socket")
        try:
            yield server
        finally:
            server.kill()


async def _serve(log: str, address: str) -> None:
    async with Engine(shop, log=log) as engine, Server(engine, listen=[address]):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await anyio.sleep_forever()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    anyio.run(_serve, sys.argv[1], sys.argv[2])
