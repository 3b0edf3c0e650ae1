"""Pages: whatever changes between two of them, a row that does not change is on one exactly once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.engine import InvalidMessage
from millstream.views import Page, TableView
from tests.views.table_rows import SeatRow, Seats

_SHOWS = st.sampled_from(("hamlet", "macbeth"))
_KEYS = st.integers(0, 30).map(lambda n: f"s{n}")
_ROWS = st.builds(SeatRow, _KEYS, _SHOWS, st.integers(0, 5))
#: A row that is put, or a key that is removed.
_CHANGES = st.one_of(_ROWS, _KEYS)


def one_more(table: Seats, changes: list[SeatRow | str], touched: set[str]) -> None:
    for each in changes:
        if isinstance(each, str):
            table.remove(each)
            touched.add(each)
        elif table.get(each.seat) != each:
            table.put(each)
            touched.add(each.seat)


@given(
    rows=st.lists(_ROWS, max_size=40),
    changes=st.lists(st.lists(_CHANGES, max_size=6), max_size=25),
    limit=st.integers(1, 7),
    descending=st.booleans(),
    arguments=st.sampled_from(
        (
            {"by": "price"},
            {"by": ("show", "price")},
            {"by": "price", "where": {"show": "hamlet"}},
            {"by": "price", "low": 1, "below": 4},
            {"by": "price", "where": {"show": "hamlet"}, "above": 0, "high": 3},
            {"by": "seat", "where": {"show": "hamlet", "price": 2}},
        )
    ),
)
def test_a_row_that_does_not_change_between_pages_is_seen_exactly_once(
    rows: list[SeatRow],
    changes: list[list[SeatRow | str]],
    limit: int,
    descending: bool,
    arguments: dict[str, Any],
) -> None:
    table = Seats()
    for row in rows:
        table.put(row)
    asked = dict(arguments)
    by = asked.pop("by")
    before = table.between(by, descending=descending, **asked)
    seen: list[SeatRow] = []
    touched: set[str] = set()
    page: Page[SeatRow] = table.page(by, descending=descending, limit=limit, **asked)
    left = iter(changes)
    while True:
        assert len(page.rows) <= limit
        seen += page.rows
        if page.next is None:
            break
        one_more(table, next(left, []), touched)
        page = table.page(by, descending=descending, limit=limit, after=page.next, **asked)
    still = [row for row in before if row.seat not in touched]
    assert [row for row in seen if row.seat not in touched] == still


def first(table: Seats, **more: Any) -> str:
    cursor = table.page("price", where={"show": "hamlet"}, limit=1, **more).next
    assert cursor is not None
    return cursor


@pytest.fixture
def table() -> Seats:
    made = Seats()
    for number in range(4):
        made.put(SeatRow(f"s{number}", price=number))
        made.put(SeatRow(f"m{number}", show="macbeth", price=number))
    return made


_OTHERS: tuple[tuple[str, Callable[[Seats, str], Page[SeatRow]]], ...] = (
    ("another filter", lambda t, after: t.page("price", where={"show": "macbeth"}, after=after)),
    ("no filter", lambda t, after: t.page("price", after=after)),
    ("another direction", lambda t, after: t.page("price", where={"show": "hamlet"}, descending=True, after=after)),
    ("another bound", lambda t, after: t.page("price", where={"show": "hamlet"}, low=1, after=after)),
    ("another order", lambda t, after: t.page(("show", "price"), after=after)),
    ("the rest of the order", lambda t, after: t.page(("price", "seat"), where={"show": "hamlet"}, after=after)),
)


@pytest.mark.parametrize(("what", "ask"), _OTHERS, ids=[what for what, _ in _OTHERS])
def test_a_cursor_of_another_query_is_refused(
    table: Seats, what: str, ask: Callable[[Seats, str], Page[SeatRow]]
) -> None:
    cursor = first(table)
    with pytest.raises(InvalidMessage, match="it is of another query: order, direction and filter") as refused:
        ask(table, cursor)
    assert cursor in str(refused.value)
    assert "Seats" in str(refused.value)


def test_a_cursor_of_another_view_is_refused(table: Seats) -> None:
    class Others(TableView[SeatRow]):
        key: ClassVar = "seat"
        ordered: ClassVar = (("show", "price"),)

    with pytest.raises(InvalidMessage, match="of Others is not valid: it is of another query"):
        Others().page("price", where={"show": "hamlet"}, after=first(table))


def test_how_many_rows_come_is_no_part_of_the_query(table: Seats) -> None:
    page = table.page("price", where={"show": "hamlet"}, after=first(table), limit=50)
    assert [row.seat for row in page.rows] == ["s1", "s2", "s3"]
    assert page.next is None


def garbled(cursor: str) -> list[str]:
    changed = [
        cursor[:at] + ("A" if cursor[at] != "A" else "B") + cursor[at + 1 :] for at in range(len(cursor) - 1)
    ]  # the last letter has bits that mean nothing
    return [*changed, cursor[:-3], cursor + "AAAA", "", "x", "!!!!", "\ud800", "é", cursor[:5] + "!" + cursor[5:]]


def test_a_garbled_cursor_is_refused(table: Seats) -> None:
    for bad in garbled(first(table)):
        with pytest.raises(InvalidMessage, match="it is none, or was garbled"):
            table.page("price", where={"show": "hamlet"}, after=bad)


def test_a_cursor_that_somebody_made_up_gives_no_row_that_the_query_does_not(table: Seats) -> None:
    (index,) = (each for each in table._indexes.cursors if each._bound[1] == "show")
    for descending, entry in ((False, ("aaa", 0, "")), (True, ("zzz", 0, ""))):
        query = (("price",), ("show",), ("macbeth",), None, None, None, None, descending)
        made_up = index.text(query, entry)
        page = table.page("price", where={"show": "macbeth"}, descending=descending, after=made_up)
        assert {row.show for row in page.rows} == {"macbeth"}
        assert len(page.rows) == 4


def test_a_page_travels_as_json(table: Seats) -> None:
    page = table.page("price", limit=2)
    assert msgspec.json.decode(msgspec.json.encode(page), type=Page[SeatRow]) == page
