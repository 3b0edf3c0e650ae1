"""What an application does, read off it: each method with its message, and what may follow."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from examples.shop.app import app as shop
from millstream.engine import App, Command, Event, Key, Query
from millstream.engine.application.outline import Step, mermaid_of, outline_of
from millstream.engine.errors import Rejected
from millstream.handlers import Attempt, Effects, WriteModel, applies, gave_up, handles, performs, reacts
from millstream.views import View, answers

#: What a method names may be anything, also what can't be a key of a dict.
PRIORITIES = ["first", "last"]


class Ask(Command):
    order: Key


class Paid(Command):
    order: Key


class Lost(Command):
    order: Key


class Asked(Event):
    order: Key


class Done(Event):
    order: Key


class Seen(Event):
    order: Key


class HowMany(Query[int]): ...


class Orders(WriteModel):
    @handles
    def ask(self, command: Ask) -> Iterator[Asked | Done]:
        yield Asked(command.order)

    @handles
    def paid(self, command: Paid) -> Iterator[Event]:
        yield from self.ending(command.order)

    @handles
    def lost(self, command: Lost) -> Iterator[Event]:
        yield from ()

    def ending(self, order: str) -> Iterator[Event]:
        assert PRIORITIES
        yield from (Done(order) for _ in range(1))

    @reacts
    def on_asked(self, event: Asked) -> Generator[Lost, Rejected | None, None]:
        yield Lost(event.order)

    @applies
    def asked(self, event: Asked) -> None: ...

    @applies
    def done(self, event: Done) -> None: ...


class Money(Effects):
    @performs
    async def charge(self, event: Asked) -> Paid | None:
        return Paid(event.order)

    @gave_up
    def charge_failed(self, event: Asked, attempt: Attempt, problem: str) -> Lost | None:
        return None


class Counter(View):
    asked: int = 0

    @applies
    def on_asked(self, event: Asked) -> None:
        self.asked += 1

    @applies
    def seen(self, event: Seen) -> None: ...

    @answers
    def how_many(self, query: HowMany) -> int:
        return self.asked


app = App(models=[Orders], views=[Counter], effects=[Money])


def test_each_method_stands_with_its_message_and_with_what_may_follow() -> None:
    assert outline_of(app) == [
        Step("command", "Ask", "handles", "Orders.ask", ("Asked", "Done")),
        Step("command", "Paid", "handles", "Orders.paid", ("Done",)),
        Step("command", "Lost", "handles", "Orders.lost", ()),
        Step("event", "Asked", "applies", "Orders"),
        Step("event", "Asked", "reacts", "Orders.on_asked", ("Lost",)),
        Step("event", "Asked", "performs", "Money.charge", ("Paid", "Lost")),
        Step("event", "Asked", "applies", "Counter"),
        Step("event", "Done", "applies", "Orders"),
        Step("event", "Seen", "applies", "Counter"),
        Step("query", "HowMany", "answers", "Counter"),
    ]


def test_the_drawing_has_a_node_for_each_thing_and_no_arrow_back_to_what_yields_an_event() -> None:
    assert mermaid_of(outline_of(app)).splitlines() == [
        "flowchart LR",
        '    n0["Orders"]',
        '    n1[/"Ask"/]',
        '    n2("Asked")',
        '    n3("Done")',
        '    n4[/"Paid"/]',
        '    n5[/"Lost"/]',
        '    n6["Orders.on_asked"]',
        '    n7["Money.charge"]',
        '    n8["Counter"]',
        '    n9("Seen")',
        '    n10{{"HowMany"}}',
        "    n1 -->|handles| n0",
        "    n0 --> n2",
        "    n0 --> n3",
        "    n4 -->|handles| n0",
        "    n5 -->|handles| n0",
        "    n2 -->|reacts| n6",
        "    n6 --> n5",
        "    n2 -->|performs| n7",
        "    n7 --> n4",
        "    n7 --> n5",
        "    n2 -.->|applies| n8",
        "    n9 -.->|applies| n8",
        "    n10 -->|answers| n8",
    ]


def test_every_message_of_a_larger_application_is_in_it() -> None:
    messages = {step.message for step in outline_of(shop)}
    assert messages == {each.__name__ for each in (*shop.commands, *shop.events, *shop.queries)}
