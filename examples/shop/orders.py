"""An order: placed, paid, cancelled, refunded. What the payment service says may come late, or twice."""

from __future__ import annotations

from collections.abc import Iterator

from examples.shop.messages import (
    AskForPayment,
    CancelOrder,
    ConfirmPayment,
    ConfirmRefund,
    GiveUpPayment,
    OrderCancelled,
    OrderPaid,
    OrderPlaced,
    OrderRefunded,
    PaymentAbandoned,
    PaymentRequested,
    PlaceOrder,
    RefundOrder,
    RefundRequested,
)
from millstream.engine import Event
from millstream.handlers import Aggregate, Rejected, applies, handles


class Order(Aggregate):
    state: str = ""
    show: str = ""
    cents: int = 0
    mail: str = ""
    charge: str = ""

    @handles
    def place(self, command: PlaceOrder) -> Iterator[Event]:
        if self.state:
            raise Rejected("placed_already", f"there is an order {command.order}")
        yield OrderPlaced(command.order, command.show, command.count, command.cents, command.mail)

    @handles
    def ask(self, command: AskForPayment) -> Iterator[Event]:
        if self.state == "placed":
            yield PaymentRequested(command.order, self.cents)

    @handles
    def confirm(self, command: ConfirmPayment) -> Iterator[Event]:
        if self.state == "asked":
            yield OrderPaid(command.order, self.show, command.charge, self.mail)
        elif self.state == "cancelled":  # meanwhile: the money goes back
            yield RefundRequested(command.order, self.show, command.charge)

    @handles
    def give_up(self, command: GiveUpPayment) -> Iterator[PaymentAbandoned | OrderCancelled]:
        yield PaymentAbandoned(command.order, command.charged_as)
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
    def refunded(self, command: ConfirmRefund) -> Iterator[Event]:
        if self.state == "refunding":
            yield OrderRefunded(command.order)

    @applies
    def placed(self, event: OrderPlaced) -> None:
        self.state, self.show, self.cents, self.mail = "placed", event.show, event.cents, event.mail

    @applies
    def asked(self, event: PaymentRequested) -> None:
        self.state = "asked"

    @applies
    def paid(self, event: OrderPaid) -> None:
        self.state, self.charge = "paid", event.charge

    @applies
    def cancelled(self, event: OrderCancelled) -> None:
        self.state = "cancelled"

    @applies
    def refunding(self, event: RefundRequested) -> None:
        self.state, self.charge = "refunding", event.charge

    @applies
    def when_refunded(self, event: OrderRefunded) -> None:
        self.state = "refunded"
