"""Tables in a running engine: what a fault leaves, snapshots, replays, replicas, and whose rows the answers hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from millstream.engine import (
    App,
    Engine,
    ImpureHandler,
    InvalidMessage,
    MemoryLog,
    Query,
    Replica,
    SqliteLog,
    ViewFaulted,
    ViewIncomplete,
)
from millstream.engine.testing import Scenario, check_replay
from millstream.views import answers
from tests.support import ScriptedLog
from tests.views.table_rows import Board, Desk, Free, ParkingSeats, Place, SeatRow, Seats, Sell, SkippingSeats, app

pytestmark = pytest.mark.anyio

PLACED = [Place(f"s{n}", ("hamlet", "macbeth")[n % 2], n) for n in range(6)]


def names(rows: tuple[SeatRow, ...]) -> list[str]:
    return [row.seat for row in rows]


@pytest.mark.parametrize("view", [ParkingSeats, SkippingSeats])
async def test_an_event_that_can_not_be_applied_leaves_no_half(view: type[Seats]) -> None:
    log = ScriptedLog()
    async with Engine(app(view), log=log) as engine:
        await engine.execute_many([*PLACED, Sell(("s0", "s1", "s9")), Sell(("s2",))])
        with pytest.raises(ViewIncomplete) as incomplete:
            await engine.ask(Free(), after=8)
        assert names(incomplete.value.answer) == ["s0", "s1", "s3", "s4", "s5"]
        await check_replay(engine, log.commits)


async def test_what_was_parked_is_applied_whole_once_it_can_be() -> None:
    async with Engine(app(ParkingSeats), log=MemoryLog()) as engine:
        await engine.execute_many([*PLACED, Sell(("s0", "s9"))])
        assert names(await engine.ask(Free(), after=7, incomplete=True)) == [f"s{n}" for n in range(6)]
        assert len(await engine.replay_parked()) == 1
        assert names(await engine.ask(Free(), incomplete=True)) == [f"s{n}" for n in range(6)]
        await engine.execute(Place("s9", "hamlet", 1))
        assert await engine.replay_parked() == []
        assert names(await engine.ask(Free(), after=8)) == ["s1", "s2", "s3", "s4", "s5"]


async def test_a_table_that_stops_is_faulted_there() -> None:
    async with Engine(app(), log=MemoryLog()) as engine:
        await engine.execute_many([*PLACED, Sell(("s0", "s9"))])
        with pytest.raises(ViewFaulted, match=r"faulted at position 7: LookupError.*Seats has no row with seat 's9'"):
            await engine.ask(Free(), after=7)


async def test_an_answer_holds_the_rows_themselves() -> None:
    async with Engine(app(), log=MemoryLog()) as engine:
        await engine.execute_many(PLACED)
        free, board = await engine.ask(Free(), after=6), await engine.ask(Board("hamlet"))
        assert board.rows[0] is free[0] is (await engine.ask(Free()))[0]


async def test_pages_go_on_while_others_write_and_a_bad_cursor_is_told() -> None:
    async with Engine(app(), log=MemoryLog()) as engine:
        await engine.execute_many(PLACED)
        page = await engine.ask(Board("hamlet"), after=6)
        await engine.execute_many([Place("a0", "hamlet", 1), Place("a9", "hamlet", 9), Sell(("s0",))])
        more = await engine.ask(Board("hamlet", page.next), after=9)
        assert (names(page.rows), names(more.rows), more.next) == (["s0", "s2"], ["s4", "a9"], None)
        with pytest.raises(InvalidMessage, match="it is of another query"):
            await engine.ask(Board("macbeth", page.next))
        with pytest.raises(InvalidMessage, match="it is none, or was garbled"):
            await engine.ask(Board("hamlet", "nonsense"))


async def test_a_table_comes_back_from_its_snapshot_and_from_the_log_alone(tmp_path: Path) -> None:
    path, many = tmp_path / "seats.db", [Place(f"s{n}", "hamlet", n % 9) for n in range(3_000)]
    async with Engine(app(), log=path) as engine:
        await engine.execute_many([*many, Sell(("s1", "s2", "s3"))])
        free, board = await engine.ask(Free(), after=3_001), await engine.ask(Board("hamlet", descending=True))
    async with Engine(app(), log=path) as engine:
        assert engine.stats().snapshot_position == 3_001
        assert (await engine.ask(Free()), await engine.ask(Board("hamlet", descending=True))) == (free, board)
        await engine.execute(Sell(("s4",)))
        assert len(await engine.ask(Free(), after=3_002)) == len(free) - 1
    async with Engine(app(), log=path, snapshots=False) as engine:
        assert len(await engine.ask(Free(), after=3_002)) == len(free) - 1
        assert (await engine.ask(Board("hamlet", descending=True))) == board


async def test_a_replica_answers_what_the_writer_does(tmp_path: Path) -> None:
    path = tmp_path / "seats.db"
    async with Engine(app(), log=SqliteLog(path)) as engine, Replica(app(), log=SqliteLog(path)) as replica:
        await engine.execute_many(PLACED)
        page = await engine.ask(Board("hamlet"), after=6)
        assert await replica.ask(Board("hamlet"), after=6, timeout=10) == page
        assert await replica.ask(Board("hamlet", page.next)) == await engine.ask(Board("hamlet", page.next))


class Take(Query[int]):
    seat: str


class Careless(Seats):
    @answers
    def take(self, query: Take) -> int:
        self.change(query.seat, lambda row: replace(row, status="sold"))
        return self.count()


async def test_an_answer_that_changes_rows_is_found_by_the_check_of_purity() -> None:
    async with Engine(App(models=[Desk], views=[Careless]), log=MemoryLog(), check_purity=True) as engine:
        await engine.execute_many(PLACED)
        assert len(await engine.ask(Free(), after=6)) == 6
        with pytest.raises(ImpureHandler, match=r"Careless\.take"):
            await engine.ask(Take("s0"))


_SEATS = st.integers(0, 9).map(lambda n: f"s{n}")
_COMMANDS = st.one_of(
    st.builds(Place, _SEATS, st.sampled_from(("hamlet", "macbeth")), st.integers(0, 3)),
    st.builds(Sell, st.lists(_SEATS, max_size=4).map(tuple)),
)


@settings(max_examples=60)
@given(commands=st.lists(_COMMANDS, max_size=30), view=st.sampled_from((Seats, ParkingSeats, SkippingSeats)))
def test_a_replay_makes_the_same_table_indexes_and_all(commands: list[Any], view: type[Seats]) -> None:
    with Scenario(app(view)) as scenario:
        for command in commands:
            scenario.when(command)
        scenario.check()  # a replay of all that was written comes to the same states, or it raises


class Pledged(Seats):
    """Has its own snapshots: none."""

    def snapshot(self) -> None:
        return None


async def test_a_table_may_have_no_snapshots(tmp_path: Path) -> None:
    for _ in range(2):
        async with Engine(app(Pledged), log=tmp_path / "seats.db") as engine:
            await engine.execute(Place("a", "hamlet", 1))
            assert names(await engine.ask(Free(), after=engine.stats().writer.position)) == ["a"]
    assert Pledged.poison == "stop"


async def test_another_index_is_made_from_the_rows_of_the_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "seats.db"
    async with Engine(app(), log=path) as engine:
        await engine.execute_many(PLACED)
    says = {"indexes": ("show", "status"), "ordered": ("price", ("show", "price"), ("status", "price"))}
    changed = type("Seats", (Seats,), {"__module__": __name__, **says})
    async with Engine(app(changed), log=path) as engine:
        assert engine.stats().snapshot_position == 6
        assert len(await engine.ask(Free())) == 6


def test_whoever_makes_a_new_row_changes_nothing_else_of_it() -> None:
    seats = Seats()
    seats.put(SeatRow("s1", "hamlet", 1))

    def how(row: SeatRow) -> SeatRow:
        seats.put(replace(row, price=7))
        return replace(row, price=9)

    with pytest.raises(ValueError, match="has changed the table itself"):
        seats.change("s1", how)
