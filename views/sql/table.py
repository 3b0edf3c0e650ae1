"""`SqlTable`: a view whose state is rows of one class, as those of a `TableView`, in a database.

Here: the class. Not here: its columns (`columns`, `shape`), what an event does (`row_steps`), and how a question
becomes a statement (`selecting`).

One who knows one of both knows the other: the same class of rows, the same names, the same answers. Where they differ
it is because rows are elsewhere: what changes them is yielded, and is done with its page.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, ClassVar, Generic, Self, TypeVar

import msgspec
from sqlalchemy import Connection, MetaData, Select, Table

from millstream.engine.application.methods import place_of
from millstream.engine.errors import DefinitionError, InvalidMessage
from millstream.engine.snapshots.shape import type_shape
from millstream.views.sql.batches import Statement
from millstream.views.sql.row_steps import RowStep, change
from millstream.views.sql.selecting import counted, equal_to, found, searched, stretch_of
from millstream.views.sql.shape import Shape, shape_of
from millstream.views.sql.view import SqlView
from millstream.views.table.cursor import Cursors
from millstream.views.table.declaring import names_of, require_only_rows, row_of
from millstream.views.table.plan import plan_of
from millstream.views.table.view import Page

__all__ = ["SqlTable"]

R = TypeVar("R", bound=msgspec.Struct)

#: On a page, by default.
_PAGE_ROWS = 50
#: Rows that are fetched at once where all of them are walked over.
_ROWS_AT_ONCE = 1_000


class SqlTable(SqlView, Generic[R]):
    """The base of views in SQL whose state is rows: ``class Seats(SqlTable[SeatRow])``.

    It is a `TableView` in a database, with the same ``key``, ``indexes``, ``ordered`` and ``text``; and a `SqlView`,
    with its ``database``. A method that applies an event **yields** what `put`, `change` and `remove` make. A method
    that answers asks as that of a `TableView` does, and may take a `sqlalchemy.Connection` besides, for statements of
    its own on ``table``. The columns follow from the fields of the rows; with other fields the table is made anew,
    beside the old one.

        key: ClassVar = "seat"
        ordered: ClassVar = (("show", "price"),)

        @applies
        def held(self, event: Held) -> Iterator[Statement]:
            yield self.change(event.seat, lambda row: replace(row, status="held"))

        @answers
        def free(self, query: Free) -> tuple[SeatRow, ...]:
            return self.find(status="free")

    Raises (when the class is made):
        DefinitionError: as `TableView` and `SqlView`; or a key or an indexed field is a `Decimal`, a tuple, a Struct,
            or a union of several types, which a database finds otherwise than Python does.
    """

    #: The field of the rows that tells one from another.
    key: ClassVar[str]
    #: Fields, and tuples of fields, by whose equal values rows are found.
    indexes: ClassVar[Sequence[str | tuple[str, ...]]] = ()
    #: Fields, and tuples of fields, in whose order rows are given.
    ordered: ClassVar[Sequence[str | tuple[str, ...]]] = ()
    #: Fields in whose words rows are searched, all of them together.
    text: ClassVar[Sequence[str]] = ()
    #: How many rows a page, or a search, may ask for; above it is `InvalidMessage`.
    page_rows_max: ClassVar[int] = 1_000
    #: Made with the class: what ``table`` is in. A class that gives its own may have more tables in it.
    metadata: ClassVar[MetaData] = MetaData()
    #: The table, for statements of one's own. It is called as the class, ``free_seats`` for ``FreeSeats``, and has the
    #: fields of the rows as columns.
    table: ClassVar[Table]

    __needs_db__: ClassVar[bool] = False
    __shape__: ClassVar[Shape | None] = None
    __row_key__: ClassVar[str]

    def __init__(self) -> None:
        self._db: Connection | None = None
        self._made = 0

    def __init_subclass__(cls) -> None:
        require_only_rows(cls, SqlTable, _OWN)
        row = row_of(cls, SqlTable)
        if row is not None:
            says = {"key": getattr(cls, "key", None), "indexes": cls.indexes, "ordered": cls.ordered, "text": cls.text}
            plan = plan_of(cls, row, says, kind="SqlTable", in_memory=False)
            if "metadata" not in vars(cls):
                cls.metadata = MetaData()
            cls.__shape__ = shape = shape_of(plan, cls.metadata)
            cls.table, cls.__row_key__ = shape.table, plan.key
        super().__init_subclass__()
        cls.__appliers__ = {
            event: method._replace(function=_all_yielded(method.function)) for event, method in cls.__appliers__.items()
        }

    @classmethod
    def __checked__(cls) -> None:
        """What an `App` sees to: that the class says what its rows are.

        Raises:
            DefinitionError: it does not.
        """
        _shape_of(cls)

    @classmethod
    def __told__(cls) -> str:
        plan = _shape_of(cls).plan
        return repr((type_shape(plan.row.cls), plan.text))

    def __asked__(self, connection: Connection) -> Self:
        asked = type(self)()
        asked._db = connection
        return asked

    # For methods that apply an event: each of them is yielded.

    def put(self, row: R) -> RowStep:
        """Keep a row, in place of the one with its key if there is one.

        Raises:
            TypeError: it is of another class than the table's rows; or a time has no zone, or one and should not.
            ValueError: a number is NaN.
        """
        shape = _shape_of(type(self))
        self._made += 1
        return RowStep(shape, shape.require_row(row), row)

    def change(self, key: object, how: Callable[[R], R], new: R | None = None) -> RowStep:
        """Put what ``how`` makes of a row in its place.

            yield self.change(event.seat, lambda row: replace(row, status="held"))

        Args:
            key: of the row.
            how: makes the row that is kept of the one that is there. It is called with the page, in a thread, and again
                where that has to be done again; its variables have the values that they have now.
            new: what ``how`` is given where there is no such row yet; it has that key.

        What makes the event one that can't be applied, when the page is executed: there is no row with that key, and no
        ``new`` one (`LookupError`); the row would have another key (`ValueError`); what `put` raises, or ``how``.
        """
        self._made += 1
        return change(_shape_of(type(self)), key, how, new)

    def remove(self, key: object) -> RowStep:
        """Remove a row, if there is one."""
        self._made += 1
        return RowStep(_shape_of(type(self)), key, None)

    # For methods that answer.

    def get(self, key: object) -> R | None:
        """The row with a key, or None."""
        shape, connection = self._asked
        wanted = found(shape, equal_to(shape, {shape.plan.key: key}), ())
        rows = shape.rows(connection.execute(wanted))
        return rows[0] if rows else None

    def rows(self) -> Iterator[R]:
        """All rows, in the order of their keys. It walks over all of them."""
        shape, connection = self._asked
        wanted = found(shape, (), (shape.plan.key,))
        there = connection.execute(wanted, execution_options={"yield_per": _ROWS_AT_ONCE})
        for some in there.partitions():
            yield from shape.rows(some)

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
        shape, _ = self._asked
        return self._rows(found(shape, equal_to(shape, equal), (shape.plan.key,)))

    def count(self, **equal: object) -> int:
        """How many rows have these values; all of them, if none is given. The database walks over them.

        Raises:
            DefinitionError: as `find`.
        """
        shape, connection = self._asked
        return int(connection.execute(counted(shape, equal_to(shape, equal) if equal else ())).scalar_one())

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
        shape, _ = self._asked
        stretch = stretch_of(shape, by, where, {"low": low, "above": above, "high": high, "below": below})
        if limit is not None and limit < 1:
            raise InvalidMessage("limit", f"it is a number of rows, at least 1, and not {limit}")
        return self._rows(found(shape, stretch.conditions, stretch.order, descending=descending, limit=limit))

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
        """How many rows `between` would give. The database walks over them.

        Raises:
            DefinitionError: as `between`.
        """
        shape, connection = self._asked
        stretch = stretch_of(shape, by, where, {"low": low, "above": above, "high": high, "below": below})
        return int(connection.execute(counted(shape, stretch.conditions)).scalar_one())

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
        shape, _ = self._asked
        stretch = stretch_of(shape, by, where, {"low": low, "above": above, "high": high, "below": below})
        most = self._most(limit)
        index = shape.plan.ordered[stretch.number]
        cursors, query = Cursors(shape.plan, index), (*stretch.query, descending)
        ended = None if after is None else cursors.entry(query, after)[len(index.entry) - len(stretch.order) :]
        wanted = found(shape, stretch.conditions, stretch.order, descending=descending, limit=most + 1, after=ended)
        rows = self._rows(wanted)
        if len(rows) <= most:
            return Page(rows)
        last = tuple(getattr(rows[most - 1], name) for name in index.entry)
        return Page(rows[:most], cursors.text(query, last))

    def search(self, text: str, *, limit: int | None = None) -> tuple[R, ...]:
        """Rows in whose ``text`` fields all words of a text are, of which the last may be the beginning of one.

        As `TableView.search`: words are runs of letters and digits, without case and accents. They lie in a table of
        their own, named ``seats_words`` for ``Seats``; of a longer one the first 200 characters count.

        Args:
            text: what is searched for. If it has no word, nothing is found.
            limit: how many rows at most, as for `page`.

        Raises:
            DefinitionError: the class names no fields in ``text``.
            InvalidMessage: ``limit`` is not from 1 to ``page_rows_max``, or the text has more than 1,000 words.
        """
        shape, _ = self._asked
        most = self._most(limit)
        if shape.words is None:
            raise DefinitionError('search needs fields to search in: text: ClassVar = ("…",)', place_of(type(self)))
        wanted = searched(shape, text, most)
        return () if wanted is None else self._rows(wanted)

    # Inside.

    @property
    def _asked(self) -> tuple[Shape, Connection]:
        if self._db is None:
            raise TypeError(
                "rows of a SqlTable are read by methods that answer; one that applies an event yields changes, whose "
                "function is given the row that is there: yield self.change(key, how, new)"
            )
        return _shape_of(type(self)), self._db

    def _rows(self, wanted: Select[Any]) -> tuple[R, ...]:
        shape, connection = self._asked
        return shape.rows(connection.execute(wanted))

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
_OWN = names_of(SqlTable)


def _shape_of(cls: type[SqlTable[Any]]) -> Shape:
    if cls.__shape__ is None:
        raise DefinitionError(f"{cls.__name__} does not say what its rows are: SqlTable[…]", place_of(cls))
    return cls.__shape__


def _all_yielded(apply: Callable[..., Iterable[Statement]]) -> Callable[..., Iterable[Statement]]:
    """A method that applies an event, which fails if it has made a change and kept it to itself."""

    @wraps(apply)
    def applied(table: SqlTable[Any], *event: Any) -> Generator[Statement, None, None]:
        table._made = given = 0
        for each in apply(table, *event) or ():
            given += isinstance(each, RowStep)
            yield each
        if table._made > given:
            raise TypeError(f"{table._made - given} changes were made and not yielded: yield self.put(…)")

    return applied
