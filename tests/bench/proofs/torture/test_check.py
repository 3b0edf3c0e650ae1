"""What the torture says of a log is itself tried: on logs that are right, and on logs that are wrong in one way each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from millstream.bench.proofs.bodies import commands_in
from millstream.bench.proofs.torture import reports, work
from millstream.bench.proofs.torture.application import CHARGING, FEES, SENDING
from millstream.bench.proofs.torture.check import (
    Kind,
    Known,
    Problem,
    Told,
    Waiting,
    agenda_after,
    balances_after,
    broken_promises,
    forgotten,
    not_a_prefix,
    read_on,
    told_by,
    wrong_balances,
    wrong_cascades,
    wrong_timers,
)
from millstream.bench.proofs.torture.effects import Bill, Owing
from millstream.bench.proofs.torture.reports import Ack, Place, Refusal, Report, Seen, Trouble
from millstream.engine import Receipt, Rejected
from millstream.engine.commits.commit import Commit, Head
from tests.support import Row, sealed_rows

#: Caller 0 deposits into accounts of all, 1 transfers, 2 into its own, 3 sends lists.
OPENING = ["0.open.all-0", "0.open.all-1", "0.open.own-2", "0.open.own-3"]
YIELDED: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "0.open.all-0": [{"type": "Opened", "account": "all-0"}],
    "0.open.all-1": [{"type": "Opened", "account": "all-1"}],
    "0.open.own-2": [{"type": "Opened", "account": "own-2"}],
    "0.open.own-3": [{"type": "Opened", "account": "own-3"}],
    "0.0.0": [{"type": "Deposited", "account": "all-0", "amount": 40}],
    "0.1.0": [
        {"type": "Withdrawn", "account": "all-0", "amount": 30},
        {"type": "Deposited", "account": "all-1", "amount": 30},
    ],
    "0.2.0": [{"type": "Deposited", "account": "own-2", "amount": 7}],
    "0.3.0.0": [{"type": "Deposited", "account": "own-3", "amount": 1}],
    "0.3.0.1": [{"type": "Deposited", "account": "own-3", "amount": 2}],
}
BATCHES = [OPENING, ["0.0.0", "0.2.0"], ["0.1.0"], ["0.3.0.0", "0.3.0.1"]]
RECEIPTS = {
    "0.open.all-0": Place(1, 1, 1),
    "0.open.all-1": Place(1, 2, 1),
    "0.open.own-2": Place(1, 3, 1),
    "0.open.own-3": Place(1, 4, 1),
    "0.0.0": Place(2, 5, 1),
    "0.2.0": Place(2, 6, 1),
    "0.1.0": Place(3, 8, 2),
    "0.3.0.0": Place(4, 9, 1),
    "0.3.0.1": Place(4, 10, 1),
}
TOLD = Told(RECEIPTS, {"0.1.1": "Rejected"}, seen=10)
BALANCES = {"all-0": 10, "all-1": 30, "own-2": 7, "own-3": 3}


def log_of(
    batches: Sequence[Sequence[str]], yielded: Mapping[str, Sequence[Mapping[str, Any]]] = YIELDED
) -> list[Commit]:
    """The commits that hold these commands, with a chain that is whole."""
    head, commits = Head(), list[Commit]()
    for batch in batches:
        records, offset = [], 0
        for name in batch:
            events = yielded[name]
            listed = name.count(".") == 3
            records.append(
                Row(
                    "Anything",
                    id=None if listed else name,
                    correlation=name.rpartition(".")[0] if listed else None,
                    offset=offset,
                    events=msgspec.Raw(msgspec.json.encode(events)),
                )
            )
            offset += len(events)
        commit = sealed_rows(head, f"2013-01-01T00:00:{head.number:02}.000000Z", records)
        commits.append(commit)
        head = Head(commit.number, head.position + offset, commit.recorded_at, commit.digest)
    return commits


def verdict(commits: Sequence[Commit], told: Told = TOLD) -> list[Problem]:
    """All that the checks find, as a round puts them together."""
    known, problems = read_on(Known(), commits, YIELDED.__getitem__)
    return problems + broken_promises(known, told)


def kinds(problems: Sequence[Problem]) -> list[Kind]:
    return [problem.kind for problem in problems]


def test_a_log_that_holds_what_was_promised_is_right() -> None:
    commits = log_of(BATCHES)
    assert verdict(commits) == []
    known, _ = read_on(Known(), commits, YIELDED.__getitem__)
    assert known.places == RECEIPTS
    assert known.balances == BALANCES
    assert (known.head.number, known.head.position, known.head.digest) == (4, 10, commits[-1].digest)


def test_a_command_that_nobody_was_told_of_may_be_in_the_log_or_not() -> None:
    less = Told({name: place for name, place in RECEIPTS.items() if place.commit < 4}, {}, seen=8)
    assert verdict(log_of(BATCHES), less) == []
    assert verdict(log_of(BATCHES[:-1]), less) == []


# One thing wrong each.


def test_an_acknowledged_command_that_was_taken_out_is_found_although_the_chain_is_whole() -> None:
    problems = verdict(log_of([OPENING, ["0.0.0"], ["0.1.0"], ["0.3.0.0", "0.3.0.1"]]), TOLD._replace(seen=9))
    assert "0.2.0: said to be at Place(commit=2, position=6, events=1)" in [each.what for each in problems]
    assert kinds(problems)[0] is Kind.LOST
    assert set(kinds(problems)[1:]) == {Kind.MISPLACED}  # those after it have moved up


def test_an_acknowledged_commit_that_is_missing_at_the_end_is_found() -> None:
    problems = verdict(log_of(BATCHES[:-1]), TOLD._replace(seen=0))
    assert [str(problem) for problem in problems] == [
        "acknowledged, and not in the log: 0.3.0.0: said to be at Place(commit=4, position=9, events=1)",
        "acknowledged, and not in the log: 0.3.0.1: said to be at Place(commit=4, position=10, events=1)",
    ]


@pytest.mark.parametrize("name", ["0.2.0", "0.3.0.1"])
def test_a_command_that_is_there_twice_is_found_with_an_id_and_without(name: str) -> None:
    problems = verdict(log_of([*BATCHES, [name]]))
    assert kinds(problems) == [Kind.DOUBLED, Kind.MISPLACED]
    assert problems[0].what == f"{name}: {RECEIPTS[name]} and Place(commit=5, position=11, events=1)"


def test_two_commands_that_have_changed_places_are_found() -> None:
    problems = verdict(log_of([OPENING, ["0.2.0", "0.0.0"], *BATCHES[2:]]))
    assert kinds(problems) == [Kind.MISPLACED, Kind.MISPLACED]
    assert problems[0].what == (
        "0.0.0: said to be at Place(commit=2, position=5, events=1), is at Place(commit=2, position=6, events=1)"
    )


def test_a_command_with_other_events_than_it_yields_is_found() -> None:
    deposited = [{"type": "Deposited", "account": "own-2", "amount": 8}]
    problems = verdict(log_of(BATCHES, {**YIELDED, "0.2.0": deposited}))
    assert kinds(problems) == [Kind.ALTERED]
    assert "'amount': 8}], not [{'type': 'Deposited', 'account': 'own-2', 'amount': 7}]" in problems[0].what


def test_a_refused_command_that_happened_all_the_same_is_found() -> None:
    told = Told({name: place for name, place in RECEIPTS.items() if name != "0.1.0"}, {"0.1.0": "EngineClosed"})
    problems = verdict(log_of(BATCHES), told)
    assert [str(problem) for problem in problems] == [
        "refused for certain, and in the log: 0.1.0: EngineClosed, and it is at Place(commit=3, position=8, events=2)"
    ]


def test_an_answer_that_showed_more_than_the_log_holds_is_found() -> None:
    problems = verdict(log_of(BATCHES), TOLD._replace(seen=11))
    assert [str(problem) for problem in problems] == [
        "seen in an answer, and not in the log: an answer showed event 11, and the log ends with 10"
    ]


def swapped(commits: list[Commit]) -> list[Commit]:
    second, third = commits[1], commits[2]
    commits[1] = msgspec.structs.replace(third, number=2, position=5)
    commits[2] = msgspec.structs.replace(second, number=3, position=7)
    return commits


def edited(commits: list[Commit]) -> list[Commit]:
    body = commits[1].body.replace(b'"amount":40', b'"amount":41')
    commits[1] = msgspec.structs.replace(commits[1], body=body)
    return commits


def without_the_second(commits: list[Commit]) -> list[Commit]:
    return [commits[0], *commits[2:]]


def moved(commits: list[Commit]) -> list[Commit]:
    commits[2] = msgspec.structs.replace(commits[2], position=8)
    return commits


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (swapped, "LogCorrupt at commit 2: log read by sqlite3 is damaged at commit 2: its digest does not match"),
        (edited, "LogCorrupt at commit 2: log read by sqlite3 is damaged at commit 2: its digest does not match"),
        (without_the_second, "LogCorrupt at commit 2: log read by sqlite3 is damaged at commit 2: commit 3 stands"),
        (moved, "LogCorrupt at commit 3: log read by sqlite3 is damaged at commit 3: its first event has position 8"),
    ],
)
def test_a_chain_that_is_not_whole_is_found_and_nothing_behind_it_counts(break_it: Any, expected: str) -> None:
    known, problems = read_on(Known(), break_it(log_of(BATCHES)), YIELDED.__getitem__)
    assert kinds(problems) == [Kind.BROKEN]
    assert problems[0].what.startswith(expected)
    number = int(expected.split(":", maxsplit=1)[0][-1])
    assert known.head.number == len(known.commits) == number - 1
    assert set(kinds(broken_promises(known, TOLD))) == {Kind.LOST, Kind.UNREAL}


def test_time_that_goes_back_and_a_body_of_something_else_are_found() -> None:
    first = sealed_rows(Head(), "2013-01-02T00:00:00.000000Z", [])
    second = sealed_rows(Head(1, 0, first.recorded_at, first.digest), "2013-01-01T00:00:00.000000Z", [])
    assert [each.what for each in read_on(Known(), [first, second])[1]] == [
        "LogCorrupt at commit 2: log read by sqlite3 is damaged at commit 2: "
        "its time 2013-01-01T00:00:00.000000Z is before 2013-01-02T00:00:00.000000Z; "
        "commits 1 to 1 are whole: restore a backup"
    ]
    nameless = sealed_rows(Head(), "2013-01-02T00:00:00.000000Z", [Row("Deposit", events=msgspec.Raw(b"[]"))])
    assert [each.what for each in read_on(Known(), [nameless])[1]] == ["KeyError at commit 1: 'correlation'"]


# From round to round.


def test_a_log_is_read_on_from_what_is_known_and_comes_to_the_same() -> None:
    commits = log_of(BATCHES)
    whole, _ = read_on(Known(), commits, YIELDED.__getitem__)
    for end in range(len(commits) + 1):
        part, problems = read_on(Known(), commits[:end], YIELDED.__getitem__)
        assert problems == []
        assert read_on(part, commits, YIELDED.__getitem__) == (whole, [])


def test_what_was_read_before_must_still_be_there_unchanged() -> None:
    known, _ = read_on(Known(), log_of(BATCHES), YIELDED.__getitem__)
    same, problems = read_on(known, log_of(BATCHES[:-1]), YIELDED.__getitem__)
    assert (same, [str(each) for each in problems]) == (
        known,
        ["a commit is not what it was: there were 4 commits, now there are 3"],
    )
    _, problems = read_on(known, log_of([OPENING, ["0.0.0"], *BATCHES[2:]]), YIELDED.__getitem__)
    assert kinds(problems) == [Kind.REWRITTEN]
    assert problems[0].what.startswith("commit 2 was Commit(number=2, position=5, ")


def test_a_prefix_is_one_to_the_last_byte() -> None:
    commits = log_of(BATCHES)
    assert not_a_prefix([], commits) == not_a_prefix(commits[:2], commits) == not_a_prefix(commits, commits) == []
    for field, value in (("recorded_at", "2014"), ("body", b"[]"), ("digest", b""), ("position", 9)):
        changed = [commits[0], msgspec.structs.replace(commits[1], **{field: value})]
        assert kinds(not_a_prefix(changed, commits)) == [Kind.REWRITTEN], field


def test_a_command_of_an_earlier_round_that_comes_again_is_found() -> None:
    known, _ = read_on(Known(), log_of(BATCHES), YIELDED.__getitem__)
    _, problems = read_on(known, log_of([*BATCHES, ["0.0.0"]]), YIELDED.__getitem__)
    assert kinds(problems) == [Kind.DOUBLED]


def test_balances_follow_from_the_events_of_any_beginning() -> None:
    commits = log_of(BATCHES)
    after = [
        {},
        {"all-0": 0, "all-1": 0, "own-2": 0, "own-3": 0},
        {"all-0": 40, "all-1": 0, "own-2": 7, "own-3": 0},
        {"all-0": 10, "all-1": 30, "own-2": 7, "own-3": 0},
        BALANCES,
    ]
    for end, expected in enumerate(after):
        assert balances_after(commits[:end]) == expected
        for start in range(len(commits) + 1):
            known, _ = read_on(Known(), commits[:start], YIELDED.__getitem__)
            assert balances_after(commits[:end], known) == expected


def test_balances_that_differ_are_named_also_where_one_side_has_no_such_account() -> None:
    assert wrong_balances(BALANCES, dict(BALANCES), "the view") == []
    found = wrong_balances({"a": 1, "b": 2, "d": 0}, {"a": 1, "b": 3, "c": 0}, "the view")
    assert [each.what for each in found] == [
        "b: the view has 2, the log has 3",
        "c: the view has None, the log has 0",
        "d: the view has 0, the log has None",
    ]
    assert set(kinds(found)) == {Kind.BALANCES}


# What was told.


def test_reports_add_up_from_round_to_round_and_may_not_contradict_each_other() -> None:
    first: list[Report] = [Ack("a", Place(1, 1, 1)), Refusal("b", "Rejected"), Seen(4), Seen(3)]
    told, problems = told_by(first)
    assert (told, problems) == (Told({"a": Place(1, 1, 1)}, {"b": "Rejected"}, 0, 4), [])
    assert told.commit == 1
    second: list[Report] = [Ack("a", Place(1, 1, 1), True), Ack("c", Place(2, 2, 1)), Trouble("it is so")]
    after, problems = told_by(second, told)
    assert after == Told({"a": Place(1, 1, 1), "c": Place(2, 2, 1)}, {"b": "Rejected"}, 1, 4)
    assert problems == [Problem(Kind.MISREAD, "it is so")]
    assert told.acked == {"a": Place(1, 1, 1)}
    after, problems = told_by([Ack("c", Place(2, 3, 1), True)], after)
    assert after.acked["c"] == Place(2, 2, 1)
    assert [each.what for each in problems] == [
        "c: first Place(commit=2, position=2, events=1), later Place(commit=2, position=3, events=1)"
    ]


def test_a_report_is_a_line_that_reads_back_as_what_it_says() -> None:
    receipt = Receipt(812, 40211, 2, "3.17.4")
    lines: list[tuple[bytes, Report]] = [
        (reports.ack("3.17.4", receipt), Ack("3.17.4", Place(812, 40211, 2))),
        (reports.refusal("3.17.5", Rejected("no_such_account")), Refusal("3.17.5", "Rejected")),
        (reports.seen(40213), Seen(40213)),
        (reports.trouble("two\nlines of  text"), Trouble("two lines of text")),
    ]
    assert [line for line, _ in lines] == [
        b"+ 3.17.4 812 40211 2 0\n",
        b"- 3.17.5 Rejected\n",
        b"~ 40213\n",
        b"! two lines of text\n",
    ]
    assert reports.parse(line.rstrip(b"\n") for line, _ in lines) == [report for _, report in lines]
    assert reports.parse([b"+ a 1 2 3 1"]) == [Ack("a", Place(1, 2, 3), repeated=True)]
    assert reports.mark("open") == b"= open\n"
    assert reports.called("9f0c-3-Courier.send") == b"* 9f0c-3-Courier.send\n"
    with pytest.raises(ValueError, match="a child said b'hello', which is no report"):
        reports.parse([b"hello"])


# The commands.


def test_a_name_says_which_command_it_is_and_what_that_leaves_in_the_log() -> None:
    assert [work.role_of(caller).name for caller in range(9)] == [
        "DEPOSIT",
        "TRANSFER",
        "ASK",
        "BATCH",
        "DEPOSIT",
        "TRANSFER",
        "ASK",
        "DEPOSIT",
        "DEPOSIT",
    ]
    assert work.expected_events(work.opening(4, "own-2")) == [{"type": "Opened", "account": "own-2"}]
    assert work.expected_events("4.3.9.11") == [{"type": "Deposited", "account": "own-3", "amount": 12}]
    for number in range(200):
        withdrawn, deposited, *billed = work.expected_events(f"0.1.{number}")
        assert (withdrawn["type"], deposited["type"]) == ("Withdrawn", "Deposited")
        due = [{"type": "Billed", "account": withdrawn["account"], "of": withdrawn["amount"]}]
        assert billed == (due if withdrawn["amount"] in (5, 15, 25, 35, 45) else [])
        assert withdrawn["account"] != deposited["account"]
        assert withdrawn["amount"] == deposited["amount"] > 0
        (deposited,) = work.expected_events(f"0.2.{number}")
        assert deposited["account"] == "own-2"
        (deposited,) = work.expected_events(f"0.0.{number}")
        assert deposited["account"] in work.accounts(0)
        assert work.command(f"0.0.{number}") == work.command(f"0.0.{number}")
    assert len({str(work.command(f"0.0.{number}")) for number in range(200)}) > 100


def test_lists_have_ids_every_other_time_and_their_commands_names_always() -> None:
    assert [work.has_id(name) for name in ("0.1.2", "0.open.own-3", "0.3.1.0", "0.3.2.0")] == [True, True, True, False]
    sizes = {len(work.batch(f"0.3.{number}")) for number in range(200)}
    assert sizes == set(range(1, 31))
    names = work.batch("0.3.2")
    assert names[0] == "0.3.2.0"
    for name in names:
        record = {"correlation": "0.3.2", "events": work.expected_events(name)}
        assert work.name_in_log(record) == name
        assert work.name_in_log({"id": name, **record}) == name


def test_what_may_have_been_sent_unheard_begins_after_each_callers_last_answer() -> None:
    heard = ["0.0.99", "1.open.all-0", "1.0.0", "1.0.1", "1.3.0.2", "1.1.7"]
    found = work.unanswered(heard, 1, 4)
    assert [name for name in found if not name.startswith("1.3.")] == [
        *("1.0.2", "1.0.3", "1.0.4"),
        *("1.1.8", "1.1.9", "1.1.10"),
        *("1.2.0", "1.2.1", "1.2.2"),
    ]
    assert [name for name in found if name.startswith("1.3.")] == [*work.batch("1.3.1"), *work.batch("1.3.3")]


# What follows from a command.

CHARGE: dict[str, Any] = {
    "origin": {"command": 1, "by": CHARGING, "event": 0},
    "events": [{"type": "Charged", "account": FEES, "amount": 1}],
}
PAID = {
    "events": [{"type": "Withdrawn", "account": "a", "amount": 6}, {"type": "Deposited", "account": "b", "amount": 6}]
}
PARKED = {
    "events": [{"type": "Withdrawn", "account": "a", "amount": 7}, {"type": "Deposited", "account": "b", "amount": 7}]
}
FAILED = {"event": 0, "by": CHARGING, "error": "ValueError", "text": "7 is one of those"}


def test_a_transfer_is_followed_by_its_charge_or_by_a_failure_and_effects_are_none_of_both() -> None:
    problems: list[Problem] = []
    came = {"origin": {"command": 2, "by": SENDING, "effect": 9}, "events": []}
    assert wrong_cascades([PAID, CHARGE, came], [], 1, problems) == 0
    assert wrong_cascades([PARKED], [FAILED, {"effect": 9, "by": SENDING, "error": "E", "text": ""}], 2, problems) == 1
    assert problems == []


@pytest.mark.parametrize(
    ("records", "failed"),
    [
        ([PAID], []),
        ([PAID, CHARGE, CHARGE], []),
        ([PARKED, CHARGE], [FAILED]),
        ([PARKED], []),
        ([PAID, CHARGE], [FAILED]),
        ([PAID, {**CHARGE, "origin": {**CHARGE["origin"], "event": 1}}], []),
        ([PAID, {**CHARGE, "events": []}], []),
    ],
)
def test_a_charge_that_is_missing_doubled_or_not_its_own_is_found(records: Any, failed: Any) -> None:
    problems: list[Problem] = []
    wrong_cascades(records, failed, 1, problems)
    assert set(kinds(problems)) == {Kind.CASCADE}


# Timers.

FIRST, LATER = "2026-11-28T00:00:00.000000Z", "2026-11-28T00:00:00.020000Z"


def setting(of: int) -> Commit:
    """A commit with a transfer that is charged for, and whose charge sets a timer."""
    timed = [{"command": 1, "set": "one", "due": LATER, "what": {"type": "Settle", "account": FEES, "of": of}}]
    events = [{"type": "Withdrawn", "account": "a", "amount": of}, {"type": "Charged", "account": FEES, "amount": 1}]
    origins = [{"command": 1, "by": CHARGING, "event": 0}]
    body = {"commands": 2, "types": ["Transfer", "Charge"], "events": events, "origins": origins, "timers": timed}
    return Commit(1, 1, FIRST, msgspec.json.encode(body), b"")


def sending(at: str, *events: Any, timer: str = "one") -> Commit:
    """A commit in which a timer is sent, with what follows."""
    body = {"commands": 1, "type": "Settle", "events": events, "of": [0] * len(events)}
    body["origins"] = [{"command": 0, "timer": timer}]
    return Commit(2, 3, at, msgspec.json.encode(body), b"")


def timed(*commits: Commit) -> tuple[dict[str, Waiting], list[Problem]]:
    waiting: dict[str, Waiting] = {}
    problems: list[Problem] = []
    for commit in commits:
        wrong_timers(waiting, commands_in(commit.body), commit, problems)
    return waiting, problems


SETTLED = {"type": "Settled", "account": FEES, "amount": 1}
BILLED = {"type": "Billed", "account": FEES, "of": 13}


def test_a_timer_waits_for_its_time_and_leads_to_what_the_transfer_was() -> None:
    assert timed(setting(6)) == ({"one": Waiting(LATER, 6)}, [])
    assert timed(setting(6), sending(LATER, SETTLED)) == ({}, [])
    assert timed(setting(13), sending(LATER, SETTLED, BILLED)) == ({}, [])
    assert agenda_after([setting(6)]) == 1
    assert agenda_after([setting(6), sending(LATER, SETTLED)]) == 0


@pytest.mark.parametrize(
    ("commit", "expected"),
    [
        (sending(FIRST, SETTLED), f"one was sent early, it was due at {LATER}"),
        (sending(LATER, SETTLED, timer="two"), "two was sent, and did not wait"),
        (sending(LATER), "one led to []"),
        (sending(LATER, SETTLED, BILLED), "one led to ["),
        (
            sending("2026-11-28T00:01:01.000000Z", SETTLED, timer="two"),
            f"the timer that was due at {LATER} is forgotten",
        ),
    ],
)
def test_a_timer_that_is_early_unknown_forgotten_or_leads_elsewhere_is_found(commit: Commit, expected: str) -> None:
    _, problems = timed(setting(6), commit)
    assert any(each.what.startswith(f"commit 2: {expected}") for each in problems), problems
    assert set(kinds(problems)) == {Kind.TIMER}


def test_what_is_left_when_all_was_to_be_done_is_forgotten() -> None:
    assert forgotten(Known(), 0) == []
    owing = Owing({1: Bill("id", 1, "a")}, {}, {}, ["parked"])
    left = forgotten(Known(waiting={"one": Waiting(LATER, 6)}, owing=owing), 2)
    assert [str(each) for each in left] == [
        f"{Kind.TIMER}: one is forgotten: Waiting(due={LATER!r}, of=6)",
        f"{Kind.EFFECT}: forgotten: Bill(id='id', position=1, account='a')",
        f"{Kind.AGENDA}: the engine's agenda has 2, the log says 3",
    ]
