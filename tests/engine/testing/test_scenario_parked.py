"""Scenarios of what fails behind a command: it is parked as in an engine, expected or found, tried again or dropped."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from millstream.engine import (
    App,
    ApplyFailed,
    Command,
    Event,
    EventsUnreadable,
    HandlerFailed,
    InvalidMessage,
    Key,
    NotOnAgenda,
    Query,
    Rejected,
    UnknownMessage,
)
from millstream.engine.testing import Scenario
from millstream.handlers import (
    Decision,
    Effects,
    Reaction,
    Retired,
    Schedule,
    WriteModel,
    applies,
    handles,
    performs,
    reacts,
)
from millstream.views import View, answers


class Ask(Command):
    order: Key


class Confirm(Command):
    order: Key


class Later(Command):
    order: Key


class Note(Command):
    order: Key


class Mend(Command):
    """From now on nothing breaks."""


class Asked(Event):
    order: Key


class Confirmed(Event):
    order: Key


class Noted(Event):
    order: Key


class Mended(Event): ...


class HowMany(Query[int]): ...


class AskedInPence(Retired, tag="AskedOnce"):
    order: Key

    def upcast(self) -> Iterator[Event]:
        if self.order == "unreadable":
            raise LookupError("unreadable")
        yield Asked(self.order)
        yield Confirmed(self.order)


class AskOnce(Retired):
    order: Key

    def upcast(self) -> Iterator[Ask]:
        yield Ask(self.order)


class Orders(WriteModel):
    """What its orders are called says what breaks, until all is mended."""

    asked: int = 0
    confirmed: list[str] = []
    is_mended: bool = False

    @handles
    def ask(self, command: Ask) -> Decision:
        yield Asked(command.order)
        yield Schedule(Later(command.order), after=timedelta(hours=1), name="later")

    @handles
    def confirm(self, command: Confirm) -> Iterator[Confirmed]:
        if command.order in ("handler", "refused") and not self.is_mended:
            raise KeyError(command.order)
        if command.order == "refused":
            raise Rejected("refused", "as it is called so")
        yield Confirmed(command.order)

    @handles
    def later(self, command: Later) -> Iterator[Event]:
        if command.order == "timer":
            yield Confirmed("poison")

    @handles
    def note(self, command: Note) -> Iterator[Noted]:
        if command.order == "caught":
            raise ValueError("caught")
        yield Noted(command.order)

    @handles
    def mend(self, _: Mend) -> Iterator[Mended]:
        yield Mended()

    @reacts
    def follow(self, event: Confirmed) -> Reaction:
        if event.order == "caught":
            try:
                yield Note(event.order)
            except HandlerFailed:
                raise LookupError("then this") from None
        yield Note("poison" if event.order == "reaction" else event.order)

    @applies
    def when_asked(self, event: Asked) -> None:
        self.asked += 1

    @applies
    def when_confirmed(self, event: Confirmed) -> None:
        self.confirmed.append(event.order)  # half of it is done by then
        if event.order in ("poison", "apply") and not self.is_mended:
            raise ValueError("it breaks")

    @applies
    def noted(self, event: Noted) -> None:
        if event.order == "poison" and not self.is_mended:
            raise ValueError("it breaks, too")

    @applies
    def mended(self, _: Mended) -> None:
        self.is_mended = True


class Counted(View):
    count: int = 0

    @applies
    def confirmed(self, _: Confirmed) -> None:
        self.count += 1

    @answers
    def how_many(self, _: HowMany) -> int:
        return self.count


class Payments(Effects):
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.is_down = False

    @performs
    async def charge(self, event: Asked) -> Confirm:
        self.calls.append(event.order)
        if self.is_down:
            raise ConnectionError("no line")
        return Confirm(event.order)


class Mails(Effects):
    def __init__(self) -> None:
        self.sent: list[str] = []

    @performs
    async def receipt(self, event: Noted) -> None:
        self.sent.append(event.order)


app = App(models=[Orders], views=[Counted], effects=[Payments], retired=[AskedInPence, AskOnce], name="parking")


@pytest.fixture
def payments() -> Payments:
    return Payments()


@pytest.fixture
def scenario(payments: Payments) -> Scenario:
    return Scenario(app, effects=[payments])


def test_what_came_of_an_effect_and_breaks_the_state_is_parked_and_the_scenario_goes_on(
    scenario: Scenario, payments: Payments
) -> None:
    scenario.given(Ask("apply"), Ask("o2"))
    scenario.perform()
    scenario.then_parked("outcome:1/Payments.charge")
    scenario.then(Confirmed("o2"), Noted("o2"))
    assert scenario.state(Orders).confirmed == ["o2"]
    assert scenario.ask(HowMany()) == 1
    scenario.perform()
    assert payments.calls == ["apply", "o2"]
    scenario.when(Confirm("o3"))
    scenario.then(Confirmed("o3"), Noted("o3"))
    scenario.check()


def test_what_comes_to_be_owed_after_the_state_was_made_anew_is_performed_in_the_same_step() -> None:
    mails = Mails()
    with Scenario(App(models=[Orders], effects=[Payments, Mails]), effects=[Payments(), mails]) as scenario:
        scenario.given(Ask("apply"), Ask("o2"))
        scenario.perform()
        scenario.then_parked("outcome:1/Payments.charge")
        scenario.then_effects({})
    assert mails.sent == ["o2"]


def test_where_nothing_expects_what_came_of_an_effect_to_fail_the_next_step_does_and_says_why(
    scenario: Scenario,
) -> None:
    scenario.given(Ask("apply"))
    scenario.perform()
    told = r"outcome:1/Payments\.charge failed and is parked.*ApplyFailed.*Orders\.when_confirmed.*it breaks"
    with pytest.raises(AssertionError, match=rf"(?s){told}"):
        scenario.then(Confirmed("apply"))
    with pytest.raises(AssertionError, match=rf"(?s){told}") as raised:
        scenario.when(Confirm("o2"))
    assert isinstance(raised.value.__cause__, ApplyFailed)
    scenario.check()


def test_a_timer_that_breaks_the_state_is_parked_and_those_after_it_are_sent(scenario: Scenario) -> None:
    scenario.given(Ask("timer"), Ask("o2"))
    scenario.advance(hours=1)
    scenario.then_parked("timer:later@timer")
    scenario.then_timers({})
    assert scenario.state(Orders).confirmed == []
    scenario.check()


def test_a_reaction_that_breaks_the_state_is_parked_and_what_led_to_it_stands(scenario: Scenario) -> None:
    scenario.when(Confirm("reaction"))
    scenario.then_parked("event:1/Orders.follow")
    scenario.then(Confirmed("reaction"))
    scenario.check()


def test_a_command_that_breaks_the_state_raises_and_leaves_nothing(scenario: Scenario) -> None:
    scenario.given(Confirm("o1"))
    with pytest.raises(ApplyFailed, match="it breaks"):
        scenario.when(Confirm("apply"))
    with pytest.raises(ApplyFailed, match="it breaks"):
        scenario.given(Confirmed("apply"))
    assert scenario.state(Orders).confirmed == ["o1"]
    scenario.when(Confirm("o2"))
    scenario.then(Confirmed("o2"), Noted("o2"))
    scenario.check()


def test_what_failed_and_was_caught_is_not_taken_for_why_something_is_parked(scenario: Scenario) -> None:
    scenario.when(Confirm("caught"))
    with pytest.raises(AssertionError, match=r"event:1/Orders\.follow failed .*: LookupError\('then this'\)"):
        scenario.check()


@pytest.mark.parametrize("order", ["handler", "apply"])
def test_what_is_parked_is_tried_again_and_fails_again_or_not(
    scenario: Scenario, payments: Payments, order: str
) -> None:
    scenario.given(Ask(order))
    scenario.perform()
    scenario.then_parked("outcome:1/Payments.charge")
    scenario.retry("outcome:1/Payments.charge")
    scenario.then_parked("outcome:1/Payments.charge")
    scenario.retry("outcome:1/Payments.charge")
    with pytest.raises(AssertionError, match=r"outcome:1/Payments\.charge failed and is parked"):
        scenario.when(Mend())
    scenario.when(Mend())
    scenario.retry("outcome:1/Payments.charge")
    scenario.then(Confirmed(order), Noted(order))
    assert payments.calls == [order]
    scenario.check()


def test_an_effect_that_is_tried_again_is_owed_again(scenario: Scenario, payments: Payments) -> None:
    payments.is_down = True
    scenario.given(Ask("o1"))
    scenario.perform()
    scenario.then_parked("effect:1/Payments.charge")
    scenario.then_effects({})
    payments.is_down = False
    scenario.retry("effect:1/Payments.charge")
    scenario.then_effects({"Payments.charge": [Asked("o1")]})
    scenario.perform()
    scenario.then(Confirmed("o1"), Noted("o1"))
    scenario.check()


def test_a_refusal_of_what_is_tried_again_is_to_be_expected(scenario: Scenario) -> None:
    scenario.given(Ask("refused"))
    scenario.perform()
    scenario.then_parked("outcome:1/Payments.charge")
    scenario.given(Mend())
    scenario.retry("outcome:1/Payments.charge")
    scenario.then_refused("refused")
    with pytest.raises(NotOnAgenda):
        scenario.retry("outcome:1/Payments.charge")
    scenario.check()


def test_a_timer_that_is_tried_again_is_sent_at_once(scenario: Scenario) -> None:
    scenario.given(Ask("timer"))
    scenario.advance(hours=1)
    scenario.then_parked("timer:later@timer")
    scenario.given(Mend())
    scenario.retry("timer:later@timer")
    scenario.then(Confirmed("poison"), Noted("poison"))
    scenario.check()


def test_a_reaction_whose_commands_were_decided_is_tried_again_where_that_is_said() -> None:
    scenario = Scenario(app)
    scenario.when(Confirm("reaction"))
    scenario.then_parked("event:1/Orders.follow")
    scenario.given(Mend())
    scenario.retry("event:1/Orders.follow", again=True)
    scenario.then(Noted("poison"))
    scenario.check()


def test_what_is_dropped_is_never_decided(scenario: Scenario, payments: Payments) -> None:
    scenario.given(Ask("apply"), Ask("o2"))
    scenario.drop("effect:2/Payments.charge")
    scenario.drop("timer:later@o2")
    scenario.perform()
    scenario.then_parked("outcome:1/Payments.charge")
    scenario.drop("outcome:1/Payments.charge")
    scenario.then()
    scenario.then_timers({"later": Later("apply")})
    assert payments.calls == ["apply"]
    scenario.check()


def test_what_can_not_be_settled_is_refused_and_the_scenario_goes_on(scenario: Scenario) -> None:
    scenario.given(Ask("apply"))
    with pytest.raises(InvalidMessage, match="is not parked"):
        scenario.retry("effect:1/Payments.charge")
    for nothing in ("effect:9/Payments.charge", "rubbish"):
        with pytest.raises(NotOnAgenda):
            scenario.drop(nothing)
    scenario.perform()
    scenario.then_parked("outcome:1/Payments.charge")
    scenario.check()


def test_a_retired_event_is_given_as_it_was_stored_and_applied_as_what_it_means(scenario: Scenario) -> None:
    scenario.given(AskedInPence("o1"), Asked("o2"))
    assert (scenario.state(Orders).asked, scenario.state(Orders).confirmed) == (2, ["o1"])
    assert scenario.ask(HowMany()) == 1
    scenario.then_effects({})
    scenario.when(Confirm("o1"), expected_version=1)  # it was one event
    scenario.then(Confirmed("o1"), Noted("o1"))
    scenario.check()


def test_a_retired_event_that_can_not_be_read_or_applied_and_a_retired_command_are_refused(scenario: Scenario) -> None:
    with pytest.raises(EventsUnreadable, match="unreadable"):
        scenario.given(AskedInPence("unreadable"))
    with pytest.raises(ApplyFailed, match="it breaks"):
        scenario.given(AskedInPence("apply"))
    with pytest.raises(InvalidMessage):
        scenario.given(AskedInPence(7))  # type: ignore[arg-type]
    with pytest.raises(UnknownMessage, match="AskOnce"):
        scenario.given(AskOnce("o1"))
    assert scenario.state(Orders).asked == 0
    scenario.check()
