"""`TableView`: a view whose state is rows, one for each key, found by key, by equal values, in order, and by words.

Here: the class. Not here: its indexes (`indexes`), the checks of what it says (`plan`), and how a change is taken back
(`undo`).

Invariants: the rows are all of the state, and indexes say what the rows say; a row that was given out never changes; an
event is applied whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, Generic, TypeVar, cast

import msgspec

from millstream.engine.application.methods import place_of
from millstream.engine.errors import DefinitionError, InvalidMessage
from millstream.views.table.declaring import names_of, require_only_rows, row_of
from millstream.views.table.indexes import Indexes
from millstream.views.table.ordered import Entry, Stretch, stretch_of
from millstream.views.table.pieces import pieces_of_rows, rows_of_piece
from millstream.views.table.plan import Plan, plan_of
from millstream.views.table.undo import undone_if_it_raises
from millstream.views.view import View

__all__ = ["Page", "TableView"]

R = TypeVar("R", bound=msgspec.Struct)


#: On a page, by default.
_PAGE_ROWS = 50


class Page(msgspec.Struct, Generic[R], frozen=True):
    """Some rows of an order, and where to go on.

    ``next`` is the cursor of the page that follows, opaque; None where there was no further row.
    """

    rows: tuple[R, ...]
    next: str | None = None


class TableView(View, Generic[R]):
    """The base of views whose state is rows: ``class Seats(TableView[SeatRow])``.

    Rows are frozen msgspec Structs with immutable fields, one for each key. They are given out as they are, never as
    copies. The class says by which fields they are found:

        key: ClassVar = "seat"                              get, put, change, remove
        indexes: ClassVar = ("status", ("show", "row"))     find, count: equal values, by hash
        ordered: ClassVar = ("price", ("show", "price"))    page, between, and find and count by what they begin with
        text: ClassVar = ("title",)                         search

    The last two need the extra ``tables``. A class has no other state: what else is to be kept is a row, or belongs
    into another view. A method that applies an event changes rows with `put`, `change` and `remove`; where it raises,
    what it changed is changed back.

    Raises (when the class is made):
        DefinitionError: as `View`; or a name is none of a field, is named twice, or its values can't be ordered where
            they have to be; rows can change; a field or a method has no place here; the extra is missing.
    """

    #: The field of the rows that tells one from another. Its values are ordered: numbers, texts, times, tuples.
    key: ClassVar[str]
    #: Fields, and tuples of fields, by whose equal values rows are found.
    indexes: ClassVar[Sequence[str | tuple[str, ...]]] = ()
    #: Fields, and tuples of fields, in whose order rows are given.
    ordered: ClassVar[Sequence[str | tuple[str, ...]]] = ()
    #: Fields in whose words rows are searched, all of them together.
    text: ClassVar[Sequence[str]] = ()
    #: How many rows a page, or a search, may ask for; above it is `InvalidMessage`.
    page_rows_max: ClassVar[int] = 1_000
    __plan__: ClassVar[Plan | None] = None
    __row_key__: ClassVar[str]

    _rows: dict[Any, R] = {}
    #: Made with the instance, of what its class says.
    _indexes: Indexes = msgspec.field(default_factory=lambda: cast(Indexes, None))

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        require_only_rows(cls, TableView, _OWN)
        row = row_of(cls, TableView)
        if row is None:
            return
        says = {"key": getattr(cls, "key", None), "indexes": cls.indexes, "ordered": cls.ordered, "text": cls.text}
        cls.__plan__ = plan = plan_of(cls, row, says)
        cls.__row_key__ = plan.key
        cls.__appliers__ = {
            event: method._replace(function=undone_if_it_raises(method.function))
            for event, method in cls.__appliers__.items()
        }

    @classmethod
    def __checked__(cls) -> None:
        """What an `App` sees to: that the class says what its rows are.

        Raises:
            DefinitionError: it does not.
        """
        _require_plan(cls)

    def __post_init__(self) -> None:
        self._indexes = Indexes(_require_plan(type(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), list(self._rows.values()))

    # For methods that apply an event.

    def put(self, row: R) -> None:
        """Keep a row, in place of the one with its key if there is one.

        Raises:
            TypeError: it is of another class than the table's rows, or has a value that is not of its field's type and
                can't be compared or hashed. Nothing is changed then.
            ValueError: a key or an indexed value is NaN. Nothing is changed then.
        """
        key = self._key_of(row)
        self._note_and_write(key, self._rows.get(key), row)

    def change(self, key: object, how: Callable[[R], R], new: R | None = None) -> R:
        """Put what ``how`` makes of a row in its place; returns it.

            self.change(event.seat, lambda row: replace(row, status="held"))

        Args:
            key: of the row.
            how: makes the row that is kept of the one that is there.
            new: what ``how`` is given where there is no such row yet; it has that key.

        Raises:
            LookupError: there is no row with that key, and no ``new`` one.
            ValueError: the row would have another key: `remove` the old one and `put` the new one; or a NaN, as for
                `put`; or ``how`` has changed that row by itself.
            TypeError: as `put`.
        """
        old = self._rows.get(key)
        if old is None and new is None:
            plan = self._indexes.plan
            raise LookupError(f"{plan.view} has no row with {plan.key} {key!r}")
        row = how(cast(R, new if old is None else old))
        if self._rows.get(key) is not old:
            raise ValueError(
                f"what makes the new row of {key!r} has changed the table itself: it is given a row, and returns one"
            )
        same = self._key_of(row)
        if same != key:
            raise ValueError(f"a change keeps the key, and that of the row {key!r} would be another: remove, and put")
        self._note_and_write(same, old, row)
        return row

    def remove(self, key: object) -> R | None:
        """Remove a row; returns it, or None if there was none."""
        old = self._rows.get(key)
        if old is not None:
            self._note_and_write(key, old, None)
        return old

    # For making a table anew.

    def __differing__(self, other: Any) -> Iterator[tuple[Any, R | None, R | None] | None]:
        """What another table of this class has otherwise: a key, the row here, and the row there; None for each row
        that is the same, so that the caller can rest.
        """
        theirs: Mapping[Any, R] = other._rows
        for key, row in self._rows.items():
            there = theirs.get(key)
            yield None if row == there else (key, row, there)
        for key, there in theirs.items():
            yield None if key in self._rows else (key, None, there)

    # For methods that answer.

    def get(self, key: object) -> R | None:
        """The row with a key, or None."""
        return self._rows.get(key)

    def rows(self) -> Iterator[R]:
        """All rows, in the order in which their keys came, or came back when a method that raised had removed them. It
        walks over all of them.
        """
        return iter(self._rows.values())

    def find(self, **equal: object) -> tuple[R, ...]:
        """The rows that have these values, in the order of their keys.

            self.find(status="free")

        Args:
            equal: by field. Together they are the key, what an index is over, or what an ordered one begins with.

        Raises:
            DefinitionError: the rows have no such field, or no index is over these; names what there is.
        """
        if not equal:
            raise DefinitionError("find is given what is equal: rows() is all of them", place_of(type(self)))
        return tuple(map(self._rows.__getitem__, sorted(self._keys(equal))))

    def count(self, **equal: object) -> int:
        """How many rows have these values; all of them, if none is given. It walks over none.

        Raises:
            DefinitionError: as `find`.
        """
        indexes = self._indexes
        plan = indexes.plan
        if not equal:
            return len(self._rows)
        if equal.keys() == {plan.key}:
            return int(equal[plan.key] in self._rows)
        is_ordered, number, fields = plan.finder(equal)
        if is_ordered:
            return indexes.ordered[number].count(_beginning([equal[name] for name in fields]))
        return indexes.hashed[number].count(_value([equal[name] for name in fields]))

    def between(
        self,
        by: str | tuple[str, ...],
        *,
        where: Mapping[str, object] | None = None,
        low: object = None,
        above: object = None,
        high: object = None,
        below: object = None,
        descending: bool = False,
        limit: int | None = None,
    ) -> tuple[R, ...]:
        """Rows in the order of some fields, and of the rest of the index and the key among equals.

            self.between("price", where={"show": "hamlet"}, low=10, below=20)

        Args:
            by: the field that they are in the order of, or a tuple of fields.
            where: what is equal in all of them. An ordered index begins with these fields, and goes on with ``by``.
            low: the least value of ``by``; a tuple of the first values, if ``by`` is a tuple.
            above: a value that they are all above. Of it and ``low`` only one is given.
            high: the greatest value.
            below: a value that they are all below. Of it and ``high`` only one is given.
            descending: from the greatest to the least.
            limit: how many at most; None for all.

        Raises:
            DefinitionError: the rows have no such field, or no ordered index gives that; names what there is.
            InvalidMessage: ``limit`` is below 1.
        """
        index, stretch, _ = self._stretch(by, where, low, above, high, below)
        if limit is not None and limit < 1:
            raise InvalidMessage("limit", f"it is a number of rows, at least 1, and not {limit}")
        entries = islice(self._indexes.ordered[index].within(stretch, descending=descending), limit)
        return tuple(map(self._rows.__getitem__, map(_last, entries)))

    def count_between(
        self,
        by: str | tuple[str, ...],
        *,
        where: Mapping[str, object] | None = None,
        low: object = None,
        above: object = None,
        high: object = None,
        below: object = None,
    ) -> int:
        """How many rows `between` would give. It walks over none.

        Raises:
            DefinitionError: as `between`.
        """
        index, stretch, _ = self._stretch(by, where, low, above, high, below)
        return self._indexes.ordered[index].count(stretch)

    def page(
        self,
        by: str | tuple[str, ...],
        *,
        where: Mapping[str, object] | None = None,
        low: object = None,
        above: object = None,
        high: object = None,
        below: object = None,
        descending: bool = False,
        after: str | None = None,
        limit: int | None = None,
    ) -> Page[R]:
        """The same a page at a time.

        A row that does not change while a caller goes from page to page is on exactly one of them. One whose place in
        the order changes meanwhile may be on two, or on none.

        Args:
            by: as for `between`, and so are the others up to ``descending``.
            where: what is equal in all rows.
            low: the least value.
            above: a value that they are all above.
            high: the greatest value.
            below: a value that they are all below.
            descending: from the greatest to the least.
            after: the cursor of a page, whose arguments were the same but for ``limit``; None for the first page.
            limit: how many rows, up to ``page_rows_max``; 50 by default, or what that allows.

        Raises:
            InvalidMessage: ``after`` is no cursor or of another query; ``limit`` is below 1 or above ``page_rows_max``.
            DefinitionError: as `between`.
        """
        number, stretch, query = self._stretch(by, where, low, above, high, below)
        most = self._most(limit)
        index, cursors = self._indexes.ordered[number], self._indexes.cursors[number]
        query = (*query, descending)
        if after is not None:
            stretch = stretch.after(cursors.entry(query, after), descending=descending)
        entries = list(islice(index.within(stretch, descending=descending), most + 1))
        more = cursors.text(query, entries[most - 1]) if len(entries) > most else None
        return Page(tuple(map(self._rows.__getitem__, map(_last, entries[:most]))), more)

    def search(self, text: str, *, limit: int | None = None) -> tuple[R, ...]:
        """Rows in whose ``text`` fields all words of a text are, of which the last may be the beginning of one.

        ``search("some pre")`` finds "Awesome: some presents". Words are runs of letters and digits; case and accents
        make no difference. Which rows come first is the same for the same rows, and no promise besides.

        Args:
            text: what is searched for. If it has no word, nothing is found.
            limit: how many rows at most, as for `page`.

        Raises:
            DefinitionError: the class names no fields in ``text``.
            InvalidMessage: ``limit`` is not from 1 to ``page_rows_max``.
        """
        most = self._most(limit)
        index = self._indexes.text
        if index is None:
            raise DefinitionError('search needs fields to search in: text: ClassVar = ("…",)', place_of(type(self)))
        return tuple(islice(index.search(text, self._rows.__getitem__), most))

    # For snapshots, which hold the rows and nothing else.

    def snapshot(self) -> Iterator[bytes] | None:
        """The rows in pieces, each made when it is asked for, while nothing else changes the state."""
        plan = self._indexes.plan
        return pieces_of_rows(type(self), plan.row.cls, plan.key, self._rows.values())

    def restore(self, piece: bytes) -> None:
        """Take up the next piece of a snapshot, on a fresh instance; the indexes are made anew from the rows.

        Raises:
            SnapshotMismatch: it does not fit, or its rows had another key.
        """
        plan = self._indexes.plan
        for row in rows_of_piece(type(self), plan.row.cls, plan.key, piece):
            self._write(getattr(row, plan.key), None, row)

    def __drained__(self) -> Iterator[None]:
        """Drop what is not needed any more, some at each step."""
        yield from self._indexes.drained()

    # Inside.

    def _row(self, key: Any) -> R | None:
        return self._rows.get(key)

    def _key_of(self, row: R) -> Any:
        """A row's key, if it is a row."""
        plan = self._indexes.plan
        if type(row) is not plan.row.cls:
            raise TypeError(f"the rows of {plan.view} are {plan.row.cls.__name__}, and this is a {type(row).__name__}")
        return getattr(row, plan.key)

    def _note_and_write(self, key: Any, old: R | None, new: R | None) -> None:
        indexes = self._indexes
        indexes.move(key, old, new)
        if new is None:
            del self._rows[key]
        else:
            self._rows[key] = new
        if indexes.journal is not None:
            indexes.journal.append((key, old))

    def _write(self, key: Any, old: R | None, new: R | None) -> None:
        """The same without a note: a row that comes from a snapshot, or is put back."""
        self._indexes.move(key, old, new)
        if new is not None:
            self._rows[key] = new
        elif old is not None:
            del self._rows[key]

    def _keys(self, equal: Mapping[str, object]) -> Iterable[Any]:
        indexes = self._indexes
        plan = indexes.plan
        if equal.keys() == {plan.key}:
            key = equal[plan.key]
            return (key,) if key in self._rows else ()
        is_ordered, number, fields = plan.finder(equal)
        values = [equal[name] for name in fields]
        if is_ordered:
            return map(_last, indexes.ordered[number].within(_beginning(values)))
        return indexes.hashed[number].keys(_value(values))

    def _stretch(
        self,
        by: str | tuple[str, ...],
        where: Mapping[str, object] | None,
        low: object,
        above: object,
        high: object,
        below: object,
    ) -> tuple[int, Stretch, tuple[Any, ...]]:
        """The ordered index, the stretch of it that is meant, and all that says so."""
        if (low is not None and above is not None) or (high is not None and below is not None):
            raise TypeError("of low and above one is given, and of high and below")
        names, where = (by,) if isinstance(by, str) else by, where or {}
        number, equal = self._indexes.plan.order(names, where)
        prefix = tuple(where[name] for name in equal)
        bounds = [_bound(by, each) for each in (low, above, high, below)]
        return number, stretch_of(prefix, *bounds), (names, equal, prefix, *bounds)

    def _most(self, limit: int | None) -> int:
        """How many rows may come.

        Raises:
            InvalidMessage: more are asked for than may be, or none.
        """
        if limit is None:
            return min(_PAGE_ROWS, self.page_rows_max)
        if not 1 <= limit <= self.page_rows_max:
            problem = f"it is a number of rows, from 1 to page_rows_max={self.page_rows_max:,}, and not {limit:,}"
            raise InvalidMessage("limit", problem)
        return limit


#: What no application's method may be called like.
_OWN = names_of(TableView)


def _last(entry: Entry) -> Any:
    return entry[-1]


def _value(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else tuple(values)


def _beginning(values: list[Any]) -> Stretch:
    return stretch_of(tuple(values))


def _bound(by: str | tuple[str, ...], given: object) -> Entry | None:
    """The first values after those that are equal, from what bounds them."""
    if given is None:
        return None
    if isinstance(by, str):
        return (given,)
    if not isinstance(given, tuple) or len(given) > len(by):
        raise TypeError(f"where by is {by!r}, a bound is a tuple of the first values of these, and not {given!r}")
    return given


def _require_plan(cls: type[TableView[Any]]) -> Plan:
    if cls.__plan__ is None:
        raise DefinitionError(f"{cls.__name__} does not say what its rows are: TableView[…]", place_of(cls))
    return cls.__plan__


def _remade(cls: type[TableView[Any]], rows: list[Any]) -> TableView[Any]:
    table = cls()
    for row in rows:
        table.put(row)
    return table
