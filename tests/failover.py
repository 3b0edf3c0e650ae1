"""Processes that serve one log, of which one writes and the others stand by; and callers that notice nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Self

import anyio
import anyio.lowlevel
import anyio.to_thread

from millstream.engine import MillstreamError
from millstream.engine.client import Client, ClientLimits
from millstream.engine.loop.clock import elapsed
from millstream.engine.stores.address import log_at
from tests.shop import Add

__all__ = ["Callers", "Processes"]

ROOT = Path(__file__).parent.parent


class Processes:
    """``millstream serve --standby``, some times, on one log."""

    def __init__(self, folder: Path, log: str, count: int = 2) -> None:
        self._folder = folder
        self._log = log
        self.addresses = [f"unix://{folder}/{name}" for name in "abcdef"[:count]]
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        #: How many were begun that had to stand by.
        self.begun = -1

    async def __aenter__(self) -> Self:
        for address in self.addresses:
            self.begin(address)
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            for process in self._running.values():
                process.kill()
                await anyio.to_thread.run_sync(process.wait)

    def begin(self, address: str) -> None:
        self.begun += 1
        with (self._folder / "errors").open("ab") as errors:
            command = [sys.executable, "-m", "millstream.engine.cli", "serve", "tests.shop:shop", "--standby"]
            self._running[address] = subprocess.Popen(
                [*command, "--log", self._log, "--listen", address], stdout=errors, stderr=errors, cwd=ROOT
            )

    async def leader(self) -> str:
        """Where the log says that its writer is."""
        with anyio.fail_after(60):
            while True:
                log = log_at(self._log)
                try:
                    await log.attach()
                    address = await log.leader()
                    if address is not None:
                        return address
                except (MillstreamError, OSError):
                    pass
                finally:
                    await log.close()
                await anyio.lowlevel.checkpoint()

    async def kill(self, address: str) -> None:
        process = self._running.pop(address)
        process.kill()
        await anyio.to_thread.run_sync(process.wait)

    def stop(self, address: str) -> None:
        """Let it stand still, as a machine does that is short of memory."""
        self._running[address].send_signal(signal.SIGSTOP)

    async def wake(self, address: str) -> int:
        """Let it go on, and wait until it has ended by itself."""
        process = self._running.pop(address)
        process.send_signal(signal.SIGCONT)
        with anyio.fail_after(60):
            return await anyio.to_thread.run_sync(process.wait, abandon_on_cancel=True)

    def said(self) -> str:
        return (self._folder / "errors").read_text("utf-8")


class Callers:
    """They add one after another, each under an id, and send again what they have no receipt of."""

    def __init__(self, addresses: list[str], count: int = 8) -> None:
        self._addresses = addresses
        self._count = count
        self.acknowledged: dict[str, int] = {}
        self.errors: Counter[str] = Counter()
        self._wanted, self._reached = 0, anyio.Event()
        self.is_over = False

    async def run(self) -> None:
        limits = ClientLimits(reconnect_seconds_max=60, quiet_seconds_max=1.0, retry_seconds_max=0.1)
        async with (
            Client(self._addresses, limits=limits, eager=False) as client,
            anyio.create_task_group() as group,
        ):
            for caller in range(self._count):
                group.start_soon(self._call, client, caller)

    async def _call(self, client: Client, caller: int) -> None:
        number = 0
        while not self.is_over:
            name = f"{caller}.{number}"
            try:
                receipt = await client.execute(Add(f"k{caller}", 1), command_id=name)
            except MillstreamError as error:
                self.errors[f"{type(error).__name__}: {error}"] += 1
                await anyio.lowlevel.checkpoint()
                continue
            self.acknowledged[name] = receipt.position
            if len(self.acknowledged) == self._wanted:
                self._reached.set()
            number += 1

    async def more(self, count: int) -> float:
        """Wait for so many more receipts; in how many seconds they came."""
        began = elapsed()
        self._wanted, self._reached = len(self.acknowledged) + count, anyio.Event()
        with anyio.fail_after(60):
            await self._reached.wait()
        return elapsed() - began
