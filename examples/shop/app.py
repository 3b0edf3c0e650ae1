"""The application; and what it shows: how many seats are free, and how an order stands."""

from __future__ import annotations

from examples.shop.orders import Order, OrderCancelled, OrderPaid, OrderPlaced, OrderRefunded, RefundRequested
from examples.shop.outside import Mails, Payments
from examples.shop.selling import Selling
from examples.shop.shows import SeatsHeld, SeatsReleased, Show, ShowOpened
from millstream.engine import App, Query
from millstream.views import View, answers, applies


class FreeSeats(Query[int]):
    show: str


class OrderState(Query[str | None]):
    order: str


class Seats(View):
    free: dict[str, int] = {}

    @applies
    def opened(self, event: ShowOpened) -> None:
        self.free[event.show] = event.seats

    @applies
    def held(self, event: SeatsHeld) -> None:
        self.free[event.show] -= len(event.seats)

    @applies
    def released(self, event: SeatsReleased) -> None:
        self.free[event.show] += len(event.seats)

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
    def refunding(self, event: RefundRequested) -> None:
        self.states[event.order] = "refunding"

    @applies
    def refunded(self, event: OrderRefunded) -> None:
        self.states[event.order] = "refunded"

    @answers
    def state(self, query: OrderState) -> str | None:
        return self.states.get(query.order)


app = App(models=[Show, Order, Selling], views=[Seats, Orders], effects=[Payments, Mails], name="ticket-shop")
