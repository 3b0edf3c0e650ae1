"""What the torture says of effects is itself tried: on logs and calls that are right, and wrong in one way each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from millstream.bench.proofs.bodies import commands_in
from millstream.bench.proofs.torture.application import SENDING
from millstream.bench.proofs.torture.effects import (
    Bill,
    Owing,
    late_calls,
    owing_after,
    sent_again,
    wrong_calls,
    wrong_effects,
)
from millstream.bench.proofs.torture.service import Call, Fate, fate_of
from millstream.engine.commits.commit import Commit

AT = "2026-11-28T00:00:00.000000Z"


def commit_of(body: Mapping[str, Any], number: int = 1, position: int = 1, digest: bytes = bytes(32)) -> Commit:
    return Commit(number, position, AT, msgspec.json.encode(body), digest)


def billing(*accounts: str) -> dict[str, Any]:
    """The body of a commit in which each of these is sent a bill."""
    return {
        "commands": len(accounts),
        "type": "Transfer",
        "events": [{"type": "Billed", "account": account, "of": 5} for account in accounts],
        "key": {"Billed": "account"},
        "owes": {"Billed": [SENDING]},
    }


def digest_for(*fates: Fate) -> bytes:
    """A digest of a commit whose effects go so, in order."""
    for number in range(1_000_000):
        digest = number.to_bytes(32)[::-1]
        if all(fate_of(f"{digest[:8].hex()}-{i}-{SENDING}") is fate for i, fate in enumerate(fates)):
            return digest
    raise AssertionError(f"no digest leads to {fates}")


def owed(*fates: Fate, accounts: Sequence[str] = "abcdefg") -> tuple[Owing, list[Bill]]:
    """A log of one commit, which owes effects that go so, at positions 1, 2, 3 …, and what it owes."""
    owing = Owing.nothing()
    commit = commit_of(billing(*accounts[: len(fates)]), digest=digest_for(*fates))
    assert wrong_effects(owing, commands_in(commit.body), commit) == []
    return owing, list(owing.owed.values())


def noted(bill: Bill, place: int = 0) -> dict[str, Any]:
    """A body in which one command came of an effect: that the bill was sent, in the first call."""
    event = {"type": "Sent", "account": bill.account, "amount": 1, "attempt": bill.id, "call": 1}
    origin = {"command": place, "by": SENDING, "effect": bill.position}
    return {"commands": 1, "type": "NoteSent", "events": [event], "key": {"Sent": "account"}, "origins": [origin]}


def struck(bill: Bill, how: str = "done", attempts: int = 1) -> dict[str, Any]:
    return {"how": how, "by": SENDING, "effect": bill.position, "attempts": attempts}


NOTHING = {"commands": 0, "types": [], "events": []}


def ended(bill: Bill) -> dict[str, Any]:
    """The body of the commit by which an effect ends as its fate says."""
    fate = fate_of(bill.id)
    failed = {"error": "ConnectionError", "text": "no answer", "by": SENDING, "effect": bill.position}
    if fate is Fate.PARKED:
        return {**NOTHING, "failed": [{**failed, "attempts": 3}]}
    if fate is Fate.BROKEN:
        return {**NOTHING, "settled": [struck(bill)], "failed": [{**failed, "what": [{"type": "NoteSent"}]}]}
    body = {**noted(bill), "settled": [struck(bill, attempts=2 if fate is Fate.RETRIED else 1)]}
    if fate is Fate.REFUSED:
        refused = [{"command": 0, "code": "unwanted", "message": ""}]
        return {**body, "events": [], "of": [], "settled": [struck(bill, "refused")], "refused": refused}
    if fate is Fate.GIVEN_UP:
        unsent = [{"type": "Unsent", "account": bill.account, "attempt": bill.id}]
        return {**body, "type": "NoteUnsent", "events": unsent, "settled": [struck(bill, "gave up", 3)]}
    return body


def verdict(owing: Owing, *bodies: Mapping[str, Any]) -> list[str]:
    """All that is found wrong in commits that follow."""
    wrong: list[str] = []
    for number, body in enumerate(bodies, 2):
        commit = commit_of(body, number, 100 * number, number.to_bytes(32))
        wrong += wrong_effects(owing, commands_in(commit.body), commit)
    return wrong


# The log.


def test_an_effect_is_known_by_digest_place_and_method_and_owed_by_its_events_commit() -> None:
    body = billing("a", "b")
    body["events"].insert(1, {"type": "Deposited", "account": "a", "amount": 1})
    body["commands"], owing = 3, Owing.nothing()
    commit = commit_of(body, 7, 41, bytes.fromhex("9f0c31d2a4b5e6f7" + 24 * "00"))
    assert wrong_effects(owing, commands_in(commit.body), commit) == []
    assert list(owing.owed.values()) == [
        Bill("9f0c31d2a4b5e6f7-0-Courier.send", 41, "a"),
        Bill("9f0c31d2a4b5e6f7-2-Courier.send", 43, "b"),
    ]
    assert owing.on_agenda == 2


@pytest.mark.parametrize("fate", list(Fate))
def test_an_effect_ends_once_as_its_fate_says(fate: Fate) -> None:
    owing, [bill] = owed(fate)
    assert verdict(owing, ended(bill)) == []
    assert owing.owed == {}
    assert owing.settled == {bill.id: 1 if fate in (Fate.DONE, Fate.LATE, Fate.RETRIED) else None}
    assert owing.on_agenda == (1 if fate in (Fate.PARKED, Fate.BROKEN) else 0)
    assert verdict(owing, ended(bill))[0] == "the effect of event 1 is settled, and was not owed"


def test_what_is_known_is_read_on_and_comes_to_the_same() -> None:
    fates = (Fate.DONE, Fate.PARKED)
    owing, bills = owed(*fates)
    first = commit_of(billing("a", "b"), digest=digest_for(*fates))
    commits = [first, *(commit_of(ended(bill), 2, 3) for bill in bills)]
    for start in range(4):
        assert owing_after(commits[start:], owing_after(commits[:start], Owing.nothing())) == owing_after(
            commits, Owing.nothing()
        )
    assert owing.owed.keys() == {1, 2}  # what it goes on from stays as it was


def test_effects_of_other_accounts_may_end_in_one_commit_and_in_any_order() -> None:
    owing, [first, second] = owed(Fate.DONE, Fate.DONE)
    both = {**NOTHING, "settled": [struck(second), struck(first)], "commands": 2, "types": ["NoteSent", "NoteSent"]}
    both["events"] = noted(second)["events"] + noted(first)["events"]
    both["origins"] = noted(second)["origins"] + noted(first, 1)["origins"]
    assert verdict(owing, both) == []


def of_another(bill: Bill) -> dict[str, Any]:
    body = ended(bill)
    return {**body, "events": [{**body["events"][0], "attempt": "another"}]}


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (lambda bill: {**ended(bill), "settled": []}, "the effect of event 1 is not settled, and led to "),
        (lambda bill: {**NOTHING, "settled": [struck(bill)]}, "ended with _End(how='done', attempts=1, is_broken=False) and []"),
        (lambda bill: {**ended(bill), "settled": [struck(bill, "void")]}, "ended with _End(how='void', attempts=1"),
        (lambda bill: {**ended(bill), "settled": [struck(bill, attempts=2)]}, "ended with _End(how='done', attempts=2"),
        (lambda bill: {**ended(bill), "settled": [struck(bill), struck(bill)]}, "settles what is no effect, or twice"),
        (lambda bill: {**ended(bill), "settled": [{**struck(bill), "by": "Else"}]}, "settles what is no effect, or twice"),
        (lambda bill: {**ended(bill), "type": "NoteUnsent"}, "ended with "),
        (of_another, "'attempt': 'another'"),
        (
            lambda bill: {**NOTHING, "failed": [{"error": "E", "text": "", "effect": 1, "by": SENDING, "what": [{}]}]},
            "the effect of event 1 is not struck, and what came of it is parked",
        ),
    ],
)  # fmt: skip
def test_an_end_that_is_missing_doubled_or_not_its_own_is_found(
    break_it: Callable[[Bill], dict[str, Any]], expected: str
) -> None:
    owing, [bill] = owed(Fate.DONE)
    wrong = verdict(owing, break_it(bill))
    assert any(expected in each for each in wrong), wrong


def test_effects_of_one_account_that_end_out_of_their_turn_or_in_one_commit_are_found() -> None:
    owing, [first, second] = owed(Fate.DONE, Fate.DONE, accounts="aa")
    assert verdict(owing, ended(second)) == [f"{second} is settled before its turn, which is that of {first}"]
    owing, [first, second] = owed(Fate.BROKEN, Fate.BROKEN, accounts="aa")
    what = ended(first)["failed"] + ended(second)["failed"]
    both = {**NOTHING, "settled": [struck(first), struck(second)], "failed": what}
    assert verdict(owing, both) == [f"{second} is settled in one commit with the one before"]


@pytest.mark.parametrize(
    ("owes", "accounts"),
    [(None, "a"), ({"Billed": ["Another"]}, "a"), ({"Billed": [SENDING, SENDING]}, "a"), ({"Billed": [SENDING]}, "")],
)
def test_a_commit_that_does_not_owe_what_its_events_say_is_found(owes: Any, accounts: str) -> None:
    body = billing(*accounts)
    del body["owes"]
    wrong = verdict(Owing.nothing(), body if owes is None else {**body, "owes": owes})
    right = {"Billed": [SENDING]} if accounts else {}
    assert wrong == [f"it owes {owes or {}}, not {right}"]


def test_two_effects_with_one_id_are_found() -> None:
    owing, [bill] = owed(Fate.DONE)
    commit = commit_of(billing("b"), 2, 2, digest_for(Fate.DONE))
    wrong = wrong_effects(owing, commands_in(commit.body), commit)
    assert wrong == [f"{bill._replace(position=2, account='b')} has the id of {bill}"]


# The service.


def call(bill: Bill, number: int = 1, generation: int = 0) -> Call:
    return Call(bill.id, number, bill.position, bill.account, generation)


def test_calls_that_the_log_owes_are_right_also_where_a_kill_repeats_them() -> None:
    owing, [first, second] = owed(Fate.RETRIED, Fate.DONE, accounts="aa")
    calls = [call(first), call(first, 2), call(first, 1, 1), call(first, 2, 1), call(second, 1, 1), call(second, 1, 2)]
    assert wrong_calls(owing, calls, ()) == []
    assert sent_again(calls) == 2
    owing.settled.update({first.id: 4, second.id: 6})
    assert wrong_calls(owing, calls, owing.settled) == []
    assert wrong_calls(owing, calls[4:], [second.id], first=4) == []
    assert late_calls(calls, ()) == []


def test_a_call_for_what_no_durable_commit_owes_is_found() -> None:
    owing, [bill] = owed(Fate.DONE)
    ghost = call(bill._replace(id="ghost"))
    assert wrong_calls(owing, [ghost], ()) == [f"call 1 is for what no durable commit owes: {ghost}"]


@pytest.mark.parametrize("changed", [{"account": "b"}, {"position": 9}])
def test_a_call_under_the_id_of_another_effect_is_found(changed: dict[str, Any]) -> None:
    owing, [bill] = owed(Fate.DONE)
    wrong = wrong_calls(owing, [msgspec.structs.replace(call(bill), **changed)], ())
    assert wrong[0].startswith(f"call 1 is not for {bill}, whose id it has: ")


def test_attempts_that_are_miscounted_or_too_many_are_found() -> None:
    owing, [bill] = owed(Fate.DONE)
    assert wrong_calls(owing, [call(bill, 2)], ())[0].startswith("call 1 is attempt 1 of 1: ")
    assert wrong_calls(owing, [call(bill), call(bill, 2)], ())[0].startswith("call 2 is attempt 2 of 1: ")
    owing, [bill] = owed(Fate.GIVEN_UP)
    assert wrong_calls(owing, [call(bill), call(bill)], ())[0].startswith("call 2 is attempt 2 of 3: ")


def test_calls_for_one_account_out_of_order_are_found_and_those_for_two_have_none() -> None:
    owing, [first, second] = owed(Fate.DONE, Fate.DONE, accounts="aa")
    wrong = wrong_calls(owing, [call(second), call(first)], ())
    assert wrong == [f"call 2 comes after that for event 2: {call(first)}"]
    owing, [first, second] = owed(Fate.DONE, Fate.DONE)
    assert wrong_calls(owing, [call(second), call(first)], ()) == []


def test_what_is_settled_and_was_never_performed_or_by_another_call_is_found() -> None:
    owing, [bill] = owed(Fate.DONE)
    owing.settled[bill.id] = 1
    assert wrong_calls(owing, [], owing.settled) == [f"{bill} is settled, and was never performed"]
    wrong = wrong_calls(owing, [call(bill), call(bill, 1, 1)], owing.settled)
    assert wrong == [f"{bill} is settled by call 1, and was performed in [1, 2]"]


def test_a_call_for_what_is_settled_is_found() -> None:
    _, [bill] = owed(Fate.DONE)
    assert late_calls([call(bill)], [bill.id]) == [f"that was settled before it was called for: {call(bill)}"]
