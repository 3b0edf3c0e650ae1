"""A show: its seats are free, held for ten minutes, or sold; and who waits for some."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import msgspec

from examples.shop.messages import (
    HoldSeats,
    LeftQueue,
    OpenShow,
    Queued,
    ReleaseSeats,
    SeatsHeld,
    SeatsReleased,
    SeatsSold,
    SeatsTakenBack,
    SellSeats,
    ServeWaiting,
    ShowOpened,
    TakeSeatsBack,
    WaitForSeats,
)
from millstream.engine import Event
from millstream.handlers import Aggregate, Decision, Rejected, Schedule, Unschedule, applies, handles

HELD_FOR = timedelta(minutes=10)


class Show(Aggregate):
    free: list[int] = msgspec.field(default_factory=list)
    held: dict[str, tuple[int, ...]] = {}
    sold: dict[str, tuple[int, ...]] = {}
    waiting: dict[str, int] = {}

    @handles
    def open(self, command: OpenShow) -> Iterator[Event]:
        if self.free or self.held or self.sold:
            raise Rejected("open_already", f"{command.show} is open")
        yield ShowOpened(command.show, command.seats)

    @handles
    def hold(self, command: HoldSeats) -> Decision[tuple[int, ...]]:
        if not (self.free or self.held or self.sold):
            raise Rejected("no_such_show", f"{command.show} is not open")
        if command.order in self.held or command.order in self.sold:
            raise Rejected("held_already", f"{command.order} has seats")
        if len(self.free) < command.count:
            raise Rejected("sold_out", details={"free": len(self.free)})
        seats = tuple(self.free[: command.count])
        yield SeatsHeld(command.show, command.order, seats)
        yield Schedule(ReleaseSeats(command.show, command.order), after=HELD_FOR, name=f"hold/{command.order}")
        return seats

    @handles
    def release(self, command: ReleaseSeats) -> Decision:
        if command.order in self.held:
            yield SeatsReleased(command.show, command.order)
            yield Unschedule(f"hold/{command.order}")
        elif command.order in self.waiting:
            yield LeftQueue(command.show, command.order)

    @handles
    def sell(self, command: SellSeats) -> Decision:
        if command.order not in self.held:
            raise Rejected("not_held", f"nothing is held for {command.order}")
        yield SeatsSold(command.show, command.order)
        yield Unschedule(f"hold/{command.order}")

    @handles
    def take_back(self, command: TakeSeatsBack) -> Iterator[Event]:
        if command.order in self.sold:
            yield SeatsTakenBack(command.show, command.order)

    @handles
    def wait(self, command: WaitForSeats) -> Iterator[Event]:
        if command.order not in self.waiting:
            yield Queued(command.show, command.order, command.count)

    @handles
    def serve(self, command: ServeWaiting) -> Decision:
        left = list(self.free)
        for order, count in self.waiting.items():
            if count <= len(left):
                yield SeatsHeld(command.show, order, tuple(left[:count]))
                yield Schedule(ReleaseSeats(command.show, order), after=HELD_FOR, name=f"hold/{order}")
                del left[:count]

    @applies
    def opened(self, event: ShowOpened) -> None:
        self.free = list(range(1, event.seats + 1))

    @applies
    def when_held(self, event: SeatsHeld) -> None:
        self.free = [seat for seat in self.free if seat not in event.seats]
        self.held[event.order] = event.seats
        self.waiting.pop(event.order, None)

    @applies
    def released(self, event: SeatsReleased) -> None:
        self.free += self.held.pop(event.order)

    @applies
    def when_sold(self, event: SeatsSold) -> None:
        self.sold[event.order] = self.held.pop(event.order)

    @applies
    def taken_back(self, event: SeatsTakenBack) -> None:
        self.free += self.sold.pop(event.order)

    @applies
    def left(self, event: LeftQueue) -> None:
        del self.waiting[event.order]

    @applies
    def queued(self, event: Queued) -> None:
        self.waiting[event.order] = event.count
