"""What is told about an event: the same whenever it is applied, to every side that asks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Literal

import msgspec
import pytest

from millstream.engine import (
    About,
    App,
    Command,
    DefinitionError,
    Engine,
    Event,
    Key,
    Limits,
    Metadata,
    Query,
    Replica,
)
from millstream.engine.stores.events import stored_events
from millstream.engine.testing import Scenario
from millstream.handlers import Aggregate, Reaction, Retired, Schedule, WriteModel, handles, reacts
from millstream.views import View, answers, applies
from tests.stores import MemoryPlace, Place, SqlitePlace
from tests.support import views_of, write_state

pytestmark = pytest.mark.anyio

LATER = timedelta(minutes=10)


class Opened(Event):
    door: Key
    by: str = ""


class Rang(Event):
    text: str


class Open(Command):
    door: Key
    times: int = 1


class Ring(Command):
    text: str


class Told(Query[list[tuple[str, About]]]):
    pass


class Doors(Aggregate):
    told: list[About] = []

    @handles
    def open(self, command: Open) -> Iterator[Event | Schedule]:
        for time in range(command.times):
            yield Opened(command.door, str(time))
        if command.times == 3:
            yield Schedule(Ring("late"), after=LATER, name="ring")

    @applies
    def opened(self, event: Opened, about: About) -> None:
        self.told.append(about)
        if about.extra is not None:
            about.extra["changed"] = "by the model"


class Bells(WriteModel):
    told: list[tuple[str, About]] = []
    plain: int = 0

    @handles
    def ring(self, command: Ring) -> Iterator[Event]:
        yield Rang(command.text)

    @applies
    def rang(self, event: Rang, about: About) -> None:
        self.told.append((event.text, about))

    @applies
    def opened(self, event: Opened) -> None:
        self.plain += 1

    @reacts
    def hear(self, event: Opened) -> Reaction:
        if event.by == "1":
            yield Ring(f"second of {event.door}")


class Diary(View):
    told: list[tuple[str, About]] = []
    plain: int = 0

    @applies
    def opened(self, event: Opened, about: About) -> None:
        self.told.append((event.by, about))
        if about.extra is not None:
            about.extra["changed"] = "by the view"

    @applies
    def rang(self, event: Rang, about: About) -> None:
        self.told.append((event.text, about))

    @answers
    def all(self, query: Told) -> list[tuple[str, About]]:
        return self.told


class Second(Query[list[About]]):
    pass


class Copy(View):
    """Another view that asks: what the first one changes is not seen here."""

    told: list[About] = []

    @applies
    def opened(self, event: Opened, about: About) -> None:
        self.told.append(about)

    @answers
    def all(self, query: Second) -> list[About]:
        return self.told


house = App(models=[Doors, Bells], views=[Diary, Copy], name="house")
KNOWN = Metadata("ann", "c-1", "mail-7", "00-aa-bb-01", {"till": "3"})


async def told_by_the_log(engine: Engine) -> list[dict[str, Any]]:
    """The same from the log itself, by the code that `log show` uses."""
    names = [name for name in About.__struct_fields__ if name != "recorded_at"]
    return [
        {**{name: getattr(each, name) for name in names}, "recorded_at": datetime.fromisoformat(each.recorded_at)}
        async for each in stored_events(engine.log)
    ]


async def use(engine: Engine) -> None:
    await engine.execute(Open("front"), command_id="o-1", metadata=KNOWN)
    await engine.execute(Open("back", times=2), metadata=Metadata("bob"))  # rings, by a reaction
    await engine.execute_many([Ring("hello"), Open("front", times=3), Open("back")])
    await engine.agenda.fire_now("timer:ring@front")


def without_changes(about: About) -> dict[str, Any]:
    told = msgspec.structs.asdict(about)
    if told["extra"] is not None:
        told["extra"] = {name: text for name, text in told["extra"].items() if name != "changed"}
    return told


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_it_is_what_the_log_says_whenever_the_event_is_applied(kind: str, tmp_path: Any) -> None:
    place: Place = MemoryPlace() if kind == "memory" else SqlitePlace(tmp_path)
    async with Engine(house, log=place.log(), snapshots=False) as engine:
        await use(engine)
        log = await told_by_the_log(engine)
        live = await engine.ask(Told(), after=engine.position)
        model = engine_models(engine)
        assert [without_changes(about) for _, about in live] == log
        assert [about.position for _, about in live] == list(range(1, len(log) + 1))
        assert [(about.command, about.actor, about.causation) for text, about in live if "second" in text] == [
            ("Ring", "bob", "event:3"),
            ("Ring", None, "event:7"),
        ]
        assert [about.causation for text, about in live if text == "late"] == ["timer:ring"]
        assert {about.recorded_at.tzinfo for _, about in live} == {UTC}
        first = live[0][1]
        assert (first.key, first.command_id, first.correlation, first.trace) == ("front", "o-1", "c-1", "00-aa-bb-01")
        assert first.extra == {"till": "3", "changed": "by the view"}, "what it holds is the view's own"
        assert (await engine.ask(Second(), after=engine.position))[0].extra == {"till": "3"}
        assert model[0].instances["front"].told[0].extra == {"till": "3", "changed": "by the model"}
    async with Engine(house, log=place.log(), snapshots=False) as engine:
        assert await engine.ask(Told()) == live
        assert engine_models(engine) == model
    if kind == "sqlite":
        async with Engine(house, log=place.log()) as engine, Replica(house, log=place.log()) as replica:
            assert await replica.ask(Told()) == live
            receipt = await engine.execute(Open("late"), metadata=KNOWN)
            assert await replica.ask(Told(), after=receipt) == await engine.ask(Told(), after=receipt)


def engine_models(engine: Engine) -> list[Any]:
    return list(write_state(engine).models)


async def test_a_view_that_was_detached_is_told_the_same_from_the_log() -> None:
    async with Engine(house, log="memory:", limits=Limits(view_queue_commits_max=2)) as engine:
        diary = views_of(engine)[0]
        async with diary.still:  # it applies nothing meanwhile
            for number in range(5):
                await engine.execute(Open(f"d{number}"), metadata=KNOWN)
            assert diary.detached == 1
        told = await engine.ask(Told(), after=engine.position)
        assert [without_changes(about) for _, about in told] == await told_by_the_log(engine)


async def test_each_of_many_events_of_a_commit_is_told_its_own() -> None:
    place = MemoryPlace()
    async with Engine(house, log=place.log(), snapshots=False) as engine:
        await engine.execute_many([Open("a", times=100), Ring("b"), Open("c", times=70)])
        live = await engine.ask(Told(), after=engine.position)
        assert [about.position for _, about in live] == list(range(1, engine.position + 1))
        assert [without_changes(about) for _, about in live] == await told_by_the_log(engine)
    async with Engine(house, log=place.log(), snapshots=False) as engine:
        assert await engine.ask(Told()) == live


class Careful(View):
    """Fails at what somebody has done, until its code is mended."""

    told: list[tuple[str, About]] = []
    poison: ClassVar[Literal["park"]] = "park"
    fails: ClassVar[bool] = True

    @applies
    def opened(self, event: Opened, about: About) -> None:
        if self.fails and about.actor == "eve":
            raise LookupError(about.actor)
        self.told.append((event.door, about))

    @answers
    def all(self, query: Told) -> list[tuple[str, About]]:
        return self.told


async def test_what_was_parked_is_told_the_same_when_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    app, place = App(models=[Doors, Bells], views=[Careful], name="house"), MemoryPlace()
    async with Engine(app, log=place.log()) as engine:
        await engine.execute(Open("front"), command_id="o-1", metadata=Metadata("eve", extra={"till": "4"}))
        await engine.execute(Open("front"), metadata=KNOWN)  # waits behind the first
        await engine.execute(Open("back"), metadata=KNOWN)
        log = await told_by_the_log(engine)
        assert len(await engine.ask(Told(), after=engine.position, incomplete=True)) == 1
        assert [parked.about.actor for parked in engine.parked()] == ["eve", "ann"]
    async with Engine(app, log=place.log()) as engine:  # from its snapshot
        monkeypatch.setattr(Careful, "fails", False)
        assert await engine.replay_parked() == []
        told = sorted(await engine.ask(Told()), key=lambda each: each[1].position)
        assert [without_changes(about) for _, about in told] == log


class Unlocked(Event):
    door: Key


class Turned(Retired):
    """What was one event until 2025, and is two today."""

    door: Key

    def upcast(self) -> Iterator[Event]:
        yield Unlocked(self.door)
        yield Opened(self.door)


class Turn(Command):
    door: Key


class OldTurned(Event, tag="Turned"):
    door: Key


class OldLocks(WriteModel):
    @handles
    def turn(self, command: Turn) -> Iterator[OldTurned]:
        yield OldTurned(command.door)

    @applies
    def turned(self, event: OldTurned) -> None: ...


class Locks(WriteModel):
    told: list[About] = []

    @applies
    def unlocked(self, event: Unlocked, about: About) -> None:
        self.told.append(about)


class Keeping(View):
    """Keeps what it is told, of both events that one meant."""

    told: list[About] = []

    @applies
    def unlocked(self, event: Unlocked, about: About) -> None:
        self.told.append(about)

    @applies
    def opened(self, event: Opened, about: About) -> None:
        self.told.append(about)

    @answers
    def all(self, query: Second) -> list[About]:
        return self.told


async def test_whoever_keeps_what_it_is_told_is_in_snapshots_as_any_other(log_lines: list[Any]) -> None:
    place = MemoryPlace()
    async with Engine(App(models=[OldLocks], views=[], name="house"), log=place.log()) as engine:
        await engine.execute_many([Turn("front"), Turn("back")])
    today = App(models=[Doors, Bells, Locks], views=[Diary, Keeping], retired=[Turned], name="house")
    async with Engine(today, log=place.log()) as engine:
        await engine.execute(Open("front"), metadata=KNOWN)
        told = await engine.ask(Second(), after=engine.position)
    assert not [line for line in log_lines if line["event"] == "snapshot_failed"]
    async with Engine(today, log=place.log()) as engine:
        assert await engine.ask(Second()) == told
    assert [line["replayed"] for line in log_lines if line["event"] == "opened"][-1] == 0


async def test_what_a_retired_event_means_today_is_told_what_the_log_says_of_that() -> None:
    place = MemoryPlace()
    async with Engine(App(models=[OldLocks], views=[], name="house"), log=place.log(), snapshots=False) as engine:
        await engine.execute_many([Turn("front"), Turn("back")])
        await engine.execute(Turn("side"), metadata=KNOWN)
        log = await told_by_the_log(engine)
    today = App(models=[Doors, Bells, Locks], views=[Diary], retired=[Turned], name="house")
    async with Engine(today, log=place.log(), snapshots=False) as engine:
        told = await engine.ask(Told())
        assert [without_changes(about) for _, about in told] == log
        assert [without_changes(about) for about in engine_models(engine)[2].told] == log


def test_a_scenario_tells_it_too() -> None:
    scenario = Scenario(house, now=datetime(2026, 1, 1, tzinfo=UTC))
    scenario.given(Opened("front"))
    scenario.when(Open("back"), metadata=KNOWN)
    assert [about.command for _, about in scenario.ask(Told())] == ["Given", "Open"]
    assert scenario.ask(Told())[1][1].actor == "ann"


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        ("when: datetime", "parameter 'when' is what is known about the event: about: About"),
        ("about", "parameter 'about' is what is known about the event: about: About"),
        ("about: About, more: int", r"an @applies method takes \(self, message\) or \(self, message, about\)"),
        ("*, about: About", r"an @applies method takes \(self, message\) or \(self, message, about\)"),
    ],
)
def test_a_second_parameter_is_that_and_nothing_else(second: str, problem: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def rang(self, event: Rang, {second}) -> None: ...", globals(), namespace)
    with pytest.raises(DefinitionError, match=problem):
        type("Wrong", (View,), {"rang": applies(namespace["rang"])})
