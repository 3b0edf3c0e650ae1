"""Is a history right by its positions? The stronger check, for which the log itself is read.

`linear` believes no server and searches an order. Here the order is known: each command has its position in the log,
each answer and each refusal says at which position it was true. So there is nothing to search, and all of it can be
held against the log, for all accounts together:

- The log has every command that was acknowledged, once, where the receipt said and with its events, none that was
  refused, and none that was not sent.
- A command from before the history that is sent again gets the receipt of the place where the log has it.
- What an answer or a refusal says is what the log adds up to at its position; a refusal's is that of the very state
  that refused.
- An answer is not older than the position that it was asked after.
- Positions respect real time: whatever is invoked after something has returned stands behind it, a command strictly.

A server that keeps all this is linearizable, and the accounts together are, not only each alone: the positions are the
order that `linear` would search for.

Here: pure functions over values. Not here: how rows are read.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import accumulate
from typing import Any, NamedTuple, TypeAlias

import msgspec

from millstream.bench.proofs import problems
from millstream.bench.proofs.bodies import commands_in
from millstream.bench.proofs.histories.accounts import Change, Deposit, Open, Standing, Withdraw
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
from millstream.engine.commits.commit import Commit

__all__ = ["Entry", "Kind", "Problem", "Written", "check_places", "read_log"]


class Kind(StrEnum):
    """What can be wrong."""

    BROKEN = "the log's numbers are not without gaps"
    DOUBLED = "in the log twice"
    INVENTED = "in the log, and it was not sent"
    LOST = "acknowledged, and not in the log"
    MISPLACED = "in the log elsewhere than the receipt said"
    ALTERED = "in the log with other events than its command yields"
    ANEW = "in the log since before, and answered as if it were new"
    UNDONE = "refused for certain, and in the log"
    ELSEWHERE = "refused at another position than that of the state which refused"
    MISTOLD = "not what the log adds up to at its position"
    UNREAL = "its position is not in the log"
    STALE = "older than what it was asked after"
    ORDER = "before something that had returned when it was invoked"


Problem: TypeAlias = problems.Problem[Kind]


class Entry(NamedTuple):
    """A command in the log: its events as JSON has them, where they end, and the account's version then."""

    events: Sequence[Mapping[str, Any]]
    version: int
    commit: int
    position: int


class Written(msgspec.Struct):
    """What a log says by itself: its commands by their names, and how every account stood at every position."""

    entries: dict[str, Entry] = {}
    commit: int = 0
    position: int = 0
    #: For each account, at which positions it changed, and how it stood then.
    changes: dict[str, list[int]] = {}
    standings: dict[str, list[Standing]] = {}

    def standing(self, account: str, position: int) -> Standing:
        """How an account stood when the log ended at this position."""
        index = bisect_right(self.changes.get(account, ()), position)
        return self.standings[account][index - 1] if index else Standing()

    def add(self, event: Mapping[str, Any]) -> Standing:
        """One event more. Returns how its account stands after it."""
        self.position += 1
        account, sign = event["account"], {"Opened": 0, "Deposited": 1, "Withdrawn": -1}[event["type"]]
        before = self.standing(account, self.position)
        after = Standing(before.version + 1, before.balance + sign * event.get("amount", 0))
        self.changes.setdefault(account, []).append(self.position)
        self.standings.setdefault(account, []).append(after)
        return after


def read_log(rows: Iterable[Commit]) -> tuple[Written, list[Problem]]:
    """Read a log's rows, and find what can be wrong with these alone. Nothing behind a gap is read."""
    written, problems = Written(), list[Problem]()
    for row in rows:
        if (row.number, row.position) != (written.commit + 1, written.position + 1):
            what = (
                f"commit {row.number} at {row.position} follows commit {written.commit} that ends at {written.position}"
            )
            return written, [*problems, Problem(Kind.BROKEN, what)]
        written.commit = row.number
        for record in commands_in(row.body):
            version = 0
            for event in record["events"]:
                version = written.add(event).version
            name = str(record.get("correlation"))
            entry = Entry(record["events"], version, row.number, written.position)
            if name in written.entries:
                problems.append(Problem(Kind.DOUBLED, f"{name}: {_place(written.entries[name])} and {_place(entry)}"))
            written.entries.setdefault(name, entry)
    return written, problems


def check_places(history: Sequence[Call], written: Written) -> list[Problem]:
    """Hold a history against the log that it left.

    Args:
        history: all that was asked of this log, ever.
        written: what it says.
    """
    sent = {each.asked.name for each in history if isinstance(each.asked, Sent)}
    invented = [
        Problem(Kind.INVENTED, f"{name}: {_place(entry)}")
        for name, entry in written.entries.items()
        if name not in sent
    ]
    single = [problem for each in history for problem in _wrong_alone(each, written)]
    return [*invented, *single, *_wrong_order(history, written)]


def _wrong_alone(call: Call, written: Written) -> list[Problem]:
    """What is wrong with one operation, whatever the others are."""
    if isinstance(call.asked, Question):
        if not isinstance(call.output, Shown):
            return []
        stale = [Problem(Kind.STALE, call.line())] if call.output.position < call.asked.after else []
        return [*stale, *_mistold(call, call.output, written)]
    entry = written.entries.get(call.asked.name)
    match call.output:
        case Accepted() if isinstance(call.asked, Again) and entry is not None:
            return [Problem(Kind.ANEW, f"{call.line()}: {_place(entry)}")]
        case Denied() if isinstance(call.asked, Again):
            return []
        case Accepted() | Repeated():
            return _wrongly_accepted(call, call.asked, call.output, entry)
        case Refused() | Denied() if entry is not None:
            return [Problem(Kind.UNDONE, f"{call.line()}: {_place(entry)}")]
        case Refused():
            return [*_elsewhere(call, call.output), *_mistold(call, call.output, written)]
        case None if entry is not None:
            return _altered(call, call.asked, entry)
    return []


def _wrongly_accepted(
    call: Call, asked: Sent | Again, output: Accepted | Repeated, entry: Entry | None
) -> list[Problem]:
    if entry is None:
        return [Problem(Kind.LOST, call.line())]
    if (output.version, output.commit, output.position) != (entry.version, entry.commit, entry.position):
        return [Problem(Kind.MISPLACED, f"{call.line()}: {_place(entry)}")]
    return _altered(call, asked, entry)


def _altered(call: Call, asked: Sent | Again, entry: Entry) -> list[Problem]:
    right = [_yielded(asked.command)]
    return [] if entry.events == right else [Problem(Kind.ALTERED, f"{call.line()}: {entry.events}, not {right}")]


def _elsewhere(call: Call, output: Refused) -> list[Problem]:
    is_there = output.counted in (None, output.position)
    return [] if is_there else [Problem(Kind.ELSEWHERE, call.line())]


def _mistold(call: Call, output: Refused | Shown, written: Written) -> list[Problem]:
    if output.position > written.position:
        return [Problem(Kind.UNREAL, f"{call.line()}: the log ends at {written.position}")]
    standing = written.standing(call.key, output.position)
    if Account().apply(standing, call.asked, output) is not None:
        return []
    return [Problem(Kind.MISTOLD, f"{call.line()}: {standing}")]


def _wrong_order(history: Sequence[Call], written: Written) -> list[Problem]:
    """Operations that stand before something that had returned when they were invoked."""
    positions = [_position(call, written) for call in history]
    returned = sorted(
        (call.returned_at, position, index)
        for index, (call, position) in enumerate(zip(history, positions, strict=True))
        if position is not None and call.returned_at is not None
    )
    times = [at for at, _, _ in returned]
    furthest = list(accumulate(((position, index) for _, position, index in returned), max))
    problems: list[Problem] = []
    for call, position in zip(history, positions, strict=True):
        before = bisect_left(times, call.invoked_at)
        if position is None or not before:
            continue
        floor, first = furthest[before - 1]
        wrote = isinstance(call.asked, Sent) and not isinstance(call.output, Refused)
        if position < floor + wrote:
            problems.append(Problem(Kind.ORDER, f"{call.line()} is at {position}, and after {history[first].line()}"))
    return problems


def _position(call: Call, written: Written) -> int | None:
    """The position at which an operation stands; None if it has none, or is not there, or was before the history."""
    if isinstance(call.asked, Again):
        return None
    if isinstance(call.output, Accepted | Refused | Shown):
        return call.output.position
    if isinstance(call.asked, Sent) and call.asked.name in written.entries:
        return written.entries[call.asked.name].position
    return None


def _yielded(command: Change) -> dict[str, Any]:
    """The event that a command leaves in the log if it is accepted, as JSON has it."""
    match command:
        case Open(account):
            return {"type": "Opened", "account": account}
        case Deposit(account, amount):
            return {"type": "Deposited", "account": account, "amount": amount}
        case Withdraw(account, amount):
            return {"type": "Withdrawn", "account": account, "amount": amount}


def _place(entry: Entry) -> str:
    return f"it is in commit {entry.commit} at {entry.position}, with version {entry.version}"
