"""What follows from what: an order holds seats, held seats are paid for, a cancelled order frees them."""

from __future__ import annotations

from examples.shop.messages import (
    AskForPayment,
    CancelOrder,
    HoldSeats,
    OrderCancelled,
    OrderPaid,
    OrderPlaced,
    RefundOrder,
    RefundRequested,
    ReleaseSeats,
    SeatsHeld,
    SeatsReleased,
    SeatsTakenBack,
    SellSeats,
    ServeWaiting,
    TakeSeatsBack,
    WaitForSeats,
)
from millstream.handlers import Reaction, WriteModel, reacts


class Selling(WriteModel):
    @reacts
    def placed(self, event: OrderPlaced) -> Reaction:
        refused = yield HoldSeats(event.show, event.order, event.count)
        if refused is not None and refused.code == "sold_out":
            yield WaitForSeats(event.show, event.order, event.count)
        elif refused is not None:
            yield CancelOrder(event.order, refused.code)

    @reacts
    def held(self, event: SeatsHeld) -> Reaction:
        yield AskForPayment(event.order)

    @reacts
    def released(self, event: SeatsReleased) -> Reaction:
        yield CancelOrder(event.order, "nobody paid in time")
        yield ServeWaiting(event.show)

    @reacts
    def taken_back(self, event: SeatsTakenBack) -> Reaction:
        yield ServeWaiting(event.show)

    @reacts
    def paid(self, event: OrderPaid) -> Reaction:
        refused = yield SellSeats(event.show, event.order)
        if refused is not None:  # the hold was over before the money came
            yield RefundOrder(event.order)

    @reacts
    def cancelled(self, event: OrderCancelled) -> Reaction:
        yield ReleaseSeats(event.show, event.order)

    @reacts
    def refunding(self, event: RefundRequested) -> Reaction:
        yield TakeSeatsBack(event.show, event.order)
