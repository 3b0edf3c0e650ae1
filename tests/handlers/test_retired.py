"""Events that are stored no more: what older versions of an application wrote, and what it means today."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from millstream.engine import (
    App,
    Command,
    Engine,
    Event,
    EventsUnreadable,
    Key,
    Limits,
    MemoryLog,
    Query,
    VersionConflict,
)
from millstream.engine.stores.memory import MemoryStore
from millstream.handlers import Retired, WriteModel, applies, handles
from millstream.views import View, answers
from tests.stores import MemoryPlace, Place, SqlitePlace
from tests.support import engine_state, published, settled, views_of

pytestmark = pytest.mark.anyio


# The application as it was.


class Sell(Command):
    shop: Key
    what: str
    euros: int


class Sold(Event):
    shop: Key
    what: str
    euros: int


class Greeted(Event):
    shop: Key


class Moved(Event):
    shop: Key
    to: str


class Before(WriteModel):
    @handles
    def sell(self, command: Sell) -> Iterator[Event]:
        yield Greeted(command.shop)
        yield Sold(command.shop, command.what, command.euros)
        if command.what == "all":
            yield Moved(command.shop, "elsewhere")

    @applies
    def sold(self, event: Sold) -> None: ...

    @applies
    def greeted(self, event: Greeted) -> None: ...

    @applies
    def moved(self, event: Moved) -> None: ...


before = App(models=[Before], name="shops")


# And as it is.


class SellToday(Command, tag="Sell"):
    shop: Key
    what: str
    cents: int


class Invoiced(Event):
    shop: Key
    cents: int


class Shipped(Event):
    shop: Key
    what: str


class History(Query[tuple[str, ...]]):
    pass


class Books(WriteModel):
    cents: dict[str, int] = {}

    @handles
    def sell(self, command: SellToday) -> Iterator[Event]:
        yield Invoiced(command.shop, command.cents)
        yield Shipped(command.shop, command.what)

    @applies
    def invoiced(self, event: Invoiced) -> None:
        self.cents[event.shop] = self.cents.get(event.shop, 0) + event.cents

    @applies
    def shipped(self, event: Shipped) -> None: ...


class Told(View):
    told: list[str] = []

    @applies
    def invoiced(self, event: Invoiced) -> None:
        self.told.append(f"{event.shop} invoiced {event.cents}")

    @applies
    def shipped(self, event: Shipped) -> None:
        self.told.append(f"{event.shop} shipped {event.what}")

    @answers
    def history(self, query: History) -> tuple[str, ...]:
        return tuple(self.told)


class SoldInEuros(Retired, tag="Sold"):
    """One stored event is two of today's."""

    shop: Key
    what: str
    euros: int

    def upcast(self) -> Iterator[Event]:
        yield Invoiced(self.shop, self.euros * 100)
        yield Shipped(self.shop, self.what)


class NoGreeting(Retired, tag="Greeted"):
    """Means nothing any more; its field is not even named."""


class Relocated(Retired):
    """Was never stored by this name alone: what `OldMoved` becomes, on its way to today."""

    shop: Key
    target: str

    def upcast(self) -> Iterable[Event]:
        return [Shipped(self.shop, "itself"), Shipped(self.shop, f"the rest to {self.target}")]


class OldMoved(Retired, tag="Moved"):
    shop: Key
    to: str

    def upcast(self) -> Iterator[Relocated]:
        yield Relocated(self.shop, self.to)


RETIRED: list[type[Retired]] = [SoldInEuros, NoGreeting, OldMoved, Relocated]
today = App(models=[Books], views=[Told], retired=RETIRED, name="shops")

TOLD = (
    "a invoiced 300",
    "a shipped tea",
    "b invoiced 500",
    "b shipped all",
    "b shipped itself",
    "b shipped the rest to elsewhere",
)


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return MemoryPlace() if request.param == "memory" else SqlitePlace(tmp_path)


async def written(place: Place) -> None:
    """Five stored events, as the application was."""
    async with Engine(before, log=place.log()) as engine:
        first = await engine.execute(Sell("a", "tea", 3), command_id="one")
        second = await engine.execute(Sell("b", "all", 5), command_id="two")
        assert (first.position, first.version, second.position, second.version) == (2, 2, 5, 3)


async def test_models_and_views_see_what_stored_events_mean_today(place: Place) -> None:
    await written(place)
    async with Engine(today, log=place.log()) as engine:
        assert await engine.ask(History()) == TOLD
        assert engine_state(engine)[0][0] == Books({"a": 300, "b": 500})


async def test_positions_and_versions_are_those_of_what_is_stored(place: Place) -> None:
    await written(place)
    async with Engine(today, log=place.log()) as engine:
        assert engine.stats().writer.position == 5
        assert engine_state(engine)[0][1] == {"a": 2, "b": 3}
        with pytest.raises(VersionConflict) as raised:
            await engine.execute(SellToday("a", "tea", 50), expected_version=4)
        assert raised.value.actual == 2
        receipt = await engine.execute(SellToday("a", "tea", 50), expected_version=2)
        assert (receipt.position, receipt.version, receipt.commit) == (7, 4, 3)
        assert await engine.ask(History(), after=receipt) == (*TOLD, "a invoiced 50", "a shipped tea")
        assert engine.stats().views["Told"].position == 7


async def test_a_command_of_the_old_application_is_still_known_by_its_id(place: Place) -> None:
    await written(place)
    async with Engine(today, log=place.log()) as engine:
        (_, one), (_, two) = engine_state(engine)[0][2]
        assert (one.command_id, one.position, one.version, one.events) == ("one", 2, 2, 2)
        assert (two.command_id, two.position, two.version, two.events) == ("two", 5, 3, 3)


async def test_what_lives_is_what_a_replay_gives_with_and_without_snapshots(place: Place) -> None:
    await written(place)
    async with Engine(today, log=place.log()) as engine:
        await engine.execute(SellToday("a", "tea", 50))
        await engine.execute(SellToday("c", "milk", 70), command_id="three")
        await engine.ask(History(), after=9)
        was = engine_state(engine)
    for snapshots in (True, False):
        async with Engine(today, log=place.log(), snapshots=snapshots) as engine:
            assert engine_state(engine) == was
            assert engine.stats().writer.position == 9


async def test_an_application_that_stores_nothing_old_any_more_opens_with_retired_events_too() -> None:
    store = MemoryStore()
    for _ in range(2):
        async with Engine(today, log=MemoryLog(store)) as engine:
            await engine.execute(SellToday("a", "tea", 50))
    assert len(store.commits) == 2


async def test_a_view_that_reads_on_from_the_log_sees_todays_events() -> None:
    store, limits = MemoryStore(), Limits(view_queue_commits_max=1)
    place = MemoryPlace()
    place.store = store
    await written(place)
    async with Engine(today, log=MemoryLog(store), limits=limits) as engine:
        view = views_of(engine)[0]
        view.read.reset()
        view.resync(published(engine))
        await settled()
        assert view.read.head.position == 5
        assert await engine.ask(History()) == TOLD


# What can't be understood.


class Raises(Retired, tag="Sold"):
    def upcast(self) -> Iterator[Event]:
        raise LookupError("who bought it?")


class RaisesLater(Retired, tag="Sold"):
    shop: Key

    def upcast(self) -> Iterator[Event]:
        yield Invoiced(self.shop, 1)
        raise LookupError("who bought it?")


class YieldsGarbage(Retired, tag="Sold"):
    def upcast(self) -> Iterator[Any]:
        yield "two teas"


class YieldsWrongTypes(Retired, tag="Sold"):
    shop: Key

    def upcast(self) -> Iterator[Event]:
        yield Invoiced(self.shop, "300")  # type: ignore[arg-type]


class Stray(Event):
    """No model applies it."""


class YieldsStray(Retired, tag="Sold"):
    def upcast(self) -> Iterator[Event]:
        yield Stray()


class YieldsUnlisted(Retired, tag="Sold"):
    def upcast(self) -> Iterator[Retired]:
        yield Raises()


class ReturnsNothing(Retired, tag="Sold"):
    def upcast(self) -> Iterator[Event]:
        return None  # type: ignore[return-value]


class Circles(Retired, tag="Sold"):
    def upcast(self) -> Iterator[Retired]:
        yield self


@pytest.mark.parametrize(
    ("sold", "problem"),
    [
        (Raises, "LookupError('who bought it?')"),
        (RaisesLater, "LookupError('who bought it?')"),
        (YieldsGarbage, "Expected `object`, got `str`"),
        (YieldsWrongTypes, "Expected `int`, got `str`"),
        (YieldsStray, "Invalid value 'Stray'"),
        (YieldsUnlisted, "Invalid value 'Sold'"),
        (ReturnsNothing, "'NoneType' object is not iterable"),
        (Circles, "RecursionError"),
    ],
)
async def test_an_upcast_that_fails_keeps_the_engine_from_opening_and_is_named(
    place: Place, sold: type[Retired], problem: str
) -> None:
    await written(place)
    app = App(models=[Books], retired=[sold, NoGreeting, OldMoved, Relocated], name="shops")
    with pytest.raises(EventsUnreadable) as raised:
        async with Engine(app, log=place.log()):
            pass
    (found,) = raised.value.events
    assert (found.type, found.count, found.commit, found.position, found.known) == ("Sold", 2, 1, 2, True)
    assert found.problem.startswith(f"tests.handlers.test_retired.{sold.__name__}.upcast failed: ")
    assert problem in found.problem
    assert f"{sold.__name__}.upcast failed" in str(raised.value)


async def test_a_stored_event_that_lacks_what_its_class_names_is_told_with_its_field(place: Place) -> None:
    class SoldWithTax(Retired, tag="Sold"):
        shop: Key
        tax: int

    await written(place)
    app = App(models=[Books], retired=[SoldWithTax, NoGreeting, OldMoved, Relocated], name="shops")
    with pytest.raises(EventsUnreadable) as raised:
        async with Engine(app, log=place.log()):
            pass
    assert [str(event) for event in raised.value.events] == [
        "'Sold' does not fit its class (Object missing required field `tax`): 2 of them, the first at position 2"
    ]


async def test_by_default_a_retired_event_means_nothing() -> None:
    assert list(NoGreeting().upcast()) == []
    assert list(Retired().upcast()) == []


def test_a_retired_event_can_be_tried_without_an_engine() -> None:
    assert list(SoldInEuros("a", "tea", 3).upcast()) == [Invoiced("a", 300), Shipped("a", "tea")]
    with pytest.raises(AttributeError, match="immutable"):
        SoldInEuros("a", "tea", 3).euros = 4  # type: ignore[misc]
