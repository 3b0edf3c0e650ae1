"""The ticket shop and the outside world, step by step: payments that fail, come twice, or too late; refunds; mails."""

from __future__ import annotations

import pytest

from examples.shop.app import OrderState, app
from examples.shop.orders import (
    CancelOrder,
    ConfirmPayment,
    OrderCancelled,
    OrderPaid,
    OrderRefunded,
    PaymentAbandoned,
    PaymentRequested,
    PlaceOrder,
    RefundOrder,
    RefundRequested,
)
from examples.shop.outside import Mails, Payments, Service
from examples.shop.shows import SeatsReleased, SeatsSold, ShowOpened
from millstream.engine.testing import Scenario
from millstream.engine.testing.plugin import NewScenario


class Moody(Service):
    """A payment service that charges, and does not always say so."""

    def __init__(self) -> None:
        super().__init__()
        #: How many answers are lost on their way, from now on.
        self.lost = 0
        self.calls: list[str] = []

    async def charge(self, cents: int, key: str) -> None:
        self.calls.append(key)
        await super().charge(cents, key)
        if self.lost:
            self.lost -= 1
            raise ConnectionError("no answer")


@pytest.fixture
def service() -> Moody:
    return Moody()


@pytest.fixture
def shop(scenario_of: NewScenario, service: Moody) -> Scenario:
    scenario = scenario_of(app, effects=[Payments(service), Mails(service)])
    scenario.given(ShowOpened("hamlet", 3, 1_000))
    scenario.when(PlaceOrder("o1", "hamlet", 2, "o1@example.org"))
    return scenario


def test_an_order_is_charged_its_seats_are_sold_and_a_mail_says_so(shop: Scenario, service: Moody) -> None:
    shop.then_effects({"Payments.charge": [PaymentRequested("o1", 2_000)]})
    shop.perform()
    (key,) = service.charged
    shop.then(OrderPaid("o1", "hamlet", key, "o1@example.org"), SeatsSold("hamlet", "o1"))
    shop.then_effects({})
    assert list(service.mails.values()) == [("o1@example.org", "Your tickets for hamlet.")]


def test_an_answer_that_is_lost_is_asked_for_again_under_the_same_key(shop: Scenario, service: Moody) -> None:
    service.lost = 4
    shop.perform("Payments.charge")
    assert len(service.calls) == 5
    assert service.charged == {service.calls[0]: 2_000}
    assert shop.ask(OrderState("o1")) == "paid"


def test_a_crash_between_the_charge_and_the_log_charges_nobody_twice(shop: Scenario, service: Moody) -> None:
    shop.perform(crash=True)
    shop.then()
    shop.then_effects({"Payments.charge": [PaymentRequested("o1", 2_000)]})
    shop.perform()
    assert len(service.calls) == 2
    assert list(service.charged.values()) == [2_000]


def test_a_payment_that_is_given_up_is_voided_as_it_may_have_been_charged(shop: Scenario, service: Moody) -> None:
    service.lost = 5
    shop.perform("Payments.charge")
    (key,) = service.charged
    shop.then(
        PaymentAbandoned("o1", key),
        OrderCancelled("o1", "hamlet", "it could not be paid", "o1@example.org"),
        SeatsReleased("hamlet", "o1", (1, 2)),
    )
    shop.perform()
    assert service.charged == {key: 0}
    assert list(service.mails.values()) == [("o1@example.org", "No tickets for hamlet: it could not be paid.")]


def test_a_payment_that_comes_after_the_hold_was_over_is_given_back(shop: Scenario, service: Moody) -> None:
    shop.advance(minutes=10)
    shop.perform()
    (key,) = service.charged
    shop.then(RefundRequested("o1", "hamlet", key), OrderRefunded("o1", "hamlet", "o1@example.org"))
    assert service.refunded == {key}
    assert [text for _, text in service.mails.values()] == [
        "No tickets for hamlet: not paid in time.",
        "Your money for hamlet was given back.",
    ]


def test_a_payment_that_is_given_up_after_its_order_was_cancelled_is_voided_too(shop: Scenario, service: Moody) -> None:
    service.lost = 5
    shop.given(CancelOrder("o1", "changed my mind"))
    shop.perform("Payments.charge")
    (key,) = service.charged
    shop.then(PaymentAbandoned("o1", key))
    shop.perform()
    assert service.charged == {key: 0}


def test_a_payment_that_is_given_up_after_its_order_was_paid_otherwise_is_voided_alone(
    shop: Scenario, service: Moody
) -> None:
    service.lost = 5
    shop.given(ConfirmPayment("o1", "by phone"))
    shop.perform("Payments.charge")
    (key,) = service.charged
    shop.then(PaymentAbandoned("o1", key))
    shop.perform()
    assert service.charged == {key: 0}
    assert shop.ask(OrderState("o1")) == "paid"


def test_a_refund_gives_the_money_back_and_frees_the_seats(shop: Scenario, service: Moody) -> None:
    shop.perform()
    shop.when(RefundOrder("o1"))
    (key,) = service.charged
    shop.then(RefundRequested("o1", "hamlet", key), SeatsReleased("hamlet", "o1", (1, 2)))
    shop.perform()
    shop.then(OrderRefunded("o1", "hamlet", "o1@example.org"))
    assert service.refunded == {key}
    assert list(service.mails.values())[-1] == ("o1@example.org", "Your money for hamlet was given back.")


def test_what_the_service_says_twice_changes_nothing(shop: Scenario, service: Moody) -> None:
    shop.perform()
    shop.when(ConfirmPayment("o1", next(iter(service.charged))))
    shop.then()
    shop.then_effects({})
