"""Every check is given something that is wrong, and must say so; and something that is right, and must not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import count

import anyio
import anyio.lowlevel
import msgspec
import pytest
from msgspec.structs import replace

from millstream.engine import (
    App,
    CommandIdReused,
    CommitFailed,
    DeadlineExceeded,
    Engine,
    EngineClosed,
    MillstreamError,
    OutcomeUnknown,
    Receipt,
    Rejected,
    VersionConflict,
)
from millstream.engine.commits.commit import Commit, Head
from millstream.engine.loop.clock import utc_now
from millstream.engine.testing import (
    BrokenPromise,
    Call,
    Entry,
    Faults,
    History,
    Simulation,
    check_calls,
    check_history,
    check_log,
    check_replay,
    settled,
    simulate,
)
from millstream.engine.testing.checks import _differences
from millstream.handlers import WriteModel, applies, handles
from millstream.views import View, answers
from tests.shop import Add, Added, Break, Everything, Note, Notes, Shelf, Stock, Stray, shop
from tests.support import Row, is_deciding, sealed_rows, views_of, write_state


def whole_log() -> list[Commit]:
    """Two commits: c1 with one event and c2 with two in the first, c3 without any in the second."""
    event = {"type": "Added", "item": "a", "count": 1}
    made, head = [], Head()
    for number, those in enumerate(([("c1", 1), ("c2", 2)], [("c3", 0)]), start=1):
        records = [
            Row("Add", "a", command_id, events=msgspec.Raw(msgspec.json.encode([event] * events)))
            for command_id, events in those
        ]
        made.append(sealed_rows(head, f"2026-01-01T00:00:0{number}.000000Z", records))
        head = Head(number, 3, made[-1].recorded_at, made[-1].digest)
    return made


def entries() -> list[Entry]:
    return check_log(whole_log())


def acknowledged(command_id: str, receipt: Receipt, *, heard: int = 0, durable: int = 2) -> Call:
    return Call(Add("a", 1), command_id, heard, "answered", receipt, durable)


def refused(command_id: str, error: MillstreamError, *, heard: int = 0, durable: int = 2) -> Call:
    return Call(Add("a", 1), command_id, heard, "answered", error, durable)


# The log.


def test_a_whole_log_gives_its_commands_with_their_places() -> None:
    assert [(e.commit, e.position, e.type, e.command_id, len(e.events)) for e in entries()] == [
        (1, 1, "Add", "c1", 1),
        (1, 3, "Add", "c2", 2),
        (2, 3, "Add", "c3", 0),
    ]


def test_an_empty_log_is_whole() -> None:
    assert check_log([]) == []


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda log: log[1:], "commit 2 stands where 1 should"),
        (lambda log: [log[1], log[0]], "commit 2 stands where 1 should"),
        (lambda log: [log[0], log[0]], "commit 1 stands where 2 should"),
        (lambda log: [replace(log[0], body=log[0].body.replace(b"1", b"2", 1)), log[1]], "digest does not match"),
        (lambda log: [log[0], replace(log[1], position=9)], "its first event has position 9"),
        (lambda log: [log[0], earlier(log)], "its time 2025.* is before 2026"),
    ],
)
def test_a_log_that_is_not_whole_is_found(damage: Callable[[list[Commit]], list[Commit]], problem: str) -> None:
    with pytest.raises(BrokenPromise, match=problem):
        check_log(damage(whole_log()))


def earlier(log: list[Commit]) -> Commit:
    """A second commit, chained and whole, from before the first."""
    return sealed_rows(Head(1, 3, log[0].recorded_at, log[0].digest), "2025-01-01T00:00:00.000000Z", [])


# What callers heard.


def test_calls_that_heard_the_truth_are_in_order() -> None:
    check_calls(
        [
            acknowledged("c1", Receipt(1, 1, 1, "c1", 1)),
            acknowledged("c1", Receipt(1, 1, 1, "c1", 1, repeated=True), heard=2),
            refused("c2", OutcomeUnknown(1, "it broke")),
            Call(Add("a", 1), "c3", 0, "cancelled"),
            refused("c4", Rejected("no", position=0)),
            refused("c4", Rejected("no", position=3), heard=2),
            refused("c4", VersionConflict("a", 1, 2, position=3), heard=1),
            refused("c5", OutcomeUnknown(3, "it broke")),
            Call(Add("a", 1), "c6", 0, "cancelled"),
        ],
        entries(),
    )


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (acknowledged("c9", Receipt(1, 1, 1)), r"c9 was acknowledged with Receipt.* in the log: nothing"),
        (acknowledged("c1", Receipt(2, 1, 1)), r"in the log: Add in commit 1, position 1, 1 events"),
        (acknowledged("c1", Receipt(1, 2, 1)), "c1 was acknowledged with"),
        (acknowledged("c1", Receipt(1, 1, 2)), "c1 was acknowledged with"),
        (Call(Note("x"), "c1", 0, "answered", Receipt(1, 1, 1), 2), "c1 was acknowledged with"),
        (acknowledged("c1", Receipt(1, 1, 1), durable=0), "when the log held 0 commits"),
        (acknowledged("c1", Receipt(1, 1, 1), heard=1), "c1 was sent when commit 1 was known, and stands before it"),
        (
            refused("c1", Rejected("no", position=0)),
            r"c1 was said not to have happened \(Rejected.*log: Add in commit 1",
        ),
        (refused("c9", Rejected("no")), r"c9 was refused without a position: Rejected\('no', '', None\)"),
        (refused("c9", VersionConflict("a", 1, 2)), "c9 was refused without a position"),
        (refused("c9", CommandIdReused("c9", "Add", 1)), "c9 was refused without a position"),
        (refused("c9", Rejected("no", position=4)), "c9 was refused at position 4: .* and 3 durable then"),
        (refused("c9", Rejected("no", position=1), durable=0), "position 0 was known when it was sent, and 0 durable"),
        (
            refused("c9", Rejected("no", position=2), heard=1),
            "at position 2: .*; position 3 was known when it was sent",
        ),
        (refused("c1", CommitFailed(1, "full")), "c1 was said not to have happened"),
        (refused("c1", EngineClosed("closed")), "c1 was said not to have happened"),
        (refused("c1", DeadlineExceeded("Add", 1.0, decided=False)), "c1 was said not to have happened"),
        (Call(Add("a", 1), "c1", 0), "c1 is still waiting"),
    ],
)
def test_a_call_that_heard_something_else_than_the_log_says_is_found(call: Call, problem: str) -> None:
    with pytest.raises(BrokenPromise, match=problem):
        check_calls([call], entries())


def test_a_command_that_is_in_the_log_twice_is_found_whatever_its_callers_heard() -> None:
    twice = [*entries(), Entry(3, 4, "Add", "c1", [{}])]
    with pytest.raises(
        BrokenPromise, match="c1 is in the log 2 times: Add in commit 1, position 1, 1 events, Add in co"
    ):
        check_calls([refused("c1", OutcomeUnknown(1, "it broke"))], twice)


def test_a_caller_who_was_refused_is_not_contradicted_by_one_who_sent_it_again() -> None:
    check_calls([refused("c1", CommitFailed(1, "full")), acknowledged("c1", Receipt(1, 1, 1))], entries())


def test_a_timeout_that_says_that_it_was_decided_leaves_both_open() -> None:
    late = DeadlineExceeded("Add", 1.0, decided=True)
    check_calls([refused("c1", late), refused("c9", late)], entries())


# The state.


class Remembers(WriteModel):
    """A model whose handler changes what it may only read."""

    seen: int = 0

    @handles
    def add(self, command: Add) -> Iterator[Added]:
        self.seen += 1
        yield Added(command.item, command.count)

    @applies
    def added(self, event: Added) -> None:
        pass


class Clocked(View):
    """A view that looks at the clock."""

    at: dict[str, str] = {}

    @applies
    def added(self, event: Added) -> None:
        self.at[event.item] = utc_now().isoformat()

    @answers
    def everything(self, query: Everything) -> dict[str, int]:
        return dict.fromkeys(self.at, 1)


calls = count()


class Numbered(View):
    """A view that counts outside of its state."""

    last: int = 0

    @applies
    def added(self, event: Added) -> None:
        self.last = next(calls)

    @answers
    def notes(self, query: Notes) -> tuple[str, ...]:
        return (str(self.last),)


class Sour(View):
    """A view that can't apply an event the first time that it sees it, and can the next time."""

    @applies
    def added(self, event: Added) -> None:
        if not next(calls) % 2:
            raise ValueError("not today")


async def three_adds(world: Simulation, app: App) -> None:
    log = world.log()
    history = History(world, log)
    async with Engine(app, log=log) as engine:
        for _ in range(3):
            await history.execute(engine, Add("a", 1))
        await check_history(history, engine)


@pytest.mark.parametrize(
    ("app", "problem"),
    [
        (
            App(models=[Remembers], name="remembers"),
            "Remembers is not what a replay of the log makes: seen is 3 live, 0 re",
        ),
        (
            App(models=[Stock], views=[Clocked], name="clocked"),
            r"Clocked is not .*: at is {'a': '20.* live, {'a': '20.* replayed",
        ),
        (App(models=[Stock], views=[Numbered], name="numbered"), r"Numbered is not .*: last is \d+ live, \d+ replayed"),
        (
            App(models=[Stock], views=[Sour], name="sour"),
            r"Sour is not .*: it is .*faulted at position \d+ by ValueError",
        ),
    ],
)
def test_a_state_that_is_not_made_by_its_events_alone_is_found(app: App, problem: str) -> None:
    global calls
    calls = count()
    with pytest.raises(BrokenPromise, match=problem):
        simulate(lambda world: three_adds(world, app), seed=1)


def test_a_state_that_somebody_changed_from_outside_is_found() -> None:
    async def scenario(world: Simulation) -> None:
        log = world.log()
        async with Engine(shop, log=log) as engine:
            await engine.execute(Add("a", 1))
            (await engine.ask(Everything()))["a"] += 1  # its own copy: nothing happens
            await settled(engine)
            await check_replay(engine, log.commits)
            next(view.read.state for view in views_of(engine) if isinstance(view.read.state, Shelf)).stock["a"] += 1
            await check_replay(engine, log.commits)

    with pytest.raises(BrokenPromise, match=r"Shelf is not .*: stock is {'a': 2} live, {'a': 1} replayed"):
        simulate(scenario, seed=1)


def test_a_version_or_a_receipt_that_the_log_does_not_have_is_found() -> None:
    async def scenario(world: Simulation) -> None:
        log = world.log()
        async with Engine(shop, log=log) as engine:
            await engine.execute(Add("a", 1), command_id="c1")
            assert is_deciding(engine)
            write_state(engine).index.versions["a"] = 7
            await check_replay(engine, log.commits)

    with pytest.raises(BrokenPromise, match=r"versions is {'a': 7} live, {'a': 1} replayed"):
        simulate(scenario, seed=1)


def test_a_view_that_faulted_for_a_reason_faults_again_and_is_no_problem() -> None:
    async def scenario(world: Simulation) -> int:
        log = world.log()
        history = History(world, log)
        async with Engine(shop, log=log) as engine:
            await history.execute_many(engine, [Add("a", 1), Break("view"), Break("fine"), Add("a", 1)])
            await check_history(history, engine)
        return len(history.calls)

    assert simulate(scenario, seed=1).result == 4


# Settling.


def test_settling_waits_for_what_nobody_waits_for_any_more() -> None:
    async def scenario(world: Simulation) -> tuple[int, int]:
        log = world.log(Faults(latency_seconds_max=30))
        history = History(world, log)
        async with Engine(shop, log=log) as engine:
            outcome = await history.execute(engine, Add("a", 1), timeout=0.01)
            assert isinstance(outcome, DeadlineExceeded)
            before = len(log.commits)
            await check_history(history, engine)
            return before, len(log.commits)

    assert simulate(scenario, seed=1).result == (0, 1)


def test_an_engine_whose_writer_could_not_rebuild_settles_when_the_store_is_well() -> None:
    async def scenario(world: Simulation) -> str:
        log = world.log()
        history = History(world, log)
        async with Engine(shop, log=log) as engine:
            log.faults = Faults(append_lost=1.0, probe_fails=1.0)
            await history.execute(engine, Add("a", 1))
            await world.sleep(10)
            assert engine.stats().writer.status == "recovering"
            await check_history(history, engine)
            return engine.stats().writer.status

    assert simulate(scenario, seed=1).result == "deciding"


def test_an_engine_that_can_not_settle_is_told() -> None:
    async def scenario(world: Simulation) -> None:
        log = world.log()
        async with Engine(shop, log=log) as engine:
            log.faults = Faults(append_lost=1.0, probe_fails=1.0)
            with pytest.raises(OutcomeUnknown):
                await engine.execute(Add("a", 1))
            await settled(engine)

    with pytest.raises(
        BrokenPromise, match="after 3,600 s the engine is not settled: the write models are not rebuilt"
    ):
        simulate(scenario, seed=1)


def test_an_engine_that_crashed_is_not_the_one_to_check() -> None:
    async def scenario(world: Simulation) -> None:
        async with Engine(shop, log=world.log()) as engine:
            await world.crash(engine)
            await settled(engine)

    with pytest.raises(BrokenPromise, match="the writer has stopped: open a new engine on the log, and check that one"):
        simulate(scenario, seed=1)


# What a history remembers.


def test_a_history_remembers_who_was_cancelled_and_what_everybody_heard() -> None:
    async def scenario(world: Simulation) -> list[tuple[str, str, str, int, int]]:
        log = world.log(Faults(latency_seconds_max=1.0))
        history = History(world, log)
        async with Engine(shop, log=log) as engine:
            await history.execute(engine, Add("a", 1))
            await history.execute(engine, Add("a", 1), command_id="c1")
            await history.execute_many(engine, [Stray("x"), Add("a", 2)])  # type: ignore[list-item]
            for send in (history.execute(engine, Add("a", 3)), history.execute_many(engine, [Add("a", 4)])):
                task = asyncio.create_task(send)
                await anyio.lowlevel.checkpoint()
                task.cancel()
                await asyncio.wait([task])
            await check_history(history, engine)
        return [(c.command_id, c.status, type(c.outcome).__name__, c.heard, c.durable) for c in history.calls]

    assert simulate(scenario, seed=1).result == [
        ("c1", "answered", "Receipt", 0, 1),
        ("c1", "answered", "Receipt", 1, 1),
        ("c3", "answered", "UnknownMessage", 1, 2),
        ("c4", "answered", "Receipt", 1, 2),
        ("c5", "cancelled", "NoneType", 2, 0),
        ("c6", "cancelled", "NoneType", 2, 0),
    ]


def test_the_trace_tells_what_was_sent_and_what_was_heard() -> None:
    async def scenario(world: Simulation) -> None:
        log = world.log()
        history = History(world, log)
        async with Engine(shop, log=log) as engine:
            await history.execute(engine, Add("a", 1))
            with anyio.move_on_after(0):
                await history.execute(engine, Add("b", 1))

    told = [line.partition(" ")[2] for line in simulate(scenario, seed=1).trace]
    assert told[1:-1] == [
        "c1: Add(item='a', count=1)",
        "c1 ← Receipt(commit=1, position=1, events=1, command_id='c1', version=1)",
        "c2: Add(item='b', count=1)",
        "c2 cancelled",
    ]


def test_a_difference_that_is_long_is_cut_short() -> None:
    assert list(_differences([1], "x" * 1_000)) == [f"[1] live, '{'x' * 299}… replayed"]
