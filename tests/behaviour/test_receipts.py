"""A command with an id happens once, however often it is sent, whatever fails, and however often the engine restarts."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from millstream.bench.proofs.bodies import commands_in
from millstream.engine import (
    App,
    Command,
    CommandIdReused,
    CommitFailed,
    Engine,
    Event,
    InvalidMessage,
    Key,
    Limits,
    MemoryLog,
    Metadata,
    OutcomeUnknown,
    Receipt,
    Rejected,
    VersionConflict,
    WriterUnavailable,
)
from millstream.engine.stores.memory import MemoryStore
from millstream.handlers import WriteModel, applies, handles
from tests.shop import Add, Everything, Move, Note, Nothing, StockOf, Take, shop
from tests.stores import MemoryPlace, Place, SqlitePlace
from tests.support import AT_ONCE, ScriptedLog, Step, settled, start, write_state

pytestmark = pytest.mark.anyio

ONE = Limits(batch_commands_max=1)
ADD = Add("a", 3)


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return MemoryPlace() if request.param == "memory" else SqlitePlace(tmp_path)


def remembered(engine: Engine) -> list[str | None]:
    state = write_state(engine)
    assert state is not None
    return [receipt.command_id for _, receipt in state.index.receipts]


def versions(engine: Engine) -> dict[str, int]:
    state = write_state(engine)
    assert state is not None
    return state.index.versions


# Receipts: the same command again.


async def test_a_command_that_is_sent_again_has_its_first_receipt_and_nothing_happens() -> None:
    async with Engine(shop, log=(log := MemoryLog())) as engine:
        first = await engine.execute(ADD, command_id="id-1")
        await engine.execute(Add("a", 1))
        again = await engine.execute(Add("a", 3), command_id="id-1")
        assert first == Receipt(1, 1, 1, "id-1", 1)
        assert again == Receipt(1, 1, 1, "id-1", 1, repeated=True)
        assert await engine.ask(StockOf("a"), after=again) == 4
        stats = engine.stats().writer
        assert (stats.commands, stats.commands_refused, stats.commit) == (2, 0, 2)
    assert len(log.store.commits) == 2


async def test_commands_that_yield_nothing_or_have_no_key_have_receipts_too() -> None:
    async with Engine(shop, log=MemoryLog()) as engine:
        for number, (command, receipt) in enumerate(
            [
                (Nothing("a"), Receipt(1, 0, 0, "0", 0)),
                (Note("hi"), Receipt(2, 1, 1, "1")),
                (Add("a", 1), Receipt(3, 2, 1, "2", 1)),
                (Move("a", "b"), Receipt(4, 4, 2, "3", 2)),
            ]
        ):
            assert await engine.execute(command, command_id=f"{number}") == receipt
            again = await engine.execute(command, command_id=f"{number}")
            assert (again.commit, again.position, again.events) == (receipt.commit, receipt.position, receipt.events)
            assert (again.version, again.repeated) == (receipt.version, True)


async def test_two_of_the_same_in_one_commit_are_one() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log) as engine, anyio.create_task_group() as group:
        log.hold()
        start(group, engine.execute(Add("b", 1)))
        await settled()
        both = [start(group, engine.execute(ADD, command_id="id-1")) for _ in range(2)]
        await settled()
        assert [outcome.kind for outcome in both] == ["waiting", "waiting"]
        log.release()
    assert [outcome.value for outcome in both] == [
        Receipt(2, 2, 1, "id-1", 1),
        Receipt(2, 2, 1, "id-1", 1, repeated=True),
    ]
    assert [len(commands_in(commit.body)) for commit in log.commits] == [1, 1]


@pytest.mark.parametrize("limits", [ONE, Limits()])
async def test_one_that_comes_while_the_first_is_written_waits_until_that_is_durable(limits: Limits) -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, limits=limits) as engine, anyio.create_task_group() as group:
        log.hold()
        first = start(group, engine.execute(ADD, command_id="id-1"))
        await settled()
        second = start(group, engine.execute(ADD, command_id="id-1"))
        await settled()
        assert (first.kind, second.kind) == ("waiting", "waiting")
        log.release()
    assert (first.value, second.value) == (
        Receipt(1, 1, 1, "id-1", 1),
        Receipt(1, 1, 1, "id-1", 1, repeated=True),
    )
    assert log.appends_started == 1


@pytest.mark.parametrize("step", ["refused", "lost"])
@pytest.mark.parametrize("together", [False, True])
async def test_if_the_first_is_not_written_both_hear_so_and_a_third_one_happens(step: Step, together: bool) -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, limits=Limits() if together else ONE) as engine:
        async with anyio.create_task_group() as group:
            log.hold()
            if together:  # behind a commit that goes well, both in the one that fails
                log.steps.append("ok")
                start(group, engine.execute(Add("b", 1)))
                await settled()
            log.steps.append(step)
            first = start(group, engine.execute(ADD, command_id="id-1"))
            await settled()
            second = start(group, engine.execute(ADD, command_id="id-1"))
            await settled()
            log.release()
        assert (first.kind, second.kind) == ("CommitFailed", "CommitFailed")
        number = 2 if together else 1
        assert isinstance(second.error, CommitFailed)
        assert second.error.commit == number
        third = await engine.execute(ADD, command_id="id-1")
        assert third == Receipt(number, number, 1, "id-1", 1)
        assert await engine.ask(StockOf("a"), after=third) == 3


@pytest.mark.parametrize("step", ["written", "lost"])
async def test_who_asks_again_for_what_nobody_knows_hears_that_and_not_that_it_did_not_happen(step: Step) -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, limits=Limits(batch_commands_max=4, store_retry_seconds=AT_ONCE)) as engine:
        log.steps.append(step)
        log.heads_fail = 1
        async with anyio.create_task_group() as group:
            log.hold()
            first = start(group, engine.execute(ADD, command_id="id-1"))
            await settled()
            second = start(group, engine.execute(ADD, command_id="id-1"))
            others = [start(group, engine.execute(Add("b", 1), command_id="id-2")) for _ in range(2)]
            others.append(start(group, engine.execute(Take("z", 1))))
            await settled()
            log.release()
        assert (first.kind, second.kind) == ("OutcomeUnknown", "OutcomeUnknown")
        assert isinstance(second.error, OutcomeUnknown)
        assert second.error.commit == 1
        assert [other.kind for other in others] == ["CommitFailed"] * 3  # they were never written
        third = await engine.execute(ADD, command_id="id-1")
        assert third == Receipt(1, 1, 1, "id-1", 1, repeated=step == "written")
        assert await engine.execute(Add("b", 1), command_id="id-2") == Receipt(2, 2, 1, "id-2", 1)


async def test_a_writer_that_is_stopped_does_not_say_of_a_commit_in_doubt_that_it_did_not_happen() -> None:
    log = ScriptedLog()
    async with anyio.create_task_group() as group:
        async with Engine(shop, log=log, limits=Limits(batch_commands_max=2, drain_seconds_max=0.01)) as engine:
            durable = await engine.execute(Add("c", 1), command_id="id-0")
            log.hold()
            first = start(group, engine.execute(ADD, command_id="id-1"))
            await settled()
            second = start(group, engine.execute(ADD, command_id="id-1"))
            again = start(group, engine.execute(Add("c", 1), command_id="id-0"))
            await settled()
        await settled()
    assert (first.kind, second.kind, again.kind) == ("OutcomeUnknown", "OutcomeUnknown", "Receipt")
    assert (again.value.commit, again.value.repeated, durable.commit) == (1, True, 1)


@pytest.mark.parametrize("step", ["refused", "lost"])
async def test_who_asks_again_for_what_is_durable_has_it_while_another_commit_fails(step: Step) -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, limits=Limits(batch_commands_max=2)) as engine:
        await engine.execute(ADD, command_id="id-1")
        log.steps.append(step)
        async with anyio.create_task_group() as group:
            log.hold()
            other = start(group, engine.execute(Add("b", 1)))
            await settled()
            again = start(group, engine.execute(ADD, command_id="id-1"))
            third = start(group, engine.execute(Add("b", 1)))
            await settled()
            log.release()
        assert (other.kind, again.kind, third.kind) == ("CommitFailed", "Receipt", "CommitFailed")
        assert again.value == Receipt(1, 1, 1, "id-1", 1, repeated=True)
        assert engine.stats().writer.commands_failed == 2


async def test_while_the_store_is_down_who_asks_again_is_not_told_that_nothing_happened() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, limits=Limits(store_retry_seconds=AT_ONCE)) as engine:
        await engine.execute(ADD, command_id="id-1")
        log.steps.append("refused")
        log.probes_fail = 10**9
        with pytest.raises(CommitFailed):
            await engine.execute(Add("b", 1))
        for _ in range(3):
            with pytest.raises(WriterUnavailable, match="the store takes no commits: while probed; views still answer"):
                await engine.execute(ADD, command_id="id-1")
        log.probes_fail = 0
        assert await engine.execute(ADD, command_id="id-1") == Receipt(1, 1, 1, "id-1", 1, repeated=True)
    assert len(log.commits) == 1


# Receipts: what is not the same command.


async def test_another_command_under_an_id_is_refused_and_nothing_is_written() -> None:
    async with Engine(shop, log=(log := MemoryLog())) as engine:
        await engine.execute(ADD, command_id="id-1")
        for other in (Add("a", 4), Add("b", 3), Take("a", 3), Note("a")):
            with pytest.raises(CommandIdReused) as raised:
                await engine.execute(other, command_id="id-1")
            assert raised.value.command == type(other).__name__
            assert (raised.value.command_id, raised.value.commit) == ("id-1", 1)
        assert await engine.ask(Everything()) == {"a": 3}
        assert engine.stats().writer.commands_refused == 4
    assert len(log.store.commits) == 1


async def test_the_same_fields_in_another_type_of_command_are_another_command() -> None:
    async with Engine(shop, log=MemoryLog()) as engine:
        await engine.execute(Add("a", 1), command_id="id-1")
        with pytest.raises(CommandIdReused):
            await engine.execute(Take("a", 1), command_id="id-1")


async def test_metadata_and_a_time_limit_make_no_other_command() -> None:
    async with Engine(shop, log=MemoryLog()) as engine:
        await engine.execute(ADD, command_id="id-1", metadata=Metadata(actor="ann"))
        again = await engine.execute(ADD, command_id="id-1", metadata=Metadata("ann", "c", trace="t"), timeout=5)
        assert again.repeated


@pytest.mark.parametrize("other", [None, Metadata(), Metadata(actor="bob"), Metadata(causation="ann")])
async def test_a_repeat_is_answered_to_the_same_actor_alone(other: Metadata | None) -> None:
    """What a command came to is not for whoever guesses its id."""
    async with Engine(shop, log=MemoryLog()) as engine:
        await engine.execute(ADD, command_id="id-1", metadata=Metadata(actor="ann"))
        with pytest.raises(CommandIdReused, match="belongs to a command with another content or actor, in commit 1"):
            await engine.execute(ADD, command_id="id-1", metadata=other)
        await engine.execute(ADD, command_id="id-2", metadata=other)
        with pytest.raises(CommandIdReused):
            await engine.execute(ADD, command_id="id-2", metadata=Metadata(actor="ann"))


async def test_a_rejected_command_leaves_its_id_free() -> None:
    async with Engine(shop, log=(log := MemoryLog())) as engine:
        for _ in range(2):
            with pytest.raises(Rejected):
                await engine.execute(Take("a", 3), command_id="id-1")
        await engine.execute(Add("a", 3))
        receipt = await engine.execute(Take("a", 3), command_id="id-1")
        assert receipt == Receipt(2, 2, 1, "id-1", 2)
        assert (await engine.execute(Take("a", 3), command_id="id-1")).repeated
    assert len(log.store.commits) == 2


async def test_a_command_without_an_id_happens_as_often_as_it_is_sent() -> None:
    async with Engine(shop, log=MemoryLog()) as engine:
        assert [(await engine.execute(ADD)).position for _ in range(3)] == [1, 2, 3]


class Label(Command):
    """Its JSON is not the same each time: a set has no order, and 1 is as good as 1.0."""

    item: Key
    tags: set[int] = set()
    weight: float = 0.0
    counts: dict[int, int] = {}
    mixed: set[int | str] = set()


class Labelled(Event):
    item: Key


class Labels(WriteModel):
    @handles
    def label(self, command: Label) -> Iterator[Event]:
        yield Labelled(command.item)

    @applies
    def labelled(self, event: Labelled) -> None: ...


labels = App(models=[Labels], name="labels")


def in_the_other_order(values: set[int]) -> set[int]:
    other: set[int] = set()
    for value in reversed(list(values)):
        other.add(value)
    return other


async def test_equal_commands_are_the_same_however_they_are_written() -> None:
    tags = {0, 8}  # both belong into the same place, so the order of adding is the one that is seen
    assert list(tags) != list(in_the_other_order(tags))
    async with Engine(labels, log=MemoryLog()) as engine:
        await engine.execute(Label("a", tags, 1, {1: 1, 2: 2}), command_id="id-1")
        same = Label("a", in_the_other_order(tags), 1.0, {2: 2, 1: 1})
        assert (await engine.execute(same, command_id="id-1")).repeated
        (outcome,) = await engine.execute_many([same], command_ids=["id-1"])
        assert isinstance(outcome, Receipt)
        assert outcome.repeated
        with pytest.raises(CommandIdReused):
            await engine.execute(Label("a", tags, 1.0, {1: 2, 2: 2}), command_id="id-1")


async def test_the_order_of_keys_that_are_text_makes_no_other_command_either() -> None:
    async with Engine(labels, log=MemoryLog()) as engine:
        await engine.execute(Label("a", {0, 8}), command_id="id-1")
        assert (await engine.execute(Label("a", in_the_other_order({0, 8})), command_id="id-1")).repeated


async def test_a_command_that_cannot_be_told_from_another_one_has_no_id() -> None:
    async with Engine(labels, log=MemoryLog()) as engine:
        mixed = Label("a", mixed={1, "b"})
        with pytest.raises(InvalidMessage, match="Label is not valid: with an id, its sets are of one type each"):
            await engine.execute(mixed, command_id="id-1")
        assert (await engine.execute(mixed)).position == 1


# Receipts: many at once.


async def test_each_of_many_commands_has_its_own_id_also_when_one_comes_twice() -> None:
    async with Engine(shop, log=(log := MemoryLog())) as engine:
        commands = [Add("a", 1), Add("b", 1), Add("a", 1), Add("b", 2), Take("z", 1), Take("z", 1)]
        outcomes = await engine.execute_many(commands, command_ids=["1", "2", "1", "2", "3", "3"])
        assert outcomes[:3] == [
            Receipt(1, 1, 1, "1", 1),
            Receipt(1, 2, 1, "2", 1),
            Receipt(1, 1, 1, "1", 1, repeated=True),
        ]
        assert [type(outcome) for outcome in outcomes[3:]] == [CommandIdReused, Rejected, Rejected]
        again = await engine.execute_many(commands[:2], command_ids=iter(["1", "2"]))
        assert again == [Receipt(1, 1, 1, "1", 1, repeated=True), Receipt(1, 2, 1, "2", 1, repeated=True)]
    assert len(log.store.commits) == 1


async def test_an_id_stands_for_the_same_command_alone_and_among_many() -> None:
    async with Engine(shop, log=MemoryLog()) as engine:
        await engine.execute(Add("a", 1), command_id="1")
        outcomes = await engine.execute_many([Add("a", 1), Add("a", 2)], command_ids=["1", "2"])
        assert [outcome.repeated for outcome in outcomes if isinstance(outcome, Receipt)] == [True, False]
        assert (await engine.execute(Add("a", 2), command_id="2")).repeated


# Receipts: after a restart.


@pytest.mark.parametrize("snapshots", [True, False])
@pytest.mark.parametrize("end", ["closed", "crashed"])
async def test_receipts_and_versions_outlive_the_engine(place: Place, end: str, snapshots: bool) -> None:
    async with Engine(shop, log=place.log()) as engine:
        await engine.execute(Add("a", 5), command_id="id-1")
        await engine.execute(Move("a", "b"), command_id="id-2", metadata=Metadata(actor="ann"))
        await engine.execute(Note("no key"), command_id="id-3")
        if end == "crashed":
            place.crash()
    async with Engine(shop, log=place.log(), snapshots=snapshots) as engine:
        assert remembered(engine) == ["id-1", "id-2", "id-3"]
        assert await engine.execute(Add("a", 5), command_id="id-1") == Receipt(1, 1, 1, "id-1", 1, repeated=True)
        moved = await engine.execute(Move("a", "b"), command_id="id-2", metadata=Metadata(actor="ann"))
        assert moved == Receipt(2, 3, 2, "id-2", 2, repeated=True)
        with pytest.raises(CommandIdReused):
            await engine.execute(Move("a", "b"), command_id="id-2")
        assert await engine.execute(Note("no key"), command_id="id-3") == Receipt(3, 4, 1, "id-3", repeated=True)
        with pytest.raises(CommandIdReused):
            await engine.execute(Add("a", 6), command_id="id-1")
        with pytest.raises(VersionConflict, match="key 'b' is at version 1, not at 0"):
            await engine.execute(Add("b", 1), expected_version=0)
        assert await engine.execute(Add("b", 1), expected_version=1) == Receipt(4, 5, 1, version=2)
        if end == "crashed":
            place.crash()
    async with Engine(shop, log=place.log(), snapshots=snapshots) as engine:
        assert versions(engine) == {"a": 2, "b": 2}
        assert (await engine.execute(Add("a", 5), command_id="id-1")).repeated


async def test_what_was_not_durable_when_it_crashed_is_a_new_command() -> None:
    log = ScriptedLog()
    async with anyio.create_task_group() as group, Engine(shop, log=log) as engine:
        await engine.execute(Add("a", 1), command_id="id-1")
        log.hold()
        start(group, engine.execute(Add("a", 2), command_id="id-2"))
        await settled()
        after_crash = MemoryLog(MemoryStore(list(log.commits), "shop"))
        log.release()
    async with Engine(shop, log=after_crash) as engine:
        assert (await engine.execute(Add("a", 1), command_id="id-1")).repeated
        assert await engine.execute(Add("a", 2), command_id="id-2") == Receipt(2, 2, 1, "id-2", 2)


@pytest.mark.parametrize(
    ("under", "then", "snapshots", "expected"),
    [
        (3, 3, False, "345"),
        (3, 3, True, "345"),
        (3, 2, False, "45"),
        (3, 2, True, "45"),
        (3, 4, False, "2345"),
        (3, 4, True, "2345"),
        (9, 12, True, "12345"),
        (9, 2, True, "45"),
    ],
)
async def test_as_many_receipts_are_remembered_as_the_limit_says_also_when_it_was_changed(
    under: int, then: int, snapshots: bool, expected: str, log_lines: list[Any]
) -> None:
    place = MemoryPlace()
    async with Engine(shop, log=place.log(), limits=Limits(receipts_max=under)) as engine:
        for number in "12345":
            await engine.execute(Add("a", 1), command_id=number)
        assert remembered(engine) == list("12345"[-under:])
    async with Engine(shop, log=place.log(), limits=Limits(receipts_max=then), snapshots=snapshots) as engine:
        assert remembered(engine) == list(expected)
        for number in reversed(expected):
            assert (await engine.execute(Add("a", 1), command_id=number)).repeated
        if then < 5:
            assert not (await engine.execute(Add("a", 1), command_id="1")).repeated
            assert remembered(engine) == [*expected[1:], "1"]
    set_aside = [line["part"] for line in log_lines if line["event"] == "snapshot_set_aside"]
    assert set_aside == (["ledger"] if (under, then, snapshots) == (3, 4, True) else [])


async def test_receipts_come_from_the_snapshot_and_from_the_log_behind_it(place: Place) -> None:
    limits = Limits(receipts_max=3)
    async with Engine(shop, log=place.log(), limits=limits) as engine:
        await engine.execute_many([Add("a", 1)] * 2, command_ids=["1", "2"])
    async with Engine(shop, log=place.log(), limits=limits) as engine:
        await engine.execute_many([Add("a", 1)] * 2, command_ids=["3", "4"])
        place.crash()
    async with Engine(shop, log=place.log(), limits=limits) as engine:
        assert remembered(engine) == ["2", "3", "4"]
        assert versions(engine) == {"a": 4}
        assert (await engine.execute(Add("a", 1), command_id="2")).repeated
        assert await engine.execute(Add("a", 1), command_id="1") == Receipt(3, 5, 1, "1", 5)


# Ids.


@pytest.mark.parametrize("command_id", ["ü", "☃" * 200, "\U0001f600", " ", "\x00", "'; --", '"\\', "\u2028", "null"])
async def test_any_text_is_an_id(tmp_path: Path, command_id: str) -> None:
    place = SqlitePlace(tmp_path)
    async with Engine(shop, log=place.log()) as engine:
        assert (await engine.execute(ADD, command_id=command_id)).command_id == command_id
    async with Engine(shop, log=place.log(), snapshots=False) as engine:
        assert await engine.execute(ADD, command_id=command_id) == Receipt(1, 1, 1, command_id, 1, repeated=True)
    async with Engine(shop, log=place.log()) as engine:
        assert (await engine.execute(ADD, command_id=command_id)).repeated


@pytest.mark.parametrize("command_id", ["", "x" * 201, "\ud800", "a\udfff", b"id", 1])
async def test_what_is_no_text_is_no_id_and_the_writer_goes_on(command_id: Any) -> None:
    async with Engine(shop, log=(log := MemoryLog())) as engine:
        with pytest.raises(InvalidMessage, match="command_id is not valid: "):
            await engine.execute(ADD, command_id=command_id)
        outcomes = await engine.execute_many([ADD, ADD], command_ids=[command_id, "id-1"])
        assert [type(outcome) for outcome in outcomes] == [InvalidMessage, Receipt]
        assert engine.stats().writer.status == "deciding"
        assert await engine.execute(ADD) == Receipt(2, 2, 1, version=2)
    assert len(log.store.commits) == 2


async def test_id_and_payload_are_on_disk_for_everyone_to_read(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    async with Engine(shop, log=path) as engine:
        await engine.execute(Add("a", 3), command_id="Ä 1")
        await engine.execute(Add("a", 3))
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT json_extract(body, '$.ids[0]'), json_extract(body, '$.payloads[0]') FROM commits")
        digest = hashlib.blake2b(b'{"type":"Add","item":"a","count":3}', digest_size=16).hexdigest()
        assert rows.fetchall() == [("Ä 1", digest), (None, None)]
        assert db.execute("SELECT position, command_id FROM events").fetchall() == [(1, "Ä 1"), (2, None)]
    db.close()
