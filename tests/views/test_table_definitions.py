"""What a class of a table may say, and what it hears if it says something else: when it is made, with both names."""

from __future__ import annotations

import enum
import types
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar, Generic, Literal, TypeVar
from uuid import UUID

import msgspec
import pytest
from msgspec import inspect

from millstream.engine import App, DefinitionError, Event, Key, Query
from millstream.engine.snapshots.shape import fingerprint_of
from millstream.views import TableView, answers, applies
from millstream.views.table.rows import order_of
from tests.views.table_rows import Desk, SeatRow, Seats


class Level(enum.IntEnum):
    LOW = 1


class Colour(enum.StrEnum):
    RED = "red"


class Bare(enum.Enum):
    ONE = 1


class Odd(msgspec.Struct, frozen=True):
    key: str
    maybe: int | None = None
    level: Level = Level.LOW
    bare: Bare = Bare.ONE


def view(row: Any = SeatRow, /, **says: Any) -> type[TableView[Any]]:
    """A class, made as the statement would make it."""
    base: Any = TableView[row]
    body = {"__module__": __name__, "key": "seat", **says}
    made: type[TableView[Any]] = types.new_class("Made", (base,), exec_body=lambda space: space.update(body))
    return made


@pytest.mark.parametrize(
    ("says", "problem"),
    [
        ({"key": "saet"}, "SeatRow has no field 'saet'; SeatRow has seat, show, price, status, title"),
        ({"indexes": ("stauts",)}, "SeatRow has no field 'stauts'; SeatRow has seat, show, price, status, title"),
        ({"indexes": (("show", "rwo"),)}, "SeatRow has no field 'rwo'"),
        ({"ordered": ("prize",)}, "SeatRow has no field 'prize'"),
        ({"text": ("titel",)}, "SeatRow has no field 'titel'"),
        ({"key": None}, 'says which field of its rows is the key: key: ClassVar = "…"; SeatRow has seat, show'),
        (
            {"indexes": "status"},
            "indexes is a tuple of names of fields, not 'status'; for one field write (\"status\",)",
        ),
        ({"indexes": frozenset(("status",))}, "indexes is a tuple of names of fields, not frozenset({'status'})"),
        ({"indexes": (3,)}, "indexes names fields of SeatRow, and 3 is no name"),
        ({"indexes": ((),)}, "and () is no name"),
        ({"text": (("title", "show"),)}, "text names fields of SeatRow, and ('title', 'show') is no name"),
        ({"indexes": (("show", "show"),)}, "indexes names a field twice in ('show', 'show')"),
        ({"indexes": (("show", "price"), ("price", "show"))}, "indexes has the same index twice: over price, show"),
        ({"ordered": ("price", "price")}, "ordered has the same index twice: over price"),
        ({"indexes": ("seat",)}, "'seat' is the key, by which rows are found anyway: leave it out of indexes"),
        ({"ordered": ("title",)}, "ordered needs values that can be ordered, and 'title' of SeatRow is str | None"),
        ({"text": ("price",)}, "text is over fields that are str, and 'price' is <class 'int'>"),
        ({"key": "title"}, "key needs values that can be ordered, and 'title' of SeatRow is str | None"),
    ],
)
def test_what_a_class_says_is_looked_at_when_it_is_made(says: Mapping[str, Any], problem: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        view(**says)
    assert problem in str(refused.value)
    assert refused.value.places == (f"{__name__}.Made",)


class Changes(msgspec.Struct):
    seat: str


class Listed(msgspec.Struct, frozen=True):
    seat: str
    tags: list[str] = []


class Deep(msgspec.Struct, frozen=True):
    seat: str
    inner: tuple[Changes, ...] = ()


class Anything(msgspec.Struct, frozen=True):
    seat: str
    more: Any = None


class ByIdentity(msgspec.Struct, frozen=True, eq=False):
    seat: str


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (dict, "the rows of a TableView are of one class, a msgspec.Struct, not of <class 'dict'>"),
        (Changes, "write class Changes(msgspec.Struct, frozen=True)"),
        (
            Listed,
            "field 'tags' of Listed is list[str], which can change, so no index would see it: write tuple[…, ...]",
        ),
        (Deep, "field 'inner' of Deep is tuple["),
        (Anything, "field 'more' of Anything is typing.Any, which can change"),
        (ByIdentity, "rows are compared by what they hold: ByIdentity has eq=False"),
    ],
)
def test_rows_that_can_change_are_refused(row: type, problem: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        view(row)
    assert problem in str(refused.value)


def test_enums_of_texts_and_numbers_are_ordered_and_others_are_not() -> None:
    view(Odd, key="key", ordered=("level",), indexes=("bare", "maybe"))
    for name in ("bare", "maybe"):
        with pytest.raises(DefinitionError, match=f"ordered needs values that can be ordered, and '{name}' of Odd"):
            view(Odd, key="key", ordered=(name,))


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (int, bool, True),
        (float, Decimal, True),
        (int, Level, True),
        (str, Colour, True),
        (str, Literal["a", "b"], True),
        (int, Literal["a", 1], False),
        (int, str, False),
        (date, datetime, False),
        (timedelta, timedelta, True),
        (UUID, str, False),
        (tuple[int, ...], tuple[float, ...], True),
        (tuple[int, str], tuple[bool, Colour], True),
        (tuple[int, str], tuple[str, int], False),
    ],
)
def test_values_are_ordered_among_those_that_python_can_compare_them_with(one: Any, other: Any, together: bool) -> None:
    orders = [order_of(inspect.type_info(each)) for each in (one, other)]
    assert orders[0] is not None
    assert (orders[0] == orders[1]) is together


def test_a_union_is_ordered_where_its_members_are_ordered_together() -> None:
    assert order_of(inspect.type_info(int | float)) == order_of(inspect.type_info(int))
    assert order_of(inspect.type_info(int | str)) is None
    assert order_of(inspect.type_info(int | None)) is None
    assert order_of(inspect.type_info(tuple[int | None, ...])) is None


def test_a_table_without_rows_to_speak_of_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"says what its rows are: class Made\(TableView\[…\]\)"):
        type("Made", (TableView,), {"__module__": __name__, "key": "seat"})


R = TypeVar("R", bound=msgspec.Struct)


class Shared(TableView[R], Generic[R]):
    indexes: ClassVar = ("show",)

    def of_show(self, show: str) -> tuple[R, ...]:
        return self.find(show=show)


class Shows(Shared[SeatRow]):
    key: ClassVar = "seat"


def test_a_base_of_tables_is_one_where_its_rows_are_said() -> None:
    shows = Shows()
    shows.put(SeatRow("a1"))
    assert shows.of_show("hamlet") == (SeatRow("a1"),)
    with pytest.raises(DefinitionError, match="Shared does not say what its rows are"):
        Shared()
    with pytest.raises(DefinitionError, match="Shared does not say what its rows are"):
        App(models=[Desk], views=[Shared])


def test_a_table_has_no_state_beside_its_rows_and_keeps_its_own_methods() -> None:
    with pytest.raises(
        DefinitionError, match=r"the state of a TableView is its rows, .* and 'total' would be beside them"
    ):

        class Total(TableView[SeatRow]):
            key: ClassVar = "seat"
            total: int = 0

    with pytest.raises(DefinitionError, match=r"'key' would be beside them.*or write key: ClassVar"):

        class Keyed(TableView[SeatRow]):
            key: str = "seat"  # type: ignore[misc]

    with pytest.raises(DefinitionError, match="'find' is what a TableView has itself: take another name"):

        class Finds(TableView[SeatRow]):
            key: ClassVar = "seat"

            def find(self, **equal: object) -> tuple[SeatRow, ...]:
                return ()


class Gone(Event):
    seat: Key


class Which(Query[SeatRow | None]):
    seat: str


class ByHash(TableView[SeatRow]):
    key: ClassVar = "seat"
    indexes: ClassVar = ("status",)

    @applies
    def gone(self, event: Gone) -> None:
        self.remove(event.seat)

    @answers
    def which(self, query: Which) -> SeatRow | None:
        return self.get(query.seat)


def test_order_and_text_need_an_extra_and_hash_indexes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.views.table.plan.find_spec", lambda name: None)
    for says, what in (({"ordered": ("price",)}, "ordered"), ({"text": ("title",)}, "text")):
        with pytest.raises(
            DefinitionError, match=rf"{what} needs the extra for tables: pip install 'millstream\[tables\]'"
        ):
            view(**says)
    view(indexes=("status", ("show", "price")))


def test_another_row_makes_snapshots_useless_and_another_index_does_not() -> None:
    more = msgspec.defstruct("SeatRow", [("seat", str), ("more", int, 0)], frozen=True)
    plain, other = view(), view(more)
    assert fingerprint_of(plain) == fingerprint_of(view(indexes=("status",), ordered=("price",)))
    assert fingerprint_of(plain) != fingerprint_of(other)
    assert fingerprint_of(Seats) != fingerprint_of(plain)  # other events
