"""A view's state by itself: what it does about events that it can't apply, and that nothing else is lost by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, ClassVar
from unittest import mock

import msgspec
import pytest

from millstream.engine import About, App, Engine, Event, MemoryLog, Parked, ViewFaulted
from millstream.engine.application.sides import Poison
from millstream.engine.application.validation import encode
from millstream.engine.commits.body import body_reader
from millstream.engine.commits.commit import Commit, Head, moment_of
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.observers import Observer, Observers
from millstream.engine.read import state
from millstream.engine.read.state import ReadState
from millstream.engine.stores.memory import MemoryStore
from millstream.handlers import Retired, applies
from millstream.views import View
from tests.desk import Desk, Passed, Placed, Said, Seen, desk
from tests.support import Row, sealed_rows

pytestmark = pytest.mark.anyio


def decoded_commits(*commits: Sequence[Event]) -> list[DecodedCommit]:
    found, position = [], 0
    for number, events in enumerate(commits, start=1):
        head = Head(number, position + len(events))
        types = frozenset(map(type, events))
        told = {"events": list(events), "commands": len(events), "type": "Do", "key": {"Placed": "item"}}
        read = partial(body_reader(tuple(types)), encode(told))
        found.append(DecodedCommit(head, position, list(events), types, 1, read=read))
        position += len(events)
    return found


def about(position: int, key: str | None) -> About:
    return About(position=position, recorded_at=moment_of(Head()), command="Do", key=key)


def read_state(
    app: App, *commits: Sequence[Event], parked_max: int = 100, observer: Observer | None = None
) -> ReadState:
    read = ReadState(app, app.views[0], parked_max=parked_max, observer=observer or Observers())
    for decoded in decoded_commits(*commits):
        for _ in read.steps(decoded):
            pass
    return read


def noted(app: App, notes: bytes, parked_max: int = 9) -> ReadState:
    """A state that a snapshot with these notes was taken up for."""
    read = ReadState(app, app.views[0], parked_max=parked_max, observer=Observer())
    read.restored(Head(1, 1), notes)
    return read


def seen(read: ReadState) -> list[str]:
    return list(read.state.seen)  # type: ignore[attr-defined]


def parked_in(read: ReadState) -> list[tuple[int, str | None, str]]:
    """Position, key and cause of all that is parked, in the order of the log."""
    everything = [each for waiting in read.left_out.parked.values() for each in waiting]
    assert len(everything) == read.left_out.count
    return sorted((each.position, each.key, each.cause) for each in everything)


A, B, BAD = Placed("a", "1"), Placed("b", "1"), Placed("a", "bad")
CAUSE = 'ValueError("can\'t take bad")'


# The state alone.


def test_a_view_that_stops_applies_nothing_after_the_event_that_it_cannot_apply() -> None:
    read = read_state(desk("stop"), [A], [A, BAD, A], [B])
    assert read.fault is not None
    position, error = read.fault
    assert (position, repr(error)) == (3, CAUSE)
    assert (read.head.number, read.is_sound, seen(read)) == (1, False, ["a 1", "a 1"])


def test_a_view_that_parks_keeps_events_of_the_same_key_and_applies_all_others() -> None:
    read = read_state(desk(), [A, BAD], [Passed("a"), B], [Placed("a", "2"), Placed("b", "bad"), Said("hi")])
    assert seen(read) == ["a 1", "b 1", "hi"]
    assert parked_in(read) == [(2, "a", CAUSE), (5, "a", ""), (6, "b", CAUSE)]
    assert read.left_out.parked["a"] == [
        Parked("Shelves", 2, "a", BAD, CAUSE, 1, about(2, "a")),
        Parked("Shelves", 5, "a", Placed("a", "2"), "", 1, about(5, "a")),
    ]
    assert (read.head.number, read.head.position, read.is_sound, read.is_incomplete) == (3, 7, True, True)


def test_events_without_a_key_are_parked_alone() -> None:
    read = read_state(desk(), [Said("bad"), Said("hi")], [Said("bad"), A])
    assert seen(read) == ["hi", "a 1"]
    assert parked_in(read) == [(1, None, "LookupError('bad')"), (3, None, "LookupError('bad')")]


def test_a_view_that_skips_counts_and_goes_on() -> None:
    read = read_state(desk("skip"), [A, BAD, A], [BAD, Said("bad")])
    assert (seen(read), read.left_out.skipped, read.left_out.parked, read.is_incomplete) == (
        ["a 1", "a 1"],
        3,
        {},
        True,
    )
    assert (read.head.position, read.is_sound) == (5, True)


@pytest.mark.parametrize("policy", ["park", "skip"])
def test_what_is_left_out_is_said_once_each_and_by_the_live_view_alone(policy: Poison, log_lines: list[Any]) -> None:
    commits: list[list[Event]] = [[A, BAD], [Placed("a", "2"), Said("bad")]]
    read_state(desk(policy), *commits)
    line = "event_parked" if policy == "park" else "event_skipped"
    assert [
        (
            each["event"],
            each["log_level"],
            each["view"],
            each["position"],
            each["event_type"],
            each["key"],
            each["error"],
        )
        for each in log_lines
    ] == [
        (line, "error", "Shelves", 2, "Placed", "a", CAUSE),
        (line, "error", "Shelves", 4, "Said", None, "LookupError('bad')"),
    ]
    read_state(desk(policy), *commits, observer=Observer())
    assert len(log_lines) == 2


def test_a_commit_that_was_applied_is_passed_over_and_a_gap_is_refused() -> None:
    read = read_state(desk(), [A, BAD])
    (first, _, third) = decoded_commits([A, BAD], [A], [A])
    assert list(read.steps(first)) == []
    assert (seen(read), read.left_out.count) == (["a 1"], 1)
    with pytest.raises(RuntimeError, match="view Shelves is at commit 1 and was given 3"):
        list(read.steps(third))


@pytest.mark.parametrize("stride", [1, 2, 3, 64])
def test_positions_are_those_in_the_log_wherever_a_long_commit_is_interrupted(stride: int) -> None:
    commit = [A, Placed("b", "bad"), Passed("a"), BAD, Placed("b", "2"), Said("bad"), Placed("c", "1")]
    with mock.patch.object(state, "_STRIDE", stride):
        read = read_state(desk(), [A, A], commit)
    assert seen(read) == ["a 1"] * 3 + ["c 1"]
    assert [position for position, _, _ in parked_in(read)] == [4, 6, 7, 8]


def test_a_state_between_two_steps_is_not_whole() -> None:
    (decoded,) = decoded_commits([A, A, BAD])
    with mock.patch.object(state, "_STRIDE", 1):
        app = desk()
        read = ReadState(app, app.views[0], parked_max=9, observer=Observer())
        steps = read.steps(decoded)
        for _ in range(2):
            next(steps)
            assert (read.is_whole, read.is_sound, read.head.number) == (False, False, 0)
        assert list(steps) == []
    assert (read.is_whole, read.is_sound, read.head.number) == (True, True, 1)


def test_who_is_interrupted_while_applying_has_a_state_that_is_not_to_be_stored() -> None:
    class Interrupting(View):
        @applies
        def placed(self, event: Placed) -> None:
            raise KeyboardInterrupt

    read = ReadState(App(models=[Desk], views=[Interrupting]), Interrupting, parked_max=9, observer=Observer())
    (decoded,) = decoded_commits([A])
    with pytest.raises(KeyboardInterrupt):
        list(read.steps(decoded))
    assert not read.is_sound


# How much may be parked.


@pytest.mark.parametrize("commits", [[[BAD, A, A, B]], [[BAD, A], [A, B]]])
def test_one_event_too_many_faults_the_view_there_and_says_why(commits: list[list[Event]]) -> None:
    assert read_state(desk(), *commits, parked_max=3).fault is None
    read = read_state(desk(), *commits, parked_max=2)
    assert read.fault is not None
    position, error = read.fault
    assert (position, read.left_out.count) == (3, 3)
    assert str(error) == "more than view_parked_max=2 events are parked: raise it, or mend the view"
    assert seen(read) == []
    assert str(ViewFaulted("Shelves", position, error)) == (
        "view Shelves faulted at position 3: OverflowError('more than view_parked_max=2 events are parked: raise it, or "
        "mend the view'); mend the view and open the engine again, which rebuilds it from the log"
    )


def test_an_event_that_cannot_be_applied_counts_too_and_the_first_fault_stays() -> None:
    read = read_state(desk(), [Said("bad"), Said("bad"), BAD, BAD, Placed("a", "2")], parked_max=2)
    assert read.fault is not None
    assert (read.fault[0], read.left_out.count) == (3, 3)


def test_a_snapshot_with_more_than_may_be_parked_faults_the_view() -> None:
    app = desk()
    notes = read_state(app, [BAD, A, A]).notes()
    assert noted(app, notes, 3).fault is None
    read = noted(app, notes, 2)
    assert read.fault is not None
    assert read.fault[0] == 3


# Trying again.


def test_what_is_parked_is_applied_in_the_order_of_its_key() -> None:
    fails = {"bad", "worse"}
    read = read_state(desk(fails=fails), [BAD, Placed("b", "worse"), Placed("a", "2")], [Placed("a", "3"), B, A])
    assert (seen(read), read.left_out.count) == ([], 6)
    fails.clear()
    assert read.replay_parked() == 6
    assert seen(read) == ["a bad", "a 2", "a 3", "a 1", "b worse", "b 1"]
    assert (read.left_out.parked, read.left_out.count, read.is_incomplete, read.is_sound) == ({}, 0, False, True)


def test_what_fails_again_stays_with_its_new_cause_and_so_does_what_waits_behind_it() -> None:
    fails = {"bad", "worse"}
    commits = [[BAD, Placed("a", "2"), Placed("a", "worse"), Placed("a", "3"), Placed("b", "bad")]]
    read = read_state(desk(fails=fails), *commits)
    fails.remove("bad")
    assert read.replay_parked() == 3
    assert seen(read) == ["a bad", "a 2", "b bad"]
    assert parked_in(read) == [(3, "a", 'ValueError("can\'t take worse")'), (4, "a", "")]
    assert read.replay_parked() == 0
    assert parked_in(read) == [(3, "a", 'ValueError("can\'t take worse")'), (4, "a", "")]
    (later,) = decoded_commits([A])
    later = msgspec.structs.replace(later, head=Head(2, 6), start=5)
    list(read.steps(later))
    assert parked_in(read)[2:] == [(6, "a", "")]
    fails.clear()
    assert read.replay_parked() == 3
    assert seen(read)[3:] == ["a worse", "a 3", "a 1"]


def test_parked_events_without_a_key_do_not_wait_for_each_other() -> None:
    fails = {"bad", "worse"}
    read = read_state(desk(fails=fails), [Said("worse"), Said("bad"), Said("worse"), Said("bad")])
    fails.remove("bad")
    assert read.replay_parked() == 2
    assert seen(read) == ["bad", "bad"]
    assert parked_in(read) == [(1, None, "LookupError('worse')"), (3, None, "LookupError('worse')")]


def test_after_what_was_parked_is_applied_its_key_goes_on() -> None:
    fails = {"bad"}
    app = desk(fails=fails)
    read = read_state(app, [BAD])
    fails.clear()
    read.replay_parked()
    for decoded in decoded_commits([BAD], [A])[1:]:
        list(read.steps(decoded))
    assert (seen(read), read.left_out.count) == (["a bad", "a 1"], 0)


# Notes in a snapshot.


def test_what_was_left_out_is_noted_and_taken_up_again() -> None:
    app, version = desk(), desk(version=7)
    read = read_state(version, [BAD, Said("bad"), Placed("a", "2")], [Placed("c", "bad"), Said("bad")])
    again = noted(app, read.notes(), 100)
    assert again.left_out.parked == read.left_out.parked
    assert list(again.left_out.parked) == ["a", None, "c"]
    assert {each.code_version for waiting in again.left_out.parked.values() for each in waiting} == {7}
    assert again.left_out.count == 5
    assert again.notes() == read.notes()


def test_what_was_skipped_is_noted_and_nothing_is_noted_of_a_view_that_is_complete() -> None:
    app = desk("skip")
    read = noted(app, read_state(app, [BAD, BAD]).notes(), 1)
    assert (read.left_out.skipped, read.is_incomplete) == (2, True)
    assert read_state(app, [A]).notes() == b""


@pytest.mark.parametrize(
    "notes",
    [
        b"{",
        b"[]",
        b'[0,[[1,{"type":"Placed","item":"a"},"",1,ABOUT]]]',
        b'[0,[[1,{"type":"Gone","item":"a"},"",1,ABOUT]]]',
        b'[0,[[1,{"type":"Passed","item":3},"",1,ABOUT]]]',
        b'[0,[[1,{"type":"Passed","item":"a"},"",1]]]',
        b'[0,[[1,{"type":"Passed","item":"a"},"",1,{}]]]',
    ],
)
def test_notes_that_cannot_be_read_any_more_are_refused(notes: bytes) -> None:
    app = desk()
    about = b'{"position":1,"recorded_at":"2026-01-01T00:00:00Z","command":"Put"}'
    noted(app, b'[0,[[1,{"type":"Passed","item":"a"},"",1,ABOUT]]]'.replace(b"ABOUT", about), 9)
    with pytest.raises(msgspec.DecodeError):
        noted(app, notes.replace(b"ABOUT", about), 9)


class Unspeakable(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("not even that")


class Talkative(Exception):
    def __repr__(self) -> str:
        return "\ud800" + "x" * 1_000_000


@pytest.mark.parametrize(("error", "cause"), [(Unspeakable(), "Unspeakable"), (Talkative(), "\\ud800" + "x" * 999)])
def test_whatever_an_error_says_of_itself_it_can_be_kept(error: Exception, cause: str) -> None:
    class Odd(View):
        poison: ClassVar[Poison] = "park"

        @applies
        def placed(self, event: Placed) -> None:
            raise error

    app = App(models=[Desk], views=[Odd])
    read = read_state(app, [A])
    assert parked_in(read) == [(1, "a", cause)]
    assert read.replay_parked() == 0
    again = noted(app, read.notes(), 9)
    assert parked_in(again) == [(1, "a", cause)]


# Positions of events that were stored as others once.


class Pair(Retired):
    item: str
    whats: list[str]

    def upcast(self) -> Iterator[Event]:
        for what in self.whats:
            yield Placed(self.item, what)


def stored(*records: bytes) -> list[Commit]:
    commits, head = [], Head()
    for events in records:
        commit = sealed_rows(head, "2026-01-01T00:00:00.000000Z", [Row("Put", "a", events=msgspec.Raw(events))])
        commits.append(commit)
        head = Head(commit.number, commit.position - 1 + events.count(b"type"), commit.recorded_at, commit.digest)
    return commits


OLD_LOG = stored(
    b'[{"type":"Placed","item":"z","what":"1"}]',
    b'[{"type":"Pair","item":"a","whats":["1","bad","2"]},{"type":"Pair","item":"b","whats":[]},'
    b'{"type":"Placed","item":"b","what":"bad"},{"type":"Placed","item":"b","what":"3"}]',
    b'[{"type":"Placed","item":"b","what":"4"},{"type":"Passed","item":"b"},{"type":"Placed","item":"c","what":"bad"}]',
)


async def test_positions_are_those_of_the_stored_events_that_today_s_come_from() -> None:
    async with Engine(desk(retired=[Pair]), log=MemoryLog(MemoryStore(list(OLD_LOG), "desk"))) as engine:
        assert [(parked.position, parked.key, parked.event, parked.cause) for parked in engine.parked()] == [
            (2, "a", BAD, CAUSE),
            (2, "a", Placed("a", "2"), ""),
            (4, "b", Placed("b", "bad"), CAUSE),
            (5, "b", Placed("b", "3"), ""),
            (6, "b", Placed("b", "4"), ""),
            (8, "c", Placed("c", "bad"), CAUSE),
        ]
        assert await engine.ask(Seen(), incomplete=True) == ("z 1", "a 1")


async def test_a_view_that_stops_names_the_stored_event_too() -> None:
    async with Engine(desk("stop", retired=[Pair]), log=MemoryLog(MemoryStore(list(OLD_LOG), "desk"))) as engine:
        with pytest.raises(ViewFaulted, match="view Shelves faulted at position 2: ValueError"):
            await engine.ask(Seen())
