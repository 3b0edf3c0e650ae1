"""A small table for tests: seats of shows, by status, by show and price, and by the words of a title."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import msgspec
from msgspec.structs import replace

from millstream.engine import App, Command, Event, Key, Query
from millstream.handlers import WriteModel, handles
from millstream.views import Page, TableView, answers, applies


class SeatRow(msgspec.Struct, frozen=True):
    seat: str
    show: str = "hamlet"
    price: int = 0
    status: str = "free"
    title: str | None = None


class Place(Command):
    seat: Key
    show: str
    price: int


class Sell(Command):
    seats: tuple[str, ...]


class Placed(Event):
    seat: Key
    show: str
    price: int


class Sold(Event):
    seats: tuple[str, ...]


class Free(Query[tuple[SeatRow, ...]]): ...


class Board(Query[Page[SeatRow]]):
    show: str
    after: str | None = None
    descending: bool = False


class Desk(WriteModel):
    placed: int = 0

    @handles
    def place(self, command: Place) -> Iterator[Placed]:
        yield Placed(command.seat, command.show, command.price)

    @handles
    def sell(self, command: Sell) -> Iterator[Sold]:
        yield Sold(command.seats)

    @applies
    def was_placed(self, event: Placed) -> None:
        self.placed += 1


class Seats(TableView[SeatRow]):
    key: ClassVar = "seat"
    indexes: ClassVar = ("status", ("status", "price"))
    ordered: ClassVar = ("price", ("show", "price"))
    text: ClassVar = ("title",)

    @applies
    def placed(self, event: Placed) -> None:
        self.put(SeatRow(event.seat, event.show, event.price, title=f"{event.show} {event.seat}"))

    @applies
    def sold(self, event: Sold) -> None:
        for seat in event.seats:  # one that is not there raises, when some are sold already
            self.change(seat, lambda row: replace(row, status="sold"))

    @answers
    def free(self, query: Free) -> tuple[SeatRow, ...]:
        return self.find(status="free")

    @answers
    def board(self, query: Board) -> Page[SeatRow]:
        where = {"show": query.show}
        return self.page("price", where=where, after=query.after, descending=query.descending, limit=2)


class SkippingSeats(Seats):
    poison: ClassVar = "skip"


class ParkingSeats(Seats):
    poison: ClassVar = "park"


def app(view: type[Seats] = Seats) -> App:
    return App(models=[Desk], views=[view], name="seats")
