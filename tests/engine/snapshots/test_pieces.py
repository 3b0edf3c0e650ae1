"""States as pieces, and back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any
from unittest import mock

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.engine import SnapshotMismatch
from millstream.engine.snapshots import pieces
from millstream.engine.snapshots.pieces import PIECE_BYTES, add_piece, in_pieces, open_piece, pieces_of
from tests.engine.snapshots.states import Everything, Wide, form, states


def restored(state: msgspec.Struct, parts: list[bytes]) -> Any:
    fresh = type(state)()
    for piece in parts:
        add_piece(fresh, piece)
    return fresh


@settings(max_examples=300)
@given(states(), st.sampled_from([1, 20, 100, PIECE_BYTES]))
def test_any_state_comes_back_from_its_pieces_as_what_it_was(state: Everything, piece_bytes: int) -> None:
    with mock.patch.object(pieces, "PIECE_BYTES", piece_bytes):
        made = list(pieces_of(state))
    assert form(restored(state, made)) == form(state)


def test_a_state_as_it_begins_has_one_piece_for_each_field() -> None:
    names = [open_piece(piece)[:2] for piece in pieces_of(Wide())]
    assert names == [("counts", True), ("names", True), ("seen", True)]


def test_what_was_emptied_does_not_come_back_as_its_default() -> None:
    state = Everything(started={}, queue=[])
    fresh = restored(state, list(pieces_of(state)))
    assert (fresh.started, fresh.queue) == ({}, [])


def test_the_entries_of_a_dict_and_a_list_keep_their_order_across_pieces() -> None:
    keys = [f"{number * 7919 % 100_003}" for number in range(20_000)]
    state = Wide(counts={key: index for index, key in enumerate(keys)}, names=keys)
    made = list(pieces_of(state))
    assert [open_piece(piece)[:2] for piece in made] == [
        ("counts", True),
        ("counts", False),
        ("counts", False),
        ("names", True),
        ("names", False),
        ("seen", True),
    ]
    fresh = restored(state, made)
    assert list(fresh.counts) == keys
    assert fresh.names == keys


def sizes_of(state: msgspec.Struct, field: str) -> list[int]:
    return [len(piece) for piece in pieces_of(state) if open_piece(piece)[0] == field]


def test_the_pieces_of_a_large_dict_are_64_kibibytes_each() -> None:
    *full, last = sizes_of(Wide(counts={f"account-{number}": number for number in range(300_000)}), "counts")
    assert len(full) > 70
    assert min(full) > 65_536
    assert max(full) < 65_536 + 100
    assert last < 65_536 + 100


@pytest.mark.parametrize("collection", [list, set])
def test_the_pieces_of_a_large_list_or_set_are_64_kibibytes_each(collection: type) -> None:
    *full, last = [len(piece) for piece in in_pieces("seen", collection(range(70_000, 200_000)))]
    assert len(full) > 8
    assert min(full) > 65_536
    assert max(full) < 65_536 + 100
    assert last < 65_536 + 100


def test_huge_values_are_in_a_piece_each() -> None:
    sizes = sizes_of(Wide(names=["x" * 200_000 for _ in range(50)]), "names")
    assert len(sizes) == 50
    assert max(sizes) < 200_100


def test_huge_values_behind_small_ones_make_no_piece_that_is_many_times_as_large() -> None:
    names = ["x"] * 10_000 + ["y" * 20_000] * 1_000 + ["z"] * 10_000
    assert max(sizes_of(Wide(names=names), "names")) < 65_536 + 64 * 20_000
    assert sorted(sizes_of(Wide(names=names), "names"))[-2] < 65_536 + 3 * 20_000


def test_a_piece_is_made_when_it_is_asked_for() -> None:
    state = Wide(counts={f"account-{number}": 1 for number in range(50_000)})
    left = pieces_of(state)
    next(left)
    state.counts["account-49999"] = 2
    made = [open_piece(piece) for piece in left]
    assert b"account-49999\x02" in bytes([data for name, _, data in made if name == "counts"][-1])


def test_a_state_that_moves_while_it_is_put_into_pieces_is_noticed() -> None:
    state = Wide(counts={f"account-{number}": 1 for number in range(50_000)})
    left = pieces_of(state)
    next(left)
    state.counts["another"] = 1
    with pytest.raises(RuntimeError, match="changed size"):
        list(left)


class Small(msgspec.Struct):
    counts: dict[str, int] = {}


@pytest.mark.parametrize(
    ("piece", "problem"),
    [
        (b"", "it does not begin with the name of a field"),
        (b"counts", "it does not begin with the name of a field"),
        (b"=\x80", "it does not begin with the name of a field"),
        (b"\xff\xfe=\x80", "it does not begin with the name of a field"),
        (b"balances=\x80", "it has no field 'balances' any more"),
        (b"counts=\x90", "field 'counts': Expected `object`, got `array`"),
        (b"counts=\x81\xa1a\xa1b", "field 'counts': Expected `int`, got `str`"),
        (b"counts=\x85", "field 'counts': Input data was truncated"),
    ],
)
def test_a_piece_that_does_not_fit_says_why(piece: bytes, problem: str) -> None:
    with pytest.raises(SnapshotMismatch, match="does not fit") as raised:
        add_piece(Small(), piece)
    assert problem in str(raised.value)


def test_a_piece_that_adds_to_what_is_no_collection_any_more_does_not_fit() -> None:
    class Changed(msgspec.Struct):
        counts: list[int] | int = 3

    with pytest.raises(SnapshotMismatch, match="which holds no such collection"):
        add_piece(Changed(), b"counts+\x91\x01")


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1])
def test_an_int_of_more_than_64_bits_can_not_be_put_into_a_piece(value: int) -> None:
    with pytest.raises(OverflowError):
        list(pieces_of(Wide(counts={"a": value})))


class Bounded(msgspec.Struct):
    names: Annotated[list[str], msgspec.Meta(min_length=3)] = []


def test_a_collection_of_a_least_length_is_one_piece_because_fewer_entries_would_not_fit() -> None:
    state = Bounded(names=["x" * 50_000 for _ in range(10)])
    (piece,) = pieces_of(state)
    assert restored(state, [piece]) == state


def entries(made: Iterator[bytes]) -> list[Any]:
    return [msgspec.msgpack.decode(open_piece(piece)[2]) for piece in made]


def test_entries_are_written_as_messagepack_that_others_can_read() -> None:
    assert entries(in_pieces("counts", {"a": 1, "b": 2})) == [{"a": 1, "b": 2}]
    assert entries(in_pieces("names", [])) == [[]]
    assert entries(in_pieces("names", list(range(40)))) == [list(range(40))]


class Clocks(msgspec.Struct):
    moments: list[datetime] = []
    last: datetime | None = None


EAST = timezone(timedelta(hours=3))


@pytest.mark.parametrize("zone", [UTC, None, EAST])
def test_times_in_utc_are_written_in_some_bytes_and_others_with_their_offset(zone: timezone | None) -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=zone)
    moments, last = pieces_of(Clocks(moments=[noon], last=noon))
    assert open_piece(last)[2] == msgspec.msgpack.encode(noon if zone is UTC else noon.isoformat())
    assert [str(moment) for moment in restored(Clocks(), [moments, last]).moments] == [str(noon)]


def test_a_field_goes_on_in_text_from_the_piece_on_that_holds_another_offset_and_all_come_back() -> None:
    moments = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute) for minute in range(60_000)]
    moments[30_000] = moments[30_000].astimezone(EAST)
    state = Clocks(moments=moments)
    made = list(pieces_of(state))
    assert [b"T" in piece for piece in made[:-1]] == sorted(b"T" in piece for piece in made[:-1])
    assert max(map(len, made)) < 5 * PIECE_BYTES
    assert [str(moment) for moment in restored(Clocks(), made).moments] == [str(moment) for moment in moments]


@pytest.mark.parametrize("collection", [list, set, dict.fromkeys])
def test_collections_of_any_size_are_written_with_the_number_of_their_entries(collection: Any) -> None:
    for size in range(200):
        value = collection(range(size))
        (entry,) = entries(in_pieces("names", value))
        assert type(value)(entry) == value
