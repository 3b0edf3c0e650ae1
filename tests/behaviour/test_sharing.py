"""No two sides hold one object: what one of them does with what it was given, no other one sees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from millstream.engine import App, ChangingEventWarning, Command, Engine, Event, Key, MemoryLog, Query, Rejected
from millstream.engine.stores.memory import MemoryStore
from millstream.handlers import WriteModel, applies, handles
from millstream.views import View, answers
from tests.support import engine_state

pytestmark = pytest.mark.anyio


class Put(Command):
    cart: Key
    items: list[str]


class Also(Command):
    """Adds an item, unless there are three."""

    cart: Key
    item: str


class Filled(Event):
    cart: Key
    items: list[str]


class Added(Event):
    cart: Key
    item: str


class Items(Query[list[str]]):
    cart: str


class Everything(Query[dict[str, list[str]]]):
    pass


class Carts(WriteModel):
    items: dict[str, list[str]] = {}

    @handles
    def put(self, command: Put) -> Iterator[Event]:
        yield Filled(command.cart, command.items)

    @handles
    def also(self, command: Also) -> Iterator[Event]:
        there = self.items[command.cart]
        if len(there) >= 3:
            raise Rejected("full", details={"items": there, "by_cart": {command.cart: there}})
        yield Added(command.cart, command.item)

    @applies
    def filled(self, event: Filled) -> None:
        self.items[event.cart] = event.items

    @applies
    def added(self, event: Added) -> None:
        self.items[event.cart].append(event.item)


class Others(WriteModel):
    items: dict[str, list[str]] = {}

    @applies
    def filled(self, event: Filled) -> None:
        self.items[event.cart] = event.items
        event.items.append("of others")


class Shown(View):
    items: dict[str, list[str]] = {}

    @applies
    def filled(self, event: Filled) -> None:
        self.items[event.cart] = event.items

    @applies
    def added(self, event: Added) -> None:
        self.items[event.cart].append(event.item)

    @answers
    def of_cart(self, query: Items) -> list[str]:
        return self.items[query.cart]

    @answers
    def everything(self, query: Everything) -> dict[str, list[str]]:
        return self.items


class Counting(View):
    items: dict[str, list[str]] = {}

    @applies
    def filled(self, event: Filled) -> None:
        self.items[event.cart] = event.items
        self.items[event.cart].clear()


with pytest.warns(ChangingEventWarning, match=r"Filled holds what can change.*Filled.items: tuple\[str, ...\]"):
    app = App(models=[Carts, Others], views=[Shown, Counting])


async def test_what_one_side_does_with_an_event_no_other_side_sees_live_and_in_a_replay() -> None:
    store = MemoryStore()
    async with Engine(app, log=MemoryLog(store), snapshots=False, check_purity=True) as engine:
        await engine.execute(Put("ann", ["a"]))
        for item in ("b", "c"):
            receipt = await engine.execute(Also("ann", item))
        assert await engine.ask(Items("ann"), after=receipt) == ["a", "b", "c"]
        live = engine_state(engine)
    carts, others, *_ = live[0]
    shown, counting = live[1]
    assert (carts.items, others.items) == ({"ann": ["a", "b", "c"]}, {"ann": ["a", "of others"]})
    assert (shown.items, counting.items) == ({"ann": ["a", "b", "c"]}, {"ann": []})
    async with Engine(app, log=MemoryLog(store), snapshots=False) as engine:
        assert engine_state(engine) == live


async def test_decisions_are_the_same_whatever_shared_a_commit() -> None:
    stores = [MemoryStore(), MemoryStore()]
    commands: list[Command] = [Put("ann", []), *(Also("ann", item) for item in "abcd")]
    async with Engine(app, log=MemoryLog(stores[0]), snapshots=False) as engine:
        together = [type(outcome).__name__ for outcome in await engine.execute_many(commands)]
    async with Engine(app, log=MemoryLog(stores[1]), snapshots=False) as engine:
        alone = []
        for command in commands:
            (outcome,) = await engine.execute_many([command])
            await engine.ask(Everything(), after=engine.stats().views["Shown"].position)
            alone.append(type(outcome).__name__)
    assert together == alone == ["Receipt"] * 4 + ["Rejected"]


async def test_an_answer_is_its_callers_own() -> None:
    async with Engine(app, log=MemoryLog()) as engine:
        receipt = await engine.execute(Put("ann", ["a"]))
        answer = await engine.ask(Items("ann"), after=receipt)
        answer.append("mine")
        everything = (await engine.answer(Everything())).answer
        everything["ann"].append("mine, too")
        everything["bob"] = []
        assert await engine.ask(Everything()) == {"ann": ["a"]}


async def test_what_a_refusal_tells_of_the_state_is_not_the_state() -> None:
    async with Engine(app, log=MemoryLog()) as engine:
        await engine.execute(Put("ann", ["a", "b", "c"]))
        for _ in range(2):
            with pytest.raises(Rejected) as raised:
                await engine.execute(Also("ann", "d"))
            assert raised.value.details == {"items": ["a", "b", "c"], "by_cart": {"ann": ["a", "b", "c"]}}
            raised.value.details["items"].clear()
            raised.value.details["by_cart"]["ann"].clear()


class Parcel:
    """msgspec does not know it."""

    def __init__(self) -> None:
        self.stamps = ["first"]


class Held(Query[Any]):
    pass


class Fussy(View):
    poison: ClassVar = "park"
    parcel: ClassVar = Parcel()

    @applies
    def filled(self, event: Filled) -> None:
        if "bad" in event.items:
            raise ValueError(event.items)

    @answers
    def held(self, query: Held) -> Any:
        return {"parcel": self.parcel}


fussy = App(models=[Carts], views=[Fussy], name="carts")


async def test_an_answer_of_a_class_that_nobody_knows_is_its_callers_own_too() -> None:
    async with Engine(fussy, log=MemoryLog()) as engine:
        for _ in range(2):
            parcel = (await engine.ask(Held()))["parcel"]
            assert parcel.stamps == ["first"]
            parcel.stamps.append("mine")


async def test_what_is_done_with_a_parked_event_does_not_change_what_is_parked() -> None:
    async with Engine(fussy, log=MemoryLog()) as engine:
        receipt = await engine.execute(Put("ann", ["bad"]))
        await engine.ask(Held(), after=receipt, incomplete=True)
        for _ in range(2):
            (parked,) = engine.parked()
            assert parked.event == Filled("ann", ["bad"])
            assert isinstance(parked.event, Filled)
            parked.event.items.clear()
        await engine.replay_parked()
        assert [each.cause for each in engine.parked()] == ["ValueError(['bad'])"]
