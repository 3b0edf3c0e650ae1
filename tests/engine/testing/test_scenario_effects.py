"""Scenarios of what an application does to the outside world, with fakes for that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from millstream.engine import App, Command, DefinitionError, Event, InvalidMessage, Key, Rejected, UnknownMessage
from millstream.engine.testing import NotSimulated, Scenario, SimulationError
from millstream.handlers import Attempt, Decision, Effects, Schedule, WriteModel, applies, handles, performs


class Pay(Command):
    order: Key
    cents: int


class Confirm(Command):
    order: Key
    charge: str


class Remind(Command):
    order: Key


class Asked(Event):
    order: Key
    cents: int


class Paid(Event):
    order: Key
    charge: str


class Orders(WriteModel):
    paid: dict[str, str] = {}

    @handles
    def pay(self, command: Pay) -> Decision:
        yield Asked(command.order, command.cents)
        yield Schedule(Remind(command.order), after=timedelta(hours=1), name="remind")

    @handles
    def confirm(self, command: Confirm) -> Iterator[Paid]:
        if command.order in self.paid:
            raise Rejected("paid_already", f"{command.order} is paid")
        if command.charge == "bug":
            raise KeyError("bug")
        yield Paid(command.order, command.charge)

    @handles
    def remind(self, command: Remind) -> Iterator[Event]:
        if command.order in self.paid:
            raise Rejected("paid_already", f"{command.order} is paid")
        yield from ()

    @applies
    def asked(self, event: Asked) -> None:
        pass

    @applies
    def applied(self, event: Paid) -> None:
        self.paid[event.order] = event.charge


class Payments(Effects):
    """What becomes of a charge goes by its cents."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    @performs(attempts_max=3, timeout_seconds=5, backoff_seconds=30)
    async def charge(self, event: Asked, attempt: Attempt) -> Confirm:
        self.calls.append((event.order, event.cents))
        if event.cents == 13:
            raise ConnectionError("no answer")
        if event.cents == 14:
            await asyncio.Event().wait()  # for ever
        if event.cents == 18:
            asyncio.current_task().cancel()  # type: ignore[union-attr]
            await asyncio.Event().wait()
        if event.cents == 15:
            await asyncio.to_thread(print)
        if event.cents == 16:
            await asyncio.open_connection("127.0.0.1", 1)
        return Confirm(event.order, "bug" if event.cents == 17 else attempt.id)


class Mails(Effects):
    def __init__(self) -> None:
        self.sent: list[str] = []

    @performs
    async def receipt(self, event: Paid) -> None:
        self.sent.append(event.order)


app = App(models=[Orders], effects=[Payments, Mails], name="paying")


@pytest.fixture
def payments() -> Payments:
    return Payments()


@pytest.fixture
def mails() -> Mails:
    return Mails()


@pytest.fixture
def scenario(payments: Payments, mails: Mails) -> Scenario:
    return Scenario(app, effects=[payments, mails])


def test_nothing_is_performed_until_it_is_said_and_what_follows_is_owed_next(
    scenario: Scenario, payments: Payments, mails: Mails
) -> None:
    scenario.when(Pay("o1", 5))
    assert payments.calls == []
    scenario.then_effects({"Payments.charge": [Asked("o1", 5)]})
    scenario.perform("Payments.charge")
    (charge,) = [event.charge for event in scenario.happened if isinstance(event, Paid)]
    scenario.then(Paid("o1", charge))
    scenario.then_effects({"Mails.receipt": [Paid("o1", charge)]})
    scenario.perform()
    scenario.then()
    assert mails.sent == ["o1"]
    scenario.check()


def test_what_follows_from_one_effect_is_performed_in_the_same_step(scenario: Scenario, mails: Mails) -> None:
    scenario.given(Pay("o1", 5), Pay("o2", 6))
    scenario.perform()
    scenario.then_effects({})
    assert mails.sent == ["o1", "o2"]
    scenario.check()


def test_events_that_are_given_owe_nothing(scenario: Scenario) -> None:
    scenario.given(Asked("o1", 5))
    scenario.then_effects({})
    scenario.check()


def test_a_difference_in_what_is_owed_is_shown(scenario: Scenario) -> None:
    scenario.when(Pay("o1", 5))
    with pytest.raises(AssertionError, match=r"(?s)what is owed to the outside world .*Asked\(order='o1', cents=6\)"):
        scenario.then_effects({"Payments.charge": [Asked("o1", 6)]})


def test_an_effect_that_fails_is_tried_as_often_as_its_method_says_without_time_passing_and_then_parked(
    scenario: Scenario, payments: Payments
) -> None:
    before = scenario.now
    scenario.given(Pay("o1", 13))
    scenario.perform()
    scenario.then_parked("effect:1/Payments.charge")
    assert (len(payments.calls), scenario.now) == (3, before)
    scenario.check()


def test_one_that_takes_too_long_is_parked_and_what_nobody_expects_fails(scenario: Scenario) -> None:
    scenario.given(Pay("o1", 14))
    scenario.perform()
    with pytest.raises(AssertionError, match=r"effect:1/Payments\.charge failed .* TimeoutError\('it took more than"):
        scenario.check()


def test_one_that_cancels_itself_is_parked(scenario: Scenario, payments: Payments) -> None:
    scenario.given(Pay("o1", 18), Pay("o1", 5))
    scenario.perform()
    scenario.then_parked("effect:1/Payments.charge")
    assert payments.calls == [("o1", 18)]


def test_behind_one_that_is_parked_those_of_its_key_wait(scenario: Scenario, payments: Payments) -> None:
    scenario.given(Pay("o1", 13), Pay("o1", 5), Pay("o2", 5))
    scenario.perform()
    scenario.then_parked("effect:1/Payments.charge")
    scenario.then_effects({"Payments.charge": [Asked("o1", 5)]})
    assert payments.calls[-1] == ("o2", 5)
    scenario.perform()
    assert payments.calls[-1] == ("o2", 5)


def test_a_crash_leaves_it_owed_under_the_same_id_and_holds_up_those_of_its_key(
    scenario: Scenario, payments: Payments
) -> None:
    scenario.given(Pay("o1", 5), Pay("o1", 6), Pay("o2", 5))
    scenario.perform(crash=True)
    assert payments.calls == [("o1", 5), ("o2", 5)]
    scenario.then_effects({"Payments.charge": [Asked("o1", 5), Asked("o1", 6), Asked("o2", 5)]})


def test_what_came_of_an_effect_and_fails_is_parked_and_not_performed_again(
    scenario: Scenario, payments: Payments
) -> None:
    scenario.given(Pay("o1", 17))
    scenario.perform()
    scenario.then_parked("outcome:1/Payments.charge")
    scenario.perform()
    assert len(payments.calls) == 1
    scenario.check()


def test_a_refusal_that_nobody_hears_is_to_be_expected(scenario: Scenario) -> None:
    scenario.given(Pay("o1", 5), Confirm("o1", "by hand"))
    scenario.perform("Payments.charge")
    with pytest.raises(AssertionError, match=r"what effect:1/Payments\.charge sent was refused, and nothing expects"):
        scenario.check()
    scenario.advance(hours=1)
    with pytest.raises(AssertionError, match="what timer:remind@o1 sent was refused, and nothing expects that"):
        scenario.check()


def test_a_refusal_that_nobody_hears_can_be_expected(scenario: Scenario) -> None:
    scenario.given(Pay("o1", 5), Confirm("o1", "by hand"))
    scenario.perform("Payments.charge")
    scenario.then_refused("paid_already")
    scenario.advance(hours=1)
    with pytest.raises(AssertionError, match=r"(?s)what was refused is not 'sold_out':.*paid_already"):
        scenario.then_refused("sold_out")


def test_several_refusals_of_one_step_are_expected_together(scenario: Scenario) -> None:
    scenario.given(Pay("o1", 5), Confirm("o1", "by hand"), Pay("o2", 5), Confirm("o2", "by hand"))
    scenario.perform("Payments.charge")
    scenario.then_refused("paid_already", "paid_already")
    scenario.then()
    with pytest.raises(AssertionError, match="nothing was refused"):
        scenario.then_refused("paid_already")


def test_a_test_that_ends_in_a_fake_ends(scenario: Scenario, mails: Mails, monkeypatch: pytest.MonkeyPatch) -> None:
    async def receipt(event: Paid) -> None:
        assert event.order == "o2"

    monkeypatch.setattr(mails, "receipt", receipt)
    scenario.given(Pay("o1", 5))
    with pytest.raises(AssertionError, match="o2"):
        scenario.perform()

    async def ended(event: Paid) -> None:
        pytest.fail("as it is")

    monkeypatch.setattr(mails, "receipt", ended)
    with pytest.raises(pytest.fail.Exception, match="as it is"):
        scenario.perform()


class Turn(Command):
    order: Key


class Turned(Event):
    order: Key


class Wheel(WriteModel):
    @handles
    def turn(self, command: Turn) -> Iterator[Turned]:
        yield Turned(command.order)

    @applies
    def turned(self, event: Turned) -> None:
        pass


class Endless(Effects):
    @performs
    async def again(self, event: Turned) -> Turn:
        return Turn(event.order)


def test_effects_that_lead_to_each_other_without_an_end_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.engine.testing.scenario._PERFORMED_MAX", 20)
    scenario = Scenario(App(models=[Wheel], effects=[Endless], name="wheel"), effects=[Endless()])
    scenario.when(Turn("o1"))
    with pytest.raises(AssertionError, match="20 effects were performed, and there are more: they lead to each other"):
        scenario.perform()


def test_a_method_that_is_not_there_is_named(scenario: Scenario) -> None:
    with pytest.raises(UnknownMessage, match=r"Payments\.charge"):
        scenario.then_effects({"Payments.typo": []})


def test_what_there_is_no_method_or_no_fake_for_is_said(payments: Payments) -> None:
    scenario = Scenario(app, effects=[payments])
    with pytest.raises(UnknownMessage, match=r"Payments\.charge"):
        scenario.perform("Payments.refund")
    with pytest.raises(InvalidMessage, match=r"give Scenario\(…, effects=\[Mails\(…\)\]\)"):
        scenario.perform("Mails.receipt")
    with pytest.raises(DefinitionError, match="takes instances of the application's classes"):
        Scenario(app, effects=[object()])


def test_without_fakes_nothing_is_performed() -> None:
    with Scenario(app) as scenario:
        scenario.given(Pay("o1", 5))
        scenario.perform()
        assert scenario.happened == []
        scenario.then_effects({"Payments.charge": [Asked("o1", 5)]})


@pytest.mark.parametrize("cents", [15, 16])
def test_a_fake_that_wants_the_real_world_ends_the_step(scenario: Scenario, cents: int) -> None:
    scenario.given(Pay("o1", cents))
    with pytest.raises(NotSimulated, match=r"a thread|a socket"):
        scenario.perform()


def test_in_a_coroutine_it_says_that_it_needs_a_plain_function(scenario: Scenario) -> None:
    scenario.given(Pay("o1", 5))

    async def perform() -> None:
        scenario.perform()

    with pytest.raises(SimulationError, match="call it from a plain function"):
        asyncio.run(perform())
