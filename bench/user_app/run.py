"""One run: an engine on a new log, the commands, and the log opened once more."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from millstream.bench.job import BenchError, Result
from millstream.bench.measure import LATENCY, arrivals, curve, latencies
from millstream.bench.user_app.work import OwnJob, commands_in
from millstream.engine import App, Command, Engine, MillstreamError, Rejected, SqliteLog
from millstream.engine.cli.load import load_app
from millstream.engine.loop.clock import elapsed
from millstream.engine.stores.events import event_pages

__all__ = ["SetupRefused", "run"]

_LOG = "own.db"
_CALL_COMMANDS = 10_000


class SetupRefused(BenchError):
    """What should have been there before the clock started is not."""

    def __init__(self, number: int, problem: str) -> None:
        super().__init__(number, problem)
        self.number = number
        self.problem = problem

    def __str__(self) -> str:
        return f"command {self.number} of those that prepare the application failed: {self.problem}"


async def run(job: OwnJob) -> Result:
    """Commands a second, answered: with a receipt, or by a rule that said no.

    Raises:
        SetupRefused: a command that prepares the application was refused.
        NoCommands: a file holds something else.
        MillstreamError: the application can't be loaded, or its log can't be used.
    """
    app, path = load_app(job.app), Path(job.directory) / _LOG
    setup = commands_in(app, job.setup) if job.setup else []
    commands = commands_in(app, job.commands)
    async with Engine(app, log=path, effects=False) as engine:
        await _prepare(engine, setup)
        await _Sending(engine).by_callers(job.callers, commands[: job.warmup])
        gc.collect()
        before = engine.stats().writer
        sending, started = _Sending(engine), elapsed()
        if job.rate is None:
            await sending.by_callers(job.callers, commands[job.warmup :])
        else:
            sending.seconds = await arrivals(sending.one, commands[job.warmup :], 1 / job.rate)
        seconds = elapsed() - started
        after = engine.stats().writer
    events, size = after.position, path.stat().st_size
    details = {
        **latencies(sending.seconds),
        "accepted": float(after.commands - before.commands),
        **{f"refused: {code}": float(count) for code, count in sorted(sending.refused.items())},
        "events": float(after.position - before.position),
        "commands/commit": (after.commands - before.commands) / max(after.commits - before.commits, 1),
        "bytes/event on disk": size / max(events, 1),
        "replay events/s": await _replayed(app, path, events),
    }
    return Result(
        value=len(sending.seconds) / seconds,
        details=details,
        series={LATENCY: curve(sending.seconds)},
        state=await _fingerprint(path),
    )


class _Sending:
    """Sends commands, and notes how long each took and what was refused."""

    def __init__(self, engine: Engine) -> None:
        self.seconds: list[float] = []
        self.refused: Counter[str] = Counter()
        self._engine = engine

    async def by_callers(self, callers: int, commands: Sequence[Command]) -> None:
        waiting = iter(commands)

        async def caller() -> None:
            for command in waiting:
                started = elapsed()
                await self.one(command)
                self.seconds.append(elapsed() - started)

        await asyncio.gather(*(caller() for _ in range(callers)))

    async def one(self, command: Command) -> None:
        try:
            await self._engine.execute(command)
        except Rejected as refusal:
            self.refused[refusal.code] += 1
        except MillstreamError as error:
            self.refused[type(error).__name__] += 1


async def _prepare(engine: Engine, setup: Sequence[Command]) -> None:
    for start in range(0, len(setup), _CALL_COMMANDS):
        outcomes = await engine.execute_many(setup[start : start + _CALL_COMMANDS])
        for number, outcome in enumerate(outcomes, start + 1):
            if isinstance(outcome, MillstreamError):
                raise SetupRefused(number, str(outcome))


async def _replayed(app: App, path: Path, events: int) -> float:
    """Events a second when the log is opened as if there were no snapshots."""
    started = elapsed()
    async with Engine(app, log=path, snapshots=False, effects=False):
        return events / (elapsed() - started)


async def _fingerprint(path: Path) -> str:
    """A hash of all events in their order, and of nothing that differs from run to run."""
    digest = blake2b(digest_size=8)
    log = SqliteLog(path)
    await log.attach()
    try:
        async for page in event_pages(log):
            for event in page:
                digest.update(bytes(event.data))
    finally:
        await log.close()
    return digest.hexdigest()
