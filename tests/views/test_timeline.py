"""The ready-made view of what happened to a key: every step once, with what the log says about it, and bounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.engine import (
    About,
    App,
    Command,
    DefinitionError,
    Engine,
    Event,
    InvalidMessage,
    Key,
    Metadata,
    ViewFaulted,
)
from millstream.engine.client import Client
from millstream.handlers import Retired, WriteModel, applies, handles
from millstream.views import Timeline, TimelineOf, TimelinePage, View
from tests.engine.client.test_agenda import serving
from tests.stores import MemoryPlace

pytestmark = pytest.mark.anyio


class Sent(Event):
    parcel: Key
    to: str


class Lost(Event):
    parcel: Key


class Swept(Event):
    parcels: tuple[str, ...]


class Send(Command):
    parcel: Key
    to: str


class Sweep(Command):
    parcels: tuple[str, ...]


class Post(WriteModel):
    @handles
    def send(self, command: Send) -> Iterator[Sent | Lost]:
        yield Sent(command.parcel, command.to)
        if command.to == "nowhere":
            yield Lost(command.parcel)

    @handles
    def sweep(self, command: Sweep) -> Iterator[Swept]:
        yield Swept(command.parcels)

    @applies
    def sent(self, event: Sent) -> None: ...

    @applies
    def lost(self, event: Lost) -> None: ...

    @applies
    def swept(self, event: Swept) -> None: ...


class Story(Timeline):
    events: ClassVar = (Sent, Lost, Swept)
    steps_max: ClassVar = 5

    def keys_of(self, event: Event, about: About) -> Iterable[str]:
        return event.parcels if isinstance(event, Swept) else super().keys_of(event, about)


post = App(models=[Post], views=[Story], name="post")


def told(page: TimelinePage) -> list[tuple[int, str, int]]:
    return [(step.number, step.type, step.about.position) for step in page.steps]


async def test_it_tells_what_happened_to_a_key_the_latest_first_with_who_and_why() -> None:
    async with Engine(post, log="memory:") as engine:
        await engine.execute(Send("p1", "Rome"), metadata=Metadata("ann", "c-1"))
        await engine.execute(Send("p2", "Oslo"))
        await engine.execute(Send("p1", "nowhere"), metadata=Metadata("bob"))
        receipt = await engine.execute(Sweep(("p1", "p1", "p3")))
        page = await engine.ask(TimelineOf("p1"), after=receipt)
        assert told(page) == [(4, "Swept", 5), (3, "Lost", 4), (2, "Sent", 3), (1, "Sent", 1)]
        assert (page.before, page.steps_in_all, page.forgotten) == (None, 4, 0)
        first = page.steps[-1]
        assert first.event == {"type": "Sent", "parcel": "p1", "to": "Rome"}
        assert (first.about.actor, first.about.correlation, first.about.command) == ("ann", "c-1", "Send")
        assert told(await engine.ask(TimelineOf("p3"))) == [(1, "Swept", 5)]
        assert await engine.ask(TimelineOf("nobody")) == TimelinePage([], None, 0, 0)


@given(count=st.integers(0, 12), limit=st.integers(1, 4), more=st.lists(st.integers(0, 2), max_size=12))
@settings(max_examples=40, deadline=None)
def test_each_step_that_is_kept_meanwhile_is_on_one_page(count: int, limit: int, more: list[int]) -> None:
    async def run() -> None:
        async with Engine(post, log="memory:") as engine:
            await engine.execute_many([Send("p", str(number)) for number in range(count)])
            page = await engine.ask(TimelineOf("p", limit=limit), after=engine.position)
            seen, in_all, left = [step.number for step in page.steps], page.steps_in_all, list(more)
            while page.before is not None:
                for _ in range(left.pop() if left else 0):
                    await engine.execute(Send("p", "more"))
                page = await engine.ask(TimelineOf("p", before=page.before, limit=limit), after=engine.position)
                seen += [step.number for step in page.steps]
            kept = range(page.forgotten + 1, in_all + 1)
            assert seen == sorted(set(seen), reverse=True)
            assert set(kept) <= set(seen) <= set(range(1, in_all + 1))

    anyio.run(run)


async def test_it_is_the_same_from_a_snapshot_from_the_log_and_over_a_socket() -> None:
    place = MemoryPlace()
    async with Engine(post, log=place.log()) as engine:
        await engine.execute_many([Send("p1", str(number)) for number in range(8)], metadata=Metadata("ann"))
        live = await engine.ask(TimelineOf("p1"), after=engine.position)
        assert (live.forgotten, live.steps_in_all, len(live.steps)) == (3, 8, 5)
    async with serving(Engine(post, log=place.log())) as address, Client(address) as client:
        assert await client.ask(TimelineOf("p1")) == live
    async with Engine(post, log=place.log(), snapshots=False) as engine:
        assert await engine.ask(TimelineOf("p1")) == live
        assert await engine.ask(TimelineOf("p1", before=1)) == TimelinePage([], None, 8, 3)
        assert told(await engine.ask(TimelineOf("p1", before=99, limit=1))) == [(8, "Sent", 8)]


async def test_an_event_of_several_keys_is_in_snapshots_as_any_other(log_lines: list[Any]) -> None:
    place = MemoryPlace()
    async with Engine(post, log=place.log()) as engine:
        await engine.execute(Sweep(("p1", "p2", "p3")), metadata=Metadata("ann", extra={"till": "3"}))
        await engine.execute(Sweep(("p1", "p2")))
        live = [await engine.ask(TimelineOf(key), after=engine.position) for key in ("p1", "p2", "p3")]
    async with Engine(post, log=place.log()) as engine:
        assert [await engine.ask(TimelineOf(key)) for key in ("p1", "p2", "p3")] == live
    opened = [line["replayed"] for line in log_lines if line["event"] == "opened"]
    assert (opened[-1], [line for line in log_lines if line["event"] == "snapshot_failed"]) == (0, [])


class Old(Event, tag="Carried"):
    who: Key
    parcel: str


class Carry(Command):
    who: Key
    parcel: str


class OldPost(WriteModel):
    @handles
    def carry(self, command: Carry) -> Iterator[Old]:
        yield Old(command.who, command.parcel)

    @applies
    def carried(self, event: Old) -> None: ...


class Carried(Retired):
    who: Key
    parcel: str

    def upcast(self) -> Iterator[Event]:
        yield Sent(self.parcel, f"with {self.who}")


async def test_a_step_is_of_the_key_that_the_event_has_today() -> None:
    place = MemoryPlace()
    async with Engine(App(models=[OldPost], name="post"), log=place.log()) as engine:
        await engine.execute(Carry("ann", "p1"))
    async with Engine(App(models=[Post], views=[Story], retired=[Carried], name="post"), log=place.log()) as engine:
        assert told(await engine.ask(TimelineOf("p1"))) == [(1, "Sent", 1)]
        assert told(await engine.ask(TimelineOf("ann"))) == []


async def test_another_bound_sets_snapshots_aside() -> None:
    class Short(Timeline):
        events: ClassVar = (Sent,)
        steps_max: ClassVar = 3

    short, place = Short, MemoryPlace()
    async with Engine(App(models=[Post], views=[short], name="post"), log=place.log()) as engine:
        await engine.execute_many([Send("p", str(number)) for number in range(5)])
        assert (await engine.ask(TimelineOf("p"), after=engine.position)).forgotten == 2

    class Shorter(Timeline):
        events: ClassVar = (Sent,)
        steps_max: ClassVar = 2

    Shorter.__name__ = "Short"
    async with Engine(App(models=[Post], views=[Shorter], name="post"), log=place.log()) as engine:
        assert (await engine.ask(TimelineOf("p"))).forgotten == 3
        with pytest.raises(InvalidMessage, match="`limit` is from 1 to 500"):
            await engine.ask(TimelineOf("p", limit=0))


@pytest.mark.parametrize("keys", ["p1", (1,)])
async def test_what_is_no_key_stops_the_view_and_is_said(keys: Any) -> None:
    class Wrong(Timeline):
        events: ClassVar = (Sent,)

        def keys_of(self, event: Event, about: About) -> Iterable[str]:
            return keys  # type: ignore[no-any-return]

    async with Engine(App(models=[Post], views=[Wrong], name="post"), log="memory:") as engine:
        await engine.execute(Send("p1", "Rome"))
        with pytest.raises(ViewFaulted, match="keys_of gives"):
            await engine.ask(TimelineOf("p"), after=engine.position)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"events": (Sent, Swept)}, "Swept has no key, so it happens to none"),
        ({"events": (Send,)}, "`events` are classes of events, not"),
        ({"events": (Event,)}, "`events` are classes of events, not"),
        ({"events": ("Sent",)}, "`events` are classes of events, not 'Sent'"),
        ({"events": Sent}, "`events` is a tuple of classes, not"),
        ({"events": (Sent,), "steps_max": 2.5}, "`steps_max` is how many steps of a key are kept, not 2.5"),
        ({"events": (Sent,), "steps_max": 0}, "`steps_max` is how many steps of a key are kept, not 0"),
    ],
)
def test_what_is_no_step_is_said_when_the_class_is_made(body: dict[str, Any], problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        type("Wrong", (Timeline,), {**body, "__annotations__": dict.fromkeys(body, ClassVar[Any])})


def test_an_event_has_one_method() -> None:
    with pytest.raises(DefinitionError, match="Sent is among its `events`, and has a method"):

        class Wrong(Timeline):
            events: ClassVar = (Sent,)

            @applies
            def sent(self, event: Sent) -> None: ...

    assert issubclass(Timeline, View)
