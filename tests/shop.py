"""A second small application for tests: two models and three views, a handler with context, events with two keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from millstream.engine import App, Command, Context, Event, Key, Query
from millstream.handlers import Rejected, WriteModel, applies, handles
from millstream.views import View, answers


class Add(Command):
    item: Key
    count: Annotated[int, Meta(gt=0, le=1_000_000)]


class Take(Command):
    item: Key
    count: Annotated[int, Meta(gt=0)]


class Move(Command):
    item: Key
    to: str


class Note(Command):
    text: str


class Nothing(Command):
    item: Key


class Break(Command):
    """Makes one part of the application misbehave; tests that need that say which."""

    how: str


class Added(Event):
    item: Key
    count: int


class Taken(Event):
    item: Key
    count: int


class Noted(Event):
    text: str
    by: str | None
    at: str
    id: str | None


class Broken(Event):
    how: str


class Stray(Event):
    """No model applies it."""

    how: str


class StockOf(Query[int]):
    item: Key


class Everything(Query[dict[str, int]]):
    pass


class Notes(Query[tuple[str, ...]]):
    pass


class Broke(Query[str]):
    how: str


class Stock(WriteModel):
    stock: dict[str, int] = {}

    @handles
    def add(self, command: Add) -> Iterator[Event]:
        yield Added(command.item, command.count)

    @handles
    def take(self, command: Take) -> Iterator[Taken]:
        if self.stock.get(command.item, 0) < command.count:
            raise Rejected(
                "out_of_stock", f"not {command.count} of {command.item}", {"left": self.stock.get(command.item, 0)}
            )
        yield Taken(command.item, command.count)

    @handles
    def move(self, command: Move) -> Iterator[Event]:
        count = self.stock.get(command.item, 0)
        if count:
            yield Taken(command.item, count)
            yield Added(command.to, count)

    @handles
    def nothing(self, command: Nothing) -> Iterator[Event]:
        yield from ()

    @applies
    def added(self, event: Added) -> None:
        self.stock[event.item] = self.stock.get(event.item, 0) + event.count

    @applies
    def taken(self, event: Taken) -> None:
        self.stock[event.item] -= event.count


class Book(WriteModel):
    notes: list[str] = []
    adds: int = 0

    @handles
    def note(self, command: Note, context: Context) -> Iterator[Event]:
        yield Noted(command.text, context.metadata.actor, context.now.isoformat(), context.command_id)

    @handles
    def broken(self, command: Break) -> Iterator[Event]:
        match command.how:
            case "raise":
                raise KeyError("a bug")
            case "mutate":
                self.notes.append("handlers must not")
            case "wrong type":
                yield Broken(3)  # type: ignore[arg-type]
                return
            case "stray":
                yield Stray("stray")
                return
            case "large":
                yield Broken("x" * 3_000_000)
                yield Broken("x" * 3_000_000)
                return
        yield Broken(command.how)

    @applies
    def noted(self, event: Noted) -> None:
        self.notes.append(event.text)

    @applies
    def added(self, event: Added) -> None:
        self.adds += 1

    @applies
    def apply_broken(self, event: Broken) -> None:
        if event.how == "apply":
            self.notes.append("half done")
            raise ValueError("can't apply")


class Shelf(View):
    stock: dict[str, int] = {}

    @applies
    def added(self, event: Added) -> None:
        self.stock[event.item] = self.stock.get(event.item, 0) + event.count

    @applies
    def taken(self, event: Taken) -> None:
        self.stock[event.item] -= event.count

    @answers
    def stock_of(self, query: StockOf) -> int:
        return self.stock.get(query.item, 0)

    @answers
    def everything(self, query: Everything) -> dict[str, int]:
        return dict(self.stock)


class Pinboard(View):
    notes: list[str] = []

    @applies
    def noted(self, event: Noted) -> None:
        self.notes.append(event.text)

    @answers
    def pinned(self, query: Notes) -> tuple[str, ...]:
        return tuple(self.notes)


class Fragile(View):
    """Faults on a broken event that asks for it, and fails to answer when asked to."""

    seen: int = 0

    @applies
    def broken(self, event: Broken) -> None:
        if event.how == "view":
            raise RuntimeError("the view can't")
        self.seen += 1

    @answers
    def answer(self, query: Broke) -> str:
        if query.how == "raise":
            raise ZeroDivisionError("while answering")
        if query.how == "reject":
            raise Rejected("no_such_thing")
        if query.how == "mutate":
            self.seen += 100
        return f"{query.how} {self.seen}"


shop = App(models=[Stock, Book], views=[Shelf, Pinboard, Fragile], name="shop")
