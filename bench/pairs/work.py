"""What is measured: one workload on whatever engine is found first, and the CPU time that the loop's thread took.

It is run as a file, in a process of its own, with the version to be measured in front of all that is installed. So it
uses nothing but the names that `millstream.engine` and its neighbours export, which versions have in common.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from millstream import engine as engine_package
from millstream.engine import App, Command, Engine, Event, Key, Limits, MemoryLog, Query
from millstream.handlers import WriteModel, applies, handles
from millstream.views import View, answers

__all__ = ["WORKLOADS", "BalanceOf", "Balances", "Branch", "Deposit", "Deposited", "main"]

_ACCOUNTS = 1_000
_CALLERS = 1_000


class Deposit(Command):
    """Money for an account."""

    account: Key
    amount: int


class Deposited(Event):
    """An account has more money."""

    account: Key
    amount: int


class BalanceOf(Query[int]):
    """How much an account has."""

    account: Key


class Branch(WriteModel):
    """Balances, to decide on."""

    balances: dict[str, int] = {}

    @handles
    def deposit(self, command: Deposit) -> Iterator[Event]:
        """Every deposit is taken."""
        yield Deposited(command.account, command.amount)

    @applies
    def deposited(self, event: Deposited) -> None:
        """The account has more."""
        self.balances[event.account] = self.balances.get(event.account, 0) + event.amount


class Balances(View):
    """Balances, to be asked for."""

    balances: dict[str, int] = {}

    @applies
    def deposited(self, event: Deposited) -> None:
        """The account has more."""
        self.balances[event.account] = self.balances.get(event.account, 0) + event.amount

    @answers
    def balance(self, query: BalanceOf) -> int:
        """None is as good as nothing."""
        return self.balances.get(query.account, 0)


_app = App(models=[Branch], views=[Balances], name="pairs")


def _account(number: int) -> str:
    return f"account-{number % _ACCOUNTS}"


async def _deposits(engine: Engine, count: int) -> None:
    """So many deposits by 1,000 callers, each of whom awaits its receipt."""

    async def caller(first: int) -> None:
        for number in range(first, count, _CALLERS):
            await engine.execute(Deposit(_account(number), 1))

    async with asyncio.TaskGroup() as group:
        for first in range(min(_CALLERS, count)):
            group.create_task(caller(first))


async def _commands(count: int, limits: Limits) -> float:
    async with Engine(_app, log=MemoryLog(), limits=limits, snapshots=False) as engine:
        await _deposits(engine, count // 8)
        began = time.thread_time()
        await _deposits(engine, count)
        return time.thread_time() - began


async def _asks(count: int, limits: Limits) -> float:
    async with Engine(_app, log=MemoryLog(), limits=limits, snapshots=False) as engine:
        await _deposits(engine, _ACCOUNTS)
        questions = [BalanceOf(_account(number)) for number in range(_ACCOUNTS)]
        began = time.thread_time()
        for _ in range(max(1, count // _ACCOUNTS)):
            for question in questions:
                await engine.ask(question)
        return time.thread_time() - began


async def _replay(count: int, limits: Limits) -> float:
    log = MemoryLog()
    async with Engine(_app, log=log, limits=limits, snapshots=False) as engine:
        await engine.execute_many([Deposit(_account(number), 1) for number in range(count)])
    began = time.thread_time()
    async with Engine(_app, log=MemoryLog(log.store), limits=limits, snapshots=False):
        return time.thread_time() - began


#: By name: what is done, and how often in a run that counts.
WORKLOADS: dict[str, tuple[Callable[[int, Limits], Coroutine[Any, Any, float]], int]] = {
    "commands": (_commands, 40_000),
    "ask": (_asks, 300_000),
    "replay": (_replay, 100_000),
}


def main(arguments: list[str]) -> None:
    """Do one workload; say the seconds of CPU time and which engine it was.

    Args:
        arguments: the workload, how often, the loop, and limits as JSON.
    """
    name, count, loop, limits = arguments
    work, _ = WORKLOADS[name]
    factory = import_module("uvloop").new_event_loop if loop == "uvloop" else None
    _quiet()
    with asyncio.Runner(loop_factory=factory) as runner:
        seconds = runner.run(work(int(count), Limits(**json.loads(limits))))
    where = str(Path(str(engine_package.__file__)).resolve().parent)
    sys.stdout.write(json.dumps({"seconds": seconds, "engine": where}) + "\n")


def _quiet() -> None:
    structlog = import_module("structlog")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


if __name__ == "__main__":
    main(sys.argv[1:])
