"""The form that messages have as JSON, and what a class may say about it."""

from __future__ import annotations

import sqlite3
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import pytest

from millstream.engine import App, Command, DefinitionError, Engine, Event, Key, MemoryLog, Query
from millstream.engine.stores.events import stored_events
from millstream.engine.stores.memory import MemoryStore
from millstream.engine.wire.requests import Requests
from millstream.handlers import Retired, WriteModel, applies, handles
from millstream.views import View, answers

T = TypeVar("T")

pytestmark = pytest.mark.anyio


class Do(Command):
    key: Key


class Done(Event):
    key: Key


def made(base: Any, fields: dict[str, Any] | None = None, **options: Any) -> Any:
    namespace = {"__module__": __name__, "__qualname__": "Odd", "__annotations__": fields or {"key": Key, "note": str}}
    return types.new_class("Odd", (base,), options, lambda body: body.update(namespace))


def app_with_command(command: Any) -> App:
    def do(self: Any, command: Any) -> Iterator[Event]:
        yield Done("k")

    do.__annotations__["command"] = command

    def done(self: Any, event: Done) -> None: ...

    return App(models=[type("Doer", (WriteModel,), {"do": handles(do), "done": applies(done), "__module__": __name__})])


def app_with_event(event: Any, *others: Any, retired: Any = ()) -> App:
    methods: dict[str, Any] = {"__module__": __name__}
    for index, each in enumerate((event, *others)):

        def done(self: Any, event: Any) -> None: ...

        done.__annotations__["event"] = each
        methods[f"done_{index}"] = applies(done)
    return App(models=[type("Doer", (WriteModel,), methods)], retired=retired)


def app_with_query(query: Any) -> App:
    def answer(self: Any, query: Any) -> int:
        return 1

    answer.__annotations__["query"] = query
    answer.__annotations__["return"] = int
    view = type("Answers", (View,), {"answer": answers(answer), "__module__": __name__})

    class Doer(WriteModel):
        @applies
        def done(self, event: Done) -> None: ...

    return App(models=[Doer], views=[view])


def app_with_retired(retired: Any) -> App:
    return app_with_event(Done, retired=[retired])


FORMS: list[tuple[dict[str, Any], str]] = [
    ({"array_like": True}, "leave out array_like=True"),
    ({"tag_field": "kind"}, "leave out tag_field='kind'"),
    ({"tag": False}, "says its type, and tag=None says none"),
    ({"tag": ""}, "says its type, and tag='' says none"),
    ({"tag": "a\0b"}, r"says its type, and tag='a\\x00b' says none"),
    (
        {"tag": 'a"b'},
        "paths of a log's SQL view, so tag='a\"b' may hold no quote, no backslash and no control character",
    ),
    ({"tag": "a\\b"}, "paths of a log's SQL view"),
    ({"tag": "a\nb"}, "paths of a log's SQL view"),
]


@pytest.mark.parametrize(("options", "problem"), FORMS)
@pytest.mark.parametrize(
    ("base", "app"),
    [(Command, app_with_command), (Event, app_with_event), (Query[int], app_with_query), (Retired, app_with_retired)],
)
def test_a_message_that_is_no_object_with_its_type_is_refused_and_the_error_names_it(
    base: Any, app: Callable[[Any], App], options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(DefinitionError, match=problem) as raised:
        app(made(base, **options))
    assert "test_forms.Odd" in str(raised.value)


def test_events_told_by_names_and_events_told_by_numbers_are_a_definition_error_too() -> None:
    with pytest.raises(DefinitionError, match=r"can't be read from JSON.*tag"):
        app_with_event(Done, made(Event, tag=5))


def test_events_of_different_forms_are_a_definition_error_and_no_type_error_of_msgspec() -> None:
    with pytest.raises(DefinitionError, match="leave out array_like=True"):
        app_with_event(Done, made(Event, array_like=True))


class Left(msgspec.Struct):
    a: int


class Right(msgspec.Struct):
    b: int


@pytest.mark.parametrize(("base", "app"), [(Command, app_with_command), (Event, app_with_event)])
@pytest.mark.parametrize(
    ("annotation", "problem"),
    [
        (Left | Right, "all Struct types must be tagged"),
        ("NotThere", "name 'NotThere' is not defined"),
    ],
)
def test_a_field_that_can_not_be_read_back_is_a_definition_error_that_names_the_message(
    base: Any, app: Callable[[Any], App], annotation: Any, problem: str
) -> None:
    with pytest.raises(DefinitionError, match=problem) as raised:
        app(made(base, {"key": Key, "what": annotation}))
    assert "test_forms.Odd" in str(raised.value)


def test_a_query_that_no_socket_can_carry_is_for_one_process_and_a_server_says_so() -> None:
    app = app_with_query(made(Query[int], {"what": Left | Right}))
    with pytest.raises(DefinitionError, match="all Struct types must be tagged"):
        Requests(app, 1)


class Brief(msgspec.Struct, omit_defaults=True):
    size: int = 3
    colour: str | None = None


class Boxed(msgspec.Struct, Generic[T], omit_defaults=True):
    what: T
    brief: Brief | None


class Omitting(Event, omit_defaults=True):
    key: Key
    note: str = ""


class BriefWithout(msgspec.Struct, frozen=True, omit_defaults=True):
    size: int
    colour: str | msgspec.UnsetType = msgspec.UNSET


def test_an_event_that_leaves_defaults_out_is_refused_because_another_default_would_change_what_happened() -> None:
    with pytest.raises(DefinitionError, match=r"Omitting is stored without note where .* leave out omit_defaults=True"):
        app_with_event(Omitting)
    for nested in (Brief, list[Brief], Boxed[int], dict[str, tuple[Brief | None, ...]]):
        with pytest.raises(DefinitionError, match=r"Brief is stored without size, colour .*test_forms.Odd and .*Brief"):
            app_with_event(made(Event, {"what": nested}))


def test_what_is_not_stored_may_leave_defaults_out_and_so_may_who_has_none() -> None:
    assert app_with_event(made(Event, {"what": BriefWithout}, omit_defaults=True)).events
    assert app_with_command(made(Command, {"what": Brief}, omit_defaults=True)).commands


class Renamed(Event, rename="camel", tag=str.lower):
    first_key: Key
    how_many: int


class Numbered(Event, tag=7):
    first_key: Key


class Number(Command):
    first_key: Key


class Numbers(WriteModel):
    @handles
    def number(self, command: Number) -> Iterator[Numbered]:
        yield Numbered(command.first_key)

    @applies
    def numbered(self, event: Numbered) -> None: ...


async def test_events_that_are_told_by_numbers_are_listed_as_others_are() -> None:
    app, store = App(models=[Numbers]), MemoryStore()
    async with Engine(app, log=MemoryLog(store)) as engine:
        await engine.execute(Number("ann"))
    log = MemoryLog(store)
    await log.attach()
    assert [(event.type, event.key) async for event in stored_events(log)] == [("7", "ann")]


class Rename(Command, rename="camel"):
    first_key: Key
    how_many: int


class Names(WriteModel):
    sizes: dict[str, int] = {}

    @handles
    def rename(self, command: Rename) -> Iterator[Renamed]:
        yield Renamed(command.first_key, command.how_many)

    @applies
    def renamed(self, event: Renamed) -> None:
        self.sizes[event.first_key] = event.how_many


async def test_fields_may_have_other_names_in_the_log_and_everything_reads_them(tmp_path: Path) -> None:
    app, path = App(models=[Names]), tmp_path / "names.db"
    for version in (1, 2):
        async with Engine(app, log=path) as engine:
            assert (await engine.execute(Rename("ann", 3))).version == version
        (tmp_path / "names.db-snapshots").unlink()
    with sqlite3.connect(path) as connection:
        rows = connection.execute("select type, key, data ->> 'howMany' from events").fetchall()
    connection.close()
    assert rows == [("renamed", "ann", 3)] * 2
