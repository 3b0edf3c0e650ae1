"""The harness at its smoke size: that everything runs, does the same work, and says what it means. Nothing is timed."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from millstream.bench import __main__ as command_line
from millstream.bench import loops, publishing, report
from millstream.bench.bank import Deposit, Open, fingerprint, queries, streams, totals
from millstream.bench.figure import Entry, Figure, Goal
from millstream.bench.figures import FIGURES
from millstream.bench.harness import Contender, Plan, contenders, measure, run_apart
from millstream.bench.job import DifferentWork, Job, Result, WorkerFailed
from millstream.bench.machine import Machine, filesystem_at
from millstream.bench.measure import latencies, open_loop, percentile
from millstream.bench.minimum import Refused, minimum
from millstream.bench.programs import PROGRAMS
from millstream.bench.summary import Report, summarise
from millstream.bench.worker import run_here
from millstream.bench.workload import WORKLOADS, Workload

pytestmark = pytest.mark.anyio

SMALL = Workload(accounts=7, callers=5, commands=100, warmup=20, asks=30, ask_interval_ms=0.01)

TWO = Figure(
    name="two",
    title="two contenders",
    unit="commands/s",
    subjects=(Entry("subject", "engine-callers", "many-callers", Goal(bound=0.5, of="limit")),),
    limits=(Entry("limit", "bare-loop", "many-callers"),),
)
SUBJECT, LIMIT = Contender(TWO.subjects[0], "asyncio"), Contender(TWO.limits[0], None)
MACHINE = Machine(
    cpu="a cpu", cores=2, kernel="Linux 6", filesystem="ext4", python="CPython 3", versions={"sqlite": "3"}
)


# How it is measured.


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([3.0], 0.5, 3.0),
        ([3.0], 0.999, 3.0),
        ([1.0, 2.0, 3.0, 4.0], 0.25, 1.0),
        ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0),
        ([1.0, 2.0, 3.0, 4.0], 0.51, 3.0),
        ([1.0, 2.0, 3.0, 4.0], 0.99, 4.0),
        ([1.0, 2.0, 3.0, 4.0], 1.0, 4.0),
        ([0.0] * 99 + [7.0], 0.99, 0.0),
        ([0.0] * 98 + [7.0] * 2, 0.99, 7.0),
    ],
)
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(
    values: list[float], share: float, expected: float
) -> None:
    assert percentile(values, share) == expected


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 0.0), ([1.0], 99)])
def test_a_percentile_of_nothing_or_beyond_all_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match=f"not {share} of {len(values)}"):
        percentile(values, share)


def test_latencies_are_told_in_milliseconds() -> None:
    assert latencies([0.004, 0.002, 0.001, 0.003]) == {
        "p50 ms": 2.0,
        "p99 ms": 4.0,
        "p99.9 ms": 4.0,
        "p99.99 ms": 4.0,
        "max ms": 4.0,
    }


async def test_a_stall_counts_for_every_question_whose_moment_fell_into_it() -> None:
    now, asked = 100.0, []

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    async def ask(question: str) -> None:
        nonlocal now
        asked.append((question, now))
        if question == "slow":
            now += 2.5

    questions = ["first", "slow", "late", "later", "last"]
    assert await open_loop(ask, questions, 1.0, clock=lambda: now, sleep=sleep) == [0.0, 2.5, 1.5, 0.5, 0.0]
    assert asked == [("first", 101.0), ("slow", 102.0), ("late", 104.5), ("later", 104.5), ("last", 105.0)]


async def test_no_loop_is_asked_to_wait_for_less_than_it_can_and_what_is_near_counts_from_when_it_is_asked() -> None:
    now, slept, asked = 100.0, [], []

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += max(seconds - 0.0004, 0.0003)  # as a loop does that wakes up early

    async def ask(question: int) -> None:
        nonlocal now
        asked.append(question)
        now += 0.0001

    seconds = await open_loop(ask, range(100), 0.0002, clock=lambda: now, sleep=sleep)
    assert min(slept) > 0.0005
    assert asked == list(range(100))
    assert max(seconds) == pytest.approx(0.0001)
    assert now == pytest.approx(100 + 100 * 0.0002, abs=0.0006)


# The work.


def test_the_same_workload_is_the_same_work() -> None:
    assert streams(SMALL) == streams(SMALL)
    assert queries(SMALL) == queries(SMALL)
    assert streams(SMALL) != streams(msgspec.structs.replace(SMALL, seed=SMALL.seed + 1))
    assert [len(part) for part in streams(SMALL)] == [7, 20, 100]
    assert len(queries(SMALL)) == 30


def test_the_right_balances_are_the_sums_of_the_deposits() -> None:
    deposits = [Deposit("account-0000001", 5), Deposit("account-0000000", 3), Deposit("account-0000001", 4)]
    small = Workload(accounts=3, commands=0, warmup=0)
    assert totals(small, deposits) == {"account-0000000": 3, "account-0000001": 9, "account-0000002": 0}


def test_a_fingerprint_knows_balances_and_not_their_order() -> None:
    assert fingerprint({"ann": 1, "bob": 2}) == fingerprint({"bob": 2, "ann": 1})
    assert len({fingerprint(each) for each in ({}, {"ann": 1}, {"ann": 2}, {"ann": 1, "bob": 0})}) == 4


@pytest.mark.parametrize("loop", loops.available())
def test_all_that_take_the_same_commands_end_with_the_same_balances(loop: str, tmp_path: Path) -> None:
    programs = ["engine-callers", "engine-one-call", "minimum-callers", "minimum-one-call"]
    programs += ["bare-loop", "sqlite-batches", "sqlite-autocommit"]
    work = streams(SMALL)
    expected = fingerprint(totals(SMALL, work.warmup + work.measured))
    for program in programs:
        (directory := tmp_path / program).mkdir()
        result = run_here(Job(program=program, workload=SMALL, directory=str(directory), loop=loop))
        assert result.state == expected, program
        assert result.value > 0


async def test_the_minimum_refuses_one_command_and_nobody_else_in_its_batch(tmp_path: Path) -> None:
    async with minimum(tmp_path / "bank.db") as engine:
        opened, refused, deposited = map(engine.execute, [Open("ann"), Deposit("bob", 1), Deposit("ann", 2)])
        with pytest.raises(Refused, match="no account 'bob'"):
            await refused
        assert await opened == await deposited == 1
        assert await engine.execute(Deposit("ann", 3)) == 2
        assert await engine.execute_many([]) == []
    assert engine.balances == {"ann": 5}
    assert (engine.commits, engine.commands) == (2, 3)


# The tables.


def test_every_figure_names_what_there_is_and_everything_there_is_is_used() -> None:
    entries = [
        entry
        for figure in FIGURES
        for entry in (*figure.subjects, *figure.limits, *([figure.prepare] if figure.prepare else []))
    ]
    assert {entry.program for entry in entries} == set(PROGRAMS)
    assert {entry.workload for entry in entries} == set(WORKLOADS)
    assert len({figure.name for figure in FIGURES}) == len(FIGURES)
    for figure in FIGURES:
        labels = [entry.label for entry in (*figure.subjects, *figure.limits)]
        assert len(labels) == len(set(labels))
        of = {entry.goal.of for entry in figure.subjects if entry.goal and entry.goal.of}
        assert of <= {limit.label for limit in figure.limits}


def _each_program_once() -> list[Figure]:
    """The figures with what no figure before them has run: `make bench-smoke` runs all of each."""
    ran: set[str] = set()
    left = []
    for figure in FIGURES:
        entries = {entry.program: Entry(entry.label, entry.program, entry.workload) for entry in _entries(figure)}
        new = tuple(entry for program, entry in entries.items() if program not in ran)
        ran |= entries.keys()
        if new:
            left.append(msgspec.structs.replace(figure, subjects=new, limits=()))
    return left


def _entries(figure: Figure) -> tuple[Entry, ...]:
    return (*figure.subjects, *figure.limits)


@pytest.mark.parametrize("figure", _each_program_once(), ids=lambda figure: figure.name)
def test_every_program_runs_at_its_smoke_size(figure: Figure, tmp_path: Path) -> None:
    plan = Plan(loops=["asyncio"], directory=str(tmp_path), runs=1, smoke=True)
    found = measure(figure, plan, run=run_here)
    there = [entry for entry in figure.subjects if not PROGRAMS[entry.program].missing]
    assert [contender.entry for contender in found] == there
    assert all(result.value > 0 for results in found.values() for result in results)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_every_figure_is_summed_up_beside_its_limits(figure: Figure, tmp_path: Path) -> None:
    plan = Plan(loops=["asyncio"], directory=str(tmp_path), runs=1, smoke=True)
    found = summarise(figure, measure(figure, plan, run=lambda job: Result(value=2.0, state="same")), smoke=True)
    there = [entry for entry in (*figure.subjects, *figure.limits) if not PROGRAMS[entry.program].missing]
    assert [row.label for row in found.rows] == [entry.label for entry in there]
    assert all(row.median > 0 and row.met is None for row in found.rows)
    for row in found.rows[: len(figure.subjects)]:
        assert list(row.ratios) == [limit.label for limit in figure.limits if limit in there]
    assert list(tmp_path.iterdir()) == []


# Running, and what comes of it.


def test_a_contender_runs_on_every_loop_if_it_has_one() -> None:
    assert [each.name for each in contenders(TWO, ["asyncio", "uvloop"])] == [
        "subject (asyncio)",
        "subject (uvloop)",
        "limit",
    ]


def test_contenders_take_turns_each_in_an_empty_directory_of_its_own(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []

    def run(job: Job) -> Result:
        assert list(Path(job.directory).iterdir()) == []
        (Path(job.directory) / "left behind").touch()
        seen.append((job.program, job.directory))
        return Result(value=len(seen), state="same")

    results = measure(TWO, Plan(loops=["asyncio"], directory=str(tmp_path), runs=2, smoke=True), run=run)
    assert [program for program, _ in seen] == ["engine-callers", "bare-loop", "engine-callers", "bare-loop"]
    assert len({directory for _, directory in seen}) == 4
    assert {contender: [each.value for each in those] for contender, those in results.items()} == {
        SUBJECT: [1, 3],
        LIMIT: [2, 4],
    }


def test_what_is_prepared_is_prepared_once_and_left_to_all(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []

    def run(job: Job) -> Result:
        seen.append((job.program, job.directory))
        return Result(value=1)

    figure = msgspec.structs.replace(TWO, prepare=Entry("history", "engine-history", "history"))
    measure(figure, Plan(loops=["asyncio"], directory=str(tmp_path), runs=1, smoke=True), run=run)
    assert [program for program, _ in seen] == ["engine-history", "engine-callers", "bare-loop"]
    assert len({directory for _, directory in seen}) == 1


def test_different_work_is_an_error_that_names_both(tmp_path: Path) -> None:
    plan = Plan(loops=["asyncio"], directory=str(tmp_path), runs=1, smoke=True)
    with pytest.raises(DifferentWork) as caught:
        measure(TWO, plan, run=lambda job: Result(value=1, state=f"of {job.program}"))
    assert str(caught.value) == (
        "two: not the same work was done, so there is nothing to compare "
        "(subject (asyncio): of engine-callers, limit: of bare-loop)"
    )


def test_a_contender_that_ends_differently_in_another_run_is_found(tmp_path: Path) -> None:
    states = iter(["a", "a", "b", "a"])
    plan = Plan(loops=["asyncio"], directory=str(tmp_path), runs=2, smoke=True)
    with pytest.raises(DifferentWork, match=r"subject \(asyncio\), another run: b"):
        measure(TWO, plan, run=lambda _: Result(value=1, state=next(states)))


def test_a_worker_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(WorkerFailed, match=r"contender 'no-such' failed: exit 1\n(.|\n)*KeyError: 'no-such'"):
        run_apart(Job(program="no-such", workload=SMALL, directory=str(tmp_path)))


# What is made of the results.


@pytest.mark.parametrize(
    ("subject", "smoke", "met"),
    [([4.0, 6.0, 5.0], False, True), ([3.9, 5.0, 4.0], False, False), ([4.0, 6.0, 5.0], True, None)],
)
def test_a_ratio_is_the_median_of_the_ratios_within_each_run(subject: list[float], smoke: bool, met: bool) -> None:
    limit = [8.0, 10.0, 10.0]
    results = {
        SUBJECT: [Result(value=value, details={"bytes/event": value * 2}) for value in subject],
        LIMIT: [Result(value=value) for value in limit],
    }
    first, second = summarise(TWO, results, smoke=smoke).rows
    middle = sorted(subject)[1]
    assert (first.label, first.loop, first.values) == ("subject", "asyncio", subject)
    assert (first.median, first.low, first.high) == (middle, min(subject), max(subject))
    assert first.details == {"bytes/event": middle * 2}
    assert first.ratios == {"limit": 0.5 if subject[0] == 4.0 else 0.4875}
    assert first.met is met
    assert (second.loop, second.median, second.ratios, second.goal, second.met) == (None, 10.0, {}, None, None)


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        (Goal(bound=10), 10, True),
        (Goal(bound=10), 9.9, False),
        (Goal(bound=5, at_most=True), 5, True),
        (Goal(bound=5, at_most=True), 5.1, False),
    ],
)
def test_a_goal_is_met_at_its_bound(goal: Goal, value: float, met: bool) -> None:
    assert goal.is_met(value) is met


def test_what_needs_a_command_that_is_not_there_is_skipped_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROGRAMS, "bare-loop", PROGRAMS["bare-loop"]._replace(needs=("sh", "no-such-command")))
    plan = Plan(loops=["asyncio"], directory=str(tmp_path), runs=1, smoke=True)
    figure = summarise(TWO, measure(TWO, plan, run=lambda _: Result(value=7)), smoke=False)
    assert [(row.label, row.ratios, row.met) for row in figure.rows] == [("subject", {}, None)]
    assert figure.skipped == {"limit": ["no-such-command"]}
    out = Console(file=io.StringIO(), width=150, force_terminal=False)
    report.show_figure(out, figure)
    assert isinstance(out.file, io.StringIO)
    assert out.file.getvalue().splitlines()[-1] == "  limit: skipped, because no-such-command can't be found"


def test_the_report_says_plainly_what_is_missed() -> None:
    results = {SUBJECT: [Result(value=1_234_567.0)], LIMIT: [Result(value=4_000_000.0)]}
    figure = summarise(TWO, results, smoke=False)
    out = Console(file=io.StringIO(), width=150, force_terminal=False)
    report.show_figure(out, figure)
    report.show_verdict(out, Report(machine=MACHINE, runs=1, smoke=False, figures=[figure]))
    assert isinstance(out.file, io.StringIO)
    text = out.file.getvalue()
    assert "subject · asyncio" in text
    assert "1.23 M" in text
    assert "≥ 0.5 of limit missed" in text
    assert "0 of 1 goals met." in text
    assert "missed: two, subject · asyncio: 0.31 of limit, goal ≥ 0.5 of limit" in text


@pytest.mark.parametrize(
    ("filesystem", "smoke", "expected"),
    [
        ("ext4", False, ""),
        ("tmpfs", False, "tmpfs keeps nothing: no figure of a durable command counts. Use --dir."),
        ("ext4", True, "Smoke: sizes too small to measure anything. It shows only that everything runs."),
    ],
)
def test_the_report_says_when_its_figures_mean_nothing(filesystem: str, smoke: bool, expected: str) -> None:
    out = Console(file=io.StringIO(), width=150, force_terminal=False)
    report.show_machine(out, msgspec.structs.replace(MACHINE, filesystem=filesystem), runs=3, smoke=smoke)
    assert isinstance(out.file, io.StringIO)
    assert out.file.getvalue().splitlines()[3:] == ([expected] if expected else [])


def test_a_filesystem_is_that_of_the_nearest_mount_above(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    (tmp_path / "a disk" / "deep").mkdir(parents=True)
    place = str(tmp_path / "a disk").replace(" ", "\\040")
    mounts.write_text(
        f"/dev/a / ext4 rw 0 0\nold {place} xfs rw 0 0\nnew {place} btrfs rw 0 0\nn /nowhere tmpfs rw 0 0\n"
    )
    assert filesystem_at(tmp_path / "a disk" / "deep", mounts) == "btrfs"
    assert filesystem_at(tmp_path, mounts) == "ext4"
    assert filesystem_at(tmp_path, tmp_path / "no such file") == "unknown"


# The command line.


def test_without_rich_it_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(publishing, "find_spec", lambda _: None)
    assert command_line.main(["--dir", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == (
        "millstream.bench shows its report with rich: install the extra millstream[bench]\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [["--runs", "0"], ["--runs", "many"], ["--only", "no-such"], ["--loop", "trio"]])
def test_a_wrong_option_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.main(arguments)
    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_figures_are_named_one_by_one_or_by_a_pattern(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[str] = []

    def measured(figure: Figure, plan: Plan, *, tell: object) -> dict[Contender, list[Result]]:
        seen.append(figure.name)
        return {contender: [Result(value=1)] for contender in contenders(figure, plan.loops)}

    monkeypatch.setattr(command_line, "measure", measured)
    assert command_line.main(["--smoke", "--dir", str(tmp_path), "--only", "ask", "socket-execute-50*"]) == 0
    assert seen == ["ask", "socket-execute-50", "socket-execute-50x16"]


def test_a_figure_that_fails_is_named_and_loses_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def measured(figure: Figure, plan: Plan, *, tell: object) -> dict[Contender, list[Result]]:
        if figure.name == "one-caller":
            raise WorkerFailed("engine-callers", "exit 1")
        return {contender: [Result(value=1)] for contender in contenders(figure, plan.loops)}

    monkeypatch.setattr(command_line, "measure", measured)
    path = tmp_path / "report.json"
    only = ["--only", "many-callers", "one-caller", "ask"]
    assert command_line.main(["--smoke", "--dir", str(tmp_path), "--json", str(path), *only]) == 1
    assert [figure.name for figure in msgspec.json.decode(path.read_bytes(), type=Report).figures] == [
        "many-callers",
        "ask",
    ]
    assert "one-caller failed, and is not in the report\n" in capsys.readouterr().err
    path.unlink()
    assert command_line.main(["--smoke", "--dir", str(tmp_path), "--json", str(path), "--only", "one-caller"]) == 1
    assert not path.exists()


def test_the_whole_program_runs_and_writes_its_report(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "millstream.bench", "--smoke", "--loop", "asyncio", "--only", "one-caller", "ask"]
    command += ["--dir", str(tmp_path / "out"), "--json", str(tmp_path / "report.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "one-caller: one caller, awaiting each receipt" in done.stdout
    assert "÷ autocommit" in done.stdout
    written = (tmp_path / "report.json").read_bytes()
    found = msgspec.json.decode(written, type=Report)
    assert (found.runs, found.smoke) == (1, True)
    assert found.machine.cores > 0
    assert {"sqlite", "msgspec", "millstream"} <= set(found.machine.versions)
    assert [(figure.name, figure.unit) for figure in found.figures] == [("one-caller", "commands/s"), ("ask", "asks/s")]
    assert [(row.label, row.loop) for row in found.figures[0].rows] == [
        ("millstream", "asyncio"),
        ("on the loop's thread", "asyncio"),
        ("autocommit", None),
        ("fdatasync", None),
        ("minimum", "asyncio"),
    ]
    row = msgspec.json.decode(written)["figures"][0]["rows"][0]
    assert sorted(row) == [
        "above",
        "details",
        "durability",
        "goal",
        "high",
        "is_limit",
        "label",
        "loop",
        "low",
        "median",
        "met",
        "ratios",
        "series",
        "values",
        "what",
    ]
    assert row["goal"] == {"bound": 0.5, "at_most": False, "of": "autocommit", "above": None}
    assert list((tmp_path / "out").iterdir()) == []
