"""An order: placed, asked to be paid, paid, cancelled, refunded. What is said of its money may come late, or twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from millstream.engine import Command, Event, Key
from millstream.handlers import Aggregate, Rejected, applies, handles


class PlaceOrder(Command):
    order: Key
    show: str
    count: Annotated[int, Meta(gt=0, le=20)]
    mail: str


class AskForPayment(Command):
    order: Key
    cents: int


class ConfirmPayment(Command):
    """A charge is known by the key that the service was given for it."""

    order: Key
    charge: str


class GiveUpPayment(Command):
    """The payment service can't be reached. It may have charged all the same."""

    order: Key
    charge: str


class CancelOrder(Command):
    """It changes nothing where it is late: the order was paid."""

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
    mail: str


class PaymentRequested(Event):
    order: Key
    cents: int


class PaymentAbandoned(Event):
    order: Key
    charge: str


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
    show: str
    mail: str


class Order(Aggregate):
    state: str = ""
    show: str = ""
    mail: str = ""
    charge: str = ""

    @handles
    def place(self, command: PlaceOrder) -> Iterator[Event]:
        if self.state:
            raise Rejected("placed_already", f"there is an order {command.order}")
        yield OrderPlaced(command.order, command.show, command.count, command.mail)

    @handles
    def ask(self, command: AskForPayment) -> Iterator[Event]:
        if self.state == "placed":
            yield PaymentRequested(command.order, command.cents)

    @handles
    def confirm(self, command: ConfirmPayment) -> Iterator[Event]:
        if self.state == "asked":
            yield OrderPaid(command.order, self.show, command.charge, self.mail)
        elif self.state == "cancelled":  # meanwhile: the money goes back
            yield RefundRequested(command.order, self.show, command.charge)

    @handles
    def give_up(self, command: GiveUpPayment) -> Iterator[PaymentAbandoned | OrderCancelled]:
        if command.charge != self.charge:  # else it was confirmed, and that stands
            yield PaymentAbandoned(command.order, command.charge)
        yield from self.cancel(CancelOrder(command.order, "it could not be paid"))

    @handles
    def cancel(self, command: CancelOrder) -> Iterator[OrderCancelled]:
        if self.state in ("placed", "asked"):
            yield OrderCancelled(command.order, self.show, command.reason, self.mail)

    @handles
    def refund(self, command: RefundOrder) -> Iterator[Event]:
        if self.state != "paid":
            raise Rejected("not_paid", f"{command.order} is {self.state or 'unknown'}")
        yield RefundRequested(command.order, self.show, self.charge)

    @handles
    def confirm_refund(self, command: ConfirmRefund) -> Iterator[Event]:
        if self.state == "refunding":
            yield OrderRefunded(command.order, self.show, self.mail)

    @applies
    def placed(self, event: OrderPlaced) -> None:
        self.state, self.show, self.mail = "placed", event.show, event.mail

    @applies
    def asked(self, _: PaymentRequested) -> None:
        self.state = "asked"

    @applies
    def paid(self, event: OrderPaid) -> None:
        self.state, self.charge = "paid", event.charge

    @applies
    def cancelled(self, _: OrderCancelled) -> None:
        self.state = "cancelled"

    @applies
    def refunding(self, event: RefundRequested) -> None:
        self.state, self.charge = "refunding", event.charge

    @applies
    def refunded(self, _: OrderRefunded) -> None:
        self.state = "refunded"
