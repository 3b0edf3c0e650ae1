"""The writer's invariants: what is durable, what is visible, who is answered when, and what a failing store costs."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from typing import Any

import anyio
import msgspec
import pytest

from millstream.engine import Engine, Fenced, Limits, MemoryLog, Observer, Receipt, Rejected, WriterUnavailable
from millstream.engine.commits.commit import Head
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.loop.clock import utc_now
from millstream.engine.stores.memory import MemoryStore
from tests.shop import Add, Broke, Everything, StockOf, Take, shop
from tests.support import AT_ONCE, Outcome, ScriptedLog, Step, engine_state, settled, start

pytestmark = pytest.mark.anyio

TWO = Limits(batch_commands_max=2)


async def numbers(log: ScriptedLog) -> list[tuple[int, int]]:
    return [(commit.number, commit.position) for commit in log.commits]


async def replayed(log: ScriptedLog) -> tuple[list[Any], list[Any]]:
    async with Engine(shop, log=MemoryLog(MemoryStore(list(log.commits), "shop"))) as engine:
        return engine_state(engine)


# Invariants 2 and 4: durable, then visible, then acknowledged; pipelined.


async def test_nothing_is_visible_or_acknowledged_before_it_is_durable() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log) as engine, anyio.create_task_group() as group:
        log.hold()
        outcome = start(group, engine.execute(Add("a", 3)))
        await settled()
        assert outcome.kind == "waiting"
        assert await engine.ask(StockOf("a")) == 0
        assert log.commits == []
        log.release()
        await settled()
        assert outcome.value == Receipt(1, 1, 1, version=1)
        assert await engine.ask(StockOf("a")) == 3


class Witness:
    """A follower that is no view, and the promise of a command: notes in which order it is told."""

    task_name = "witness"

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.stopped = anyio.Event()

    def start(self, head: Head) -> None:
        self.happened.append(f"started at {head.number}")

    def offer(self, decoded: DecodedCommit) -> None:
        self.happened.append(f"offered {decoded.head.number}")

    def resync(self, head: Head) -> None:
        self.happened.append(f"resynced to {head.number}")

    def recede(self, head: Head) -> None:
        self.happened.append(f"receded to {head.number}")

    async def run(self) -> None:
        await self.stopped.wait()
        self.happened.append("ended")

    def stop(self) -> None:
        self.stopped.set()

    async def close(self) -> None:
        self.happened.append("closed")

    def done(self) -> bool:
        return False

    def set_result(self, receipt: Receipt, /) -> None:
        self.happened.append(f"answered {receipt.commit}")

    def set_exception(self, error: BaseException, /) -> None:
        self.happened.append(f"answered {error!r}")


async def test_a_commit_is_offered_to_all_that_follow_the_log_before_its_caller_is_answered() -> None:
    class Noting(Observer):
        def committed(self, *, commit: int, **_: Any) -> None:
            witness.happened.append(f"committed {commit}")

        def applied(self, *, view: str, commit: int, **_: Any) -> None:
            if view == "Shelf":
                witness.happened.append(f"applied {commit}")

    witness = Witness()
    engine = Engine(shop, log="memory:", observers=[Noting()])
    engine.followers.append(witness)
    async with engine:
        for _ in range(2):
            engine.admission.submit(Add("a", 1), None, witness)
            await settled()
    assert witness.happened == [
        *("started at 0", "offered 1", "committed 1", "answered 1", "applied 1"),
        *("offered 2", "committed 2", "answered 2", "applied 2", "ended", "closed"),
    ]


async def test_many_callers_are_answered_in_order_and_a_part_of_them_in_each_turn_of_the_loop() -> None:
    log = ScriptedLog()
    heard: list[int] = []
    turns = [0]

    async def call(count: int) -> None:
        with suppress(Rejected):
            await engine.execute(Add("a", 1) if count % 50 else Take("none", 1))
        heard.append(count)

    async with Engine(shop, log=log) as engine, anyio.create_task_group() as group:
        log.hold()
        start(group, engine.execute(Add("a", 1)))
        await settled()
        for count in range(1, 251):
            group.start_soon(call, count)
        await settled()  # all of them are decided, and wait for the commit before theirs
        log.release()
        while len(heard) < 250:
            await asyncio.sleep(0)
            turns.append(len(heard))
    assert heard == list(range(1, 251)), "a refusal is told where it was decided"
    assert max(later - before for before, later in pairwise(turns)) == 50


async def test_the_next_commit_is_decided_while_one_is_written_and_waits_for_it() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, limits=TWO) as engine, anyio.create_task_group() as group:
        log.hold()
        first = [start(group, engine.execute(Add("a", 1))) for _ in range(2)]
        await settled()
        second = [
            start(group, engine.execute(Take("a", 1))) for _ in range(2)
        ]  # possible on the speculative state only
        refused = start(group, engine.execute(Take("a", 1)))
        await settled()
        models, _ = engine_state(engine)
        assert models[0].stock == {"a": 0}
        assert log.appends_started == 1
        assert {outcome.kind for outcome in (*first, *second, refused)} == {"waiting"}
        log.release()
    assert [outcome.kind for outcome in (*first, *second, refused)] == ["Receipt"] * 4 + ["Rejected"]
    assert await numbers(log) == [(1, 1), (2, 3)]


async def test_a_rejection_on_a_state_that_is_not_durable_waits_for_it() -> None:
    log = ScriptedLog()
    log.steps.append("refused")
    async with Engine(shop, log=log, limits=Limits(batch_commands_max=1)) as engine, anyio.create_task_group() as group:
        log.hold()
        add = start(group, engine.execute(Add("a", 1)))
        await settled()
        take = start(group, engine.execute(Take("a", 2)))  # rejected because there is one; but is there?
        await settled()
        assert take.kind == "waiting"
        log.release()
    assert (add.kind, take.kind) == ("CommitFailed", "CommitFailed")


# Invariant 3: group commit, own outcomes.


async def test_commands_that_wait_together_share_a_commit_and_keep_their_own_outcomes() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log) as engine, anyio.create_task_group() as group:
        log.hold()
        start(group, engine.execute(Add("a", 1)))
        await settled()
        outcomes = [start(group, engine.execute(Take("a", 1))) for _ in range(3)]
        outcomes.append(start(group, engine.execute(Add("b", 1))))
        await settled()
        log.release()
    assert [outcome.kind for outcome in outcomes] == ["Receipt", "Rejected", "Rejected", "Receipt"]
    assert len(log.commits) == 2
    assert log.appends_started == 2


# Failures of the store.


def kinds(outcomes: list[Any]) -> set[str]:
    return {type(outcome).__name__ for outcome in outcomes}


@pytest.mark.parametrize("step", ["refused", "lost"])
async def test_a_store_failure_fails_exactly_what_did_not_become_durable(step: Step, log_lines: list[Any]) -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, limits=TWO) as engine, anyio.create_task_group() as group:
        before = await engine.execute(Add("a", 10))
        log.steps.append(step)
        log.hold()
        doomed = [start(group, engine.execute(Take("a", 1))) for _ in range(2)]
        await settled()
        doomed += [start(group, engine.execute(Take("a", 1))) for _ in range(2)]  # decided on top of it
        await settled()
        waiting = [start(group, engine.execute(Take("a", 1))) for _ in range(3)]  # not decided yet
        await settled()
        log.release()
        await settled()
        assert before == Receipt(1, 1, 1, version=1)
        assert [outcome.kind for outcome in doomed] == ["CommitFailed"] * 4
        assert [outcome.kind for outcome in waiting] == ["Receipt"] * 3
        assert await engine.ask(StockOf("a"), after=waiting[-1].value) == 7
        live = engine_state(engine)
    assert await replayed(log) == live
    events = [line["event"] for line in log_lines]
    assert (events.count("commit_failed"), events.count("state_rebuilt"), events.count("store_recovered")) == (1, 1, 1)


async def test_outcomes_of_an_execute_many_stay_with_their_commands_when_a_commit_fails_before_all_are_told() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, limits=Limits(batch_commands_max=200, slice_ms_max=60_000)) as engine:
        log.steps.extend(["ok", "refused"])
        todo = [Add("a", 1), Take("b", 1), Add(7, 1)] * 200  # type: ignore[arg-type]
        outcomes = await engine.execute_many(todo)
        assert len(outcomes) == 600
        accepted, refused, wrong = outcomes[::3], outcomes[1::3], outcomes[2::3]
        assert kinds(wrong) == {"InvalidMessage"}
        stand = [outcome for outcome in accepted if isinstance(outcome, Receipt)]
        assert [receipt.version for receipt in stand] == list(range(1, 101)), (
            "the first commit is the first 200 decided"
        )
        assert accepted[:100] == stand
        assert kinds(accepted[100:]) == {"CommitFailed"}
        assert kinds(refused[:100]) == {"Rejected"}
        assert kinds(refused[100:]) == {"CommitFailed"}


async def test_a_store_that_keeps_failing_is_asked_before_the_state_is_rebuilt_and_commands_hear_why() -> None:
    log = ScriptedLog()
    async with Engine(
        shop, log=log, limits=Limits(slice_ms_max=60_000, store_retry_seconds=AT_ONCE)
    ) as engine:  # 20 are one commit
        await engine.execute(Add("a", 1))
        reads = log.reads_started
        log.steps.append("refused")
        log.probes_fail = 10**9
        assert kinds(await engine.execute_many([Add("a", 1)] * 20)) == {"CommitFailed"}
        for _ in range(3):
            assert kinds(await engine.execute_many([Add("a", 1)] * 20)) == {"WriterUnavailable"}
        with pytest.raises(WriterUnavailable, match="the store takes no commits: while probed; views still answer"):
            await engine.execute(Add("a", 1))
        assert log.reads_started == reads
        assert log.appends_started == 2
        assert engine.stats().writer.status == "recovering"
        log.probes_fail = 0
        assert await engine.execute(Add("a", 1)) == Receipt(2, 2, 1, version=2)
        assert engine.stats().writer.status == "deciding"
        assert await engine.ask(Everything(), after=2) == {"a": 2}
        live = engine_state(engine)
    assert await replayed(log) == live


async def test_a_failure_after_the_commit_was_written_is_a_success() -> None:
    log = ScriptedLog()
    log.steps.append("written")
    async with Engine(shop, log=log) as engine:
        assert await engine.execute(Add("a", 1)) == Receipt(1, 1, 1, version=1)
        assert log.probes_started == 2  # at opening, and because what is there must be durable, and not a remnant
        assert await engine.execute(Add("a", 1)) == Receipt(2, 2, 1, version=2)
    assert await numbers(log) == [(1, 1), (2, 2)]


@pytest.mark.parametrize(("step", "stock"), [("written", 11), ("lost", 10)])
async def test_an_outcome_that_nobody_can_tell_is_said_to_be_unknown_and_settled_from_the_log(
    step: Step, stock: int, log_lines: list[Any]
) -> None:
    log = ScriptedLog()
    limits = msgspec.structs.replace(TWO, store_retry_seconds=AT_ONCE)
    async with Engine(shop, log=log, limits=limits) as engine, anyio.create_task_group() as group:
        await engine.execute(Add("a", 10))
        log.steps.append(step)
        log.heads_fail = 1
        log.hold()
        unknown = start(group, engine.execute(Add("a", 1)))
        await settled()
        later = start(group, engine.execute(Add("a", 5)))
        await settled()
        log.release()
        await settled()
        assert (unknown.kind, later.kind) == ("OutcomeUnknown", "CommitFailed")
        assert engine.stats().writer.position == (2 if step == "written" else 1)
        receipt = await engine.execute(Add("b", 1))
        assert await engine.ask(Everything(), after=receipt) == {"a": stock, "b": 1}
        live = engine_state(engine)
    assert await replayed(log) == live
    assert [line["event"] for line in log_lines].count("commit_found") == (step == "written")


async def test_while_the_log_cannot_be_read_back_commands_are_refused_and_then_it_goes_on() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, limits=Limits(store_retry_seconds=AT_ONCE)) as engine:
        await engine.execute(Add("a", 1))
        log.steps.append("refused")
        log.reads_fail = 10**9
        outcomes = [Outcome(), Outcome()]
        await outcomes[0].follow(engine.execute(Add("a", 1)))
        await settled()
        with pytest.raises(WriterUnavailable, match="its state is being rebuilt; views still answer"):
            engine.preview(Add("a", 1))
        await outcomes[1].follow(engine.execute(Add("a", 1)))
        assert [outcome.kind for outcome in outcomes] == ["CommitFailed", "WriterUnavailable"]
        assert await engine.ask(StockOf("a")) == 1
        log.reads_fail = 0
        assert await engine.execute(Add("a", 1)) == Receipt(2, 2, 1, version=2)


async def test_an_engine_opens_on_a_store_that_takes_nothing_and_goes_on_when_it_does(log_lines: list[Any]) -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log) as engine:
        await engine.execute(Add("a", 1))
    log.probes_fail = 2
    async with Engine(shop, log=log, limits=Limits(store_retry_seconds=AT_ONCE)) as engine:
        assert await engine.ask(StockOf("a")) == 1
        with pytest.raises(WriterUnavailable, match="the store takes no commits: while probed; views still answer"):
            await engine.execute(Add("a", 1))
        assert (await engine.execute(Add("a", 1))).position == 2
    events = [line["event"] for line in log_lines]
    assert (events.count("store_failed"), events.count("store_recovered")) == (1, 1)


async def test_a_writer_that_is_cancelled_before_its_first_step_answers_whoever_came(log_lines: list[Any]) -> None:
    outcome = Outcome()
    async with anyio.create_task_group() as group:
        engine = Engine(shop, log=ScriptedLog())
        await engine.__aenter__()
        engine._tasks[-1].cancel()
        group.start_soon(outcome.follow, engine.execute(Add("a", 1)))
        await settled()
        with pytest.raises(asyncio.CancelledError):
            await engine._tasks[-1]
        await engine.__aexit__(None, None, None)
    assert outcome.kind == "EngineClosed"


async def test_a_stale_writer_stops_and_says_who_has_taken_over(log_lines: list[Any]) -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, limits=TWO) as engine, anyio.create_task_group() as group:
        await engine.execute(Add("a", 1))
        log.inner.store.locked = False
        async with Engine(shop, log=MemoryLog(log.inner.store)) as other:
            await other.execute(Add("a", 1))
        log.hold()
        outcomes = [start(group, engine.execute(Add("a", 1))) for _ in range(2)]
        await settled()
        outcomes += [start(group, engine.execute(Add("a", 1))) for _ in range(4)]
        await settled()
        log.release()
        await settled()
        await (later := Outcome()).follow(engine.execute(Add("a", 1)))
        assert [outcome.kind for outcome in (*outcomes, later)] == ["Fenced"] * 7
        assert "has its head at commit 2, so commit 2 does not follow" in str(later.error)
        with pytest.raises(Fenced):
            engine.preview(Add("a", 1))
        assert await engine.ask(StockOf("a")) == 1
        assert engine.stats().writer.status == "stopped"
    assert await numbers(log) == [(1, 1), (2, 2)]
    assert [line["event"] for line in log_lines].count("fenced") == 1


async def test_a_log_that_changed_behind_a_failed_commit_fences_the_writer() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log) as engine:
        await engine.execute(Add("a", 1))
        log.inner.store.locked = False
        async with Engine(shop, log=MemoryLog(log.inner.store)) as other:
            await other.execute(Add("a", 1))
        log.steps.append("refused")
        await (failed := Outcome()).follow(engine.execute(Add("a", 1)))
        await (fenced := Outcome()).follow(engine.execute(Add("a", 1)))
        assert (failed.kind, fenced.kind) == ("CommitFailed", "Fenced")


async def test_a_writer_that_dies_answers_everybody_and_the_engine_says_why_when_it_closes(
    log_lines: list[Any],
) -> None:
    log = ScriptedLog()
    outcomes: list[Outcome] = []

    stopped: list[bool] = []

    def clock() -> datetime:
        if stopped:
            raise RuntimeError("no time")
        return utc_now()

    with pytest.raises(RuntimeError, match="no time"):  # noqa: PT012 - the engine raises it when it closes
        async with Engine(shop, log=log, limits=Limits(batch_commands_max=1), clock=clock) as engine:
            async with anyio.create_task_group() as group:
                log.hold()
                outcomes.append(start(group, engine.execute(Add("a", 1))))
                await settled()
                stopped.append(True)
                outcomes += [start(group, engine.execute(Add("a", 1))) for _ in range(3)]
                await settled()
            with pytest.raises(WriterUnavailable, match=r"it stopped: RuntimeError\('no time'\); views still answer"):
                await engine.execute(Add("a", 1))
            assert await engine.ask(StockOf("a")) == 0
    assert [outcome.kind for outcome in outcomes] == ["OutcomeUnknown"] + ["WriterUnavailable"] * 3
    assert [outcome.settled for outcome in outcomes] == [1] * 4
    assert [line["event"] for line in log_lines].count("writer_stopped") == 1


async def test_a_slow_commit_is_worth_a_line(log_lines: list[Any]) -> None:
    async with Engine(shop, log="memory:", limits=Limits(slow_commit_ms=1e-9)) as engine:
        await engine.execute(Add("a", 1))
    (line,) = [line for line in log_lines if line["event"] == "slow_commit"]
    assert (line["commit"], line["log_level"]) == (1, "warning")


async def test_ordinary_work_logs_nothing(log_lines: list[Any]) -> None:
    async with Engine(shop, log="memory:") as engine:
        await engine.execute_many([Add("a", 1), Take("b", 1)] * 100)
        await engine.ask(Broke("fine"))
    assert [line["event"] for line in log_lines] == ["opened", "closed"]


# Queries on the same loop stay quick.


async def test_a_long_queue_of_commands_lets_others_run_in_between() -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    limits = Limits(slice_ms_max=1e-6, mailbox_commands_max=10_000)
    async with Engine(shop, log="memory:", limits=limits) as engine, anyio.create_task_group() as group:
        group.start_soon(count_turns)
        await engine.execute_many([Add("a", 1)] * 2_000)
        group.cancel_scope.cancel()
    assert turns > 2_000 / 16 / 2  # a rest after every few commands, not one for all of them


async def test_the_head_of_an_engine_is_that_of_its_log() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log) as engine:
        assert {part.head for part in engine.parts()} == {Head()} == {await log.head()}
        await engine.execute_many([Add("a", 1)] * 3)
        await settled()
        assert {part.head for part in engine.parts()} == {await log.head()}
