"""A handler that never stops yielding fails its command alone, while it yields, and leaves no trace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count, repeat
from typing import Any

import anyio
import msgspec
import pytest

from millstream.engine import (
    App,
    Command,
    CommitTooLarge,
    Engine,
    Event,
    ImpureHandler,
    Key,
    Limits,
    MemoryLog,
    Receipt,
)
from millstream.engine.limits import COMMIT_BYTES_MIN
from millstream.engine.write.endless import bounded, may_go_on
from millstream.handlers import WriteModel, applies, handles
from tests.support import settled, start, write_state

pytestmark = pytest.mark.anyio

LIMITS = Limits(commit_bytes_max=COMMIT_BYTES_MIN, batch_bytes_max=16_000, cascade_bytes_max=16_000)


class Print(Command):
    paper: Key
    how: str


class Copy(Command):
    paper: Key
    pages: int


class Stack(Command):
    paper: Key
    pages: int


class Stamp(Command):
    paper: Key


class Printed(Event):
    paper: Key
    page: int
    text: str = ""


class Closed(Exception):
    pass


class Printer(WriteModel):
    pages: int = 0
    jams: int = 0

    @handles
    def print(self, command: Print) -> Iterator[Event]:
        match command.how:
            case "for ever":
                for page in count():
                    yield Printed(command.paper, page)
            case "from elsewhere":
                yield from repeat(Printed(command.paper, 1))
            case "large":
                for page in count():
                    yield Printed(command.paper, page, "x" * 1_000)
            case "stubborn":
                yield from _stubborn(command.paper)
            case "raises when it is closed":
                try:
                    yield from repeat(Printed(command.paper, 1))
                finally:
                    raise Closed("no paper")
            case "changes the state":
                self.jams += 1
                yield from repeat(Printed(command.paper, 1))

    @handles
    def copy(self, command: Copy) -> Iterable[Event]:
        return (Printed(command.paper, page) for page in range(command.pages))

    @handles
    def stack(self, command: Stack) -> Iterable[Event]:
        return [Printed(command.paper, page) for page in range(command.pages)]

    @handles
    def stamp(self, command: Stamp) -> Iterator[Event]:
        yield Printed(command.paper, 1)

    @applies
    def printed(self, event: Printed) -> None:
        self.pages += 1


def _stubborn(paper: str) -> Iterator[Event]:
    try:
        yield from repeat(Printed(paper, 1))
    except GeneratorExit:
        yield Printed(paper, 2)


printer = App(models=[Printer], name="printer")


@pytest.mark.parametrize("check_purity", [False, True])
@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("for ever", None),
        ("from elsewhere", None),
        ("large", None),
        ("stubborn", RuntimeError),
        ("raises when it is closed", Closed),
    ],
)
async def test_a_handler_without_an_end_fails_its_command_alone_and_leaves_no_trace(
    how: str, cause: type[Exception] | None, check_purity: bool
) -> None:
    async with Engine(printer, log=(log := MemoryLog()), limits=LIMITS, check_purity=check_purity) as engine:
        before, error, after = await engine.execute_many([Stamp("a"), Print("a", how), Stamp("a")])
        assert isinstance(before, Receipt)
        assert after == Receipt(1, 2, 1, version=2)
        assert isinstance(error, CommitTooLarge)
        assert (error.command, error.commit_bytes_max) == ("Print", COMMIT_BYTES_MIN)
        assert COMMIT_BYTES_MIN < error.size_bytes < 150_000
        assert cause is None or type(error.__cause__) is cause
        with pytest.raises(CommitTooLarge):
            engine.preview(Print("a", how))
        assert write_state(engine).models[0].pages == 2
    assert len(log.store.commits) == 1


async def test_one_that_changed_the_state_before_it_was_stopped_is_found_where_purity_is_checked() -> None:
    async with Engine(printer, log=MemoryLog(), limits=LIMITS, check_purity=True) as engine:
        with pytest.raises(ImpureHandler):
            await engine.execute(Print("a", "changes the state"))
        await engine.execute(Stamp("a"))
        assert (write_state(engine).models[0].jams, write_state(engine).models[0].pages) == (0, 1)


@pytest.mark.parametrize("command", [Copy, Stack])
async def test_as_many_events_as_a_commit_holds_are_taken_from_whatever_gives_them(command: Any) -> None:
    async with Engine(printer, log=MemoryLog(), limits=LIMITS) as engine:
        for pages in (0, 1, 63, 64, 65, 128, 300):
            assert (await engine.execute(command("a", pages))).events == pages
        with pytest.raises(CommitTooLarge):
            await engine.execute(command("a", 3_000))


async def test_everybody_else_is_answered_beside_a_handler_without_an_end() -> None:
    async with Engine(printer, log=MemoryLog()) as engine, anyio.create_task_group() as group:
        endless = start(group, engine.execute(Print("a", "for ever")))
        other = start(group, engine.execute(Stamp("b")))
        await settled()
        assert (endless.kind, other.kind) == ("CommitTooLarge", "Receipt")


def test_only_what_could_go_on_is_counted() -> None:
    def two(self: Any, command: Any) -> Iterator[int]:
        if command:
            yield 1
        else:
            yield 2
        yield 3

    def loops(self: Any, command: Any) -> Iterator[int]:
        for each in range(3):
            yield each + 1

    def turns(self: Any, command: Any) -> Iterator[int]:
        while command:
            yield 1

    def passes_on(self: Any, command: Any) -> Iterator[int]:
        yield from two(self, command)

    assert [may_go_on(each) for each in (two, loops, turns, passes_on, lambda: [1], print)] == [False, *[True] * 5]


def test_of_large_events_hardly_more_are_taken_than_a_commit_holds() -> None:
    taken = count()
    made = ({"text": "x" * 2_000, "number": next(taken)} for _ in repeat(None))
    handler = bounded(lambda: made, "Print", msgspec.json.encode, 10_000)
    with pytest.raises(CommitTooLarge):
        list(handler())
    assert next(taken) <= 8


def test_of_small_events_many_are_taken_between_two_looks() -> None:
    looks: list[int] = []

    def encode(events: list[Any]) -> bytes:
        looks.append(len(events))
        return msgspec.json.encode(events)

    assert len(list(bounded(lambda: iter(range(1_000)), "Print", encode, 100_000)())) == 1_000
    assert looks[:3] == [8, 64, 64]


async def test_a_preview_refuses_what_execute_refuses() -> None:
    app = App(models=[Printer])
    async with Engine(app, log=MemoryLog(), limits=LIMITS) as engine:
        for stack in (Stack("a4", 5_000), Copy("a4", 5_000)):
            with pytest.raises(CommitTooLarge):
                await engine.execute(stack)
            with pytest.raises(CommitTooLarge):
                engine.preview(stack)
