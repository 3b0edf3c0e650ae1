"""Opens a log with the engine: to ask what it holds, the view's balances and the write model's, or to let it finish."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from millstream.bench.bank import AllBalances
from millstream.bench.proofs.torture.application import Audit, Audited, Courier, limits, till
from millstream.bench.proofs.torture.check import Problem, wrong_agenda, wrong_balances
from millstream.bench.proofs.torture.service import Service, service_of
from millstream.engine import Engine
from millstream.engine.loop.clock import elapsed

__all__ = ["DRAINED", "Reopened", "drain", "reopen"]

#: The number of the process that calls the service, when it is `drain`.
DRAINED = -1

_SECONDS_MAX = 120.0
_PAUSE_SECONDS = 0.002
#: An engine that has done nothing for so long has nothing more to do.
_IDLE_SECONDS = 15.0


class Reopened(NamedTuple):
    """What an engine says of the log that it opened."""

    commit: int
    view: Mapping[str, int]
    model: Mapping[str, int]
    agenda: int

    def wrong(self, balances: Mapping[str, int], agenda: int) -> list[Problem]:
        """Where its state is not what follows from the log."""
        return [
            *wrong_balances(self.view, balances, "the engine's view"),
            *wrong_balances(self.model, balances, "the engine's write model"),
            *wrong_agenda(self.agenda, agenda),
        ]


def reopen(log: Path) -> Reopened | Exception:
    """Open the log with the engine, ask, and close it; nothing happens. An error is returned, for others to judge."""
    try:
        return asyncio.run(asyncio.wait_for(_ask(log), _SECONDS_MAX))
    except Exception as error:  # noqa: BLE001 - whatever a broken log makes it raise is what is to be found out
        return error


def drain(log: Path) -> int | Exception:
    """Open the log with the engine, let it do all that is left to be done, and close it. An error is returned.

    Returns:
        How many entries its agenda has then. What it left undone is for others to find.
    """
    try:
        return asyncio.run(asyncio.wait_for(_finish(log), _SECONDS_MAX))
    except Exception as error:  # noqa: BLE001 - as in `reopen`
        return error


async def _finish(log: Path) -> int:
    courier = Courier(Service(service_of(log), DRAINED))
    async with Engine(till, log=log, limits=limits(), effects=[courier]) as engine:
        entries, left, since = engine.agenda.entries(), -1, elapsed()
        while (waiting := sum(not entry.is_parked for entry in entries)) and elapsed() < since + _IDLE_SECONDS:
            if waiting != left:
                left, since = waiting, elapsed()
            await asyncio.sleep(_PAUSE_SECONDS)
            entries = engine.agenda.entries()
        return len(entries)


def _early() -> datetime:
    """Before any timer is due: a process that looks sends none."""
    return datetime(2000, 1, 1, tzinfo=UTC)


async def _ask(log: Path) -> Reopened:
    async with Engine(till, log=log, limits=limits(), clock=_early, effects=False) as engine:
        writer = engine.stats().writer
        view = await engine.ask(AllBalances(), after=writer.position)
        (audited,) = engine.preview(Audit())
        if not isinstance(audited, Audited):
            raise TypeError(f"an audit yielded {audited!r:.100}")
        return Reopened(writer.commit, view, dict(audited.balances), len(engine.agenda.entries()))
