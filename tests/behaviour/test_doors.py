"""What would not come back as what it is gets in nowhere: not in process, not over a socket, not in an answer."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from math import inf, nan
from pathlib import Path
from typing import Any

import msgspec
import pytest

from millstream.engine import (
    AnswerFailed,
    App,
    Command,
    Engine,
    Event,
    HandlerFailed,
    InvalidMessage,
    Key,
    LogRefused,
    MemoryLog,
    Metadata,
    MillstreamError,
    Query,
)
from millstream.engine.commits.commit import Head
from millstream.engine.recovery.readability import check_events
from millstream.engine.stores.events import stored_events
from millstream.engine.stores.memory import MemoryStore
from millstream.engine.upkeep.verify import verify_log
from millstream.engine.wire.requests import Malformed, Requests
from millstream.handlers import WriteModel, applies, handles
from millstream.views import View, answers
from tests.support import Row, sealed_rows

pytestmark = pytest.mark.anyio


class File(Command):
    name: Key
    what: Any = None
    size: float | None = None


class Invent(Command):
    """A command whose event holds what the command does not."""

    how: str


class Filed(Event):
    name: Key
    what: Any = None
    size: float | None = None


class Was(Query[Any]):
    name: str


class MeanSize(Query[float | None]):
    how: str


def deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


INVENTED: dict[str, Filed] = {
    "deep": Filed("a", deep(970)),
    "nan": Filed("a", size=nan),
    "hidden": Filed("a", {"b": [inf]}),
    "nul": Filed("a\0b"),
}


class Cabinet(WriteModel):
    files: int = 0

    @handles
    def file(self, command: File) -> Iterator[Event]:
        yield Filed(command.name, command.what, command.size)

    @handles
    def invent(self, command: Invent) -> Iterator[Event]:
        yield INVENTED[command.how]

    @applies
    def filed(self, event: Filed) -> None:
        self.files += 1


class Reader(View):
    files: dict[str, Any] = {}

    @applies
    def filed(self, event: Filed) -> None:
        self.files[event.name] = event.what

    @answers
    def was(self, query: Was) -> Any:
        return {"deep": deep(300), "nan": [nan]}.get(query.name, self.files.get(query.name))

    @answers
    def mean_size(self, query: MeanSize) -> float | None:
        return nan if query.how == "nan" else 1.5


app = App(models=[Cabinet], views=[Reader])


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (File("a", deep(960)), "nested more than 200 deep in it"),
        (File("a", deep(975)), "nested more than 200 deep in it"),
        (File("a", deep(200)), "nested more than 200 deep in it"),
        (File("a", {"b": [1, nan]}), r"it holds the float nan.*at `\$\.what\['b'\]\[1\]`"),
        (File("a", None, -inf), r"it holds the float -inf.*at `\$\.size`"),
        (File("a\0b"), r"its key 'a\\x00b' holds a NUL"),
    ],
)
async def test_a_command_that_would_come_back_as_another_is_refused_and_nothing_is_written(
    command: Command, problem: str
) -> None:
    log = MemoryLog()
    async with Engine(app, log=log) as engine:
        with pytest.raises(InvalidMessage, match=problem) as raised:
            await engine.execute(command)
        assert raised.value.message_type == "File"
        (outcome,) = await engine.execute_many([command])
        assert isinstance(outcome, InvalidMessage)
        assert (await engine.execute(File("a", deep(199), None))).position == 1


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("deep", "Filed is not valid: .*nested more than 200 deep in it"),
        ("nan", r"Filed is not valid: it holds the float nan.*at `\$\.size`"),
        ("hidden", r"Filed is not valid: it holds the float inf.*at `\$\.what\['b'\]\[0\]`"),
        ("nul", r"Filed is not valid: its key 'a\\x00b' holds a NUL"),
    ],
)
async def test_an_event_that_would_come_back_as_another_is_refused_and_nothing_is_written(
    how: str, problem: str
) -> None:
    async with Engine(app, log=MemoryLog()) as engine:
        with pytest.raises(HandlerFailed, match=problem):
            await engine.execute(Invent(how))
        with pytest.raises(HandlerFailed, match=problem):
            engine.preview(Invent(how))
        assert (await engine.execute(File("a"))).position == 1


@pytest.mark.parametrize("metadata", [Metadata(actor="ann\0bob"), Metadata(causation="\0")])
async def test_metadata_with_a_nul_is_refused_because_sqlite_would_show_who_did_it_as_another(
    metadata: Metadata,
) -> None:
    async with Engine(app, log=MemoryLog()) as engine:
        with pytest.raises(InvalidMessage, match=r"metadata is not valid: (actor|causation) without a NUL"):
            await engine.execute(File("a"), metadata=metadata)


async def test_an_answer_that_would_arrive_as_another_is_refused() -> None:
    async with Engine(app, log=MemoryLog()) as engine:
        with pytest.raises(AnswerFailed, match="nested more than 200 deep in it"):
            await engine.ask(Was("deep"))
        with pytest.raises(AnswerFailed, match=r"it holds the float nan.*at `\$\[0\]`"):
            await engine.ask(Was("nan"))
        with pytest.raises(AnswerFailed, match=r"it holds the float nan.*at `\$`"):
            await engine.ask(MeanSize("nan"))
        assert await engine.ask(MeanSize("")) == 1.5
        assert await engine.ask(Was("other")) is None


def line_with(command: Any) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"method":"execute","params":{"command":%b}}' % msgspec.json.encode(command)


@pytest.mark.parametrize(
    ("command", "problem"),
    [(File("a", deep(200)), "nested more than 200 deep in it"), (File("a\0b"), "holds a NUL")],
)
def test_a_request_with_such_a_command_is_told_what_is_wrong_with_it(command: Command, problem: str) -> None:
    requests = Requests(app, 10)
    line = line_with(command)
    for found in (requests.read(line), *requests.read(b"[" + line + b"]")):
        assert isinstance(found, Malformed)
        assert isinstance(found.error, InvalidMessage)
        assert problem in str(found.error)
    assert requests.read(line_with(File("a", deep(199)))).params.command == File("a", deep(199))


NESTED = msgspec.Raw(
    b'[{"type":"Filed","name":"a"},{"type":"Filed","name":"}{","what":' + b"[" * 2_000 + b"]" * 2_000 + b"}]"
)


def log_with_depths() -> MemoryLog:
    """What an application of 0.1 could write under a stack that was not as deep as a reader's is."""
    store = MemoryStore()
    store.application = "Cabinet"
    first = sealed_rows(
        Head(), "2026-01-01T00:00:00.000000Z", [Row("File", events=msgspec.Raw(b'[{"type":"Filed","name":"a"}]'))]
    )
    head = Head.after(first, 1)
    store.commits += [first, sealed_rows(head, "2026-01-01T00:00:00.000000Z", [Row("File", key="]", events=NESTED)])]
    return MemoryLog(store)


async def opened(log: MemoryLog, cabinet: App = app) -> None:
    async with Engine(cabinet, log=log):
        pass


async def checked(log: MemoryLog) -> None:
    await log.attach()
    await check_events(log, app)


async def listed(log: MemoryLog) -> None:
    await log.attach()
    async for _ in stored_events(log):
        pass


@pytest.mark.parametrize("use", [opened, verify_log, checked, listed])
async def test_who_meets_an_event_that_is_nested_too_deeply_says_where_it_is(use: Any) -> None:
    with pytest.raises(LogRefused) as raised:
        await use(log_with_depths())
    assert "the event 'Filed' at position 3, in commit 2, holds arrays and objects nested 2,001 deep" in str(
        raised.value
    )
    assert "sys.setrecursionlimit(5002) before it opens" in str(raised.value)


async def test_a_log_with_such_an_event_opens_where_the_program_may_read_as_deep_as_it_is_told() -> None:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(5_002)
    try:
        async with Engine(app, log=log_with_depths()) as engine:
            assert engine.stats().views["Reader"].position == 3
        assert (await verify_log(log_with_depths())).events == 3
    finally:
        sys.setrecursionlimit(before)


async def test_what_the_sql_view_shows_as_one_key_was_one(tmp_path: Path) -> None:
    path = tmp_path / "cabinet.db"
    async with Engine(app, log=path) as engine:
        outcomes = await engine.execute_many([File("a"), File("a\0b"), File("a\0c"), File("a")])
        assert sum(isinstance(outcome, MillstreamError) for outcome in outcomes) == 2
    with sqlite3.connect(path) as connection:
        assert connection.execute("select key, count(*) from events group by key").fetchall() == [("a", 2)]
    connection.close()
