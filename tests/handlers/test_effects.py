"""Effects: what is owed to the outside world from the commit of an event on, and what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from millstream.engine import (
    App,
    CommitFailed,
    DefinitionError,
    Effect,
    Engine,
    EngineClosed,
    InvalidMessage,
    LimitReached,
    Limits,
    MemoryLog,
    Metadata,
    NotOnAgenda,
    Outcome,
    OutcomeUnknown,
    Replica,
    UnknownMessage,
    WriterUnavailable,
)
from millstream.engine.stores.leadership import Leadership
from millstream.engine.stores.memory import MemoryStore
from millstream.engine.testing import Simulation, simulate
from millstream.handlers import Attempt, Effects, performs
from tests.outside import (
    Bank,
    Buy,
    Cancel,
    Careful,
    Confirm,
    Look,
    Mail,
    PaymentRequested,
    Payments,
    Shop,
    bugs,
    careful,
    shop,
    shop_of,
)
from tests.stores import MemoryPlace, Place, SqlitePlace
from tests.support import AT_ONCE, ScriptedLog, Seen, agenda_of, is_deciding, settled, start, until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Any) -> Place:
    return MemoryPlace() if request.param == "memory" else SqlitePlace(tmp_path)


@pytest.fixture
def bank() -> Bank:
    return Bank()


@pytest.fixture(autouse=True)
def no_bugs() -> Iterator[None]:
    yield
    bugs.clear()


def owed(engine: Engine) -> list[str]:
    return [entry.id for entry in engine.agenda.entries()]


def bodies(store: MemoryStore) -> list[dict[str, Any]]:
    return [msgspec.json.decode(commit.body) for commit in store.commits]


def replayed(log: MemoryLog | ScriptedLog) -> Engine:
    """Another engine on what is in a log, that performs nothing."""
    commits = log.commits if isinstance(log, ScriptedLog) else log.store.commits
    return Engine(shop, log=MemoryLog(MemoryStore(list(commits))), snapshots=False, effects=False)


# Owed, performed, struck.


async def test_an_event_is_performed_when_it_is_durable_and_what_comes_of_it_strikes_it(
    place: Place, bank: Bank
) -> None:
    ann = Metadata(actor="ann", correlation="c", extra={"till": "3"})
    async with Engine(shop, log=place.log(), effects=[Payments(bank)]) as engine:
        release = bank.hold("o1")
        await engine.execute(Buy("o1"), metadata=ann)
        await until(lambda: bank.running)
        assert owed(engine) == ["effect:1/Payments.charge"]
        release()
        await until(lambda: shop_of(engine).confirmed == ["o1"])
        assert (owed(engine), bank.charged["o1"]) == ([], 1)
        await engine.execute(Look())
        live = agenda_of(engine)
        place.crash()
    async with Engine(shop, log=place.log(), effects=[Payments(bank)]) as engine:
        await settled()
        assert (agenda_of(engine), shop_of(engine).confirmed, bank.charged["o1"]) == (live, ["o1"], 1)


async def test_the_log_says_what_is_owed_and_what_came_of_it(bank: Bank) -> None:
    place = MemoryPlace()
    async with Engine(shop, log=place.log(), effects=[Payments(bank)]) as engine:
        await engine.execute(Buy("o1"), metadata=Metadata(actor="ann", correlation="c", causation="mine"))
        await until(lambda: shop_of(engine).confirmed)
    first, second = bodies(place.store)
    assert (first["owes"], first["needs"]) == ({"PaymentRequested": ["Payments.charge"]}, ["agenda"])
    assert second["settled"] == [{"how": "done", "by": "Payments.charge", "effect": 1, "attempts": 1}]
    assert second["origins"] == [{"command": 0, "by": "Payments.charge", "effect": 1}]
    assert (second["actors"], second["correlations"]) == (["ann"], ["c"])
    assert (second["events"][0]["why"], "causations" in second) == ("effect:1/Payments.charge", False)


async def test_the_id_of_an_attempt_is_of_the_events_commit_and_the_same_after_a_crash(
    place: Place, bank: Bank
) -> None:
    limits = Limits(drain_seconds_max=0.01)
    async with Engine(shop, log=place.log(), effects=[Payments(bank)], limits=limits) as engine:
        bank.hold("o1")
        await engine.execute_many([Buy("o0"), Buy("o1")])
        await until(lambda: shop_of(engine).confirmed == ["o0"] and len(bank.asked) == 2)
        await engine.execute(Look())
        head = await engine.log.head()
        place.crash()
    async with Engine(shop, log=place.log(), effects=False) as engine:
        (entry,) = engine.agenda.entries()
        assert isinstance(entry, Effect)
        first = dict(bank.asked)["o1"]
        assert entry.attempt_id == first
        assert first.endswith("-1-Payments.charge")
        assert len(first.partition("-")[0]) == 16
        assert not first.startswith(head.digest[:8].hex()), "the head holds what came of the other"
    async with Engine(shop, log=place.log(), effects=False) as engine:
        assert [each.attempt_id for each in engine.agenda.entries() if isinstance(each, Effect)] == [first]
    other = Bank()
    async with Engine(shop, log=place.log(), effects=[Payments(other)]) as engine:
        await until(lambda: other.charged["o1"])
    assert other.asked == [("o1", first)]


async def test_another_history_after_an_older_backup_gives_other_ids(bank: Bank) -> None:
    store = MemoryStore()
    async with Engine(shop, log=MemoryLog(store), effects=[Payments(bank)], snapshots=False) as engine:
        await engine.execute(Buy("o1"))
        await until(lambda: shop_of(engine).confirmed == ["o1"])
        await engine.execute(Look())
        backup = list(store.commits)
        await engine.execute(Buy("today"))
        await until(lambda: len(shop_of(engine).confirmed) == 2)
    older = MemoryLog(MemoryStore(backup))
    async with Engine(shop, log=older, effects=[Payments(bank)], snapshots=False) as engine:
        receipt = await engine.execute(Buy("another"))
        await until(lambda: len(shop_of(engine).confirmed) == 2)
    ids = [attempt_id for _, attempt_id in bank.asked]
    assert receipt.position == 3
    assert len(set(ids)) == 3


async def test_a_command_whose_event_nobody_performs_owes_nothing_and_a_method_without_an_answer_strikes(
    bank: Bank,
) -> None:
    place = MemoryPlace()
    async with Engine(shop, log=place.log(), effects=[Payments(bank)]) as engine:
        await engine.execute(Cancel("o1", "never"))
        await engine.execute(Mail("hello"))
        await until(lambda: not owed(engine) and bank.mailed)
        await engine.execute(Cancel("o2", "never"))
    first, second, third, *_ = bodies(place.store)
    assert "owes" not in first
    assert "needs" not in first
    assert second["owes"] == {"Mailed": ["Payments.send"]}
    assert third["settled"] == [{"how": "done", "by": "Payments.send", "effect": 2, "attempts": 1}]


# Four histories, each of which would charge a card twice.


@pytest.mark.parametrize("bug", ["raises", "breaks"])
async def test_a_handler_that_fails_on_the_answer_does_not_charge_again_and_its_command_is_kept(
    place: Place, bank: Bank, bug: str
) -> None:
    bugs["o1"] = bug
    async with Engine(careful, log=place.log(), effects=[Careful(bank)]) as engine:
        await engine.execute(Buy("o1"), metadata=Metadata(actor="ann"))
        await until(lambda: is_deciding(engine) and owed(engine) == ["outcome:1/Careful.charge"])
        assert not await engine.agenda.retry("outcome:1/Careful.charge"), "it fails again"
        await until(lambda: is_deciding(engine))
        await engine.execute(Look())
        live = agenda_of(engine)
        place.crash()
    async with Engine(careful, log=place.log(), effects=[Careful(bank)]) as engine:
        assert agenda_of(engine) == live
        bugs.clear()
        (entry,) = engine.agenda.entries()
        assert isinstance(entry, Outcome)
        assert (entry.metadata.actor, bank.charged["o1"]) == ("ann", 1)
        assert msgspec.json.decode(entry.commands[0]) == {"type": "Confirm", "order": "o1", "charge": "charge-o1"}
        assert await engine.agenda.retry(entry.id)
        assert (shop_of(engine).confirmed, owed(engine), bank.charged["o1"]) == (["o1"], [], 1)
    async with Engine(careful, log=place.log(), effects=[Careful(bank)]) as engine:
        assert (shop_of(engine).confirmed, owed(engine), bank.charged["o1"]) == (["o1"], [], 1)


async def test_closing_waits_for_what_runs_and_takes_what_comes_of_it_and_nothing_else(
    place: Place, bank: Bank
) -> None:
    payments = Payments(bank)
    release = bank.hold("o1")
    async with anyio.create_task_group() as group:
        engine = Engine(shop, log=place.log(), effects=[payments])
        await engine.__aenter__()
        await engine.execute_many([Buy("o1"), Buy("o1")])
        await until(lambda: bank.running)
        group.start_soon(engine.__aexit__, None, None, None)
        await until(lambda: engine.status == "closing")
        await anyio.lowlevel.checkpoint()
        with pytest.raises(EngineClosed):
            await engine.execute(Buy("o2"))
        release()
    assert (payments.entered, payments.left) == (1, 1)
    async with Engine(shop, log=place.log(), effects=False) as engine:
        assert (shop_of(engine).confirmed, owed(engine)) == (["o1"], ["effect:2/Payments.charge"])
    assert bank.charged["o1"] == 1, "the second one has not begun"


async def test_what_closing_cuts_off_is_owed_still_and_said(bank: Bank) -> None:
    place, seen = MemoryPlace(), Seen()
    bank.hold("o1")
    limits = Limits(drain_seconds_max=0.01)
    async with Engine(shop, log=place.log(), effects=[Payments(bank)], observers=[seen], limits=limits) as engine:
        await engine.execute(Buy("o1"))
        await until(lambda: bank.running)
    assert [facts for name, facts in seen.happened if name == "effects_cut_off"] == [
        {"effects": ["effect:1/Payments.charge"]}
    ]
    async with Engine(shop, log=place.log(), effects=False) as engine:
        assert owed(engine) == ["effect:1/Payments.charge"]


@pytest.mark.parametrize("how", ["refused", "lost", "written"])
async def test_a_store_that_fails_is_no_failed_attempt(bank: Bank, how: Any) -> None:
    log, seen, limits = ScriptedLog(), Seen(), Limits(store_retry_seconds=AT_ONCE)
    made = Engine(shop, log=log, effects=[Payments(bank)], observers=[seen], snapshots=False, limits=limits)
    async with made as engine:
        await engine.execute(Buy("o1"))
        log.steps.append(how)
        log.probes_fail = 1
        await until(lambda: not log.steps and not log.probes_fail and is_deciding(engine))
        await until(lambda: shop_of(engine).confirmed == ["o1"])
        await engine.execute(Buy("o1"))
        await until(lambda: len(shop_of(engine).confirmed) == 2)
        await engine.execute(Look())
        live = agenda_of(engine)
    assert bank.charged["o1"] == 2
    assert not seen.names("effect_superseded", "application_failed")
    async with replayed(log) as engine:
        assert (agenda_of(engine), shop_of(engine).confirmed) == (live, ["o1", "o1"])


@pytest.mark.parametrize("how", ["refused", "lost", "written"])
async def test_an_effect_of_an_event_without_a_key_is_not_performed_again_because_the_store_fails(
    bank: Bank, how: Any
) -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, effects=[Payments(bank)], snapshots=False) as engine:
        await engine.execute(Mail("hello"))
        log.steps.append(how)  # the commit that would strike it
        await until(lambda: not log.steps and is_deciding(engine))
        await until(lambda: not owed(engine))
        await engine.execute(Look())
    assert bank.mailed == ["hello"]


async def test_what_is_owed_is_not_called_nothing_while_it_is_not_known(bank: Bank) -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, effects=False, limits=Limits(store_retry_seconds=AT_ONCE)) as engine:
        await engine.execute(Buy("o1"))
        log.steps.append("lost")
        log.probes_fail = 3
        with pytest.raises(OutcomeUnknown):
            await engine.execute(Buy("o2"))
        await until(lambda: not is_deciding(engine))
        with pytest.raises(WriterUnavailable, match="is not known while its state is rebuilt"):
            engine.agenda.entries()
        await until(lambda: is_deciding(engine))
        assert owed(engine) == ["effect:1/Payments.charge"]


async def test_two_attempts_that_answer_differently_strike_once(bank: Bank) -> None:
    place = MemoryPlace()
    bank.says["o1"] = Confirm("o1", "first")
    async with Engine(shop, log=place.log(), effects=[Payments(bank)]) as engine:
        release = bank.hold("o1")
        await engine.execute(Buy("o1"))
        await until(lambda: bank.running)
        place.crash()
        release()
    bank.says["o1"] = Confirm("o1", "second")
    async with Engine(shop, log=place.log(), effects=[Payments(bank)]) as engine:
        await until(lambda: shop_of(engine).confirmed == ["o1"])
    (attempt_id,) = set(bank.asked)
    assert attempt_id[0] == "o1"
    assert [event["charge"] for body in bodies(place.store) for event in body["events"] if "charge" in event] == [
        "second"
    ]


# What comes of it.


async def test_effects_of_a_key_wait_behind_what_came_of_an_earlier_one_and_is_parked(bank: Bank) -> None:
    bugs["o1"] = "raises"
    async with Engine(shop, log=MemoryLog(), effects=[Payments(bank)]) as engine:
        await engine.execute(Buy("o1"))
        await until(lambda: agenda_of(engine).parked)
        await engine.execute_many([Buy("o1"), Buy("o2")])
        await until(lambda: bank.charged["o2"] == 1)
        await settled()
        assert bank.orders.count("o1") == 1
        bugs.clear()
        assert await engine.agenda.retry("outcome:1/Payments.charge")
        await until(lambda: bank.charged["o1"] == 2)


async def test_a_refusal_strikes_and_is_recorded_with_its_code(bank: Bank) -> None:
    place = MemoryPlace()
    bugs["o1"] = "refuses"
    async with Engine(shop, log=place.log(), effects=[Payments(bank)]) as engine:
        await engine.execute(Buy("o1"))
        await until(lambda: not owed(engine))
    body = bodies(place.store)[-1]
    assert body["settled"] == [{"how": "refused", "by": "Payments.charge", "effect": 1, "attempts": 1}]
    assert body["refused"] == [{"command": 0, "code": "too_late", "message": "it was cancelled"}]


async def test_one_that_fails_is_tried_again_under_the_same_id_and_then_given_up(bank: Bank) -> None:
    place = MemoryPlace()
    bank.fails.update({"o1": 2, "o2": 3})
    async with Engine(careful, log=place.log(), effects=[Careful(bank)]) as engine:
        await engine.execute_many([Buy("o1"), Buy("o2")])
        await until(lambda: not owed(engine))
        assert (shop_of(engine).confirmed, shop_of(engine).cancelled) == (["o1"], ["o2"])
    assert sorted(bank.orders) == ["o1"] * 3 + ["o2"] * 3
    assert len(set(bank.asked)) == 2
    settled_in = [each for body in bodies(place.store) for each in body.get("settled", ())]
    assert sorted((each["how"], each["attempts"]) for each in settled_in) == [("done", 3), ("gave up", 3)]
    (problem,) = [e["problem"] for body in bodies(place.store) for e in body["events"] if "problem" in e]
    assert problem == "3: ConnectionError('no line for o2')" or "no line for o2" in problem


async def test_without_a_word_on_giving_up_it_is_parked_and_its_key_waits_behind_it(place: Place, bank: Bank) -> None:
    bank.fails["o1"] = 1
    async with Engine(shop, log=place.log(), effects=[Payments(bank)]) as engine:
        await engine.execute_many([Buy("o1"), Buy("o1"), Buy("o2")])
        await until(lambda: bank.charged["o2"] and agenda_of(engine).parked)
        await settled()
        assert bank.orders.count("o1") == 1
        stats = engine.stats().effects["Payments.charge"]
        assert (stats.owed, stats.parked, stats.failed) == (1, 1, 1)
        await engine.execute(Look())
        live = agenda_of(engine)
        place.crash()
    async with Engine(shop, log=place.log(), effects=[Payments(bank)]) as engine:
        assert agenda_of(engine) == live
        await settled()
        assert bank.orders.count("o1") == 1
        first = next(entry for entry in engine.agenda.entries() if entry.is_parked)
        assert isinstance(first, Effect)
        assert (first.id, first.error, first.attempts) == ("effect:1/Payments.charge", "ConnectionError", 1)
        assert await engine.agenda.retry(first.id)
        await until(lambda: bank.charged["o1"] == 2 and not owed(engine))


async def test_what_is_parked_and_dropped_lets_its_key_go_on(bank: Bank) -> None:
    bank.fails["o1"] = 1
    async with Engine(shop, log=MemoryLog(), effects=[Payments(bank)]) as engine:
        await engine.execute_many([Buy("o1"), Buy("o1")])
        await until(lambda: agenda_of(engine).parked)
        await engine.agenda.drop("effect:1/Payments.charge")
        await until(lambda: shop_of(engine).confirmed == ["o1"])
        assert engine.agenda.entries() == []


async def test_one_that_gives_up_wrongly_is_parked_and_others_of_its_key_pass(bank: Bank) -> None:
    bank.fails["o1"] = 3
    bugs["o1"] = "gives up wrongly"
    async with Engine(careful, log=MemoryLog(), effects=[Careful(bank)]) as engine:
        await engine.execute_many([Buy("o1"), Buy("o1")])
        await until(lambda: bank.charged["o1"] == 1 and agenda_of(engine).parked)
        assert [entry.id for entry in engine.agenda.entries() if entry.is_parked] == ["effect:1/Careful.charge"]
    assert bank.orders == ["o1"] * 4


async def test_what_is_no_command_of_the_application_parks_and_is_not_asked_again(bank: Bank) -> None:
    bank.says["o1"] = "paid"
    async with Engine(shop, log=MemoryLog(), effects=[Payments(bank)]) as engine:
        await engine.execute(Buy("o1"))
        await until(lambda: agenda_of(engine).parked)
        (entry,) = agenda_of(engine).parked.values()
        assert (entry.id, entry.error) == ("effect:1/Payments.charge", "UnknownMessage")
    assert bank.orders == ["o1"]


async def test_what_comes_of_one_that_somebody_has_dropped_is_said_and_not_decided(bank: Bank) -> None:
    seen = Seen()
    async with Engine(shop, log=MemoryLog(), effects=[Payments(bank)], observers=[seen]) as engine:
        release = bank.hold("o1")
        await engine.execute(Buy("o1"), metadata=Metadata(correlation="basket 7"))
        await until(lambda: bank.running)
        await engine.agenda.drop("effect:1/Payments.charge")
        release()
        await until(lambda: seen.names("effect_superseded"))
        assert shop_of(engine).confirmed == []
    (facts,) = [facts for name, facts in seen.happened if name == "effect_superseded"]
    assert facts == {
        "effect": "effect:1/Payments.charge",
        "how": "done",
        "commands": ["Confirm"],
        "problem": "",
        "correlation": "basket 7",
    }


async def test_one_that_is_cancelled_by_anybody_but_the_engine_is_parked_and_its_key_waits(bank: Bank) -> None:
    class Nervous(Effects):
        @performs(attempts_max=3)
        async def charge(self, event: PaymentRequested, attempt: Attempt) -> Confirm:
            if event.amount == 13:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await anyio.lowlevel.checkpoint()
            return Confirm(event.order, await bank.charge(event.order, attempt.id))

    app, seen = App(models=[Shop], effects=[Nervous], name="shop"), Seen()
    async with Engine(app, log=MemoryLog(), effects=[Nervous()], observers=[seen]) as engine:
        basket = Metadata(correlation="basket 7")
        await engine.execute_many([Buy("o1", 13), Buy("o1"), Buy("o2")], metadata=basket)
        await until(lambda: bank.charged["o2"] and agenda_of(engine).parked)
        await settled()
        assert bank.orders == ["o2"]
        assert [entry.error for entry in agenda_of(engine).parked.values()] == ["CancelledError"]
        (facts,) = [facts for name, facts in seen.happened if name == "application_failed"]
        assert facts["correlation"] == "basket 7"
        assert engine.stats().effects["Nervous.charge"].failed == 1


async def test_an_attempt_that_takes_too_long_is_cancelled_and_has_failed(bank: Bank) -> None:
    class Hasty(Effects):
        @performs(timeout_seconds=0.001)
        async def charge(self, event: PaymentRequested) -> None:
            await bank.charge(event.order, "")

    bank.hold("o1")
    async with Engine(App(models=[Shop], effects=[Hasty]), log=MemoryLog()) as engine:
        await engine.execute(Buy("o1"))
        await until(lambda: agenda_of(engine).parked)
        (entry,) = agenda_of(engine).parked.values()
        assert (entry.error, entry.text) == (
            "TimeoutError", "TimeoutError('it took more than timeout_seconds=0.001')",
        )  # fmt: skip
    assert bank.running == 0


# Order, bounds, pausing.


async def test_effects_of_a_key_come_in_order_and_those_of_others_at_the_same_time_as_many_as_may(
    bank: Bank,
) -> None:
    async with Engine(shop, log=MemoryLog(), effects=[Payments(bank)]) as engine:
        releases = [bank.hold(f"o{number}") for number in range(5)]
        await engine.execute_many([Buy(f"o{number}", amount) for amount in range(2) for number in range(5)])
        await until(lambda: bank.running == 3)
        await settled()
        assert (bank.running, bank.orders) == (3, ["o0", "o1", "o2"])
        for release in releases:
            release()
        await until(lambda: len(shop_of(engine).confirmed) == 10)
    assert bank.running_most == 3
    charges = [attempt_id for order, attempt_id in bank.asked if order == "o0"]
    assert [int(each.split("-")[1]) for each in charges] == [0, 5]


async def test_no_more_begin_in_a_second_than_may() -> None:
    began: list[float] = []
    worlds: list[Simulation] = []

    class Slow(Effects):
        @performs(per_second=2)
        async def charge(self, event: PaymentRequested) -> None:
            began.append(worlds[0].seconds)

    app = App(models=[Shop], effects=[Slow])

    async def scenario(world: Simulation) -> None:
        worlds.append(world)
        async with Engine(app, log=world.log(), effects=[Slow()]) as engine:
            await engine.execute_many([Buy(f"o{number}") for number in range(4)])
            while len(began) < 4:
                await world.sleep(0.1)

    await anyio.to_thread.run_sync(lambda: simulate(scenario, seed=1, stalls=0))
    assert all(later - earlier >= 0.499 for earlier, later in pairwise(began))


async def test_a_method_that_is_paused_begins_none_until_it_is_resumed(bank: Bank) -> None:
    async with Engine(shop, log=MemoryLog(), effects=[Payments(bank)]) as engine:
        engine.effects.pause("Payments.charge")
        await engine.execute_many([Buy("o1"), Mail("hello")])
        await until(lambda: bank.mailed)
        stats = engine.stats().effects
        assert (stats["Payments.charge"].is_paused, stats["Payments.charge"].owed, bank.asked) == (True, 1, [])
        engine.effects.resume("Payments.charge")
        await until(lambda: shop_of(engine).confirmed == ["o1"])
        with pytest.raises(
            UnknownMessage, match=r"has no effect 'Payments.refund', but 'Payments.send'; it has: Payments.charge"
        ):
            engine.effects.pause("Payments.refund")


async def test_a_command_that_would_owe_more_than_may_be_owed_is_refused() -> None:
    async with Engine(shop, log=MemoryLog(), effects=False, limits=Limits(effects_owed_max=2)) as engine:
        await engine.execute_many([Buy("o1"), Buy("o2")])
        with pytest.raises(LimitReached, match="effects_owed_max"):
            await engine.execute(Buy("o3"))
        await engine.execute(Cancel("o1", "nobody pays"))
        await engine.agenda.drop("effect:1/Payments.charge")
        await engine.execute(Buy("o3"))


# Where nothing is performed.


async def test_nothing_is_performed_in_a_preview_a_replica_or_where_nobody_wants_it(tmp_path: Any, bank: Bank) -> None:
    path = tmp_path / "shop.db"
    made: list[Bank] = []

    class Watched(Payments):
        def __init__(self) -> None:
            super().__init__(bank)
            made.append(bank)

    app = App(models=[Shop], effects=[Watched], name="shop")
    async with Engine(app, log=path, effects=False) as engine:
        preview = engine.preview(Buy("o1"))
        assert (len(preview), preview.effects) == (1, ("Watched.charge",))
        await engine.execute(Buy("o1"))
        async with Replica(app, log=path):
            await settled()
        assert owed(engine) == ["effect:1/Watched.charge"]
    assert (bank.asked, made) == ([], [])
    async with Engine(app, log=path) as engine:
        await until(lambda: bank.charged["o1"])
    assert made == [bank]


def test_a_simulation_performs_what_it_is_given_a_fake_for_and_nothing_else() -> None:
    bank = Bank()

    async def scenario(world: Simulation) -> list[str]:
        log = world.log()
        async with Engine(shop, log=log) as engine:
            await engine.execute(Buy("o1"))
            await world.sleep(1)
            before = owed(engine)
        async with Engine(shop, log=log, effects=[Payments(bank)]) as engine:
            await world.sleep(1)
            assert shop_of(engine).confirmed == ["o1"]
        return before

    assert simulate(scenario, seed=3).result == ["effect:1/Payments.charge"]
    assert bank.charged["o1"] == 1


# Instances.


async def test_an_instance_that_can_not_be_entered_keeps_the_engine_from_opening_and_the_log_is_let_go_of() -> None:
    class Closed(Payments):
        async def __aenter__(self) -> None:
            raise ConnectionError("no bank today")

    log = MemoryLog()
    with pytest.raises(ConnectionError, match="no bank today"):
        async with Engine(shop, log=log, effects=[Closed()]):
            pytest.fail("it opened")
    async with Engine(shop, log=MemoryLog(log.store), effects=[Payments()]) as engine:
        await engine.execute(Buy("o1"))


async def test_what_is_given_as_effects_is_one_instance_of_each_class_at_most(bank: Bank) -> None:
    cases: list[tuple[list[object], str]] = [
        ([Bank()], "takes instances of the application's classes"),
        ([Payments], "takes instances of the application's classes"),
        ([Payments(), Payments()], "has two instances of Payments"),
    ]
    for given, problem in cases:
        with pytest.raises(DefinitionError, match=problem):
            Engine(shop, log=MemoryLog(), effects=given)


async def test_a_class_that_wants_arguments_is_to_be_given() -> None:
    class Wanting(Effects):
        def __init__(self, secret: str) -> None:
            self.secret = secret

        @performs
        async def charge(self, event: PaymentRequested) -> None: ...

    app = App(models=[Shop], effects=[Wanting])
    with pytest.raises(DefinitionError, match="Wanting can't be made without arguments"):
        async with Engine(app, log=MemoryLog()):
            pytest.fail("it opened")
    async with Engine(app, log=MemoryLog(), effects=[Wanting("s")]) as engine:
        await engine.execute(Buy("o1"))
        await until(lambda: not owed(engine))


# Names.


async def test_what_is_owed_to_a_name_that_the_code_lacks_waits_until_it_is_renamed(bank: Bank) -> None:
    class Charges(Effects):
        @performs
        async def charge(self, event: PaymentRequested, attempt: Attempt) -> None:
            await bank.charge(event.order, attempt.id)

    log, seen = MemoryLog(), Seen()
    async with Engine(shop, log=log, effects=False) as engine:
        await engine.execute(Buy("o1"))
        (entry,) = engine.agenda.entries()
    today = App(models=[Shop], effects=[Charges], name="shop")
    async with Engine(today, log=MemoryLog(log.store), observers=[seen]) as engine:
        await settled()
        assert owed(engine) == ["effect:1/Payments.charge"]
        assert ("effects_gone", {"app": "shop", "effects": {"Payments.charge": 1}}) in seen.happened
    renamed = App(models=[Shop], effects=[Charges], name="shop", renamed={"Payments.charge": "Charges.charge"})
    async with Engine(renamed, log=MemoryLog(log.store)) as engine:
        await until(lambda: not owed(engine))
    assert isinstance(entry, Effect)
    assert bank.asked == [("o1", entry.attempt_id)], "the old name is in its id still"


async def test_what_can_not_be_settled_so_says_why() -> None:
    async with Engine(shop, log=MemoryLog(), effects=False) as engine:
        await engine.execute(Buy("o1"))
        with pytest.raises(InvalidMessage, match="is not parked"):
            await engine.agenda.retry("effect:1/Payments.charge")
        with pytest.raises(InvalidMessage, match="is no timer that waits"):
            await engine.agenda.fire_now("effect:1/Payments.charge")
        for name in ("effect:2/Payments.charge", "outcome:1/Payments.charge", "effect:x/y"):
            with pytest.raises(NotOnAgenda):
                await engine.agenda.drop(name)


async def test_a_commit_that_fails_owes_nothing(bank: Bank) -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, effects=[Payments(bank)]) as engine:
        log.steps.append("refused")
        async with anyio.create_task_group() as group:
            outcome = start(group, engine.execute(Buy("o1")))
        assert isinstance(outcome.error, CommitFailed)
        await until(lambda: is_deciding(engine))
        assert (owed(engine), bank.asked) == ([], [])


async def test_nothing_is_performed_before_the_commit_of_its_event_is_durable(bank: Bank) -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, effects=[Payments(bank)]) as engine, anyio.create_task_group() as group:
        log.hold()
        start(group, engine.execute(Cancel("o0", "before")))
        await until(lambda: log.appends_started == 1)
        start(group, engine.execute(Buy("o1")))
        await settled()
        log.release()
        log.hold()  # the first one lands, and the second, which was decided meanwhile, is being written
        await until(lambda: log.appends_started == 2)
        await settled()
        assert (owed(engine), bank.asked) == (["effect:2/Payments.charge"], [])
        log.release()
        await until(lambda: bank.charged["o1"])


# Two writers.


@pytest.mark.parametrize("when", ["settles", "stopped"])
async def test_an_effect_that_ran_on_two_writers_is_settled_once_and_the_other_outcome_is_told(when: str) -> None:
    """The lock is lost, as a lease is: the old writer finds out by its next commit, or is told before."""
    store, old, new, seen = MemoryStore(), Bank(), Bank(), Seen()
    stale = Engine(shop, log=MemoryLog(store), effects=[Payments(old)], observers=[seen], snapshots=False)
    async with stale:
        release = old.hold("o1")
        await stale.execute(Buy("o1"))
        await until(lambda: old.running)
        store.locked = False
        async with Engine(shop, log=MemoryLog(store), effects=[Payments(new)], snapshots=False) as fresh:
            await until(lambda: shop_of(fresh).confirmed == ["o1"])
            await fresh.execute(Look())
            if when == "stopped":
                stale._writer.leadership.lose()
                await until(lambda: stale.stats().writer.status == "stopped")
            release()
            await until(lambda: seen.names("effect_superseded"))
            (line,) = [facts for name, facts in seen.happened if name == "effect_superseded"]
            assert (line["effect"], line["how"]) == ("effect:1/Payments.charge", "done")
            assert line["commands"] == ["Confirm"]
            assert "another writer has the log" in line["problem"]
            live = agenda_of(fresh)
        store.locked = True  # the stale one lets go of what is not its own any more
    assert (old.charged["o1"], new.charged["o1"]) == (1, 1)
    async with replayed(MemoryLog(store)) as engine:
        assert (agenda_of(engine), shop_of(engine).confirmed) == (live, ["o1"])


async def test_while_the_lease_is_in_doubt_no_effect_begins(bank: Bank) -> None:
    sure = False
    async with Engine(shop, log=MemoryLog(), effects=[Payments(bank)]) as engine:
        engine._writer.holds(Leadership(is_sure=lambda: sure))
        await engine.execute(Buy("o1"))
        await settled()
        assert (bank.charged["o1"], owed(engine)) == (0, ["effect:1/Payments.charge"])
        sure = True
        await until(lambda: shop_of(engine).confirmed == ["o1"])
