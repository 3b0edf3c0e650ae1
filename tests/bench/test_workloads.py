"""Workloads: what is drawn, that all who are given it do the same, and that what arrives is measured from its moment."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from millstream.bench import views
from millstream.bench.bank import (
    BalanceOf,
    Remit,
    Transfer,
    bank,
    fingerprint,
    moves,
    operations,
    past,
    streams,
    totals,
)
from millstream.bench.figure import Entry, Figure, Goal
from millstream.bench.figures import FIGURES
from millstream.bench.harness import Contender, Plan, measure
from millstream.bench.job import DifferentWork, Job, Result
from millstream.bench.measure import LATENCY, MEMORY, arrivals, curve
from millstream.bench.summary import summarise
from millstream.bench.systems import MINIMUM, read_back
from millstream.bench.wording import reached, wanted
from millstream.bench.worker import run_here
from millstream.bench.workload import WORKLOADS, Workload
from millstream.engine import Engine

pytestmark = pytest.mark.anyio

SMALL = Workload(accounts=7, callers=5, commands=100, warmup=20)


def test_transfers_move_money_between_accounts_and_leave_its_sum() -> None:
    workload = msgspec.structs.replace(SMALL, kind="transfer")
    work = moves(workload)
    assert moves(workload) == work
    assert {type(each) for each in (*work.warmup, *work.measured)} == {Transfer}
    assert (len(work.opening), len(work.warmup), len(work.measured)) == (7, 20, 100)
    assert totals(workload, [Transfer("account-0000001", "account-0000002", 5)]) == {
        **dict.fromkeys((f"account-{number:07}" for number in range(7)), 0),
        "account-0000001": -5,
        "account-0000002": 5,
    }


def test_a_memo_is_as_long_as_the_workload_says() -> None:
    work = moves(msgspec.structs.replace(SMALL, kind="memo", memo_bytes=500))
    assert {len(each.memo) for each in work.measured if isinstance(each, Remit)} == {500}


def test_deposits_are_the_same_for_those_who_know_nothing_else() -> None:
    assert moves(SMALL) == tuple(streams(SMALL))
    with pytest.raises(ValueError, match="kind 'transfer'"):
        streams(msgspec.structs.replace(SMALL, kind="transfer"))


def test_zipf_draws_the_first_account_twice_as_often_as_the_second() -> None:
    workload = Workload(accounts=100, commands=20_000, warmup=0, zipf=1.0)
    drawn = Counter(each.account for each in streams(workload).measured)
    first, second, tenth = (drawn[f"account-{number:07}"] for number in (0, 1, 9))
    assert 1.8 < first / second < 2.2
    assert 8 < first / tenth < 12
    uniform = Counter(each.account for each in streams(msgspec.structs.replace(workload, zipf=0.0)).measured)
    assert max(uniform.values()) < 1.6 * min(uniform.values())


def test_questions_take_the_place_of_as_many_commands_as_the_workload_says() -> None:
    workload = Workload(accounts=10, commands=10_000, warmup=0, reads=0.95)
    measured = streams(workload).measured
    work = operations(workload, measured)
    assert operations(workload, measured) == work
    assert 0.94 < sum(isinstance(each, BalanceOf) for each in work) / len(work) < 0.96
    assert [each.account for each in work] == [each.account for each in measured]


def test_the_past_is_made_one_by_one_and_always_the_same() -> None:
    workload = msgspec.structs.replace(SMALL, history=30)
    assert list(past(workload)) == list(past(workload))
    assert len(list(past(workload))) == 30


@pytest.mark.parametrize("kind", ["transfer", "memo"])
def test_engine_and_minimum_end_with_the_same_balances_in_memory_and_on_disk(kind: str, tmp_path: Path) -> None:
    workload = msgspec.convert({**msgspec.to_builtins(SMALL), "kind": kind, "memo_bytes": 10}, Workload)
    work = moves(workload)
    expected = fingerprint(totals(workload, [*work.warmup, *work.measured]))
    for program in ("engine-callers", "minimum-callers", "engine-mixed", "minimum-mixed"):
        (directory := tmp_path / program).mkdir()
        job = Job(program=program, workload=workload, directory=str(directory))
        assert run_here(job).state == expected, program
    assert fingerprint(read_back(tmp_path / "minimum-callers/bank.db", MINIMUM.events_sql)) == expected


async def test_views_that_ignore_an_event_are_there_and_hold_nothing(tmp_path: Path) -> None:
    app = views.ignoring(3)
    assert [view.__name__ for view in app.views[1:]] == ["_Remittances0", "_Remittances1", "_Remittances2"]
    async with Engine(app, log=tmp_path / "bank.db") as engine:
        for command in (*streams(SMALL).opening, *streams(SMALL).measured):
            await engine.execute(command)
        assert len(engine.stats().views) == 4
    async with Engine(bank, log=tmp_path / "bank.db") as engine:  # the same application, with another number of views
        assert engine.position == 107


def test_a_rebuilt_view_leaves_what_was_prepared_as_it_was(tmp_path: Path) -> None:
    history = WORKLOADS["history"].smoke
    written = run_here(Job(program="engine-history", workload=history, directory=str(tmp_path)))
    there = sorted(path.name for path in tmp_path.iterdir())
    rebuilt = run_here(Job(program="engine-rebuild", workload=history, directory=str(tmp_path)))
    assert rebuilt.state == written.state
    assert rebuilt.details["events"] == 2_010
    assert sorted(path.name for path in tmp_path.iterdir()) == there


def test_growth_says_how_large_the_log_was_and_a_long_run_how_memory_went(tmp_path: Path) -> None:
    workload = Workload(accounts=3, callers=2, commands=20, warmup=10, history=40)
    grown = run_here(Job(program="engine-grown", workload=workload, directory=str(tmp_path)))
    assert (grown.details["events"], grown.details["keys"]) == (53, 3)
    (tmp_path / "run").mkdir()
    job = Job(program="engine-long-run", workload=WORKLOADS["long-run"].smoke, directory=str(tmp_path / "run"))
    points = run_here(job).series[MEMORY]
    assert len(points) == 5
    assert points == sorted(points, key=lambda point: point[0])
    assert gc.isenabled()


# What arrives.


async def test_what_arrives_does_not_wait_for_those_before_and_counts_from_its_moment() -> None:
    now, begun = 100.0, []
    release = asyncio.Event()

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        await asyncio.sleep(0)

    async def send(item: str) -> None:
        begun.append((item, now))
        if item == "slow":
            await release.wait()
        if item == "last":
            release.set()

    items = ["first", "slow", "third", "last"]
    seconds = await arrivals(send, items, 1.0, clock=lambda: now, sleep=sleep)
    assert begun == [("first", 102.0), ("slow", 103.0), ("third", 104.0), ("last", 104.0)]
    assert sorted(seconds) == [0.0, 1.0, 1.0, 2.0]


async def test_what_finds_nobody_free_is_late_and_counts_from_its_moment() -> None:
    now, begun = 100.0, []

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        await asyncio.sleep(0)

    async def send(item: int) -> None:
        nonlocal now
        begun.append((item, now))
        now += 2.5  # it holds the loop
        await asyncio.sleep(0)

    seconds = await arrivals(send, [1, 2, 3], 1.0, senders=1, clock=lambda: now, sleep=sleep)
    assert [item for item, _ in begun] == [1, 2, 3]
    assert seconds == [3.5, 5.0, 6.5]


def test_what_arrives_at_an_engine_has_a_curve_and_a_rate(tmp_path: Path) -> None:
    workload = WORKLOADS["arrivals-50"].smoke
    found = run_here(Job(program="engine-arriving", workload=workload, directory=str(tmp_path)))
    assert [share for share, _ in found.series[LATENCY]] == [0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995]
    assert found.details["arriving/s"] > 0
    assert found.details["p50 ms"] <= found.value <= found.details["max ms"]


def test_a_curve_goes_as_far_as_there_are_latencies_beyond() -> None:
    assert curve(number / 1e3 for number in range(1, 11)) == [
        (0.1, 1.0),
        (0.25, 3.0),
        (0.5, 5.0),
        (0.75, 8.0),
        (0.9, 9.0),
    ]
    assert curve([1.0] * 10_000)[-1] == (0.9999, 1000.0)
    assert curve([1.0]) == []


# What is compared, and what is enough.


def test_only_those_with_the_same_workload_have_to_end_alike(tmp_path: Path) -> None:
    figure = Figure(
        name="two",
        title="two workloads",
        unit="commands/s",
        subjects=(Entry("one", "engine-callers", "small"), Entry("other", "engine-callers", "hot-key")),
        limits=(Entry("limit", "minimum-callers", "hot-key"),),
    )
    plan = Plan(loops=["asyncio"], directory=str(tmp_path), runs=1, smoke=True)
    measure(figure, plan, run=lambda job: Result(value=1, state=str(job.workload.accounts)))
    with pytest.raises(DifferentWork, match=r"other \(asyncio\): engine-callers, limit \(asyncio\): minimum-callers"):
        measure(figure, plan, run=lambda job: Result(value=1, state=job.program))


@pytest.mark.parametrize(("value", "met"), [(13.5, True), (13.6, False)])
def test_what_counts_may_be_by_how_much_a_value_is_above_a_limit(value: float, met: bool) -> None:
    subject = Entry("subject", "engine-grown", "small", Goal(bound=3.5, at_most=True, above="limit"))
    limit = Entry("limit", "engine-grown", "hot-key")
    figure = Figure(name="two", title="two", unit="µs/command", subjects=(subject,), limits=(limit,))
    results = {
        Contender(subject, "asyncio"): [Result(value=value), Result(value=20.0), Result(value=9.0)],
        Contender(limit, "asyncio"): [Result(value=10.0), Result(value=11.0), Result(value=12.0)],
    }
    first, second = summarise(figure, results, smoke=False).rows
    assert (first.met, first.above, second.above) == (met, value - 10.0, None)
    assert (reached(first), wanted(first.goal)) == (f"{value - 10:.3g} above limit", "≤ 3.5 above limit")


def test_the_goals_of_the_figures_are_those_that_the_project_has_set_itself() -> None:
    goals = {
        (figure.name, entry.label): (entry.goal.bound, entry.goal.of or entry.goal.above)
        for figure in FIGURES
        for entry in figure.subjects
        if entry.goal
    }
    expected = {
        ("many-callers", "millstream"): (0.5, "minimum"),
        ("execute-many", "millstream"): (0.6, "minimum"),
        ("terms", "with ids"): (0.8, "without"),
        ("terms", "with versions"): (0.9, "without"),
        ("one-caller", "millstream"): (0.5, "autocommit"),
        ("one-caller", "on the loop's thread"): (0.65, "autocommit"),
        ("ask", "millstream"): (1_300_000, None),
        ("ask-latency", "1,000 callers"): (2, None),
        ("stall", "millstream"): (20, None),
        ("replay", "millstream"): (0.6, "plain reader"),
        ("rebuild", "millstream"): (0.6, "plain reader"),
        ("growth", "10 M events, 1 M keys"): (3.5, "10 k events"),
        ("peers", "millstream"): (80, "eventsourcing"),
        ("peers-redis", "millstream"): (2.5, "Redis SET"),
        ("views", "64 that ignore it"): (0.9, "none"),
        ("ask-beside-past", "beside"): (2, "alone"),
        ("table-lookup", "TableView"): (20, None),
        ("table-page", "TableView"): (1, None),
        ("table-insert", "TableView"): (10, None),
    }
    assert expected.items() <= goals.items()
