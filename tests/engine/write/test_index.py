"""Versions and receipts by themselves: how they are counted and kept, and that a replay and a snapshot give the same."""

from __future__ import annotations

from collections import Counter, deque
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from millstream.bench.proofs.bodies import commands_in
from millstream.engine import Command, CommandIdReused, Limits, Receipt, SnapshotMismatch, VersionConflict
from millstream.engine.application.options import Terms
from millstream.engine.commits.body import body_reader
from millstream.engine.commits.commit import Head, seal
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.commits.record import Record
from millstream.engine.commits.rows import RowBody
from millstream.engine.snapshots.pieces import in_pieces
from millstream.engine.write.batch import Draft, fill
from millstream.engine.write.envelope import Envelope
from millstream.engine.write.index import WriteIndex
from millstream.engine.write.state import WriteState
from tests.shop import Add, Move, Note, Nothing, Take, shop

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def receipt_for(command_id: str, commit: int = 1) -> Receipt:
    return Receipt(commit, commit, 1, command_id, commit)


def index_of(*command_ids: str, receipts_max: int = 3) -> WriteIndex:
    write_index = WriteIndex(receipts_max)
    for number, command_id in enumerate(command_ids, start=1):
        write_index.remember(command_id, f"payload of {command_id}", receipt_for(command_id, number), None)
    return write_index


def ids(write_index: WriteIndex) -> list[str | None]:
    return [receipt.command_id for _, receipt in write_index.receipts]


def restored(write_index: WriteIndex, receipts_max: int) -> WriteIndex:
    other = WriteIndex(receipts_max)
    for piece in list(write_index.snapshot()):
        other.restore(piece)
    return other


# Versions.


@pytest.mark.parametrize(
    ("key", "keys", "events", "version", "versions"),
    [
        ("a", None, 2, 7, {"a": 7, "b": 1}),
        ("c", None, 1, 1, {"a": 5, "b": 1, "c": 1}),
        ("a", None, 0, 5, {"a": 5, "b": 1}),
        ("c", None, 0, 0, {"a": 5, "b": 1}),
        ("a", ["a", "b"], 2, 6, {"a": 6, "b": 2}),
        ("a", ["b", "c"], 2, 5, {"a": 5, "b": 2, "c": 1}),
        ("a", [None, "a"], 2, 6, {"a": 6, "b": 1}),
        (None, ["a", None], 2, None, {"a": 6, "b": 1}),
        (None, None, 3, None, {"a": 5, "b": 1}),
    ],
)
def test_events_count_for_their_own_keys(
    key: str | None, keys: list[str | None] | None, events: int, version: int | None, versions: dict[str, int]
) -> None:
    write_index = WriteIndex(3)
    write_index.versions.update({"a": 5, "b": 1})
    assert write_index.count(key, keys, events) == version
    assert write_index.versions == versions


def test_a_version_is_as_expected_or_the_conflict_names_both() -> None:
    write_index = WriteIndex(3)
    write_index.count("a", None, 2)
    assert write_index.look_back(Terms(expected_version=2), "Add", "a") is None
    assert write_index.look_back(Terms(expected_version=0), "Add", "never seen") is None
    assert write_index.look_back(Terms(), "Add", "a") is None
    for expected in (1, 3):
        with pytest.raises(VersionConflict) as raised:
            write_index.look_back(Terms(expected_version=expected), "Add", "a")
        assert (raised.value.key, raised.value.expected, raised.value.actual) == ("a", expected, 2)


COMMANDS = st.one_of(
    st.builds(Add, st.sampled_from("abc"), st.integers(1, 9)),
    st.builds(Take, st.sampled_from("abc"), st.integers(1, 9)),
    st.builds(Move, st.sampled_from("abc"), st.sampled_from("abc")),
    st.builds(Nothing, st.sampled_from("abc")),
    st.builds(Note, st.just("no key")),
)


@given(st.lists(st.lists(COMMANDS, max_size=6), max_size=6))
def test_versions_are_a_count_over_the_events_in_the_log_as_json(batches: list[list[Command]]) -> None:
    class Ignored:
        def done(self) -> bool:
            return False

        def set_result(self, result: Any, /) -> None: ...

        def set_exception(self, exception: BaseException, /) -> None: ...

    state, replayed, head = WriteState.new(shop, 1_000), WriteIndex(1_000), Head()
    counted: Counter[str] = Counter()
    for number, commands in enumerate(batches):
        draft = Draft(head, NOW)
        queue: deque[Envelope] = deque(
            (Ignored(), command, Terms(f"{number}-{index}", "aa") if index % 2 else None)
            for index, command in enumerate(commands)
        )
        fill(draft, queue, state, Limits(slice_ms_max=60_000))
        commit = seal(head, "", draft.body(shop))
        written = commands_in(commit.body)
        receipts = [outcome for outcome in draft.outcomes if isinstance(outcome, Receipt)]
        wrote = [receipt for receipt in receipts if receipt.events or receipt.command_id]
        assert len(written) == len(wrote)
        for record, receipt in zip(written, wrote, strict=True):
            counted.update(event["item"] for event in record["events"] if "item" in event)
            assert receipt.version == (counted[record["key"]] if "key" in record else None)
        stored = body_reader(shop.stored)(commit.body)
        decoded = DecodedCommit.of(commit, len(stored.events), (), stored)
        replayed.steps(decoded)
        replayed.steps(decoded)  # a commit that is in the index is passed over
        head = decoded.head
    assert state.index.versions == {key: count for key, count in counted.items() if count}
    assert replayed.versions == state.index.versions
    assert replayed.receipts == state.index.receipts


# Receipts.


def test_the_same_command_again_has_the_first_receipt_and_another_one_is_refused() -> None:
    write_index = WriteIndex(3)
    first = Receipt(4, 12, 2, "id-1", 7)
    write_index.remember("id-1", "aa", first, None)
    assert write_index.look_back(Terms("id-1", "aa"), "Add", "a") == Receipt(4, 12, 2, "id-1", 7, repeated=True)
    assert not first.repeated
    assert write_index.look_back(Terms("id-2", "aa"), "Add", "a") is None
    with pytest.raises(CommandIdReused) as raised:
        write_index.look_back(Terms("id-1", "bb"), "Take", "a")
    assert (raised.value.command_id, raised.value.command, raised.value.commit) == ("id-1", "Take", 4)


def test_a_command_that_was_executed_already_is_not_asked_for_its_version() -> None:
    write_index = index_of("id-1")
    again = write_index.look_back(Terms("id-1", "payload of id-1", expected_version=99), "Add", "a")
    assert again == Receipt(1, 1, 1, "id-1", 1, repeated=True)


def test_the_oldest_receipt_is_forgotten_for_the_one_that_is_too_many() -> None:
    write_index = index_of("1", "2", "3")
    assert ids(write_index) == ["1", "2", "3"]
    write_index.remember("4", "", receipt_for("4"), None)
    assert ids(write_index) == ["2", "3", "4"]
    write_index.remember("1", "", receipt_for("1", 5), None)
    assert ids(write_index) == ["3", "4", "1"]


def test_an_id_that_came_again_after_it_was_forgotten_counts_from_then_on() -> None:
    """Read back under a larger limit, its first receipt is still there when the second one comes."""
    write_index = index_of("1", "2", "3", "1", receipts_max=3)
    assert ids(write_index) == ["2", "3", "1"]
    assert write_index.receipts[-1] == ("payload of 1", receipt_for("1", 4))
    write_index.remember("4", "", receipt_for("4"), None)
    assert ids(write_index) == ["3", "1", "4"]


def test_a_replay_enters_what_was_entered_when_it_happened() -> None:
    write_index = WriteIndex(2)
    stored: RowBody[Any] = RowBody(
        [
            Record(events=[1], key="a", id="id-1", payload="aa"),
            Record(events=[1, 2], key="a", keys=["b", None]),
            Record(events=[], key="b", id="id-2", payload="bb"),
            Record(events=[1], id="id-3", payload="cc"),
        ]
    )
    write_index.steps(DecodedCommit(Head(7, 104), 100, (), frozenset(), 1, stored))
    assert write_index.versions == {"a": 1, "b": 1}
    assert write_index.receipts == [("bb", Receipt(7, 103, 0, "id-2", 1)), ("cc", Receipt(7, 104, 1, "id-3"))]


# Snapshots.


@pytest.mark.parametrize("size", [0, 1, 3, 20_000])
def test_a_snapshot_gives_back_what_was_there(size: int) -> None:
    write_index = index_of(*map(str, range(size)), receipts_max=20_000)
    write_index.versions.update({f"key {number}": number for number in range(size)})
    write_index.remember("no key, no events", "", Receipt(9, 9, 0, "no key, no events"), None)
    again = restored(write_index, 20_000)
    assert again.versions == write_index.versions
    assert again.receipts == write_index.receipts
    assert list(again.snapshot()) == list(write_index.snapshot())


class Remembered(NamedTuple):
    command_id: str
    answer: bytes | None


def having(remembered: list[Remembered], receipts_max: int, bytes_max: int) -> WriteIndex:
    write_index = WriteIndex(receipts_max, receipts_bytes_max=bytes_max)
    for number, (command_id, answer) in enumerate(remembered, start=1):
        write_index.remember(command_id, "", receipt_for(command_id, number), None, answer)
    return write_index


def kept_by_rule(remembered: list[Remembered], receipts_max: int, bytes_max: int) -> list[Remembered]:
    """What the rule says is kept: a plain list, oldest first."""
    kept: list[Remembered] = []
    for each in remembered:
        kept = [*(other for other in kept if other.command_id != each.command_id), each]
        while len(kept) > receipts_max or sum(len(other.answer or b"") for other in kept) > bytes_max:
            del kept[0]
    return kept


limits = st.tuples(st.integers(1, 4), st.sampled_from([10, 20, 30]))
remembered_ones = st.builds(Remembered, st.sampled_from("abcde"), st.sampled_from([None, b"1" * 4, b"1" * 9]))


@given(st.lists(remembered_ones, max_size=12), limits, limits)
@example([Remembered("b", b"1" * 4), Remembered("a", b"1" * 9), Remembered("a", None)], (4, 20), (4, 10))
@example([Remembered("a", b"1" * 9), Remembered("b", b"1" * 9)], (4, 10), (4, 20))
def test_a_snapshot_under_other_limits_gives_what_a_replay_gives_or_does_not_fit(
    remembered: list[Remembered], before: tuple[int, int], now: tuple[int, int]
) -> None:
    taken, replayed = having(remembered, *before), having(remembered, *now)
    assert [Remembered(id_, each.answer) for id_, each in taken.kept.items()] == kept_by_rule(remembered, *before)
    opened = WriteIndex(now[0], receipts_bytes_max=now[1])
    try:
        for piece in list(taken.snapshot()):
            opened.restore(piece)
    except SnapshotMismatch:
        assert before != now
        return
    assert list(opened.kept.items()) == list(replayed.kept.items())
    assert [*opened.kept] == list(opened._order)


@pytest.mark.parametrize("bytes_max", [1, 1_000_000])
def test_a_snapshot_from_before_there_were_answers_fits_whatever_bytes_they_may_have(bytes_max: int) -> None:
    pieces = [
        b"".join(in_pieces("window", [3, 1])),
        b"".join(in_pieces("receipts", [["aa", receipt_for("1"), None]])),
    ]
    write_index = WriteIndex(3, receipts_bytes_max=bytes_max)
    for piece in pieces:
        write_index.restore(piece)
    assert write_index.kept["1"].answer is None
    assert write_index.kept["1"].receipt == receipt_for("1")


def test_a_smaller_limit_takes_the_latest_of_a_snapshot() -> None:
    assert ids(restored(index_of("1", "2", "3"), 2)) == ["2", "3"]


def test_a_larger_limit_takes_a_snapshot_that_nothing_was_forgotten_for() -> None:
    assert ids(restored(index_of("1", "2", "3", receipts_max=3), 10)) == ["1", "2", "3"]


@pytest.mark.parametrize("through_a_smaller_one", [False, True])
def test_a_larger_limit_does_not_take_a_snapshot_that_lacks_what_the_log_has(through_a_smaller_one: bool) -> None:
    write_index = index_of("1", "2", "3", "4", receipts_max=3)
    if through_a_smaller_one:
        write_index = restored(index_of("1", "2", "3", "4", receipts_max=4), 3)
    assert ids(restored(write_index, 3)) == ids(write_index) == ["2", "3", "4"]
    assert ids(restored(restored(write_index, 3), 3)) == ["2", "3", "4"]
    with pytest.raises(SnapshotMismatch, match=r"it was taken with receipts_max=3, which is 4 now"):
        restored(write_index, 4)
    with pytest.raises(SnapshotMismatch):
        restored(restored(write_index, 3), 4)


@pytest.mark.parametrize("piece", [b"", b"versions=", b"receipts=\xc1", b"window=\x91\x01", b"another=\x80"])
def test_what_is_no_piece_of_a_ledger_is_refused(piece: bytes) -> None:
    with pytest.raises((SnapshotMismatch, msgspec.DecodeError)):
        WriteIndex(3).restore(piece)
