"""What is made of each outcome and each error, and what is planned: the parts of the harness that need no server."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
import pytest

from millstream.bench.proofs.histories.accounts import Deposit, Standing, StandingOf
from millstream.bench.proofs.histories.beginning import beginning
from millstream.bench.proofs.histories.plan import Role, Whom, crashes, role_of
from millstream.bench.proofs.histories.record import Record
from millstream.bench.proofs.histories.spec import (
    Accepted,
    Again,
    Came,
    Denied,
    Question,
    Refused,
    Repeated,
    Sent,
    Shown,
)
from millstream.engine import (
    CommitFailed,
    ConnectionLost,
    DeadlineExceeded,
    EngineClosed,
    HandlerFailed,
    NotYetVisible,
    OutcomeUnknown,
    Receipt,
    Rejected,
    WriterUnavailable,
)
from millstream.engine.application.messages import Answered

SENT = Sent("1.0.7", Deposit("ann", 5))
ASKED = Question(StandingOf("ann"), after=3)
RECEIPT = Receipt(commit=4, position=9, events=1, version=2)
DETAILS = {"version": 0, "balance": 0, "events": 12}
REJECTED = Rejected("no_such_account", details=DETAILS, position=12)


def test_an_answer_is_recorded_with_its_times_and_makes_the_next_token() -> None:
    record = Record()
    before = record.now()
    assert record.token == 0
    record.answered("1.0", SENT, before, RECEIPT)
    assert record.token == 9
    record.answered("1.1", ASKED, before, Answered(Standing(2, 5), 8))
    assert record.token == 9
    record.failed("1.0", SENT, before, REJECTED)
    assert record.token == 12
    outputs = [Accepted(2, 4, 9), Shown(Standing(2, 5), 8), Refused("no_such_account", Standing(0, 0), 12, 12)]
    assert [each.output for each in record.history] == outputs
    assert {each.key for each in record.history} == {"ann"}
    times = [each.returned_at for each in record.history if each.returned_at is not None]
    moments = [before, *times, record.now()]
    assert len(moments) == 5
    assert moments == sorted(moments)
    assert (record.errors, record.unexpected, record.repeated) == (Counter(), [], 0)


def test_without_tokens_nothing_known_is_asked_for() -> None:
    record = Record(tokens=False)
    record.answered("1.0", SENT, 1.0, RECEIPT)
    assert (record.position, record.token) == (9, 0)


def test_a_receipt_that_was_given_before_is_counted() -> None:
    record = Record()
    record.answered("1.0", SENT, 1.0, Receipt(commit=4, position=9, events=1, version=2, repeated=True))
    assert record.repeated == 1


def test_a_command_from_before_that_was_there_is_told_from_one_that_is_accepted_anew() -> None:
    record, again = Record(), Again("older.7", Deposit("ann", 5))
    record.answered("1.0", again, 1.0, msgspec.structs.replace(RECEIPT, repeated=True))
    record.answered("1.0", again, 1.0, RECEIPT)
    record.failed("1.0", again, 1.0, EngineClosed("closed"))
    assert [each.output for each in record.history] == [Repeated(2, 4, 9), Accepted(2, 4, 9), Denied("EngineClosed")]
    assert {each.key for each in record.history} == {"ann"}
    assert record.repeated == 0


def test_a_history_begins_with_what_was_before_and_the_first_token_is_of_it() -> None:
    before = beginning(7, ["ann", "ben"]).history
    record = Record(before=before)
    assert (record.history, record.before, record.token) == (before, 200, 200)
    assert max(each.returned_at or 0.0 for each in before) < 0 < record.now()


def test_a_receipt_without_a_version_is_no_receipt_of_this_bank() -> None:
    with pytest.raises(ValueError, match="has no version"):
        Record().answered("1.0", SENT, 1.0, Receipt(commit=4, position=9, events=1))


@pytest.mark.parametrize(
    ("error", "output"),
    [
        (EngineClosed("closed"), Denied("EngineClosed")),
        (CommitFailed(3, "no room"), Denied("CommitFailed")),
        (DeadlineExceeded("Deposit", 0.1, decided=False), Denied("DeadlineExceeded")),
        (DeadlineExceeded("Deposit", 0.1, decided=True), None),
        (ConnectionLost("tcp://here:1", "nobody is there", False), Denied("ConnectionLost")),
        (ConnectionLost("tcp://here:1", "it went away", True), None),
        (WriterUnavailable("it stopped"), None),
        (OutcomeUnknown(3, "asked in vain"), None),
        (asyncio.CancelledError(), None),
    ],
    ids=repr,
)
def test_only_errors_that_promise_that_nothing_happened_are_taken_at_their_word(
    error: BaseException, output: Came | None
) -> None:
    record = Record()
    record.failed("1.0", SENT, 1.0, error)
    assert [each.output for each in record.history] == [output]
    assert (record.history[0].returned_at is None) is (output is None)
    assert record.errors == {type(error).__name__: 1}
    assert (record.unexpected, record.token) == ([], 0)


def test_a_question_without_an_answer_says_nothing_whatever_the_error() -> None:
    record = Record()
    record.failed("1.0", ASKED, 1.0, NotYetVisible("Standings", 2, 3, 1.0))
    record.failed("1.0", ASKED, 1.0, EngineClosed("closed"))
    assert [each.output for each in record.history] == [None, None]


def test_an_error_that_no_crash_explains_is_kept_in_words() -> None:
    record = Record()
    record.failed("1.0", SENT, 1.0, HandlerFailed("Accounts", "Deposit", "KeyError('ann')"))
    assert record.unexpected == [
        "Deposit(account='ann', amount=5) as 1.0.7: HandlerFailed('Accounts', 'Deposit', \"KeyError('ann')\")"
    ]


def test_a_rejection_without_a_position_is_no_token_and_is_kept_in_words() -> None:
    record = Record()
    record.failed("1.0", SENT, 1.0, Rejected("no_such_account", details=DETAILS))
    assert ([each.output for each in record.history], record.token) == ([None], 0)
    assert len(record.unexpected) == 1
    assert "Deposit(account='ann', amount=5) as 1.0.7: Rejected('no_such_account'" in record.unexpected[0]


def test_what_is_to_be_done_at_the_next_answer_is_done_once_and_before_it_counts() -> None:
    record, seen = Record(), list[int]()
    record.at_next_answer(lambda: seen.append(record.position))
    record.failed("1.0", SENT, 1.0, OutcomeUnknown(3, "asked in vain"))
    assert seen == []
    record.answered("1.0", SENT, 1.0, RECEIPT)
    record.answered("1.0", SENT, 1.0, RECEIPT)
    assert seen == [0]


# The plan.


def test_the_same_seed_gives_the_same_plan_and_another_one_another() -> None:
    plan = crashes(3, 40, 10.0, replica=True)
    assert plan == crashes(3, 40, 10.0, replica=True)
    assert plan != crashes(4, 40, 10.0, replica=True)
    assert len(plan) == 40
    assert {each.whom for each in plan} == set(Whom)
    assert {each.at_answer for each in plan} == {True, False}
    assert {each.stopped_ms == 0 for each in plan} == {True, False}
    assert {each.again_after_ms is None for each in plan} == {True, False}
    assert {each.loop for each in plan} == {"asyncio", "uvloop"}
    assert max(each.after_ms for each in plan) < 2 * 10_000 / 41


def test_without_a_replica_only_the_writer_is_killed_and_everybody_talks_to_it() -> None:
    assert {each.whom for each in crashes(3, 40, 10.0, replica=False)} == {Whom.WRITER}
    assert {role_of(client, replica=False) for client in range(9)} == {Role.WRITER}
    assert [role_of(client, replica=True) for client in range(4)] == [*Role, Role.WRITER]
