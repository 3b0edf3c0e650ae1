"""What is said of a history by its positions is itself tried: on one that is right, and on some that are wrong once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from millstream.bench.proofs.histories.accounts import Deposit, Open, Standing, StandingOf, Withdraw
from millstream.bench.proofs.histories.by_position import Kind, Problem, Written, check_places, read_log
from millstream.bench.proofs.histories.linear import Linearizable, Violation, check_each
from millstream.bench.proofs.histories.operations import Operation
from millstream.bench.proofs.histories.spec import (
    Accepted,
    Account,
    Again,
    Call,
    Denied,
    Question,
    Refused,
    Repeated,
    Sent,
    Shown,
)
from millstream.engine.commits.commit import Commit, Head
from tests.support import Row, sealed_rows

OPENED = {"type": "Opened", "account": "ann"}
FIVE = {"type": "Deposited", "account": "ann", "amount": 5}
THREE = {"type": "Withdrawn", "account": "ann", "amount": 3}
BEN = {"type": "Opened", "account": "ben"}


def record(name: str, event: dict[str, Any]) -> Row:
    return Row("Anything", correlation=name, events=msgspec.Raw(msgspec.json.encode([event])))


def log_of(*batches: Sequence[Row]) -> list[Commit]:
    head, commits = Head(), list[Commit]()
    for batch in batches:
        commit = sealed_rows(head, "2013-01-01T00:00:00.000000Z", batch)
        commits.append(commit)
        head = Head(commit.number, head.position + len(batch), commit.recorded_at, commit.digest)
    return commits


LOG = log_of([record("open", OPENED), record("ben", BEN)], [record("five", FIVE)], [record("three", THREE)])


def call(begin: float, end: float | None, asked: Any, came: Any = None, key: str = "ann") -> Call:
    return Operation(client="c", key=key, asked=asked, output=came, invoked_at=begin, returned_at=end)


def sent(begin: float, end: float | None, name: str, command: Any, came: Any = None) -> Call:
    return call(begin, end, Sent(name, command), came, command.account)


def shown(begin: float, end: float, after: int, position: int, version: int, balance: int, key: str = "ann") -> Call:
    return call(begin, end, Question(StandingOf(key), after), Shown(Standing(version, balance), position), key)


#: By what is special about each.
HISTORY: dict[str, Call] = {
    "open": sent(0, 1, "open", Open("ann"), Accepted(version=1, commit=1, position=1)),
    "early": shown(0, 2, 0, 0, 0, 0),
    "ben": sent(0, 3, "ben", Open("ben"), Accepted(version=1, commit=1, position=2)),
    "no funds": sent(4, 5, "nine", Withdraw("ann", 9), Refused("insufficient_funds", Standing(1, 0), position=2)),
    "five": sent(4, None, "five", Deposit("ann", 5)),
    "denied": sent(4, 9, "denied", Deposit("ann", 1), Denied("DeadlineExceeded")),
    "never": sent(4, None, "never", Deposit("ann", 2)),
    "no answer": call(4, None, Question(StandingOf("ann"), 2)),
    "read": shown(6, 7, 2, 3, 2, 5),
    "three": sent(8, 9, "three", Withdraw("ann", 3), Accepted(version=3, commit=3, position=4)),
    "late": shown(10, 11, 4, 4, 3, 2),
    "other": shown(10, 11, 4, 4, 1, 0, key="ben"),
    "again": call(12, 13, Again("three", Withdraw("ann", 3)), Repeated(version=3, commit=3, position=4)),
    "again, in vain": call(12, 13, Again("three", Withdraw("ann", 3)), Denied("Overloaded")),
    "again, unanswered": call(12, None, Again("three", Withdraw("ann", 3))),
}


def verdict(history: dict[str, Call], log: Sequence[Commit] = LOG) -> list[Problem]:
    written, problems = read_log(log)
    return problems + check_places(list(history.values()), written)


def changed(name: str, **fields: Any) -> dict[str, Call]:
    """The history with one operation changed."""
    return {**HISTORY, name: msgspec.structs.replace(HISTORY[name], **fields)}


def test_a_history_that_fits_its_log_is_right_and_linearizable() -> None:
    assert verdict(HISTORY) == []
    verdicts = check_each(Account(), HISTORY.values())
    assert {key: type(each) for key, each in verdicts.items()} == {"ann": Linearizable, "ben": Linearizable}


def test_a_log_says_how_every_account_stood_at_every_position() -> None:
    written, _ = read_log(LOG)
    assert (written.commit, written.position) == (3, 4)
    assert [written.standing("ann", position) for position in range(6)] == [
        Standing(0, 0),
        Standing(1, 0),
        Standing(1, 0),
        Standing(2, 5),
        Standing(3, 2),
        Standing(3, 2),
    ]
    assert [written.standing("ben", position) for position in range(4)] == [
        Standing(0, 0),
        Standing(0, 0),
        Standing(1, 0),
        Standing(1, 0),
    ]
    assert written.entries["five"]._asdict() == {"events": [FIVE], "version": 2, "commit": 2, "position": 3}


def test_a_log_without_rows_says_nothing() -> None:
    assert read_log([]) == (Written(), [])


@pytest.mark.parametrize(
    ("log", "kind", "what"),
    [
        (LOG[1:], Kind.BROKEN, "commit 2 at 3 follows commit 0 that ends at 0"),
        (log_of([record("open", OPENED)], [record("open", OPENED)]), Kind.DOUBLED, "open: it is in commit 1 at 1"),
    ],
)
def test_what_is_wrong_with_rows_alone_is_found(log: list[Commit], kind: Kind, what: str) -> None:
    _, problems = read_log(log)
    assert [problem.kind for problem in problems] == [kind]
    assert problems[0].what.startswith(what)


#: A history with one thing wrong, what must be found, and whether a search without the log finds it as well.
WRONG: dict[str, tuple[dict[str, Call], list[Kind], bool]] = {
    "an acknowledged command that is not in the log": (
        {**HISTORY, "lost": sent(5, 6, "lost", Deposit("ann", 7), Accepted(version=4, commit=4, position=5))},
        [Kind.LOST, Kind.ORDER, Kind.ORDER, Kind.ORDER],
        True,
    ),
    "a receipt with another commit": (
        changed("three", output=Accepted(version=3, commit=2, position=4)),
        [Kind.MISPLACED],
        False,
    ),
    "a receipt with another version": (
        changed("three", output=Accepted(version=4, commit=3, position=4)),
        [Kind.MISPLACED],
        True,
    ),
    "a command that was there, and is accepted anew": (
        changed("again", output=Accepted(version=4, commit=4, position=5)),
        [Kind.ANEW],
        True,
    ),
    "a command that was there, and is refused": (
        changed("again", output=Refused("insufficient_funds", Standing(3, 2), position=4)),
        [Kind.UNDONE],
        True,
    ),
    "a command that was there, and gets the place of another one": (
        changed("again", output=Repeated(version=2, commit=2, position=3)),
        [Kind.MISPLACED],
        False,
    ),
    "a command that was there, and gets a version that is not there yet": (
        changed("again", output=Repeated(version=9, commit=3, position=4)),
        [Kind.MISPLACED],
        True,
    ),
    "a command that was there, and was another one": (
        changed("again", asked=Again("three", Withdraw("ann", 2))),
        [Kind.ALTERED],
        False,
    ),
    "a command that is said to have been there, and is not": (
        changed("again", asked=Again("four", Withdraw("ann", 3))),
        [Kind.LOST],
        False,
    ),
    "a command that yielded something else": (
        changed("three", asked=Sent("three", Withdraw("ann", 4))),
        [Kind.ALTERED],
        True,
    ),
    "a command of which nobody heard, that yielded something else": (
        changed("five", asked=Sent("five", Deposit("ann", 6))),
        [Kind.ALTERED],
        True,
    ),
    "a refused command that is in the log": (
        changed("five", returned_at=9.0, output=Refused("insufficient_funds", Standing(1, 0), position=2)),
        [Kind.UNDONE],
        True,
    ),
    "a denied command that is in the log": (
        changed("five", returned_at=9.0, output=Denied("DeadlineExceeded")),
        [Kind.UNDONE],
        True,
    ),
    "a command that nobody sent": (
        {name: each for name, each in HISTORY.items() if name != "five"},
        [Kind.INVENTED],
        True,
    ),
    "an answer that is not what the log adds up to": (
        changed("late", output=Shown(Standing(3, 3), position=4)),
        [Kind.MISTOLD],
        True,
    ),
    "an answer that is right at another position only": (
        changed("read", output=Shown(Standing(2, 5), position=2)),
        [Kind.MISTOLD],
        False,
    ),
    "a refusal on another standing": (
        changed("no funds", output=Refused("insufficient_funds", Standing(1, 1), position=2)),
        [Kind.MISTOLD],
        True,
    ),
    "a refusal that the standing does not justify": (
        changed("no funds", output=Refused("account_exists", Standing(1, 0), position=2)),
        [Kind.MISTOLD],
        True,
    ),
    "a refusal at another position than that of the state which refused": (
        changed("no funds", output=Refused("insufficient_funds", Standing(1, 0), position=2, counted=3)),
        [Kind.ELSEWHERE],
        False,
    ),
    "a refusal from behind the log's end": (
        changed("no funds", output=Refused("insufficient_funds", Standing(1, 0), position=5, counted=2)),
        [Kind.ELSEWHERE, Kind.UNREAL, Kind.ORDER, Kind.ORDER, Kind.ORDER, Kind.ORDER],
        False,
    ),
    "an answer from behind the log's end": (
        changed("late", output=Shown(Standing(3, 2), position=5)),
        [Kind.UNREAL],
        False,
    ),
    "an answer that is older than its token": (
        changed("late", output=Shown(Standing(2, 5), position=3)),
        [Kind.STALE, Kind.ORDER],
        True,
    ),
    "an answer without a token that is older than what had been acknowledged": (
        changed("late", asked=Question(StandingOf("ann"), after=0), output=Shown(Standing(2, 5), position=3)),
        [Kind.ORDER],
        True,
    ),
    "an answer without a token that is older than what was acknowledged of another account": (
        changed("other", asked=Question(StandingOf("ben"), after=0), output=Shown(Standing(1, 0), position=2)),
        [Kind.ORDER],
        False,
    ),
    "an answer older than an answer": (
        {**HISTORY, "older": shown(8, 9, 0, 2, 1, 0)},
        [Kind.ORDER],
        True,
    ),
    "an answer older than a refusal": (
        changed("early", invoked_at=5.5, returned_at=6.0),
        [Kind.ORDER],
        True,
    ),
    "a refusal older than an answer": (
        {**HISTORY, "older": sent(8, 9, "z", Withdraw("ann", 9), Refused("insufficient_funds", Standing(1, 0), 2))},
        [Kind.ORDER],
        True,
    ),
    "a command that stands before one which had returned": (
        changed("open", invoked_at=3.5, returned_at=3.6),
        [Kind.ORDER],
        False,
    ),
    "a command that happened before it was sent": (
        changed("five", invoked_at=7.5),
        [Kind.ORDER],
        True,
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_history_that_does_not_fit_its_log_is_found(name: str) -> None:
    history, kinds, found_without_the_log = WRONG[name]
    assert [problem.kind for problem in verdict(history)] == kinds
    verdicts = check_each(Account(), history.values())
    assert any(isinstance(each, Violation) for each in verdicts.values()) is found_without_the_log


def test_problems_are_told_in_words() -> None:
    (stale, order) = verdict(WRONG["an answer that is older than its token"][0])
    told = "c: StandingOf(account='ann') after 4 → Shown(standing=Standing(version=2, balance=5), position=3)"
    assert str(stale) == f"older than what it was asked after: 10,000.000 … 11,000.000 ms  {told}"
    assert str(order) == (
        f"before something that had returned when it was invoked: 10,000.000 … 11,000.000 ms  {told} is at 3, and "
        "after 8,000.000 … 9,000.000 ms  c: Withdraw(account='ann', amount=3) as three → "
        "Accepted(version=3, commit=3, position=4)"
    )
