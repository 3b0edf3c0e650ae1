"""An application with something of everything that the console shows: events, effects, timers, a view, reactions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated

from msgspec import Meta

from millstream.engine import App, Command, Event, Key, Query
from millstream.handlers import (
    Decision,
    Effects,
    Reaction,
    Rejected,
    Schedule,
    WriteModel,
    applies,
    handles,
    performs,
    reacts,
)
from millstream.views import View, answers

__all__ = ["Order", "Printers", "kiosk"]


class Order(Command):
    """Order a print."""

    order: Key
    text: str = ""
    count: Annotated[int, Meta(ge=1, le=1_000)] = 1
    express: bool = False


class Thank(Command):
    order: Key


class Remind(Command):
    order: Key


class Ordered(Event):
    order: Key
    text: str
    count: int


class Thanked(Event):
    order: Key


class Reminded(Event):
    order: Key


class Desk(WriteModel):
    open: set[str] = set()

    @handles
    def order(self, command: Order) -> Decision:
        if command.order in self.open:
            raise Rejected("ordered_already", f"{command.order} is ordered already", {"order": command.order})
        yield Ordered(command.order, command.text, command.count)
        if command.express:
            yield Schedule(Remind(command.order), after=timedelta(days=1), name=f"remind/{command.order}")

    @handles
    def thank(self, command: Thank) -> Iterator[Thanked]:
        yield Thanked(command.order)

    @handles
    def remind(self, command: Remind) -> Iterator[Reminded]:
        yield Reminded(command.order)

    @reacts
    def ordered(self, event: Ordered) -> Reaction:
        if event.text == "thanks":
            yield Thank(event.order)

    @applies
    def when_ordered(self, event: Ordered) -> None:
        self.open.add(event.order)

    @applies
    def when_thanked(self, event: Thanked) -> None:
        """Nothing to know."""

    @applies
    def when_reminded(self, event: Reminded) -> None:
        """Nothing to know."""


class Printers(Effects):
    """Each print fails as often as the test says."""

    def __init__(self, fails: int = 0) -> None:
        self.fails = fails
        self.printed: list[str] = []

    @performs(timeout_seconds=5)
    async def print_it(self, event: Ordered) -> None:
        if event.text.startswith("<") and self.fails:
            self.fails -= 1
            raise ConnectionError(f"no paper for {event.text}")
        self.printed.append(event.order)


class TextOf(Query[str]):
    """What is to be printed."""

    order: str


class Orders(View):
    texts: dict[str, str] = {}

    @applies
    def when_ordered(self, event: Ordered) -> None:
        self.texts[event.order] = event.text

    @answers
    def text_of(self, query: TextOf) -> str:
        return self.texts.get(query.order, "")


kiosk = App(models=[Desk], views=[Orders], effects=[Printers], name="kiosk")
