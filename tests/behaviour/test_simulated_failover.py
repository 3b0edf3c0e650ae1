"""Failovers in the simulated world: a store that fails, callers that go from engine to engine, writers that crash.

The suite plays 60 seeds; ``MILLSTREAM_TORTURE=1`` plays 1,000.
"""

from __future__ import annotations

import os
from collections import Counter

import anyio
import msgspec

from millstream.engine import Engine, Limits, MemoryLog, MillstreamError
from millstream.engine.stores.memory import MemoryStore
from millstream.engine.testing import Faults, Simulation, StoreFault, torture
from millstream.engine.upkeep import stored_events, verify_log
from tests.shop import Add, Everything, shop

SEEDS = 1_000 if os.environ.get("MILLSTREAM_TORTURE") else 60

#: What a reader was shown is durable on every store, so nothing is undone that it may have seen.
ROUGH = Faults(append_refused=0.05, append_lost=0.05, probe_fails=0.2, head_fails=0.1, read_fails=0.05, held=0.02)


class Site:
    """Two engines on one log, of which one writes."""

    def __init__(self, world: Simulation) -> None:
        self.world = world
        self.store = MemoryStore()
        self.engines: list[Engine] = []
        self.acknowledged: dict[str, int] = {}
        self.is_over = False

    async def begin(self) -> None:
        limits = Limits(batch_commands_max=self.world.random.choice([1, 3, 250]), snapshot_events_every=10)
        while True:
            log = self.world.log(store=self.store)
            engine = Engine(shop, log=log, standby=True, limits=limits)
            try:
                self.engines.append(await engine.__aenter__())
            except (MillstreamError, StoreFault):
                continue
            log.faults = ROUGH
            return

    async def crash(self) -> None:
        """The writer dies; who was to follow it does, or one that is begun now."""
        engine = next((each for each in self.engines if not each.not_ready), self.engines[0])
        self.engines.remove(engine)
        await self.world.crash(engine)
        try:
            await engine.__aexit__(None, None, None)
        except (MillstreamError, StoreFault) as error:
            self.world.note(f"it left with {error}")
        await self.begin()

    async def call(self, caller: int) -> None:
        number = 0
        while not self.is_over:
            name = f"{caller}.{number}"
            engine = self.world.random.choice(self.engines)
            try:
                receipt = await engine.execute(Add("a", 1), command_id=name)
            except (MillstreamError, StoreFault):
                await self.world.pause(0.05)
                continue
            self.acknowledged[name] = receipt.position
            number += 1
            await self.world.pause()

    async def play(self) -> None:
        for _ in range(2):
            await self.begin()
        async with anyio.create_task_group() as callers:
            for caller in range(3):
                callers.start_soon(self.call, caller)
            for _ in range(3):
                count = len(self.acknowledged)
                while len(self.acknowledged) < count + 5:
                    await self.world.pause(0.1)
                await self.crash()
            count = len(self.acknowledged)
            while len(self.acknowledged) < count + 5:
                await self.world.pause(0.1)
            self.is_over = True
        for engine in self.engines:
            engine.log.heal()  # type: ignore[attr-defined]
            await engine.__aexit__(None, None, None)
        await self.check()

    async def check(self) -> None:
        log = MemoryLog(self.store)
        async with Engine(shop, log=log, snapshots=False) as engine:
            await verify_log(log)
            events = [event async for event in stored_events(log)]
            positions = {event.command_id: event.position for event in events}
            assert Counter(event.command_id for event in events).most_common(1)[0][1] == 1
            assert {name: positions[name] for name in self.acknowledged} == self.acknowledged
            assert await engine.ask(Everything()) == {"a": len(events)}
        tenures = [msgspec.json.decode(commit.body).get("tenure") for commit in self.store.commits]
        terms = [tenure["term"] for tenure in tenures if tenure]
        assert terms == sorted(set(terms))


async def failovers(world: Simulation) -> None:
    await Site(world).play()


def test_whoever_writes_and_whatever_fails_nothing_is_lost_or_doubled() -> None:
    counts = torture(failovers, seeds=range(SEEDS))
    assert counts["crashes"] == 3 * SEEDS
    assert counts["append_lost"] > SEEDS
