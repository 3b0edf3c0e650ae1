"""The example's bank, tortured: customers who give up and come back, a store that fails, engines that crash.

The suite plays 200 seeds. ``MILLSTREAM_TORTURE=1 pytest tests/behaviour/test_simulated_bank.py`` plays 5,000, a larger number as
many. A seed that fails is named by the error, and is played alone with ``simulate(branch, seed=…)``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import anyio
import pytest
from msgspec.structs import asdict

from examples.bank import Balances, Bank, Deposit, Deposited, Open, Opened, Transfer, Withdrawn, app
from millstream.engine import App, Command, Engine, Event, Limits, Receipt
from millstream.engine.testing import (
    BrokenPromise,
    Call,
    Faults,
    History,
    Simulation,
    StoreFault,
    check_history,
    check_log,
    settled,
    simulate,
    torture,
)
from millstream.handlers import applies, handles
from millstream.views import View

_torture = int(os.environ.get("MILLSTREAM_TORTURE") or 0)
SEEDS = {0: 200, 1: 5_000}.get(_torture, _torture)

NAMES = ("ann", "bob", "cyd")
ROUGH = Faults(
    append_refused=0.05,
    append_lost=0.05,
    append_written=0.05,
    append_ghost=0.1,
    head_fails=0.1,
    read_fails=0.05,
    probe_fails=0.4,
    open_fails=0.05,
    snapshot_fails=0.02,
    held=0.03,
)


class Branch:
    """One scenario: three lives of an engine on one log, then a quiet one in which everything is checked."""

    def __init__(self, world: Simulation, of: App) -> None:
        self.world = world
        self.app = of
        self.log = world.log(ROUGH)
        self.history = History(world, self.log)

    def engine(self) -> Engine:
        pick = self.world.random.choice
        bounds = Limits(
            batch_commands_max=pick([1, 3, 250]),
            mailbox_commands_max=pick([2, 10_000]),
            view_queue_commits_max=pick([1, 3, 1_000]),
            read_bytes_max=pick([1, 1_000, 1_000_000]),
            slice_ms_max=pick([0.001, 2.0]),
            snapshot_events_every=pick([5, 20, 1_000_000]),
        )
        return Engine(self.app, log=self.log, limits=bounds)

    async def play(self) -> None:
        for _ in range(3):
            try:
                await self.live()
            except StoreFault as error:
                self.world.note(f"it did not open: {error}")
        self.log.heal()
        async with self.engine() as engine:
            await check_history(self.history, engine)
        self.check_money()

    async def live(self) -> None:
        async with self.engine() as engine, anyio.create_task_group() as customers:
            for name in NAMES:
                customers.start_soon(self.customer, engine, name)
            if self.world.random.random() < 0.6:
                await self.world.pause(0.05)
                await self.world.crash(engine)
            elif self.world.random.random() < 0.2:
                await self.world.pause(0.05)
                customers.cancel_scope.cancel()

    async def customer(self, engine: Engine, name: str) -> None:
        world, history = self.world, self.history
        for call in [call for call in history.calls if call.may_stand][-3:]:
            await self.once_more(engine, call)
        for _ in range(world.random.randint(1, 8)):
            await world.pause()
            commands = [self.command(name) for _ in range(world.random.choice([1, 1, 4]))]
            timeout = world.random.choice([None, None, 0.001, 0.05])
            if len(commands) > 1:
                await history.execute_many(engine, commands, timeout=timeout)
            else:
                await history.execute(engine, commands[0], timeout=timeout)
            if history.calls[-1].may_stand and world.random.random() < 0.5:
                await self.once_more(engine, history.calls[-1])

    async def once_more(self, engine: Engine, call: Call) -> None:
        await self.history.execute(engine, call.command, command_id=call.command_id)

    def command(self, name: str) -> Command:
        pick, amount = self.world.random.choice, self.world.random.randint(1, 100)
        return pick([Open(name), Deposit(name, amount), Deposit(name, amount), Transfer(name, pick(NAMES), amount)])

    def check_money(self) -> None:
        """No account is ever overdrawn, and a transfer takes as much as it gives."""
        balances: dict[str, int] = {}
        for entry in check_log(self.log.commits):
            signed = [
                (e["account"], {"Deposited": 1, "Withdrawn": -1, "Opened": 0}[e["type"]] * e.get("amount", 0))
                for e in entry.events
            ]
            for account, amount in signed:
                balances[account] = balances.get(account, 0) + amount
                assert balances[account] >= 0, f"{account} is overdrawn by {entry.command_id}"
            assert entry.type != "Transfer" or sum(amount for _, amount in signed) == 0


async def branch(world: Simulation) -> None:
    await Branch(world, app).play()


def test_whatever_happens_to_the_store_and_to_the_engine_the_bank_keeps_its_promises() -> None:
    counts = torture(branch, seeds=range(SEEDS))
    assert set(counts) >= {name for name, share in asdict(ROUGH).items() if share and not name.endswith("_max")}
    assert set(counts) >= {"crashes", "written as it crashed"}


def test_a_seed_gives_the_same_history_again_and_other_seeds_give_others() -> None:
    runs = [simulate(branch, seed=seed) for seed in range(10)]
    assert [simulate(branch, seed=seed) for seed in range(10)] == runs
    assert len({tuple(run.trace) for run in runs}) == 10
    opened = [re.search(r"opened .* events=(\d+) replayed=(\d+)", line) for run in runs for line in run.trace]
    assert any(each and int(each[2]) < int(each[1]) for each in opened), "snapshots are used"


def test_a_commit_that_is_found_after_a_failure_is_durable_before_anybody_hears_of_it() -> None:
    async def scenario(world: Simulation) -> None:
        log = world.log()
        history = History(world, log)
        async with Engine(app, log=log) as engine:
            log.faults = Faults(append_written=1.0, probe_fails=1.0)
            await history.execute(engine, Open("ann"))
            log.heal()
            await settled(engine)
            await history.execute(engine, Open("ann"), command_id=history.calls[0].command_id)
            await world.crash(engine)
        async with Engine(app, log=log) as engine:
            await check_history(history, engine)
            assert isinstance(history.calls[1].outcome, Receipt)

    torture(scenario, seeds=range(10))


def test_what_an_engine_finds_at_opening_is_durable_before_anybody_hears_of_it() -> None:
    """The commit was written, and not flushed; a crash of the machine after the next opening may still undo it."""

    async def scenario(world: Simulation) -> None:
        log = world.log()
        history = History(world, log)
        async with Engine(app, log=log) as engine:
            log.faults = Faults(append_written=1.0, probe_fails=1.0)
            await history.execute(engine, Open("ann"))
        log.faults = Faults(open_unflushed=1.0)
        async with Engine(app, log=log) as engine:
            await history.execute(engine, Open("ann"), command_id=history.calls[0].command_id)
            await world.crash(engine)
        async with Engine(app, log=log) as engine:
            await check_history(history, engine)

    torture(scenario, seeds=range(10))


# Banks with a mistake in them.


class Trusting(Bank):
    """It forgets to look at the balance."""

    @handles
    def transfer(self, command: Transfer) -> Iterator[Event]:
        self._require(command.account)
        self._require(command.to)
        yield Withdrawn(command.account, command.amount)
        yield Deposited(command.to, command.amount)


class Statements(View):
    """It numbers its lines by something that is not in its state."""

    lines: dict[str, int] = {}

    @applies
    def opened(self, event: Opened) -> None:
        printed.append(event.account)
        self.lines[event.account] = len(printed)


printed: list[str] = []


class Hasty(Bank):
    """It counts what it decides, not what happened."""

    decided: int = 0

    @handles
    def deposit(self, command: Deposit) -> Iterator[Event]:
        self.decided += 1
        return super().deposit(command)


@pytest.mark.parametrize(
    ("wrong", "error", "problem"),
    [
        (App(models=[Trusting], views=[Balances], name="trusting"), AssertionError, r"\w+ is overdrawn by c\d+"),
        (
            App(models=[Bank], views=[Balances, Statements], name="statements"),
            BrokenPromise,
            "Statements is not what a re",
        ),
        (App(models=[Hasty], views=[Balances], name="hasty"), BrokenPromise, "Hasty is not .*: decided is"),
    ],
)
def test_a_mistake_in_a_handler_or_a_view_is_found_and_the_seed_is_told_that_shows_it_again(
    wrong: App, error: type[Exception], problem: str
) -> None:
    async def scenario(world: Simulation) -> None:
        await Branch(world, wrong).play()

    with pytest.raises(error, match=problem) as raised:
        torture(scenario, seeds=range(50))
    told = raised.value.__notes__[0]
    seed = int(told.partition("seed=")[2].partition(",")[0])
    printed.clear()
    with pytest.raises(error) as again:
        simulate(scenario, seed=seed)
    assert again.value.__notes__[0] == told
