"""From query strings to questions."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from millstream.engine import App, InvalidMessage, Query
from millstream.engine.web.reading import Messages
from millstream.views import View, answers
from tests.shop import Book, Stock


class Search(Query[int]):
    text: str = ""
    least: int | None = None
    share: float = 0.0
    exact: bool = False
    tags: tuple[str, ...] = ()
    either: list[int] | None = None


class Finder(View):
    found: int = 0

    @answers
    def search(self, query: Search) -> int:
        return self.found


messages = Messages(App(models=[Stock, Book], views=[Finder], name="finder"))


@pytest.mark.parametrize(
    ("fields", "query"),
    [
        ([], Search()),
        ([("text", "7"), ("least", "7"), ("share", "0.5"), ("exact", "true")], Search("7", 7, 0.5, True)),
        ([("tags", "a")], Search(tags=("a",))),
        ([("tags", "a"), ("tags", "b"), ("either", "3")], Search(tags=("a", "b"), either=[3])),
        ([("type", "Search"), ("least", "null")], Search()),
    ],
)
def test_fields_are_read_as_their_types_say(fields: Sequence[tuple[str, str]], query: Search) -> None:
    assert messages.query_of("Search", fields) == query


@pytest.mark.parametrize(
    "fields",
    [
        [("least", "x")],
        [("share", "nan")],
        [("share", "inf")],
        [("exact", "perhaps")],
        [("text", "a"), ("text", "b")],
        [("either", "a")],
        [("other", "a")],
        [("type", "Nothing")],
        [("text", "\ud800")],
    ],
)
def test_what_no_field_takes_is_refused(fields: Sequence[tuple[str, str]]) -> None:
    with pytest.raises(InvalidMessage):
        messages.query_of("Search", fields)
