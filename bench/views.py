"""What views cost: applications with more of them than the bank has, one made anew, one that keeps everything."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from millstream.bench.bank import AllBalances, Branch, BranchBalances, Deposited, Remitted, fingerprint, streams
from millstream.bench.engine_runs import LOG_NAME
from millstream.bench.job import Job, Result
from millstream.bench.measure import resident_bytes
from millstream.engine import App, Engine
from millstream.engine.loop.clock import elapsed
from millstream.views import View, applies

__all__ = ["applying", "held", "ignoring", "plain_held", "rebuild"]


class _Remittances(View):
    """Ignores deposits."""

    count: int = 0

    @applies
    def remitted(self, event: Remitted) -> None:
        self.count += 1


class _Sums(View):
    """Applies deposits, in another way than `BranchBalances`."""

    deposits: int = 0
    amounts: int = 0

    @applies
    def deposited(self, event: Deposited) -> None:
        self.deposits += 1
        self.amounts += event.amount


class _Held(View):
    """Keeps each deposit."""

    events: list[Deposited] = []

    @applies
    def deposited(self, event: Deposited) -> None:
        self.events.append(event)


def ignoring(count: int) -> App:
    """The bank with so many more views, none of which applies a deposit."""
    return _with(_copies(_Remittances, count))


def applying(count: int) -> App:
    """The bank with so many more views, each of which applies a deposit."""
    return _with(_copies(_Sums, count))


def _copies(view: type[View], count: int) -> list[type[View]]:
    return [type(f"{view.__name__}{number}", (view,), {"__module__": __name__}) for number in range(count)]


def _with(views: Sequence[type[View]]) -> App:
    return App(models=[Branch], views=[BranchBalances, *views], name="millstream-bench-bank")


async def rebuild(job: Job) -> Result:
    """Events a second into one view that has no snapshot, when everything else has: once to warm up, once measured."""
    app = _with([_Sums])
    for place in ("warmup", "measured"):
        copy = Path(job.directory) / place
        copy.mkdir()
        for name in (LOG_NAME, f"{LOG_NAME}-snapshots"):
            shutil.copy(Path(job.directory) / name, copy)
        gc.collect()
        started = elapsed()
        async with Engine(app, log=copy / LOG_NAME) as engine:
            seconds = elapsed() - started
            events = engine.stats().writer.position
            state = fingerprint(await engine.ask(AllBalances()))
        shutil.rmtree(copy)
    return Result(value=events / seconds, details={"events": events}, state=state)


async def held(job: Job) -> Result:
    """Bytes of memory for each event that a view keeps."""
    gc.collect()
    before = resident_bytes()
    async with Engine(_with([_Held]), log=Path(job.directory) / LOG_NAME, snapshots=False) as engine:
        gc.collect()
        used = max(resident_bytes() - before, 1)  # few may fit into what the process has already
        events = engine.stats().writer.position
    return Result(value=used / events)


def plain_held(job: Job) -> Result:
    """The same for a list of as many events that were read from JSON, and nothing else."""
    some = streams(msgspec.structs.replace(job.workload, commands=1_000)).measured
    encoded = [msgspec.json.encode(Deposited(each.account, each.amount)) for each in some]
    decode = msgspec.json.Decoder(Deposited).decode
    before = resident_bytes()
    events = [decode(encoded[number % len(encoded)]) for number in range(job.workload.commands)]
    return Result(value=max(resident_bytes() - before, 1) / len(events))
