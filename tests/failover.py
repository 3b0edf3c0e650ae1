"""Processes that serve one log, of which one writes and the others stand by; and callers that notice nothing else."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Self

import anyio
import anyio.lowlevel

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
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._listening: set[asyncio.Task[None]] = set()
        self._said: list[str] = []
        self._heard = asyncio.Event()
        #: How many were begun that had to stand by.
        self.begun = -1

    async def __aenter__(self) -> Self:
        for address in self.addresses:
            await self.begin(address)
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            for address in list(self._running):
                await self.kill(address)
            await asyncio.gather(*self._listening)

    async def begin(self, address: str) -> None:
        self.begun += 1
        command = [sys.executable, "-m", "millstream.engine.cli", "serve", "tests.shop:shop", "--standby"]
        process = await asyncio.create_subprocess_exec(
            *command, "--log", self._log, "--listen", address, stderr=asyncio.subprocess.PIPE, cwd=ROOT
        )
        self._running[address] = process
        task = asyncio.create_task(self._listen(process))
        self._listening.add(task)
        task.add_done_callback(self._listening.discard)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            self._said.append(line.decode())
            self._heard.set()

    async def standing_by(self) -> None:
        """Wait until each process that was begun is ready for its turn."""
        with anyio.fail_after(60):
            while self.said().count("stands_by") < self.begun:
                self._heard.clear()
                await self._heard.wait()

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
        with suppress(ProcessLookupError):  # it may have ended by itself
            process.kill()
        await process.wait()

    def stop(self, address: str) -> None:
        """Let it stand still, as a machine does that is short of memory."""
        self._running[address].send_signal(signal.SIGSTOP)

    async def wake(self, address: str) -> int:
        """Let it go on, and wait until it has ended by itself."""
        process = self._running.pop(address)
        process.send_signal(signal.SIGCONT)
        with anyio.fail_after(60):
            return await process.wait()

    def said(self) -> str:
        return "".join(self._said)


class Callers:
    """They add one after another, each under an id, and send again what they have no receipt of."""

    def __init__(self, addresses: list[str], count: int = 8) -> None:
        self._addresses = addresses
        self._count = count
        self.acknowledged: dict[str, int] = {}
        self.errors: Counter[str] = Counter()
        self._wanted, self._reached = 0, asyncio.Event()
        self._is_wanted = asyncio.Event()
        self._is_wanted.set()
        #: Commands that are begun now are what `more` waits for.
        self._round = 0
        self.is_over = False

    def rest(self) -> None:
        """Begin no more commands, until more are waited for."""
        self._is_wanted.clear()

    def end(self) -> None:
        """End with what is under way."""
        self.is_over = True
        self._is_wanted.set()

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
            await self._is_wanted.wait()
            begun, name = self._round, f"{caller}.{number}"
            try:
                receipt = await client.execute(Add(f"k{caller}", 1), command_id=name)
            except MillstreamError as error:
                self.errors[f"{type(error).__name__}: {error}"] += 1
                await anyio.lowlevel.checkpoint()
                continue
            self.acknowledged[name] = receipt.position
            number += 1
            if begun == self._round:
                self._wanted -= 1
                if not self._wanted:
                    self._reached.set()

    async def more(self, count: int) -> float:
        """Wait for the receipts of so many commands that are begun from now on; in how many seconds they came."""
        began = elapsed()
        self._round += 1
        self._wanted, self._reached = count, asyncio.Event()
        self._is_wanted.set()
        with anyio.fail_after(60):
            await self._reached.wait()
        return elapsed() - began
