"""A table: rows by key, by equal values, in order, and by words. Against a plain model: `test_table_model`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar

import msgspec
import pytest
from msgspec.structs import replace

from millstream.engine import DefinitionError, Event, InvalidMessage, Key
from millstream.engine.application.purity import fingerprint
from millstream.engine.errors import SnapshotMismatch
from millstream.engine.loop.releasing import drained
from millstream.views import TableView, applies
from tests.views.table_rows import Placed, SeatRow, Seats, Sold


def seats(*rows: SeatRow) -> Seats:
    table = Seats()
    for row in rows:
        table.put(row)
    return table


def keys(rows: tuple[SeatRow, ...]) -> list[str]:
    return [row.seat for row in rows]


A1, A2, B1 = SeatRow("a1", price=30), SeatRow("a2", price=20), SeatRow("b1", price=10, show="macbeth")


def test_a_row_is_given_out_as_it_is() -> None:
    table = seats(A1, A2)
    assert table.get("a1") is A1
    assert table.find(status="free")[0] is A1
    assert table.page("price").rows[0] is A2
    assert table.between("price")[1] is A1
    assert table.get("nobody") is None


def test_a_row_takes_the_place_of_the_one_with_its_key() -> None:
    table = seats(A1, A2)
    table.put(replace(A1, status="sold", price=5))
    assert (table.count(), table.count(status="free"), table.count(status="sold")) == (2, 1, 1)
    assert keys(table.between("price")) == ["a1", "a2"]


def test_a_change_puts_what_is_made_of_a_row_in_its_place() -> None:
    table = seats(A1)
    assert table.change("a1", lambda row: replace(row, price=1)) == replace(A1, price=1)
    assert table.between("price", high=1) == (replace(A1, price=1),)
    assert table.between("price", low=2) == ()


def test_a_change_of_no_row_or_of_its_key_or_class_is_refused_and_changes_nothing() -> None:
    table = seats(A1)
    with pytest.raises(LookupError, match="Seats has no row with seat 'z9'"):
        table.change("z9", lambda row: row)
    with pytest.raises(ValueError, match="a change keeps the key, and that of the row 'a1'"):
        table.change("a1", lambda row: replace(row, seat="a2"))
    with pytest.raises(TypeError, match="the rows of Seats are SeatRow, and this is a dict"):
        table.change("a1", lambda row: {"seat": "a1"})  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="and this is a Placed"):
        table.put(Placed("a1", "hamlet", 3))  # type: ignore[arg-type]
    assert table == seats(A1)


def test_a_row_that_is_removed_is_in_no_index_any_more() -> None:
    table = seats(A1, A2)
    assert table.remove("a1") is A1
    assert table.remove("a1") is None
    assert table == seats(A2)
    assert (table.count(status="free"), table.count_between("price"), keys(table.find(status="free"))) == (1, 1, ["a2"])


def test_rows_are_found_by_what_is_equal_in_the_order_of_their_keys() -> None:
    table = seats(B1, A2, A1)
    assert keys(table.find(status="free")) == ["a1", "a2", "b1"]
    assert keys(table.find(price=20, status="free")) == ["a2"]
    assert keys(table.find(show="hamlet")) == ["a1", "a2"]
    assert keys(table.find(show="hamlet", price=30)) == ["a1"]
    assert keys(table.find(seat="b1")) == ["b1"]
    assert (table.find(seat="z9"), table.find(status="lost")) == ((), ())
    assert [row.seat for row in table.rows()] == ["b1", "a2", "a1"]


def test_counts_are_those_of_what_is_found() -> None:
    table = seats(B1, A2, A1)
    assert (table.count(), table.count(seat="a1"), table.count(seat="z9")) == (3, 1, 0)
    assert (table.count(status="free"), table.count(status="sold"), table.count(show="hamlet")) == (3, 0, 2)
    assert (table.count(show="hamlet", price=30), table.count(status="free", price=10)) == (1, 1)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({}, [1, 2, 2, 3]),
        ({"low": 2}, [2, 2, 3]),
        ({"above": 2}, [3]),
        ({"high": 2}, [1, 2, 2]),
        ({"below": 2}, [1]),
        ({"low": 2, "high": 2}, [2, 2]),
        ({"above": 1, "below": 3}, [2, 2]),
        ({"low": 3, "high": 1}, []),
        ({"above": 2, "below": 2}, []),
        ({"low": 0, "below": 9}, [1, 2, 2, 3]),
    ],
)
def test_a_range_is_bounded_with_its_bound_or_without(bounds: dict[str, int], expected: list[int]) -> None:
    table = seats(*(SeatRow(f"s{n}", price=price) for n, price in enumerate((3, 2, 1, 2))))
    table.put(SeatRow("other", show="macbeth", price=2))
    where = {"show": "hamlet"}
    found = table.between("price", where=where, **bounds)  # type: ignore[arg-type]
    assert [row.price for row in found] == expected
    assert table.count_between("price", where=where, **bounds) == len(expected)
    down = table.between("price", where=where, descending=True, **bounds)
    assert down == tuple(reversed(found))
    first = table.between("price", where=where, limit=1, **bounds)  # type: ignore[arg-type]
    assert first == found[:1]


def test_a_range_over_several_fields_is_bounded_by_the_first_values_of_them() -> None:
    table = seats(A1, A2, B1)
    both = ("show", "price")
    assert keys(table.between(both)) == ["a2", "a1", "b1"]
    assert keys(table.between(both, low=("hamlet", 25))) == ["a1", "b1"]
    assert keys(table.between(both, high=("hamlet",))) == ["a2", "a1"]
    assert keys(table.between((*both, "seat"), above=("hamlet", 20, "a1"), below=("hamlet", 30, "a1"))) == ["a2"]
    with pytest.raises(TypeError, match=r"a bound is a tuple of the first values of these, and not 'hamlet'"):
        table.between(both, low="hamlet")
    with pytest.raises(TypeError, match="of low and above one is given"):
        table.between("price", low=1, above=1)


@pytest.mark.parametrize(
    ("ask", "problem"),
    [
        (
            lambda t: t.find(stauts="free"),
            "SeatRow has no field 'stauts'; SeatRow has seat, show, price, status, title",
        ),
        (lambda t: t.count(title="x"), "no index finds rows by title: add 'title' to indexes; there are 'status', ("),
        (lambda t: t.find(show="x", status="y"), r"by show and status: add ('show', 'status') to indexes"),
        (lambda t: t.find(), "find is given what is equal: rows() is all of them"),
        (lambda t: t.page("prize"), "SeatRow has no field 'prize'"),
        (
            lambda t: t.page("status"),
            "no ordered index gives rows by status: add 'status' to ordered; there are 'price'",
        ),
        (
            lambda t: t.between("show", where={"price": 3}),
            "by show where price is given: add ('price', 'show') to ordered",
        ),
        (lambda t: t.between(()), "no ordered index gives rows by nothing"),
    ],
)
def test_a_question_that_no_index_answers_is_refused_and_says_which_would(ask: object, problem: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        ask(Seats())  # type: ignore[operator]
    assert problem in str(refused.value)
    assert "tests.views.table_rows.Seats" in str(refused.value)


def test_what_raises_leaves_nothing_of_an_event() -> None:
    table, before = seats(A1, A2, B1), seats(A1, A2, B1)
    applied = Seats.__appliers__[Sold].function
    with pytest.raises(LookupError, match="no row with seat 'z9'"):
        applied(table, Sold(("a1", "b1", "z9")))
    assert table == before
    applied(table, Sold(("a1",)))
    with pytest.raises(LookupError):
        applied(table, Sold(("a1", "z9")))
    assert table == seats(replace(A1, status="sold"), A2, B1)


class Moved(Event):
    seat: Key


class Restless(TableView[SeatRow]):
    key: ClassVar = "seat"
    indexes: ClassVar = ("status",)
    ordered: ClassVar = ("price",)

    @applies
    def moved(self, event: Moved) -> None:
        self.put(SeatRow("new", price=7))
        self.change("new", lambda row: replace(row, price=8))
        self.remove("old")
        self.put(SeatRow("old", price=9, status="sold"))
        self.remove("new")
        self.put(SeatRow("new", status="again"))
        raise ArithmeticError


def test_rows_that_came_went_and_came_again_are_as_before() -> None:
    table, before = Restless(), Restless()
    for each in (table, before):
        each.put(SeatRow("old", price=1))
    with pytest.raises(ArithmeticError):
        Restless.__appliers__[Moved].function(table, Moved("x"))
    assert table == before
    assert table.get("new") is None
    assert table.count_between("price") == 1


class MomentRow(msgspec.Struct, frozen=True):
    key: str
    at: datetime
    share: float = 0.0
    pair: tuple[float, ...] = ()


class Moments(TableView[MomentRow]):
    key: ClassVar = "key"
    indexes: ClassVar = ("share",)
    ordered: ClassVar = ("share", "at", "pair")


def test_a_row_that_an_index_can_not_hold_is_in_none() -> None:
    table, aware = Moments(), datetime(2026, 1, 1, tzinfo=UTC)
    table.put(MomentRow("a", aware))
    with pytest.raises(TypeError, match="offset-naive and offset-aware"):
        table.put(MomentRow("b", datetime(2026, 1, 1), 3.0))  # noqa: DTZ001
    with pytest.raises(TypeError, match="unhashable"):
        table.put(MomentRow("b", aware, []))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="share of row 'b' is NaN"):
        table.put(MomentRow("b", aware, float("nan")))
    with pytest.raises(ValueError, match="pair of row 'a' is NaN"):
        table.change("a", lambda row: replace(row, pair=(1.0, float("nan"))))
    assert (table.count(), table.count(share=3.0), table.count_between("share"), table.count_between("at")) == (
        1,
        0,
        1,
        1,
    )


def test_words_are_found_whole_and_by_how_the_last_begins() -> None:
    table = seats(
        SeatRow("a", title="Some Présents for Hamlet"),
        SeatRow("b", title="some-where: predators!"),
        SeatRow("c", title="Something present"),
        SeatRow("d"),
    )
    assert sorted(keys(table.search("some pre"))) == ["a", "b"]
    assert keys(table.search("PRESENT")) == ["c", "a"]
    assert keys(table.search("hamlet présents")) == ["a"]
    assert keys(table.search("pre", limit=1)) == ["b"]
    assert (table.search(""), table.search(" -!_"), table.search("some pres where")) == ((), (), ())
    table.change("a", lambda row: replace(row, title="Others"))
    table.remove("b")
    assert (keys(table.search("some")), keys(table.search("others"))) == (["c"], ["a"])


def test_a_word_whose_beginning_is_in_a_row_twice_finds_it_once() -> None:
    table = seats(SeatRow("a", title="present presents presence"))
    assert keys(table.search("pres")) == ["a"]


class Plain(TableView[SeatRow]):
    key: ClassVar = "seat"
    page_rows_max: ClassVar = 10
    ordered: ClassVar = ("seat",)


def test_how_many_rows_are_asked_for_is_bounded() -> None:
    table = Plain()
    for limit in (0, -1, 11):
        with pytest.raises(InvalidMessage, match=f"from 1 to page_rows_max=10, and not {limit}"):
            table.page("seat", limit=limit)
        with pytest.raises(InvalidMessage, match="page_rows_max=10"):
            table.search("x", limit=limit)
    with pytest.raises(InvalidMessage, match="at least 1"):
        table.between("seat", limit=0)
    with pytest.raises(DefinitionError, match=r'search needs fields to search in: text: ClassVar = \("…",\)'):
        table.search("x")


def test_a_table_in_the_order_of_its_key_pages_by_it() -> None:
    table = Plain()
    for name in "cab":
        table.put(SeatRow(name))
    page = table.page("seat", limit=2)
    assert keys(page.rows) == ["a", "b"]
    assert keys(table.page("seat", limit=2, after=page.next).rows) == ["c"]
    assert keys(table.between("seat", low="b")) == ["b", "c"]


def test_a_snapshot_has_the_rows_in_pieces_and_the_indexes_are_made_from_them() -> None:
    table = seats(*(SeatRow(f"s{n}", price=n % 7, title=f"word{n % 11}") for n in range(9_000)))
    for n in range(0, 9_000, 3):
        table.change(f"s{n}", lambda row: replace(row, status="sold"))
    pieces = list(table.snapshot() or ())
    assert len(pieces) > 6
    assert max(map(len, pieces)) < 80 * 1024
    restored = Seats()
    for piece in pieces:
        restored.restore(piece)
    assert restored == table
    assert list(restored.rows()) == list(table.rows())
    assert list(restored.snapshot() or ()) == pieces


def test_a_table_without_rows_has_a_snapshot_too() -> None:
    restored = Seats()
    for piece in Seats().snapshot() or ():
        restored.restore(piece)
    assert restored == Seats()


class ByShow(TableView[SeatRow]):
    key: ClassVar = "show"


def test_a_snapshot_of_rows_that_were_kept_by_another_field_does_not_fit() -> None:
    pieces = list(seats(A1).snapshot() or ())
    with pytest.raises(SnapshotMismatch, match="its rows were kept by 'seat', and are by 'show' now"):
        ByShow().restore(pieces[0])


def test_a_row_that_would_come_back_as_something_else_is_not_stored() -> None:
    table = seats(SeatRow("a", status=3))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Seats\.rows holds a value of type int, where str is declared"):
        list(table.snapshot() or ())


def test_a_table_that_nobody_needs_is_let_go_of_in_steps() -> None:
    table = seats(*(SeatRow(f"s{n}", price=n % 7, title="some words") for n in range(5_000)))
    steps = sum(1 for _ in drained(table))
    assert steps > 20
    assert table == Seats()


def test_the_purity_of_answers_can_be_checked() -> None:
    table = seats(A1, A2)
    before = fingerprint(table)
    assert fingerprint(table) == before
    table.find(status="free")
    table.page("price")
    assert fingerprint(table) == before
    table.change("a1", lambda row: replace(row, title="x"))
    assert fingerprint(table) != before
