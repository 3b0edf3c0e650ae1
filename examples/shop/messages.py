"""What the ticket shop is asked, and what happens in it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from millstream.engine import Command, Event, Key, Query

Count = Annotated[int, Meta(gt=0, le=20)]
Cents = Annotated[int, Meta(gt=0)]


# A show and its seats.


class OpenShow(Command):
    show: Key
    seats: Annotated[int, Meta(gt=0)]


class HoldSeats(Command[tuple[int, ...]]):
    """Answers which seats."""

    show: Key
    order: str
    count: Count


class ReleaseSeats(Command):
    """The hold is over: sent by a timer. It may be late, and the seats sold."""

    show: Key
    order: str


class SellSeats(Command):
    show: Key
    order: str


class TakeSeatsBack(Command):
    show: Key
    order: str


class WaitForSeats(Command):
    show: Key
    order: str
    count: Count


class ServeWaiting(Command):
    """Seats are free again: hold them for whoever waits the longest and needs no more."""

    show: Key


class ShowOpened(Event):
    show: Key
    seats: int


class SeatsHeld(Event):
    show: Key
    order: str
    seats: tuple[int, ...]


class SeatsReleased(Event):
    show: Key
    order: str


class SeatsSold(Event):
    show: Key
    order: str


class SeatsTakenBack(Event):
    show: Key
    order: str


class LeftQueue(Event):
    show: Key
    order: str


class Queued(Event):
    show: Key
    order: str
    count: int


# An order and its money.


class PlaceOrder(Command):
    order: Key
    show: str
    count: Count
    cents: Cents
    mail: str


class AskForPayment(Command):
    order: Key


class ConfirmPayment(Command):
    """What the payment service has answered."""

    order: Key
    charge: str


class GiveUpPayment(Command):
    """The payment service can't be reached. It may have charged all the same, under that key."""

    order: Key
    charged_as: str
    problem: str


class CancelOrder(Command):
    order: Key
    reason: str


class RefundOrder(Command):
    order: Key


class ConfirmRefund(Command):
    order: Key


class OrderPlaced(Event):
    order: Key
    show: str
    count: int
    cents: int
    mail: str


class PaymentRequested(Event):
    order: Key
    cents: int


class PaymentAbandoned(Event):
    order: Key
    charged_as: str


class OrderPaid(Event):
    order: Key
    show: str
    charge: str
    mail: str


class OrderCancelled(Event):
    order: Key
    show: str
    reason: str
    mail: str


class RefundRequested(Event):
    order: Key
    show: str
    charge: str


class OrderRefunded(Event):
    order: Key


# Questions.


class FreeSeats(Query[int]):
    show: str


class OrderState(Query[str | None]):
    order: str
