"""Reactions: what follows from a command is decided at once, and lies in the same commit; one that fails undoes nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter, deque
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.engine import (
    App,
    Command,
    CommitFailed,
    DefinitionError,
    Engine,
    EngineClosed,
    Event,
    EventsUnreadable,
    HandlerFailed,
    ImpureHandler,
    InvalidMessage,
    Key,
    LimitReached,
    Limits,
    MemoryLog,
    Metadata,
    MillstreamError,
    NotOnAgenda,
    OutcomeUnknown,
    Receipt,
    WriterUnavailable,
)
from millstream.engine.stores.events import stored_events
from millstream.engine.stores.memory import MemoryStore
from millstream.handlers import Aggregate, Reaction, Rejected, Retired, WriteModel, applies, handles, reacts
from tests.forest import Grow, Grown, Node, Tree, forest, grove, node
from tests.selling import Cancel, Held, Hold, Order, Orders, Placed, Selling, Show, Stray, mended, selling
from tests.stores import MemoryPlace, Place, SqlitePlace
from tests.support import ScriptedLog, Step, agenda_of, parked_in, reactions_among, settled, write_state

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return MemoryPlace() if request.param == "memory" else SqlitePlace(tmp_path)


def orders(engine: Engine) -> Orders:
    held: Orders = write_state(engine).models[1]
    return held


async def test_what_follows_from_a_command_lies_in_its_commit_with_who_asked_and_why(place: Place) -> None:
    async with Engine(selling, log=place.log()) as engine:
        ann = Metadata(actor="ann", correlation="cart-1", causation="click", extra={"shop": "1"})
        receipt = await engine.execute(Order("o1", "a", 8), metadata=ann)
        assert receipt == Receipt(1, 1, 1, None, 1)
        assert (await engine.execute(Order("o2", "a", 3), metadata=ann)).position == 3
        assert orders(engine).cancelled == {"o2": "sold_out: 2 left"}
        found = [event async for event in stored_events(engine.log)]
    assert [(e.position, e.commit, e.type, e.key, e.command, e.actor, e.causation) for e in found] == [
        (1, 1, "Placed", "o1", "Place", "ann", "click"),
        (2, 1, "Held", "a", "Hold", "ann", "event:1"),
        (3, 2, "Placed", "o2", "Place", "ann", "click"),
        (4, 2, "Cancelled", "o2", "Cancel", "ann", "event:3"),
    ]
    assert {(e.correlation, str(e.extra)) for e in found} == {("cart-1", "{'shop': '1'}")}
    assert msgspec.json.decode(found[-1].data)["because"] == "event:3", "handlers are told, too"


async def test_a_receipts_version_is_that_after_all_that_followed_and_a_replay_gives_the_same_receipt(
    place: Place,
) -> None:
    async with Engine(selling, log=place.log()) as engine:
        first = await engine.execute(Order("o1", "a", 11), command_id="place o1")
        assert first == Receipt(1, 1, 1, "place o1", 2), "it was cancelled in the same commit"
        assert (await engine.execute(Cancel("o1", "again"), expected_version=first.version)).version == 3
        place.crash()
    async with Engine(selling, log=place.log()) as engine:
        again = await engine.execute(Order("o1", "a", 11), command_id="place o1")
    assert again == msgspec.structs.replace(first, repeated=True)


@pytest.mark.parametrize(
    ("show", "decided", "error", "text"),
    [
        ("fire", 0, "KeyError", "'a bug'"),
        ("stray", 1, "UnknownMessage", "application 'selling' has no command 'Stray'"),
        ("wrong", 0, "InvalidMessage", "Hold"),
    ],
)
async def test_a_reaction_that_fails_is_parked_and_undoes_nothing(
    show: str, decided: int, error: str, text: str, place: Place
) -> None:
    async with Engine(selling, log=place.log()) as engine:
        receipt = await engine.execute(Order("o1", show, 1), command_id="o1")
        assert (receipt.parked, receipt.events) == (1, 1)
        assert orders(engine).placed == {"o1": 1}
        (entry,) = parked_in(engine)
        assert (entry.position, entry.by, entry.error, entry.decided) == (1, "Selling.hold_seats", error, decided)
        assert text in entry.text
        assert (await engine.execute(Order("o2", "b", 1))).parked == 0
        place.crash()
    async with Engine(selling, log=place.log()) as engine:
        assert parked_in(engine) == [entry], "from the log"
    async with Engine(selling, log=place.log()) as engine:
        assert parked_in(engine) == [entry], "from the snapshot"
        assert (await engine.execute(Order("o1", show, 1), command_id="o1")).parked == 1, "a repeat hears it, too"


def grown(engine: Engine) -> list[str]:
    names: list[str] = write_state(engine).models[0].grown
    return names


async def test_what_waits_goes_on_in_the_order_of_events_and_a_reaction_ends_before_the_next_begins() -> None:
    tree = node("1", node("2", node("4"), node("5")), node("3", node("6")))
    async with Engine(forest, log="memory:") as engine:
        await engine.execute(Grow("a", tree))
        assert grown(engine) == ["1", "2", "3", "4", "5", "6"]


async def test_reactions_go_on_after_one_that_failed() -> None:
    tree = node("1", node("2", node("never"), fails_after=0), node("no", how="refuse"), node("3", node("4")))
    async with Engine(forest, log="memory:") as engine:
        assert (await engine.execute(Grow("a", tree))).parked == 1
        assert grown(engine) == ["1", "2", "3", "4"]


async def test_a_handler_that_fails_for_a_reaction_is_told_to_the_reaction() -> None:
    async with Engine(forest, log="memory:") as engine:
        receipt = await engine.execute(Grow("a", node("1", node("bug", how="crash"), node("never"))))
        (entry,) = parked_in(engine)
        assert (receipt.parked, entry.error, grown(engine)) == (1, HandlerFailed.__name__, ["1"])


async def test_where_the_state_was_damaged_what_had_not_begun_is_owed_and_decided_next(place: Place) -> None:
    tree = node("1", node("2", node("bad", how="break")), node("3", node("4")), node("5"))
    async with Engine(forest, log=place.log()) as engine:
        receipt = await engine.execute(Grow("a", tree))
        assert (receipt.parked, receipt.version) == (1, 4), "1, 2, 3 and 5"
        assert (await engine.execute(Grow("b", node("next")))).version == 1
        assert grown(engine) == ["1", "2", "3", "5", "4", "next"]
        assert agenda_of(engine).owed == {}
        (entry,) = parked_in(engine)
        assert (entry.error, entry.decided) == ("ApplyFailed", 0)
        found = [(e.type, e.causation, e.commit) async for e in stored_events(engine.log)]
        assert found[-2:] == [("Grown", "event:3", 2), ("Grown", None, 3)] or found[-2][1] == "event:3"
        place.crash()
    async with Engine(forest, log=place.log()) as engine:
        assert grown(engine) == ["1", "2", "3", "5", "4", "next"]
        assert parked_in(engine) == [entry]


async def test_what_is_owed_is_decided_at_the_next_opening(place: Place) -> None:
    tree = node("1", node("2", node("bad", how="break")), node("3", node("4")))
    async with Engine(forest, log=place.log()) as engine:
        await engine.execute(Grow("a", tree))
        place.crash()  # before what is owed was decided
    async with Engine(forest, log=place.log()) as engine:
        await engine.execute(Grow("b", node("next")))
        assert grown(engine) == ["1", "2", "3", "4", "next"]


async def test_at_the_limit_a_reaction_is_parked_and_what_it_decided_stands() -> None:
    limits = Limits(cascade_commands_max=3)
    tree = node("1", *(node(str(number), node(f"{number}.1")) for number in range(2, 5)))
    async with Engine(forest, log="memory:", limits=limits) as engine:
        receipt = await engine.execute(Grow("a", tree))
        assert receipt.parked == 1
        await engine.execute(Grow("b", node("next")))
        assert grown(engine) == ["1", "2", "3", "4", "3.1", "4.1", "next"]
        (entry,) = parked_in(engine)
        assert (entry.error, entry.decided, "cascade_commands_max=3" in entry.text) == (LimitReached.__name__, 0, True)


async def test_a_cascade_that_never_ends_is_ended_by_its_limit() -> None:
    async with Engine(endless, log="memory:", limits=Limits(cascade_commands_max=50)) as engine:
        assert (await engine.execute(Ping("a", 0))).parked == 1
        assert (await engine.execute(Ping("b", 0))).parked == 1
        assert engine.position == 102
        assert len(agenda_of(engine).parked) == 2


async def test_a_cascade_of_many_bytes_is_ended_by_its_limit() -> None:
    limits = Limits(cascade_bytes_max=13_000)  # each takes 1,000 for its name, and some for what the commit says of it
    async with Engine(forest, log="memory:", limits=limits) as engine:
        await engine.execute(Grow("a", node("1", *(node("x" * 1_000) for _ in range(20)))))
        (entry,) = parked_in(engine)
        assert (entry.error, entry.decided, "cascade_bytes_max=13,000" in entry.text) == ("LimitReached", 9, True)


async def test_a_full_agenda_refuses_what_could_add_to_it_and_nothing_else() -> None:
    async with Engine(selling, log="memory:", limits=Limits(agenda_entries_max=2)) as engine:
        for order in ("o1", "o2"):
            await engine.execute(Order(order, "fire", 1))
        with pytest.raises(LimitReached, match="agenda_entries_max=2"):
            await engine.execute(Order("o3", "a", 1))
        await engine.execute(Hold("a", "o4", 1))
        assert orders(engine).placed == {"o1": 1, "o2": 1}


class Ping(Command):
    key: Key
    number: int


class Pinged(Event):
    key: Key
    number: int


class Endless(WriteModel):
    count: int = 0

    @handles
    def ping(self, command: Ping) -> Iterator[Event]:
        yield Pinged(command.key, command.number)

    @applies
    def pinged(self, event: Pinged) -> None:
        self.count += 1

    @reacts(name="again and again")
    def again(self, event: Pinged) -> Reaction:
        yield Ping(event.key, event.number + 1)


endless = App(models=[Endless], name="endless")


class Meddling(WriteModel):
    """Changes its state where it must not."""

    count: int = 0

    @handles
    def ping(self, command: Ping) -> Iterator[Event]:
        yield Pinged(command.key, command.number)

    @applies
    def pinged(self, event: Pinged) -> None: ...

    @reacts
    def meddle(self, event: Pinged) -> Reaction:
        self.count += 1
        if event.number == 2:
            raise KeyError("and fails")
        yield from ()


async def test_a_reaction_that_changes_the_state_is_found_when_purity_is_checked() -> None:
    async with Engine(App(models=[Meddling]), log="memory:", check_purity=True) as engine:
        assert (await engine.execute(Ping("a", 1))).parked == 1
        assert (await engine.execute(Ping("b", 2))).parked == 1
        await settled()
        assert {entry.error for entry in parked_in(engine)} == {ImpureHandler.__name__}
        assert write_state(engine).models[0].count == 0


# Against a plain model: whatever grows, crashes, refuses and breaks.


def nodes(depth: int) -> st.SearchStrategy[Node]:
    how = st.sampled_from(["ok"] * 6 + ["refuse", "crash", "break"])
    then: st.SearchStrategy[tuple[Node, ...]] = st.just(())
    if depth:
        then = st.lists(nodes(depth - 1), max_size=3).map(tuple)
    return st.builds(Node, st.sampled_from("abcdef"), how, st.sampled_from([-1, -1, -1, 0, 1]), then)


class Plain:
    """What the application must come to, as one would write it down: no engine, no log."""

    def __init__(self, commands_max: int) -> None:
        self.grown: list[tuple[str, str]] = []
        self.parked: list[tuple[str, int]] = []
        self.owed: deque[tuple[str, Node]] = deque()
        self.commands_max = commands_max

    def by_key(self, apart: bool) -> dict[str, list[str]]:
        """What has grown under each key; all under one, if they are not apart."""
        found: dict[str, list[str]] = {} if apart else {"": []}
        for key, name in self.grown:
            found.setdefault(key if apart else "", []).append(name)
        return found

    def root(self, key: str, tree: Node) -> int | None:
        """How many reactions were parked; None if the command itself failed."""
        while self.owed:
            self.cascade(deque([self.owed.popleft()]), may_owe=False)
        if tree.how != "ok":
            return None
        self.grown.append((key, tree.name))
        return self.cascade(deque([(key, tree)]), may_owe=True)

    def cascade(self, waiting: deque[tuple[str, Node]], *, may_owe: bool) -> int:
        """Let reactions run, one after another. Returns how many were parked."""
        before, commands = len(self.parked), 0
        while waiting:
            (key, each), decided = waiting.popleft(), 0
            for index, child in enumerate(each.then):
                if each.fails_after == index or commands == self.commands_max or child.how in ("crash", "break"):
                    break
                commands += 1
                decided += 1
                if child.how == "ok":
                    self.grown.append((key, child.name))
                    waiting.append((key, child))
            else:
                continue
            is_damaged = child.how == "break" and each.fails_after != index and commands < self.commands_max
            self.parked.append((each.name, decided))
            if is_damaged or commands == self.commands_max:
                if may_owe or is_damaged:
                    self.owed.extend(waiting)
                else:
                    self.parked.extend((left.name, 0) for _, left in waiting)
                break
        return len(self.parked) - before


@pytest.mark.parametrize("app", [forest, grove], ids=["one model", "aggregates"])
@given(
    st.lists(st.tuples(st.sampled_from("pq"), nodes(3)), min_size=1, max_size=5),
    st.sampled_from([2, 3, 5, 100]),
    st.lists(st.sampled_from(["ok", "ok", "ok", "lost", "written"]), max_size=12),
)
def test_whatever_grows_live_is_what_a_plain_model_and_a_replay_come_to(
    app: App, trees: list[tuple[str, Node]], commands_max: int, steps: list[Step]
) -> None:
    async def scenario() -> None:
        plain, limits, log = Plain(commands_max), Limits(cascade_commands_max=commands_max), ScriptedLog()
        log.steps.extend(steps)
        async with Engine(app, log=log, limits=limits) as engine:
            for number, (key, tree) in enumerate(trees):
                outcome = await sent(engine, Grow(key, tree), f"c{number}")
                parked = plain.root(key, tree)
                assert getattr(outcome, "parked", None) == parked
            await sent(engine, Grow("p", node("z")), "last")
            plain.root("p", node("z"))
            assert by_key(engine) == plain.by_key(app is grove)
            live = agenda_of(engine)
            found = [
                (msgspec.json.decode(each.event)["node"]["name"], each.decided)
                for each in reactions_among(live.parked.values())
            ]
            assert (sorted(found), live.owed) == (sorted(plain.parked), {})
        async with Engine(app, log=MemoryLog(MemoryStore(log.commits)), limits=limits, snapshots=False) as engine:
            assert (by_key(engine), agenda_of(engine)) == (plain.by_key(app is grove), live)

    anyio.run(scenario)


def by_key(engine: Engine) -> dict[str, list[str]]:
    (state,) = write_state(engine).models
    if isinstance(state, Tree):
        return {"": state.grown}
    return {key: trunk.grown for key, trunk in state.instances.items()}


async def sent(engine: Engine, command: Command, command_id: str) -> Receipt | MillstreamError:
    """The outcome of a command that is sent again until it is known."""
    while True:
        try:
            return await engine.execute(command, command_id=command_id)
        except (CommitFailed, OutcomeUnknown, WriterUnavailable):
            continue
        except MillstreamError as error:
            return error


async def test_a_log_with_an_agenda_says_so_to_whoever_opens_it_and_the_sql_view_says_why(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    async with Engine(selling, log=path) as engine:
        await engine.execute(Order("o1", "a", 1), metadata=Metadata(causation="click"))
        assert "needs" not in dict(rows(path, "SELECT name, value FROM meta"))
        await engine.execute(Order("o2", "fire", 1))
        assert dict(rows(path, "SELECT name, value FROM meta"))["needs"] == "agenda"
        await engine.execute(Order("o3", "fire", 1))
        await engine.execute(Order("o4", "a", 1))
    assert rows(path, "SELECT position, command, causation FROM events") == [
        (1, "Place", "click"),
        (2, "Hold", "event:1"),
        (3, "Place", None),
        (4, "Place", None),
        (5, "Place", None),
        (6, "Hold", "event:5"),
    ]
    async with Engine(selling, log=path) as engine:
        assert (engine.position, len(agenda_of(engine))) == (6, 2)


def rows(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


# Looking after what is owed and parked.


async def test_a_parked_reaction_is_tried_again_with_the_metadata_of_who_asked(place: Place) -> None:
    async with Engine(selling, log=place.log()) as engine:
        await engine.execute(Order("o1", "fire", 2), metadata=Metadata(actor="ann"))
        assert not await engine.agenda.retry("event:1/Selling.hold_seats"), "the bug is there still"
        (entry,) = reactions_among(engine.agenda.entries())
        assert (entry.error, entry.metadata.actor) == ("KeyError", "ann")
    async with Engine(mended, log=place.log()) as engine:
        assert await engine.agenda.retry("event:1/Selling.hold_seats")
        assert engine.agenda.entries() == []
        (held,) = [event async for event in stored_events(engine.log, tag="Held")]
        assert (held.actor, held.causation) == ("ann", "event:1")
        place.crash()
    async with Engine(mended, log=place.log()) as engine:
        assert engine.agenda.entries() == []
        with pytest.raises(NotOnAgenda, match=r"has no 'event:1/Selling\.hold_seats'; it holds 0"):
            await engine.agenda.retry("event:1/Selling.hold_seats")


async def test_what_was_decided_already_is_sent_a_second_time_only_if_that_is_said() -> None:
    place = MemoryPlace()
    async with Engine(selling, log=place.log()) as engine:
        await engine.execute(Order("o1", "stray", 1))
        with pytest.raises(InvalidMessage, match=r"1 commands of 'event:1/Selling\.hold_seats' .* say again=True"):
            await engine.agenda.retry("event:1/Selling.hold_seats")
    async with Engine(mended, log=place.log()) as engine:
        assert await engine.agenda.retry("event:1/Selling.hold_seats", again=True)
        assert len([event async for event in stored_events(engine.log, tag="Held")]) == 2


async def test_a_dropped_reaction_is_never_decided(place: Place) -> None:
    async with Engine(selling, log=place.log()) as engine:
        await engine.execute(Order("o1", "fire", 2))
        await engine.agenda.drop("event:1/Selling.hold_seats")
        assert engine.agenda.entries() == []
        place.crash()
    async with Engine(mended, log=place.log()) as engine:
        assert engine.agenda.entries() == []
        for wrong in ("1/Selling.hold_seats", "event:1", "event:x/y", "timer:", ""):
            with pytest.raises(NotOnAgenda):
                await engine.agenda.drop(wrong)


async def test_what_is_asked_of_the_agenda_is_answered_when_its_commit_fails_or_the_engine_closes() -> None:
    log = ScriptedLog()
    async with Engine(selling, log=log) as engine:
        await engine.execute(Order("o1", "fire", 2))
        log.steps.append("refused")
        with pytest.raises(CommitFailed):
            await engine.agenda.drop("event:1/Selling.hold_seats")
        await engine.agenda.drop("event:1/Selling.hold_seats")
    with pytest.raises(EngineClosed):
        await engine.agenda.drop("event:1/Selling.hold_seats")


class Stump(WriteModel):
    """`Tree` without its reaction."""

    grown: list[str] = []

    @handles
    def grow(self, command: Grow) -> Iterator[Event]:
        yield Grown(command.key, command.node)

    @applies
    def when_grown(self, event: Grown) -> None:
        self.grown.append(event.node.name)


class Idle(WriteModel):
    """Reacts with nothing."""

    @reacts
    def idle(self, event: Grown) -> Reaction:
        yield from ()


class Moved(Stump):
    @reacts(name="moved")
    def branch(self, event: Grown) -> Reaction:
        for child in event.node.then:
            yield Grow(event.key, child)


async def test_what_is_owed_to_a_name_that_is_gone_waits_and_a_new_name_takes_it_over(place: Place) -> None:
    async with Engine(forest, log=place.log()) as engine:
        await engine.execute(Grow("a", node("1", node("2", node("bad", how="break")), node("3", node("4")))))
        place.crash()
    async with Engine(App(models=[Stump, Idle], name="forest"), log=place.log()) as engine:
        await engine.execute(Grow("b", node("next")))
        assert [(each.position, each.is_parked) for each in reactions_among(engine.agenda.entries())] == [
            (3, False),
            (2, True),
        ]
        with pytest.raises(InvalidMessage, match=r"has no reaction 'Tree\.branch': say App\(renamed=…\)"):
            await engine.agenda.retry("event:2/Tree.branch")
    renamed = App(models=[Moved], name="forest", renamed={"Tree.branch": "moved"})
    async with Engine(renamed, log=place.log()) as engine:
        await engine.execute(Grow("b", node("last")))
        assert grown(engine) == ["1", "2", "3", "next", "4", "last"]
        assert [(each.position, each.is_parked) for each in reactions_among(engine.agenda.entries())] == [(2, True)]
        assert await engine.agenda.retry("event:2/Tree.branch")


class PlacedOnce(Retired, tag="Placed"):
    order: Key

    def upcast(self) -> Iterator[Event]:
        yield Booked(self.order)
        yield Booked(f"{self.order}, again")


class Booked(Event):
    order: Key


class Booking(WriteModel):
    @applies
    def booked(self, event: Booked) -> None: ...

    @reacts(name="Selling.hold_seats")
    def hold_seats(self, event: Booked) -> Reaction:
        yield Hold("a", event.order, 1)


async def test_an_event_that_was_retired_since_is_what_it_means_today() -> None:
    place = MemoryPlace()
    async with Engine(selling, log=place.log()) as engine:
        await engine.execute(Order("o1", "fire", 2))
    today = App(models=[Show, Booking], retired=[PlacedOnce], name="selling")
    async with Engine(today, log=place.log()) as engine:
        assert await engine.agenda.retry("event:1/Selling.hold_seats")
        found = [event.key async for event in stored_events(engine.log, tag="Held")]
        assert (found, engine.agenda.entries()) == (["a", "a"], [])


class Telling(WriteModel):
    @reacts
    def when_held(self, event: Held) -> Reaction:
        yield from ()


async def test_an_event_on_the_agenda_that_today_nobody_reads_stops_the_opening_also_from_a_snapshot() -> None:
    place = MemoryPlace()
    async with Engine(selling, log=place.log()) as engine:
        await engine.execute(Order("o1", "fire", 2))
    with pytest.raises(EventsUnreadable, match="'Placed' is not known: 1 of them, the first at position 1"):
        async with Engine(App(models=[Show, Telling], name="selling"), log=place.log()):
            pass


# What can be told when the application is made.


def refused(*models: Any, renamed: dict[str, str] | None = None) -> str:
    with pytest.raises(DefinitionError) as raised:
        App(models=models, renamed=renamed)
    return str(raised.value)


class Twice(WriteModel):
    @reacts(name="Selling.hold_seats")
    def also(self, event: Placed) -> Reaction:
        yield from ()


class ToStray(WriteModel):
    @reacts
    def stray(self, event: Placed) -> Iterator[Stray | Hold]:
        yield Stray("x")


class Noted(Event):
    text: str


class Keyless(Aggregate):
    @reacts
    def noted(self, event: Noted) -> Reaction:
        yield from ()


class Round(WriteModel):
    @handles
    def ping(self, command: Ping) -> Iterator[Pinged]:
        yield Pinged(command.key, 1)

    @applies
    def pinged(self, event: Pinged) -> None: ...

    @reacts
    def again(self, event: Pinged) -> Generator[Ping, Rejected | None, None]:
        yield Ping(event.key, 1)


@pytest.mark.parametrize(
    ("models", "problem"),
    [
        ((Show, Orders, Selling, Twice), "two reactions have the name 'Selling.hold_seats'"),
        ((Show, Orders, ToStray), "no model handles command Stray"),
        ((Show, Orders, Keyless), "Noted has no Key field to say which one reacts"),
        ((Round,), "what follows from Pinged never ends: Pinged → Ping → Pinged"),
    ],
)
def test_reactions_that_can_not_be_are_refused(models: tuple[Any, ...], problem: str) -> None:
    assert problem in refused(*models)


def test_names_that_were_and_are_not_are_refused() -> None:
    assert "there is no reaction 'nobody'" in refused(Show, Orders, Selling, renamed={"old": "nobody"})
    taken = {"Selling.hold_seats": "Selling.hold_seats"}
    assert "there is a reaction 'Selling.hold_seats' today" in refused(Show, Orders, Selling, renamed=taken)
    with pytest.raises(DefinitionError, match="a name in the log is a text that can be printed, not ''"):
        type("Unnamed", (WriteModel,), {"__module__": __name__, "on": reacts(name="")(_nameless)})
    with pytest.raises(DefinitionError, match="pure code has nothing to await"):
        type("Waiting", (WriteModel,), {"__module__": __name__, "on": reacts(_waits)})  # type: ignore[type-var]


def _nameless(self: Any, event: Placed) -> Reaction:
    yield from ()


async def _waits(self: Any, event: Placed) -> None: ...


async def test_a_preview_says_which_reactions_would_follow_and_runs_none() -> None:
    async with Engine(selling, log="memory:") as engine:
        preview = engine.preview(Order("o1", "fire", 1))
        assert (preview, preview.reactions) == ([Placed("o1", "fire", 1)], ("Selling.hold_seats",))
        assert engine.preview(Hold("a", "o1", 1)).reactions == ()
        assert (engine.agenda.entries(), engine.position) == ([], 0)


async def test_thousands_of_failing_reactions_rebuild_nothing_and_keep_nobody_waiting(log_lines: list[Any]) -> None:
    async with Engine(selling, log="memory:") as engine:
        orders = [Order(f"o{number}", "fire", 1) for number in range(10_000)]
        outcomes = await engine.execute_many(orders, metadata=Metadata(correlation="a sale"))
        assert {type(outcome) for outcome in outcomes} == {Receipt}
        assert (await engine.execute(Hold("a", "o", 1))).version == 1
        assert len(engine.agenda.entries()) == 10_000
    events = Counter(line["event"] for line in log_lines)
    assert (events["state_rebuilt"], 0 < events["application_failed"] < 1_000) == (0, True)
    assert {line["correlation"] for line in log_lines if line["event"] == "application_failed"} == {"a sale"}


async def test_what_is_asked_of_one_entry_at_once_has_an_order_in_the_log(place: Place) -> None:
    async with Engine(selling, log=place.log()) as engine:
        await engine.execute(Order("o1", "fire", 1))
        agenda, name = engine.agenda, "event:1/Selling.hold_seats"
        results = await asyncio.gather(
            agenda.retry(name), engine.execute(Order("o2", "fire", 1)), agenda.drop(name), agenda.drop(name),
            return_exceptions=True,
        )  # fmt: skip
        assert (results[0], results[2], type(results[3])) == (False, None, NotOnAgenda)
        live = engine.agenda.entries()
        assert [entry.id for entry in live] == ["event:2/Selling.hold_seats"]
        place.crash()
    async with Engine(selling, log=place.log()) as engine:
        assert engine.agenda.entries() == live


class Stubborn(WriteModel):
    """Tries again and again what its own handler fails at."""

    @handles
    def ping(self, command: Ping) -> Iterator[Event]:
        if command.number:
            raise KeyError("never")
        yield Pinged(command.key, 0)

    @applies
    def pinged(self, event: Pinged) -> None: ...

    @reacts
    def again(self, event: Pinged) -> Reaction:
        while True:
            with suppress(HandlerFailed):
                yield Ping(event.key, 1)


async def test_a_reaction_that_never_stops_trying_is_ended_by_the_limit() -> None:
    async with Engine(App(models=[Stubborn]), log="memory:", limits=Limits(cascade_commands_max=20)) as engine:
        assert (await engine.execute(Ping("a", 0))).parked == 1
        (entry,) = reactions_among(engine.agenda.entries())
        assert (entry.error, entry.decided, engine.position) == (LimitReached.__name__, 0, 1)


class Clumsy(Booking):
    @reacts(name="Selling.hold_seats")
    def hold_seats(self, event: Booked) -> Reaction:
        yield Hold("a", event.order, 1)
        raise KeyError(event.order)


async def test_a_retired_event_that_means_two_is_parked_at_the_first_that_fails() -> None:
    place = MemoryPlace()
    async with Engine(selling, log=place.log()) as engine:
        await engine.execute(Order("o1", "fire", 2))
    today = App(models=[Show, Clumsy], retired=[PlacedOnce], name="selling")
    async with Engine(today, log=place.log()) as engine:
        assert not await engine.agenda.retry("event:1/Selling.hold_seats")
        (entry,) = reactions_among(engine.agenda.entries())
        assert (entry.text, entry.decided) == ("KeyError('o1')", 1)


async def test_of_an_errors_text_the_log_keeps_so_much_and_no_more() -> None:
    async with Engine(App(models=[Verbose]), log="memory:") as engine:
        assert (await engine.execute(Ping("a", 1))).parked == 1
        (entry,) = reactions_among(engine.agenda.entries())
        assert (entry.error, len(entry.text)) == ("Exception", 1_001)


class Verbose(WriteModel):
    @handles
    def ping(self, command: Ping) -> Iterator[Event]:
        yield Pinged(command.key, 1)

    @reacts
    def tell(self, event: Pinged) -> Reaction:
        if event.number:
            raise type("", (Exception,), {})("x" * 100_000)
        yield from ()


class Breaking(WriteModel):
    """Follows what is held with what damages the state."""

    @handles
    def ping(self, command: Ping) -> Iterator[Event]:
        yield Pinged(command.key, command.number)

    @applies
    def pinged(self, event: Pinged) -> None:
        raise KeyError("damaged")

    @reacts
    def when_held(self, event: Held) -> Reaction:
        yield Ping(event.show, 1)


async def test_a_retired_event_that_means_two_is_parked_where_the_first_has_led_to_damage() -> None:
    place = MemoryPlace()
    async with Engine(selling, log=place.log()) as engine:
        await engine.execute(Order("o1", "fire", 2))
    today = App(models=[Show, Booking, Breaking], retired=[PlacedOnce], name="selling")
    async with Engine(today, log=place.log()) as engine:
        assert not await engine.agenda.retry("event:1/Selling.hold_seats")
        await settled()
        parked = [(entry.by, entry.error, entry.decided) for entry in reactions_among(engine.agenda.entries())]
        assert sorted(parked) == [
            ("Breaking.when_held", "ApplyFailed", 0),
            ("Selling.hold_seats", "MillstreamError", 1),
        ]
        live = engine.agenda.entries()
        place.crash()
    async with Engine(today, log=place.log()) as engine:
        assert engine.agenda.entries() == live
