"""Timers: commands that are due later, set and called off in the commit of what asks for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from millstream.engine import (
    AgendaUnreadable,
    App,
    Command,
    CommitFailed,
    CommitTooLarge,
    Context,
    Engine,
    Event,
    HandlerFailed,
    InvalidMessage,
    Key,
    LimitReached,
    Limits,
    MemoryLog,
    Metadata,
    NotOnAgenda,
    OutcomeUnknown,
    Receipt,
    Timer,
    WriterUnavailable,
)
from millstream.engine.commits.commit import timestamp
from millstream.engine.limits import COMMIT_BYTES_MIN
from millstream.engine.stores.memory import MemoryStore
from millstream.engine.testing import Faults, Run, Simulation, simulate
from millstream.handlers import (
    Aggregate,
    Decision,
    Reaction,
    Rejected,
    Retired,
    Schedule,
    Unschedule,
    WriteModel,
    applies,
    handles,
    reacts,
)
from tests.stores import MemoryPlace, Place, SqlitePlace
from tests.support import AT_ONCE, UNSLICED, ScriptedLog, agenda_of, is_deciding, until, write_state

pytestmark = pytest.mark.anyio

START = datetime(2026, 1, 1, tzinfo=UTC)


class Hold(Command):
    show: Key
    order: str
    seconds: float = 600
    name: str | None = None


class Release(Command):
    show: Key
    order: str


class Pay(Command):
    show: Key
    order: str


class Tick(Command):
    """Sets itself again."""

    show: Key
    left: int


class Plan(Command):
    show: Key
    timings: Any


class Ask(Command):
    show: Key


class Held(Event):
    show: Key
    order: str


class Released(Event):
    show: Key
    order: str
    why: str | None = None


class Paid(Event):
    show: Key
    order: str


class Ticked(Event):
    show: Key


class Asked(Event):
    show: Key


class Show(Aggregate):
    kept: list[str] = []
    gone: list[str] = []
    ticks: int = 0

    @handles
    def hold(self, command: Hold) -> Decision:
        yield Held(command.show, command.order)
        name = command.name or f"hold/{command.order}"
        yield Schedule(Release(command.show, command.order), after=timedelta(seconds=command.seconds), name=name)

    @handles
    def release(self, command: Release, context: Context) -> Iterator[Event]:
        if command.order == "odd":
            raise KeyError("odd")
        if command.order == "never":
            raise Rejected("never", "it stays")
        if command.order in self.kept:  # it may have been paid for meanwhile
            yield Released(command.show, command.order, context.metadata.causation)

    @handles
    def pay(self, command: Pay) -> Decision:
        yield Paid(command.show, command.order)
        yield Unschedule(f"hold/{command.order}")

    @handles
    def tick(self, command: Tick) -> Decision:
        yield Ticked(command.show)
        if command.left:
            yield Schedule(Tick(command.show, command.left - 1), after=timedelta(), name="tick")

    @handles
    def plan(self, command: Plan) -> Decision:
        yield from plans[command.timings]

    @handles
    def ask(self, command: Ask) -> Iterator[Event]:
        yield Asked(command.show)

    @applies
    def when_held(self, event: Held) -> None:
        self.kept.append(event.order)

    @applies
    def when_released(self, event: Released) -> None:
        if event.order == "poison":
            raise ValueError("the state breaks")
        self.kept.remove(event.order)
        self.gone.append(event.order)

    @applies
    def when_paid(self, event: Paid) -> None:
        self.kept.remove(event.order)

    @applies
    def ticked(self, event: Ticked) -> None:
        self.ticks += 1


class Asking(WriteModel):
    @reacts
    def asked(self, event: Asked) -> Reaction:
        yield Schedule(Hold(event.show, "r"), after=timedelta(seconds=5), name="by reaction")
        yield Schedule(Hold("other", "r"), after=timedelta(seconds=5), name="by reaction", key=None)
        yield Unschedule("nobody has set it")


theatre = App(models=[Show, Asking], name="theatre")
plans: dict[str, list[Any]] = {"nothing": []}


class Hands:
    """A clock that shows what it is told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def go_on(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Any) -> Place:
    return MemoryPlace() if request.param == "memory" else SqlitePlace(tmp_path)


@pytest.fixture
def hands() -> Hands:
    return Hands()


def show(engine: Engine, key: str = "s") -> Show:
    found: Show = write_state(engine).models[0].instances[key]
    return found


def due(engine: Engine) -> list[tuple[str, str]]:
    return [(entry.id, entry.due) for entry in engine.agenda.entries() if isinstance(entry, Timer)]


async def pass_by(engine: Engine, hands: Hands, seconds: float) -> None:
    """Let time pass, and the writer look at the clock, as it does for each commit."""
    hands.go_on(seconds)
    await engine.execute(Plan("elsewhere", "nothing"))


async def test_a_timer_sends_its_command_when_it_is_due_and_is_struck_by_that(place: Place, hands: Hands) -> None:
    ann = Metadata(actor="ann", correlation="c", extra={"till": "3"})
    async with Engine(theatre, log=place.log(), clock=hands) as engine:
        await engine.execute(Hold("s", "o1"), metadata=ann)
        assert due(engine) == [("timer:hold/o1@s", "2026-01-01T00:10:00.000000Z")]
        await pass_by(engine, hands, 599.9)
        await engine.execute(Hold("s", "o2", 1_000))
        assert show(engine).kept == ["o1", "o2"]
        await pass_by(engine, hands, 0.1)
        await until(lambda: show(engine).gone == ["o1"])
        assert [name for name, _ in due(engine)] == ["timer:hold/o2@s"]
        live = agenda_of(engine)
        place.crash()
    async with Engine(theatre, log=place.log(), clock=hands) as engine:
        assert agenda_of(engine) == live, "from the log"
        assert (show(engine).kept, show(engine).gone) == (["o2"], ["o1"])
    async with Engine(theatre, log=place.log(), clock=hands) as engine:
        assert agenda_of(engine) == live, "from the snapshot"


async def test_what_a_timer_led_to_says_so(hands: Hands) -> None:
    place = MemoryPlace()
    async with Engine(theatre, log=place.log(), clock=hands) as engine:
        await engine.execute(Hold("s", "o1", 1), metadata=Metadata(actor="ann", correlation="c", causation="mine"))
        await pass_by(engine, hands, 1)
        await until(lambda: show(engine).gone == ["o1"])
    body = msgspec.json.decode(place.store.commits[-1].body)
    assert (body["events"][-1]["why"], body["actors"], body["correlations"]) == ("timer:hold/o1", ["ann"], ["c"])
    assert (body["origins"], body["needs"]) == ([{"command": 0, "timer": "hold/o1"}], ["agenda"])


async def test_a_timer_that_is_called_off_or_set_anew_is_not_sent(place: Place, hands: Hands) -> None:
    async with Engine(theatre, log=place.log(), clock=hands, limits=UNSLICED) as engine:
        await engine.execute_many([Hold("s", "o1", 10), Hold("s", "o2", 10), Hold("s", "o3", 10, "hold/o2")])
        await engine.execute(Pay("s", "o1"))
        assert due(engine) == [("timer:hold/o2@s", "2026-01-01T00:00:10.000000Z")]
        await pass_by(engine, hands, 11)
        await until(lambda: not due(engine))
        assert (show(engine).kept, show(engine).gone) == (["o2"], ["o3"])
        place.crash()
    async with Engine(theatre, log=place.log(), clock=hands) as engine:
        assert (show(engine).kept, show(engine).gone, due(engine)) == (["o2"], ["o3"], [])


async def test_names_belong_to_the_key_of_the_command_or_of_the_event_unless_one_is_given(hands: Hands) -> None:
    place = MemoryPlace()
    async with Engine(theatre, log=place.log(), clock=hands) as engine:
        await engine.execute_many([Hold("a", "o"), Hold("b", "o"), Ask("c")])
        live = due(engine)
        assert [name for name, _ in live] == [
            "timer:hold/o@a", "timer:hold/o@b", "timer:by reaction@c", "timer:by reaction",
        ]  # fmt: skip
        place.crash()
    async with Engine(theatre, log=place.log(), clock=hands) as engine:
        assert due(engine) == live
        await engine.execute_many([Pay("a", "o"), Pay("b", "o")])
        assert len(due(engine)) == 2


async def test_many_timers_of_one_handler_are_counted_in_bytes_as_its_events_are(hands: Hands) -> None:
    plans["many"] = [Schedule(Release("s", "x" * 100), after=timedelta(1), name=str(n)) for n in range(300)]
    small = Limits(commit_bytes_max=COMMIT_BYTES_MIN, batch_bytes_max=16_000, cascade_bytes_max=16_000)
    async with Engine(theatre, log="memory:", clock=hands) as engine:
        await engine.execute(Plan("s", "many"))
        assert len(due(engine)) == 300
    async with Engine(theatre, log="memory:", clock=hands, limits=small) as engine:
        with pytest.raises(CommitTooLarge):
            await engine.execute(Plan("s", "many"))
        assert due(engine) == []


async def test_a_timer_without_a_name_is_one_of_its_own(hands: Hands) -> None:
    plans["unnamed"] = [Schedule(Release("s", "x"), at=START + timedelta(hours=1)) for _ in range(2)]
    place = MemoryPlace()
    async with Engine(theatre, log=place.log(), clock=hands) as engine:
        await engine.execute(Plan("s", "unnamed"))
        await engine.execute(Plan("s", "unnamed"))
        live = [name for name, _ in due(engine)]
        assert live == ["timer:Release/1.1@s", "timer:Release/1.2@s", "timer:Release/2.1@s", "timer:Release/2.2@s"]
        place.crash()
    async with Engine(theatre, log=place.log(), clock=hands) as engine:
        assert [name for name, _ in due(engine)] == live


async def test_what_was_due_while_nobody_ran_comes_at_opening_in_order(place: Place, hands: Hands) -> None:
    async with Engine(theatre, log=place.log(), clock=hands) as engine:
        await engine.execute_many([Hold("s", "late", 30), Hold("s", "early", 10), Hold("s", "later", 3_600)])
    hands.go_on(60)
    async with Engine(theatre, log=place.log(), clock=hands) as engine:
        await until(lambda: show(engine).gone == ["early", "late"])
        assert show(engine).kept == ["later"]


async def test_one_that_sets_itself_again_at_once_gets_a_commit_each_time_and_callers_go_on() -> None:
    place = MemoryPlace()
    async with Engine(theatre, log=place.log()) as engine:
        await engine.execute(Tick("s", 20))
        receipts = [await engine.execute(Ask("b")) for _ in range(3)]
        await until(lambda: show(engine).ticks == 21)
    assert len(receipts) == 3
    ticks = [msgspec.json.decode(commit.body)["events"] for commit in place.store.commits]
    assert max(sum(event["type"] == "Ticked" for event in events) for events in ticks) == 1


async def test_a_refusal_strikes_a_timer_and_is_recorded_and_a_failure_parks_it(place: Place, hands: Hands) -> None:
    async with Engine(theatre, log=place.log(), clock=hands) as engine:
        await engine.execute_many([Hold("s", "never", 1), Hold("s", "odd", 1), Hold("s", "good", 1)])
        await pass_by(engine, hands, 1)
        await until(lambda: show(engine).gone == ["good"])
        (parked,) = engine.agenda.entries()
        assert (parked.id, parked.error, parked.is_parked) == ("timer:hold/odd@s", "HandlerFailed", True)
        assert not await engine.agenda.retry(parked.id)
        assert [entry.id for entry in engine.agenda.entries()] == [parked.id]
        live = agenda_of(engine)
        place.crash()
    async with Engine(theatre, log=place.log(), clock=hands) as engine:
        assert agenda_of(engine) == live
        await engine.agenda.drop(parked.id)
        with pytest.raises(NotOnAgenda):
            await engine.agenda.drop(parked.id)
    async with Engine(theatre, log=place.log(), clock=hands) as engine:
        assert engine.agenda.entries() == []


async def test_one_that_breaks_the_state_is_parked_by_the_first_commit_and_the_engine_opens(
    place: Place, hands: Hands, log_lines: list[Any]
) -> None:
    async with Engine(theatre, log=place.log(), clock=hands) as engine:
        await engine.execute_many([Hold("s", "poison", 1), Hold("s", "good", 2)])
    hands.go_on(5)
    for _ in ("sent", "opened again"):
        async with Engine(theatre, log=place.log(), clock=hands) as engine:
            await until(lambda: is_deciding(engine) and show(engine).gone == ["good"])
            assert (await engine.execute(Ask("b"))).commit
            parked = [entry for entry in engine.agenda.entries() if entry.is_parked]
            assert [(entry.id, entry.error) for entry in parked] == [("timer:hold/poison@s", "ApplyFailed")]
    assert [line["event"] for line in log_lines].count("state_rebuilt") == 1
    assert [line["message"] for line in log_lines if line["event"] == "application_failed"] == ["Release"]


async def test_one_can_be_sent_before_its_time(hands: Hands) -> None:
    async with Engine(theatre, log="memory:", clock=hands) as engine:
        await engine.execute(Hold("s", "o"))
        assert await engine.agenda.fire_now("timer:hold/o@s")
        assert (show(engine).gone, engine.agenda.entries()) == (["o"], [])
        with pytest.raises(NotOnAgenda):
            await engine.agenda.fire_now("timer:hold/o@s")
        await engine.execute(Hold("s", "odd"))
        assert not await engine.agenda.fire_now("timer:hold/odd@s")
        with pytest.raises(InvalidMessage, match="no timer that waits"):
            await engine.agenda.fire_now("timer:hold/odd@s")


async def test_real_time_passes_for_a_timer_without_anybody_calling() -> None:
    async with Engine(theatre, log="memory:") as engine:
        await engine.execute(Hold("s", "o", 0.05))
        assert show(engine).kept == ["o"]
        await until(lambda: show(engine).gone == ["o"])


async def test_a_timer_at_a_time_waits_by_the_time_of_day() -> None:
    plans["at"] = [Schedule(Release("s", "o"), at=datetime.now(UTC) + timedelta(seconds=0.1), name="at")]
    async with Engine(theatre, log="memory:") as engine:
        await engine.execute_many([Hold("s", "o"), Plan("s", "at")])
        await until(lambda: show(engine).gone == ["o"])
        assert datetime.now(UTC) >= plans["at"][0].at


async def test_closing_does_not_wait_for_timers_and_sends_none(place: Place) -> None:
    async with Engine(theatre, log=place.log()) as engine:
        await engine.execute_many([Hold("s", str(number), 0.01) for number in range(50)])
    async with Engine(theatre, log=place.log()) as engine:
        await until(lambda: len(show(engine).gone) == 50)
        assert (show(engine).kept, engine.agenda.entries()) == ([], [])


async def test_as_many_timers_as_there_may_be_refuse_one_more_and_nothing_else(hands: Hands) -> None:
    async with Engine(theatre, log="memory:", clock=hands, limits=Limits(timers_max=2)) as engine:
        await engine.execute_many([Hold("s", "1"), Hold("s", "2")])
        with pytest.raises(LimitReached, match="timers_max=2"):
            await engine.execute(Hold("s", "3"))
        assert show(engine).kept == ["1", "2"]
        await engine.execute(Pay("s", "1"))
        await engine.execute(Hold("s", "3"))


@pytest.mark.parametrize(
    ("timing", "problem"),
    [
        (lambda: Schedule(Release("s", "o")), "either after= or at="),
        (lambda: Schedule(Release("s", "o"), after=timedelta(1), at=START), "either after= or at="),
        (lambda: Schedule(Release("s", "o"), after=timedelta(-1)), "0 or more"),
        (lambda: Schedule(Release("s", "o"), after=5), "a timedelta"),  # type: ignore[arg-type]
        (lambda: Schedule(Release("s", "o"), at=START.replace(tzinfo=None)), "aware datetime"),
        (lambda: Schedule(Release("s", "o"), after=timedelta.max), "no calendar"),
        (lambda: Schedule(Release("s", "o"), after=timedelta(), name=""), "1 to 200 characters"),
        (lambda: Schedule(Release("s", "o"), after=timedelta(), key=""), "a key is a text"),
        (lambda: Schedule(Release(3, "o"), after=timedelta()), "Release"),  # type: ignore[arg-type]
        (lambda: Schedule("Release", after=timedelta()), "str"),  # type: ignore[arg-type]
        (lambda: Unschedule("x" * 201), "1 to 200 characters"),
    ],
)
async def test_a_timer_that_is_none_is_the_handlers_failure_and_nothing_is_applied(timing: Any, problem: str) -> None:
    def yielded() -> Iterator[Any]:
        yield Held("s", "o")
        yield timing()

    plans["wrong"] = yielded()  # type: ignore[assignment]
    async with Engine(theatre, log="memory:") as engine:
        with pytest.raises(HandlerFailed, match=problem):
            await engine.execute(Plan("s", "wrong"))
        assert (engine.position, engine.agenda.entries()) == (0, [])


class Quiet(WriteModel):
    @handles
    def ask(self, command: Ask) -> Iterator[Event]:
        yield Asked(command.show)
        yield Schedule(command, after=timedelta())  # type: ignore[misc]  # what its annotation denies

    @applies
    def asked(self, event: Asked) -> None:
        pass


async def test_who_sets_timers_says_so_in_an_annotation() -> None:
    async with Engine(App(models=[Quiet]), log="memory:") as engine:
        with pytest.raises(HandlerFailed, match=r"-> Iterator\[Event \| Schedule\] or -> Decision"):
            await engine.execute(Ask("s"))


async def test_a_preview_shows_the_timers_and_sets_none(hands: Hands) -> None:
    async with Engine(theatre, log="memory:", clock=hands) as engine:
        preview = engine.preview(Hold("s", "o", 1))
        assert list(preview) == [Held("s", "o")]
        assert preview.timings == (Schedule(Release("s", "o"), after=timedelta(seconds=1), name="hold/o"),)
        assert engine.agenda.entries() == []


class Free(Command):
    show: Key
    seat: int


class OldRelease(Retired, tag="Release"):
    show: Key
    order: str

    def upcast(self) -> Iterator[Free]:
        if self.order == "two":
            yield Free(self.show, 1)
        if self.order != "none":
            yield Free(self.show, len(self.order))


class Freed(Event):
    show: Key
    seat: int


class Tomorrow(WriteModel):
    freed: list[int] = []

    @handles
    def free(self, command: Free) -> Decision:
        yield Freed(command.show, command.seat)

    @applies
    def when_freed(self, event: Freed) -> None:
        self.freed.append(event.seat)

    @applies
    def held(self, event: Held) -> None:
        pass


tomorrow = App(models=[Tomorrow], name="theatre")
later = App(models=[Tomorrow], retired=[OldRelease], name="theatre")


async def test_a_command_of_yesterday_is_upcast_when_it_is_due(place: Place, hands: Hands) -> None:
    async with Engine(theatre, log=place.log(), clock=hands) as engine:
        await engine.execute_many([Hold("s", order, 1) for order in ("abc", "none", "two")])
    hands.go_on(1)
    with pytest.raises(AgendaUnreadable, match="3 of 'Release'"):
        async with Engine(tomorrow, log=place.log(), clock=hands):
            pass
    async with Engine(later, log=place.log(), clock=hands) as engine:
        await until(lambda: [each.error for each in engine.agenda.entries()] == ["HandlerFailed"])
        assert write_state(engine).models[0].freed == [3]
        (parked,) = engine.agenda.entries()
        assert (parked.id, parked.error) == ("timer:hold/two@s", "HandlerFailed")
        assert "2 commands" in parked.text
        await engine.execute(Free("s", 9))  # and what was decided before it is durable
        live = agenda_of(engine)
        place.crash()
    async with Engine(later, log=place.log(), clock=hands) as engine:
        assert agenda_of(engine) == live
        assert asyncio.get_running_loop().is_running()


async def test_what_is_set_with_no_delay_gets_a_commit_of_its_own_also_while_one_is_written() -> None:
    log = ScriptedLog()
    async with Engine(theatre, log=log) as engine, anyio.create_task_group() as tasks:
        log.hold()
        tasks.start_soon(engine.execute, Plan("b", "nothing"), name="nothing to write")
        tasks.start_soon(engine.execute, Hold("b", "first"), name="in flight")
        await until(lambda: log.appends_started == 1)
        tasks.start_soon(engine.execute, Tick("s", 3), name="in the draft")
        await until(lambda: engine.agenda.entries()[1:])
        for _ in range(200):
            await anyio.lowlevel.checkpoint()
        assert show(engine).ticks == 1
        log.release()
        await until(lambda: show(engine).ticks == 4)
    events = [msgspec.json.decode(commit.body)["events"] for commit in log.commits]
    assert [[event["type"] for event in each] for each in events if each] == [["Held"], *[["Ticked"]] * 4]


async def test_while_the_store_fails_the_writer_asks_it_by_itself_where_a_timer_waits(log_lines: list[Any]) -> None:
    log = ScriptedLog()
    async with Engine(theatre, log=log, limits=Limits(store_retry_seconds=AT_ONCE)) as engine:
        await engine.execute(Hold("s", "o", 0.05))
        log.steps.append("lost")
        log.probes_fail = 12
        with pytest.raises(OutcomeUnknown):
            await engine.execute(Hold("s", "p"))
        await until(lambda: is_deciding(engine) and show(engine).gone == ["o"])
    assert [line["event"] for line in log_lines].count("rebuild_failed") == 11


async def _refused_again_and_again(world: Simulation) -> int:
    log = world.log()
    async with Engine(theatre, log=log) as engine:
        await engine.execute(Hold("s", "o", 5))
        log.faults = Faults(append_refused=1.0)  # and whoever asks the store hears that it works
        await world.sleep(100)
        refused = log.counts["append_refused"]
        log.heal()
        await world.sleep(5)
        assert show(engine).gone == ["o"]
    return refused


def test_a_timer_whose_commit_is_refused_again_and_again_rests_between() -> None:
    assert 80 < simulate(_refused_again_and_again, seed=7).result < 120


def in_simulation(scenario: Callable[[Simulation, Engine], Awaitable[None]], **limits: Any) -> Run[None]:
    async def opened(world: Simulation) -> None:
        async with Engine(theatre, log=world.log(), limits=Limits(**limits)) as engine:
            await scenario(world, engine)

    return simulate(opened, seed=7)


def test_a_clock_that_leaps_a_day_ahead_sends_no_timer_early_and_one_that_leaps_back_none_late() -> None:
    async def scenario(world: Simulation, engine: Engine) -> None:
        plans["leap"] = [Schedule(Release("s", "at"), at=world.now() + timedelta(seconds=300), name="at")]
        await engine.execute_many([Hold("s", "at"), Plan("s", "leap"), Hold("s", "after")])
        world.set_clock(86_400)
        await engine.execute(Hold("s", "ahead", 100))  # the leap is not believed yet: it is due in 100 s
        await world.sleep(50)
        world.set_clock(0)
        await world.sleep(45)
        assert show(engine).gone == []
        await world.sleep(15)
        assert show(engine).gone == ["ahead"]
        world.set_clock(-86_400)
        await world.sleep(185)
        assert show(engine).gone == ["ahead"], "by a clock that was set back for long it is not 5 minutes later"
        world.set_clock(0)
        await world.sleep(62)
        assert show(engine).gone == ["ahead", "at"]
        world.set_clock(-7_200)
        await world.sleep(260)
        assert show(engine).gone == ["ahead", "at", "after"], "it had counted from a moment"

    run = in_simulation(scenario, clock_jump_seconds_max=60.0)
    assert sum("clock_leaps" in line for line in run.trace) >= 3


def test_a_clock_that_stays_ahead_is_believed_and_what_waits_for_a_time_is_sent() -> None:
    async def scenario(world: Simulation, engine: Engine) -> None:
        plans["leap"] = [Schedule(Release("s", "at"), at=world.now() + timedelta(hours=5), name="at")]
        await engine.execute_many([Hold("s", "at"), Plan("s", "leap"), Hold("s", "after", 7_200)])
        world.set_clock(6 * 3_600)
        await world.sleep(50)
        assert show(engine).gone == []
        await world.sleep(15)
        assert show(engine).gone == ["at"]
        await world.sleep(7_100)
        assert show(engine).gone == ["at"]
        await world.sleep(40)
        assert show(engine).gone == ["at", "after"]

    in_simulation(scenario)


@pytest.mark.parametrize("seed", [0, 1, 2, 72])
def test_a_season_of_timers_crashes_and_failing_stores_forgets_none_and_sends_none_twice(seed: int) -> None:
    async def scenario(world: Simulation) -> None:
        log = world.log(Faults(append_lost=0.05, append_written=0.03, append_ghost=0.02, probe_fails=0.2))
        for period in range(4):
            engine = Engine(theatre, log=log)
            async with engine:
                for number in range(10):
                    order = f"{period}-{number}"
                    hold = Hold("s", order, world.random.uniform(0, 30))
                    while True:
                        try:
                            await engine.execute(hold, command_id=order)
                        except (CommitFailed, OutcomeUnknown, WriterUnavailable):
                            await world.sleep(0.1)
                            continue
                        break
                await world.sleep(world.random.uniform(0, 20))
                await world.crash(engine)
        async with Engine(theatre, log=log) as engine:
            await world.sleep(120)
            assert engine.agenda.entries() == []
            assert sorted(show(engine).gone) == sorted(f"{period}-{each}" for period in range(4) for each in range(10))

    simulate(scenario, seed=seed)


class Plain(WriteModel):
    """Sets no timer any more, and knows the command of those that were set."""

    released: list[str] = []

    @handles
    def release(self, command: Release) -> Iterator[Event]:
        yield Released(command.show, command.order)

    @applies
    def when_released(self, event: Released) -> None:
        self.released.append(event.order)

    @applies
    def held(self, event: Held) -> None: ...


@pytest.mark.parametrize("snapshots", [True, False])
async def test_what_was_set_is_sent_also_by_an_application_that_sets_none_any_more(
    place: Place, hands: Hands, snapshots: bool
) -> None:
    async with Engine(theatre, log=place.log(), clock=hands, snapshots=snapshots) as engine:
        await engine.execute(Hold("s", "o", 5))
    hands.go_on(5)
    plain = App(models=[Plain], name="theatre")
    async with Engine(plain, log=place.log(), clock=hands, snapshots=snapshots) as engine:
        await until(lambda: write_state(engine).models[0].released == ["o"])
    async with Engine(plain, log=place.log(), clock=hands, snapshots=snapshots) as engine:
        assert (write_state(engine).models[0].released, engine.agenda.entries()) == (["o"], [])


async def test_timers_without_a_name_are_told_apart_also_when_a_commit_is_decided_in_slices(hands: Hands) -> None:
    plans["one"] = [Schedule(Release("s", "x"), after=timedelta(hours=1))]
    log = ScriptedLog()
    async with Engine(theatre, log=log, clock=hands) as engine, anyio.create_task_group() as tasks:
        log.hold()
        tasks.start_soon(engine.execute, Hold("b", "first"), name="in flight")
        await until(lambda: log.appends_started == 1)
        for number in range(3):
            tasks.start_soon(engine.execute, Plan("s", "one"), name=f"in the draft {number}")
            await until(lambda so_many=number: len(due(engine)) == so_many + 2)  # type: ignore[misc]
        log.release()
    assert len(log.commits) == 2


async def test_a_store_that_fails_is_not_asked_without_a_pause_while_a_timer_is_due(log_lines: list[Any]) -> None:
    log = ScriptedLog()
    async with Engine(theatre, log=log) as engine:
        await engine.execute(Hold("s", "o", 0))
        log.steps.append("lost")
        log.probes_fail = 4
        with pytest.raises((CommitFailed, OutcomeUnknown)):
            await engine.execute(Hold("s", "p", 0))
        before = len(log_lines)
        for _ in range(300):
            await anyio.lowlevel.checkpoint()
        assert len(log_lines) - before <= 2
        await until(lambda: is_deciding(engine) and len(show(engine).gone) >= 1)


@pytest.mark.parametrize("text", ["x\ud800", "a\0b"])
async def test_a_name_that_is_no_text_is_refused_and_a_refusal_in_such_words_is_recorded(
    text: str, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in ({"name": text}, {"key": text}):
        with pytest.raises(InvalidMessage, match="half of a character"):
            Schedule(Release("s", "o"), after=timedelta(), **wrong)  # type: ignore[arg-type]

    place = MemoryPlace()
    async with Engine(refusing, log=place.log(), clock=hands) as engine:
        await engine.execute(Tick("s", 1))
        hands.go_on(1)
        await engine.execute(Tick("t", 0))
        await until(lambda: not engine.agenda.entries())
        await engine.execute(Tick("t", 0))
    bodies = [msgspec.json.decode(commit.body) for commit in place.store.commits]
    assert [each["code"] for body in bodies for each in body.get("refused", ())] == ["a\\ud800"]


class Refusing(WriteModel):
    @handles
    def tick(self, command: Tick) -> Decision:
        yield Ticked(command.show)
        if command.left:
            yield Schedule(Release(command.show, "o"), after=timedelta(seconds=1))

    @handles
    def release(self, command: Release) -> Iterator[Event]:
        raise Rejected("a\ud800")

    @applies
    def ticked(self, event: Ticked) -> None: ...


refusing = App(models=[Refusing])


async def test_as_many_parked_as_the_agenda_may_have_refuse_one_more_timer(hands: Hands) -> None:
    async with Engine(theatre, log="memory:", clock=hands, limits=Limits(agenda_entries_max=2)) as engine:
        for name in ("1", "2"):
            await engine.execute(Hold("s", "odd", 1, name))
        await pass_by(engine, hands, 1)
        await until(lambda: sum(entry.is_parked for entry in engine.agenda.entries()) == 2)
        with pytest.raises(LimitReached, match="agenda_entries_max=2"):
            await engine.execute(Hold("s", "o3"))


async def test_a_failing_timer_is_told_once(hands: Hands, log_lines: list[Any]) -> None:
    async with Engine(theatre, log="memory:", clock=hands) as engine:
        await engine.execute(Hold("s", "odd", 1))
        await pass_by(engine, hands, 1)
        await until(lambda: any(entry.is_parked for entry in engine.agenda.entries()))
    assert [line["event"] for line in log_lines].count("application_failed") == 1


async def test_more_timers_than_are_sent_at_once_are_all_sent_in_order_also_with_commits_of_one(hands: Hands) -> None:
    async with Engine(theatre, log="memory:", clock=hands, limits=Limits(batch_commands_max=1)) as engine:
        await engine.execute_many([Hold("s", f"{number:04}", number / 1_000) for number in range(1_500)])
        await pass_by(engine, hands, 10)
        await until(lambda: len(show(engine).gone) == 1_500)
        assert show(engine).gone == sorted(show(engine).gone)


async def test_a_receipt_does_not_count_what_a_timer_led_to_behind_its_command_in_one_commit(hands: Hands) -> None:
    log, limits = ScriptedLog(), Limits(batch_commands_max=4, slice_ms_max=UNSLICED.slice_ms_max)
    async with Engine(theatre, log=log, clock=hands, limits=limits) as engine, anyio.create_task_group() as tasks:
        await engine.execute_many([Hold("s", order, 5) for order in ("a", "b", "c")])
        log.hold()
        tasks.start_soon(engine.execute, Hold("b", "first"), name="in flight")
        started = log.appends_started
        await until(lambda: log.appends_started == started + 1)
        hands.go_on(5)
        receipts: list[Receipt] = []

        async def sent() -> None:
            receipts.append(await engine.execute(Hold("s", "d", 1_000), command_id="d"))

        tasks.start_soon(sent)
        await until(lambda: show(engine).gone == ["a", "b", "c"])
        log.release()
    assert receipts[0].version == 6, "two timers came before it, and one after it"
    async with Engine(theatre, log=MemoryLog(MemoryStore(log.commits)), clock=hands, snapshots=False) as engine:
        again = await engine.execute(Hold("s", "d", 1_000), command_id="d")
        assert again == msgspec.structs.replace(receipts[0], repeated=True)


async def test_after_counts_from_the_clock_also_where_the_log_is_ahead_of_it(
    hands: Hands, log_lines: list[Any]
) -> None:
    place = MemoryPlace()
    hands.go_on(86_400)
    async with Engine(theatre, log=place.log(), clock=hands) as engine:
        await engine.execute(Plan("s", "nothing"), command_id="ahead")
    hands.go_on(-86_400)
    async with Engine(theatre, log=place.log(), clock=hands) as engine:
        await engine.execute_many([Hold("s", "o", 10), Ask("c")])
        assert [when for _, when in due(engine)] == [timestamp(START + timedelta(seconds=each)) for each in (10, 5, 5)]
    assert [line["seconds"] for line in log_lines if line["event"] == "log_ahead"] == [86_400]


async def test_what_is_shown_of_the_agenda_and_of_a_preview_can_be_changed_by_nobody(hands: Hands) -> None:
    async with Engine(theatre, log="memory:", clock=hands) as engine:
        await engine.execute(Hold("s", "o"), metadata=Metadata(extra={"till": "3"}))
        (entry,) = engine.agenda.entries()
        assert entry.metadata.extra is not None
        entry.metadata.extra["till"] = "4"
        assert engine.agenda.entries()[0].metadata.extra == {"till": "3"}


class Bell(Command):
    show: Key
    times: list[int]


class Rung(Event):
    show: Key


class Tower(WriteModel):
    times: list[int] = msgspec.field(default_factory=lambda: [1, 2])

    @handles
    def bell(self, command: Bell) -> Decision:
        yield Schedule(Bell(command.show, self.times), after=timedelta(1))

    @applies
    def rung(self, event: Rung) -> None: ...


async def test_the_commands_in_a_preview_are_copies() -> None:
    async with Engine(App(models=[Tower]), log="memory:") as engine:
        engine.preview(Bell("s", [])).timings[0].command.times.append(3)
        assert engine.preview(Bell("s", [])).timings[0].command.times == [1, 2]


class Rocks(WriteModel):
    """The first reaction damages the state, so the second is owed; and sets a timer when its turn comes."""

    @handles
    def ask(self, command: Ask) -> Iterator[Event]:
        yield Asked(command.show)

    @handles
    def plan(self, command: Plan) -> Iterator[Event]:
        yield Released(command.show, "poison")

    @handles
    def release(self, command: Release) -> Iterator[Event]:
        yield Held(command.show, command.order)

    @reacts
    def breaks(self, event: Asked) -> Reaction:
        yield Plan(event.show, "")

    @reacts
    def reminds(self, event: Asked) -> Reaction:
        yield Schedule(Release(event.show, "later"), after=timedelta(seconds=5), name="later")

    @applies
    def released(self, event: Released) -> None:
        raise ValueError("the state breaks")

    @applies
    def held(self, event: Held) -> None: ...


async def test_a_timer_that_an_owed_reaction_sets_has_whoever_asked_for_its_cause(place: Place, hands: Hands) -> None:
    rocks = App(models=[Rocks], name="rocks")
    async with Engine(rocks, log=place.log(), clock=hands) as engine:
        await engine.execute(Ask("s"), metadata=Metadata(actor="ann"))
        await until(lambda: is_deciding(engine) and due(engine))
        await engine.execute(Release("s", "o"))
        (timer,) = [entry for entry in engine.agenda.entries() if isinstance(entry, Timer)]
        assert (timer.id, timer.metadata) == ("timer:later@s", Metadata(actor="ann"))
        live = agenda_of(engine)
        place.crash()
    async with Engine(rocks, log=place.log(), clock=hands) as engine:
        assert agenda_of(engine) == live
