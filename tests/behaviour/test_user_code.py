"""Whatever code of the application raises is its fault, is told with its traceback, and ends nobody else's work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from typing import Any, ClassVar

import pytest

from millstream.engine import (
    AnswerFailed,
    App,
    ApplyFailed,
    Command,
    DefinitionError,
    Engine,
    Event,
    HandlerFailed,
    Metadata,
    Query,
    ViewFaulted,
    WriterUnavailable,
)
from millstream.engine.application.sides import Poison
from millstream.engine.observers import Fault, Faults, Observer
from millstream.handlers import WriteModel, applies, handles
from millstream.views import View, answers
from tests.support import Seen, settled

pytestmark = pytest.mark.anyio


class Do(Command):
    where: str


class Done(Event):
    where: str


class Count(Query[int]):
    fail: bool = False


class Own(BaseException):
    pass


class Mute(Exception):
    """One that can't even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


#: What tests raise, by a name that each has only once.
RAISED: dict[str, BaseException] = {}


def fail_at(place: str, where: str) -> None:
    if where == place:
        raise RAISED["it"]


class Doer(WriteModel):
    count: int = 0

    @handles
    def do(self, command: Do) -> Iterator[Event]:
        fail_at("handler", command.where)
        yield Done(command.where)

    @applies
    def done(self, event: Done) -> None:
        fail_at("applier", event.where)
        self.count += 1


class Counting(View):
    count: int = 0

    @applies
    def done(self, event: Done) -> None:
        fail_at("view", event.where)
        self.count += 1

    @answers
    def counted(self, query: Count) -> int:
        if query.fail:
            raise RAISED["it"]
        return self.count


class Parking(Counting):
    poison: ClassVar[Poison] = "skip"


app, skipping = App(models=[Doer], views=[Counting]), App(models=[Doer], views=[Parking])


@pytest.fixture(
    params=[
        pytest.fail.Exception("a test's own"),
        asyncio.CancelledError("raised by hand"),
        GeneratorExit(),
        Own("x"),
        Mute(),
    ],
    ids=lambda error: type(error).__name__,
)
def raised(request: pytest.FixtureRequest) -> BaseException:
    error: BaseException = request.param
    RAISED["it"] = error
    return error


def told(log_lines: list[Any], event: str) -> list[Any]:
    return [line for line in log_lines if line["event"] == event]


async def test_a_handler_and_an_applier_fail_alone_whatever_they_raise(
    raised: BaseException, log_lines: list[Any]
) -> None:
    async with Engine(app, log="memory:") as engine:
        with pytest.raises(HandlerFailed) as failed:
            await engine.execute(Do("handler"))
        assert failed.value.__cause__ is raised
        with pytest.raises(HandlerFailed):
            engine.preview(Do("handler"))
        with pytest.raises(ApplyFailed):
            await engine.execute(Do("applier"))
        receipt = await engine.execute(Do("well"))
        assert await engine.ask(Count(), after=receipt) == 1
    lines = told(log_lines, "application_failed")
    assert [(line["place"].rpartition(".")[2], line["message"]) for line in lines] == [("do", "Do"), ("done", "Done")]
    assert all(line["exc_info"] is raised for line in lines)


async def test_a_view_is_treated_by_its_policy_whatever_it_raises(raised: BaseException, log_lines: list[Any]) -> None:
    async with Engine(app, log="memory:") as engine:
        receipt = await engine.execute(Do("view"))
        with pytest.raises(ViewFaulted) as faulted:
            await engine.ask(Count(), after=receipt)
        assert faulted.value.cause is raised
        await engine.execute(Do("well"))
    async with Engine(skipping, log="memory:") as engine:
        await engine.execute_many([Do("view"), Do("well")])
        assert await engine.ask(Count(), after=2, incomplete=True) == 1
    assert [line["exc_info"] for line in told(log_lines, "view_faulted")] == [raised]
    assert [line["exc_info"] for line in told(log_lines, "event_skipped")] == [raised]


async def test_a_line_names_the_conversation_that_led_to_it_where_there_is_one(log_lines: list[Any]) -> None:
    RAISED["it"] = ValueError("a bug")
    async with Engine(skipping, log="memory:") as engine:
        for where in ("handler", "applier", "view"):
            for metadata in (Metadata(correlation=f"order 7, {where}"), None):
                await engine.execute_many([Do(where)], metadata=metadata)
        with pytest.raises(AnswerFailed):
            await engine.ask(Count(fail=True), after=2)
    lines = [line for line in log_lines if line["event"] in ("application_failed", "event_skipped")]
    assert [(line["event"], line.get("correlation", "none")) for line in lines] == [
        ("application_failed", "order 7, handler"),
        ("application_failed", "none"),
        ("application_failed", "order 7, applier"),
        ("application_failed", "none"),
        ("event_skipped", "order 7, view"),
        ("event_skipped", "none"),
        ("application_failed", "none"),
    ]


async def test_an_answer_fails_alone_whatever_it_raises(raised: BaseException, log_lines: list[Any]) -> None:
    async with Engine(app, log="memory:") as engine:
        with pytest.raises(AnswerFailed) as failed:
            await engine.ask(Count(fail=True))
        assert failed.value.__cause__ is raised
        with pytest.raises(AnswerFailed):
            async with engine.watch(Count(fail=True)):
                pass
        assert await engine.ask(Count()) == 0
    assert [line["exc_info"] for line in told(log_lines, "application_failed")] == [raised, raised]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=["KeyboardInterrupt", "SystemExit"])
@pytest.mark.parametrize("where", ["handler", "applier", "view"])
async def test_what_is_to_end_the_program_ends_its_actor_with_a_line_and_is_raised_at_closing(
    error: BaseException, where: str, log_lines: list[Any]
) -> None:
    RAISED["it"] = error
    with pytest.raises(type(error)) as raised:  # noqa: PT012 - the engine raises it when it closes
        async with Engine(app, log="memory:") as engine:
            if where == "view":
                receipt = await engine.execute(Do(where))
                with pytest.raises(ViewFaulted):
                    await engine.ask(Count(), after=receipt)
            else:
                with pytest.raises(WriterUnavailable):
                    await engine.execute(Do(where))
                with pytest.raises(WriterUnavailable):
                    await engine.execute(Do("well"))
    assert raised.value is error
    (line,) = told(log_lines, "view_faulted" if where == "view" else "writer_stopped")
    assert line["exc_info"] is error


async def test_faults_without_end_are_told_ten_times_a_second() -> None:
    RAISED["it"] = ValueError("each time")
    seen = Seen()
    async with Engine(app, log="memory:", observers=[seen]) as engine:
        outcomes = await engine.execute_many([Do("handler")] * 1_000)
        await settled()
    assert all(isinstance(outcome, HandlerFailed) for outcome in outcomes)
    assert 10 <= seen.names().count("application_failed") <= 100


def test_what_was_left_out_is_counted_in_the_next_one_that_is_told() -> None:
    found: list[int] = []

    class Counter(Observer):
        def application_failed(self, *, left_out: int, **_: Any) -> None:
            found.append(left_out)

    now = [0.0]
    faults = Faults(Counter(), lambda: now[0])
    for _ in range(25):
        faults.tell(Fault("Doer.do", "Do", ValueError()))
    assert found == [0] * 10
    now[0] = 1.0
    faults.tell(Fault("Doer.do", "Do", ValueError()))
    assert found == [0] * 10 + [15]


@pytest.mark.parametrize("clock", [datetime.now, lambda: "noon"])
async def test_a_clock_without_a_zone_is_refused_at_opening(clock: Any) -> None:
    with pytest.raises(DefinitionError, match=r"the clock tells .*aware datetime"):
        async with Engine(app, log="memory:", clock=clock):
            pass
