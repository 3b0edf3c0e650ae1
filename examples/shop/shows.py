"""A show: what a seat costs, and which are free, held for ten minutes, or sold; and who waits for some."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated

from msgspec import Meta

from examples.shop.orders import CancelOrder
from millstream.engine import Command, Event, Key
from millstream.handlers import Aggregate, Decision, Rejected, Schedule, Unschedule, applies, handles

HELD_FOR = timedelta(minutes=10)


class OpenShow(Command):
    show: Key
    seats: Annotated[int, Meta(gt=0)]
    cents: Annotated[int, Meta(gt=0)]


class HoldSeats(Command):
    show: Key
    order: str
    count: int


class SellSeats(Command):
    show: Key
    order: str


class ReleaseSeats(Command):
    show: Key
    order: str


class ShowOpened(Event):
    show: Key
    seats: int
    cents: int


class SeatsHeld(Event):
    show: Key
    order: str
    seats: tuple[int, ...]
    cents: int


class Queued(Event):
    show: Key
    order: str
    count: int


class SeatsSold(Event):
    show: Key
    order: str


class SeatsReleased(Event):
    """The order has no seats any more, and waits for none."""

    show: Key
    order: str
    seats: tuple[int, ...]


class Show(Aggregate):
    seats: int = 0
    cents: int = 0
    free: tuple[int, ...] = ()
    held: dict[str, tuple[int, ...]] = {}
    sold: dict[str, tuple[int, ...]] = {}
    waiting: dict[str, int] = {}

    @handles
    def open(self, command: OpenShow) -> Iterator[Event]:
        if self.seats:
            raise Rejected("open_already", f"{command.show} is open")
        yield ShowOpened(command.show, command.seats, command.cents)

    @handles
    def hold(self, command: HoldSeats) -> Decision:
        if not self.seats:
            raise Rejected("no_such_show", "there is no such show")
        if any(command.order in those for those in (self.held, self.sold, self.waiting)):
            raise Rejected("has_seats", f"{command.order} has seats, or waits for some")
        if command.count > self.seats:
            raise Rejected("too_many", f"there are {self.seats} seats in all")
        if command.count > len(self.free):
            yield Queued(command.show, command.order, command.count)
        else:
            yield from self.holding(command.show, command.order, self.free[: command.count])

    def holding(self, show: str, order: str, seats: tuple[int, ...]) -> Decision:
        yield SeatsHeld(show, order, seats, len(seats) * self.cents)
        yield Schedule(CancelOrder(order, "not paid in time"), after=HELD_FOR, name=f"hold/{order}")

    @handles
    def sell(self, command: SellSeats) -> Decision:
        if command.order not in self.held:
            raise Rejected("not_held", f"nothing is held for {command.order}")
        yield SeatsSold(command.show, command.order)
        yield Unschedule(f"hold/{command.order}")

    @handles
    def release(self, command: ReleaseSeats) -> Decision:
        """They are held at once for the order that waits the longest and needs no more."""
        seats = self.held.get(command.order, ()) or self.sold.get(command.order, ())
        if seats or command.order in self.waiting:
            yield SeatsReleased(command.show, command.order, seats)
        if command.order in self.held:
            yield Unschedule(f"hold/{command.order}")
        left = (*self.free, *seats)
        for order, count in self.waiting.items():
            if count <= len(left):
                yield from self.holding(command.show, order, left[:count])
                left = left[count:]

    @applies
    def opened(self, event: ShowOpened) -> None:
        self.seats, self.cents, self.free = event.seats, event.cents, tuple(range(1, event.seats + 1))

    @applies
    def when_held(self, event: SeatsHeld) -> None:
        self.free = tuple(seat for seat in self.free if seat not in event.seats)
        self.held[event.order] = event.seats
        self.waiting.pop(event.order, None)

    @applies
    def queued(self, event: Queued) -> None:
        self.waiting[event.order] = event.count

    @applies
    def when_sold(self, event: SeatsSold) -> None:
        self.sold[event.order] = self.held.pop(event.order)

    @applies
    def released(self, event: SeatsReleased) -> None:
        self.free += event.seats
        for those in (self.held, self.sold, self.waiting):
            those.pop(event.order, None)
