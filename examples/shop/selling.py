"""What follows from what: an order holds seats, held seats are paid for, and who has no order has no seats."""

from __future__ import annotations

from examples.shop.orders import (
    AskForPayment,
    CancelOrder,
    OrderCancelled,
    OrderPaid,
    OrderPlaced,
    RefundOrder,
    RefundRequested,
)
from examples.shop.shows import HoldSeats, ReleaseSeats, SeatsHeld, SellSeats
from millstream.handlers import Reaction, WriteModel, reacts


class Selling(WriteModel):
    @reacts
    def placed(self, event: OrderPlaced) -> Reaction:
        refused = yield HoldSeats(event.show, event.order, event.count)
        if refused is not None:
            yield CancelOrder(event.order, refused.message)

    @reacts
    def held(self, event: SeatsHeld) -> Reaction:
        yield AskForPayment(event.order, event.cents)

    @reacts
    def paid(self, event: OrderPaid) -> Reaction:
        refused = yield SellSeats(event.show, event.order)
        if refused is not None:  # nothing was held any more
            yield RefundOrder(event.order)

    @reacts
    def cancelled(self, event: OrderCancelled) -> Reaction:
        yield ReleaseSeats(event.show, event.order)

    @reacts
    def refunding(self, event: RefundRequested) -> Reaction:
        yield ReleaseSeats(event.show, event.order)
