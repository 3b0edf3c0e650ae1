"""Aggregates: one instance for each key, beside models that see all keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from millstream.engine import (
    App,
    Command,
    Context,
    DefinitionError,
    Engine,
    Event,
    HandlerFailed,
    ImpureHandler,
    Key,
    Observer,
    Query,
    Receipt,
    VersionConflict,
)
from millstream.engine.snapshots.shape import fingerprint_of, fits
from millstream.handlers import Aggregate, Rejected, WriteModel, applies, handles
from millstream.views import View, answers
from tests.stores import MemoryPlace, Place, SqlitePlace
from tests.support import write_state

pytestmark = pytest.mark.anyio


class Open(Command):
    show: Key
    seats: int


class Hold(Command):
    show: Key
    order: str


class Swap(Command):
    """Yields an event that is not the show's."""

    show: Key
    other: str


class Close(Command):
    show: Key


class Sell(Command):
    order: Key
    show: str


class Opened(Event):
    show: Key
    seats: int


class Held(Event):
    show: Key
    seat: int
    order: str


class Closed(Event):
    show: Key


class Sold(Event):
    order: Key
    show: str


class Seat(msgspec.Struct):
    number: int
    order: str | None = None


class Show(Aggregate):
    ends: ClassVar = (Closed,)
    seats: list[Seat] = []
    versions: list[int | None] = []

    @handles
    def open(self, command: Open, context: Context) -> Iterator[Event]:
        if context.version:
            raise Rejected("open", f"{command.show} has {context.version} events", {"seats": len(self.seats)})
        yield Opened(command.show, command.seats)

    @handles
    def hold(self, command: Hold) -> Iterator[Event]:
        if command.order == "vandal":
            self.seats.append(Seat(-1))
        free = [seat.number for seat in self.seats if seat.order is None]
        if not free:
            raise Rejected("sold_out", f"{command.show} is sold out")
        yield Held(command.show, free[0], command.order)

    @handles
    def swap(self, command: Swap) -> Iterator[Event]:
        yield Opened(command.other, 1)

    @handles
    def close(self, command: Close) -> Iterator[Event]:
        yield Closed(command.show)

    @applies
    def opened(self, event: Opened) -> None:
        self.seats += [Seat(number) for number in range(event.seats)]

    @applies
    def held(self, event: Held) -> None:
        self.seats[event.seat].order = event.order


class Orders(WriteModel):
    """Sees all orders, and what is held for them."""

    held: dict[str, int] = {}

    @handles
    def sell(self, command: Sell) -> Iterator[Event]:
        if command.order not in self.held:
            raise Rejected("not_held", command.order)
        yield Sold(command.order, command.show)

    @applies
    def when_held(self, event: Held) -> None:
        self.held[event.order] = self.held.get(event.order, 0) + 1


class Sales(Query[int]):
    pass


class Counter(View):
    sold: int = 0

    @applies
    def when_sold(self, event: Sold) -> None:
        self.sold += 1

    @answers
    def sales(self, query: Sales) -> int:
        return self.sold


theatre = App(models=[Show, Orders], views=[Counter], name="theatre")


def instances(engine: Engine) -> dict[str, Show]:
    held: dict[str, Show] = write_state(engine).models[0].instances
    return held


class Opening(Observer):
    """Remembers how many events an engine replayed."""

    replayed = -1

    def opened(self, *, log: str, app: str, commits: int, events: int, replayed: int, seconds: float) -> None:
        self.replayed = replayed


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return MemoryPlace() if request.param == "memory" else SqlitePlace(tmp_path)


async def test_each_key_has_an_instance_of_its_own_from_its_first_event_on(place: Place) -> None:
    async with Engine(theatre, log=place.log()) as engine:
        with pytest.raises(Rejected, match="sold out"):
            await engine.execute(Hold("a", "o1"))
        assert instances(engine) == {}, "a command that is refused makes none"
        await engine.execute(Open("a", 2))
        await engine.execute(Open("b", 1))
        receipt = await engine.execute(Hold("a", "o1"))
        assert (receipt.version, receipt.events) == (2, 1)
        assert instances(engine) == {"a": Show([Seat(0, "o1"), Seat(1)]), "b": Show([Seat(0)])}
        assert await engine.ask(Sales(), after=await engine.execute(Sell("o1", "a"))) == 1, "both kinds in one app"


async def test_what_an_aggregate_holds_is_the_same_after_a_crash_and_from_a_snapshot(place: Place) -> None:
    async with Engine(theatre, log=place.log()) as engine:
        for show in ("a", "b", "c"):
            await engine.execute(Open(show, 3))
            await engine.execute(Hold(show, f"order of {show}"))
        await engine.execute(Close("b"))
        live = dict(instances(engine))
        place.crash()
    async with Engine(theatre, log=place.log()) as engine:
        assert instances(engine) == live, "from the log"
    opening = Opening()
    async with Engine(theatre, log=place.log(), observers=[opening]) as engine:
        assert (instances(engine), opening.replayed) == (live, 0), "from the snapshot"
        await engine.execute(Hold("a", "another"))
        assert [seat.order for seat in instances(engine)["a"].seats] == ["order of a", "another", None]


async def test_an_instance_is_let_go_of_after_an_event_that_ends_it_and_its_version_goes_on() -> None:
    async with Engine(theatre, log="memory:") as engine:
        await engine.execute(Open("a", 1))
        assert (await engine.execute(Close("a"))).version == 2
        assert instances(engine) == {}
        with pytest.raises(Rejected, match="a has 2 events") as refused:
            await engine.execute(Open("a", 1))
        assert refused.value.details == {"seats": 0}, "a new instance decides"
        with pytest.raises(VersionConflict):
            await engine.execute(Close("a"), expected_version=0)


async def test_an_event_of_another_key_fails_its_command_and_nothing_of_it_is_applied() -> None:
    async with Engine(theatre, log="memory:") as engine:
        with pytest.raises(HandlerFailed, match=r"Show\.swap.*Opened of key 'b' for a command of key 'a'"):
            await engine.execute(Swap("a", "b"))
        with pytest.raises(HandlerFailed, match="Opened of key 'b'"):
            engine.preview(Swap("a", "b"))
        assert instances(engine) == {}
        assert (await engine.execute(Swap("a", "a"))).position == 1


async def test_a_handler_that_changes_an_instance_is_found_whether_its_key_has_events_or_not() -> None:
    async with Engine(theatre, log="memory:", check_purity=True) as engine:
        with pytest.raises(ImpureHandler, match=r"Show\.hold"):
            await engine.execute(Hold("a", "vandal"))
        await engine.execute(Open("a", 1))
        with pytest.raises(ImpureHandler, match=r"Show\.hold"):
            await engine.execute(Hold("a", "vandal"))
        await engine.execute(Hold("a", "o1"))
        assert instances(engine) == {"a": Show([Seat(0, "o1")])}


async def test_a_preview_says_what_version_it_would_be_decided_at() -> None:
    async with Engine(theatre, log="memory:") as engine:
        assert engine.preview(Open("a", 1)) == [Opened("a", 1)]
        await engine.execute(Open("a", 1))
        with pytest.raises(Rejected, match="a has 1 events"):
            engine.preview(Open("a", 1))


class Stamp(Command):
    key: Key


class Toll(Command):
    text: str


class Stamped(Event):
    key: Key
    version: int | None


class Office(WriteModel):
    versions: list[int | None] = []

    @handles
    def stamp(self, command: Stamp, context: Context) -> Iterator[Event]:
        yield Stamped(command.key, context.version)
        yield Stamped(command.key, context.version)

    @handles
    def toll(self, command: Toll, context: Context) -> Iterator[Event]:
        yield Stamped(command.text, context.version)

    @applies
    def stamped(self, event: Stamped) -> None:
        self.versions.append(event.version)


async def test_a_context_says_the_version_of_its_commands_key_to_models_too() -> None:
    async with Engine(App(models=[Office]), log="memory:") as engine:
        await engine.execute_many([Stamp("a"), Stamp("a"), Toll("a"), Stamp("b")])
        assert write_state(engine).models[0].versions == [0, 0, 2, 2, None, 0, 0]


def refused(*places: str, **body: Any) -> str:
    with pytest.raises(DefinitionError) as raised:
        App(models=[type("Wrong", (Aggregate,), {"__module__": __name__, **body})])
    for place in places:
        assert place in str(raised.value)
    return str(raised.value)


class Keyless(Command):
    text: str


class Told(Event):
    text: str


def take_keyless(self: Any, command: Keyless) -> Iterator[Event]:
    yield Closed(command.text)


def when_told(self: Any, event: Told) -> None: ...


@pytest.mark.parametrize(
    ("method", "message"),
    [(handles(take_keyless), "Keyless"), (applies(when_told), "Told")],
)
def test_a_message_without_a_key_is_refused_with_both_places(method: Any, message: str) -> None:
    assert f"{message} has no Key field" in refused(f"{__name__}.{message}", method.__name__, method=method)


@pytest.mark.parametrize("ends", [Closed, [Closed], (Close,), (Event,), ("Closed",)])
def test_ends_that_are_no_events_are_refused(ends: Any) -> None:
    assert "ends" in refused("Wrong", ends=ends)


def test_a_snapshot_of_a_model_is_none_of_an_aggregate_and_the_other_way_round() -> None:
    class Model(WriteModel):
        @applies
        def closed(self, event: Closed) -> None: ...

    class ByKey(Aggregate):
        @applies
        def closed(self, event: Closed) -> None: ...

    class Ending(Aggregate):
        ends: ClassVar = (Closed,)

    prints = [fingerprint_of(side) for side in (Model, ByKey, Ending)]
    assert [(a, b) for a in range(3) for b in range(3) if a != b and fits(prints[a], prints[b])] == []


async def test_receipts_of_an_aggregate_are_found_again_by_id(place: Place) -> None:
    async with Engine(theatre, log=place.log()) as engine:
        first = await engine.execute(Open("a", 1), command_id="open a")
        place.crash()
    async with Engine(theatre, log=place.log()) as engine:
        again = await engine.execute(Open("a", 1), command_id="open a")
    assert again == Receipt(first.commit, first.position, 1, "open a", 1, repeated=True)
