"""The ticket shop's rules: what follows from an order, step by step."""

from __future__ import annotations

from typing import Any

import pytest

from examples.shop.app import FreeSeats, OrderState, app
from examples.shop.orders import (
    CancelOrder,
    ConfirmPayment,
    ConfirmRefund,
    GiveUpPayment,
    OrderCancelled,
    OrderPaid,
    OrderPlaced,
    OrderRefunded,
    PaymentRequested,
    PlaceOrder,
    RefundOrder,
    RefundRequested,
)
from examples.shop.shows import (
    HoldSeats,
    OpenShow,
    Queued,
    ReleaseSeats,
    SeatsHeld,
    SeatsReleased,
    SeatsSold,
    SellSeats,
    ShowOpened,
)
from millstream.engine import Command
from millstream.engine.testing import Scenario
from millstream.engine.testing.plugin import NewScenario


def order(name: str, count: int = 2) -> PlaceOrder:
    return PlaceOrder(name, "hamlet", count, f"{name}@example.org")


@pytest.fixture
def shop(scenario_of: NewScenario) -> Scenario:
    scenario = scenario_of(app)
    scenario.given(ShowOpened("hamlet", 3, 1_000))
    return scenario


def test_an_order_holds_seats_and_asks_for_what_they_cost(shop: Scenario) -> None:
    shop.when(order("o1"))
    shop.then(
        OrderPlaced("o1", "hamlet", 2, "o1@example.org"),
        SeatsHeld("hamlet", "o1", (1, 2), 2_000),
        PaymentRequested("o1", 2_000),
    )
    shop.then_timers({"hold/o1": CancelOrder("o1", "not paid in time")})
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


def test_a_timer_and_a_payment_given_up_that_come_late_do_not_undo_what_was_paid(shop: Scenario) -> None:
    shop.given(order("o1"), ConfirmPayment("o1", "charge-1"))
    shop.when(CancelOrder("o1", "not paid in time"))
    shop.then()
    shop.when(GiveUpPayment("o1", "charge-1"))
    shop.then()
    assert shop.ask(OrderState("o1")) == "paid"
    shop.given(RefundOrder("o1"))
    shop.when(GiveUpPayment("o1", "charge-1"))
    shop.then()


def test_seats_that_nobody_pays_for_go_to_who_waits_the_longest_and_needs_no_more(shop: Scenario) -> None:
    shop.given(order("o1"))
    shop.when(order("o2", 3))
    shop.then(OrderPlaced("o2", "hamlet", 3, "o2@example.org"), Queued("hamlet", "o2", 3))
    shop.given(order("o3", 2))
    shop.advance(minutes=10)
    shop.then(
        OrderCancelled("o1", "hamlet", "not paid in time", "o1@example.org"),
        SeatsReleased("hamlet", "o1", (1, 2)),
        SeatsHeld("hamlet", "o2", (3, 1, 2), 3_000),
        PaymentRequested("o2", 3_000),
    )


def test_several_who_wait_share_what_is_free_again(shop: Scenario) -> None:
    shop.given(order("o1", 3), order("o2", 2), order("o3", 2), order("o4", 1))
    shop.when(CancelOrder("o1", "changed my mind"))
    shop.then(
        OrderCancelled("o1", "hamlet", "changed my mind", "o1@example.org"),
        SeatsReleased("hamlet", "o1", (1, 2, 3)),
        SeatsHeld("hamlet", "o2", (1, 2), 2_000),
        SeatsHeld("hamlet", "o4", (3,), 1_000),
        PaymentRequested("o2", 2_000),
        PaymentRequested("o4", 1_000),
    )
    shop.then_timers({f"hold/{name}": CancelOrder(name, "not paid in time") for name in ("o2", "o4")})


def test_money_that_comes_too_late_goes_back(shop: Scenario) -> None:
    shop.given(order("o1"))
    shop.advance(minutes=10)
    shop.when(ConfirmPayment("o1", "charge-1"))
    shop.then(RefundRequested("o1", "hamlet", "charge-1"))
    assert shop.ask(OrderState("o1")) == "refunding"
    shop.when(ConfirmRefund("o1"))
    shop.then(OrderRefunded("o1", "hamlet", "o1@example.org"))
    assert shop.ask(OrderState("o1")) == "refunded"


def test_money_for_seats_that_nobody_holds_any_more_goes_back(shop: Scenario) -> None:
    shop.given(order("o1"), ReleaseSeats("hamlet", "o1"))
    shop.when(ConfirmPayment("o1", "charge-1"))
    shop.then(OrderPaid("o1", "hamlet", "charge-1", "o1@example.org"), RefundRequested("o1", "hamlet", "charge-1"))


def test_a_refund_frees_the_seats_for_others(shop: Scenario) -> None:
    shop.given(order("o1", 3), ConfirmPayment("o1", "charge-1"), order("o2", 1))
    shop.when(RefundOrder("o1"))
    shop.then(
        RefundRequested("o1", "hamlet", "charge-1"),
        SeatsReleased("hamlet", "o1", (1, 2, 3)),
        SeatsHeld("hamlet", "o2", (1,), 1_000),
        PaymentRequested("o2", 1_000),
    )
    assert (shop.ask(OrderState("o1")), shop.ask(FreeSeats("hamlet"))) == ("refunding", 2)
    shop.when(RefundOrder("o1"))
    shop.then_refused("not_paid")


def test_a_cancelled_order_lets_go_of_its_seats(shop: Scenario) -> None:
    shop.given(order("o1"))
    shop.when(CancelOrder("o1", "changed my mind"))
    shop.then(
        OrderCancelled("o1", "hamlet", "changed my mind", "o1@example.org"), SeatsReleased("hamlet", "o1", (1, 2))
    )
    shop.then_timers({})
    shop.when(CancelOrder("o1", "again"))
    shop.then()


def test_who_cancels_while_waiting_is_not_served(shop: Scenario) -> None:
    shop.given(order("o1", 3), order("o2", 1), order("o3", 1))
    shop.when(CancelOrder("o2", "changed my mind"))
    shop.then(OrderCancelled("o2", "hamlet", "changed my mind", "o2@example.org"), SeatsReleased("hamlet", "o2", ()))
    shop.when(CancelOrder("o1", "changed my mind"))
    shop.then(
        OrderCancelled("o1", "hamlet", "changed my mind", "o1@example.org"),
        SeatsReleased("hamlet", "o1", (1, 2, 3)),
        SeatsHeld("hamlet", "o3", (1,), 1_000),
        PaymentRequested("o3", 1_000),
    )


@pytest.mark.parametrize(
    ("show", "count", "why"),
    [("macbeth", 1, "there is no such show"), ("hamlet", 4, "there are 3 seats in all")],
)
def test_an_order_that_can_never_be_filled_is_cancelled_at_once_and_told_why(
    shop: Scenario, show: str, count: int, why: str
) -> None:
    shop.when(PlaceOrder("o1", show, count, "o1@example.org"))
    shop.then(OrderPlaced("o1", show, count, "o1@example.org"), OrderCancelled("o1", show, why, "o1@example.org"))
    assert shop.ask(OrderState("o1")) == f"cancelled: {why}"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (OpenShow("hamlet", 5, 1_000), "open_already"),
        (order("o1"), "placed_already"),
        (RefundOrder("o9"), "not_paid"),
        (SellSeats("hamlet", "o9"), "not_held"),
        (HoldSeats("hamlet", "o9", 4), "too_many"),
        (HoldSeats("macbeth", "o9", 1), "no_such_show"),
    ],
)
def test_what_can_not_be_is_refused(shop: Scenario, command: Command[Any], code: str) -> None:
    shop.given(order("o1"))
    before = shop.ask(OrderState("o1"))
    shop.when(command)
    shop.then_refused(code)
    assert shop.ask(OrderState("o1")) == before
