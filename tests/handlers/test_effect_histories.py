"""Any history of effects, of failing stores, a failing outside world and kills, against what must come of it."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.engine import App, CommitFailed, Effect, Engine, Limits, MemoryLog, OutcomeUnknown, WriterUnavailable
from millstream.engine.stores.memory import MemoryStore
from millstream.engine.testing import Faults, Simulation, simulate
from millstream.engine.write.agenda import Agenda
from millstream.engine.write.entries import Outcome
from millstream.handlers import Attempt, Effects, performs
from tests.outside import Bank, Buy, Cancel, Confirm, PaymentRequested, Payments, Shop, bugs, shop, shop_of
from tests.support import ScriptedLog, Step, agenda_of, is_deciding

ORDERS = ("a", "b", "refuses", "raises", "breaks")

BUYS = st.tuples(st.just("buy"), st.sampled_from(ORDERS))
OTHERS = st.sampled_from([("fail",), ("restart",), ("retry",), ("drop",), ("pause",), ("resume",)])


@pytest.fixture(autouse=True)
def _bugs() -> Any:
    bugs.update({each: each for each in ("refuses", "raises", "breaks")})
    yield
    bugs.clear()


@pytest.mark.parametrize("batch_commands_max", [2, 500])
@settings(max_examples=60)
@given(
    st.lists(BUYS | BUYS | OTHERS, max_size=20),
    st.lists(st.sampled_from(["ok", "ok", "ok", "ok", "lost", "written"]), max_size=20),
)
def test_whatever_happens_each_event_is_performed_once_in_order_and_ends_in_the_log_once(
    batch_commands_max: int, steps: list[tuple[str, ...]], appends: list[Step]
) -> None:
    bugs.update({each: each for each in ("refuses", "raises", "breaks")})
    log, bank, limits = ScriptedLog(), Bank(), Limits(batch_commands_max=batch_commands_max, store_retry_seconds=0.001)
    log.steps.extend(appends)
    bought: list[str] = []

    async def scenario() -> Agenda:
        left, is_over = iter([*steps, ("resume",)]), False
        while not is_over:
            async with Engine(shop, log=log, limits=limits, effects=[Payments(bank)]) as engine:
                for number, step in enumerate(left, len(bought)):
                    if step[0] == "restart":
                        break
                    await taken(engine, bank, bought, step, number)
                else:
                    is_over = True
                    await quiet(engine, log)
                    await sent(engine, Cancel("end", "the end"), "end")
                    live, state = agenda_of(engine), shop_of(engine)
        async with Engine(shop, log=MemoryLog(MemoryStore(log.commits)), snapshots=False, effects=False) as engine:
            assert (agenda_of(engine), shop_of(engine)) == (live, state)
        return live

    require_once(log.commits, bought, bank, anyio.run(scenario))


async def taken(engine: Engine, bank: Bank, bought: list[str], step: tuple[str, ...], number: int) -> None:
    match step:
        case ("buy", order):
            bought.append(order)
            await sent(engine, Buy(order), f"{number}-{len(bought)}")
        case ("fail",):
            bank.fails.update(ORDERS[:2])
        case ("retry" | "drop" as how,):
            parked = [entry.id for entry in engine.agenda.entries() if entry.is_parked]
            for entry in parked:
                with suppress(CommitFailed, OutcomeUnknown, WriterUnavailable):
                    await (engine.agenda.retry(entry) if how == "retry" else engine.agenda.drop(entry))
        case ("pause",):
            engine.effects.pause("Payments.charge")
        case ("resume",):
            engine.effects.resume("Payments.charge")


async def quiet(engine: Engine, log: ScriptedLog) -> None:
    """All that can be performed was, and what came of it is durable."""
    for _ in range(10_000):
        await anyio.lowlevel.checkpoint()
        stats = engine.stats().effects["Payments.charge"]
        parked = agenda_of(engine).parked.values() if is_deciding(engine) else None
        held = None if parked is None else {entry.key for entry in parked if isinstance(entry, Effect | Outcome)}
        if held is None or stats.running:
            continue
        if all(effect.key in held for effect in agenda_of(engine).effects.values()):
            return
    pytest.fail("it is never quiet")


def require_once(commits: list[Any], bought: list[str], bank: Bank, agenda: Agenda) -> None:
    """Each effect is struck once, or on the agenda; it was performed once; and those of a key in order."""
    requested, struck, position = [], Counter[int](), 0
    for commit in commits:
        body = msgspec.json.decode(commit.body)
        for event in body["events"]:
            position += 1
            if event["type"] == "PaymentRequested":
                requested.append((position, event["order"]))
        for each in body.get("settled", ()):
            if each.get("effect") is not None and each["how"] in ("done", "refused", "gave up", "dropped"):
                struck[each["effect"]] += 1
    assert [order for _, order in requested] == bought
    assert set(struck.values()) <= {1}
    left = {entry.position for entry in agenda if isinstance(entry, Effect)}
    assert sorted([*struck, *left]) == [position for position, _ in requested]
    for order in ORDERS:
        done = [attempt_id for each, attempt_id in bank.done if each == order]
        assert len(done) == len(set(done)), "performed twice, though nobody was killed"
        asked = list(dict.fromkeys(attempt_id for each, attempt_id in bank.asked if each == order))
        assert [each for each in asked if each in done] == done
        assert len(asked) <= bought.count(order)


async def sent(engine: Engine, command: Any, command_id: str) -> None:
    """A command is sent again until it is known what became of it."""
    while True:
        try:
            await engine.execute(command, command_id=command_id)
        except (CommitFailed, OutcomeUnknown, WriterUnavailable):
            continue
        return


# A season: a service that answers late, twice, or never.


class Season(Effects):
    def __init__(self, world: Simulation, done: Counter[str]) -> None:
        self.world = world
        self.done = done

    @performs(attempts_max=4, timeout_seconds=2, concurrency_max=4, backoff_seconds=0.2)
    async def charge(self, event: PaymentRequested, attempt: Attempt) -> Confirm:
        how = self.world.random.random()
        if how < 0.1:
            await self.world.sleep(10)  # never
        await self.world.sleep(self.world.random.uniform(0, 1.5))
        if how < 0.3:
            raise ConnectionError("no line")
        self.done[attempt.id] += 1  # what it knows already it does not do again
        if how < 0.4:
            raise ConnectionError("the answer is lost")
        return Confirm(event.order, attempt.id)


season = App(models=[Shop], effects=[Season], name="shop")


def test_in_a_season_of_failures_and_crashes_nobody_is_confirmed_twice_and_nothing_is_forgotten() -> None:
    def run(seed: int) -> tuple[list[str], Counter[str], list[str]]:
        done: Counter[str] = Counter()

        async def scenario(world: Simulation) -> list[str]:
            log = world.log(Faults(append_lost=0.05, append_written=0.03, append_ghost=0.02, probe_fails=0.2))
            orders = [f"o{number}" for number in range(12)]
            confirmed: list[str] = []
            for _ in range(3):
                async with Engine(season, log=log, effects=[Season(world, done)]) as engine:
                    for order in orders[len(confirmed) : len(confirmed) + 4]:
                        await sent(engine, Buy(order), order)
                        confirmed.append(order)
                        await world.pause(0.5)
                    await world.crash(engine)
            log.heal()
            async with Engine(season, log=log, effects=[Season(world, done)]) as engine:
                for _ in range(1_000):
                    await world.sleep(1)
                    if not any(not entry.is_parked for entry in engine.agenda.entries()):
                        break
                await engine.execute(Cancel("end", "the end"))
                parked = [entry.id for entry in engine.agenda.entries()]
                assert len(shop_of(engine).confirmed) == len(set(shop_of(engine).confirmed))
                assert len(shop_of(engine).confirmed) + len(parked) == len(orders)
                return shop_of(engine).confirmed

        found = simulate(scenario, seed=seed)
        return found.result, done, found.trace

    for seed in range(6):
        assert run(seed) == run(seed), "the same seed goes the same way"
