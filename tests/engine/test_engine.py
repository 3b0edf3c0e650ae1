"""The engine from outside: what callers get, in the good case and in every bad one that needs no failing store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from millstream.bench.proofs.bodies import commands_in
from millstream.engine import (
    AnswerFailed,
    App,
    ApplyFailed,
    DeadlineExceeded,
    DefinitionError,
    Engine,
    EngineClosed,
    Event,
    EventsUnreadable,
    HandlerFailed,
    ImpureHandler,
    InvalidMessage,
    Limits,
    LogCorrupt,
    LogLocked,
    LogRefused,
    MemoryLog,
    Metadata,
    Observer,
    Overloaded,
    Receipt,
    Rejected,
    SqliteLog,
    UnknownMessage,
    ViewFaulted,
)
from millstream.engine.stores.memory import MemoryStore
from millstream.views import View, answers, applies
from tests.shop import (
    Add,
    Added,
    Break,
    Broke,
    Everything,
    Move,
    Note,
    Notes,
    Nothing,
    Stock,
    StockOf,
    Stray,
    Take,
    shop,
)
from tests.stores import MemoryPlace, Place, SqlitePlace
from tests.support import Outcome, ScriptedLog, engine_state, settled, start, views_of

pytestmark = pytest.mark.anyio


async def test_a_write_is_seen_by_whoever_asks_with_its_receipt() -> None:
    async with Engine(shop, log="memory:", check_purity=True) as engine:
        receipt = await engine.execute(Add("a", 3))
        assert receipt == Receipt(commit=1, position=1, events=1, version=1)
        assert await engine.ask(StockOf("a"), after=receipt) == 3
        assert await engine.ask(StockOf("a"), after=receipt.position) == 3
        assert await engine.ask(StockOf("b")) == 0


async def test_a_rejection_carries_its_code_and_details_and_writes_nothing() -> None:
    async with Engine(shop, log=(log := MemoryLog())) as engine:
        with pytest.raises(Rejected) as raised:
            await engine.execute(Take("a", 3))
        assert (raised.value.code, raised.value.details) == ("out_of_stock", {"left": 0})
        assert log.store.commits == []


async def test_id_and_metadata_reach_handler_and_log() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    async with Engine(shop, log=(log := MemoryLog()), clock=lambda: now) as engine:
        metadata = Metadata(actor="ann", correlation="c", causation="d")
        receipt = await engine.execute(Note("hi"), command_id="id-1", metadata=metadata)
        assert receipt.command_id == "id-1"
    (commit,) = log.store.commits
    assert commit.recorded_at == "2026-03-01T00:00:00.000000Z"
    (command,) = commands_in(commit.body)
    assert (command["id"], command["payload"]) == ("id-1", "171d166c54d6e8f8f79e93988ee56fbe")
    assert (command["actor"], command["correlation"], command["causation"]) == ("ann", "c", "d")
    assert b'"by":"ann","at":"2026-03-01T00:00:00+00:00","id":"id-1"' in commit.body


async def test_recorded_time_never_goes_back_also_across_a_restart() -> None:
    store, hour = MemoryStore(), 0
    start_of_day = datetime(2026, 3, 1, tzinfo=UTC)

    def clock() -> datetime:
        return start_of_day + timedelta(hours=hour)

    for first, second in ((5, 3), (7, 1)):
        hour = 0
        async with Engine(shop, log=MemoryLog(store), clock=clock) as engine:
            hour = first
            await engine.execute(Add("a", 1))
            hour = second
            await engine.execute(Add("a", 1))
    assert [commit.recorded_at[11:13] for commit in store.commits] == ["05", "05", "07", "07"]


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (Add("a", "3"), r"Add is not valid: Expected `int`, got `str` - at `\$.count`"),  # type: ignore[arg-type]
        (Add("a", 0), r"Add is not valid: Expected `int` >= 1 - at `\$.count`"),
        (Add("", 1), r"Add is not valid: Expected `str` of length >= 1 - at `\$.item`"),
        (Add(None, 1), r"Add is not valid: Expected `str`, got `null`"),  # type: ignore[arg-type]
        (Add("a", object()), r"Add is not valid: Encoding objects of type object is unsupported"),  # type: ignore[arg-type]
        (Add("\ud800", 1), r"Add is not valid: .*surrogates not allowed"),
        (Add("a", 10**30), r"Add is not valid"),
    ],
)
async def test_an_invalid_command_never_reaches_the_writer(command: Add, problem: str) -> None:
    async with Engine(shop, log="memory:") as engine:
        with pytest.raises(InvalidMessage, match=problem):
            await engine.execute(command)
        assert isinstance((await engine.execute_many([command]))[0], InvalidMessage)
        with pytest.raises(InvalidMessage):
            engine.preview(command)
        assert engine.stats().writer.commands_refused == 0


@pytest.mark.parametrize(
    "options",
    [
        {"command_id": ""},
        {"command_id": "x" * 201},
        {"command_id": 7},
        {"metadata": {"actor": "ann"}},
        {"metadata": Metadata(actor=7)},  # type: ignore[arg-type]
    ],
)
async def test_invalid_id_or_metadata_are_refused(options: dict[str, Any]) -> None:
    async with Engine(shop, log=(log := MemoryLog())) as engine:
        with pytest.raises(InvalidMessage):
            await engine.execute(Add("a", 1), **options)
    assert log.store.commits == []


async def test_messages_that_nobody_declared_are_named_with_those_that_are() -> None:
    async with Engine(shop, log="memory:") as engine:
        with pytest.raises(UnknownMessage, match=r"no command 'StockOf'; it has: Add, Take, Move"):
            await engine.execute(StockOf("a"))  # type: ignore[arg-type]
        with pytest.raises(UnknownMessage, match=r"no query 'Add'; it has: StockOf, Everything"):
            await engine.ask(Add("a", 1))  # type: ignore[arg-type]


async def test_a_command_that_its_caller_changes_later_is_decided_as_it_was() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log) as engine, anyio.create_task_group() as group:
        command = Add("a", 1)
        log.hold()
        outcome = start(group, engine.execute(command))
        await settled()
        log.release()
    assert outcome.value == Receipt(1, 1, 1, version=1)
    assert command == Add("a", 1)


async def test_many_commands_have_one_outcome_each_in_order() -> None:
    async with Engine(shop, log="memory:") as engine:
        outcomes = await engine.execute_many([Add("a", 1), Take("b", 1), Nothing("a"), Break("raise"), Add("a", 2)])
        assert [type(outcome).__name__ for outcome in outcomes] == [
            "Receipt", "Rejected", "Receipt", "HandlerFailed", "Receipt",
        ]  # fmt: skip
        assert await engine.ask(StockOf("a"), after=outcomes[4]) == 3  # type: ignore[arg-type]
        assert await engine.execute_many([]) == []


async def test_more_commands_than_the_mailbox_holds_get_through_in_order() -> None:
    async with Engine(shop, log="memory:", limits=Limits(mailbox_commands_max=7, batch_commands_max=3)) as engine:
        outcomes = await engine.execute_many([Note(str(n)) for n in range(100)])
        assert [outcome.position for outcome in outcomes if isinstance(outcome, Receipt)] == list(range(1, 101))
        assert await engine.ask(Notes(), after=100) == tuple(str(n) for n in range(100))
        assert engine.stats().writer.batch_max == 3


async def test_a_preview_shows_events_and_changes_nothing() -> None:
    async with Engine(shop, log=(log := MemoryLog()), check_purity=True) as engine:
        await engine.execute(Add("a", 3))
        assert engine.preview(Move("a", "b")) == [
            *engine.preview(Take("a", 3)),
            Added("b", 3),
        ]
        with pytest.raises(Rejected):
            engine.preview(Take("b", 1))
        with pytest.raises(HandlerFailed):
            engine.preview(Break("raise"))
        with pytest.raises(UnknownMessage):
            engine.preview(StockOf("a"))  # type: ignore[arg-type]
        assert len(log.store.commits) == 1


async def test_a_preview_by_an_impure_handler_leaves_nothing_behind() -> None:
    async with Engine(shop, log="memory:", check_purity=True) as engine:
        with pytest.raises(ImpureHandler):
            engine.preview(Break("mutate"))
        await engine.execute(Note("after"))
        models, _ = engine_state(engine)
        assert models[1].notes == ["after"]
        with pytest.raises(InvalidMessage):
            engine.preview(Note("x"), metadata=Metadata(actor=7))  # type: ignore[arg-type]


async def test_an_answer_that_is_ready_costs_no_task_switch() -> None:
    async with Engine(shop, log="memory:") as engine:
        receipt = await engine.execute(Add("a", 3))
        await engine.ask(StockOf("a"), after=receipt)
        asking = engine.ask(StockOf("a"), after=receipt)
        with pytest.raises(StopIteration) as done:
            asking.send(None)  # runs to its end without being suspended once
        assert done.value.value == 3


async def test_a_view_that_fails_to_answer_says_so_and_goes_on() -> None:
    async with Engine(shop, log="memory:", check_purity=True) as engine:
        with pytest.raises(AnswerFailed, match="view Fragile failed to answer Broke: ZeroDivisionError") as raised:
            await engine.ask(Broke("raise"))
        assert isinstance(raised.value.__cause__, ZeroDivisionError)
        with pytest.raises(Rejected, match="no_such_thing"):
            await engine.ask(Broke("reject"))
        assert await engine.ask(Broke("fine")) == "fine 0"
        with pytest.raises(ImpureHandler, match=r"Fragile\.answer changed its state while handling Broke"):
            await engine.ask(Broke("mutate"))
        with pytest.raises(
            ViewFaulted, match="faulted at position 0: ImpureHandler"
        ):  # it is no longer what the events made of it
            await engine.ask(Broke("fine"))


async def test_a_view_that_raises_is_faulted_alone(log_lines: list[Any]) -> None:
    async with Engine(shop, log="memory:") as engine:
        await engine.execute(Add("a", 1))
        receipt = await engine.execute(Break("view"))
        with pytest.raises(ViewFaulted, match="view Fragile faulted at position 2: RuntimeError") as raised:
            await engine.ask(Broke("fine"), after=receipt)
        assert (raised.value.view, raised.value.position) == ("Fragile", 2)
        assert isinstance(raised.value.cause, RuntimeError)
        with pytest.raises(ViewFaulted):
            await engine.ask(Broke("fine"))
        receipt = await engine.execute(Add("a", 1))
        assert await engine.ask(StockOf("a"), after=receipt) == 2
        assert {name: view.status for name, view in engine.stats().views.items()} == {
            "Shelf": "live", "Pinboard": "live", "Fragile": "faulted",
        }  # fmt: skip
    assert [line["view"] for line in log_lines if line["event"] == "view_faulted"] == ["Fragile"]


async def test_a_view_that_faults_while_replaying_lets_the_engine_open() -> None:
    store = MemoryStore()
    async with Engine(shop, log=MemoryLog(store)) as engine:
        await engine.execute_many([Add("a", 1), Break("view"), Add("a", 1)])
    async with Engine(shop, log=MemoryLog(store)) as engine:
        assert await engine.ask(StockOf("a")) == 2
        with pytest.raises(ViewFaulted, match="position 2"):
            await engine.ask(Broke("fine"))


async def test_an_event_that_cannot_be_applied_fails_alone_and_the_state_is_rebuilt(log_lines: list[Any]) -> None:
    async with Engine(shop, log=(log := MemoryLog())) as engine:
        outcomes = await engine.execute_many([Note("one"), Break("apply"), Note("two")])
        assert [type(outcome) for outcome in outcomes] == [Receipt, ApplyFailed, Receipt]
        models, _ = engine_state(engine)
        assert models[1].notes == ["one", "two"]  # and not "half done"
    assert len(log.store.commits) == 2
    assert [line["event"] for line in log_lines].count("state_rebuilt") == 1


async def test_an_impure_handler_is_refused_and_its_change_undone() -> None:
    async with Engine(shop, log="memory:", check_purity=True) as engine:
        outcomes = await engine.execute_many([Note("one"), Break("mutate"), Note("two")])
        assert [type(outcome) for outcome in outcomes] == [Receipt, ImpureHandler, Receipt]
        models, _ = engine_state(engine)
        assert models[1].notes == ["one", "two"]


async def test_a_full_mailbox_refuses_who_will_not_wait_and_takes_who_will() -> None:
    log = ScriptedLog()
    limits = Limits(mailbox_commands_max=2, batch_commands_max=1)
    async with Engine(shop, log=log, limits=limits) as engine, anyio.create_task_group() as group:
        log.hold()
        patient = []
        for count in range(1, 7):  # one is in flight, one decided, two wait, two wait to get in
            patient.append(start(group, engine.execute(Add("a", count))))
            await settled()
        stats = engine.stats().writer
        assert (stats.mailbox_commands, stats.mailbox_entering) == (2, 2)
        with pytest.raises(Overloaded, match=r"2 commands wait, mailbox_commands_max=2"):
            await engine.execute(Add("b", 1), wait=False)
        with pytest.raises(Overloaded):
            await engine.execute(Add("b", 1), wait=False, timeout=1)
        log.release()
    assert [outcome.value.position for outcome in patient] == [1, 2, 3, 4, 5, 6]


async def test_a_command_that_expires_while_it_waits_never_executes() -> None:
    log = ScriptedLog()
    limits = Limits(batch_commands_max=1, mailbox_commands_max=1)
    async with Engine(shop, log=log, limits=limits) as engine, anyio.create_task_group() as group:
        log.hold()
        for _ in range(2):  # one in flight, one decided
            start(group, engine.execute(Add("a", 1)))
            await settled()
        with pytest.raises(DeadlineExceeded, match=r"Add still waited after 0.01 s and was not executed") as raised:
            await engine.execute(Add("late", 1), timeout=0.01)
        assert not raised.value.decided
        start(group, engine.execute(Add("a", 1)))  # fills the mailbox
        await settled()
        with pytest.raises(DeadlineExceeded) as raised:  # could not even get in
            await engine.execute(Add("late", 1), timeout=0.01)
        assert not raised.value.decided
        log.release()
    assert b"late" not in b"".join(commit.body for commit in log.commits)
    assert len(log.commits) == 3


async def test_a_command_that_expires_after_it_was_decided_stands_and_says_so() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log) as engine:
        log.hold()
        with pytest.raises(DeadlineExceeded, match=r"Add was decided but not yet durable") as raised:
            await engine.execute(Add("a", 1), timeout=0.5)
        assert raised.value.decided
        log.release()
        assert (await engine.execute(Add("a", 1), timeout=5)).position == 2
    assert len(log.commits) == 2


async def test_many_commands_expire_each_for_itself() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, limits=Limits(batch_commands_max=1, mailbox_commands_max=2)) as engine:
        log.hold()
        outcomes = await engine.execute_many([Add(str(n), 1) for n in range(6)], timeout=0.5)
        assert [outcome.decided for outcome in outcomes if isinstance(outcome, DeadlineExceeded)] == [
            True, True, False, False, False, False,
        ]  # fmt: skip
        log.release()
        await engine.execute(Add("last", 1))
    assert len(log.commits) == 3


async def test_a_command_cancelled_while_it_waits_never_executes() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, limits=Limits(batch_commands_max=1)) as engine, anyio.create_task_group() as group:
        log.hold()
        for _ in range(2):
            start(group, engine.execute(Add("a", 1)))
            await settled()
        with anyio.move_on_after(0.01):
            await engine.execute(Add("late", 1))
        with anyio.move_on_after(0.01):
            await engine.execute_many([Add("late", 1), Add("later", 1)])
        log.release()
    assert len(log.commits) == 2


async def test_a_command_cancelled_after_it_was_decided_stands_and_says_so() -> None:
    import asyncio

    log = ScriptedLog()
    async with Engine(shop, log=log) as engine:
        log.hold()
        task = asyncio.create_task(engine.execute(Add("a", 1)))
        await settled()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as raised:
            await task
        assert raised.value.__notes__ == [
            "millstream: the command was decided before it was cancelled; it stands once it is durable"
        ]
        log.release()
    assert len(log.commits) == 1


async def test_a_command_cancelled_just_before_its_turn_is_not_said_to_stand() -> None:
    import asyncio

    async with Engine(shop, log=(log := MemoryLog())) as engine:
        task = asyncio.create_task(engine.execute(Add("a", 1)))
        await asyncio.sleep(0)  # it is in the mailbox, and the writer is about to run
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as raised:
            await task
        assert getattr(raised.value, "__notes__", []) == []
    assert log.store.commits == []


async def test_closing_makes_durable_what_was_accepted_and_fails_the_rest() -> None:
    log = ScriptedLog()
    limits = Limits(batch_commands_max=1, mailbox_commands_max=2)
    outcomes: list[Outcome] = []
    async with anyio.create_task_group() as group, Engine(shop, log=log, limits=limits) as engine:
        log.hold()
        for _ in range(6):
            outcomes.append(start(group, engine.execute(Add("a", 1))))
            await settled()
        group.start_soon(release_soon, log)
    assert [outcome.kind for outcome in outcomes] == ["Receipt"] * 4 + ["EngineClosed"] * 2
    assert len(log.commits) == 4


async def release_soon(log: ScriptedLog) -> None:
    await settled()
    log.release()


async def test_a_store_that_never_answers_cannot_keep_the_engine_from_closing(log_lines: list[Any]) -> None:
    log = ScriptedLog()
    outcomes: list[Outcome] = []
    async with anyio.create_task_group() as group:
        with pytest.raises(BaseException) as raised:  # noqa: PT011, PT012 - whatever it is, it is looked at below
            async with Engine(shop, log=log, limits=Limits(batch_commands_max=1, drain_seconds_max=0.01)) as engine:
                log.hold()
                for _ in range(3):
                    outcomes.append(start(group, engine.execute(Add("a", 1))))
                    await settled()
            raise AssertionError("closed cleanly")
        assert str(raised.value) == "closed cleanly"
    assert [outcome.kind for outcome in outcomes] == ["OutcomeUnknown", "EngineClosed", "EngineClosed"]
    events = [line["event"] for line in log_lines]
    assert "drain_timed_out" in events
    assert "writer_stopped" not in events, "that it took too long is no defect"


async def test_an_engine_is_used_inside_its_context_only() -> None:
    engine = Engine(shop, log="memory:")
    with pytest.raises(EngineClosed, match="the engine is not open yet"):
        await engine.execute(Add("a", 1))
    with pytest.raises(EngineClosed):
        engine.preview(Add("a", 1))
    with pytest.raises(EngineClosed, match="not open yet"):
        await engine.ask(StockOf("a"))
    async with engine:
        await engine.execute(Add("a", 1))
    with pytest.raises(EngineClosed, match="the engine is closed"):
        await engine.execute(Add("a", 1))
    with pytest.raises(EngineClosed, match="the engine is closed"):
        await engine.ask(StockOf("a"))
    with pytest.raises(EngineClosed, match="can't be opened again"):
        async with engine:
            pass


async def test_cancelling_the_program_closes_the_engine_in_order() -> None:
    log = ScriptedLog()
    with anyio.CancelScope() as scope:
        async with Engine(shop, log=log) as engine:
            await engine.execute(Add("a", 1))
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert not log.inner.store.locked
    async with Engine(shop, log=MemoryLog(log.inner.store)) as again:
        assert await again.ask(Everything()) == {"a": 1}


@pytest.mark.parametrize(("snapshots", "replayed"), [(True, 0), (False, 5)])
async def test_a_restart_comes_back_to_the_same_answers_and_states(
    tmp_path: Path, log_lines: list[Any], snapshots: bool, replayed: int
) -> None:
    async with Engine(shop, log=tmp_path / "shop.db") as engine:
        await engine.execute_many([Add("a", 5), Take("a", 2), Move("a", "b"), Note("ä €"), Nothing("a"), Take("x", 1)])
        answer = await engine.ask(Everything(), after=5)
        live = engine_state(engine)
    async with Engine(shop, log=f"sqlite:{tmp_path / 'shop.db'}", snapshots=snapshots) as engine:
        assert await engine.ask(Everything()) == answer == {"a": 0, "b": 3}
        assert engine_state(engine) == live
        assert (await engine.execute(Add("a", 1))).position == 6
    opened = [line for line in log_lines if line["event"] == "opened"]
    assert [(line["commits"], line["events"]) for line in opened] == [(0, 0), (1, 5)]
    assert opened[1]["replayed"] == replayed
    assert [line["event"] for line in log_lines].count("closed") == 2


async def test_a_second_engine_on_the_same_file_is_refused_at_once(tmp_path: Path) -> None:
    async with Engine(shop, log=tmp_path / "shop.db"):
        with pytest.raises(LogLocked, match=r"shop\.db is open in another writer"):
            async with Engine(shop, log=tmp_path / "shop.db"):
                pass


async def test_a_log_with_an_unknown_event_is_refused_with_type_and_place() -> None:
    from millstream.engine import App
    from millstream.handlers import WriteModel, applies

    class Elsewhere(WriteModel):
        @applies
        def stray(self, event: Stray) -> None: ...

    store = MemoryStore()
    async with Engine(shop, log=MemoryLog(store)) as engine:
        await engine.execute_many([Add("a", 1), Add("b", 1)])
    other = App(models=[Elsewhere], name="shop")
    with pytest.raises(EventsUnreadable, match=r"'Added' is not known: 2 of them, the first at position 1\."):
        async with Engine(other, log=MemoryLog(store)):
            pass
    assert not store.locked


async def test_a_damaged_log_is_refused_with_the_commit_named(tmp_path: Path) -> None:
    import sqlite3

    async with Engine(shop, log=tmp_path / "shop.db") as engine:
        for count in range(1, 4):
            await engine.execute(Add("a", count))
    db = sqlite3.connect(tmp_path / "shop.db")
    db.execute("UPDATE commits SET body = replace(body, '\"count\":2', '\"count\":9') WHERE number = 2")
    db.commit()
    db.close()
    with pytest.raises(LogCorrupt, match=r"shop.db is damaged at commit 2: its digest does not match"):
        async with Engine(shop, log=tmp_path / "shop.db"):
            pass


@pytest.mark.parametrize(
    "statement", ["DELETE FROM commits WHERE number = 2", "UPDATE commits SET number = 7 WHERE number = 2"]
)
async def test_a_missing_or_moved_commit_is_found(tmp_path: Path, statement: str) -> None:
    import sqlite3

    async with Engine(shop, log=tmp_path / "shop.db") as engine:
        for count in range(1, 4):
            await engine.execute(Add("a", count))
    db = sqlite3.connect(tmp_path / "shop.db")
    db.execute(statement)
    db.commit()
    db.close()
    with pytest.raises(LogCorrupt, match="commit 3 stands where 2 should"):
        async with Engine(shop, log=tmp_path / "shop.db"):
            pass


@pytest.mark.parametrize("address", ["", "nats://localhost", "redis:x"])
def test_an_address_that_no_store_knows_is_refused(address: str) -> None:
    with pytest.raises(LogRefused, match=r"give a path, 'sqlite:PATH', 'postgresql://…' or 'memory:'"):
        Engine(shop, log=address)


def test_addresses_name_stores() -> None:
    assert isinstance(Engine(shop, log=":memory:").log, MemoryLog)
    assert isinstance(Engine(shop, log="memory:").log, MemoryLog)
    for address in ("a.db", "sqlite:a.db", Path("a.db")):
        log = Engine(shop, log=address).log
        assert isinstance(log, SqliteLog)
        assert log.name == "a.db"


@pytest.mark.parametrize("limits", [{"mailbox_commands_max": 0}, {"slice_ms_max": -1.0}, {"batch_bytes_max": 10**9}])
def test_limits_that_make_no_sense_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=next(iter(limits))):
        Limits(**limits)


async def test_stats_tell_mailbox_batches_positions_and_lags() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log) as engine, anyio.create_task_group() as group:
        await engine.execute_many([Add("a", 1), Add("a", 1), Take("b", 1)])
        log.hold()
        start(group, engine.execute(Add("a", 1)))
        await settled()
        stats = engine.stats()
        assert (stats.writer.commit, stats.writer.position, stats.writer.status) == (1, 2, "deciding")
        assert (stats.writer.commits, stats.writer.commands, stats.writer.commands_refused) == (1, 2, 1)
        assert (stats.writer.batch_last, stats.writer.batch_max, stats.writer.batch_mean) == (2, 2, 2.0)
        assert (stats.views["Shelf"].position, stats.views["Shelf"].lag_events) == (2, 0)
        log.release()


async def test_events_are_what_the_type_says() -> None:
    async with Engine(shop, log="memory:") as engine:
        events: list[Event] = engine.preview(Add("a", 1))
        answer: int = await engine.ask(StockOf("a"))
        everything: dict[str, int] = await engine.ask(Everything())
        assert (events, answer, everything) == ([Added("a", 1)], 0, {})


async def test_an_engine_has_few_attributes_as_more_would_slow_down_each_question() -> None:
    """CPython 3.11 finds an attribute at once only in objects that have 29 at most: above that a question took 11 % more."""
    async with Engine(shop, log="memory:") as engine:
        await engine.execute(Add("a", 1))
        await engine.ask(StockOf("a"), at=1)
        await anext(engine.follow())
        assert len(vars(engine)) <= 29
        assert all(len(vars(view)) <= 29 for view in views_of(engine))


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_opening_waits_for_another_writer_to_let_go_of_the_log(kind: str, tmp_path: Path) -> None:
    place: Place = MemoryPlace() if kind == "memory" else SqlitePlace(tmp_path)
    waits = anyio.Event()

    class Seen(Observer):
        def waits_for_lock(self, *, log: str, seconds: float) -> None:
            assert seconds == 60
            waits.set()

    async def wait() -> None:
        async with Engine(shop, log=place.log(), wait_for_lock_seconds=60, observers=[Seen()]) as second:
            assert await second.ask(StockOf("a")) == 1

    async with anyio.create_task_group() as group, Engine(shop, log=place.log()) as first:
        with pytest.raises(LogLocked):
            async with Engine(shop, log=place.log(), wait_for_lock_seconds=0.15):
                pass
        group.start_soon(wait)
        await waits.wait()
        await first.execute(Add("a", 1))


async def test_who_gives_up_waiting_for_the_log_leaves_it_to_others(tmp_path: Path) -> None:
    place = SqlitePlace(tmp_path)
    async with Engine(shop, log=place.log()):
        with anyio.move_on_after(0.05) as scope:
            async with Engine(shop, log=place.log(), wait_for_lock_seconds=60):
                pass
        assert scope.cancelled_caught
    async with Engine(shop, log=place.log()) as engine:
        await engine.execute(Add("a", 1))


async def test_purity_is_checked_of_a_state_with_classes_that_are_made_within_a_function() -> None:
    class Row(msgspec.Struct):
        count: int = 0

    class Kept(View):
        rows: dict[str, Row] = {}

        @applies
        def added(self, event: Added) -> None:
            self.rows[event.item] = Row(event.count)

        @answers
        def stock_of(self, query: StockOf) -> int:
            if query.item == "spoil":
                self.rows["a"].count += 1
            return self.rows["a"].count

    app = App(models=[Stock], views=[Kept], name="shop")
    async with Engine(app, log="memory:", check_purity=True) as engine:
        receipt = await engine.execute(Add("a", 3))
        assert await engine.ask(StockOf("a"), after=receipt) == 3
        with pytest.raises(ImpureHandler):
            await engine.ask(StockOf("spoil"))
