"""Answers of commands: what a handler returns is what its caller gets, and a repeat, and a reaction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import pytest

from millstream.engine import (
    AnswerTooLarge,
    AnswerUnreadable,
    App,
    Command,
    CommandIdReused,
    DefinitionError,
    Engine,
    Event,
    HandlerFailed,
    Key,
    Limits,
    Metadata,
    Receipt,
)
from millstream.engine.client import Client
from millstream.engine.server import Server
from millstream.engine.upkeep.downgrade import Downgrade
from millstream.engine.wire.openrpc import describe
from millstream.handlers import Aggregate, Decision, Reaction, Rejected, WriteModel, answer_of, applies, handles, reacts
from tests.engine.cli.running import program, served
from tests.stores import MemoryPlace, Place, SqlitePlace
from tests.support import write_state

pytestmark = pytest.mark.anyio

T = TypeVar("T")


class Hold(Command[tuple[int, ...]]):
    show: Key
    count: int


class Look(Command[list[int]]):
    """Yields nothing, and answers with the state's own list."""

    show: Key


class Say(Command[Any]):
    """Answers whatever it is told to."""

    show: Key
    text: Any


class Count(Command[int]):
    show: Key
    answer: Any


class Maybe(Command[float | None]):
    show: Key
    number: float | None


class Plain(Command):
    show: Key


class Party(Command):
    show: Key
    count: int


class Held(Event):
    show: Key
    seats: tuple[int, ...]


class Came(Event):
    show: Key
    count: int


class Told(Event):
    show: Key
    text: str


class Tell(Command):
    show: Key
    text: str


class Show(Aggregate):
    free: list[int] = msgspec.field(default_factory=lambda: [1, 2, 3, 4, 5])

    @handles
    def hold(self, command: Hold) -> Decision[tuple[int, ...]]:
        seats = tuple(self.free[: command.count])
        if len(seats) < command.count:
            raise Rejected("sold_out", f"{len(seats)} left")
        yield Held(command.show, seats)
        return seats

    @handles
    def look(self, command: Look) -> Decision[list[int]]:
        yield from ()
        return self.free

    @handles
    def say(self, command: Say) -> Decision[Any]:
        yield Told(command.show, "said")
        return command.text

    @handles
    def count(self, command: Count) -> Decision[int]:
        for _ in range(1):
            yield Held(command.show, (1,))
        return command.answer  # type: ignore[no-any-return]

    @handles
    def maybe(self, command: Maybe) -> Decision[float | None]:
        yield Told(command.show, "maybe")
        return None if command.number is None else command.number * 1e308 * 10

    @handles
    def plain(self, command: Plain) -> Iterator[Event]:
        yield Held(command.show, ())

    @handles
    def come(self, command: Party) -> Iterator[Event]:
        yield Came(command.show, command.count)

    @handles
    def tell(self, command: Tell) -> Iterator[Event]:
        yield Told(command.show, command.text)

    @applies
    def held(self, event: Held) -> None:
        self.free = [seat for seat in self.free if seat not in event.seats]


class Host(WriteModel):
    told: list[str] = []

    @reacts
    def came(self, event: Came) -> Reaction:
        try:
            seats = yield from answer_of(Hold(event.show, event.count))
        except Rejected as refused:
            yield Tell(event.show, refused.code)
            if event.count > 100:
                raise
        else:
            yield Tell(event.show, f"seats {seats}")

    @applies
    def when_told(self, event: Told) -> None:
        self.told.append(event.text)


theatre = App(models=[Show, Host], name="theatre")


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return MemoryPlace() if request.param == "memory" else SqlitePlace(tmp_path)


async def test_what_the_handler_returns_is_the_receipts_answer() -> None:
    async with Engine(theatre, log="memory:") as engine:
        seats: tuple[int, ...] = (await engine.execute(Hold("a", 2))).answer
        assert seats == (1, 2)
        assert (await engine.execute(Plain("a"))).answer is None
        several = await engine.execute_many([Hold("a", 1), Hold("a", 9)])
        assert [getattr(each, "answer", each) for each in several] == [(3,), several[1]]
        assert isinstance(several[1], Rejected)


async def test_an_answer_is_its_callers_own_copy() -> None:
    async with Engine(theatre, log="memory:") as engine:
        await engine.execute(Plain("a"))
        looked = await engine.execute(Look("a"))
        assert (looked.answer, looked.events) == ([1, 2, 3, 4, 5], 0)
        looked.answer.clear()
        first = await engine.execute(Look("a"), command_id="look")
        first.answer.clear()
        again = await engine.execute(Look("a"), command_id="look")
        again.answer.append(9)
        third = await engine.execute(Look("a"), command_id="look")
        assert (third.answer, third.repeated) == ([1, 2, 3, 4, 5], True)


async def test_an_answer_of_the_wrong_type_is_the_handlers_failure_and_nothing_is_applied() -> None:
    async with Engine(theatre, log="memory:") as engine:
        await engine.execute(Plain("a"))
        with pytest.raises(HandlerFailed, match="its answer is not what Count promises: Expected `int`, got `str`"):
            await engine.execute(Count("a", "three"))
        with pytest.raises(HandlerFailed, match="float inf"):
            await engine.execute(Maybe("a", 1.0))
        assert (await engine.execute(Maybe("a", None))).answer is None
        assert (await engine.execute(Count("a", 7))).answer == 7
        assert engine.position == 3


async def test_an_answer_of_more_bytes_than_one_may_have_is_refused_and_nothing_is_applied() -> None:
    async with Engine(theatre, log="memory:", limits=Limits(answer_bytes_max=12)) as engine:
        assert (await engine.execute(Say("a", "x" * 10))).answer == "x" * 10
        with pytest.raises(AnswerTooLarge) as raised:
            await engine.execute(Say("a", "x" * 11), command_id="large")
        assert (raised.value.size_bytes, raised.value.answer_bytes_max, engine.position) == (13, 12, 1)
        with pytest.raises(AnswerTooLarge):
            engine.preview(Say("a", "x" * 11))


async def test_a_repeat_gets_the_answer_after_a_crash_and_from_a_snapshot(place: Place) -> None:
    ann = Metadata(actor="ann")
    async with Engine(theatre, log=place.log()) as engine:
        first = await engine.execute(Hold("a", 2), command_id="hold", metadata=ann)
        await engine.execute(Hold("a", 1), command_id="other")
        place.crash()
    for _ in ("from the log", "from the snapshot"):
        async with Engine(theatre, log=place.log()) as engine:
            again = await engine.execute(Hold("a", 2), command_id="hold", metadata=ann)
            assert again == msgspec.structs.replace(first, repeated=True)
            assert again.answer == (1, 2)
            with pytest.raises(CommandIdReused):
                await engine.execute(Hold("a", 2), command_id="hold", metadata=Metadata(actor="bob"))


async def test_the_way_back_to_format_1_says_how_many_answers_it_drops() -> None:
    place = MemoryPlace()
    async with Engine(theatre, log=place.log()) as engine:
        await engine.execute_many([Hold("a", 1), Plain("a"), Hold("a", 1)], command_ids=["1", "2", "3"])
    downgrade = Downgrade("theatre")
    for commit in place.store.commits:
        downgrade.take(commit)
    assert downgrade.dropped["answer"] == 2


async def test_an_answer_is_in_the_commit_beside_an_id_only() -> None:
    place = MemoryPlace()
    async with Engine(theatre, log=place.log()) as engine:
        await engine.execute_many([Hold("a", 1), Plain("a")])
        await engine.execute_many([Plain("a"), Hold("a", 2), Maybe("a", None)], command_ids=["p", "h", "m"])
    bodies = [msgspec.json.decode(commit.body) for commit in place.store.commits]
    assert [body.get("answers") for body in bodies] == [None, [None, [2, 3], None]]


def test_a_handler_that_promises_another_answer_than_its_command_is_a_definition_error() -> None:
    for model, problem in ((Wrong, "answers <class 'str'>"), (Silent, "says that it returns"), (Loud, "no answer")):
        with pytest.raises(DefinitionError, match=problem) as raised:
            App(models=[model])
        assert len(raised.value.places) == 2
    with pytest.raises(DefinitionError, match="does not say what its answer is"):
        App(models=[Unsure])
    App(models=[Same])


class Ask(Command[int]):
    pass


class Wrong(WriteModel):
    @handles
    def ask(self, command: Ask) -> Decision[str]:
        yield Came("a", 1)
        return "1"


class Silent(WriteModel):
    @handles
    def ask(self, command: Ask) -> Iterator[Event]:
        yield Came("a", 1)


class Loud(WriteModel):
    @handles
    def plain(self, command: Plain) -> Decision[int]:
        yield Came("a", 1)
        return 1


class Of(Command[T], Generic[T]):
    pass


class OfInt(Of[int]):
    pass


class Unsure(WriteModel):
    @handles
    def of(self, command: OfInt) -> Decision[int]:
        yield Came("a", 1)
        return 1


class Derived(Ask):
    pass


class Same(WriteModel):
    @handles
    def derived(self, command: Derived) -> Decision[int]:
        yield Came("a", 1)
        return 1

    @handles
    def plain(self, command: Plain) -> Decision:
        yield Came("a", 1)

    @applies
    def came(self, event: Came) -> None:
        pass


class Tomorrow(Command[int], tag="Hold"):
    """`Hold`, as another release of the application has it."""

    show: Key
    count: int


class LaterPlain(Command[int], tag="Plain"):
    show: Key


class Later(Aggregate):
    @handles
    def hold(self, command: Tomorrow) -> Decision[int]:
        yield Held(command.show, ())
        return 1

    @handles
    def plain(self, command: LaterPlain) -> Decision[int]:
        yield Held(command.show, ())
        return 1

    @applies
    def held(self, event: Held) -> None:
        pass


async def test_a_kept_answer_that_todays_type_cannot_read_is_an_error_that_holds_the_receipt(place: Place) -> None:
    async with Engine(theatre, log=place.log()) as engine:
        held = await engine.execute(Hold("a", 1), command_id="hold")
        await engine.execute(Plain("a"), command_id="plain")
    async with Engine(App(models=[Later], name="theatre"), log=place.log()) as engine:
        with pytest.raises(AnswerUnreadable, match="Expected `int`") as raised:
            await engine.execute(Tomorrow("a", 1), command_id="hold")
        assert raised.value.receipt == Receipt(held.commit, held.position, 1, "hold", 1, True)
        assert raised.value.position == held.position
        with pytest.raises(AnswerUnreadable, match="there was none then"):
            await engine.execute(LaterPlain("a"), command_id="plain")
        assert engine.position == 2


async def test_a_reaction_gets_the_answer_or_the_refusal_raised() -> None:
    async with Engine(theatre, log="memory:") as engine:
        assert (await engine.execute(Party("a", 2))).parked == 0
        assert (await engine.execute(Party("a", 9))).parked == 0
        assert (await engine.execute(Party("a", 101))).parked == 1, "a refusal that leaves a reaction parks it"
        host: Host = write_state(engine).models[1]
        assert host.told == ["seats (1, 2)", "sold_out", "sold_out"]


@pytest.mark.parametrize("check_purity", [False, True])
async def test_the_window_of_answers_has_so_many_bytes_live_replayed_and_from_a_snapshot(
    check_purity: bool, place: Place
) -> None:
    limits = Limits(receipts_bytes_max=100)
    async with Engine(theatre, log=place.log(), limits=limits, check_purity=check_purity) as engine:
        await engine.execute_many([Plain("a"), Plain("a")], command_ids=["p1", "p2"])
        texts = ["x" * 38, "y" * 38, "z" * 38]
        await engine.execute_many([Say("a", text) for text in texts], command_ids=["x", "y", "z"])
        live = [(id_, each.answer) for id_, each in write_state(engine).index.kept.items()]
        assert live == [("y", b'"%b"' % (b"y" * 38)), ("z", b'"%b"' % (b"z" * 38))]
        place.crash()
    for _ in ("replayed", "from the snapshot"):
        async with Engine(theatre, log=place.log(), limits=limits) as engine:
            assert [(id_, each.answer) for id_, each in write_state(engine).index.kept.items()] == live
    async with Engine(theatre, log=place.log()) as engine:  # the snapshot lacks what is to be remembered now
        assert list(write_state(engine).index.kept) == ["p1", "p2", "x", "y", "z"]
    smaller = Limits(receipts_bytes_max=50)
    async with Engine(theatre, log=place.log(), limits=smaller) as engine:
        assert list(write_state(engine).index.kept) == ["z"]


async def test_over_a_socket_an_answer_is_what_the_command_promises_and_a_repeat_gets_it(tmp_path: Path) -> None:
    async with (
        Engine(theatre, log="memory:") as engine,
        Server(engine, listen=[f"unix://{tmp_path}/m.sock"]) as server,
        Client(server.addresses[0]) as client,
    ):
        seats: tuple[int, ...] = (await client.execute(Hold("a", 2), command_id="h")).answer
        assert seats == (1, 2)
        again = await client.execute(Hold("a", 2), command_id="h")
        assert (again.answer, again.repeated) == ((1, 2), True)
        many = await client.execute_many([Hold("a", 1), Hold("b", 1)], command_ids=["m", "n"])
        assert [each.answer for each in many if isinstance(each, Receipt)] == [(3,), (1,)]
        assert (await client.execute(Plain("a"))).answer is None
        with pytest.raises(AnswerUnreadable, match="Expected `int`") as raised:
            await client.execute(Tomorrow("a", 1), command_id="later")
        assert (raised.value.receipt.command_id, raised.value.receipt.answer) == ("later", None)
        (several,) = await client.execute_many([Tomorrow("a", 1)], command_ids=["later"])
        assert isinstance(several, AnswerUnreadable)
        assert several.receipt.repeated


async def test_an_error_that_holds_a_receipt_holds_one_over_a_socket(tmp_path: Path) -> None:
    place = MemoryPlace()
    async with Engine(theatre, log=place.log()) as engine:
        held = await engine.execute(Hold("a", 1), command_id="hold")
    async with (
        Engine(App(models=[Later], name="theatre"), log=place.log()) as engine,
        Server(engine, listen=[f"unix://{tmp_path}/m.sock"]) as server,
        Client(server.addresses[0]) as client,
    ):
        with pytest.raises(AnswerUnreadable) as raised:
            await client.execute(Tomorrow("a", 1), command_id="hold")
        (told,) = await client.execute_many([Tomorrow("a", 1)], command_ids=["hold"])
        assert isinstance(told, AnswerUnreadable)
        assert raised.value.receipt == told.receipt == Receipt(held.commit, held.position, 1, "hold", 1, True)


def test_the_program_shows_an_answer(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    run, socket = program(capsysbinary), f"unix://{tmp_path}/m.sock"
    with served(theatre, tmp_path / "t.db", tmp_path / "m.sock"):
        ran = run("execute", "Hold", "show=a", "count:=2", "--address", socket)
        assert (ran.code, ran.out.splitlines()[-1]) == (0, "[1,2]")
        assert run("execute", "Hold", "show=a", "count:=1", "--json", "--address", socket).values["answer"] == [3]


def test_what_commands_promise_is_described() -> None:
    answers = describe(theatre)["x-answers"]
    assert answers["Hold"] == {"type": "array", "items": {"type": "integer"}}
    assert "Plain" not in answers
