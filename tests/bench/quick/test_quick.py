"""The quick profile: that it asks what the full figures ask, fits into its minutes, and says in words what it found."""

from __future__ import annotations

import argparse
import io
import math
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from millstream.bench import __main__ as command_line
from millstream.bench.figures import FIGURES
from millstream.bench.harness import Plan, contenders
from millstream.bench.job import Job, Result
from millstream.bench.programs import PROGRAMS
from millstream.bench.quick import command
from millstream.bench.quick.estimate import Estimate, Turn, about
from millstream.bench.quick.questions import QUESTIONS, expected_turns
from millstream.bench.quick.show import show_answers, show_notes
from millstream.bench.quick.words import answer_of, beside_words, not_there, spread_words
from millstream.bench.summary import Report, summarise
from millstream.bench.worker import run_here
from millstream.bench.workload import WORKLOADS
from tests.bench.reports import a_figure, a_row

#: Of each contender, so many.
RUNS = 3
SECONDS_MAX = 300
PEERS = ("eventsourcing", "eventsource-py")


# What is asked.


def test_every_contender_is_one_of_a_full_figure_with_its_program_and_its_workload() -> None:
    full = {(entry.program, entry.workload) for figure in FIGURES for entry in (*figure.subjects, *figure.limits)}
    for question in QUESTIONS:
        entries = (*question.figure.subjects, *question.figure.limits)
        assert {(entry.program, entry.workload) for entry in entries} <= full
        assert len({entry.label for entry in entries}) == len(entries)
        assert all(WORKLOADS[entry.workload].quick for entry in entries)


def test_its_figures_have_names_of_their_own_so_that_none_is_compared_with_one_of_another_size() -> None:
    names = {question.figure.name for question in QUESTIONS}
    assert len(names) == len(QUESTIONS)
    assert not names & {figure.name for figure in FIGURES}


def test_all_of_it_fits_into_five_minutes_also_where_the_machine_is_half_as_slow_again_and_every_peer_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for peer in PEERS:
        monkeypatch.setitem(PROGRAMS, peer, PROGRAMS[peer]._replace(packages=()))
    expected = sum(turn.seconds for question in QUESTIONS for turn in expected_turns(question, RUNS))
    assert 120 < expected * 1.5 < SECONDS_MAX
    assert command.options([]).runs == RUNS


def test_a_quick_size_is_the_full_work_and_less_of_it() -> None:
    for sizes in WORKLOADS.values():
        if sizes.quick:
            assert sizes.quick.callers == sizes.full.callers
            assert sizes.quick.commands <= sizes.full.commands
            assert sizes.quick.kind == sizes.full.kind
            assert max(sizes.quick.commands, sizes.quick.asks) < max(sizes.full.commands, sizes.full.asks) * 1.01


def test_a_plan_takes_the_quick_size_of_a_workload_that_has_one() -> None:
    quick, other = (figure.subjects[0] for figure in FIGURES if figure.name in ("many-callers", "flood"))
    plan = Plan(loops=["asyncio"], directory="", quick=True)
    assert plan.workload(quick) == WORKLOADS["many-callers"].quick
    assert plan.workload(other) == WORKLOADS["flood"].full
    assert Plan(loops=[], directory="").workload(quick) == WORKLOADS["many-callers"].full
    assert Plan(loops=[], directory="", quick=True, smoke=True).workload(quick) == WORKLOADS["many-callers"].smoke


def test_a_turn_is_expected_of_each_contender_that_is_there() -> None:
    for question in QUESTIONS:
        turns = len(contenders(question.figure, ["asyncio"])) * 2 + (question.figure.prepare is not None)
        assert len(expected_turns(question, 2)) == turns


# How long it takes.


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def turns(**seconds: float) -> list[Turn]:
    return [Turn(who, expected) for who, expected in seconds.items()]


def test_what_is_left_is_what_was_expected_by_how_slow_the_machine_was_until_now() -> None:
    estimate = Estimate([turns(a=10, b=20), turns(a=30)], clock=(clock := Clock()))
    estimate.next_question()
    assert estimate.next_turn() == 60
    clock.now += 20
    assert estimate.next_turn() == 100
    clock.now += 10
    estimate.next_question()
    assert estimate.next_turn() == 30


def test_what_a_contender_took_it_is_expected_to_take_again_whatever_was_expected_first() -> None:
    estimate = Estimate([turns(disk=2, loop=2) * 3], clock=(clock := Clock()))
    estimate.next_question()
    assert estimate.next_turn() == 12
    clock.now += 10
    assert estimate.next_turn() == 3 * 10 + 2 * 10  # the disk is slow; of the loop nobody knows yet
    clock.now += 2
    assert estimate.next_turn() == 2 * 10 + 2 * 2
    clock.now += 8
    assert estimate.next_turn() == 8 + 2 * 2


def test_what_a_contender_took_in_one_question_says_nothing_of_another() -> None:
    estimate = Estimate([turns(a=1), turns(a=5)], clock=(clock := Clock()))
    estimate.next_question()
    estimate.next_turn()
    clock.now += 2
    estimate.next_question()
    assert estimate.next_turn() == 10


def test_what_a_failed_question_has_not_done_is_not_waited_for() -> None:
    estimate = Estimate([turns(a=10, b=20, c=500), turns(a=30)], clock=(clock := Clock()))
    estimate.next_question()
    assert estimate.next_turn() == 560
    clock.now += 10
    estimate.next_question()
    assert estimate.next_turn() == 30


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "10 s"), (14, "10 s"), (58, "1 min"), (61, "1 min"), (94.9, "1 min 30 s"), (170, "2 min 50 s")],
)
def test_an_estimate_is_told_in_minutes_and_tens_of_seconds(seconds: float, told: str) -> None:
    assert about(seconds) == told


# What it says.


@pytest.mark.parametrize(
    ("ratio", "of_rates", "of_times"),
    [
        (0.004, "0.4 % as many", "0.4 % as long"),
        (0.28, "28 % as many", "28 % as long"),
        (0.89, "89 % as many", "89 % as long"),
        (0.9, "about as many", "about as long"),
        (1.1, "about as many", "about as long"),
        (1.34, "1.3 times as many", "1.3 times as long"),
        (38.2, "38 times as many", "38 times as long"),
        (1234.0, "1,234 times as many", "1,234 times as long"),
    ],
)
def test_a_ratio_is_told_in_words(ratio: float, of_rates: str, of_times: str) -> None:
    assert beside_words(ratio, is_rate=True) == of_rates
    assert beside_words(ratio, is_rate=False) == of_times


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((100.0,), "One run of each: chance alone may make a quarter of difference."),
        ((100.0, 105.0, 95.0), "Runs of one and the same differed by up to 10 %."),
        (
            (100.0, 150.0, 90.0),
            "Runs of one and the same differed by up to 60 % (slow, many <callers>): "
            "something else was busy, too. Believe no smaller difference.",
        ),
    ],
)
def test_how_far_runs_were_apart_is_said(values: tuple[float, ...], told: str) -> None:
    steady = [100.0] * len(values)
    assert spread_words([a_figure(a_row(*steady), a_row(*values, label="slow", is_limit=True))]) == told


def test_somebody_who_has_read_nothing_finds_in_the_table_what_was_done_how_much_and_beside_what(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    question = QUESTIONS[0]
    monkeypatch.setitem(PROGRAMS, PEERS[0], PROGRAMS[PEERS[0]]._replace(packages=()))
    monkeypatch.setitem(PROGRAMS, PEERS[1], PROGRAMS[PEERS[1]]._replace(packages=("no_such_package",)))
    rates = {"millstream": 74_000.0, "minimum": 264_000.0, "raw SQLite": 500_000.0, "eventsourcing": 1_900.0}
    todo = contenders(question.figure, ["asyncio"])
    figure = summarise(question.figure, {each: [Result(value=rates[each.entry.label])] for each in todo}, smoke=False)
    answer = answer_of(question, figure)
    assert (answer.done, answer.value, answer.unit) == (question.done, "74.0 k", "changes a second")
    assert [(line.value, line.ratio) for line in answer.beside] == [
        ("264.0 k", "28 % as many"),
        ("500.0 k", "15 % as many"),
        ("1,900", "39 times as many"),
    ]
    assert not_there([figure]) == ["eventsource-py"]
    out = Console(file=(text := io.StringIO()), width=170)
    show_answers(out, [answer])
    show_notes(out, [figure], loop="asyncio", runs=1)
    said = " ".join(text.getvalue().split())
    for part in (
        "1,000 callers at once",
        "changes a second",
        "74.0 k",
        "the library eventsourcing",
        "39 times as many",
    ):
        assert part in said
    assert "Not installed, so not beside it: eventsource-py." in said


# The program.


def options(directory: Path, *more: str) -> list[str]:
    return ["--smoke", "--loop", "asyncio", "--dir", str(directory / "out"), *more]


def test_all_of_it_runs_at_its_smoke_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = command.options(options(tmp_path, "--json", str(tmp_path / "quick.json")))
    assert command.main(chosen, run=run_here) == 0
    said = capsys.readouterr()
    for number, question in enumerate(QUESTIONS, start=1):
        assert f"{number} of 6: {question.done}; about " in said.err
    assert "CPython" in said.out
    assert "so millstream does" in said.out
    found = msgspec.json.decode((tmp_path / "quick.json").read_bytes(), type=Report)
    assert [figure.name for figure in found.figures] == [question.figure.name for question in QUESTIONS]
    assert all(math.isfinite(row.median) and row.median > 0 for figure in found.figures for row in figure.rows)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_fails_is_named_loses_no_other_question_and_makes_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(job: Job) -> Result:
        return Result(value=7, state=job.program if job.workload == WORKLOADS["one-call"].smoke else None)

    assert command.main(command.options(options(tmp_path)), run=run) == 1
    said = capsys.readouterr()
    assert f"{QUESTIONS[2].done}: failed, and is not in the table\nquick-execute-many: not the same work" in said.err
    assert "6 of 6" in said.err
    assert "as an import" not in said.out
    assert "about as many" in said.out


def test_it_is_a_command_of_the_harness(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    def main(chosen: argparse.Namespace) -> int:
        seen.append((chosen.loop, chosen.runs))
        return 0

    monkeypatch.setattr(command, "main", main)
    assert command_line.main(["quick", *options(tmp_path, "--runs", "2")]) == 0
    assert seen == [("asyncio", 2)]
