"""Opens a log with the engine and asks what it holds: the view's balances, and the write model's."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from millstream.bench.bank import AllBalances
from millstream.bench.proofs.torture.application import Audit, Audited, limits, till
from millstream.bench.proofs.torture.check import Problem, wrong_agenda, wrong_balances
from millstream.engine import Engine

__all__ = ["Reopened", "reopen"]

_SECONDS_MAX = 120.0


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
    """Open the log with the engine, ask, and close it. An error is returned: it is for others to judge."""
    try:
        return asyncio.run(asyncio.wait_for(_ask(log), _SECONDS_MAX))
    except Exception as error:  # noqa: BLE001 - whatever a broken log makes it raise is what is to be found out
        return error


def _early() -> datetime:
    """Before any timer is due: whoever looks sends none."""
    return datetime(2000, 1, 1, tzinfo=UTC)


async def _ask(log: Path) -> Reopened:
    async with Engine(till, log=log, limits=limits(), clock=_early) as engine:
        writer = engine.stats().writer
        view = await engine.ask(AllBalances(), after=writer.position)
        (audited,) = engine.preview(Audit())
        if not isinstance(audited, Audited):
            raise TypeError(f"an audit yielded {audited!r:.100}")
        return Reopened(writer.commit, view, dict(audited.balances), len(engine.agenda.entries()))
