"""What must hold of effects after a crash, between the log, which owes and settles them, and the service.

Here: judgements over values, in words. Not here: how the service keeps its calls (`service`), or when what is looked at
(`check`, `judgement`, `images`).

- What the log owes is settled once, by one commit, which holds what came of it: or it is owed still, or parked.
- Each was performed before it was settled, under its own id, which is made from the digest of the commit that owes it,
  the place of its event in that, and the method's name. No two have one id.
- What was performed is owed by a durable commit. What was settled is not performed any more.
- Those of one account are performed, and settled, in the order of their events; and the next one begins when the one
  before is settled. One that is forgotten would hold up all that follow, or is found when nothing is left to be done.
- Of an older log, a restored backup or what a power failure left, some of that is not to be had: the service has seen
  effects that this log does not know. Their ids are never given again, so nothing that happens in the new history is
  taken for something that happened in the old one. What both logs owe keeps its id, and is performed again under that.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from millstream.bench.proofs.bodies import commands_in, failed_in, owes_in, settled_in
from millstream.bench.proofs.torture.application import SENDING
from millstream.bench.proofs.torture.service import ATTEMPTS_MAX, Call, Fate, fate_of
from millstream.engine.commits.commit import Commit

__all__ = ["Bill", "Owing", "late_calls", "owing_after", "sent_again", "wrong_calls", "wrong_effects"]

_DIGEST_BYTES = 8


class Bill(NamedTuple):
    """An effect of the bank: what it is known by outside, where its event is, and which key that has."""

    id: str
    position: int
    account: str


class Owing(NamedTuple):
    """What a log says of effects, as far as it was read."""

    #: What is owed, by position of the event, in order.
    owed: dict[int, Bill]
    #: Whatever was owed, ever, by id.
    known: dict[str, Bill]
    #: What is not owed any more, by id, and which call of the service the log says that it was, if it says so.
    settled: dict[str, int | None]
    #: What is parked, for good: effects, and what came of some.
    parked: list[str]

    @classmethod
    def nothing(cls) -> Owing:
        """What a new log owes."""
        return cls({}, {}, {}, [])

    def copy(self) -> Owing:
        """The same, to be changed."""
        return Owing(dict(self.owed), dict(self.known), dict(self.settled), list(self.parked))

    @property
    def on_agenda(self) -> int:
        """How many entries an agenda must have for it."""
        return len(self.owed) + len(self.parked)


class _End(NamedTuple):
    """How an effect ended: what the log calls that, after how many attempts, and whether what came of it is parked."""

    how: str
    attempts: int
    is_broken: bool = False


_ENDS: Mapping[Fate, _End] = {
    Fate.DONE: _End("done", 1),
    Fate.LATE: _End("done", 1),
    Fate.RETRIED: _End("done", 2),
    Fate.GIVEN_UP: _End("gave up", ATTEMPTS_MAX),
    Fate.PARKED: _End("parked", ATTEMPTS_MAX),
    Fate.REFUSED: _End("refused", 1),
    Fate.BROKEN: _End("done", 1, is_broken=True),
}


def wrong_effects(owing: Owing, records: Sequence[Mapping[str, Any]], commit: Commit) -> list[str]:
    """What is wrong with what a commit says of effects: of those that it settles, and of those that it owes.

    Args:
        owing: what was owed before; becomes what is owed after the commit.
        records: the commands of the commit.
        commit: as it is stored.
    """
    wrong: list[str] = []
    came_of = _came_of(records)
    accounts: list[str] = []
    for position, end in _ends_in(commit.body, wrong).items():
        bill, came = owing.owed.get(position), came_of.pop(position, [])
        if bill is None:
            wrong.append(f"the effect of event {position} is settled, and was not owed")
            continue
        first = next(each for each in owing.owed.values() if each.account == bill.account)
        if first is not bill:
            wrong.append(f"{bill} is settled before its turn, which is that of {first}")
        if bill.account in accounts:
            wrong.append(f"{bill} is settled in one commit with the one before")
        accounts.append(bill.account)
        wrong += _wrong_end(bill, end, came, owing)
        del owing.owed[position]
    wrong += [f"the effect of event {each} is not settled, and led to {found}" for each, found in came_of.items()]
    return wrong + _wrong_owes(owing, records, commit)


def _came_of(records: Iterable[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    """By position of the event, the commands that came of its effect."""
    found: dict[int, list[Mapping[str, Any]]] = {}
    for record in records:
        if "effect" in record.get("origin", ()):
            found.setdefault(record["origin"]["effect"], []).append(record)
    return found


def _ends_in(body: bytes, wrong: list[str]) -> dict[int, _End]:
    """By position of the event, how its effect ended by this commit."""
    ends: dict[int, _End] = {}
    broken = []
    said = [(each, each["how"]) for each in settled_in(body) if "effect" in each]
    for each in failed_in(body):
        if "what" in each:
            broken.append(each["effect"])
        elif "effect" in each:
            said.append((each, "parked"))
    for each, how in said:
        if each["by"] != SENDING or each["effect"] in ends:
            wrong.append(f"{each} settles what is no effect, or twice")
        ends[each["effect"]] = _End(how, each.get("attempts", 0), each["effect"] in broken)
    alone = {*broken} - {*ends}
    wrong += [f"the effect of event {each} is not struck, and what came of it is parked" for each in alone]
    return ends


def _wrong_end(bill: Bill, end: _End, came: Sequence[Mapping[str, Any]], owing: Owing) -> list[str]:
    """See that an effect went as its fate says, and that this is what came of it; and enter that."""
    fate, call = fate_of(bill.id), None
    right: list[tuple[str, list[dict[str, Any]]]] = []
    if fate is Fate.GIVEN_UP:
        right = [("NoteUnsent", [{"type": "Unsent", "account": bill.account, "attempt": bill.id}])]
    elif fate is Fate.REFUSED:
        right = [("NoteSent", [])]
    elif fate not in (Fate.PARKED, Fate.BROKEN):
        call = next((event.get("call") for record in came for event in record["events"]), 0)
        sent = {"type": "Sent", "account": bill.account, "amount": 1, "attempt": bill.id, "call": call}
        right = [("NoteSent", [sent])]
    owing.settled[bill.id] = call
    if fate in (Fate.PARKED, Fate.BROKEN):
        owing.parked.append(bill.id)
    found = [(record["type"], record["events"]) for record in came]
    if (end, found) == (_ENDS[fate], right):
        return []
    return [f"{bill} ended with {end} and {found}, not with {_ENDS[fate]} and {right}"]


def _wrong_owes(owing: Owing, records: Sequence[Mapping[str, Any]], commit: Commit) -> list[str]:
    """See that the commit owes what it must, and enter that."""
    events = [event for record in records for event in record["events"]]
    billed = [(index, event["account"]) for index, event in enumerate(events) if event["type"] == "Billed"]
    owes, right = owes_in(commit.body), {"Billed": [SENDING]} if billed else {}
    wrong = [] if owes == right else [f"it owes {owes}, not {right}"]
    for index, account in billed if owes == right else ():
        bill = Bill(f"{commit.digest[:_DIGEST_BYTES].hex()}-{index}-{SENDING}", commit.position + index, account)
        if bill.id in owing.known:
            wrong.append(f"{bill} has the id of {owing.known[bill.id]}")
        owing.owed[bill.position] = owing.known[bill.id] = bill
    return wrong


def owing_after(commits: Iterable[Commit], before: Owing) -> Owing:
    """What a log says of effects after these commits, on from what it said before them."""
    owing = before.copy()
    for commit in commits:
        wrong_effects(owing, commands_in(commit.body), commit)
    return owing


def wrong_calls(owing: Owing, calls: Sequence[Call], settled: Iterable[str], first: int = 0) -> list[str]:
    """What is wrong between what a log says, and the calls that the service had.

    Args:
        owing: what the log says.
        calls: all that there were, in order; or all but the ``first``.
        settled: the ids of what was settled meanwhile.
        first: so many calls are not among them.
    """
    wrong: list[str] = []
    made: dict[str, list[int]] = {}
    last: dict[str, Call] = {}
    latest: dict[str, int] = {}
    for which, call in enumerate(calls, first + 1):
        before, bill = last.get(call.id), owing.known.get(call.id)
        last[call.id] = call
        made.setdefault(call.id, []).append(which)
        number = before.number + 1 if before is not None and before.generation == call.generation else 1
        if bill is None:
            wrong.append(f"call {which} is for what no durable commit owes: {call}")
            continue
        if (call.position, call.account) != (bill.position, bill.account):
            wrong.append(f"call {which} is not for {bill}, whose id it has: {call}")
        if call.number != number or number > _ENDS[fate_of(call.id)].attempts:
            wrong.append(f"call {which} is attempt {number} of {_ENDS[fate_of(call.id)].attempts}: {call}")
        if call.position < latest.get(call.account, 0):
            wrong.append(f"call {which} comes after that for event {latest[call.account]}: {call}")
        latest[call.account] = call.position
    for each in settled:
        said = owing.settled[each]
        if each not in made:
            wrong.append(f"{owing.known[each]} is settled, and was never performed")
        elif said is not None and said != made[each][-1]:
            wrong.append(f"{owing.known[each]} is settled by call {said}, and was performed in {made[each]}")
    return wrong


def late_calls(calls: Iterable[Call], settled: Container[str]) -> list[str]:
    """Calls for what was settled before any of them."""
    return [f"that was settled before it was called for: {call}" for call in calls if call.id in settled]


def sent_again(calls: Iterable[Call]) -> int:
    """How many effects the service was called for by more than one process: the log did not know that it had been."""
    processes: dict[str, set[int]] = {}
    for call in calls:
        processes.setdefault(call.id, set()).add(call.generation)
    return sum(len(each) > 1 for each in processes.values())
