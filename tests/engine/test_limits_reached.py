"""What happens at each limit is what the table in docs/reference/limits.md says: each row is provoked, here or where it says."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from examples.shop.app import FreeSeats, OrderState
from examples.shop.app import app as tickets
from examples.shop.shows import OpenShow
from millstream.engine import (
    CommitTooLarge,
    DefinitionError,
    Engine,
    Limits,
    MemoryLog,
    MillstreamError,
    Receipt,
    ViewFaulted,
)
from millstream.engine.stores.memory import MemoryStore
from millstream.handlers import Schedule
from tests.desk import Put, Seen, desk
from tests.handlers.test_answers import Say
from tests.handlers.test_answers import theatre as hall
from tests.handlers.test_timers import Hold, Plan, Release, plans, theatre
from tests.outside import Buy
from tests.outside import shop as outside
from tests.selling import Order, selling
from tests.shop import Add, Break, Note, StockOf, shop
from tests.support import ScriptedLog, settled, start, until, views_held, views_of, write_state

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
TABLE = (
    (ROOT / "docs/reference/limits.md")
    .read_text("utf-8")
    .partition("## Limits of the engine\n")[2]
    .partition("\n## ")[0]
)
#: By limit, what happens at it.
ROWS = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", TABLE, re.MULTILINE))
#: These say how often, or how much at once: nobody hears of it.
PACES = {
    "slice_ms_max", "snapshot_events_every", "verify_commits_min", "read_bytes_max", "catch_up_retry_seconds",
}  # fmt: skip
#: Provoked there, as it takes a socket, a clock that leaps, a store that fails, or a view that is held up.
ELSEWHERE = {
    "stored_questions_max": "tests/views/sql/test_sql_view.py",
    "stored_answer_seconds_max": "tests/views/sql/test_sql_view.py",
    "mailbox_bytes_max": "tests/engine/server/test_limits.py",
    "clock_jump_seconds_max": "tests/handlers/test_timers.py",
    "store_retry_seconds": "tests/handlers/test_timers.py",
    "gather_ms_max": "tests/engine/write/test_gather.py",
    "slow_commit_ms": "tests/engine/write/test_writer.py",
    "drain_seconds_max": "tests/engine/test_engine.py",
    "view_queue_commits_max": "tests/engine/read/test_actor.py",
    "view_queue_bytes_max": "tests/engine/read/test_actor.py",
    "watch_answers_bytes_max": "tests/engine/read/test_watches.py",
}


def limits(name: str, value: int) -> Limits:
    """With one limit that is reached at once."""
    return msgspec.structs.replace(Limits(), **{name: value})


async def full_mailbox(name: str) -> None:
    log = ScriptedLog()
    few = Limits(mailbox_commands_max=1, mailbox_entering_max=1, batch_commands_max=1)
    async with Engine(shop, log=log, limits=few) as engine, anyio.create_task_group() as group:
        log.hold()
        sent = []
        for _ in range(4):  # written, decided, in the mailbox, entering
            sent.append(start(group, engine.execute(Add("a", 1))))
            await settled()
        with pytest.raises(MillstreamError) as raised:
            await engine.execute(Add("a", 1), wait=name == "mailbox_entering_max")
        log.release()
        await until(lambda: all(each.kind != "waiting" for each in sent))
        assert all(isinstance(each.value, Receipt) for each in sent), "who waits gets in"
    raise raised.value


async def refused(name: str) -> None:
    async with Engine(shop, log="memory:", limits=Limits().within(100_000)) as engine:
        await engine.execute(Break("large"))


async def closed(name: str) -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, limits=limits(name, 2)) as engine:
        await engine.execute_many([Add("a", 1)] * 10)
    assert len(log.commits) >= 5


async def parked(name: str) -> None:
    async with Engine(selling, log="memory:", limits=limits(name, 1)) as engine:
        assert (await engine.execute(Order("o1", "hamlet", 99))).parked == 1


async def full_agenda(_: str) -> None:
    async with Engine(selling, log="memory:", limits=Limits(agenda_entries_max=1)) as engine:
        assert (await engine.execute(Order("o1", "fire", 1))).parked == 1
        await engine.execute(Order("o2", "hamlet", 1))


async def many_timers(name: str) -> None:
    plans["two"] = [Schedule(Release("s", "o"), after=timedelta(days=1)) for _ in range(2)]
    async with Engine(theatre, log="memory:", limits=limits(name, 1)) as engine:
        await engine.execute(Hold("s", "o"))
        await engine.execute(Plan("s", "two"))


async def many_effects(name: str) -> None:
    async with Engine(outside, log="memory:", effects=False, limits=limits(name, 1)) as engine:
        for number in range(3):
            await engine.execute(Buy(f"o{number}"))


async def forgotten(name: str) -> None:
    async with Engine(hall, log="memory:", limits=limits(name, 1 if name == "receipts_max" else 5)) as engine:
        for command_id in "12":
            await engine.execute(Say("a", "abc"), command_id=command_id)
        assert list(write_state(engine).index.kept) == ["2"]
        assert not (await engine.execute(Say("a", "abc"), command_id="1")).repeated


async def large_answer(name: str) -> None:
    async with Engine(hall, log="memory:", limits=limits(name, 4)) as engine:
        await engine.execute(Say("a", "abc"))


async def waited_for(name: str) -> None:
    async with Engine(shop, log="memory:", limits=limits(name, 1)) as engine, anyio.create_task_group() as group:
        async with views_held(engine):
            receipt = await engine.execute(Add("a", 1))
            start(group, engine.ask(StockOf("a"), after=receipt))
            await settled()
            try:
                await engine.ask(StockOf("a"), after=receipt)
            except MillstreamError as error:
                raised = error
        await settled()
    raise raised


async def state_forgotten(name: str) -> None:
    async with Engine(shop, log="memory:", limits=limits(name, 1)) as engine:
        await engine.execute(Add("a", 1))
        await engine.execute(Add("a", 1))
        for at in (1, 2, 1):
            assert await engine.ask(StockOf("a"), at=at) == at
        assert len(engine._past._made) == 1


async def snapshots_dropped(name: str) -> None:
    log = MemoryLog()
    for _ in range(3):
        async with Engine(shop, log=log, limits=limits(name, 2)) as engine:
            await engine.execute(Add("a", 1))
    kept = [each.head.position for each in await log.snapshots.kept() if each.part == "view Shelf"]
    assert kept == [3, 2]


async def followed(name: str) -> None:
    async with Engine(shop, log="memory:", limits=limits(name, 1)) as engine:
        await engine.execute(Add("a", 1))
        first, second = engine.follow(), engine.follow()
        await anext(first)
        await anext(second)


async def watched(name: str) -> None:
    async with (
        Engine(shop, log="memory:", limits=limits(name, 1)) as engine,
        engine.watch(StockOf("a")),
        engine.watch(StockOf("a")),
    ):
        pass


async def overrun(name: str) -> None:
    async with (
        Engine(shop, log="memory:", limits=limits(name, 1)) as engine,
        engine.watch(StockOf("a"), every=True) as answers,
    ):
        for _ in range(3):
            await engine.execute(Add("a", 1))
        await settled()
        async for _ in answers:
            pass


async def asked_together(name: str) -> None:
    async with Engine(tickets, log="memory:", limits=limits(name, 1), effects=False) as engine:
        seats, _ = views_of(engine)
        async with seats.still:
            receipt = await engine.execute(OpenShow("hamlet", 3, 1_000))
            await engine.ask(OrderState("o1"), after=receipt)
            await engine.ask_all(FreeSeats("hamlet"), OrderState("o1"))


async def parked_by_a_view(name: str) -> None:
    async with Engine(desk("park"), log=MemoryLog(MemoryStore()), limits=limits(name, 1)) as engine:
        for number in range(3):
            receipt = await engine.execute(Put(f"key {number}", "bad"))
        with pytest.raises(ViewFaulted) as raised:
            await engine.ask(Seen(), after=receipt)
        assert views_of(engine)[0].status == "faulted"
        raise raised.value


PROVOKED: dict[str, Callable[[str], Awaitable[None]]] = {
    "mailbox_commands_max": full_mailbox,
    "mailbox_entering_max": full_mailbox,
    "batch_commands_max": closed,
    "batch_bytes_max": closed,
    "commit_bytes_max": refused,
    "cascade_commands_max": parked,
    "cascade_bytes_max": parked,
    "agenda_entries_max": full_agenda,
    "timers_max": many_timers,
    "effects_owed_max": many_effects,
    "receipts_max": forgotten,
    "receipts_bytes_max": forgotten,
    "answer_bytes_max": large_answer,
    "view_waiters_max": waited_for,
    "ask_all_ms_max": asked_together,
    "watches_max": watched,
    "followers_max": followed,
    "past_states_max": state_forgotten,
    "snapshots_kept": snapshots_dropped,
    "watch_answers_max": overrun,
    "view_parked_max": parked_by_a_view,
}


def test_each_limit_of_the_table_is_provoked_or_is_a_pace() -> None:
    assert set(ROWS) == set(msgspec.structs.asdict(Limits()))
    assert {*PROVOKED, *PACES, *ELSEWHERE} == set(ROWS)
    for name, path in ELSEWHERE.items():
        assert name in (ROOT / path).read_text("utf-8"), f"{path} has nothing of {name}"


@pytest.mark.parametrize("name", PROVOKED)
async def test_at_a_limit_that_happens_which_the_table_says(name: str) -> None:
    says = ROWS[name]
    if (error := re.search(r"`(\w+)`", says)) is None:
        await PROVOKED[name](name)
        assert says.split()[-1] in PROVOKED[name].__name__ or says == "the commit closes"
        return
    with pytest.raises(MillstreamError) as raised:
        await PROVOKED[name](name)
    assert type(raised.value).__name__ == error[1]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"receipts_max": 0}, r"receipts_max must be positive, not 0"),
        ({"batch_commands_max": 1_001}, r"batch_commands_max is at most 1,000, not 1,001"),
        ({"commit_bytes_max": 65_535}, r"commit_bytes_max is at least 65,536, not 65,535"),
        (
            {"commit_bytes_max": 1_000_000},
            r"batch_bytes_max \+ 2 \* cascade_bytes_max is 2,359,296, .* room for 983,616",
        ),
        ({"cascade_bytes_max": 2_000_000}, r"is 4,262,144, and commit_bytes_max=4,194,304 has room for 4,177,920"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        Limits(**given)


def test_a_store_that_takes_less_makes_commits_batches_and_what_follows_smaller() -> None:
    limits = Limits(batch_bytes_max=20_000)
    assert limits.within(None) is limits
    assert limits.within(limits.commit_bytes_max) is limits
    small = limits.within(100_000)
    assert (small.commit_bytes_max, small.batch_bytes_max, small.cascade_bytes_max) == (100_000, 20_000, 25_000)
    with pytest.raises(DefinitionError, match="a store must take 65,536 bytes, not 65,535"):
        limits.within(65_535)


async def test_an_engine_is_within_what_its_store_takes() -> None:
    async with Engine(shop, log=MemoryLog(MemoryStore(body_bytes_max=70_000))) as engine:
        assert engine.limits.commit_bytes_max == 70_000
        with pytest.raises(CommitTooLarge, match=r"commit_bytes_max=70,000"):
            await engine.execute(Note("x" * 70_000))
        await engine.execute(Note("x" * 60_000))
