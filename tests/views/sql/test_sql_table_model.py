"""The same random histories in a `TableView` and in a `SqlTable`, on SQLite and PostgreSQL: every answer is the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from millstream.engine.commits.commit import Head
from millstream.views import Page
from tests.views.sql.places import new_database
from tests.views.sql.things import Changes, SqlThings, Thing, Things, rows_of

_KINDS = st.sampled_from(("a", "B", "bc", "é", "\U0001f600"))
_SIZES = st.integers(-2, 4).map(float)
_KEYS = st.integers(0, 9)
_THINGS = st.builds(
    Thing,
    _KEYS,
    _KINDS,
    _SIZES,
    st.sampled_from(("", "some thing", "somewhat", "Thing B", "Café thing")),
    st.sampled_from((None, "ann")),
)
_EVENTS = st.builds(
    Changes,
    st.lists(_THINGS, max_size=3).map(tuple),
    st.lists(_KEYS, max_size=3).map(tuple),
    st.lists(_KEYS, max_size=2).map(tuple),
    st.sampled_from((False, False, False, True)),
)


class Same(RuleBasedStateMachine):
    """What is done to one is done to the other, and each question is asked of both."""

    def __init__(self) -> None:
        super().__init__()
        # Of the same name, which is in their cursors.
        attributes = {"database": self.database(), "__module__": __name__}
        self.view: type[SqlThings] = type("Things", (SqlThings,), attributes)
        self.memory = Things()
        self.storage = self.view.__storage__(None)
        self.head, _ = self.storage.open()

    @staticmethod
    def database() -> str | None:
        return None

    def teardown(self) -> None:
        self.storage.close()

    @rule(events=st.lists(_EVENTS, min_size=1, max_size=6))
    def apply(self, events: list[Changes]) -> None:
        """As the engine does: the page; where it fails, one event after another, of which some are left out."""
        raised = [self.in_memory(event) for event in events]
        after = Head(self.head.number + 1, self.head.position + len(events), "", bytes(32))
        table = self.view()
        try:
            page = [each for event in events for each in self.statements(table, event)]
            self.storage.write(page, self.head, after, b"")
        except (LookupError, ValueError):
            assert any(raised)
            self.storage.begin(self.head)
            assert [self.alone(table, event) for event in events] == raised
            self.storage.commit(self.head, after, b"")
            self.storage.rollback()
        else:
            assert not any(raised)
        self.head = after

    def in_memory(self, event: Changes) -> bool:
        try:
            Things.__appliers__[Changes].function(self.memory, event)
        except (LookupError, ValueError):
            return True
        return False

    def statements(self, table: SqlThings, event: Changes) -> list[Any]:
        return list(self.view.__appliers__[Changes].function(table, event))

    def alone(self, table: SqlThings, event: Changes) -> bool:
        try:
            self.storage.try_these(self.statements(table, event))
        except (LookupError, ValueError):
            return True
        return False

    def both(self, ask: Callable[[Any], Any]) -> Any:
        """An answer that both give."""
        in_sql, _ = self.storage.question(lambda look, _: ask(look.view), None).run()
        in_memory = ask(self.memory)
        assert in_sql == in_memory
        return in_memory

    @invariant()
    def rows_are_the_same(self) -> None:
        self.both(rows_of)
        self.both(lambda table: table.count())

    @rule(kind=_KINDS, size=_SIZES, key=_KEYS, owner=st.sampled_from((None, "ann", "bob")))
    def find(self, kind: str, size: float, key: int, owner: str | None) -> None:
        for equal in ({"kind": kind}, {"kind": kind, "size": size}, {"size": size}, {"key": key}, {"owner": owner}):
            self.both(partial(_found, equal))
        self.both(lambda table: table.get(key))

    @rule(
        by=st.sampled_from(("size", "key", ("kind", "size"), ("note", "size", "key"))),
        low=st.one_of(st.none(), _THINGS),
        high=st.one_of(st.none(), _THINGS),
        inclusive=st.tuples(st.booleans(), st.booleans()),
        first=st.integers(1, 3),
        descending=st.booleans(),
        limit=st.integers(1, 4),
    )
    def ranges(
        self,
        by: str | tuple[str, ...],
        low: Thing | None,
        high: Thing | None,
        inclusive: tuple[bool, bool],
        first: int,
        descending: bool,
        limit: int,
    ) -> None:
        asked = {
            "low" if inclusive[0] else "above": _bound(by, low, first),
            "high" if inclusive[1] else "below": _bound(by, high, first),
        }
        self.both(lambda table: (table.between(by, descending=descending, **asked), table.count_between(by, **asked)))
        self.both(lambda table: table.between(by, descending=descending, limit=limit, **asked))
        self.pages(by, asked, descending=descending, limit=limit)

    @rule(kind=_KINDS, low=st.one_of(st.none(), _SIZES), descending=st.booleans(), limit=st.integers(1, 3))
    def ranges_of_a_kind(self, kind: str, low: float | None, descending: bool, limit: int) -> None:
        asked = {"where": {"kind": kind}, "low": low}
        self.both(lambda table: table.between("size", descending=descending, **asked))
        self.pages("size", asked, descending=descending, limit=limit)

    def pages(self, by: Any, asked: dict[str, Any], **how: Any) -> None:
        """Page after page, with the cursor of either."""
        page: Page[Thing] = self.both(lambda table: table.page(by, **asked, **how))
        while page.next is not None:
            after = page.next
            page = self.both(partial(_page, by, {**asked, **how, "after": after}))

    @rule(text=st.sampled_from(("some", "thing", "some th", "b", "thing b", "a", "nowhere", "", "cafe t")))
    def search(self, text: str) -> None:
        self.both(lambda table: sorted(table.search(text), key=lambda row: row.key))


def _found(equal: dict[str, Any], table: Any) -> Any:
    return table.find(**equal), table.count(**equal)


def _page(by: Any, asked: dict[str, Any], table: Any) -> Any:
    return table.page(by, **asked)


def _bound(by: str | tuple[str, ...], thing: Thing | None, first: int) -> Any:
    if thing is None:
        return None
    return getattr(thing, by) if isinstance(by, str) else tuple(getattr(thing, name) for name in by[:first])


class SameInPostgres(Same):
    @staticmethod
    def database() -> str | None:
        return new_database()


TestSame = Same.TestCase
TestSame.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
TestSameInPostgres = SameInPostgres.TestCase
TestSameInPostgres.settings = settings(max_examples=4, stateful_step_count=10, deadline=None)
