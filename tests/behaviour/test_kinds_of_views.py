"""The same random histories on all kinds of views: live, from the log, from snapshots, rebuilt, of yesterday, in a replica.

All of them give the answers that a plain model gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, TypeAlias

import anyio
import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from millstream.engine import App, Command, Engine, Event, Key, Limits, Query, Replica
from millstream.handlers import Aggregate, handles
from millstream.views import TableView, Timeline, TimelineOf, View, answers, applies

ACCOUNTS = "abc"


class Move(Command):
    account: Key
    amount: int


class Moved(Event):
    account: Key
    amount: int


class Account(Aggregate):
    @handles
    def move(self, command: Move) -> Iterator[Moved]:
        yield Moved(command.account, command.amount)


class Balance(msgspec.Struct, frozen=True):
    account: str
    amount: int = 0
    moves: int = 0


Balances: TypeAlias = list[Balance]


class ByDict(Query[list[Balance]]):
    least: int


class ByTable(Query[list[Balance]]):
    least: int


class Dicts(View):
    balances: dict[str, Balance] = {}

    @applies
    def moved(self, event: Moved) -> None:
        self.balances[event.account] = after(self.balances.get(event.account), event)

    @answers
    def richer(self, query: ByDict) -> list[Balance]:
        return in_order(each for each in self.balances.values() if each.amount >= query.least)


class Table(TableView[Balance]):
    key: ClassVar = "account"
    ordered: ClassVar = ("amount",)

    @applies
    def moved(self, event: Moved) -> None:
        self.put(after(self.get(event.account), event))

    @answers
    def richer(self, query: ByTable) -> list[Balance]:
        return list(self.between("amount", low=query.least))


class Happenings(Timeline):
    events: ClassVar = (Moved,)


app = App(models=[Account], views=[Dicts, Table, Happenings], name="accounts")


def after(before: Balance | None, event: Moved) -> Balance:
    before = before or Balance(event.account)
    return replace(before, amount=before.amount + event.amount, moves=before.moves + 1)


def in_order(balances: Iterator[Balance]) -> list[Balance]:
    return sorted(balances, key=lambda each: (each.amount, each.account))


def plain(moves: Sequence[Move], least: int) -> Balances:
    """What all of them are to answer after these."""
    moved = {account: [each.amount for each in moves if each.account == account] for account in ACCOUNTS}
    balances = (Balance(account, sum(amounts), len(amounts)) for account, amounts in moved.items() if amounts)
    return in_order(each for each in balances if each.amount >= least)


async def require_equal(asked: Engine | Replica, moves: Sequence[Move], least: int, at: int | None = None) -> None:
    """See that each kind of view answers what the plain model says."""
    after = None if at is not None else len(moves)
    expected = plain(moves, least)
    assert await asked.ask(ByDict(least), after=after, at=at) == expected
    assert await asked.ask(ByTable(least), after=after, at=at) == expected
    told: list[Balance] = []
    for account in ACCOUNTS:
        page = await asked.ask(TimelineOf(account), after=after, at=at)
        amounts = [step.event["amount"] for step in page.steps]
        if amounts:
            told.append(Balance(account, sum(amounts), page.steps_in_all))
    assert in_order(each for each in told if each.amount >= least) == expected


moves = st.builds(Move, st.sampled_from(ACCOUNTS), st.integers(-5, 9))
lives = st.lists(st.lists(moves, max_size=8), min_size=1, max_size=4)


@given(lives, st.integers(-3, 8), st.booleans(), st.data())
@settings(max_examples=25, deadline=None)
def test_all_kinds_of_views_answer_what_a_plain_model_says(
    lived: list[list[Move]], least: int, uses_snapshots: bool, data: st.DataObject
) -> None:
    limits = Limits(batch_commands_max=1, past_states_max=2, snapshot_events_every=3)

    async def run(path: Path) -> None:
        done: list[Move] = []
        for life in lived:
            async with Engine(app, log=path, limits=limits, snapshots=uses_snapshots) as engine:
                await require_equal(engine, done, least)
                await engine.execute_many(life)
                done += life
                await require_equal(engine, done, least)
                at = data.draw(st.integers(0, len(done)))
                await require_equal(engine, done[:at], least, at)
                view = data.draw(st.sampled_from(["Dicts", "Table", "Happenings"]))
                assert (await engine.rebuild(view, ask=[])).rows_differ == 0
                await require_equal(engine, done, least)
                if data.draw(st.booleans()):
                    async with Replica(app, log=path, limits=limits) as replica:
                        await require_equal(replica, done, least)
                        await require_equal(replica, done[:at], least, at)

    with TemporaryDirectory() as folder:
        anyio.run(run, Path(folder) / "log.db")
