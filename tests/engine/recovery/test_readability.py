"""A log read with today's classes: what is in it, and everything that can't be read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from millstream.engine import App, Engine, Event, EventsUnreadable, LogCorrupt, MemoryLog, UnreadableEvent
from millstream.engine.commits.commit import Commit, Head
from millstream.engine.loop.slices import Slicer
from millstream.engine.recovery.readability import Readability, check_events
from millstream.engine.stores.memory import MemoryStore
from millstream.engine.upkeep import attached
from millstream.handlers import Retired, WriteModel, applies
from tests.shop import Add, Added, Book, Break, Move, Note, Noted, Nothing, Stock, shop
from tests.stores import MemoryPlace, Place, SqlitePlace
from tests.support import Row, sealed_rows

pytestmark = pytest.mark.anyio


class Few(WriteModel):
    """Knows two of the shop's events."""

    items: int = 0

    @applies
    def added(self, event: Added) -> None:
        self.items += 1

    @applies
    def noted(self, event: Noted) -> None: ...


few = App(models=[Few], name="shop")


class AddedOnce(Event, tag="Added"):
    """Today's event of that name has another field."""

    item: str
    count: int
    shelf: str


class Strict(WriteModel):
    @applies
    def added(self, event: AddedOnce) -> None: ...


class OldTaken(Retired, tag="Taken"):
    pass


class OldBroken(Retired, tag="Broken"):
    how: str

    def upcast(self) -> Iterator[Event]:
        raise ArithmeticError(self.how)


COMMANDS = [Add("a", 1), Note("one"), Nothing("a"), Move("a", "b"), Break("fine"), Add("c", 3), Note("two"), Break("x")]
TYPES = {"Added": 3, "Noted": 2, "Taken": 1, "Broken": 2}


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return MemoryPlace() if request.param == "memory" else SqlitePlace(tmp_path)


async def written(place: Place) -> None:
    """Eight commits with eight events."""
    async with Engine(shop, log=place.log()) as engine:
        for command in COMMANDS:
            await engine.execute(command, command_id=type(command).__name__ if isinstance(command, Nothing) else None)


async def checked(place: Place, app: App, **options: Any) -> Readability:
    async with attached(place.log()) as (log, application):
        assert application == "shop"
        return await check_events(log, app, **options)


def log_of(*bodies: Sequence[dict[str, Any]]) -> MemoryLog:
    """A log whose commits hold these events, one command each."""
    head, commits = Head(), list[Commit]()
    for events in bodies:
        record = Row("Do", events=msgspec.Raw(msgspec.json.encode(events)))
        commit = sealed_rows(head, "2026-01-01T00:00:00.000000Z", [record])
        commits.append(commit)
        head = Head(commit.number, commit.position - 1 + len(events), commit.recorded_at, commit.digest)
    return MemoryLog(MemoryStore(commits, "shop"))


async def test_an_application_that_reads_everything_has_nothing_unreadable(place: Place) -> None:
    await written(place)
    assert await checked(place, shop) == Readability(commits=8, events=8, types=TYPES, unreadable=[])


async def test_an_empty_log_has_nothing_in_it(place: Place) -> None:
    async with Engine(shop, log=place.log()):
        pass
    assert await checked(place, shop) == Readability(commits=0, events=0, types={}, unreadable=[])


async def test_unknown_events_are_counted_by_type_with_the_first_of_each(place: Place) -> None:
    await written(place)
    found = await checked(place, few)
    assert (found.commits, found.events, found.types) == (8, 8, TYPES)
    assert [(each.type, each.count, each.commit, each.position, each.known) for each in found.unreadable] == [
        ("Taken", 1, 4, 3, False),
        ("Broken", 2, 5, 5, False),
    ]
    assert [each.problem for each in found.unreadable] == [
        "Invalid value 'Taken' - at `$.type`",
        "Invalid value 'Broken' - at `$.type`",
    ]


async def test_events_that_do_not_fit_their_class_are_told_with_what_does_not_fit(place: Place) -> None:
    await written(place)
    found = await checked(place, App(models=[Strict], name="shop"))
    assert found.unreadable[0] == UnreadableEvent(
        type="Added", count=3, commit=1, position=1, known=True, problem="Object missing required field `shelf`"
    )
    assert [str(each) for each in found.unreadable] == [
        "'Added' does not fit its class (Object missing required field `shelf`): 3 of them, the first at position 1",
        "'Noted' is not known: 2 of them, the first at position 2",
        "'Taken' is not known: 1 of them, the first at position 3",
        "'Broken' is not known: 2 of them, the first at position 5",
    ]


async def test_retired_events_are_readable_unless_their_upcast_fails(place: Place) -> None:
    await written(place)
    found = await checked(place, App(models=[Few], retired=[OldTaken, OldBroken], name="shop"))
    assert found.types == TYPES
    (broken,) = found.unreadable
    assert (broken.type, broken.count, broken.position, broken.known) == ("Broken", 2, 5, True)
    assert broken.problem == "tests.engine.recovery.test_readability.OldBroken.upcast failed: ArithmeticError('fine')"


async def test_an_upcast_that_fails_beside_an_unknown_event_in_one_commit_is_told_too() -> None:
    log = log_of([{"type": "Unknown"}, {"type": "Broken", "how": "a"}, {"type": "Added", "item": "a", "count": 1}])
    found = await check_events(log, App(models=[Few], retired=[OldBroken], name="shop"))
    assert [(each.type, each.position) for each in found.unreadable] == [("Unknown", 1), ("Broken", 2)]
    assert found.types == {"Unknown": 1, "Broken": 1, "Added": 1}


@pytest.mark.parametrize("event", [{}, {"type": 5}, {"type": None}, {"type": ["Added"]}])
async def test_an_event_without_a_name_is_told_as_it_is(event: dict[str, Any]) -> None:
    found = await check_events(log_of([event]), shop)
    (problem,) = found.unreadable
    assert (problem.type, problem.known, problem.position) == (str(event.get("type")), False, 1)
    assert found.types == {str(event.get("type")): 1}


async def test_a_survey_may_begin_later(place: Place) -> None:
    await written(place)
    found = await checked(place, few, after=5)
    assert (found.commits, found.events, found.types) == (3, 3, {"Added": 1, "Noted": 1, "Broken": 1})
    assert [(each.type, each.position) for each in found.unreadable] == [("Broken", 8)]


@pytest.mark.parametrize("read_bytes_max", [1, 400, 1_000_000])
async def test_pages_of_any_size_give_the_same_survey(place: Place, read_bytes_max: int) -> None:
    await written(place)
    found = await checked(place, few, read_bytes_max=read_bytes_max, slicer=Slicer(1e-9))
    assert found == await checked(place, few)
    assert found.commits == 8


async def test_a_survey_changes_nothing_and_goes_on_beside_a_writer(tmp_path: Path) -> None:
    place = SqlitePlace(tmp_path)
    await written(place)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    await checked(place, few)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    async with Engine(shop, log=place.log()) as engine:
        await engine.execute(Add("a", 1))
        async with attached(place.path) as (log, _):
            assert (await check_events(log, shop)).commits == 9
            await engine.execute(Add("a", 1))
            assert (await check_events(log, shop)).commits == 10


async def test_a_body_that_is_no_array_of_commands_is_damage(tmp_path: Path) -> None:
    place = SqlitePlace(tmp_path)
    await written(place)
    db = sqlite3.connect(place.path)
    db.execute("""UPDATE commits SET body = '{"type": "Add"}' WHERE number = 3""")
    db.commit()
    db.close()
    with pytest.raises(LogCorrupt, match="is damaged at commit 3: its body is not that of a commit"):
        await checked(place, shop)


# A failed opening tells the same.


async def test_opening_names_every_kind_of_event_that_can_not_be_read_in_the_whole_log(place: Place) -> None:
    await written(place)
    with pytest.raises(EventsUnreadable) as raised:
        async with Engine(few, log=place.log()):
            pass
    assert raised.value.events == (await checked(place, few)).unreadable
    assert (raised.value.app, len(raised.value.events)) == ("shop", 2)
    assert "'Taken' is not known: 1 of them, the first at position 3; 'Broken' is not known: 2 of them" in str(
        raised.value
    )


async def test_opening_counts_also_what_is_before_the_snapshot(place: Place) -> None:
    whole = App(models=[Stock, Book], name="shop")
    async with Engine(whole, log=place.log()) as engine:
        for command in COMMANDS:
            await engine.execute(command, command_id=type(command).__name__ if isinstance(command, Nothing) else None)
    async with Engine(whole, log=place.log(), snapshots=False) as engine:
        await engine.execute(Add("a", 1))
        await engine.execute(Break("after the snapshot"))
    with pytest.raises(EventsUnreadable) as raised:
        async with Engine(App(models=[Stock], name="shop"), log=place.log()):
            pass
    found = [(each.type, each.count, each.position) for each in raised.value.events]
    assert found == [("Noted", 2, 2), ("Broken", 3, 5)]


async def test_unknown_events_that_are_all_in_a_snapshot_are_found_by_a_survey_and_by_a_replay(place: Place) -> None:
    async with Engine(App(models=[Stock, Book], name="shop"), log=place.log()) as engine:
        for command in COMMANDS:
            await engine.execute(command, command_id=type(command).__name__ if isinstance(command, Nothing) else None)
    stock = App(models=[Stock], name="shop")
    async with Engine(stock, log=place.log()) as engine:
        await engine.execute(Add("a", 1))
    assert [each.type for each in (await checked(place, stock)).unreadable] == ["Noted", "Broken"]
    with pytest.raises(EventsUnreadable, match="'Noted' is not known: 2 of them, the first at position 2"):
        async with Engine(stock, log=place.log(), snapshots=False):
            pass


async def test_what_is_declared_as_retired_opens(place: Place) -> None:
    class Gone(Retired, tag="Broken"):
        pass

    await written(place)
    app = App(models=[Few], views=[], retired=[OldTaken, Gone], name="shop")
    async with Engine(app, log=place.log()) as engine:
        assert engine.stats().writer.position == 8
