"""What the shop shows: how many seats are free, and how an order stands."""

from __future__ import annotations

from examples.shop.messages import (
    FreeSeats,
    OrderCancelled,
    OrderPaid,
    OrderPlaced,
    OrderRefunded,
    OrderState,
    SeatsHeld,
    SeatsReleased,
    SeatsTakenBack,
    ShowOpened,
)
from millstream.views import View, answers, applies


class Seats(View):
    free: dict[str, int] = {}
    held: dict[str, int] = {}

    @applies
    def opened(self, event: ShowOpened) -> None:
        self.free[event.show] = event.seats

    @applies
    def seats_held(self, event: SeatsHeld) -> None:
        self.held[event.order] = len(event.seats)
        self.free[event.show] -= len(event.seats)

    @applies
    def released(self, event: SeatsReleased) -> None:
        self.free[event.show] += self.held.pop(event.order)

    @applies
    def taken_back(self, event: SeatsTakenBack) -> None:
        self.free[event.show] += self.held.pop(event.order)

    @answers
    def how_many(self, query: FreeSeats) -> int:
        return self.free.get(query.show, 0)


class Orders(View):
    states: dict[str, str] = {}

    @applies
    def placed(self, event: OrderPlaced) -> None:
        self.states[event.order] = "placed"

    @applies
    def paid(self, event: OrderPaid) -> None:
        self.states[event.order] = "paid"

    @applies
    def cancelled(self, event: OrderCancelled) -> None:
        self.states[event.order] = f"cancelled: {event.reason}"

    @applies
    def refunded(self, event: OrderRefunded) -> None:
        self.states[event.order] = "refunded"

    @answers
    def state(self, query: OrderState) -> str | None:
        return self.states.get(query.order)
