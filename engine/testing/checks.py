"""What must hold after a scenario, whatever went wrong in it.

Here: checks over values, and two that look at an open engine. Each can be used alone; `check_history` is all of them.
Every one raises `BrokenPromise`, which says what was promised, to whom, and what is there instead.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import anyio
import msgspec

from millstream.engine.application.messages import Receipt
from millstream.engine.commits.body import read_anything
from millstream.engine.commits.chain import Chain
from millstream.engine.commits.commit import Commit
from millstream.engine.engine import Engine
from millstream.engine.errors import CommandIdReused, LogCorrupt, Rejected, VersionConflict
from millstream.engine.snapshots.part import Part
from millstream.engine.stores.memory import MemoryLog, MemoryStore
from millstream.engine.testing.errors import BrokenPromise
from millstream.engine.testing.faulty import FaultyLog
from millstream.engine.testing.history import Call, History
from millstream.engine.write.index import WriteIndex

__all__ = ["Entry", "check_calls", "check_history", "check_log", "check_replay", "require_alike", "settled"]

_LOOK_SECONDS = 0.5
_SETTLED_SECONDS_MAX = 3_600.0
_TOLD_CHARS = 300


class Entry(msgspec.Struct, frozen=True):
    """One command as it stands in the log. ``position`` is that of its last event, or of the last one before it."""

    commit: int
    position: int
    type: str
    command_id: str | None
    events: list[dict[str, Any]]


async def check_history(history: History, engine: Engine) -> None:
    """Check all that is promised about commands, log and state. From here on the history's log has no faults.

    Args:
        history: all commands of the scenario were sent through it, and all its calls are answered or cancelled.
        engine: an open engine on the history's log, whose writer has not stopped.

    Raises:
        BrokenPromise: the log is not whole; an acknowledged command is not in it exactly once, at the place that its
            receipt names; one is in it whose caller was answered that it did not happen; a caller was answered before
            the commit was durable, or refused for a state that was not; or the live state of a model or a view is not
            what a replay gives.
    """
    history.log.heal()
    await settled(engine)
    check_calls(history.calls, check_log(history.log.commits))
    await check_replay(engine, history.log.commits)


def check_log(commits: Sequence[Commit]) -> list[Entry]:
    """Check that commits are whole, numbered without a gap, and chained; returns the commands in them, in order.

    Raises:
        BrokenPromise: they are not.
    """
    chain, entries = Chain("under test"), []
    for commit in commits:
        position = chain.head.position
        try:
            chain.take(commit)
        except LogCorrupt as error:
            raise BrokenPromise(str(error)) from error
        for record in read_anything(commit.body).records():
            position += len(record.events)
            entries.append(Entry(commit.number, position, record.type, record.id, record.events))
    return entries


def check_calls(calls: Sequence[Call], entries: Sequence[Entry]) -> None:
    """Check what callers were answered against the commands in the log.

    Raises:
        BrokenPromise: see `check_history`.
    """
    ends = _Ends(entries)
    for call in calls:
        _check_answer(call)
        _check_refusal(call, ends)
    there: defaultdict[str | None, list[Entry]] = defaultdict(list)
    for entry in entries:
        there[entry.command_id].append(entry)
    sent: defaultdict[str, list[Call]] = defaultdict(list)
    for call in calls:
        sent[call.command_id].append(call)
    for command_id, those in sent.items():
        _check_id(command_id, those, there[command_id])


def _check_answer(call: Call) -> None:
    """That it was answered, and, if it was acknowledged, not before its time and not out of order."""
    name, receipt = call.command_id, call.outcome
    if call.status == "waiting":
        raise BrokenPromise(f"{name} is still waiting: check when every call is answered or cancelled")
    if isinstance(receipt, Receipt) and receipt.commit > call.durable:
        raise BrokenPromise(f"{name} was acknowledged with {receipt} when the log held {call.durable:,} commits")
    if isinstance(receipt, Receipt) and receipt.commit <= call.heard and not receipt.repeated:
        raise BrokenPromise(f"{name} was sent when commit {call.heard:,} was known, and stands before it: {receipt}")


class _Ends:
    """Where each commit ends: the position of its last event."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        ends = {entry.commit: entry.position for entry in entries}
        self._commits, self._positions = list(ends), list(ends.values())

    def at(self, commit: int) -> int:
        """The position after a commit. One that a crash has undone since, or without a command, adds nothing."""
        index = bisect_right(self._commits, commit)
        return self._positions[index - 1] if index else 0


def _check_refusal(call: Call, ends: _Ends) -> None:
    """That a caller refused for a state got its position, which was durable, and not before what was known."""
    name, refusal = call.command_id, call.outcome
    if not isinstance(refusal, Rejected | VersionConflict | CommandIdReused):
        return
    if refusal.position is None:
        raise BrokenPromise(f"{name} was refused without a position: {refusal!r}")
    known, durable = ends.at(call.heard), ends.at(call.durable)
    if not known <= refusal.position <= durable:
        what = f"{name} was refused at position {refusal.position:,}: {refusal!r}"
        raise BrokenPromise(f"{what}; position {known:,} was known when it was sent, and {durable:,} durable then")


def _check_id(command_id: str, calls: Sequence[Call], entries: Sequence[Entry]) -> None:
    """That the log agrees with the answers to all callers that sent a command with this id."""
    if len(entries) > 1:
        raise BrokenPromise(f"{command_id} is in the log {len(entries)} times: {_text_of(entries)}")
    acknowledged = [call for call in calls if isinstance(call.outcome, Receipt)]
    for call in acknowledged:
        if [_place(call)] != [(e.commit, e.position, len(e.events), e.type) for e in entries]:
            raise BrokenPromise(f"{command_id} was acknowledged with {call.outcome}; in the log: {_text_of(entries)}")
    if entries and not acknowledged and not any(call.may_stand for call in calls):
        heard = "; ".join(repr(call.outcome) for call in calls)
        raise BrokenPromise(f"{command_id} was said not to have happened ({heard}); in the log: {_text_of(entries)}")


def _place(call: Call) -> tuple[int, int, int, str] | None:
    receipt = call.outcome
    return (receipt.commit, receipt.position, receipt.events, call.type) if isinstance(receipt, Receipt) else None


def _text_of(entries: Iterable[Entry]) -> str:
    places = (f"{e.type} in commit {e.commit:,}, position {e.position:,}, {len(e.events)} events" for e in entries)
    return ", ".join(places) or "nothing"


# What looks at an engine.


async def settled(engine: Engine) -> None:
    """Wait until nothing is under way: all commands decided and written, the state whole, the views at the head.

    Raises:
        BrokenPromise: that did not come about in an hour; on a store without faults it does. Or the writer has stopped.
    """
    calm, looks = 0, int(_SETTLED_SECONDS_MAX / _LOOK_SECONDS)
    for _ in range(looks):
        restless = _restless(engine)
        calm = 0 if restless else calm + 1
        if calm == 2:  # what had been decided and not yet launched has been launched
            return
        engine.admission.mailbox.wake()  # a writer that could not rebuild its state tries again when there is news
        await anyio.sleep(_LOOK_SECONDS)
    raise BrokenPromise(f"after {_SETTLED_SECONDS_MAX:,.0f} s the engine is not settled: {restless}")


def _restless(engine: Engine) -> str:
    """What is not done yet; nothing if all is."""
    stats = engine.stats()
    if stats.writer.status == "stopped":
        raise BrokenPromise("the writer has stopped: open a new engine on the log, and check that one")
    late = [
        name for name, view in stats.views.items() if view.status != "faulted" and view.position < stats.writer.position
    ]
    if late:
        return f"behind the log: {', '.join(late)}"
    if stats.writer.status == "recovering":
        return "the write models are not rebuilt"
    if isinstance(engine.log, FaultyLog) and not engine.log.is_idle:
        return "a commit is being written"
    return "commands wait" if stats.writer.mailbox_commands or stats.writer.mailbox_entering else ""


async def check_replay(engine: Engine, commits: Sequence[Commit]) -> None:
    """Check that the live state of every model and view is what a fresh engine makes of the log.

    States are compared with ``==``. A difference comes from a method that changes the state and is not marked with
    ``@applies``, or from one that is and depends on something else than the state and the event: a clock, chance, a
    global, an object that is shared.

    Args:
        engine: open and `settled`.
        commits: all that its log holds.

    Raises:
        BrokenPromise: names the model or the view, and the fields that differ.
    """
    store = MemoryStore(list(commits), engine.app.name)
    async with Engine(engine.app, log=MemoryLog(store), limits=engine.limits, snapshots=False, effects=False) as fresh:
        require_alike(engine.parts(), fresh.parts())


def require_alike(live: Iterable[Part], replayed: Iterable[Part]) -> None:
    """Check that two states are equal, part by part.

    Raises:
        BrokenPromise: they are not; as `check_replay`.
    """
    for (here, how), (there, how_there) in zip(_states(live), _states(replayed), strict=True):
        differences = [*_differences(here, there)] if here != there else []
        if how != how_there:
            differences.append(f"it is {how} live, {how_there} replayed")
        if differences:
            name = type(here).__name__
            raise BrokenPromise(f"{name} is not what a replay of the log makes: {'; '.join(differences)}")


class _Receipts(msgspec.Struct):
    """What the write side remembers beside its models."""

    versions: dict[str, int]
    receipts: list[Any]


def _states(parts: Iterable[Part]) -> Iterator[tuple[Any, str]]:
    """The states of all that follows the log, and whether one has stopped."""
    for part in parts:
        state = part.state
        if isinstance(state, WriteIndex):
            state = _Receipts(state.versions, state.receipts)
        fault = part.fault
        yield state, "whole" if fault is None else f"faulted at position {fault[0]:,} by {fault[1]!r}"


def _differences(live: Any, replayed: Any) -> Iterator[str]:
    fields = getattr(live, "__struct_fields__", None)
    if not fields:
        yield f"{_short(live)} live, {_short(replayed)} replayed"
        return
    for name in fields:
        here, there = getattr(live, name), getattr(replayed, name)
        if here != there:
            yield f"{name} is {_short(here)} live, {_short(there)} replayed"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _TOLD_CHARS else f"{text[:_TOLD_CHARS]}…"
