"""Scenarios: what a test of an application's rules says, and what it is told when they are others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from millstream.engine import (
    App,
    ApplyFailed,
    Command,
    CommandIdReused,
    Context,
    Event,
    HandlerFailed,
    ImpureHandler,
    InvalidMessage,
    Key,
    Limits,
    Metadata,
    Query,
    Receipt,
    UnknownMessage,
    VersionConflict,
    ViewIncomplete,
)
from millstream.engine.testing import BrokenPromise, Scenario
from millstream.handlers import (
    Aggregate,
    Decision,
    Reaction,
    Rejected,
    Schedule,
    Unschedule,
    WriteModel,
    applies,
    handles,
    reacts,
)
from millstream.views import View, answers
from tests.desk import Put, Seen, desk


class Open(Command):
    show: Key
    seats: int


class Hold(Command[int]):
    show: Key
    order: str


class Release(Command):
    show: Key
    order: str


class Pay(Command):
    show: Key
    order: str


class Opened(Event):
    show: Key
    seats: int


class Held(Event):
    show: Key
    order: str
    at: datetime | None = None


class Released(Event):
    show: Key
    order: str


class Paid(Event):
    show: Key
    order: str


class Greeted(Event):
    order: str


class Greet(Command):
    order: str


class Free(Query[int]):
    show: str


class Show(Aggregate):
    free: int = 0
    held: list[str] = []

    @handles
    def open(self, command: Open) -> Iterator[Event]:
        yield Opened(command.show, command.seats)

    @handles
    def hold(self, command: Hold, context: Context) -> Decision[int]:
        if command.order == "bug":
            raise KeyError("bug")
        if not self.free:
            raise Rejected("sold_out", "no seat is free")
        yield Held(command.show, command.order, context.now)
        yield Schedule(Release(command.show, command.order), after=timedelta(minutes=10), name=f"hold/{command.order}")
        return self.free - 1

    @handles
    def release(self, command: Release) -> Iterator[Event]:
        if command.order == "odd":
            raise KeyError("odd")
        if command.order in self.held:
            yield Released(command.show, command.order)

    @handles
    def pay(self, command: Pay) -> Decision:
        if command.order in self.held:
            yield Paid(command.show, command.order)
        yield Unschedule(f"hold/{command.order}")

    @applies
    def opened(self, event: Opened) -> None:
        self.free = event.seats

    @applies
    def when_held(self, event: Held) -> None:
        if event.order == "poison":
            raise ValueError("it breaks")
        self.free -= 1
        self.held.append(event.order)

    @applies
    def released(self, event: Released) -> None:
        self.free += 1
        self.held.remove(event.order)

    @applies
    def paid(self, event: Paid) -> None:
        self.held.remove(event.order)


class Manners(WriteModel):
    @handles
    def greet(self, command: Greet) -> Iterator[Event]:
        if command.order == "rude":
            raise Rejected("rude", "not to them")
        yield Greeted(command.order)

    @reacts
    def paid(self, event: Paid) -> Reaction:
        if event.order == "stray":
            raise LookupError("stray")
        yield Greet(event.order)


class Seats(View):
    free: dict[str, int] = {}

    @applies
    def opened(self, event: Opened) -> None:
        self.free[event.show] = event.seats

    @applies
    def held(self, event: Held) -> None:
        self.free[event.show] -= 1

    @applies
    def greeted(self, event: Greeted) -> None: ...

    @answers
    def how_many(self, query: Free) -> int:
        return self.free[query.show]


theatre = App(models=[Show, Manners], views=[Seats], name="theatre")
START = datetime(2026, 1, 1, tzinfo=UTC)


def test_what_is_given_decides_what_a_command_leads_to() -> None:
    with Scenario(theatre) as scenario:
        scenario.given(Opened("hamlet", 2), Hold("hamlet", "o1"))
        scenario.when(Hold("hamlet", "o2"), metadata=Metadata(actor="ann"))
        scenario.then(Held("hamlet", "o2", START))
        scenario.then_answer(0)
        assert isinstance(scenario.outcome, Receipt)
        assert (scenario.outcome.version, scenario.ask(Free("hamlet"))) == (3, 0)
        scenario.when(Hold("hamlet", "o3"))
        scenario.then_refused("sold_out")
        assert scenario.state(Show, "hamlet").held == ["o1", "o2"]
        assert scenario.state(Show, "macbeth") is None


def test_time_passes_when_it_is_told_to_and_sends_what_is_due_each_at_its_time() -> None:
    with Scenario(theatre) as scenario:
        scenario.given(Opened("hamlet", 3))
        scenario.when(Hold("hamlet", "o1"))
        scenario.advance(minutes=5)
        scenario.then()
        scenario.when(Hold("hamlet", "o2"))
        scenario.then(Held("hamlet", "o2", START + timedelta(minutes=5)))
        scenario.then_timers({"hold/o1": Release("hamlet", "o1"), "hold/o2": Release("hamlet", "o2")})
        assert [timer.due[11:19] for timer in scenario.timers] == ["00:10:00", "00:15:00"]
        scenario.advance(timedelta(minutes=5))
        scenario.then(Released("hamlet", "o1"))
        scenario.when(Pay("hamlet", "o2"))
        scenario.then(Paid("hamlet", "o2"), Greeted("o2"))
        scenario.then_timers({})
        scenario.advance(days=1)
        scenario.then()
        assert scenario.now == START + timedelta(days=1, minutes=10)


def test_a_difference_is_shown_event_by_event() -> None:
    scenario = Scenario(theatre)
    scenario.given(Opened("hamlet", 2), Hold("hamlet", "o1"))
    scenario.when(Pay("hamlet", "o1"))
    with pytest.raises(AssertionError) as raised:
        scenario.then(Paid("hamlet", "o1"), Released("hamlet", "o1"))
    assert str(raised.value).splitlines() == [
        "what happened is not what was expected (- is missing, + is there):",
        "    Paid(show='hamlet', order='o1')",
        "  - Released(show='hamlet', order='o1')",
        "  + Greeted(order='o1')",
    ]
    with pytest.raises(AssertionError, match=r"the timers is not.*\n  - \('x', Release"):
        scenario.then_timers({"x": Release("hamlet", "x")})
    with pytest.raises(AssertionError, match="answered None, and not 7"):
        scenario.then_answer(7)


def test_a_refusal_that_nothing_expects_fails_at_the_next_step_and_a_wrong_one_at_once() -> None:
    scenario = Scenario(theatre)
    scenario.when(Hold("hamlet", "o1"))
    with pytest.raises(AssertionError, match="the command was refused: sold_out"):
        scenario.then()
    with pytest.raises(AssertionError, match="the command answered nothing"):
        scenario.then_answer(1)
    with pytest.raises(AssertionError, match="nothing expects that: sold_out"):
        scenario.advance(minutes=1)
    scenario.when(Hold("hamlet", "o1"))
    with pytest.raises(AssertionError, match=r"(?s)what was refused is not 'closed':.*sold_out"):
        scenario.then_refused("closed")
    scenario.when(Open("hamlet", 1))
    with pytest.raises(AssertionError, match=r"nothing was refused; what happened:\n  Opened"):
        scenario.then_refused("sold_out")
    scenario.when(Hold("macbeth", "o1"))
    with pytest.raises(AssertionError, match="nothing expects that"):
        scenario.check()
    with pytest.raises(AssertionError, match="nothing expects that"), Scenario(theatre) as last:
        last.given(Hold("hamlet", "o1"))


def test_what_fails_behind_a_command_has_to_be_expected() -> None:
    scenario = Scenario(theatre)
    scenario.given(Opened("hamlet", 3), Hold("hamlet", "stray"))
    scenario.when(Pay("hamlet", "stray"))
    scenario.then(Paid("hamlet", "stray"))
    with pytest.raises(AssertionError, match=r"event:3/Manners\.paid failed .* LookupError\('stray'\)"):
        scenario.advance(minutes=1)
    scenario.when(Hold("hamlet", "odd"))
    scenario.advance(minutes=10)
    scenario.then()
    with pytest.raises(AssertionError, match=r"what is parked is not .*\n.*\ntimer:hold/odd@hamlet: .*odd"):
        scenario.then_parked()
    scenario.when(Hold("hamlet", "fine"))
    scenario.check()


def test_what_fails_and_is_expected_is_fine() -> None:
    with Scenario(theatre) as scenario:
        scenario.given(Opened("hamlet", 2), Hold("hamlet", "stray"), Hold("hamlet", "odd"))
        scenario.when(Pay("hamlet", "stray"))
        scenario.then_parked("event:4/Manners.paid")
        scenario.advance(minutes=10)
        scenario.then_parked("timer:hold/odd@hamlet")


def test_calling_off_what_nobody_has_set_fails_and_what_was_sent_already_does_not() -> None:
    scenario = Scenario(theatre)
    scenario.given(Opened("hamlet", 2), Hold("hamlet", "o1"))
    scenario.advance(minutes=10)
    scenario.when(Pay("hamlet", "o1"))
    scenario.then()
    with pytest.raises(AssertionError, match=r"Unschedule\('hold/o9'\) of key 'hamlet'"):
        scenario.when(Pay("hamlet", "o9"))


def test_a_defect_is_raised_as_the_engine_would_tell_of_it() -> None:
    scenario = Scenario(theatre)
    scenario.given(Opened("hamlet", 2))
    with pytest.raises(HandlerFailed, match="KeyError"):
        scenario.when(Hold("hamlet", "bug"))
    with pytest.raises(InvalidMessage):
        scenario.when(Open("hamlet", "many"))  # type: ignore[arg-type]
    with pytest.raises(UnknownMessage):
        scenario.ask(Greet("o1"))  # type: ignore[arg-type]
    with pytest.raises(ApplyFailed, match="it breaks"):
        scenario.when(Hold("hamlet", "poison"))
    with pytest.raises(ApplyFailed):
        Scenario(theatre).given(Held("hamlet", "poison"))


def test_ids_and_versions_are_as_in_an_engine() -> None:
    with Scenario(theatre, limits=Limits(receipts_max=2)) as scenario:
        scenario.when(Open("hamlet", 2), command_id="1", expected_version=0)
        first = scenario.outcome
        scenario.when(Open("hamlet", 2), command_id="1")
        scenario.then()
        assert isinstance(first, Receipt)
        assert scenario.outcome == Receipt(first.commit, first.position, 1, "1", 1, True)
        with pytest.raises(CommandIdReused):
            scenario.when(Open("hamlet", 3), command_id="1")
        with pytest.raises(VersionConflict):
            scenario.when(Open("hamlet", 3), expected_version=9)


class Careless(WriteModel):
    count: int = 0

    @handles
    def greet(self, command: Greet) -> Iterator[Event]:
        self.count += command.order == "impure"
        yield Greeted(command.order)

    @applies
    def greeted(self, event: Greeted) -> None:
        if event.order == "odd":
            self.count += len(calls)
        calls.append(event.order)


calls: list[str] = []


def test_an_impure_handler_and_a_replay_that_differs_are_found() -> None:
    careless = App(models=[Careless])
    with pytest.raises(ImpureHandler):
        Scenario(careless).when(Greet("impure"))
    scenario = Scenario(careless)
    scenario.when(Greet("odd"))
    with pytest.raises(BrokenPromise, match="Careless is not what a replay of the log makes: count is"):
        scenario.check()


class Eager(WriteModel):
    @handles
    def greet(self, command: Greet) -> Decision:
        yield Schedule(command, after=timedelta(), name="again")

    @applies
    def greeted(self, event: Greeted) -> None: ...


def test_timers_that_set_each_other_without_an_end_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.engine.testing.scenario._FIRED_MAX", 50)

    scenario = Scenario(App(models=[Eager]))
    scenario.when(Greet("x"))
    with pytest.raises(AssertionError, match="they set each other"):
        scenario.advance(minutes=1)


def test_a_view_that_has_left_out_an_event_says_so_as_in_an_engine() -> None:
    with Scenario(desk("park")) as scenario:
        scenario.when(Put("a", "bad"))
        scenario.when(Put("b", "1"))
        with pytest.raises(ViewIncomplete, match="has left out 1 parked"):
            scenario.ask(Seen())
        assert scenario.ask(Seen(), incomplete=True) == ("b 1",)
