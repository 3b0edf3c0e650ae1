"""The whole ticket shop in a hundred crashing seasons: customers, holds that expire, services that fail, clocks that jump.

What is held at the end of each: every cent is where it belongs, no seat is sold twice, nothing is owed or parked.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import anyio
import pytest

from examples.shop.app import OrderState, app
from examples.shop.orders import CancelOrder, Order, PlaceOrder, RefundOrder
from examples.shop.outside import Mails, Payments, Service
from examples.shop.shows import OpenShow, Show
from millstream.engine import CommitFailed, Engine, EngineClosed, OutcomeUnknown, Rejected, WriterUnavailable
from millstream.engine.application.messages import Command
from millstream.engine.testing import (
    Faults,
    Simulation,
    StoreFault,
    check_log,
    check_replay,
    simulate,
    torture,
)
from tests.support import write_state

SEASONS = 1_000 if os.environ.get("MILLSTREAM_TORTURE") else 100
SEATS, ORDERS, CENTS = 6, 10, 1_500

ROUGH = Faults(append_refused=0.02, append_lost=0.03, append_written=0.03, append_ghost=0.02, probe_fails=0.3)


class Unreliable(Service):
    """Services that fail before or after they have done it, answer late, or not at all."""

    def __init__(self, world: Simulation) -> None:
        super().__init__()
        self.world = world
        self.is_healed = False
        #: How often there is no line, and how often the answer is lost.
        self.fails = world.random.choice((0.05, 0.15, 0.4))
        #: Of all that was charged, the keys, as often as it was.
        self.takings: list[tuple[str, int]] = []
        self.seen: Counter[str] = Counter()

    @asynccontextmanager
    async def line(self) -> AsyncIterator[None]:
        """The line between the shop and them."""
        if self.is_healed:
            yield
            return
        how = self.world.random.random()
        await self.world.sleep(self.world.random.uniform(0, 90 if how < 0.05 else 2))
        if how < self.fails:
            raise ConnectionError("no line")
        yield
        await self.world.pause()
        if how > 1 - self.fails:
            raise ConnectionError("the answer is lost")

    async def charge(self, cents: int, key: str) -> None:
        async with self.line():
            self.seen[key] += 1
            is_new = key not in self.charged
            await super().charge(cents, key)
            if is_new:
                self.takings.append((key, cents))

    async def refund(self, key: str) -> None:
        async with self.line():
            await super().refund(key)

    async def void(self, key: str) -> None:
        async with self.line():
            await super().void(key)

    async def send(self, to: str, text: str, key: str) -> None:
        async with self.line():
            await super().send(to, text, key)


class ChargesTwice(Unreliable):
    """One that does not look at idempotency keys."""

    async def charge(self, cents: int, key: str) -> None:
        async with self.line():
            self.seen[key] += 1
            self.charged[key] = cents
            self.takings.append((key, cents))


async def sent(world: Simulation, engine: Engine, command: Command, command_id: str) -> None:
    """Send a command until its outcome is known; or until the engine is gone."""
    while True:
        try:
            await engine.execute(command, command_id=command_id)
        except (CommitFailed, OutcomeUnknown, WriterUnavailable):
            await world.sleep(0.1)
        except (Rejected, EngineClosed):
            return
        else:
            return


async def customer(world: Simulation, engine: Engine, year: int, number: int) -> None:
    name, count = f"o{number}", 1 + number % 4
    await world.pause(300)
    await sent(world, engine, PlaceOrder(name, "hamlet", count, f"{name}@example.org"), f"place/{name}")
    await world.pause(1_200)
    whim = world.random.random()
    if whim < 0.2:
        await sent(world, engine, CancelOrder(name, "changed my mind"), f"cancel/{name}/{year}")
    elif whim < 0.4:
        await sent(world, engine, RefundOrder(name), f"refund/{name}/{year}")


async def season(world: Simulation, service_of: Callable[[Simulation], Unreliable] = Unreliable) -> None:
    log, service = world.log(ROUGH), service_of(world)
    opened = partial(Engine, app, log=log, effects=[Payments(service), Mails(service)])
    for year in range(3):
        try:
            async with opened() as engine, anyio.create_task_group() as customers:
                await sent(world, engine, OpenShow("hamlet", SEATS, CENTS), "open")
                for number in range(ORDERS):
                    customers.start_soon(customer, world, engine, year, number)
                if world.random.random() < 0.3:
                    world.set_clock(world.random.choice([-3_600.0, 0.0, 30.0, 7_200.0]))
                await world.sleep(world.random.uniform(0, 1_000))
                await world.crash(engine)
                customers.cancel_scope.cancel()
        except StoreFault:
            world.note("the engine did not open: the log could not be read")
    log.heal()
    service.is_healed = True
    world.set_clock(0)
    async with opened() as engine:
        for _ in range(400):  # a clock that was ahead has set timers as late
            await world.sleep(60)
            for entry in engine.agenda.entries():
                if entry.is_parked:
                    await engine.agenda.retry(entry.id)
            if not engine.agenda.entries():
                break
        await see_that_all_is_well(engine, service)
        check_log(log.commits)
        await check_replay(engine, log.commits)


async def see_that_all_is_well(engine: Engine, service: Unreliable) -> None:
    assert engine.agenda.entries() == [], "nothing is owed, waits, or is parked"
    models = write_state(engine).models
    show: Show = models[0].instances["hamlet"]
    orders: dict[str, Order] = models[1].instances
    taken = sorted([*show.free, *(seat for seats in show.sold.values() for seat in seats)])
    assert taken == list(range(1, SEATS + 1)), "each seat is free, or sold once"
    assert show.held == {}
    assert all(count > len(show.free) for count in show.waiting.values()), "nobody waits who could have seats"
    money: Counter[str] = Counter()
    for key, cents in service.takings:
        money[key] += cents * (key not in service.refunded and service.charged[key] > 0)
    kept = {order.charge: len(show.sold[name]) * CENTS for name, order in orders.items() if order.state == "paid"}
    assert +money == kept, "the money of those who have tickets, and no other"
    assert set(show.sold) == {name for name, order in orders.items() if order.state == "paid"}
    assert set(show.waiting) == {name for name, order in orders.items() if order.state == "placed"}
    written_to = {to for to, _ in service.mails.values()}
    for name, order in orders.items():
        assert order.state in ("placed", "paid", "cancelled", "refunded")
        told = await engine.ask(OrderState(name))
        assert told is not None
        assert told.startswith(order.state)
        assert (f"{name}@example.org" in written_to) is (order.state != "placed"), "everybody was written to"
        money_back = (f"{name}@example.org", "Your money for hamlet was given back.")
        assert (money_back in service.mails.values()) is (order.state == "refunded"), "also of their money"


def test_in_a_hundred_crashing_seasons_no_cent_and_no_seat_is_lost() -> None:
    counts = torture(season, seeds=range(SEASONS))
    assert counts["crashes"] > SEASONS * 2
    assert min(counts[fault] for fault in ("append_lost", "append_written", "append_ghost")) > 10


def test_a_payment_service_that_charges_twice_is_found_by_seed() -> None:
    with pytest.raises(AssertionError, match="the money of those who have tickets") as found:
        torture(partial(season, service_of=ChargesTwice), seeds=range(SEASONS))
    (note,) = found.value.__notes__
    seed = int(note.partition("seed=")[2].partition(",")[0])
    with pytest.raises(AssertionError, match="the money of those who have tickets"):
        simulate(partial(season, service_of=ChargesTwice), seed=seed)
