"""Views in SQL: the tables that a view keeps, from events to statements, and from queries to answers.

Here: what such a class is. Not here: its database (`storage`), and when statements are executed (the engine).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, Self

from sqlalchemy import URL, Connection, MetaData, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.schema import CreateIndex, CreateTable

from millstream.engine.application.answers import answering
from millstream.engine.application.app import tag_of
from millstream.engine.application.messages import Event, Query
from millstream.engine.application.methods import Method, answer_type, declared, place_of
from millstream.engine.application.sides import Poison
from millstream.engine.errors import DefinitionError
from millstream.views.sql.places import FilePlace, Place, SchemaPlace
from millstream.views.sql.storage import Look, SqlStorage

__all__ = ["SqlView"]

#: What a view's database may be, as SQLAlchemy names it.
_KINDS = ("sqlite", "postgresql")


class SqlView:
    """The base of views whose state lies in tables: larger than memory, and readable by anything that reads SQL.

    A method with ``@applies`` **yields** statements of SQLAlchemy, each alone or with the values of its parameters:
    ``yield SOLD, {"show": event.show}``. Those of a page of commits are one transaction, in which equal ones are
    executed together: so keep a statement as a constant, and give it values. A method with ``@answers`` takes the query
    and a `sqlalchemy.Connection` whose transaction only reads, and runs in a thread.

    The engine brings the tables on in the background, as fast as the database takes it: no command waits for it, and
    ``after=`` waits until a write is there. An answer is that of whole commits.

    Raises (when the class is made):
        DefinitionError: it has no ``metadata``; a decorated method has no usable annotation, two are for the same
            message, or the return type is not the query's answer; a method that answers takes no connection; or
            ``database`` is no address, or one of another database than SQLite and PostgreSQL.
    """

    #: The tables. What else lies in the database is not touched.
    metadata: ClassVar[MetaData]
    #: Where they are, as SQLAlchemy names it, as in ``"postgresql+psycopg://user@host/db"``: there a schema of its own
    #: is made, which is named by the view and by what its code and tables are. None: a file of SQLite beside the log,
    #: named in the same way, or one that goes with the engine where the log is in memory.
    database: ClassVar[str | None] = None
    #: Raise it when the same events lead to other rows than before: the tables are then made anew, beside the old ones.
    code_version: ClassVar[int] = 1
    #: What to do about an event that can't be applied; see `View.poison`. Of one that is parked or skipped no statement
    #: is executed.
    poison: ClassVar[Poison] = "stop"

    #: Whether a method that answers must take the connection: it could see nothing otherwise.
    __needs_db__: ClassVar[bool] = True
    __appliers__: ClassVar[Mapping[type[Any], Method]] = {}
    __answerers__: ClassVar[Mapping[type[Any], Method]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not isinstance(getattr(cls, "metadata", None), MetaData):
            raise DefinitionError("a view in SQL has its tables in `metadata`, a sqlalchemy.MetaData", place_of(cls))
        if cls.database is not None:
            try:
                kind = make_url(cls.database).get_backend_name()
            except ArgumentError:
                raise DefinitionError("its `database` is no address that SQLAlchemy reads", place_of(cls)) from None
            if kind not in _KINDS:
                problem = f"a view in SQL lies in {' or '.join(_KINDS)}, and its `database` is of {kind}"
                raise DefinitionError(problem, place_of(cls))
        cls.__appliers__ = declared(cls, "applies", Event, more="about", yields=True)
        cls.__answerers__ = answerers = dict(declared(cls, "answers", Query, more="db"))
        for query, method in answerers.items():
            promised = answer_type(query)
            if not method.wants_more and cls.__needs_db__:
                problem = "a view in SQL answers with (self, query, db: sqlalchemy.Connection)"
                raise DefinitionError(problem, method.place)
            if method.returns != promised:
                raise DefinitionError(
                    f"the method returns {method.returns!r}, but {query.__name__} promises {promised!r}",
                    method.place,
                    place_of(query),
                )
            answerers[query] = method._replace(function=answering(_looking(method), promised))

    @classmethod
    def __storage__(cls, log: str | None) -> SqlStorage:
        """The database, not open yet; ``log`` is the path of the log's file."""
        fingerprint = _fingerprint(cls)
        return SqlStorage(cls(), cls.__name__, fingerprint, cls.metadata, _place_of(cls, fingerprint, log))

    def __asked__(self, connection: Connection) -> Self:
        """The view as a method that answers sees it."""
        return self

    @classmethod
    def __told__(cls) -> str:
        """What the tables follow from beside what they are."""
        return ""

    def snapshot(self) -> Iterator[bytes] | None:
        """None: the database is what is put aside."""
        return None

    def restore(self, piece: bytes) -> None:
        """Never called: there are no pieces."""
        raise TypeError("a view in SQL has no snapshots")


def _looking(method: Method) -> Callable[[Look, Any], Any]:
    function: Callable[..., Any] = method.function

    @wraps(function)
    def answer(look: Look, query: Any) -> Any:
        more = (look.connection,) if method.wants_more else ()
        return function(look.view, query, *more)

    return answer


def _place_of(view: type[SqlView], fingerprint: str, log: str | None) -> Place:
    if view.database is not None:
        url = make_url(view.database)
        if url.get_backend_name() != "sqlite":
            return SchemaPlace(url, view.__name__, fingerprint)
        return FilePlace(url)
    if log is None:
        return FilePlace(None)
    url = URL.create("sqlite", database=f"{log}-{view.__name__}-{fingerprint[:8]}")
    return FilePlace(url, Path(log), f"{Path(log).name}-{view.__name__}-")


def _fingerprint(view: type[SqlView]) -> str:
    """What a view's rows follow from, as far as it can be seen: its tables, its events, and its ``code_version``."""
    tables = [str(CreateTable(table)) for table in view.metadata.sorted_tables]
    indexes = sorted(str(CreateIndex(each)) for table in view.metadata.sorted_tables for each in table.indexes)
    events = sorted(tag_of(event) for event in view.__appliers__)
    told = repr((tables, indexes, events, view.code_version)) + view.__told__()
    return blake2b(told.encode(), digest_size=16).hexdigest()
