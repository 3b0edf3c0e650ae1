"""The ticket shop's rules: what follows from an order, step by step."""

from __future__ import annotations

import pytest

from examples.shop.app import app
from examples.shop.messages import (
    CancelOrder,
    ConfirmPayment,
    ConfirmRefund,
    FreeSeats,
    LeftQueue,
    OpenShow,
    OrderCancelled,
    OrderPaid,
    OrderPlaced,
    OrderRefunded,
    OrderState,
    PaymentRequested,
    PlaceOrder,
    Queued,
    RefundOrder,
    RefundRequested,
    ReleaseSeats,
    SeatsHeld,
    SeatsReleased,
    SeatsSold,
    SeatsTakenBack,
    ShowOpened,
)
from millstream.engine import Rejected
from millstream.engine.testing import Scenario
from millstream.engine.testing.plugin import NewScenario


def order(name: str, count: int = 2) -> PlaceOrder:
    return PlaceOrder(name, "hamlet", count, 1_000 * count, f"{name}@example.org")


@pytest.fixture
def shop(scenario_of: NewScenario) -> Scenario:
    scenario = scenario_of(app)
    scenario.given(ShowOpened("hamlet", 3))
    return scenario


def test_an_order_holds_seats_and_asks_for_its_money(shop: Scenario) -> None:
    shop.when(order("o1"))
    shop.then(
        OrderPlaced("o1", "hamlet", 2, 2_000, "o1@example.org"),
        SeatsHeld("hamlet", "o1", (1, 2)),
        PaymentRequested("o1", 2_000),
    )
    shop.then_timers({"hold/o1": ReleaseSeats("hamlet", "o1")})
    assert (shop.ask(FreeSeats("hamlet")), shop.ask(OrderState("o1"))) == (1, "placed")


def test_a_payment_in_time_sells_the_seats(shop: Scenario) -> None:
    shop.given(order("o1"))
    shop.advance(minutes=9)
    shop.when(ConfirmPayment("o1", "charge-1"))
    shop.then(OrderPaid("o1", "hamlet", "charge-1", "o1@example.org"), SeatsSold("hamlet", "o1"))
    shop.then_timers({})
    shop.advance(minutes=10)
    shop.then()


def test_the_same_answer_twice_changes_nothing(shop: Scenario) -> None:
    shop.given(order("o1"), ConfirmPayment("o1", "charge-1"))
    shop.when(ConfirmPayment("o1", "charge-1"))
    shop.then()


def test_seats_that_nobody_pays_for_go_to_who_waits_the_longest_and_needs_no_more(shop: Scenario) -> None:
    shop.given(order("o1"))
    shop.when(order("o2", 3))
    shop.then(OrderPlaced("o2", "hamlet", 3, 3_000, "o2@example.org"), Queued("hamlet", "o2", 3))
    shop.given(order("o3", 2))
    shop.advance(minutes=10)
    shop.then(
        SeatsReleased("hamlet", "o1"),
        OrderCancelled("o1", "hamlet", "nobody paid in time", "o1@example.org"),
        SeatsHeld("hamlet", "o2", (3, 1, 2)),
        PaymentRequested("o2", 3_000),
    )


def test_money_that_comes_too_late_goes_back(shop: Scenario) -> None:
    shop.given(order("o1"))
    shop.advance(minutes=10)
    shop.when(ConfirmPayment("o1", "charge-1"))
    shop.then(RefundRequested("o1", "hamlet", "charge-1"))
    shop.when(ConfirmRefund("o1"))
    shop.then(OrderRefunded("o1"))
    assert shop.ask(OrderState("o1")) == "refunded"


def test_a_refund_frees_the_seats_for_others(shop: Scenario) -> None:
    shop.given(order("o1", 3), ConfirmPayment("o1", "charge-1"), order("o2", 1))
    shop.when(RefundOrder("o1"))
    shop.then(
        RefundRequested("o1", "hamlet", "charge-1"),
        SeatsTakenBack("hamlet", "o1"),
        SeatsHeld("hamlet", "o2", (1,)),
        PaymentRequested("o2", 1_000),
    )
    shop.when(RefundOrder("o1"))
    shop.then_refused("not_paid")


def test_a_cancelled_order_lets_go_of_its_seats(shop: Scenario) -> None:
    shop.given(order("o1"))
    shop.when(CancelOrder("o1", "changed my mind"))
    shop.then(OrderCancelled("o1", "hamlet", "changed my mind", "o1@example.org"), SeatsReleased("hamlet", "o1"))
    shop.then_timers({})
    shop.when(CancelOrder("o1", "again"))
    shop.then()


def test_who_cancels_while_waiting_is_not_served(shop: Scenario) -> None:
    shop.given(order("o1", 3), order("o2", 1), order("o3", 1))
    shop.when(CancelOrder("o2", "changed my mind"))
    shop.then(OrderCancelled("o2", "hamlet", "changed my mind", "o2@example.org"), LeftQueue("hamlet", "o2"))
    shop.when(CancelOrder("o1", "changed my mind"))
    shop.then(
        OrderCancelled("o1", "hamlet", "changed my mind", "o1@example.org"),
        SeatsReleased("hamlet", "o1"),
        SeatsHeld("hamlet", "o3", (1,)),
        PaymentRequested("o3", 1_000),
    )


def test_an_order_for_a_show_that_is_not_open_is_cancelled(shop: Scenario) -> None:
    shop.when(PlaceOrder("o1", "macbeth", 1, 1_000, "o1@example.org"))
    shop.then(
        OrderPlaced("o1", "macbeth", 1, 1_000, "o1@example.org"),
        OrderCancelled("o1", "macbeth", "no_such_show", "o1@example.org"),
    )


@pytest.mark.parametrize("command", [OpenShow("hamlet", 5), order("o1"), RefundOrder("o9")])
def test_what_can_not_be_is_refused(shop: Scenario, command: OpenShow | PlaceOrder | RefundOrder) -> None:
    shop.given(order("o1"))
    shop.when(command)
    assert isinstance(shop.outcome, Rejected)
    shop.then_refused({OpenShow: "open_already", PlaceOrder: "placed_already", RefundOrder: "not_paid"}[type(command)])
